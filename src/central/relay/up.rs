//! What the phone said and the centre may not have: kept in order until the centre shows that it has taken it.
//!
//! ```text
//!     agent ──▶ [ sent │ sent │ sent ┆ waits │ waits ] ──▶ centre
//!                 oldest      at most SENT_MAX     newest
//! ```
//!
//! Invariant: what waits is sent in the order in which it came, and after a lost registration from the oldest on
//! (`what_the_centre_may_not_have_goes_to_its_next_registration_in_order`).
//! Invariant: at most [`FRAMES_MAX`] frames of the agent, and bytes up to [`BYTES_MAX`] and one frame, wait; until there is room again the
//! agent is not read (`an_agent_that_floods_is_held_back`).

use std::collections::VecDeque;

use bytes::Bytes;

use crate::central::catalogue::{self, Kind};
use crate::clock::Moment;
use crate::config::Ack;

/// Frames that may wait for the centre.
pub(super) const FRAMES_MAX: usize = 256;
/// Bytes that may wait before the agent is no longer read.
pub(super) const BYTES_MAX: usize = 1 << 20;
/// Frames that may be on their way without being known to be taken: so many may arrive twice after a lost registration, no more.
pub(super) const SENT_MAX: usize = 64;
/// So often a notice that the centre answers by an Error is sent again.
const RETRIES_MAX: u32 = 3;
/// Messages whose Ids are known for answers of the centre: an answer to an older one names none.
const KNOWN_MAX: usize = 1024;

/// What waits to be taken by the centre.
#[derive(Debug)]
pub(super) struct Up {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// How many of them, from the oldest on, are on their way.
    sent: usize,
    /// As the owner set it.
    ack: Ack,
    /// How the centre of this registration shows what it has taken, as far as it has shown it.
    shows: Shows,
    known: VecDeque<Known>,
}

/// One frame of the phone.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    /// The envelope as the agent sent it, or one of the rack's own.
    pub(super) envelope: Bytes,
    pub(super) msg_type: i32,
    /// What its RefMessageId shall be.
    pub(super) reference: i64,
    /// Whose it is; `None` if it is the rack's own.
    pub(super) from: Option<Sender>,
    /// The Id under which it was sent to the centre.
    id: i64,
    sent_at: Moment,
    retries: u32,
}

/// A connection of the agent, and the Id of its message on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sender {
    pub(super) connection: u64,
    pub(super) id: i64,
}

/// A message that was sent to the centre as `id`.
#[derive(Clone, Copy, Debug)]
struct Known {
    id: i64,
    from: Sender,
}

/// How the centre shows that it has taken a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shows {
    /// By the acknowledgement of a heartbeat that followed it.
    ByBarrier,
    /// It acknowledges each.
    Each,
}

/// What becomes of a message that the centre has answered by an Error.
#[derive(Debug)]
pub(super) enum Refused {
    /// It is none of these.
    NotOurs,
    /// It goes once more.
    Again,
    /// It has been sent often enough, or asks for an answer, of which the Error is one.
    ForGood(Waiting),
}

impl Up {
    pub(super) fn new(ack: Ack) -> Self {
        let shows = Shows::at_first(ack);
        Self { waiting: VecDeque::new(), bytes: 0, sent: 0, ack, shows, known: VecDeque::new() }
    }

