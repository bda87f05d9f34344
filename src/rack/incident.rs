//! One fault, many phones: failures of two or more phones under one hub or controller within 5 s are one incident of that ancestor.
//!
//! ```text
//!     phone fails ──▶ others under one ancestor within 5 s? ──no──▶ its own ladder
//!                                   └─yes─▶ Incident { ancestor, phones } ──▶ one alert; its phones wait
//!                                             ends when all are back, or after 5 min
//! ```
//!
//! The innermost ancestor that all of them share is named. A failure outside of it, as close in time, widens the incident: what
//! began as one of a hub may be one of the controller.
//!
//! Invariant: a place is in at most one open incident, and no two open incidents have one ancestor (`properties`, `tests/sim`).
//! Invariant: an incident is open for at most [`LAST_MAX`] (`properties`, `tests/sim`).

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use super::ids::{Endpoint, HubName, PortPath};
use crate::clock::{Deadline, Moment};

/// Failures that are no further apart have one cause.
pub(super) const WINDOW: Duration = Duration::from_secs(5);
/// The longest that phones wait for each other: then each climbs its own ladder.
pub(super) const LAST_MAX: Duration = Duration::from_secs(5 * 60);
/// Failures that are remembered: more within [`WINDOW`] are an incident already.
const RECENT_MAX: usize = 256;

/// What several phones hang on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ancestor {
    /// A USB hub, by its port path.
    Hub(PortPath),
    /// A USB controller of the host, by the kernel's name.
    Controller(String),
    /// A power hub of the configuration, for phones that are reached by other ways than USB.
    PowerHub(HubName),
}

impl fmt::Display for Ancestor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub(path) => write!(f, "USB hub {path}"),
            Self::Controller(name) => write!(f, "USB controller {name}"),
            Self::PowerHub(name) => write!(f, "power hub {name}"),
        }
    }
}

/// Several phones that failed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Incident {
    /// Rises by one with each incident.
    pub(super) number: u64,
    /// The ancestor, and what that one hangs on itself.
    chain: Vec<Ancestor>,
    pub(super) began: Moment,
    last_failure: Moment,
    pub(super) phones: BTreeMap<Endpoint, Member>,
}

/// How a phone of an incident is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Member {
    /// It failed then, and has not answered since.
    Out { since: Moment },
    /// It answers again.
    Back,
}

impl Incident {
    pub(super) fn ancestor(&self) -> Option<&Ancestor> {
        self.chain.first()
    }

    pub(super) fn until(&self) -> Moment {
        self.began + LAST_MAX
    }

    fn add(&mut self, now: Moment, endpoint: &Endpoint) {
        self.phones.insert(endpoint.clone(), Member::Out { since: now });
        self.last_failure = now;
    }

    /// What `other` and this one hang on as one incident; `None` if they are two.
    fn shared(&self, other: &Self) -> Option<Vec<Ancestor>> {
        if self.ancestor().is_some_and(|ancestor| other.chain.contains(ancestor)) {
            return Some(self.chain.clone());
        }
        let apart = self.last_failure.max(other.last_failure).since(self.last_failure.min(other.last_failure));
        if apart > WINDOW {
            return None;
        }
        innermost(&self.chain, &other.chain).map(<[Ancestor]>::to_vec)
    }

    fn is_over(&self) -> bool {
        self.phones.values().all(|member| *member == Member::Back)
    }
}

/// All incidents.
#[derive(Clone, Debug, Default)]
pub(super) struct Incidents {
    recent: VecDeque<Failure>,
    pub(super) open: Vec<Incident>,
    last_number: u64,
}

#[derive(Clone, Debug)]
struct Failure {
    at: Moment,
    endpoint: Endpoint,
    chain: Vec<Ancestor>,
}

/// What became of incidents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// A new one, or one that has got a wider ancestor.
    Began(u64),
    /// A phone joined it.
    Joined(u64),
    /// It is over.
    Ended(Incident),
}

impl Incidents {
    /// A phone that had answered does not any more. `chain` is what it hangs on, the innermost first.
    pub(super) fn failed(&mut self, now: Moment, endpoint: &Endpoint, chain: Vec<Ancestor>) -> Option<News> {
        self.recent.retain(|failure| now.since(failure.at) <= WINDOW && failure.endpoint != *endpoint);
        let under = |incident: &&mut Incident| incident.ancestor().is_some_and(|ancestor| chain.contains(ancestor));
        let close = |incident: &&mut Incident| {
            now.since(incident.last_failure) <= WINDOW && innermost(&incident.chain, &chain).is_some()
        };
        if let Some(incident) = self.open.iter_mut().find(under) {
            incident.add(now, endpoint);
            let (number, before) = (incident.number, incident.chain.clone());
            let widened = self.widen(number);
            self.unite(number);
            let wider = self.numbered(number).is_some_and(|incident| incident.chain != before);
            return Some(widened.unwrap_or(if wider { News::Began(number) } else { News::Joined(number) }));
        }
        if let Some(incident) = self.open.iter_mut().find(close) {
            incident.chain = innermost(&incident.chain, &chain)?.to_vec();
            incident.add(now, endpoint);
            let number = incident.number;
            self.widen(number);
            self.unite(number);
            return Some(News::Began(number));
        }
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        let shared =
            self.recent.iter().filter_map(|other| innermost(&chain, &other.chain)).max_by_key(|rest| rest.len());
        let shared = shared.map(<[Ancestor]>::to_vec);
        self.recent.push_back(Failure { at: now, endpoint: endpoint.clone(), chain });
        self.begin(now, shared?)
    }

