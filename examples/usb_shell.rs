//! Runs a command on a handset over USB: `cargo run --example usb_shell -- SERIAL getprop ro.product.model`.
//!
//! Waits for the handset to be plugged in. It uses the key of Google's adb in ~/.android, and makes one if there is none.
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use farmhand::adb::auth::KeyRing;
use farmhand::adb::driver::{self, ConnectOptions};
use farmhand::rack::ids::{PortPath, Serial};
use farmhand::usb::{Bus, BusEvent};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let serial = Serial::new(arguments.next().ok_or("which handset? give its serial and a command")?);
    let command = arguments.collect::<Vec<_>>().join(" ");

    let (bus, mut events) = Bus::start(CancellationToken::new())?;
    let path = wait_for(&serial, &mut events).await?;
    let home = PathBuf::from(std::env::var_os("HOME").ok_or("HOME is not set")?);
    let keys = Arc::new(KeyRing::load_or_create(&home.join(".android"))?);
    let adb = driver::connect(bus.open(&path).await?, keys, ConnectOptions::default()).await?;
    let output = adb.shell(&command).await?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    print!("{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

async fn wait_for(serial: &Serial, events: &mut mpsc::Receiver<BusEvent>) -> Result<PortPath, Box<dyn Error>> {
    while let Some(event) = events.recv().await {
        match event {
            BusEvent::Arrived(handset) if handset.serial.as_ref() == Some(serial) => return Ok(handset.path),
            _ => {}
        }
    }
    Err("the bus has ended".into())
}