    /// Whether the agent may be read.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < FRAMES_MAX && self.bytes < BYTES_MAX
    }

    pub(super) fn push(&mut self, envelope: Bytes, msg_type: i32, reference: i64, from: Option<Sender>) {
        self.bytes += envelope.len();
        let waiting = Waiting { envelope, msg_type, reference, from, id: 0, sent_at: Moment::START, retries: 0 };
        self.waiting.push_back(waiting);
    }

    /// The next frame to be sent, if one more may be on its way.
    pub(super) fn next(&self) -> Option<&Waiting> {
        self.waiting.get(self.sent).filter(|_| self.sent < SENT_MAX)
    }

    /// That frame is on its way as `id`.
    pub(super) fn sent(&mut self, id: i64, now: Moment) {
        let Some(waiting) = self.waiting.get_mut(self.sent) else { return };
        (waiting.id, waiting.sent_at) = (id, now);
        self.sent += 1;
        if let Some(from) = waiting.from {
            if self.known.len() >= KNOWN_MAX {
                self.known.pop_front();
            }
            self.known.push_back(Known { id, from });
        }
    }

    /// That frame cannot be sent at all; it is dropped.
    pub(super) fn skip(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.remove(self.sent)?;
        self.bytes -= waiting.envelope.len();
        Some(waiting)
    }

    /// Whose message the centre means by `id`; `None` if it is no known one of the agent.
    pub(super) fn sender_of(&self, id: i64) -> Option<Sender> {
        let at = self.known.binary_search_by_key(&id, |known| known.id).ok()?;
        self.known.get(at).map(|known| known.from)
    }

    /// Whether something is on its way that only the acknowledgement of a later heartbeat will show to be taken, and whether nothing
    /// more may go before that.
    pub(super) fn wants_barrier(&self) -> Option<Urgency> {
        let waits = self.on_their_way().any(|waiting| !self.is_acknowledged_itself(waiting));
        waits.then_some(if self.sent == SENT_MAX { Urgency::Full } else { Urgency::Usual })
    }

    /// Since when the oldest frame that the centre must acknowledge itself is on its way.
    pub(super) fn unacknowledged_since(&self) -> Option<Moment> {
        self.on_their_way().filter(|waiting| self.is_acknowledged_itself(waiting)).map(|w| w.sent_at).min()
    }

    /// The centre acknowledges our message `id`; what that was, if it is one of these.
    pub(super) fn acknowledged(&mut self, id: i64) -> Option<Waiting> {
        let waiting = self.answered(id)?;
        if self.ack == Ack::Auto && acknowledges_itself(waiting.msg_type) {
            self.shows = Shows::Each;
        }
        Some(waiting)
    }

    /// The centre answers our message `id` in some way; what that was, if it is one of these.
    pub(super) fn answered(&mut self, id: i64) -> Option<Waiting> {
        let at = self.on_their_way().position(|waiting| waiting.id == id)?;
        self.remove(at)
    }

    /// The centre has acknowledged heartbeat `id`: what was sent before it is taken, but for what it acknowledges itself.
    pub(super) fn barrier(&mut self, id: i64) -> Vec<Waiting> {
        let mut taken = Vec::new();
        let mut at = 0;
        while let Some(waiting) = self.waiting.get(at).filter(|_| at < self.sent) {
            if waiting.id < id && !self.is_acknowledged_itself(waiting) {
                taken.extend(self.remove(at));
            } else {
                at += 1;
            }
        }
        taken
    }

    /// The centre has answered our message `id` by an Error.
    pub(super) fn refused(&mut self, id: i64) -> Refused {
        let Some(at) = self.on_their_way().position(|waiting| waiting.id == id) else { return Refused::NotOurs };
        let Some(mut waiting) = self.remove(at) else { return Refused::NotOurs };
        if waiting.retries >= RETRIES_MAX || catalogue::lookup(waiting.msg_type).is_some_and(asks_for_an_answer) {
            return Refused::ForGood(waiting);
        }
        waiting.retries += 1;
        self.bytes += waiting.envelope.len();
        // Next in turn: behind what is on its way, before what has not gone at all.
        self.waiting.insert(self.sent, waiting);
        Refused::Again
    }

    /// The registration is over: what was on its way may be lost, and another server may acknowledge in another way. How many frames were
    /// on their way.
    pub(super) fn lost(&mut self) -> u64 {
        self.shows = Shows::at_first(self.ack);
        std::mem::take(&mut self.sent) as u64
    }

    /// The phone is another device to the centre: what it said as the one from before is not said as the other. How many frames that
    /// were.
    pub(super) fn forget(&mut self) -> u64 {
        let forgotten = self.waiting.len() as u64;
        *self = Self::new(self.ack);
        forgotten
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    fn on_their_way(&self) -> impl Iterator<Item = &Waiting> {
        self.waiting.iter().take(self.sent)
    }

    fn is_acknowledged_itself(&self, waiting: &Waiting) -> bool {
        self.shows == Shows::Each && acknowledges_itself(waiting.msg_type)
    }

    fn remove(&mut self, at: usize) -> Option<Waiting> {
        let waiting = self.waiting.remove(at)?;
        self.bytes -= waiting.envelope.len();
        self.sent -= 1;
        Some(waiting)
    }
}

/// How soon a heartbeat is wanted that shows what was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    Usual,
    /// Nothing more may go before.
    Full,
}

impl Shows {
    fn at_first(ack: Ack) -> Self {
        match ack {
            Ack::Auto | Ack::Barrier => Self::ByBarrier,
            Ack::Each => Self::Each,
        }
    }
}

/// Whether a centre that acknowledges each message acknowledges this type: notices, and results, which are notices, too.
fn acknowledges_itself(msg_type: i32) -> bool {
    catalogue::lookup(msg_type).is_some_and(|entry| matches!(entry.kind, Kind::Notice | Kind::Result))
}

fn asks_for_an_answer(entry: &catalogue::Entry) -> bool {
    matches!(entry.kind, Kind::Request)
}
