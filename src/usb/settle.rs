//! Why a handset that has just arrived may not be opened yet, and how long that is waited for.
//!
//! libusb tells of an arrival before udev has set the permissions of its node, another program may look at it first, and the
//! node itself may come late. For [`SETTLE_TIME`] such a fault is the ordinary course of a plug; after it, it is shown.

use std::time::Duration;

use crate::adb::failure::OpenFault;
use crate::clock::{Deadline, Moment};

/// How long after its arrival a handset is given: udev's rules take 20 to 500 ms on a small host with a full rack.
pub const SETTLE_TIME: Duration = Duration::from_secs(3);

/// Between two attempts in that time.
pub const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// What to do about an attempt that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Try again then: the handset is settling.
    Retry(Deadline),
    /// Show the fault.
    Show,
}

/// Judges a fault that was met at `now` with a handset that arrived at `arrived`.
#[must_use]
pub fn judge(fault: OpenFault, arrived: Moment, now: Moment) -> Verdict {
    let passes = matches!(fault, OpenFault::NoPermission | OpenFault::Busy | OpenFault::Gone);
    let at = now + RETRY_INTERVAL;
    if passes && at <= arrived + SETTLE_TIME {
        Verdict::Retry(Deadline { at, why: "the handset's node to settle after its arrival" })
    } else {
        Verdict::Show
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Moment {
        Moment::from_start(Duration::from_millis(millis))
    }

    #[test]
    fn a_late_permission_is_waited_for_and_then_shown() {
        let arrived = ms(60_000);
        let mut now = arrived;
        let mut attempts = 1;
        while let Verdict::Retry(next) = judge(OpenFault::NoPermission, arrived, now) {
            assert_eq!(next.at - now, RETRY_INTERVAL);
            now = next.at;
            attempts += 1;
        }
        assert_eq!((attempts, now - arrived), (31, SETTLE_TIME));
    }

    #[test]
    fn a_handset_that_refuses_or_has_been_here_for_long_is_not_waited_for() {
        assert_eq!(judge(OpenFault::Protocol, ms(0), ms(0)), Verdict::Show);
        assert_eq!(judge(OpenFault::Unauthorised, ms(0), ms(0)), Verdict::Show);
        assert_eq!(judge(OpenFault::Busy, ms(0), ms(3_600_000)), Verdict::Show);
        assert!(matches!(judge(OpenFault::Busy, ms(0), ms(2_900)), Verdict::Retry(_)));
        assert!(matches!(judge(OpenFault::Gone, ms(0), ms(0)), Verdict::Retry(_)));
    }
}
