//! Which handsets are on this host's USB, and where: `cargo run --example usb_list`.
//!
//! Lists what is there and then follows what comes and goes, until Ctrl-C. No handset is opened.
#![expect(clippy::print_stdout, reason = "an example prints")]

use farmhand::usb::{Bus, BusError, BusEvent};
use tokio_util::sync::CancellationToken;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BusError> {
    let cancel = CancellationToken::new();
    let (_bus, mut events) = Bus::start(cancel.clone())?;
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        cancel.cancel();
    });
    while let Some(event) = events.recv().await {
        match event {
            BusEvent::Arrived(handset) => println!(
                "+ {} serial={} {:04x}:{:04x} speed={} claims={}mA product={}",
                handset.path,
                handset.serial.as_ref().map_or("-", |serial| serial.as_str()),
                handset.vendor_id,
                handset.product_id,
                handset.speed.as_str(),
                handset.claimed_milliamps,
                handset.product.as_deref().unwrap_or("-"),
            ),
            BusEvent::Openable(handset) => println!("~ {}: it may be opened now", handset.path),
            BusEvent::Left { path } => println!("- {path}"),
            BusEvent::Unopenable { handset, why } | BusEvent::OtherMode { handset, why } => {
                println!("! {}: {why}", handset.path);
            }
            BusEvent::NotEnumerated { path, why } => println!("! {path}: {why}"),
            BusEvent::Controllers(controllers) => {
                for controller in controllers {
                    println!(
                        "  {}: {} devices, {} left",
                        controller.name,
                        controller.devices,
                        controller.devices_left()
                    );
                }
            }
        }
    }
    Ok(())
}
