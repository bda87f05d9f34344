//! What a function tells the kernel of itself, and what the kernel tells it: linux/usb/functionfs.h, USB 2.0 chapter 9.

use bytes::BufMut as _;

/// Bytes of an event at ep0: a setup packet, a type, padding.
pub(super) const EVENT_BYTES: usize = 12;

const DESCRIPTORS_MAGIC_V2: u32 = 3;
const STRINGS_MAGIC: u32 = 2;
const HAS_FULL_HIGH_SUPER: u32 = 1 | 2 | 4;
const ENGLISH: u16 = 0x0409;

/// What is spoken over a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Adb,
    Fastboot,
    /// Nothing: bytes come and go.
    Bare,
}

/// Vendor specific, a subclass (Android's, where it is Android's), the protocol; the first string; two endpoints.
const fn interface(protocol: Protocol) -> [u8; 9] {
    let [subclass, protocol] = match protocol {
        Protocol::Adb => [0x42, 1],
        Protocol::Fastboot => [0x42, 3],
        Protocol::Bare => [0, 0],
    };
    [9, 4, 0, 0, 2, 0xff, subclass, protocol, 1]
}

const FROM_HOST: u8 = 0x01;
const TO_HOST: u8 = 0x82;
/// A bulk endpoint of SuperSpeed: one packet a burst.
const COMPANION: [u8; 6] = [6, 0x30, 0, 0, 0, 0];

/// The descriptors for full, high and super speed.
pub(super) fn descriptors(protocol: Protocol) -> Vec<u8> {
    let mut body = Vec::new();
    for (packet_bytes, companion) in [(64_u16, &[][..]), (512, &[]), (1024, &COMPANION)] {
        body.put_slice(&interface(protocol));
        for address in [FROM_HOST, TO_HOST] {
            body.put_slice(&[7, 5, address, 2]);
            body.put_u16_le(packet_bytes);
            body.put_u8(0);
            body.put_slice(companion);
        }
    }
    let counts = [3_u32, 3, 5];
    let head_bytes = 12 + 4 * counts.len();
    let mut all = Vec::new();
    for field in [DESCRIPTORS_MAGIC_V2, (head_bytes + body.len()) as u32, HAS_FULL_HIGH_SUPER] {
        all.put_u32_le(field);
    }
    counts.iter().for_each(|&count| all.put_u32_le(count));
    all.put_slice(&body);
    all
}

/// The one string: the interface's name.
pub(super) fn strings(protocol: Protocol) -> Vec<u8> {
    let name: &[u8] = match protocol {
        Protocol::Adb => b"ADB Interface\0",
        Protocol::Fastboot => b"fastboot\0",
        Protocol::Bare => b"bare\0",
    };
    let mut all = Vec::new();
    for field in [STRINGS_MAGIC, (16 + 2 + name.len()) as u32, 1, 1] {
        all.put_u32_le(field);
    }
    all.put_u16_le(ENGLISH);
    all.put_slice(name);
    all
}

/// A request of the host to the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setup {
    /// It wants data.
    ToHost,
    /// It sends so many bytes.
    FromHost { bytes: u16 },
}

/// The request in an event, if it is one.
pub(super) fn setup(event: &[u8; EVENT_BYTES]) -> Option<Setup> {
    const SETUP: u8 = 4;
    const TO_HOST_BIT: u8 = 0x80;
    let [request_type, .., low, high, kind, _, _, _] = *event;
    match (kind, request_type & TO_HOST_BIT) {
        (SETUP, 0) => Some(Setup::FromHost { bytes: u16::from_le_bytes([low, high]) }),
        (SETUP, _) => Some(Setup::ToHost),
        _ => None,
    }
}

/// What an event is called.
pub(super) fn event_name(event: &[u8; EVENT_BYTES]) -> &'static str {
    const NAMES: [&str; 7] = ["bind", "unbind", "enable", "disable", "setup", "suspend", "resume"];
    NAMES.get(usize::from(event[8])).copied().unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptors_have_these_bytes() {
        let all = descriptors(Protocol::Adb);
        assert_eq!(all.len(), 24 + 23 + 23 + 35);
        assert_eq!(&all[..12], [3, 0, 0, 0, 105, 0, 0, 0, 7, 0, 0, 0]);
        assert_eq!(&all[12..24], [3, 0, 0, 0, 3, 0, 0, 0, 5, 0, 0, 0]);
        let full = [9, 4, 0, 0, 2, 0xff, 0x42, 1, 1, 7, 5, 0x01, 2, 64, 0, 0, 7, 5, 0x82, 2, 64, 0, 0];
        assert_eq!(&all[24..47], full);
        assert_eq!(
            &all[70..],
            [
                9, 4, 0, 0, 2, 0xff, 0x42, 1, 1, 7, 5, 0x01, 2, 0, 4, 0, 6, 0x30, 0, 0, 0, 0, 7, 5, 0x82, 2, 0, 4, 0,
                6, 0x30, 0, 0, 0, 0
            ]
        );
    }

    #[test]
    fn a_bootloader_has_another_protocol_and_name() {
        let (adb, fastboot) = (descriptors(Protocol::Adb), descriptors(Protocol::Fastboot));
        let differ: Vec<usize> = (0..adb.len()).filter(|&at| adb[at] != fastboot[at]).collect();
        assert_eq!(differ, [24 + 7, 47 + 7, 70 + 7], "bInterfaceProtocol at each speed");
        assert_eq!(fastboot[31], 3);
        assert!(strings(Protocol::Fastboot).ends_with(b"\x09\x04fastboot\0"));
    }

    #[test]
    fn the_strings_have_these_bytes() {
        let expected = b"\x02\0\0\0\x20\0\0\0\x01\0\0\0\x01\0\0\0\x09\x04ADB Interface\0";
        assert_eq!(strings(Protocol::Adb), expected);
    }

    #[test]
    fn a_request_is_told_from_other_events() {
        assert_eq!(setup(&[0x81, 6, 0, 0, 0, 0, 7, 1, 4, 0, 0, 0]), Some(Setup::ToHost));
        assert_eq!(setup(&[0x01, 6, 0, 0, 0, 0, 7, 1, 4, 0, 0, 0]), Some(Setup::FromHost { bytes: 263 }));
        assert_eq!(setup(&[0; 12]), None);
        assert_eq!(event_name(&[0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0]), "enable");
        assert_eq!(event_name(&[0, 0, 0, 0, 0, 0, 0, 0, 200, 0, 0, 0]), "unknown");
    }
}
