//! What a handset is: a USB device with an interface of ADB's class and a pair of bulk endpoints, whatever its vendor.
//!
//! Pure: it judges a view of the descriptors that the shell has read.

use crate::rack::ids::{PortPath, Serial};
pub use crate::rack::snapshot::Speed;
use crate::rack::snapshot::UsbView;

/// Vendor-specific class, as ADB uses it (`ADB_CLASS` in Android's `adb.h`).
const ADB_CLASS: u8 = 0xff;
/// `ADB_SUBCLASS`.
const ADB_SUBCLASS: u8 = 0x42;
/// `ADB_PROTOCOL`.
const ADB_PROTOCOL: u8 = 0x01;
/// Fastboot's protocol under ADB's class and subclass.
const FASTBOOT_PROTOCOL: u8 = 0x03;
/// Still image, PIMA 15740: MTP and PTP of Android since version 7, and cameras.
const FILES: (u8, u8, u8) = (0x06, 0x01, 0x01);
/// How older Androids offer MTP: vendor specific, told by the interface's name.
const FILES_BY_NAME: (u8, u8, u8) = (0xff, 0xff, 0x00);
/// The bit of an endpoint's address that says that it sends towards the host.
const ENDPOINT_IN: u8 = 0x80;

/// A handset on the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handset {
    /// Where it is plugged in.
    pub path: PortPath,
    /// The serial of its device descriptor, where it has one that can be read.
    pub serial: Option<Serial>,
    /// `idVendor`.
    pub vendor_id: u16,
    /// `idProduct`.
    pub product_id: u16,
    /// What the device calls itself (`iProduct`).
    pub product: Option<String>,
    /// The controller that its bus belongs to, such as `0000:00:14.0`.
    pub controller: Option<String>,
    /// The speed that was negotiated.
    pub speed: Speed,
    /// The most that it may draw from the port in this configuration, in milliampere.
    pub claimed_milliamps: u16,
}

impl Handset {
    /// As a snapshot shows it.
    #[must_use]
    pub fn view(&self) -> UsbView {
        UsbView {
            speed: self.speed,
            claimed_milliamps: self.claimed_milliamps,
            vendor_id: self.vendor_id,
            product_id: self.product_id,
            product: self.product.clone(),
            hubs: self.path.hubs().collect(),
            controller: self.controller.clone(),
        }
    }
}

/// A mode in which nobody can speak ADB with a handset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherMode {
    /// The bootloader, waiting for `fastboot`.
    Fastboot,
    /// Photos and files only (MTP or PTP): USB debugging is off. It may be a camera.
    FilesOnly,
}

impl OtherMode {
    /// The mode of a device without ADB; `None` if it is no handset at all.
    #[must_use]
    pub fn find(interfaces: &[InterfaceView]) -> Option<Self> {
        let of = |view: &InterfaceView| match (view.class, view.subclass, view.protocol) {
            (ADB_CLASS, ADB_SUBCLASS, FASTBOOT_PROTOCOL) => Some(Self::Fastboot),
            FILES => Some(Self::FilesOnly),
            FILES_BY_NAME if view.name.as_deref() == Some("MTP") => Some(Self::FilesOnly),
            _ => None,
        };
        interfaces.iter().find_map(of)
    }

    /// What it is and what to do, as the end of a sentence that begins with the handset.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Fastboot => "is in fastboot: `fastboot reboot` or its power button starts Android",
            Self::FilesOnly => {
                "offers files only: switch USB debugging on (settings, developer options), or it is a camera"
            }
        }
    }
}

/// One setting of one interface, as its descriptor says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceView {
    /// `bInterfaceNumber`.
    pub number: u8,
    /// `bAlternateSetting`.
    pub setting: u8,
    /// `bInterfaceClass`.
    pub class: u8,
    /// `bInterfaceSubClass`.
    pub subclass: u8,
    /// `bInterfaceProtocol`.
    pub protocol: u8,
    /// `iInterface`, where the kernel has read it.
    pub name: Option<String>,
    /// Its endpoints, in order.
    pub endpoints: Vec<EndpointView>,
}

/// One endpoint, as its descriptor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointView {
    /// `bEndpointAddress`, with the direction in bit 7.
    pub address: u8,
    /// The transfer type of `bmAttributes`.
    pub kind: EndpointKind,
    /// The packet size of `wMaxPacketSize`, without its other bits.
    pub max_packet: u16,
}

/// The transfer type of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointKind {
    /// Bulk, the kind that ADB uses.
    Bulk,
    /// Control, isochronous or interrupt.
    Other,
}

/// The interface over which a handset speaks ADB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdbInterface {
    /// Which interface to claim.
    pub number: u8,
    /// Which of its settings; 0 on every handset seen so far.
    pub setting: u8,
    /// From the handset to the host.
    pub input: BulkEndpoint,
    /// From the host to the handset.
    pub output: BulkEndpoint,
}

