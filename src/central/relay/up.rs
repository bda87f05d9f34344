//! What the phone said and the centre may not have: kept in order until the centre shows that it has taken it.
//!
//! ```text
//!     agent ──▶ [ sent │ sent ┆ urgent ┆ stored, loaded ┆ fresh │ fresh ] ──▶ centre
//!                 oldest   at most SENT_MAX on their way       newest
//! ```
//!
//! While the centre is away, or something stored waits before them, fresh notices are stored ([`Outbox`]) and leave this queue once they
//! are; the centre gets them when they are loaded again. What is neither a notice nor a result is urgent then: nobody waits for it for
//! hours, and it is never stored. A notice that the centre answers by an Error goes again as the first of all notices, and alone
//! ([`Caution`]).
//!
//! Invariant: notices are sent in the order in which they came, and after a lost registration from the oldest on
//! (`what_the_centre_may_not_have_goes_to_its_next_registration_in_order`,
//! `what_was_refused_keeps_its_place_when_the_registration_is_lost`).
//! Invariant: at most [`FRAMES_MAX`] frames of the agent, and bytes up to [`BYTES_MAX`] and one frame, wait; until there is room again the
//! agent is not read (`an_agent_that_floods_is_held_back`).

use std::collections::VecDeque;

use bytes::Bytes;

