//! Phones of one controller that fail within 5 s of each other are in one incident, which lasts for 5 min at most; and nothing is
//! reset, restarted or switched off meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use farmhand::clock::Moment;
use farmhand::rack::ids::Endpoint;
use farmhand::rack::snapshot::PhoneState;
use farmhand::rack::{Change, Rack};

use super::super::hub::Hub;
use super::super::{endpoint, place_of};

/// As docs and `rack::incident` have them, written out: a check must not follow a constant that somebody changes by mistake.
const WINDOW: Duration = Duration::from_secs(5);
const LAST_MAX: Duration = Duration::from_secs(300);

#[derive(Debug, Default)]
pub(crate) struct Incidents {
    connected: BTreeMap<usize, bool>,
    failed: BTreeMap<usize, Moment>,
    began: BTreeMap<u64, Moment>,
    ended: Option<Moment>,
}

impl Incidents {
    /// The model told of a change.
    pub(crate) fn told(&mut self, now: Moment, change: &Change) {
        match change {
            Change::Incident { number, .. } => drop(self.began.entry(*number).or_insert(now)),
            Change::IncidentOver { number, .. } => {
                self.began.remove(number);
                self.ended = Some(now);
            }
            _ => {}
        }
    }

    /// The model is as it is after a step.
    pub(crate) fn look(&mut self, now: Moment, rack: &Rack, hub: &Hub) -> Result<(), String> {
        let mut fresh = None;
        for standing in rack.standings() {
            let Some(place) = standing.endpoint.and_then(place_of) else { continue };
            let connected = matches!(standing.state, PhoneState::Online | PhoneState::Provisioning | PhoneState::Ready);
            let was = self.connected.insert(place, connected).unwrap_or(false);
            let by_itself = matches!(
                standing.state,
                PhoneState::Claiming | PhoneState::Recovering | PhoneState::Absent | PhoneState::NotEnumerated
            ) && !standing.why.starts_with("it restarts");
            if connected {
                self.failed.remove(&place);
            } else if was && by_itself && hub.feeds(place) {
                self.failed.insert(place, now);
                fresh = Some(place);
            }
        }
        // An incident that became part of a wider one is over without a word of its own.
        let open: BTreeSet<u64> =
            rack.standings().filter_map(|standing| rack.incident_at(standing.endpoint?)).collect();
        self.began.retain(|number, _| open.contains(number));
        if let Some(overdue) = self.began.iter().find(|(_, began)| now.since(**began) > LAST_MAX) {
            return Err(format!("incident {} has been open since {}", overdue.0, overdue.1));
        }
        let just_over = self.ended.is_some_and(|ended| now.since(ended) <= WINDOW);
        fresh.filter(|_| !just_over).map_or(Ok(()), |place| self.is_one(now, place, rack))
    }

    /// Recovery does something harsh to the phone at `at`.
    pub(crate) fn harsh(&self, now: Moment, rack: &Rack, at: &Endpoint, what: &str) -> Result<(), String> {
        let number = rack.incident_at(at).filter(|number| self.began.get(number).is_some_and(|began| *began < now));
        number.map_or(Ok(()), |number| Err(format!("{at} gets {what}, and it waits in incident {number}")))
    }

    fn is_one(&self, now: Moment, place: usize, rack: &Rack) -> Result<(), String> {
        let here = rack.incident_at(&endpoint(place));
        for (other, at) in self.failed.iter().filter(|(other, _)| **other != place && kin(**other) == kin(place)) {
            let there = rack.incident_at(&endpoint(*other));
            if now.since(*at) <= WINDOW && (here.is_none() || here != there) {
                return Err(format!(
                    "places {other} and {place} failed at {at} and {now}: incidents {there:?}, {here:?}"
                ));
            }
        }
        Ok(())
    }
}

fn kin(place: usize) -> Option<u8> {
    let Endpoint::Usb(path) = endpoint(place) else { return None };
    Some(path.bus())
}
