//! The recovery ladder: reopen the interface, reset the USB device, restart Android, cycle the port's power, then give up.
//!
//! Each rung has a budget for the phone; the rack's own budgets are in [`crate::rack`]. A phone that was ready again for a while starts
//! at the bottom with full budgets; one that fails again and again climbs. Where the ladder ends it says what was tried in vain.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Moment;
use crate::config::Rung;

/// How often each rung is tried before the next one, from the bottom.
const TRIES: [(Rung, u32); 4] = [(Rung::Reopen, 4), (Rung::ResetUsb, 2), (Rung::Reboot, 1), (Rung::CyclePower, 1)];
/// Before the second and each later try at opening; doubled each time.
const BACKOFF: Duration = Duration::from_secs(1);
/// A phone that failed no more often than this ago is still climbing.
const FORGIVE_AFTER: Duration = Duration::from_secs(10 * 60);

/// A phone that leaves the bus no longer than this after a rung that shakes it, and comes back as soon, leaves by that rung: some
/// enumerate twice after a reset.
const SHAKEN_FOR: Duration = Duration::from_secs(30);

/// One step of recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Open the interface again.
    Reopen,
    /// Reset the USB device.
    ResetUsb,
    /// Restart Android.
    Reboot,
    /// Switch the port's power off and on.
    CyclePower,
    /// Wait until the phone is back after a harsher rung, then open it.
    Settle {
        /// The rung.
        after: Rung,
    },
}

impl Step {
    /// What is waited for before this step, as a phrase.
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Self::Reopen => "the next try at opening it",
            Self::ResetUsb => "the reset of its USB device",
            Self::Reboot => "its restart",
            Self::CyclePower => "its port's power to be cycled",
            Self::Settle { .. } => "the phone to come back",
        }
    }

    /// How long the phone has to come back after this step.
    #[must_use]
    pub const fn patience(self) -> Duration {
        match self {
            Self::Reopen | Self::Settle { .. } => Duration::ZERO,
            Self::ResetUsb => Duration::from_secs(5),
            Self::Reboot => Duration::from_secs(180),
            Self::CyclePower => Duration::from_secs(60),
        }
    }

    /// How long a phone that left the bus over this rung has to come back: one that is reset enumerates again within seconds.
    #[must_use]
    pub const fn return_max(rung: Rung) -> Duration {
        match rung {
            Rung::Reopen => Duration::ZERO,
            Rung::ResetUsb => Duration::from_secs(20),
            Rung::Reboot => Duration::from_secs(180),
            Rung::CyclePower => Duration::from_secs(60),
        }
    }

    /// What is done to the phone on this rung, as a phrase.
    #[must_use]
    pub const fn name(rung: Rung) -> &'static str {
        match rung {
            Rung::Reopen => "opening it again",
            Rung::ResetUsb => "the reset of its USB device",
            Rung::Reboot => "its restart",
            Rung::CyclePower => "the power cycle of its port",
        }
    }

    /// Whether it does more to the phone than opening it.
    #[must_use]
    pub const fn is_harsh(self) -> bool {
        matches!(self, Self::ResetUsb | Self::Reboot | Self::CyclePower)
    }

    /// The rung that this step belongs to.
    #[must_use]
    pub const fn rung(self) -> Rung {
        match self {
            Self::Reopen => Rung::Reopen,
            Self::ResetUsb => Rung::ResetUsb,
            Self::Reboot => Rung::Reboot,
            Self::CyclePower => Rung::CyclePower,
            Self::Settle { after } => after,
        }
    }
}

/// How far a phone has climbed.
#[derive(Clone, Debug)]
pub struct Ladder {
    max_rung: Rung,
    tries: u32,
    /// Why a rung could not be carried out, since it was tried last.
    refused: BTreeMap<Rung, String>,
    last_failure: Option<Moment>,
    stood_since_failure: bool,
    /// When a rung was taken last that may make the phone leave the bus.
    shaken: Option<Moment>,
}

