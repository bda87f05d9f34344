//! One connection from the phone: a stranger at first, the agent once it has shown the phone's identity.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::clock::{Deadline, Moment};

/// Frames that may wait for one connection before it is no longer read, and before tasks are no longer given to it.
pub(super) const WAITING_MAX: usize = 64;
/// The longest between a connection and its DeviceAuthReq.
const AUTH_MAX: Duration = Duration::from_secs(10);
/// A connection that takes no frame for so long is as good as gone.
const STALLED_MAX: Duration = Duration::from_secs(30);
/// An agent is silent when it has sent nothing for so many times the interval of heartbeats.
const SILENT_HEARTBEATS: u32 = 3;
/// The shortest silence that ends a connection, in the protocol's own interval of heartbeats.
const SILENT_MIN: Duration = Duration::from_secs(180);

/// One connection from the phone.
#[derive(Debug)]
pub(super) struct Peer {
    /// The shell's name for it.
    pub(super) number: u64,
    /// What the agent must name once it is let in.
    pub(super) token: String,
    since: Moment,
    heard: Moment,
    waiting: VecDeque<Bytes>,
    /// Since when the frame that is next has waited.
    waits_since: Moment,
    /// The codes whose refusal is in the audit already.
    refused: BTreeSet<i32>,
}

impl Peer {
    pub(super) fn new(number: u64, token: String, now: Moment) -> Self {
        let (waiting, refused) = (VecDeque::new(), BTreeSet::new());
        Self { number, token, since: now, heard: now, waiting, waits_since: now, refused }
    }

    pub(super) fn speaks(&mut self, now: Moment) {
        self.heard = now;
    }

    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn push(&mut self, frame: Bytes, now: Moment) {
        if self.waiting.is_empty() {
            self.waits_since = now;
        }
        self.waiting.push_back(frame);
    }

    pub(super) fn take(&mut self, now: Moment) -> Option<Bytes> {
        self.waits_since = now;
        self.waiting.pop_front()
    }

    /// What was pushed last is not to be sent.
    pub(super) fn take_back(&mut self) {
        self.waiting.pop_back();
    }

    /// Whether a refusal of this type is worth a line of the audit: the first one on this connection is.
    pub(super) fn is_news(&mut self, msg_type: i32) -> bool {
        self.refused.len() < WAITING_MAX && self.refused.insert(msg_type)
    }

    /// When a connection that has not named the phone's identity ends.
    pub(super) fn auth_deadline(&self) -> Deadline {
        Deadline { at: self.since + AUTH_MAX, why: "the DeviceAuthReq of whoever connected from the phone" }
    }

    /// When an agent that says nothing ends.
    pub(super) fn silence_deadline(&self, heartbeat: Duration) -> Deadline {
        let silent = heartbeat.saturating_mul(SILENT_HEARTBEATS).max(SILENT_MIN);
        Deadline { at: self.heard + silent, why: "a heartbeat of the agent on the phone" }
    }

    /// When a connection that takes nothing ends.
    pub(super) fn stalled_deadline(&self) -> Option<Deadline> {
        let at = self.waits_since + STALLED_MAX;
        self.has_waiting().then_some(Deadline { at, why: "the agent on the phone to take what is for it" })
    }
}
