//! What the owner wants to be so on a phone beside the agent's version: permissions, settings, exemptions, and that the agent runs.
//!
//! ```text
//!     getprop, dumpsys package ──▶ recipes of the ROM ──▶ Aim… ──▶ look ──▶ as wanted
//!                                                                  │ └────▶ otherwise ──▶ set ──▶ look again ──▶ set, or refused
//!                                                                  └──────▶ not on this phone, not to be read, for a hand
//! ```
//!
//! One [`pass`] looks at everything and sets only what is not so. Each aim has a result of its own, and none of them keeps a phone from
//! being ready; what the model makes of a row of reports, such as how often a setting was lost, is in [`crate::rack::snapshot`].
//!
//! Invariant: what is as wanted, or cannot be read, is not set (`pass::tests`).
//! Invariant: a pass ends, whatever the phone answers (`pass::tests`).

pub mod aim;
#[cfg(feature = "daemon")]
pub mod pass;
#[cfg(feature = "daemon")]
pub mod recipe;

/// What a pass came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The recipes of its ROM that were used, for people.
    pub recipes: Vec<String>,
    /// Each aim, by the name that people and metrics know it by, in order.
    pub results: Vec<(String, AimResult)>,
}

impl Report {
    /// How many aims were set because they were otherwise.
    #[must_use]
    pub fn set(&self) -> usize {
        self.results.iter().filter(|(_, result)| matches!(result, AimResult::Set { .. })).count()
    }
}

/// What became of one aim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AimResult {
    /// It was as wanted, and nothing was done.
    Kept,
    /// It was otherwise, was set, and is as wanted now.
    Set {
        /// What it was, as a clause.
        was: String,
    },
    /// It was otherwise, and still is after it was set.
    Refused {
        /// What it was, as a clause.
        was: String,
        /// What was seen, as a clause.
        why: String,
    },
    /// It could not be read, so that it was not set.
    Unread {
        /// What was seen, as a clause.
        why: String,
    },
    /// This phone has no such thing.
    NotHere {
        /// Why, as a clause.
        why: String,
    },
    /// Only a hand can do it, and nothing shows whether one did.
    Hand {
        /// What is to be done on the phone.
        what: String,
    },
}
