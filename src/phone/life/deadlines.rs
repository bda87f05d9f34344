//! What a life waits for, and until when.

use super::{CLAIM_MAX, Life, Probe, Refresh, State, Work};
use crate::clock::Deadline;

impl Life {
    /// When [`Life::advance`] must be called, and why.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        let state = match &self.state {
            State::Absent | State::NotEnumerated | State::OtherMode | State::Ready | State::Detached(_) => None,
            State::Detected => Some(Deadline { at: self.since + CLAIM_MAX, why: "the order to open it" }),
            State::Claiming { until, .. } => Some(Deadline { at: *until, why: "its answer to CNXN" }),
            State::Restarting { until } => {
                Some(Deadline { at: *until, why: "the phone to come back from its restart" })
            }
            State::Authorising { until } => {
                Some(Deadline { at: *until, why: "somebody to allow this host on the phone's screen" })
            }
            State::Online { boot_until } => Some(Deadline { at: *boot_until, why: "Android to finish starting" }),
            State::Provisioning { work: Work::AgentLater { at, .. }, .. } => {
                Some(Deadline { at: *at, why: "the next try at installing the agent" })
            }
            State::Provisioning { until, .. } => Some(Deadline { at: *until, why: "an install to finish" }),
            State::Recovering { at, next } => Some(Deadline { at: *at, why: self.awaited(*next, *at) }),
            State::Quarantined { retry_at } => Some(Deadline { at: *retry_at, why: "the next try after quarantine" }),
        };
        let probe = match self.probe {
            Probe::Off => None,
            Probe::At(at) => Some(Deadline { at, why: "the next end-to-end probe" }),
            Probe::Asked { until } => Some(Deadline { at: until, why: "the answer to the end-to-end probe" }),
        };
        let refresh = match self.refresh {
            Refresh::Off => None,
            Refresh::At(at) => Some(Deadline { at, why: "the next reading of its profile" }),
            Refresh::Asked { until } => Some(Deadline { at: until, why: "the reading of its profile" }),
        };
        let over_adb = Deadline::earlier(probe, refresh);
        Deadline::earlier(state, Deadline::earlier(over_adb, self.upkeep_deadline()))
    }
}
