//! The host's clocks, for the shells: moments from the monotonic clock, wall time for people.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::clock::{Moment, UnixMillis};

/// A wall clock that moved further than this against the monotonic one was set: a Raspberry Pi has no battery for its clock, and
/// learns the time from the network minutes after the start.
const CLOCK_SET: Duration = Duration::from_secs(2);

/// The clocks since the start of the daemon.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
    epoch: UnixMillis,
}

impl Clock {
    /// Starts counting now.
    #[must_use]
    pub(super) fn start() -> Self {
        Self { start: Instant::now(), epoch: wall_now() }
    }

    /// The wall time from which moments are counted.
    #[must_use]
    pub(super) fn epoch(&self) -> UnixMillis {
        self.epoch
    }

    /// Now, for a core.
    #[must_use]
    pub(super) fn now(&self) -> Moment {
        Moment::from_start(self.start.elapsed())
    }

    /// The instant of a moment, for a timer.
    #[must_use]
    pub(super) fn instant(&self, moment: Moment) -> Instant {
        self.start + moment.since_start()
    }

    /// The new epoch, if the wall clock was set since the last look.
    pub(super) fn was_set(&mut self) -> Option<UnixMillis> {
        let expected = self.epoch.plus(self.start.elapsed());
        let drift = wall_now().0 - expected.0;
        if Duration::from_millis(drift.unsigned_abs()) < CLOCK_SET {
            return None;
        }
        self.epoch = UnixMillis(self.epoch.0 + drift);
        Some(self.epoch)
    }
}

fn wall_now() -> UnixMillis {
    // A clock before 1970 reads as 1970.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