use super::caution::Caution;
use crate::central::catalogue::{self, Kind};
use crate::central::outbox::{Consequences, Outbox};
use crate::clock::{Deadline, Moment};
use crate::config::Ack;
use crate::store::outbox::{Answer, Ask, BLOCK_BYTES_MAX, BLOCK_NOTICES_MAX, Notice};

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
    /// How many of those behind them go before all else, without a pace.
    urgent: usize,
    /// How many of those behind these are stored.
    loaded: usize,
    outbox: Outbox,
    /// As the owner set it.
    ack: Ack,
    /// How the centre of this registration shows what it has taken, as far as it has shown it.
    shows: Shows,
    caution: Caution,
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
    /// Whose it is; `None` if it is the rack's own, or was acknowledged to the agent when it was stored.
    pub(super) from: Option<Sender>,
    /// Its number in the outbox, if it is stored.
    pub(super) stored: Option<u64>,
    /// The Id under which it was sent to the centre.
    id: i64,
    sent_at: Moment,
    retries: u32,
    /// The Id under which this registration saw it first: its place among those that go again.
    turn: Option<i64>,
    /// Whether this registration has refused it.
    goes_again: bool,
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
    pub(super) fn new(ack: Ack, outbox: Outbox) -> Self {
        let shows = Shows::at_first(ack);
        Self {
            waiting: VecDeque::new(),
            bytes: 0,
            sent: 0,
            urgent: 0,
            loaded: 0,
            outbox,
            ack,
            shows,
            caution: Caution::default(),
            known: VecDeque::new(),
        }
    }

    pub(super) fn ack(&self) -> Ack {
        self.ack
    }

    pub(super) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Whether the agent may be read.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() + self.outbox.unkept() < FRAMES_MAX && self.bytes < BYTES_MAX
    }

    /// The phone says something; `registered` if the centre is there.
    pub(super) fn push(&mut self, said: Notice, from: Option<Sender>, registered: bool) {
        let waiting = Waiting::new(said, from, None);
        self.bytes += waiting.envelope.len();
        let flows = registered && self.outbox.is_clear() && !self.is_one_at_a_time(false);
        if flows || is_kept(waiting.msg_type) {
            self.waiting.push_back(waiting);
        } else {
            self.hurry(waiting);
        }
    }

    /// Before all that is not urgent; among those that are, what is no notice goes first, and notices go in their order.
    fn hurry(&mut self, waiting: Waiting) {
        let place = |waiting: &Waiting| (is_kept(waiting.msg_type), waiting.turn.unwrap_or(i64::MAX));
        let urgent = self.waiting.iter().skip(self.sent).take(self.urgent);
        let before = urgent.take_while(|other| place(other) <= place(&waiting)).count();
        self.waiting.insert(self.sent + before, waiting);
        self.urgent += 1;
    }

    /// The next frame to be sent, if one more may be on its way now.
    pub(super) fn next(&self, now: Moment) -> Option<&Waiting> {
        self.waiting.get(self.sent).filter(|waiting| {
            self.sent < SENT_MAX
                && !self.waits_its_turn(waiting)
                && match waiting.stored.filter(|_| self.urgent == 0) {
                    Some(number) => self.outbox.is_in_window(number) && self.outbox.free_at() <= now,
                    None => self.urgent > 0 || self.outbox.is_clear(),
                }
        })
    }

    /// When the pace of stored notices lets the next one go.
    pub(super) fn paced(&self) -> Option<Deadline> {
        let next = self.waiting.get(self.sent).filter(|_| self.urgent == 0 && self.sent < SENT_MAX)?;
        let number = next.stored.filter(|_| !self.waits_its_turn(next))?;
        let at = self.outbox.free_at();
        self.outbox.is_in_window(number).then_some(Deadline { at, why: "the pace at which stored notices go" })
    }

    /// Whether this notice waits until no other is on its way.
    fn waits_its_turn(&self, next: &Waiting) -> bool {
        is_kept(next.msg_type)
            && self.is_one_at_a_time(next.stored.is_some())
            && self.on_their_way().any(|waiting| is_kept(waiting.msg_type))
    }

    fn is_one_at_a_time(&self, stored: bool) -> bool {
        self.caution.is_one_at_a_time(stored, self.shows == Shows::Each)
    }

    /// That frame is on its way as `id`.
    pub(super) fn sent(&mut self, id: i64, now: Moment) {
        let Some(waiting) = self.waiting.get_mut(self.sent) else { return };
        (waiting.id, waiting.sent_at) = (id, now);
        waiting.turn.get_or_insert(id);
        let (from, stored) = (waiting.from, waiting.stored.is_some());
        if stored {
            self.outbox.sent(now);
        }
        self.sent += 1;
        self.is_no_longer_next(stored);
        if let Some(from) = from {
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
        self.is_no_longer_next(waiting.stored.is_some());
        if waiting.goes_again {
            self.caution.settled();
        }
        waiting.stored.into_iter().for_each(|number| self.outbox.take(number));
        Some(waiting)
    }

    fn is_no_longer_next(&mut self, stored: bool) {
        if self.urgent > 0 {
            self.urgent -= 1;
        } else if stored {
            self.loaded -= 1;
        }
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
        let next_waits = self.waiting.get(self.sent).is_some_and(|next| {
            self.waits_its_turn(next) || next.stored.is_some_and(|number| self.outbox.waits_for_centre(number))
        });
        let is_full = self.sent == SENT_MAX || next_waits;
        waits.then_some(if is_full { Urgency::Full } else { Urgency::Usual })
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
        self.take(at)
    }

    /// The centre has acknowledged heartbeat `id`: what was sent before it is taken, but for what it acknowledges itself.
    pub(super) fn barrier(&mut self, id: i64) -> Vec<Waiting> {
        let mut taken = Vec::new();
        let mut at = 0;
        while let Some(waiting) = self.waiting.get(at).filter(|_| at < self.sent) {
            if waiting.id < id && !self.is_acknowledged_itself(waiting) {
                taken.extend(self.take(at));
            } else {
                at += 1;
            }
        }
        taken
    }

    /// The centre has answered our message `id` by an Error.
    pub(super) fn refused(&mut self, id: i64) -> Refused {
        let Some(at) = self.on_their_way().position(|waiting| waiting.id == id) else { return Refused::NotOurs };
        let newest = self.on_their_way().map(|waiting| waiting.id).fold(id, i64::max);
        let Some(mut waiting) = self.remove(at) else { return Refused::NotOurs };
        if is_kept(waiting.msg_type) {
            self.caution.refused(newest);
        }
        if std::mem::take(&mut waiting.goes_again) {
            self.caution.settled();
        }
        if waiting.retries >= RETRIES_MAX || catalogue::lookup(waiting.msg_type).is_some_and(asks_for_an_answer) {
            if self.outbox.has_disk() && is_kept(waiting.msg_type) {
                self.outbox.refuse(waiting.stored, waiting.notice());
            }
            return Refused::ForGood(waiting);
        }
        waiting.retries += 1;
        if is_kept(waiting.msg_type) {
            waiting.goes_again = true;
            self.caution.owes();
        }
        self.bytes += waiting.envelope.len();
        self.hurry(waiting);
        Refused::Again
    }

    /// The registration is over: what was on its way may be lost, and another server may acknowledge in another way. How many frames were
    /// on their way.
    pub(super) fn lost(&mut self) -> u64 {
        self.shows = Shows::at_first(self.ack);
        self.caution = Caution::default();
        let sent = std::mem::take(&mut self.sent) as u64;
        // What was to go again came before what went behind it.
        self.waiting.make_contiguous().sort_by_key(|waiting| waiting.turn.unwrap_or(i64::MAX));
        self.waiting.iter_mut().for_each(|waiting| (waiting.turn, waiting.goes_again) = (None, false));
        if self.outbox.has_disk() {
            // What is stored is loaded anew, and the other notices are about to be stored.
            self.outbox.unload();
            let (kept, urgent): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.waiting)
                .into_iter()
                .filter(|waiting| waiting.stored.is_none())
                .partition(|waiting| is_kept(waiting.msg_type));
            (self.urgent, self.loaded) = (urgent.len(), 0);
            self.waiting = urgent;
            self.waiting.extend(kept);
            self.bytes = self.waiting.iter().map(|waiting| waiting.envelope.len()).sum();
        } else {
            self.urgent = 0;
        }
        sent
    }

    /// The phone is this device to the centre from now on: what it said as another one is not said as this one, and what is stored of that
    /// waits for it. How many frames were not stored.
    pub(super) fn become_of(&mut self, owner: &str) -> u64 {
        let forgotten = self.waiting.iter().filter(|waiting| waiting.stored.is_none()).count() as u64;
        let mut outbox = std::mem::replace(&mut self.outbox, Outbox::without());
        outbox.become_of(owner);
        *self = Self::new(self.ack, outbox);
        forgotten
    }

    /// What the outbox wants of the disk now.
    pub(super) fn ask(&mut self, registered: bool) -> Option<Ask> {
        let (fresh_at, stores) = (self.sent + self.urgent + self.loaded, !registered || !self.outbox.is_clear());
        let waiting = &self.waiting;
        let fresh = || if stores { block(waiting.iter().skip(fresh_at)) } else { Vec::new() };
        let room = registered && self.loaded < BLOCK_NOTICES_MAX / 2 && self.bytes < BYTES_MAX;
        self.outbox.ask(fresh, registered, room)
    }

    /// The disk has said something about what is the owner's; what is stored now and need no longer wait here.
    pub(super) fn disk_says(&mut self, owner: &str, answer: Answer, registered: bool, now: Moment) -> Vec<Waiting> {
        let Consequences { stored, loaded } = self.outbox.answered(owner, answer, now);
        let stored = self.leave(stored);
        if registered {
            for (number, notice) in loaded {
                self.bytes += notice.envelope.len();
                let at = self.sent + self.urgent + self.loaded;
                self.waiting.insert(at, Waiting::new(notice, None, Some(number)));
                self.loaded += 1;
            }
        } else if !loaded.is_empty() {
            self.outbox.unload();
        }
        stored
    }

    /// So many of the oldest fresh ones are stored, and wait here no longer.
    fn leave(&mut self, many: usize) -> Vec<Waiting> {
        let mut stored = Vec::with_capacity(many);
        let mut at = self.sent + self.urgent + self.loaded;
        while let Some(waiting) = self.waiting.get(at).filter(|_| stored.len() < many) {
            if is_kept(waiting.msg_type) {
                self.bytes -= waiting.envelope.len();
                stored.extend(self.waiting.remove(at));
            } else {
                at += 1;
            }
        }
        stored
    }

    /// As [`Outbox::deadline`].
    pub(super) fn disk_deadline(&self) -> Option<Deadline> {
        self.outbox.deadline()
    }

    pub(super) fn advance(&mut self, now: Moment) {
        self.outbox.advance(now);
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

    /// The centre has taken the frame at this place.
    fn take(&mut self, at: usize) -> Option<Waiting> {
        let taken = self.remove(at)?;
        taken.stored.into_iter().for_each(|number| self.outbox.take(number));
        if is_kept(taken.msg_type) {
            self.caution.taken(taken.id);
        }
        if taken.goes_again {
            self.caution.settled();
        }
        Some(taken)
    }

    fn remove(&mut self, at: usize) -> Option<Waiting> {
        let waiting = self.waiting.remove(at)?;
        self.bytes -= waiting.envelope.len();
        self.sent -= 1;
        Some(waiting)
    }
}

