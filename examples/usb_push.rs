//! Pushes a file to a handset over USB and says how fast: `cargo run --example usb_push -- SERIAL FILE /data/local/tmp/x [TIMES]`.
//!
//! Opening is not counted, as it is not with an adb server that runs. It uses the key of Google's adb in ~/.android, and makes one
//! if there is none.
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use farmhand::adb::auth::KeyRing;
use farmhand::adb::driver::{self, ConnectOptions};
use farmhand::adb::services::sync::{PushOptions, RemoteFile};
use farmhand::rack::ids::Serial;
use farmhand::usb::{Bus, BusEvent};
use tokio_util::sync::CancellationToken;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [serial, file, remote, times @ ..] = arguments.as_slice() else {
        return Err("which handset, which file, and where to?".into());
    };
    let times = times.first().map_or(Ok(1), |times| times.parse::<u32>())?;
    let serial = Serial::new(serial);

    let (bus, mut events) = Bus::start(CancellationToken::new())?;
    let path = loop {
        match events.recv().await.ok_or("the bus has ended")? {
            BusEvent::Arrived(handset) if handset.serial.as_ref() == Some(&serial) => break handset.path,
            _ => {}
        }
    };
    let home = PathBuf::from(std::env::var_os("HOME").ok_or("HOME is not set")?);
    let keys = Arc::new(KeyRing::load_or_create(&home.join(".android"))?);
    let adb = driver::connect(bus.open(&path).await?, keys, ConnectOptions::default()).await?;
    let to = RemoteFile { path: remote.clone(), mode: 0o644, mtime_s: 0 };
    for _ in 0..times {
        let source = std::fs::File::open(file)?;
        let start = Instant::now();
        let bytes = adb.push(source, &to, &PushOptions::default()).await?;
        println!("{bytes} bytes in {:.3} s", start.elapsed().as_secs_f64());
    }
    Ok(())
}
