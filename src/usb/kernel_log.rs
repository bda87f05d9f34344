//! What the kernel's log says of USB, read: which port it means, and what it means for a person.
//!
//! A record of `/dev/kmsg` is `<priority>,<sequence>,<microseconds>,<flags>;<text>`, with lines of `KEY=value` behind it. The texts
//! are those of Linux' `hub.c`, `message.c`, `config.c` and `xhci.c`; what is not known is passed over, since the log is full of
//! other things.
//!
//! Pure, and total: any bytes give an answer.

use crate::rack::ids::PortPath;

/// What of a text is kept, in characters: the kernel's own bound on a record is 1 KiB.
const TEXT_CHARS_MAX: usize = 200;

/// Something that the kernel said of the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remark {
    /// A port, or the device in it, is in trouble.
    Port {
        /// The port, as the path of the device that is or should be in it.
        path: PortPath,
        /// The kernel's own words and what they mean, as a sentence.
        why: String,
    },
    /// A controller is full.
    Controller {
        /// Its name, such as `0000:00:14.0`.
        name: String,
        /// How many devices it takes, where the kernel says.
        devices_max: Option<u32>,
        /// The kernel's own words and what they mean, as a sentence.
        why: String,
    },
}

/// Beginnings or parts of the kernel's texts on a port, and what they mean. The first that fits counts.
const PORT_TEXTS: &[(&str, &str)] = &[
    ("error -71", "the signal is bad: try another cable, then another port"),
    ("error -110", "the device does not answer: try another cable, then restart the phone"),
    ("error -32", "the device refuses: restart the phone"),
    ("error -28", "the bus has no bandwidth left for it: use another controller"),
    ("error -12", "the controller has no room for it: use another controller, or plug fewer devices into this one"),
    ("Not enough bandwidth", "the bus has no bandwidth left for it: use another controller"),
    ("Not enough host controller resources", "its controller is out of endpoints: use another controller"),
    ("insufficient available bus power", "its hub has too little power: use a hub with a supply of its own"),
    ("over-current", "the port draws too much: a short circuit, or a cable or phone that is broken"),
    ("couldn't allocate usb_device", "the controller takes no more devices: use another controller"),
    ("Cannot enable", "the port could not be enabled: the cable may be bad"),
    ("unable to enumerate USB device", "the device does not enumerate: try another cable, then another port"),
    ("not accepting address", "the device does not answer: try another cable, then restart the phone"),
    ("disabled by hub (EMI?)", "the hub has cut it off after disturbances: look at cable and supply"),
    ("can't set config", "the device could not be configured"),
    ("unable to read config", "the device does not tell its configuration: restart the phone"),
    ("device descriptor read", "the device does not tell what it is: try another cable, then restart the phone"),
];

/// The remark of one record of `/dev/kmsg`, if it is one on USB that matters here.
#[must_use]
pub fn remark(record: &[u8]) -> Option<Remark> {
    let text = String::from_utf8_lossy(record);
    let (_, message) = text.split_once(';')?;
    let message = message.lines().next()?;
    let (subject, said) = message.split_once(": ")?;
    match subject.split_once(' ')? {
        ("usb", place) => port_remark(port(place)?, said),
        ("hub", place) => said.contains("over-current").then(|| port_remark(hub_of(place)?, said))?,
        ("xhci_hcd", name) => controller_remark(name, said),
        _ => None,
    }
}

fn port_remark(path: PortPath, said: &str) -> Option<Remark> {
    // What a device calls itself may be anything.
    if ["Product: ", "Manufacturer: ", "SerialNumber: "].iter().any(|label| said.starts_with(label)) {
        return None;
    }
    let (_, meaning) = PORT_TEXTS.iter().find(|(part, _)| said.contains(part))?;
    Some(Remark::Port { path, why: sentence(said, meaning) })
}

fn controller_remark(name: &str, said: &str) -> Option<Remark> {
    let max = said.strip_prefix("Max number of devices this xHCI host supports is ");
    let devices_max = max.and_then(|rest| rest.trim_end_matches('.').parse().ok());
    let meaning = if devices_max.is_some() || said.contains("No Slots Available") || said.contains("enable slot") {
        "it takes no more devices: use another controller"
    } else if said.contains("Not enough host controller resources") {
        "it is out of endpoints: use another controller, or switch USB 3 off in the firmware"
    } else if said.contains("Not enough bandwidth") {
        "it is out of bandwidth: use another controller"
    } else {
        return None;
    };
    Some(Remark::Controller { name: name.to_owned(), devices_max, why: sentence(said, meaning) })
}

