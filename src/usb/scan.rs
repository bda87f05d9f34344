//! What is on the bus right now: libusb's own look at sysfs, in a context that lives no longer than the look, and the hubs' word on
//! ports without a device.
//!
//! A context keeps its list by the kernel's events, and those can be lost; a fresh one reads everything anew. No handset is opened
//! for it: descriptors and serials are the kernel's copies, which need no permission. A hub is opened only if it has a port
//! without a device and is awake, or if that port is under suspicion: asking wakes it up.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusb::constants::{
    LIBUSB_CLASS_HUB, LIBUSB_ENDPOINT_IN, LIBUSB_RECIPIENT_OTHER, LIBUSB_REQUEST_GET_STATUS, LIBUSB_REQUEST_TYPE_CLASS,
};
use rusb::{ConfigDescriptor, Context, TransferType, UsbContext};

use super::enumerate::{AdbInterface, EndpointKind, EndpointView, Handset, InterfaceView, OtherMode, Speed};
use super::ports::PortsSeen;
use super::roster::{Access, Node, Seen, SeenState};
use super::topology::Device;
use super::transfer::wrap_node;
use crate::rack::ids::{PortPath, Serial};

/// The bits of `wMaxPacketSize` that are the size.
const PACKET_SIZE_BITS: u16 = 0x07ff;

/// The bit of `wPortStatus` that says that something is plugged in, on hubs of USB 2 and of USB 3 alike.
const PORT_CONNECTION: u8 = 0x01;

/// The longest that a hub may take to say how a port is; it answers within a millisecond.
const PORT_STATUS_MAX: Duration = Duration::from_millis(500);

const SYSFS: &str = "/sys/bus/usb/devices";

/// The whole bus at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Look {
    pub(super) handsets: Vec<Seen>,
    pub(super) devices: Vec<Device>,
    /// The controller of each bus.
    pub(super) controllers: BTreeMap<u8, String>,
    pub(super) ports: PortsSeen,
}

/// Looks at the whole bus. Blocks for some milliseconds, or as long as a hub in reset takes.
///
/// # Errors
/// libusb could not read the list of devices.
pub(super) fn look(engine: &Context, suspicious: &BTreeSet<PortPath>) -> io::Result<Look> {
    let context = Context::new().map_err(io::Error::other)?;
    let list = context.devices().map_err(io::Error::other)?;
    let mut look = Look::default();
    for device in list.iter() {
        let Some(seen) = look_at(&device) else { continue };
        look.controllers.entry(seen.bus).or_insert_with(|| controller(seen.bus));
        look.handsets.extend(handset(&device, &seen, look.controllers.get(&seen.bus)));
        look.devices.push(seen);
    }
    look.ports = ports(engine, &look.devices, suspicious);
    Ok(look)
}

/// Any device. What cannot be read has just left.
fn look_at(device: &rusb::Device<Context>) -> Option<Device> {
    let numbers = device.port_numbers().ok()?;
    let path = PortPath::new(device.bus_number(), &numbers);
    let descriptor = device.device_descriptor().ok()?;
    let bus = device.bus_number();
    let is_hub = descriptor.class_code() == LIBUSB_CLASS_HUB;
    let ports = if is_hub { sysfs_number(&folder(bus, path.as_ref()), "maxchild").unwrap_or(0) } else { 0 };
    let in_use = device.active_config_descriptor().map_or(0, |config| {
        let settings = config.interfaces().filter_map(|interface| interface.descriptors().next());
        settings.map(|setting| u32::from(setting.num_endpoints())).sum()
    });
    Some(Device { bus, path, address: device.address(), ports, endpoints: 1 + in_use })
}

/// The device as a handset, if it is one.
fn handset(device: &rusb::Device<Context>, seen: &Device, controller: Option<&String>) -> Option<Seen> {
    let path = seen.path.clone()?;
    let descriptor = device.device_descriptor().ok()?;
    if descriptor.class_code() == LIBUSB_CLASS_HUB {
        return None;
    }
    let (config, active) = match device.active_config_descriptor() {
        Ok(config) => (config, true),
        Err(rusb::Error::NotFound) => (device.config_descriptor(0).ok()?, false),
        Err(_) => return None,
    };
    let views = views(&config, &path);
    let state = match AdbInterface::find(&views) {
        Some(interface) if active => SeenState::Configured(interface),
        Some(_) => SeenState::Unconfigured,
        None => SeenState::Other(OtherMode::find(&views)?),
    };
    let speed = speed(device.speed());
    let folder = folder(seen.bus, Some(&path));
    let handset = Handset {
        serial: sysfs_text(&folder, "serial").map(Serial::new),
        product: sysfs_text(&folder, "product"),
        controller: controller.cloned(),
        vendor_id: descriptor.vendor_id(),
        product_id: descriptor.product_id(),
        speed,
        claimed_milliamps: claimed_milliamps(config.max_power(), speed),
        path,
    };
    let node = Node { bus: device.bus_number(), address: device.address() };
    let access = match state {
        SeenState::Configured(interface) => {
            access(node, &interface_folder(&handset.path, config.number(), interface.number))
        }
        SeenState::Unconfigured | SeenState::Other(_) => Access::default(),
    };
    Some(Seen { handset, node, state, access })
}

