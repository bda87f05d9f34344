//! What several phones have in common at the moment, as a snapshot shows it.

use serde::{Deserialize, Serialize};

use crate::clock::UnixMillis;
use crate::rack::ids::{Endpoint, PhoneId};

/// Several phones under one hub or controller that failed together, while they wait for each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentView {
    /// Rises by one with each incident since the daemon started.
    pub number: u64,
    /// What they all hang on, such as `USB hub 1-2`.
    pub ancestor: String,
    /// What happened, as a sentence.
    pub what: String,
    /// When it began.
    pub since: UnixMillis,
    /// Until when its phones wait at the latest: then each is recovered by itself.
    pub until: UnixMillis,
    /// Its phones.
    pub phones: Vec<IncidentPhone>,
}

/// A phone of an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentPhone {
    /// Which, where it is known.
    pub phone: Option<PhoneId>,
    /// Where it failed.
    pub endpoint: Endpoint,
    /// Whether it answers again.
    pub answers: bool,
}
