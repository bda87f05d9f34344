//! What the scanner keeps of the bus, for whoever opens a handset on it; and the clock of both.

use tokio::time::Instant;

use super::ports::PortWatch;
use super::roster::Roster;
use crate::clock::Moment;

/// The bus as the last scan has left it.
#[derive(Clone, Debug, Default)]
pub(super) struct Picture {
    /// Rises with each scan.
    pub(super) scans: u64,
    pub(super) roster: Roster,
    pub(super) ports: PortWatch,
}

/// Moments of this module, counted from the start of the bus.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    /// One that starts now.
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(self) -> Moment {
        Moment::from_start(self.0.elapsed())
    }

    pub(super) fn instant(self, at: Moment) -> Instant {
        self.0 + at.since_start()
    }
}