/// Opening the node would wake the handset up: its metadata, and the link of sysfs to whoever has the interface, do not.
fn access(node: Node, interface: &Path) -> Access {
    let metadata = fs::metadata(node.to_string()).ok();
    Access {
        node_changed: metadata.map(|node| i128::from(node.ctime()) * 1_000_000_000 + i128::from(node.ctime_nsec())),
        claimed: interface.join("driver").is_symlink(),
    }
}

fn views(config: &ConfigDescriptor, path: &PortPath) -> Vec<InterfaceView> {
    let settings = config.interfaces().flat_map(|interface| interface.descriptors());
    settings
        .map(|setting| InterfaceView {
            number: setting.interface_number(),
            setting: setting.setting_number(),
            class: setting.class_code(),
            subclass: setting.sub_class_code(),
            protocol: setting.protocol_code(),
            name: interface_name(path, config.number(), setting.interface_number()),
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

/// The ports without a device, as their hubs say. A hub that cannot be asked is left out.
fn ports(engine: &Context, devices: &[Device], suspicious: &BTreeSet<PortPath>) -> PortsSeen {
    let occupied = devices.iter().filter_map(|device| device.path.clone()).collect();
    let mut seen = PortsSeen { occupied, ..PortsSeen::default() };
    for hub in devices.iter().filter(|device| device.ports > 0) {
        let free: Vec<(u8, PortPath)> = hub.free_ports(devices).collect();
        let worth_waking = free.iter().any(|(_, path)| suspicious.contains(path));
        if free.is_empty() || !(worth_waking || is_awake(hub)) {
            continue;
        }
        // Without permission the kernel's log still tells of the ports in trouble.
        let Ok(connected) = connected_ports(engine, hub, &free) else { continue };
        seen.asked.extend(free.into_iter().map(|(_, path)| path));
        seen.connected.extend(connected);
    }
    seen
}

fn is_awake(hub: &Device) -> bool {
    sysfs_text(&folder(hub.bus, hub.path.as_ref()), "power/runtime_status").is_none_or(|status| status == "active")
}

/// Asks a hub which of the `free` ports have something plugged in.
fn connected_ports(engine: &Context, hub: &Device, free: &[(u8, PortPath)]) -> io::Result<Vec<PortPath>> {
    let node = Node { bus: hub.bus, address: hub.address };
    let file = OpenOptions::new().read(true).write(true).open(node.to_string())?;
    let handle = wrap_node(engine, &file).map_err(io::Error::other)?;
    let request_type = LIBUSB_ENDPOINT_IN | LIBUSB_REQUEST_TYPE_CLASS | LIBUSB_RECIPIENT_OTHER;
    let mut connected = Vec::new();
    for (number, path) in free {
        let mut status = [0; 4];
        let request = LIBUSB_REQUEST_GET_STATUS;
        let read = handle.read_control(request_type, request, 0, u16::from(*number), &mut status, PORT_STATUS_MAX);
        read.map_err(io::Error::other)?;
        if status[0] & PORT_CONNECTION != 0 {
            connected.push(path.clone());
        }
    }
    drop(handle);
    Ok(connected)
}

/// The name of a bus's controller: the folder in which its root hub is, such as `0000:00:14.0` or `dummy_hcd.0`.
fn controller(bus: u8) -> String {
    let root = fs::canonicalize(folder(bus, None)).unwrap_or_default();
    let parent = root.parent().and_then(Path::file_name);
    parent.map_or_else(|| format!("usb{bus}"), |name| name.to_string_lossy().into_owned())
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

/// A device's folder in sysfs; a root hub's without a path.
fn folder(bus: u8, path: Option<&PortPath>) -> PathBuf {
    Path::new(SYSFS).join(path.map_or_else(|| format!("usb{bus}"), ToString::to_string))
}

/// A string descriptor as the kernel has read it at the plug; none if it is empty or could not be read.
fn sysfs_text(folder: &Path, name: &str) -> Option<String> {
    let bytes = fs::read(folder.join(name)).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn sysfs_number(folder: &Path, name: &str) -> Option<u8> {
    sysfs_text(folder, name)?.parse().ok()
}

fn interface_name(path: &PortPath, configuration: u8, interface: u8) -> Option<String> {
    sysfs_text(&interface_folder(path, configuration, interface), "interface")
}

fn interface_folder(path: &PortPath, configuration: u8, interface: u8) -> PathBuf {
    Path::new(SYSFS).join(format!("{path}:{configuration}.{interface}"))
}

/// Whether this host has USB at all: without it libusb only fails, and a container or a small virtual machine is no error.
pub(super) fn host_has_usb() -> bool {
    Path::new("/dev/bus/usb").exists() && Path::new(SYSFS).exists()
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

    #[test]
    fn a_node_tells_of_its_owner_only_by_the_moment_of_the_change_and_a_driver_by_its_link() {
        let seen = access(Node { bus: 255, address: 255 }, Path::new("/nowhere"));
        assert_eq!(seen, Access { node_changed: None, claimed: false });
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("../drivers/usbfs", folder.path().join("driver")).unwrap();
        assert!(access(Node { bus: 255, address: 255 }, folder.path()).claimed, "also where the link leads nowhere");
    }

    #[test]
    fn a_folder_is_that_of_the_root_hub_or_of_the_path() {
        assert_eq!(folder(3, None), Path::new("/sys/bus/usb/devices/usb3"));
        assert_eq!(folder(1, Some(&"1-2.3".parse().unwrap())), Path::new("/sys/bus/usb/devices/1-2.3"));
    }
}
