//! What a person would want to know of what the model took in: the story that the log tells.

use super::ids::{HubName, HubPort, PhoneId, RolloutId};
use super::snapshot::{HubState, LineState, PhoneState, PortMode, RolloutState};

/// Something that a person would want to know.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A phone, or a place whose phone is not known yet, is in a new state.
    Phone {
        /// The slot or endpoint, and the phone's id where it is known.
        name: String,
        /// Before.
        from: PhoneState,
        /// Now.
        to: PhoneState,
        /// Why.
        why: String,
    },
    /// A phone is in another place than before.
    Moved {
        /// Which.
        phone: PhoneId,
        /// Its slot or endpoint before.
        from: String,
        /// Its slot or endpoint now.
        to: String,
    },
    /// A phone has another name than before: more is known of it, or its serial has turned out not to be unique.
    Renamed {
        /// Its name before.
        from: PhoneId,
        /// Its name now.
        to: PhoneId,
        /// Why.
        why: String,
    },
    /// A line is in a new state.
    Line {
        /// Whose.
        phone: PhoneId,
        /// Now.
        state: LineState,
        /// Why.
        why: String,
    },
    /// Something happened that a person should see to: it stands among the snapshot's alerts.
    Alert {
        /// Whose line.
        phone: PhoneId,
        /// What happened.
        what: String,
    },
    /// Several phones failed together: what they hang on is in trouble, and they wait for each other.
    Incident {
        /// Its number.
        number: u64,
        /// What happened.
        what: String,
    },
    /// Somebody has a phone to himself, or has given it back.
    Lease {
        /// Which.
        phone: PhoneId,
        /// What happened, as a sentence.
        what: String,
    },
    /// An incident is over.
    IncidentOver {
        /// Its number.
        number: u64,
        /// What hung on which ancestor, and how it ended.
        what: String,
    },
    /// A rollout is in a new state, or was not known before.
    Rollout {
        /// Which.
        rollout: RolloutId,
        /// Now.
        state: RolloutState,
        /// Why.
        why: String,
    },
    /// A hub's readings became old, or current again.
    Hub {
        /// Which.
        hub: HubName,
        /// Now.
        state: HubState,
        /// Why.
        why: String,
    },
    /// A port of a hub was asked to change its mode.
    PortSwitched {
        /// Which.
        hub: HubName,
        /// Its port.
        port: HubPort,
        /// The mode.
        mode: PortMode,
        /// Who asked for it, and why.
        why: String,
    },
}
