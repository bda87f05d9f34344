//! A handset whose interface was given to another program: it is neither opened nor recovered until somebody takes it back.
//!
//! What the bus tells meanwhile is remembered, so that taking it back begins with what is there.
//!
//! Invariant: of a place that is detached nothing is ordered but to leave it (`tests/sim` asserts it of every command).

use super::{Bus, Life, State, Wish};
use crate::clock::Moment;
use crate::phone::Command;
use crate::phone::ladder::Ladder;

/// What is at a place that is detached, as far as anybody tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum There {
    /// Nothing, and why.
    Nothing { why: String },
    /// A handset that could be opened.
    Handset,
    /// What the bus says of it, which no opening changes.
    Resting { state: Box<State>, why: String },
}

/// Whether somebody tells when a handset comes to a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// The bus does.
    Told,
    /// Nobody: it must be tried.
    Untold,
}

impl Life {
    /// Its interface goes to another program. A place of which nobody tells who comes is taken for one with a handset.
    pub fn detach(&mut self, now: Moment, arrivals: Arrivals, why: &str) -> Vec<Wish> {
        let there = match &self.state {
            State::Detached(_) => return Vec::new(),
            _ if arrivals == Arrivals::Untold => There::Handset,
            _ if self.bus == Bus::Away => There::Nothing { why: self.why.clone() },
            State::Absent => There::Nothing { why: self.why.clone() },
            State::NotEnumerated | State::OtherMode => {
                There::Resting { state: Box::new(self.state.clone()), why: self.why.clone() }
            }
            _ => There::Handset,
        };
        self.bus = Bus::There;
        self.disconnect();
        self.enter(now, State::Detached(there), why);
        vec![Wish::Actor(Command::Leave)]
    }

    /// It is taken back. A place of which nobody tells who comes is tried.
    pub fn attach(&mut self, now: Moment, arrivals: Arrivals) -> Vec<Wish> {
        let State::Detached(there) = &self.state else { return Vec::new() };
        let there = if arrivals == Arrivals::Untold { There::Handset } else { there.clone() };
        self.ladder = Ladder::new(self.policy.max_rung);
        // Another program may have done anything to it.
        self.profile = None;
        self.last_alive = None;
        match there {
            There::Handset => self.claim(now, None),
            There::Nothing { why } => {
                self.enter(now, State::Absent, &why);
                Vec::new()
            }
            There::Resting { state, why } => {
                self.enter(now, *state, &why);
                Vec::new()
            }
        }
    }

    /// Whether its interface was given to another program.
    #[must_use]
    pub fn is_detached(&self) -> bool {
        matches!(self.state, State::Detached(_))
    }

    /// Whether the bus, or the handset itself, says that something is there.
    #[must_use]
    pub fn is_here(&self) -> bool {
        match &self.state {
            State::Absent | State::NotEnumerated => false,
            State::Detached(there) => match there {
                There::Nothing { .. } => false,
                There::Handset => true,
                There::Resting { state, .. } => !matches!(**state, State::NotEnumerated),
            },
            _ => true,
        }
    }

    /// What is told of a place that is detached; whether it is one.
    pub(super) fn note_while_detached(&mut self, seen: There) -> bool {
        let State::Detached(there) = &mut self.state else { return false };
        *there = seen;
        true
    }
}
