//! How a handset is opened, claimed and reset, and the faults that this may meet.

use std::fs::{File, OpenOptions};
use std::io;
use std::sync::Arc;

use tokio_util::sync::DropGuard;

use super::engine::{Claimed, Engine};
use super::enumerate::{AdbInterface, Handset};
use super::roster::Node;
use super::transfer::wrap_node;
use crate::adb::failure::OpenFault;

/// The rule that lets farmhand's user open every handset, as shipped in `udev/70-farmhand.rules`.
const UDEV_RULE: &str = r#"SUBSYSTEM=="usb", ENV{ID_USB_INTERFACES}=="*:ff4201:*", MODE="0660", GROUP="farmhand""#;

/// Why a handset could not be opened or reset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct OpenError {
    /// What kind of failure, to act on.
    pub fault: OpenFault,
    /// What was seen and what would mend it, as a sentence.
    pub why: String,
}

/// Opens the node, claims the interface and clears the halts that an earlier owner may have left. `closed` is dropped once the
/// handset is closed again, and at once if it can't be opened. Blocks.
pub(super) fn claim(
    engine: &Arc<Engine>,
    handset: &Handset,
    node: Node,
    interface: AdbInterface,
    closed: DropGuard,
) -> Result<Claimed, OpenError> {
    let node = open_node(handset, node)?;
    let handle = wrap_node(engine.context(), &node).map_err(|error| fault(handset, "open", error))?;
    let claimed = Claimed::new(engine, handle, node, closed);
    let handle = claimed.handle();
    handle.claim_interface(interface.number).map_err(|error| fault(handset, "claim", error))?;
    if interface.setting != 0 {
        let chosen = handle.set_alternate_setting(interface.number, interface.setting);
        chosen.map_err(|error| fault(handset, "choose the setting of", error))?;
    }
    for endpoint in [interface.input.address, interface.output.address] {
        handle.clear_halt(endpoint).map_err(|error| fault(handset, "clear a halt of", error))?;
    }
    Ok(claimed)
}

/// Resets the device as if it were unplugged and plugged. `NotFound` is libusb's word for a device that comes back under another
/// address: no failure. Blocks for up to some seconds.
pub(super) fn reset(engine: &Arc<Engine>, handset: &Handset, node: Node) -> Result<(), OpenError> {
    let file = open_node(handset, node)?;
    let handle = wrap_node(engine.context(), &file).map_err(|error| fault(handset, "open", error))?;
    match handle.reset() {
        Ok(()) | Err(rusb::Error::NotFound) => Ok(()),
        Err(error) => Err(fault(handset, "reset", error)),
    }
}

fn open_node(handset: &Handset, node: Node) -> Result<File, OpenError> {
    OpenOptions::new().read(true).write(true).open(node.to_string()).map_err(|error| {
        let Handset { path, vendor_id, product_id, .. } = handset;
        match error.kind() {
            io::ErrorKind::PermissionDenied => OpenError {
                fault: OpenFault::NoPermission,
                why: format!(
                    "this user may not open {node} (the handset at {path}, {vendor_id:04x}:{product_id:04x}); \
                     the udev rule that allows it: {UDEV_RULE}"
                ),
            },
            io::ErrorKind::ResourceBusy => busy(handset),
            _ => OpenError {
                fault: OpenFault::Gone,
                why: format!("{node} of the handset at {path} cannot be opened: {error}"),
            },
        }
    })
}

fn busy(handset: &Handset) -> OpenError {
    OpenError {
        fault: OpenFault::Busy,
        why: format!(
            "another program holds the ADB interface of the handset at {}, most likely an adb server: \
             `adb kill-server` on this host ends it",
            handset.path
        ),
    }
}

fn fault(handset: &Handset, action: &str, error: rusb::Error) -> OpenError {
    let fault = match error {
        rusb::Error::Busy => return busy(handset),
        rusb::Error::Access => OpenFault::NoPermission,
        rusb::Error::NoDevice | rusb::Error::NotFound => OpenFault::Gone,
        _ => OpenFault::Protocol,
    };
    OpenError {
        fault,
        why: format!("could not {action} the ADB interface of the handset at {}: {error}", handset.path),
    }
}

#[cfg(test)]
mod tests {
    use rusb::Context;
    use tokio_util::sync::CancellationToken;

    use super::super::enumerate::{BulkEndpoint, Speed};
    use super::*;

    fn handset() -> Handset {
        Handset {
            path: "1-2.3".parse().unwrap(),
            serial: None,
            vendor_id: 0x18d1,
            product_id: 0x4ee7,
            product: None,
            controller: None,
            speed: Speed::High,
            claimed_milliamps: 500,
        }
    }

    #[test]
    fn a_busy_interface_names_the_likely_holder_and_the_way_out() {
        let error = fault(&handset(), "claim", rusb::Error::Busy);
        assert_eq!(error.fault, OpenFault::Busy);
        assert!(error.why.contains("1-2.3") && error.why.contains("adb kill-server"), "{error}");
    }

    #[test]
    fn a_node_that_is_not_there_is_gone() {
        let error = open_node(&handset(), Node { bus: 255, address: 255 }).unwrap_err();
        assert_eq!(error.fault, OpenFault::Gone);
        assert!(error.why.contains("/dev/bus/usb/255/255"), "{error}");
    }

    #[test]
    fn a_handset_that_could_not_be_opened_keeps_nobody_waiting_for_its_close() {
        // Without netlink libusb has no context, as in some containers.
        let Ok(context) = Context::new() else { return };
        let engine = Engine::start(context, Arc::default()).unwrap();
        let interface = BulkEndpoint { address: 0x81, max_packet: 512 };
        let interface = AdbInterface { number: 0, setting: 0, input: interface, output: interface };
        let closed = CancellationToken::new();
        let guard = closed.clone().drop_guard();
        claim(&engine, &handset(), Node { bus: 255, address: 255 }, interface, guard).unwrap_err();
        assert!(closed.is_cancelled());
    }

    #[test]
    fn each_fault_of_libusb_is_one_to_act_on() {
        let of = |error| fault(&handset(), "claim", error).fault;
        assert_eq!(of(rusb::Error::Access), OpenFault::NoPermission);
        assert_eq!(of(rusb::Error::NoDevice), OpenFault::Gone);
        assert_eq!(of(rusb::Error::NotFound), OpenFault::Gone);
        assert_eq!(of(rusb::Error::Pipe), OpenFault::Protocol);
    }
}