/// A bulk endpoint that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkEndpoint {
    /// Its address, with the direction in bit 7.
    pub address: u8,
    /// The size of its packets in bytes, never 0: a transfer that is a multiple of it needs a zero-length packet to end.
    pub max_packet: usize,
}

impl AdbInterface {
    /// The first interface that is ADB's and has a bulk endpoint in each direction.
    #[must_use]
    pub fn find(interfaces: &[InterfaceView]) -> Option<Self> {
        interfaces.iter().find_map(Self::of)
    }

    fn of(view: &InterfaceView) -> Option<Self> {
        if (view.class, view.subclass, view.protocol) != (ADB_CLASS, ADB_SUBCLASS, ADB_PROTOCOL) {
            return None;
        }
        let bulk = |direction: u8| {
            view.endpoints.iter().find_map(|endpoint| {
                let fits = endpoint.kind == EndpointKind::Bulk && endpoint.address & ENDPOINT_IN == direction;
                (fits && endpoint.max_packet > 0)
                    .then_some(BulkEndpoint { address: endpoint.address, max_packet: usize::from(endpoint.max_packet) })
            })
        };
        Some(Self { number: view.number, setting: view.setting, input: bulk(ENDPOINT_IN)?, output: bulk(0)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(address: u8) -> EndpointView {
        EndpointView { address, kind: EndpointKind::Bulk, max_packet: 512 }
    }

    fn interface(number: u8, (class, subclass, protocol): (u8, u8, u8), endpoints: &[EndpointView]) -> InterfaceView {
        InterfaceView { number, setting: 0, class, subclass, protocol, name: None, endpoints: endpoints.to_vec() }
    }

    const ADB: (u8, u8, u8) = (0xff, 0x42, 0x01);
    const MTP: (u8, u8, u8) = (0x06, 0x01, 0x01);
    const FASTBOOT: (u8, u8, u8) = (0xff, 0x42, 0x03);

    #[test]
    fn adb_is_found_beside_mtp_and_its_interrupt_endpoint() {
        let interrupt = EndpointView { address: 0x82, kind: EndpointKind::Other, max_packet: 28 };
        let views = [
            interface(0, MTP, &[bulk(0x81), bulk(0x01), interrupt]),
            interface(1, ADB, &[interrupt, bulk(0x02), bulk(0x83)]),
        ];
        let found = AdbInterface::find(&views).unwrap();
        assert_eq!((found.number, found.input.address, found.output.address), (1, 0x83, 0x02));
        assert_eq!(found.input.max_packet, 512);
    }

    #[test]
    fn what_does_not_speak_adb_is_no_handset() {
        for view in [
            interface(0, MTP, &[bulk(0x81), bulk(0x01)]),
            interface(0, FASTBOOT, &[bulk(0x81), bulk(0x01)]),
            interface(0, ADB, &[bulk(0x81)]),
            interface(0, ADB, &[bulk(0x01), bulk(0x02)]),
            interface(0, ADB, &[bulk(0x81), EndpointView { address: 0x01, kind: EndpointKind::Other, max_packet: 8 }]),
            interface(0, ADB, &[bulk(0x81), EndpointView { max_packet: 0, ..bulk(0x01) }]),
            interface(0, ADB, &[]),
        ] {
            assert_eq!(AdbInterface::find(std::slice::from_ref(&view)), None, "{view:?}");
        }
        assert_eq!(AdbInterface::find(&[]), None);
    }

    #[test]
    fn a_handset_without_adb_is_shown_as_what_it_is() {
        let named = |name: &str| InterfaceView { name: Some(name.to_owned()), ..interface(0, FILES_BY_NAME, &[]) };
        assert_eq!(OtherMode::find(&[interface(0, FASTBOOT, &[])]), Some(OtherMode::Fastboot));
        assert_eq!(OtherMode::find(&[interface(0, MTP, &[])]), Some(OtherMode::FilesOnly));
        assert_eq!(OtherMode::find(&[named("MTP")]), Some(OtherMode::FilesOnly));
        assert_eq!(OtherMode::find(&[named("Serial")]), None);
        assert_eq!(OtherMode::find(&[interface(0, (0x03, 0x01, 0x01), &[])]), None, "a keyboard");
    }

    #[test]
    fn a_setting_without_endpoints_is_passed_over_for_the_one_that_has_them() {
        let full = InterfaceView { setting: 1, ..interface(2, ADB, &[bulk(0x81), bulk(0x01)]) };
        let found = AdbInterface::find(&[interface(2, ADB, &[]), full]).unwrap();
        assert_eq!((found.number, found.setting), (2, 1));
    }
}