impl Waiting {
    fn new(said: Notice, from: Option<Sender>, stored: Option<u64>) -> Self {
        let Notice { msg_type, reference, envelope } = said;
        Self {
            envelope,
            msg_type,
            reference,
            from,
            stored,
            id: 0,
            sent_at: Moment::START,
            retries: 0,
            turn: None,
            goes_again: false,
        }
    }

    fn notice(&self) -> Notice {
        Notice { msg_type: self.msg_type, reference: self.reference, envelope: self.envelope.clone() }
    }
}

/// As many of these as one block holds.
fn block<'w>(waiting: impl Iterator<Item = &'w Waiting>) -> Vec<Notice> {
    let mut bytes = 0;
    let fits = |waiting: &&Waiting| {
        let fits = bytes < BLOCK_BYTES_MAX;
        bytes += waiting.envelope.len();
        fits
    };
    let kept = waiting.filter(|waiting| is_kept(waiting.msg_type));
    kept.take(BLOCK_NOTICES_MAX).take_while(fits).map(Waiting::notice).collect()
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

/// Whether a notice of this type is stored: results are notices, too, and of a code that nobody knows nobody waits for an answer here.
fn is_kept(msg_type: i32) -> bool {
    catalogue::lookup(msg_type).is_none_or(|entry| matches!(entry.kind, Kind::Notice | Kind::Result))
}

fn asks_for_an_answer(entry: &catalogue::Entry) -> bool {
    matches!(entry.kind, Kind::Request)
}
