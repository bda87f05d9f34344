//! Hub ports that say *connected* and have no device, as a core: after a while each is told with the kernel's reason.

use std::collections::{BTreeMap, BTreeSet};

use super::kernel_log::Remark;
use super::roster::BusEvent;
use super::settle::SETTLE_TIME;
use crate::clock::{Deadline, Moment};
use crate::rack::ids::PortPath;

/// Remarks of ports that are kept: far more than a rack has ports.
const REMARKS_MAX: usize = 1024;

/// What a scan has found of ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortsSeen {
    /// Where there are devices.
    pub occupied: BTreeSet<PortPath>,
    /// Ports without a device whose hub was asked.
    pub asked: BTreeSet<PortPath>,
    /// Those of them that have something plugged in.
    pub connected: BTreeSet<PortPath>,
}

/// All ports in doubt.
#[derive(Clone, Debug, Default)]
pub struct PortWatch {
    suspects: BTreeMap<PortPath, Suspect>,
    /// What the kernel said last of a port.
    remarks: BTreeMap<PortPath, String>,
    /// What the kernel said of a controller: how many devices it takes, and the sentence.
    controllers: BTreeMap<String, (Option<u32>, String)>,
}

#[derive(Clone, Debug)]
struct Suspect {
    since: Moment,
    told: Option<String>,
}

impl PortWatch {
    /// The kernel has said something.
    pub fn remark(&mut self, remark: Remark) {
        match remark {
            Remark::Port { path, why } => {
                if self.remarks.len() < REMARKS_MAX || self.remarks.contains_key(&path) {
                    self.remarks.insert(path, why);
                }
            }
            Remark::Controller { name, devices_max, why } => {
                let known = self.controllers.get(&name).and_then(|(max, _)| *max);
                self.controllers.insert(name, (devices_max.or(known), why));
            }
        }
    }

    /// The ports of which the kernel has complained, or that were found without their device: their hubs are worth waking up.
    #[must_use]
    pub fn suspicious(&self) -> BTreeSet<PortPath> {
        self.remarks.keys().chain(self.suspects.keys()).cloned().collect()
    }

    /// What the kernel said of controllers.
    #[must_use]
    pub fn controllers(&self) -> &BTreeMap<String, (Option<u32>, String)> {
        &self.controllers
    }

    /// Takes a scan in and says what has changed: `NotEnumerated` once a port has been without its device for the time that
    /// enumeration takes, `Left` when that is over.
    pub fn update(&mut self, seen: &PortsSeen, now: Moment) -> Vec<BusEvent> {
        self.remarks.retain(|path, _| !seen.occupied.contains(path));
        // A hub that could not be asked: then the kernel's word counts until a device comes.
        let unasked = self.remarks.keys().filter(|path| !seen.asked.contains(path)).cloned();
        let doubtful: BTreeSet<PortPath> = seen.connected.iter().cloned().chain(unasked).collect();
        self.remarks.retain(|path, _| doubtful.contains(path) || !seen.asked.contains(path));
        let mut events = Vec::new();
        self.suspects.retain(|path, suspect| {
            let stays = doubtful.contains(path);
            if !stays && suspect.told.is_some() {
                events.push(BusEvent::Left { path: path.clone() });
            }
            stays
        });
        for path in doubtful {
            let suspect = self.suspects.entry(path.clone()).or_insert(Suspect { since: now, told: None });
            if now < suspect.since + SETTLE_TIME {
                continue;
            }
            let why = sentence(&path, self.remarks.get(&path));
            if suspect.told.as_ref() != Some(&why) {
                suspect.told = Some(why.clone());
                events.push(BusEvent::NotEnumerated { path, why });
            }
        }
        events
    }

    /// When the next port will have been in doubt for long enough.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        let untold = self.suspects.values().filter(|suspect| suspect.told.is_none());
        let at = untold.map(|suspect| suspect.since + SETTLE_TIME).min()?;
        Some(Deadline { at, why: "the kernel to enumerate what was plugged in" })
    }
}