impl Ladder {
    /// A ladder up to `max_rung`, nothing spent.
    #[must_use]
    pub fn new(max_rung: Rung) -> Self {
        Self {
            max_rung,
            tries: 0,
            refused: BTreeMap::new(),
            last_failure: None,
            stood_since_failure: false,
            shaken: None,
        }
    }

    /// The phone was ready again: forgiven once it has stood for a while.
    pub fn succeeded(&mut self) {
        self.stood_since_failure = true;
    }

    /// A rung is taken that may make the phone leave the bus.
    pub fn shakes(&mut self, now: Moment) {
        self.shaken = Some(now);
    }

    /// Whether a phone that comes at `now` may still do so by a rung of ours: then it goes on where it was.
    #[must_use]
    pub fn is_shaken(&self, now: Moment) -> bool {
        self.shaken.is_some_and(|at| now.since(at) < SHAKEN_FOR)
    }

    /// The last failure was not the phone's own: its try is given back.
    pub fn spare_last(&mut self) {
        self.tries = self.tries.saturating_sub(1);
    }

    /// A rung could not be carried out: `why` is a phrase.
    pub fn refused(&mut self, rung: Rung, why: &str) {
        self.refused.insert(rung, why.to_owned());
    }

    /// What was tried in vain, where that ended and what somebody can do: a phrase that follows the fault.
    #[must_use]
    pub fn end(&self) -> String {
        let mut spent = self.tries;
        let mut tried = Vec::new();
        for (rung, budget) in TRIES {
            let times = spent.min(budget);
            spent -= times;
            match self.refused.get(&rung) {
                Some(why) => tried.push(format!("{} failed: {why}", Step::name(rung))),
                None if times > 0 => tried.push(format!("{} {}", done(rung), in_words(times))),
                None => {}
            }
        }
        let tried = tried.join(", ");
        let harsher: Vec<String> = Rung::ALL
            .iter()
            .filter(|rung| **rung > self.max_rung)
            .map(|rung| format!("\"{}\"", rung.as_str()))
            .collect();
        if harsher.is_empty() {
            return format!("all rungs of recovery were tried ({tried}): look at the phone, its cable and its port");
        }
        let (last, harsher) = (self.max_rung.as_str(), harsher.join(", "));
        format!(
            "recovery ended at [recovery] max_rung = \"{last}\" ({tried}): look at the phone and its cable, or allow more ({harsher})"
        )
    }

    /// The step after a failure at `now`, and when to take it; `None` at the end of the ladder.
    pub fn next(&mut self, now: Moment) -> Option<(Step, Moment)> {
        let forgiven = self.last_failure.is_none_or(|at| now.since(at) >= FORGIVE_AFTER);
        if forgiven && self.stood_since_failure {
            self.tries = 0;
            self.refused.clear();
        }
        self.stood_since_failure = false;
        self.last_failure = Some(now);
        let mut spent = self.tries;
        for (rung, budget) in TRIES {
            if rung > self.max_rung {
                return None;
            }
            if spent < budget {
                self.tries += 1;
                self.refused.remove(&rung);
                return Some((step_of(rung), now + delay(rung, spent)));
            }
            spent -= budget;
        }
        None
    }
}

/// What was done on a rung.
const fn done(rung: Rung) -> &'static str {
    match rung {
        Rung::Reopen => "opened again",
        Rung::ResetUsb => "its USB device reset",
        Rung::Reboot => "restarted",
        Rung::CyclePower => "its port's power cycled",
    }
}

fn in_words(times: u32) -> String {
    match times {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        more => format!("{more} times"),
    }
}

const fn step_of(rung: Rung) -> Step {
    match rung {
        Rung::Reopen => Step::Reopen,
        Rung::ResetUsb => Step::ResetUsb,
        Rung::Reboot => Step::Reboot,
        Rung::CyclePower => Step::CyclePower,
    }
}

/// The first try at opening comes at once: most losses are a cable that was touched.
fn delay(rung: Rung, spent: u32) -> Duration {
    match (rung, spent) {
        (Rung::Reopen, 0) => Duration::ZERO,
        (Rung::Reopen, n) => BACKOFF * 2u32.saturating_pow(n - 1),
        _ => BACKOFF,
    }
}
