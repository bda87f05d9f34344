//! Leases: who has a phone to himself, until when and why. Rollouts and recovery leave such a phone alone.
//!
//! A person's hold is promised in the store and survives a restart; a tool's lease (a shell, a log that is followed) ends with the
//! tool, at the latest some minutes after it was renewed last.
//!
//! Invariant: a hold and a lease of somebody else never stand beside each other (`check_hold`).
//! Invariant: every lease ends at a deadline (`tests`).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ids::PhoneId;
use super::request::Refusal;
use super::snapshot::PhoneView;
use crate::clock::{Deadline, Moment, UnixMillis};

/// The longest hold: whoever wants a phone for longer takes it out of the rack.
pub const HOLD_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// The longest reason, in bytes.
pub const REASON_MAX: usize = 200;
/// The `id` of a person's hold: there is one a phone.
pub const HOLD: u64 = 0;

/// What a phone was taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tool {
    /// By a person, with a reason.
    Hold,
    /// By a shell that is open.
    Shell,
    /// By a log that is followed.
    Logcat,
    /// By a program that works through the adb server.
    Adb,
}

impl Tool {
    /// The word for it in JSON and in labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Shell => "shell",
            Self::Logcat => "logcat",
            Self::Adb => "adb",
        }
    }
}

/// One lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Of which phone.
    pub phone: PhoneId,
    /// [`HOLD`] for a person's hold; any other number, chosen by the tool, for its own lease.
    pub id: u64,
    /// What for.
    pub tool: Tool,
    /// The user's name on this host.
    pub who: String,
    /// Why, as the person gave it, or what the tool does.
    pub reason: String,
    /// When it was taken.
    pub since: UnixMillis,
    /// When it ends at the latest.
    pub until: UnixMillis,
}

impl Lease {
    /// Who has the phone, and why: for others who would like to have it.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self.tool {
            Tool::Hold => format!("{} holds it: {}", self.who, self.reason),
            Tool::Shell => format!("{} has a shell open on it", self.who),
            Tool::Logcat => format!("{} follows its log", self.who),
            Tool::Adb => format!("{} works on it with adb", self.who),
        }
    }
}

impl PhoneView {
    /// The hold by which somebody else than `who` has the phone.
    #[must_use]
    pub fn held_against(&self, who: &str) -> Option<&Lease> {
        self.leases.iter().find(|lease| lease.id == HOLD && lease.who != who)
    }
}

/// What happened to a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseEvent {
    /// It was taken or renewed. A hold is in the store.
    Taken(Lease),
    /// It was ended before its time.
    Ended {
        /// Of which phone.
        phone: PhoneId,
        /// Which.
        id: u64,
        /// By whom, as a sentence.
        why: String,
    },
    /// It could not be promised, so nothing has changed.
    NotKept {
        /// What the store said.
        why: String,
    },
}

/// All leases.
#[derive(Debug, Default)]
pub(super) struct Leases(BTreeMap<(PhoneId, u64), Standing>);

#[derive(Debug)]
struct Standing {
    lease: Lease,
    until: Moment,
}

impl Leases {
    /// Takes or renews a lease. What is left of it is counted from now by the monotonic clock, and never more than it was given
    /// for: the wall clock may be wrong after a start.
    pub(super) fn take(&mut self, now: Moment, wall: UnixMillis, lease: Lease) {
        let span = |from: UnixMillis| Duration::from_millis(u64::try_from(lease.until.0 - from.0).unwrap_or_default());
        let until = now + span(wall).min(span(lease.since));
        self.0.insert((lease.phone.clone(), lease.id), Standing { lease, until });
    }

    pub(super) fn end(&mut self, phone: &PhoneId, id: u64) -> Option<Lease> {
        self.0.remove(&(phone.clone(), id)).map(|standing| standing.lease)
    }

    /// Those whose time is over.
    pub(super) fn advance(&mut self, now: Moment) -> Vec<Lease> {
        self.0.extract_if(.., |_, standing| standing.until <= now).map(|(_, standing)| standing.lease).collect()
    }

    pub(super) fn deadline(&self) -> Option<Deadline> {
        let at = self.0.values().map(|standing| standing.until).min()?;
        Some(Deadline { at, why: "a lease to end" })
    }

    /// The leases of a phone, a person's hold first.
    pub(super) fn of<'l>(&'l self, phone: &'l PhoneId) -> impl Iterator<Item = &'l Lease> {
        self.0.range((phone.clone(), 0)..=(phone.clone(), u64::MAX)).map(|(_, standing)| &standing.lease)
    }

    /// Until when somebody has the phone.
    pub(super) fn until(&self, phone: &PhoneId) -> Option<Moment> {
        self.0.range((phone.clone(), 0)..=(phone.clone(), u64::MAX)).map(|(_, standing)| standing.until).max()
    }

    /// Whether `who` may hold the phone.
    pub(super) fn check_hold(&self, phone: &PhoneId, who: &str) -> Result<(), Refusal> {
        match self.of(phone).find(|lease| lease.who != who) {
            None => Ok(()),
            Some(other) => Err(Refusal {
                code: "lease.held".to_owned(),
                what: format!("{phone} is taken: {}", other.sentence()),
                help: Some("ask there, or end a hold with `farmhand phone … release`".to_owned()),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(id: u64, who: &str, since: i64, until: i64) -> Lease {
        let tool = if id == HOLD { Tool::Hold } else { Tool::Shell };
        let (since, until) = (UnixMillis(since), UnixMillis(until));
        Lease { phone: PhoneId::new("P1"), id, tool, who: who.to_owned(), reason: "battery".to_owned(), since, until }
    }

    fn at(millis: u64) -> Moment {
        Moment::from_start(Duration::from_millis(millis))
    }

    #[test]
    fn a_hold_keeps_others_out_and_lets_its_holder_renew_it() {
        let mut leases = Leases::default();
        let phone = PhoneId::new("P1");
        leases.take(at(0), UnixMillis(1000), lease(HOLD, "mara", 1000, 61_000));
        assert_eq!(leases.check_hold(&phone, "mara"), Ok(()));
        assert_eq!(leases.check_hold(&phone, "jon").unwrap_err().what, "P1 is taken: mara holds it: battery");
        assert_eq!(leases.check_hold(&PhoneId::new("P10"), "jon"), Ok(()));
    }

    #[test]
    fn every_lease_ends_at_its_deadline() {
        let mut leases = Leases::default();
        leases.take(at(500), UnixMillis(1000), lease(HOLD, "mara", 1000, 61_000));
        leases.take(at(500), UnixMillis(1000), lease(7, "mara", 1000, 31_000));
        assert_eq!(leases.deadline().unwrap().at, at(30_500));
        assert_eq!(leases.until(&PhoneId::new("P1")), Some(at(60_500)));
        assert_eq!(leases.advance(at(30_500)).len(), 1);
        assert_eq!(leases.advance(at(60_499)).len(), 0);
        assert_eq!(leases.advance(at(60_500))[0].id, HOLD);
        assert_eq!(leases.deadline(), None);
    }

    #[test]
    fn a_clock_that_stands_in_the_past_makes_no_lease_longer() {
        let mut leases = Leases::default();
        leases.take(at(0), UnixMillis(0), lease(HOLD, "mara", 1_700_000_000_000, 1_700_000_060_000));
        assert_eq!(leases.deadline().unwrap().at, at(60_000));
    }
}
