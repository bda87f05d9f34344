//! When a phone is looked after: soon after it is ready or has something new installed, and then every so often.
//!
//! It is no part of what makes a phone ready: whatever comes of it, the life goes on, and the next look comes.

use std::time::Duration;

use super::{Life, State, Wish};
use crate::clock::{Deadline, Moment};
use crate::phone::Command;

/// From ready to the first look, before jitter: the phones of a rack that come together do not all want the host at once.
const SOON: Duration = Duration::from_secs(15);
/// Between two looks whether a phone can be looked after that somebody holds, or that something is installed on.
const LATER: Duration = Duration::from_secs(60);
/// The actor ends a look by itself after 2 min; past this the actor is stuck.
const LOOK_MAX: Duration = Duration::from_secs(3 * 60);

/// Where a phone is between two looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upkeep {
    /// It is not connected, or nothing is wanted of it.
    Off,
    At(Moment),
    /// What was seen before something was installed is old when it comes.
    Asked {
        until: Moment,
        then: Then,
    },
}

/// What follows a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// The usual pause.
    Pause,
    /// Another look.
    Again,
}

impl Life {
    /// The phone is ready: it is looked after from now on.
    pub(super) fn begin_upkeep(&mut self, now: Moment) {
        if self.upkeep == Upkeep::Off && self.policy.upkeep.is_some() {
            self.upkeep = Upkeep::At(self.some_time_after(now, SOON));
        }
    }

    /// Something was installed on it.
    pub(super) fn upkeep_is_old(&mut self, now: Moment) {
        self.upkeep = match self.upkeep {
            Upkeep::Off => Upkeep::Off,
            Upkeep::At(_) => Upkeep::At(self.some_time_after(now, SOON)),
            Upkeep::Asked { until, .. } => Upkeep::Asked { until, then: Then::Again },
        };
    }

    pub(super) fn upkeep_deadline(&self) -> Option<Deadline> {
        match self.upkeep {
            Upkeep::Off => None,
            Upkeep::At(at) => Some(Deadline { at, why: "the next look at its settings" }),
            Upkeep::Asked { until, .. } => Some(Deadline { at: until, why: "the look at its settings" }),
        }
    }

    /// What is due of it at `now`; `None` if nothing is.
    pub(super) fn advance_upkeep(&mut self, now: Moment) -> Option<Vec<Wish>> {
        match self.upkeep {
            Upkeep::At(at) if at <= now => Some(self.look_after(now)),
            Upkeep::Asked { until, .. } if until <= now => Some(self.upkept(now)),
            _ => None,
        }
    }

    fn look_after(&mut self, now: Moment) -> Vec<Wish> {
        if !matches!(self.state, State::Ready) || self.restraint.held.is_some() {
            self.upkeep = Upkeep::At(self.some_time_after(now, LATER));
            return Vec::new();
        }
        self.upkeep = Upkeep::Asked { until: now + LOOK_MAX, then: Then::Pause };
        vec![Wish::Actor(Command::Upkeep)]
    }

    /// It was looked after, or its actor is stuck.
    pub(super) fn upkept(&mut self, now: Moment) -> Vec<Wish> {
        if let Upkeep::Asked { then, .. } = self.upkeep {
            let pause = match then {
                Then::Pause => self.policy.upkeep.unwrap_or(LATER),
                Then::Again => SOON,
            };
            self.upkeep = Upkeep::At(self.some_time_after(now, pause));
        }
        Vec::new()
    }
}
