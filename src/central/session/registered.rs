//! What a registration waits for, and what an acknowledgement of the server shows to be safe.

use std::time::Duration;

use super::{Beat, Registered, UNANSWERED_MAX, Untaken};
use crate::clock::{Deadline, Moment};

impl Registered {
    pub(super) fn deadline(&self, heartbeat: Duration) -> Deadline {
        let beat = match self.beat {
            Beat::Resting { due } => Deadline { at: due, why: "the next heartbeat" },
            Beat::AskingForPresence { until, .. } => {
                Deadline { at: until, why: "whether the phone answers, before its heartbeat" }
            }
        };
        let answer = self
            .given_up_at(heartbeat)
            .map(|at| Deadline { at, why: "the central server's acknowledgement of the heartbeats" });
        Deadline::earlier(Some(beat), answer).unwrap_or(beat)
    }

    /// When the oldest unanswered heartbeat has waited for too long.
    pub(super) fn given_up_at(&self, heartbeat: Duration) -> Option<Moment> {
        let intervals = u32::try_from(UNANSWERED_MAX).unwrap_or(u32::MAX);
        (!self.unanswered.is_empty()).then(|| self.unanswered_since + heartbeat.saturating_mul(intervals))
    }

    /// The heartbeat `id` was acknowledged; TCP keeps the order, so earlier ones count as answered too.
    pub(super) fn acknowledge(&mut self, id: i64) -> Acknowledged {
        match self.unanswered.iter().position(|sent| *sent == id) {
            Some(at) => {
                self.unanswered.drain(..=at);
                Acknowledged::Heartbeat
            }
            None => Acknowledged::Other,
        }
    }

    /// The reports that `of` shows to be taken, an acknowledgement of one of them or of a heartbeat that was sent after them:
    /// the server takes what comes by one connection in its order.
    pub(super) fn taken(&mut self, of: i64, acknowledged: Acknowledged) -> Vec<i64> {
        let is_taken = |report: &mut Untaken| acknowledged.shows_taken(of, report.id);
        self.untaken.extract_if(.., is_taken).map(|report| report.message_id).collect()
    }
}

/// What an acknowledgement was for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Acknowledged {
    Heartbeat,
    Other,
}

impl Acknowledged {
    /// Whether the acknowledgement of our message `of` shows that the server has taken our message `id`.
    pub(super) fn shows_taken(self, of: i64, id: i64) -> bool {
        match self {
            Self::Heartbeat => id < of,
            Self::Other => id == of,
        }
    }
}
