//! Who is on the bus, as a core: each scan goes in, what has changed comes out.

use std::collections::BTreeMap;
use std::time::Duration;

use super::enumerate::{AdbInterface, Handset, OtherMode};
use super::settle;
use crate::adb::failure::OpenFault;
use crate::clock::{Deadline, Moment};
use crate::rack::ids::PortPath;
use crate::rack::snapshot::ControllerView;

/// Between two scans that nobody asked for: the kernel's events can be lost (libusb issue 1571).
pub const RESCAN_INTERVAL: Duration = Duration::from_secs(10);

/// What has changed on the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusEvent {
    /// A handset is there and can be asked for with `Bus::open`.
    Arrived(Handset),
    /// A handset that could not be opened for want of permission, or because another program held it, may be opened now.
    Openable(Handset),
    /// The handset is not there any more.
    Left {
        /// Where it was.
        path: PortPath,
    },
    /// A handset is there and cannot be opened by anybody.
    Unopenable {
        /// What is known of it.
        handset: Handset,
        /// What was seen and what would mend it, as a sentence.
        why: String,
    },
    /// A handset is there in a mode in which nobody can speak ADB with it.
    OtherMode {
        /// What is known of it.
        handset: Handset,
        /// What it is and what to do, as a sentence.
        why: String,
    },
    /// A hub says that something is plugged in, and the kernel has no device there.
    NotEnumerated {
        /// Where the device should be.
        path: PortPath,
        /// The hub, and what the kernel said, as a sentence.
        why: String,
    },
    /// The host's controllers with the room on them, at first and when that has changed.
    Controllers(Vec<ControllerView>),
}

/// One handset as a scan has found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What is known of it.
    pub handset: Handset,
    /// Its device node.
    pub node: Node,
    /// Whether the kernel has configured it.
    pub state: SeenState,
    /// Who may open it.
    pub access: Access,
}

/// What decides whether a handset can be opened, as far as a look tells that touches no device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// When owner, group or mode of its node were changed last, in nanoseconds since 1970: udev does so when a rule is installed.
    pub node_changed: Option<i128>,
    /// Whether some program, this one too, or a driver has its ADB interface.
    pub claimed: bool,
}

/// The name of a device node: it changes with each plug, so it tells two plugs at the same port apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// The number of the bus.
    pub bus: u8,
    /// The address on it, from 1 to 127.
    pub address: u8,
}

impl std::fmt::Display for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "/dev/bus/usb/{:03}/{:03}", self.bus, self.address)
    }
}

/// Whether the kernel has configured a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenState {
    /// It has; this is the interface to claim.
    Configured(AdbInterface),
    /// Not yet, or it could not: the port lacks power or the controller lacks room.
    Unconfigured,
    /// It offers no ADB.
    Other(OtherMode),
}

/// A handset that is on the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// As the last scan has found it.
    pub seen: Seen,
    /// When it was first found.
    pub since: Moment,
    told: Told,
    refused: Option<Refused>,
}

/// Why it could not be opened, as the access to it was then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    NoPermission { node_changed: Option<i128> },
    Busy,
}

/// What was said of a handset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Arrived,
    Unopenable,
    Other,
}

/// Everyone on the bus.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    present: BTreeMap<PortPath, Present>,
}

impl Roster {
    /// Takes a whole scan in and says what has changed since the one before. A handset that was replugged between two scans
    /// leaves and arrives.
    pub fn update(&mut self, scan: Vec<Seen>, now: Moment) -> Vec<BusEvent> {
        let scan: BTreeMap<PortPath, Seen> = scan.into_iter().map(|seen| (seen.handset.path.clone(), seen)).collect();
        let mut events = Vec::new();
        self.present.retain(|path, present| {
            let stays = scan.get(path).is_some_and(|seen| seen.node == present.seen.node);
            if !stays && present.told != Told::Nothing {
                events.push(BusEvent::Left { path: path.clone() });
            }
            stays
        });
        for (path, seen) in scan {
            let present = self.present.entry(path).or_insert_with(|| Present {
                seen: seen.clone(),
                since: now,
                told: Told::Nothing,
                refused: None,
            });
            present.seen = seen;
            let may_be_opened = present.may_be_opened_now();
            events.extend(present.tell(now).or(may_be_opened));
        }
        events
    }

    /// The handset at `path` with this node could not be opened: whoever can mend that is waited for, where a look shows it.
    pub fn refused(&mut self, path: &PortPath, node: Node, fault: OpenFault) {
        if let Some(present) = self.present.get_mut(path).filter(|present| present.seen.node == node) {
            present.refused = match fault {
                OpenFault::NoPermission => {
                    Some(Refused::NoPermission { node_changed: present.seen.access.node_changed })
                }
                OpenFault::Busy => Some(Refused::Busy),
                OpenFault::Gone | OpenFault::Unauthorised | OpenFault::Protocol => None,
            };
        }
    }

    /// The handset at `path`.
    #[must_use]
    pub fn find(&self, path: &PortPath) -> Option<&Present> {
        self.present.get(path)
    }

