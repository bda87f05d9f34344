//! What is on the bus right now: libusb's own look at sysfs, in a context that lives no longer than the look.
//!
//! A context keeps its list by the kernel's events, and those can be lost; a fresh one reads everything anew. No device is opened
//! for it: descriptors and serials are the kernel's copies, which need no permission.

use std::fs;
use std::path::Path;

use rusb::{ConfigDescriptor, Context, Device, TransferType, UsbContext};

use super::enumerate::{AdbInterface, EndpointKind, EndpointView, Handset, InterfaceView, Speed};
use super::roster::{Node, Seen, SeenState};
use crate::rack::ids::{PortPath, Serial};

/// The bits of `wMaxPacketSize` that are the size.
const PACKET_SIZE_BITS: u16 = 0x07ff;

/// All handsets on the bus. Blocks for some milliseconds.
///
/// # Errors
/// libusb could not read the list of devices.
pub(super) fn scan() -> rusb::Result<Vec<Seen>> {
    let context = Context::new()?;
    let devices = context.devices()?;
    Ok(devices.iter().filter_map(|device| look_at(&device)).collect())
}

/// A device as a handset, if it is one. What cannot be read has just left, or is no handset.
fn look_at(device: &Device<Context>) -> Option<Seen> {
    let path = PortPath::new(device.bus_number(), &device.port_numbers().ok()?)?;
    let descriptor = device.device_descriptor().ok()?;
    let (config, state) = match device.active_config_descriptor() {
        Ok(config) => {
            let interface = AdbInterface::find(&views(&config))?;
            (config, SeenState::Configured(interface))
        }
        Err(rusb::Error::NotFound) => {
            let config = device.config_descriptor(0).ok()?;
            AdbInterface::find(&views(&config))?;
            (config, SeenState::Unconfigured)
        }
        Err(_) => return None,
    };
    let speed = speed(device.speed());
    let handset = Handset {
        serial: sysfs_text(&path, "serial").map(Serial::new),
        product: sysfs_text(&path, "product"),
        vendor_id: descriptor.vendor_id(),
        product_id: descriptor.product_id(),
        speed,
        claimed_milliamps: claimed_milliamps(config.max_power(), speed),
        path,
    };
    Some(Seen { handset, node: Node { bus: device.bus_number(), address: device.address() }, state })
}

fn views(config: &ConfigDescriptor) -> Vec<InterfaceView> {
    let settings = config.interfaces().flat_map(|interface| interface.descriptors());
    settings
        .map(|setting| InterfaceView {
            number: setting.interface_number(),
            setting: setting.setting_number(),
            class: setting.class_code(),
            subclass: setting.sub_class_code(),
            protocol: setting.protocol_code(),
            endpoints: setting
                .endpoint_descriptors()
                .map(|endpoint| EndpointView {
                    address: endpoint.address(),
                    kind: match endpoint.transfer_type() {
                        TransferType::Bulk => EndpointKind::Bulk,
                        _ => EndpointKind::Other,
                    },
                    max_packet: endpoint.max_packet_size() & PACKET_SIZE_BITS,
                })
                .collect(),
        })
        .collect()
}

/// rusb counts `bMaxPower` in units of 2 mA; on SuperSpeed it is in units of 8 mA.
fn claimed_milliamps(rusb_milliamps: u16, speed: Speed) -> u16 {
    if speed >= Speed::Super { rusb_milliamps.saturating_mul(4) } else { rusb_milliamps }
}

fn speed(speed: rusb::Speed) -> Speed {
    match speed {
        rusb::Speed::Low => Speed::Low,
        rusb::Speed::Full => Speed::Full,
        rusb::Speed::High => Speed::High,
        rusb::Speed::Super => Speed::Super,
        rusb::Speed::SuperPlus => Speed::SuperPlus,
        _ => Speed::Unknown,
    }
}

/// A string descriptor as the kernel has read it at the plug; none if it is empty or could not be read.
fn sysfs_text(path: &PortPath, name: &str) -> Option<String> {
    let bytes = fs::read(Path::new("/sys/bus/usb/devices").join(path.to_string()).join(name)).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Whether this host has USB at all: without it libusb only fails, and a container or a small virtual machine is no error.
pub(super) fn host_has_usb() -> bool {
    Path::new("/dev/bus/usb").exists() && Path::new("/sys/bus/usb/devices").exists()
}

/// The kernel's bound on the memory of all USB transfers, in MiB; 0 is none.
pub(super) fn usbfs_memory_mebibytes() -> Option<usize> {
    let text = fs::read_to_string("/sys/module/usbcore/parameters/usbfs_memory_mb").ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_claimed_current_is_counted_by_speed() {
        assert_eq!(claimed_milliamps(500, Speed::High), 500);
        assert_eq!(claimed_milliamps(224, Speed::Super), 896);
    }
}
