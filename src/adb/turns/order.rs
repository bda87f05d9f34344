//! Whose turn it is at a USB bus, as a core.
//!
//! The controller takes the *phones* of a bus in turn: who pushes to seven of eight has seven eighths of it. Here those who push
//! share it instead, each [`Party`] alike, however many phones it has. Bytes for a phone ask for a turn and hold it until they are
//! with the phone. As long as one party alone moves bytes, all are granted at once. While there are several, no more than
//! [`WINDOW`] is on the bus, which is enough to keep it busy, and the next turn is that of the party that has had least
//! (start-time fair queueing).
//!
//! What a phone has not taken after [`PATIENCE`], or on a slow bus after [`PATIENCE_MAX`], counts no more: the bus waits for none.
//!
//! Invariant: beyond the window a turn is granted only to a party that is alone, or of which nothing counts (`tests`).
//! Invariant: a party of which nothing counts waits for nobody (`tests`).
//! Invariant: each wish is granted in the end, even if no turn ever ends (`tests`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Deadline, Moment};

/// What is on a bus at once while several parties share it, in bytes: two messages of the longest, so that each of two parties
/// has one. Four transfers of 256 KiB fill a high-speed bus (measured).
pub const WINDOW: usize = 2 << 20;

/// For how long bytes on the bus count at least: a high-speed bus moves four windows in it. It is also how long a party without bytes
/// is still thought of as there, since many dialogues wait for an answer between two of their messages.
pub const PATIENCE: Duration = Duration::from_millis(200);

/// For how long they count at most. In between it is the time in which the bus moves [`PATIENCE_WINDOWS`]: were turns overdue before
/// a slow bus could carry them, nobody would be held back on it.
pub const PATIENCE_MAX: Duration = Duration::from_secs(1);

/// How many windows a bus moves before what is not with its phone counts no more.
const PATIENCE_WINDOWS: u64 = 4;

/// How fast a bus is, is told by the last bytes that it moved: so many at most, and half of these at least.
const PACE_BYTES: u64 = 8 << 20;

/// Up to this length a message needs no turn, in bytes: keys, clicks and acknowledgements come through whatever is pushed. They are
/// counted.
pub const SMALL: usize = 4 << 10;

/// Who moves bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// farmhand itself: rollouts, provisioning, the agents' tunnels.
    Rack,
    /// A person, by the name that the audit has.
    Person(Arc<str>),
}

/// A wish for a turn, and then the turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

#[derive(Debug)]
struct Wish {
    party: Party,
    bytes: usize,
}

#[derive(Debug)]
struct Turn {
    party: Party,
    bytes: usize,
    since: Moment,
    /// It is not overdue.
    counts: bool,
}

#[derive(Debug, Default)]
struct Standing {
    /// Where its next turn begins, on the scale of [`Order::newest`].
    had: u64,
    wishes: usize,
    turns: usize,
    /// What counts of its turns, in bytes.
    counted: usize,
    /// When it was last seen with bytes.
    seen: Option<Moment>,
}

/// What a bus has moved of late, and in what time.
#[derive(Debug, Default)]
struct Pace {
    /// Since when there is something on it that this does not have yet.
    busy_since: Option<Moment>,
    busy: Duration,
    bytes: u64,
}

impl Pace {
    fn begin(&mut self, now: Moment) {
        self.busy_since.get_or_insert(now);
    }

    /// So many bytes are with their phone; whether others are still on the bus.
    fn moved(&mut self, bytes: usize, others: bool, now: Moment) {
        // What was stuck for hours tells no more of the bus than what was stuck for a moment.
        self.busy += self.busy_since.map_or(Duration::ZERO, |since| now.since(since)).min(PATIENCE_MAX);
        self.busy_since = others.then_some(now);
        self.bytes += bytes as u64;
        if self.bytes > PACE_BYTES {
            (self.busy, self.bytes) = (self.busy / 2, self.bytes / 2);
        }
    }

    fn patience(&self) -> Duration {
        // No more than a message beyond the limit, so that these fit by far.
        let bytes = u32::try_from(self.bytes).unwrap_or(u32::MAX).max(1);
        let windows = u32::try_from(PATIENCE_WINDOWS * WINDOW as u64).unwrap_or(u32::MAX);
        self.busy.saturating_mul(windows).checked_div(bytes).unwrap_or(PATIENCE).clamp(PATIENCE, PATIENCE_MAX)
    }
}

/// The turns of one bus.
#[derive(Debug, Default)]
pub(super) struct Order {
    parties: BTreeMap<Party, Standing>,
    /// In the order in which they came.
    wishes: BTreeMap<Ticket, Wish>,
    turns: BTreeMap<Ticket, Turn>,
    /// What counts of all turns, in bytes.
    counted: usize,
    /// The latest beginning of a turn, in bytes that its party has had before. Nobody begins more than a window before it: turns
    /// that were not asked for can't be saved up.
    newest: u64,
    last: u64,
    pace: Pace,
}