    /// When the bus wants to be scanned next, unless something is heard before.
    #[must_use]
    pub fn deadline(&self, now: Moment) -> Deadline {
        let settling = |present: &Present| present.told == Told::Nothing;
        if self.present.values().any(settling) {
            Deadline { at: now + settle::RETRY_INTERVAL, why: "the kernel to configure a handset" }
        } else {
            Deadline { at: now + RESCAN_INTERVAL, why: "the rescan of the bus, should an event have been lost" }
        }
    }
}

impl Present {
    /// What had kept it from being opened is not so any more.
    fn may_be_opened_now(&mut self) -> Option<BusEvent> {
        let Seen { access, state: SeenState::Configured(_), .. } = self.seen else { return None };
        let mended = match self.refused? {
            Refused::NoPermission { node_changed } => access.node_changed != node_changed,
            Refused::Busy => !access.claimed,
        };
        if !mended {
            return None;
        }
        self.refused = None;
        Some(BusEvent::Openable(self.seen.handset.clone()))
    }

    fn tell(&mut self, now: Moment) -> Option<BusEvent> {
        let handset = self.seen.handset.clone();
        match (self.seen.state, self.told) {
            (SeenState::Configured(_), Told::Arrived)
            | (SeenState::Unconfigured, Told::Unopenable)
            | (SeenState::Other(_), Told::Other) => None,
            (SeenState::Other(mode), _) => {
                self.told = Told::Other;
                let why = format!("the handset at {} {}", handset.path, mode.advice());
                Some(BusEvent::OtherMode { handset, why })
            }
            (SeenState::Configured(_), Told::Nothing | Told::Unopenable | Told::Other) => {
                self.told = Told::Arrived;
                Some(BusEvent::Arrived(handset))
            }
            (SeenState::Unconfigured, Told::Nothing) if now < self.since + settle::SETTLE_TIME => None,
            (SeenState::Unconfigured, Told::Nothing | Told::Arrived | Told::Other) => {
                self.told = Told::Unopenable;
                let why = format!(
                    "the kernel has not configured the handset at {} (it asks for {} mA): its port lacks power or its \
                     controller has no room left; see the kernel's log",
                    handset.path, handset.claimed_milliamps
                );
                Some(BusEvent::Unopenable { handset, why })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::enumerate::{BulkEndpoint, Speed};
    use super::*;
    use crate::rack::ids::Serial;

    fn ms(millis: u64) -> Moment {
        Moment::from_start(Duration::from_millis(millis))
    }

    fn seen(path: &str, address: u8) -> Seen {
        let endpoint = |address| BulkEndpoint { address, max_packet: 512 };
        let path: PortPath = path.parse().unwrap();
        Seen {
            node: Node { bus: path.bus(), address },
            handset: Handset {
                path,
                serial: Some(Serial::new("PHONE1")),
                vendor_id: 0x18d1,
                product_id: 0x4ee7,
                product: None,
                controller: None,
                speed: Speed::High,
                claimed_milliamps: 500,
            },
            state: SeenState::Configured(AdbInterface {
                number: 1,
                setting: 0,
                input: endpoint(0x81),
                output: endpoint(0x01),
            }),
            access: Access { node_changed: Some(1), claimed: false },
        }
    }

    fn unconfigured(path: &str, address: u8) -> Seen {
        Seen { state: SeenState::Unconfigured, ..seen(path, address) }
    }

    fn story(events: &[BusEvent]) -> Vec<String> {
        let line = |event: &BusEvent| match event {
            BusEvent::Arrived(handset) => format!("arrived {}", handset.path),
            BusEvent::Openable(handset) => format!("openable {}", handset.path),
            BusEvent::Left { path } => format!("left {path}"),
            BusEvent::Unopenable { handset, .. } => format!("unopenable {}", handset.path),
            BusEvent::OtherMode { handset, .. } => format!("other mode {}", handset.path),
            BusEvent::NotEnumerated { path, .. } => format!("not enumerated {path}"),
            BusEvent::Controllers(_) => "controllers".to_owned(),
        };
        events.iter().map(line).collect()
    }

    #[test]
    fn handsets_arrive_once_and_leave_once() {
        let mut roster = Roster::default();
        assert_eq!(story(&roster.update(vec![seen("1-2", 4), seen("1-1", 3)], ms(0))), ["arrived 1-1", "arrived 1-2"]);
        assert!(roster.update(vec![seen("1-1", 3), seen("1-2", 4)], ms(1)).is_empty());
        assert_eq!(story(&roster.update(vec![seen("1-2", 4)], ms(2))), ["left 1-1"]);
        assert!(roster.find(&"1-1".parse().unwrap()).is_none());
        assert_eq!(story(&roster.update(vec![], ms(3))), ["left 1-2"]);
        assert!(roster.update(vec![], ms(4)).is_empty());
    }

    #[test]
    fn a_replug_between_two_scans_is_seen_by_the_new_address() {
        let mut roster = Roster::default();
        roster.update(vec![seen("1-1", 3)], ms(0));
        assert_eq!(story(&roster.update(vec![seen("1-1", 9)], ms(5_000))), ["left 1-1", "arrived 1-1"]);
        assert_eq!(roster.find(&"1-1".parse().unwrap()).unwrap().since, ms(5_000));
    }

    #[test]
    fn a_handset_is_told_of_once_the_kernel_has_configured_it() {
        let mut roster = Roster::default();
        assert!(roster.update(vec![unconfigured("1-1", 3)], ms(0)).is_empty());
        assert_eq!(roster.deadline(ms(0)).at, ms(100), "it is looked at again soon");
        assert_eq!(story(&roster.update(vec![seen("1-1", 3)], ms(100))), ["arrived 1-1"]);
        assert_eq!(roster.deadline(ms(100)).at, ms(10_100));
    }

    #[test]
    fn a_handset_that_is_never_configured_is_shown_with_the_reason_and_may_still_come() {
        let mut roster = Roster::default();
        assert!(roster.update(vec![unconfigured("1-1", 3)], ms(0)).is_empty());
        assert!(roster.update(vec![unconfigured("1-1", 3)], ms(2_999)).is_empty());
        let events = roster.update(vec![unconfigured("1-1", 3)], ms(3_000));
        let [BusEvent::Unopenable { why, .. }] = events.as_slice() else { panic!("{events:?}") };
        assert!(why.contains("1-1") && why.contains("500 mA"), "{why}");
        assert!(roster.update(vec![unconfigured("1-1", 3)], ms(4_000)).is_empty());
        assert_eq!(story(&roster.update(vec![seen("1-1", 3)], ms(5_000))), ["arrived 1-1"]);
    }

    #[test]
    fn a_handset_in_another_mode_is_told_with_what_to_do_and_may_come_back_in_the_right_one() {
        let fastboot = Seen { state: SeenState::Other(OtherMode::Fastboot), ..seen("1-1", 3) };
        let mut roster = Roster::default();
        let events = roster.update(vec![fastboot.clone()], ms(0));
        let [BusEvent::OtherMode { why, .. }] = events.as_slice() else { panic!("{events:?}") };
        assert!(why.contains("1-1") && why.contains("fastboot reboot"), "{why}");
        assert!(roster.update(vec![fastboot], ms(1)).is_empty());
        assert_eq!(story(&roster.update(vec![seen("1-1", 4)], ms(2))), ["left 1-1", "arrived 1-1"]);
    }

    #[test]
    fn a_handset_without_permission_is_told_of_again_once_its_node_is_changed() {
        let (mut roster, path) = (Roster::default(), "1-1".parse().unwrap());
        let node = Node { bus: 1, address: 3 };
        roster.update(vec![seen("1-1", 3)], ms(0));
        roster.refused(&path, node, OpenFault::NoPermission);
        assert!(roster.update(vec![seen("1-1", 3)], ms(13_000)).is_empty(), "nobody has mended it");
        let access = Access { node_changed: Some(2), claimed: false };
        let ruled = Seen { access, ..seen("1-1", 3) };
        assert_eq!(story(&roster.update(vec![ruled.clone()], ms(23_000))), ["openable 1-1"]);
        assert!(roster.update(vec![ruled.clone()], ms(33_000)).is_empty(), "told once");
        roster.refused(&path, node, OpenFault::NoPermission);
        assert!(
            roster.update(vec![ruled], ms(43_000)).is_empty(),
            "the rule was of no use: the next one is waited for"
        );
    }

    #[test]
    fn a_handset_that_another_program_held_is_told_of_again_once_that_lets_go() {
        let (mut roster, path) = (Roster::default(), "1-1".parse().unwrap());
        let held = Seen { access: Access { node_changed: Some(1), claimed: true }, ..seen("1-1", 3) };
        roster.update(vec![held.clone()], ms(0));
        roster.refused(&path, Node { bus: 1, address: 3 }, OpenFault::Busy);
        assert!(roster.update(vec![held], ms(10_000)).is_empty());
        assert_eq!(story(&roster.update(vec![seen("1-1", 3)], ms(20_000))), ["openable 1-1"]);
        assert!(roster.update(vec![seen("1-1", 3)], ms(30_000)).is_empty());
    }

    #[test]
    fn what_an_earlier_plug_was_refused_for_is_forgotten() {
        let (mut roster, path) = (Roster::default(), "1-1".parse().unwrap());
        roster.update(vec![seen("1-1", 3)], ms(0));
        roster.refused(&path, Node { bus: 1, address: 2 }, OpenFault::Busy);
        assert!(roster.update(vec![seen("1-1", 3)], ms(1)).is_empty(), "that was the plug before");
        roster.refused(&path, Node { bus: 1, address: 3 }, OpenFault::Busy);
        assert_eq!(story(&roster.update(vec![seen("1-1", 4)], ms(2))), ["left 1-1", "arrived 1-1"]);
        assert!(roster.update(vec![seen("1-1", 4)], ms(3)).is_empty());
    }

    #[test]
    fn a_handset_that_was_never_told_of_does_not_leave() {
        let mut roster = Roster::default();
        roster.update(vec![unconfigured("1-1", 3)], ms(0));
        assert!(roster.update(vec![], ms(100)).is_empty());
    }
}