    fn begin(&mut self, now: Moment, chain: Vec<Ancestor>) -> Option<News> {
        let ancestor = chain.first()?.clone();
        let (inside, outside): (VecDeque<_>, VecDeque<_>) =
            self.recent.drain(..).partition(|failure| failure.chain.contains(&ancestor));
        self.recent = outside;
        self.last_number += 1;
        let phones = inside.into_iter().map(|failure| (failure.endpoint, Member::Out { since: failure.at })).collect();
        self.open.push(Incident { number: self.last_number, chain, began: now, last_failure: now, phones });
        self.unite(self.last_number);
        Some(News::Began(self.last_number))
    }

    /// Takes into incident `number` the phones next door that failed alone just now.
    fn widen(&mut self, number: u64) -> Option<News> {
        let incident = self.open.iter_mut().find(|incident| incident.number == number)?;
        let akin = |failure: &&Failure| innermost(&incident.chain, &failure.chain).is_some();
        let strays: Vec<Failure> = self.recent.iter().filter(akin).cloned().collect();
        if strays.is_empty() {
            return None;
        }
        for stray in strays {
            incident.chain = innermost(&incident.chain, &stray.chain)?.to_vec();
            incident.phones.entry(stray.endpoint.clone()).or_insert(Member::Out { since: stray.at });
            self.recent.retain(|failure| failure.endpoint != stray.endpoint);
        }
        self.unite(number);
        Some(News::Began(number))
    }

    /// Takes into incident `number` the others that are under its ancestor now, and those next door whose last failure is as close.
    fn unite(&mut self, number: u64) {
        let Some(at) = self.open.iter().position(|incident| incident.number == number) else { return };
        let mut wide = self.open.remove(at);
        while let Some((at, chain)) =
            self.open.iter().enumerate().find_map(|(at, other)| Some((at, wide.shared(other)?)))
        {
            let other = self.open.remove(at);
            wide.chain = chain;
            wide.began = wide.began.min(other.began);
            wide.last_failure = wide.last_failure.max(other.last_failure);
            wide.phones.extend(other.phones);
        }
        self.open.push(wide);
    }

    /// The phone at `endpoint` answered at `alive`.
    pub(super) fn answered(&mut self, endpoint: &Endpoint, alive: Moment) -> Option<News> {
        let at = self.open.iter().position(|incident| incident.phones.contains_key(endpoint))?;
        let member = self.open.get(at)?.phones.get(endpoint)?;
        if !matches!(member, Member::Out { since } if alive > *since) {
            return None;
        }
        self.excused(endpoint)
    }

    /// Nobody waits for the phone at `endpoint` any more.
    pub(super) fn excused(&mut self, endpoint: &Endpoint) -> Option<News> {
        let at = self.open.iter().position(|incident| incident.phones.contains_key(endpoint))?;
        self.open.get_mut(at)?.phones.insert(endpoint.clone(), Member::Back);
        self.open.get(at)?.is_over().then(|| News::Ended(self.open.remove(at)))
    }

    /// Ends what has lasted for too long.
    pub(super) fn advance(&mut self, now: Moment) -> Vec<Incident> {
        self.open.extract_if(.., |incident| incident.until() <= now).collect()
    }

    pub(super) fn deadline(&self) -> Option<Deadline> {
        let until = self.open.iter().map(Incident::until).min()?;
        Some(Deadline { at: until, why: "the phones that failed together to be back" })
    }

    /// The open incident of the phone at `endpoint`.
    pub(super) fn of(&self, endpoint: &Endpoint) -> Option<&Incident> {
        self.open.iter().find(|incident| incident.phones.contains_key(endpoint))
    }

    pub(super) fn numbered(&self, number: u64) -> Option<&Incident> {
        self.open.iter().find(|incident| incident.number == number)
    }
}

/// The innermost of `chain` that is in `other`, too, with what follows it.
fn innermost<'c>(chain: &'c [Ancestor], other: &[Ancestor]) -> Option<&'c [Ancestor]> {
    let at = chain.iter().position(|ancestor| other.contains(ancestor))?;
    chain.get(at..)
}

#[cfg(test)]
#[path = "incident_tests.rs"]
mod tests;