/// The kernel's words with their meaning, without what would disturb a table.
fn sentence(said: &str, meaning: &str) -> String {
    let clean: String = said.chars().filter(|c| !c.is_control()).take(TEXT_CHARS_MAX).collect();
    format!("{meaning} (the kernel: `{}`)", clean.trim_end_matches('.'))
}

/// The port that the kernel means: `1-2.3` is a device, `1-2-port3` a port of a hub, `usb1-port2` one of a root hub.
fn port(place: &str) -> Option<PortPath> {
    let Some((hub, number)) = place.rsplit_once("-port") else { return place.parse().ok() };
    let path = match hub.strip_prefix("usb") {
        Some(bus) => format!("{bus}-{number}"),
        None => format!("{hub}.{number}"),
    };
    path.parse().ok()
}

/// The hub of an interface such as `1-2:1.0`.
fn hub_of(place: &str) -> Option<PortPath> {
    place.split_once(':')?.0.parse().ok()
}

/// The entry of the fuzz target `usb_kernel_log`: a remark is short, and names a port or controller.
pub fn fuzz_kernel_log(record: &[u8]) {
    if let Some(Remark::Port { why, .. } | Remark::Controller { why, .. }) = remark(record) {
        assert!(why.chars().count() <= 2 * TEXT_CHARS_MAX && !why.contains(char::is_control), "{why:?}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of_port(record: &str) -> (String, String) {
        match remark(record.as_bytes()) {
            Some(Remark::Port { path, why }) => (path.to_string(), why),
            other => panic!("{record}: {other:?}"),
        }
    }

    #[test]
    fn the_port_is_named_by_device_hub_or_root_hub() {
        let cases = [
            ("3,501,9,-;usb 1-1.2: device descriptor read/64, error -71\n SUBSYSTEM=usb\n", "1-1.2", "cable"),
            ("3,502,9,-;usb 1-1-port4: unable to enumerate USB device", "1-1.4", "does not enumerate"),
            ("3,503,9,-;usb usb3-port1: couldn't allocate usb_device", "3-1", "no more devices"),
            ("3,504,9,-;usb 2-1: device not accepting address 5, error -110", "2-1", "does not answer"),
            ("3,505,9,-;usb 2-1: can't set config #1, error -28", "2-1", "bandwidth"),
            ("4,506,9,-;usb 2-1.4: rejected 1 configuration due to insufficient available bus power", "2-1.4", "power"),
            ("4,507,9,-;usb 1-1-port2: over-current change #3", "1-1.2", "too much"),
            ("4,508,9,-;hub 1-1.4:1.0: over-current condition", "1-1.4", "too much"),
        ];
        for (record, path, meaning) in cases {
            let (seen, why) = of_port(record);
            assert_eq!(seen, path, "{record}");
            assert!(why.contains(meaning) && why.contains("the kernel: `"), "{why}");
        }
    }

    #[test]
    fn a_full_controller_is_named_with_what_it_takes() {
        let full =
            b"4,9,9,-;xhci_hcd 0000:00:05.0: Max number of devices this xHCI host supports is 4.\n SUBSYSTEM=pci";
        let Some(Remark::Controller { name, devices_max, why }) = remark(full) else { panic!() };
        assert_eq!((name.as_str(), devices_max), ("0000:00:05.0", Some(4)));
        assert!(why.contains("another controller"), "{why}");
        let endpoints = b"4,9,9,-;xhci_hcd 0000:00:14.0: Not enough host controller resources for new device state.";
        let Some(Remark::Controller { devices_max: None, why, .. }) = remark(endpoints) else { panic!() };
        assert!(why.contains("endpoints"), "{why}");
    }

    #[test]
    fn what_is_no_trouble_is_passed_over() {
        for record in [
            "6,1,1,-;usb 1-1: new high-speed USB device number 4 using dummy_hcd",
            "6,1,1,-;usb 1-1: USB disconnect, device number 4",
            "6,1,1,-;usb 1-1: Product: error -71",
            "6,1,1,-;eth0: error -71",
            "6,1,1,-;xhci_hcd 0000:00:05.0: xHCI Host Controller",
            "usb 1-1: error -71",
            "",
        ] {
            assert_eq!(remark(record.as_bytes()), None, "{record}");
        }
    }

    proptest! {
        #[test]
        fn any_record_gives_an_answer(bytes: Vec<u8>, place in "[a-z0-9.:-]{0,12}", said in "\\PC{0,40}") {
            fuzz_kernel_log(&bytes);
            fuzz_kernel_log(format!("3,1,1,-;usb {place}: {said} error -71").as_bytes());
            fuzz_kernel_log(format!("3,1,1,-;xhci_hcd {place}: {said} enable slot").as_bytes());
        }
    }
}