fn sentence(path: &PortPath, remark: Option<&String>) -> String {
    let port = path.ports().last().copied().unwrap_or_default();
    let hub = path.hub_name();
    match remark {
        Some(remark) => format!("something is plugged into port {port} of hub {hub}, and there is no device: {remark}"),
        None => format!(
            "something is plugged into port {port} of hub {hub}, and there is no device; the kernel has not said why, or its log \
             cannot be read here: see `dmesg`"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn s(seconds: u64) -> Moment {
        Moment::from_start(Duration::from_secs(seconds))
    }

    fn paths(texts: &[&str]) -> BTreeSet<PortPath> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn seen(occupied: &[&str], asked: &[&str], connected: &[&str]) -> PortsSeen {
        PortsSeen { occupied: paths(occupied), asked: paths(asked), connected: paths(connected) }
    }

    fn complaint(path: &str) -> Remark {
        Remark::Port { path: path.parse().unwrap(), why: "try another cable".to_owned() }
    }

    #[test]
    fn a_port_without_its_device_is_told_after_three_seconds_with_the_kernels_reason() {
        let mut watch = PortWatch::default();
        let scan = seen(&[], &["1-1.2"], &["1-1.2"]);
        assert!(watch.update(&scan, s(0)).is_empty());
        assert_eq!(watch.deadline().unwrap().at, s(3));
        watch.remark(complaint("1-1.2"));
        let events = watch.update(&scan, s(3));
        let [BusEvent::NotEnumerated { path, why }] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!(path.to_string(), "1-1.2");
        assert!(why.contains("port 2 of hub 1-1") && why.contains("another cable"), "{why}");
        assert!(watch.update(&scan, s(13)).is_empty(), "told once");
        assert_eq!(watch.deadline(), None);
    }

    #[test]
    fn it_is_over_when_the_device_comes_or_is_unplugged() {
        for after in [seen(&["1-2"], &[], &[]), seen(&[], &["1-2"], &[])] {
            let mut watch = PortWatch::default();
            watch.remark(complaint("1-2"));
            let scan = seen(&[], &["1-2"], &["1-2"]);
            watch.update(&scan, s(0));
            assert_eq!(watch.update(&scan, s(3)).len(), 1);
            assert_eq!(watch.update(&after, s(4)), [BusEvent::Left { path: "1-2".parse().unwrap() }]);
            assert!(watch.suspicious().is_empty(), "the reason is forgotten");
        }
    }

    #[test]
    fn a_plug_that_enumerates_in_time_is_no_trouble() {
        let mut watch = PortWatch::default();
        watch.update(&seen(&[], &["1-2"], &["1-2"]), s(0));
        assert!(watch.update(&seen(&["1-2"], &[], &[]), s(1)).is_empty());
        assert!(watch.update(&seen(&[], &["1-2"], &["1-2"]), s(60)).is_empty(), "the time begins anew");
    }

    #[test]
    fn where_the_hub_cannot_be_asked_the_kernels_word_counts() {
        let mut watch = PortWatch::default();
        watch.remark(complaint("1-2"));
        let scan = seen(&[], &[], &[]);
        watch.update(&scan, s(0));
        assert_eq!(watch.update(&scan, s(3)).len(), 1);
        assert_eq!(watch.update(&seen(&["1-2"], &[], &[]), s(4)).len(), 1);
    }

    #[test]
    fn what_a_controller_takes_is_remembered_when_it_only_complains_later() {
        let mut watch = PortWatch::default();
        let of = |devices_max, why: &str| Remark::Controller { name: "x".to_owned(), devices_max, why: why.to_owned() };
        watch.remark(of(Some(4), "full"));
        watch.remark(of(None, "full again"));
        assert_eq!(watch.controllers()["x"], (Some(4), "full again".to_owned()));
    }
}