impl Order {
    /// Asks for a turn of so many bytes: with which ticket, if one is needed. The tickets that come out are granted now; they need not
    /// be this one, since others may have left the bus meanwhile.
    pub(super) fn ask(&mut self, party: &Party, bytes: usize, now: Moment) -> (Option<Ticket>, Vec<Ticket>) {
        if bytes <= SMALL && self.is_idle() {
            return (None, Vec::new());
        }
        let floor = self.floor();
        let standing = self.parties.entry(party.clone()).or_default();
        if bytes <= SMALL {
            // Whoever says no more than that is not thought of as there: others need not be held back for it.
            standing.had = standing.had.max(floor).saturating_add(bytes as u64);
            return (None, Vec::new());
        }
        standing.seen = Some(now);
        standing.wishes += 1;
        self.last += 1;
        let ticket = Ticket(self.last);
        self.wishes.insert(ticket, Wish { party: party.clone(), bytes });
        (Some(ticket), self.serve(now))
    }

    /// Ends a turn, or takes a wish back. The tickets that come out are granted now.
    pub(super) fn end(&mut self, ticket: Ticket, now: Moment) -> Vec<Ticket> {
        if let Some(wish) = self.wishes.remove(&ticket) {
            if let Some(standing) = self.parties.get_mut(&wish.party) {
                standing.wishes -= 1;
            }
        } else if let Some(turn) = self.turns.remove(&ticket) {
            self.pace.moved(turn.bytes, !self.turns.is_empty(), now);
            let counted = if turn.counts { turn.bytes } else { 0 };
            self.counted -= counted;
            if let Some(standing) = self.parties.get_mut(&turn.party) {
                standing.turns -= 1;
                standing.counted -= counted;
                standing.seen = Some(now);
            }
        }
        if self.is_idle() {
            // Names of people must not pile up.
            self.parties.clear();
        }
        self.serve(now)
    }

    /// What is overdue at `now` counts no more. The tickets that come out are granted now.
    pub(super) fn advance(&mut self, now: Moment) -> Vec<Ticket> {
        let patience = self.pace.patience();
        for turn in self.turns.values_mut().filter(|turn| turn.counts && turn.since + patience <= now) {
            turn.counts = false;
            self.counted -= turn.bytes;
            if let Some(standing) = self.parties.get_mut(&turn.party) {
                standing.counted -= turn.bytes;
            }
        }
        self.serve(now)
    }

    /// When [`Order::advance`] has something to do for those who wait.
    #[must_use]
    pub(super) fn deadline(&self) -> Option<Deadline> {
        let oldest = self.turns.values().filter(|turn| turn.counts).map(|turn| turn.since).min();
        let oldest = oldest.filter(|_| !self.wishes.is_empty())?;
        Some(Deadline { at: oldest + self.pace.patience(), why: "a phone to take what is on the bus for it" })
    }

    fn serve(&mut self, now: Moment) -> Vec<Ticket> {
        let mut granted = Vec::new();
        while let Some(ticket) = self.next(now) {
            self.grant(ticket, now);
            granted.push(ticket);
        }
        granted
    }

    /// The wish that is granted next, if any may be.
    fn next(&self, now: Moment) -> Option<Ticket> {
        // Each party's first, and of these that of the party that has had least.
        let rank = |(ticket, wish): &(&Ticket, &Wish)| (self.standing_of(&wish.party).0, **ticket);
        let without = self.wishes.iter().filter(|(_, wish)| self.standing_of(&wish.party).1 == 0).min_by_key(rank);
        if let Some((ticket, _)) = without {
            return Some(*ticket);
        }
        let (ticket, wish) = self.wishes.iter().min_by_key(rank)?;
        let is_alone = self.parties.iter().all(|(party, standing)| *party == wish.party || !standing.is_there(now));
        (is_alone || self.counted.saturating_add(wish.bytes) <= WINDOW).then_some(*ticket)
    }

    /// Where a party's next turn begins, and what counts of its turns.
    fn standing_of(&self, party: &Party) -> (u64, usize) {
        self.parties.get(party).map_or((0, 0), |standing| (standing.had.max(self.floor()), standing.counted))
    }

    fn floor(&self) -> u64 {
        self.newest.saturating_sub(WINDOW as u64)
    }

    fn grant(&mut self, ticket: Ticket, now: Moment) {
        let Some(Wish { party, bytes }) = self.wishes.remove(&ticket) else { return };
        let floor = self.floor();
        let Some(standing) = self.parties.get_mut(&party) else { return };
        let start = standing.had.max(floor);
        self.newest = self.newest.max(start);
        standing.had = start.saturating_add(bytes as u64);
        standing.wishes -= 1;
        standing.turns += 1;
        standing.counted += bytes;
        standing.seen = Some(now);
        self.counted += bytes;
        self.pace.begin(now);
        self.turns.insert(ticket, Turn { party, bytes, since: now, counts: true });
    }

    fn is_idle(&self) -> bool {
        self.turns.is_empty() && self.wishes.is_empty()
    }
}

impl Standing {
    fn is_there(&self, now: Moment) -> bool {
        self.turns > 0 || self.wishes > 0 || self.seen.is_some_and(|seen| now.since(seen) < PATIENCE)
    }
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
