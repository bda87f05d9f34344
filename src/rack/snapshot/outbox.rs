//! What is stored of agents' notices, as people see it.

use serde::{Deserialize, Serialize};

/// What is stored of the notices of a phone's agent, and what became of them since the daemon started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxView {
    /// Stored notices that the central server may not have.
    pub waiting: u64,
    /// What they take on the disk, in bytes.
    pub bytes: u64,
    /// Notices that the central server has refused for good: they are kept aside.
    pub refused: u64,
    /// Notices that grew too old and were removed.
    pub expired: u64,
    /// Notices that could no longer be read and were put aside.
    pub unreadable: u64,
    /// Notices that were on their way when a registration ended: they went again, and the server may have had them.
    pub maybe_twice: u64,
    /// Why nothing more is stored, as a sentence: agents' notices are not acknowledged then while the central server is away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

impl OutboxView {
    /// Whether there is nothing to be said of it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
