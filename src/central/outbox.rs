//! What is stored of one phone's notices, as its line sees it: what to store, what to load, and what the centre has taken.
//!
//! ```text
//!     numbers   0 ……………… gone ……………… taken ……………… loaded ……………… next
//!               removed    │ may go again  │ in memory:  │ on the disk   │ the next one
//!               from the   │ after a crash │ on its way, │ only          │ that is stored
//!               disk       │               │ or waits    │               │
//! ```
//!
//! A core: what it wants of the disk comes out of [`Outbox::ask`], what became of it goes into [`Outbox::answered`]. One write and one load
//! are under way at a time, so what comes meanwhile is stored together.
//!
//! Invariant: a stored notice is sent only while fewer than [`WINDOW`] before it are not removed from the disk: a crash makes no more
//! doubles than that (`a_crash_makes_at_most_a_window_of_doubles`).
//! Invariant: nothing counts as stored before the disk has said so (`nothing_that_was_acknowledged_is_lost`).

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::clock::{Deadline, Moment};
use crate::store::outbox::{Answer, Ask, Loaded, Notice, Standing, Write, Written};

/// Stored notices that may have been sent and may still be on the disk.
pub const WINDOW: u64 = 64;
/// So many that are taken are written down together, unless no more are coming.
const TAKEN_TOGETHER: u64 = WINDOW / 2;
/// Before a disk that refuses is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// So many may go at once before the pace counts.
const BURST: u32 = 16;

/// One phone's stored notices.
#[derive(Debug)]
pub struct Outbox {
    state: State,
    /// Whose notices these are: what the phone is registered as.
    owner: String,
    gone: u64,
    taken: u64,
    /// Taken, beyond `taken`.
    taken_beyond: BTreeSet<u64>,
    loaded: u64,
    next: u64,
    /// Whether [`Ask::Load`] is under way.
    loading: bool,
    /// What is being written.
    writing: Option<Writing>,
    /// To be kept aside: every write holds all of them, so that none is taken from the disk before it is kept.
    refused: VecDeque<Notice>,
    /// Until when a disk that refuses is left alone.
    rests_until: Option<Moment>,
    /// Until when nothing is stored, since there is no room.
    full_until: Option<Moment>,
    trouble: Option<String>,
    standing: Standing,
    pace: Pace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// There is no disk: all waits in memory.
    Without,
    /// It is not known yet what is stored.
    Unknown,
    /// It is being asked for.
    Asked,
    Known,
}

/// A write that is under way.
#[derive(Debug)]
struct Writing {
    taken: u64,
    stored: usize,
    refused: usize,
}

/// What an answer of the disk leads to.
#[derive(Debug, Default)]
pub struct Consequences {
    /// So many of the oldest that were to be stored are.
    pub stored: usize,
    /// These wait in memory now, with their numbers.
    pub loaded: Vec<(u64, Notice)>,
}

impl Outbox {
    /// A line without a disk.
    #[must_use]
    pub fn without() -> Self {
        Self::of(State::Without, Pace::new(1))
    }

    /// A line that stores, and sends at most so many stored notices a second.
    #[must_use]
    pub fn with_disk(per_second: u32) -> Self {
        Self::of(State::Unknown, Pace::new(per_second))
    }

    fn of(state: State, pace: Pace) -> Self {
        Self {
            state,
            owner: String::new(),
            gone: 0,
            taken: 0,
            taken_beyond: BTreeSet::new(),
            loaded: 0,
            next: 0,
            loading: false,
            writing: None,
            refused: VecDeque::new(),
            rests_until: None,
            full_until: None,
            trouble: None,
            standing: Standing::default(),
            pace,
        }
    }

    /// Another owner from now on; what is stored of the one before waits for it.
    pub fn become_of(&mut self, owner: &str) {
        let state = if self.state == State::Without { State::Without } else { State::Unknown };
        *self = Self { owner: owner.to_owned(), ..Self::of(state, self.pace) };
    }

    /// Whose notices these are.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Whether notices can be stored at all.
    #[must_use]
    pub fn has_disk(&self) -> bool {
        self.state != State::Without
    }

    /// Whether a notice may go to the centre straight away: nothing that came before it is only on the disk, or may be.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        let known = self.state == State::Known && self.loaded == self.next;
        self.state == State::Without || known && self.writing.as_ref().is_none_or(|writing| writing.stored == 0)
    }

    /// How many stored notices the centre may not have.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        (self.next - self.taken).saturating_sub(self.taken_beyond.len() as u64)
    }

    /// Those that are to be kept aside and are not yet.
    #[must_use]
    pub fn unkept(&self) -> usize {
        self.refused.len()
    }

    /// How the disk stood when it answered last.
    #[must_use]
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Why the disk does not take what it shall.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Whether the stored notice `number` may be sent as far as doubles go.
    #[must_use]
    pub fn is_in_window(&self, number: u64) -> bool {
        number < self.gone + WINDOW
    }

    /// Whether only the centre's word about what is on its way lets the stored notice `number` go.
    #[must_use]
    pub fn waits_for_centre(&self, number: u64) -> bool {
        number >= self.taken + WINDOW
    }

    /// When the pace lets the next stored notice go.
    #[must_use]
    pub fn free_at(&self) -> Moment {
        self.pace.free_at()
    }

    /// A stored notice is sent.
    pub fn sent(&mut self, now: Moment) {
        self.pace.sent(now);
    }

    /// The centre has taken the stored notice `number`.
    pub fn take(&mut self, number: u64) {
        if number >= self.taken {
            self.taken_beyond.insert(number);
        }
        while self.taken_beyond.remove(&self.taken) {
            self.taken += 1;
        }
        self.loaded = self.loaded.max(self.taken);
    }

    /// The centre has refused this for good; `number` if it is stored.
    pub fn refuse(&mut self, number: Option<u64>, notice: Notice) {
        self.refused.push_back(notice);
        number.into_iter().for_each(|number| self.take(number));
    }

    /// What was in memory of the stored ones is to be loaded anew, once the disk has answered what it was asked before.
    pub fn unload(&mut self) {
        self.loaded = self.taken;
    }

    /// When [`Self::ask`] may want something that it does not want now.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        let why = "the outbox to take what it shall store";
        let at = |at| Deadline { at, why };
        Deadline::earlier(self.rests_until.map(at), self.full_until.map(at))
    }

    /// The time of [`Self::deadline`] has come.
    pub fn advance(&mut self, now: Moment) {
        self.rests_until.take_if(|until| *until <= now);
        self.full_until.take_if(|until| *until <= now);
    }

    /// What is wanted of the disk now. `fresh` is what is to be stored, the oldest first, of which one write's worth is enough;
    /// `registered` whether the centre may take more; `room` whether more may be loaded.
    pub fn ask(&mut self, fresh: impl FnOnce() -> Vec<Notice>, registered: bool, room: bool) -> Option<Ask> {
        match self.state {
            State::Unknown if self.rests_until.is_none() && !self.owner.is_empty() => {
                self.state = State::Asked;
                Some(Ask::Restore)
            }
            State::Without | State::Unknown | State::Asked => None,
            State::Known => self.write(fresh, registered).map(Ask::Write).or_else(|| self.load(room)),
        }
    }

    fn write(&mut self, fresh: impl FnOnce() -> Vec<Notice>, registered: bool) -> Option<Write> {
        if self.writing.is_some() || self.rests_until.is_some() {
            return None;
        }
        let store = if self.full_until.is_none() { fresh() } else { Vec::new() };
        let untold = self.taken - self.gone;
        let tells = untold >= TAKEN_TOGETHER || untold > 0 && (self.waiting() == 0 || !registered);
        if store.is_empty() && self.refused.is_empty() && !tells {
            return None;
        }
        let refused: Vec<Notice> = self.refused.iter().cloned().collect();
        self.writing = Some(Writing { taken: self.taken, stored: store.len(), refused: refused.len() });
        Some(Write { taken: self.taken, first: self.next, store, refused })
    }

    fn load(&mut self, room: bool) -> Option<Ask> {
        if !room || self.loading || self.rests_until.is_some() || self.loaded == self.next {
            return None;
        }
        self.loading = true;
        Some(Ask::Load { from: self.loaded })
    }

    /// The disk says something about the notices of `owner`.
    pub fn answered(&mut self, owner: &str, answer: Answer, now: Moment) -> Consequences {
        if owner != self.owner {
            return Consequences::default();
        }
        match answer {
            Answer::Restored(Ok(standing)) => self.restored(standing),
            Answer::Written(Written::All(standing)) => return self.written(standing, None, now),
            Answer::Written(Written::ButNoRoom(standing)) => {
                let why = "there is no room in the outbox".to_owned();
                return self.written(standing, Some(why), now);
            }
            Answer::Loaded(Ok(loaded)) => return self.load_ended(loaded),
            Answer::Restored(Err(why)) => {
                self.state = State::Unknown;
                self.rest(why, now);
            }
            Answer::Written(Written::Nothing { why }) => {
                self.writing = None;
                self.rest(why, now);
            }
            Answer::Loaded(Err(why)) => {
                self.loading = false;
                self.rest(why, now);
            }
        }
        Consequences::default()
    }

    fn restored(&mut self, standing: Standing) {
        if self.state == State::Asked {
            self.state = State::Known;
            (self.gone, self.taken, self.loaded, self.next) =
                (standing.taken, standing.taken, standing.taken, standing.next.max(standing.taken));
            self.standing = standing;
            self.trouble = None;
        }
    }

    fn written(&mut self, standing: Standing, no_room: Option<String>, now: Moment) -> Consequences {
        let Some(writing) = self.writing.take() else { return Consequences::default() };
        self.gone = writing.taken;
        self.standing = standing;
        self.refused.drain(..writing.refused);
        let stored = if no_room.is_none() { writing.stored } else { 0 };
        self.full_until = no_room.is_some().then(|| now + RETRY_AFTER);
        self.trouble = no_room;
        self.next += stored as u64;
        Consequences { stored, loaded: Vec::new() }
    }

    fn load_ended(&mut self, loaded: Loaded) -> Consequences {
        // An answer to what was asked before a registration was lost is no answer any more.
        if !std::mem::take(&mut self.loading) || loaded.from != self.loaded {
            return Consequences::default();
        }
        // A disk that has nothing more of what it once stored has lost it, and says so in its standing.
        let end = if loaded.end <= self.loaded { self.next } else { loaded.end.min(self.next) };
        let there: BTreeSet<u64> = loaded.notices.iter().map(|(number, _)| *number).collect();
        for number in (self.loaded..end).filter(|number| !there.contains(number)) {
            self.taken_beyond.insert(number);
        }
        let (from, taken, beyond) = (self.loaded, self.taken, &self.taken_beyond);
        let is_wanted = |number: &u64| (from..end).contains(number) && *number >= taken && !beyond.contains(number);
        let notices = loaded.notices.into_iter().filter(|(number, _)| is_wanted(number)).collect();
        self.loaded = end;
        while self.taken_beyond.remove(&self.taken) {
            self.taken += 1;
        }
        Consequences { stored: 0, loaded: notices }
    }

    fn rest(&mut self, why: String, now: Moment) {
        self.rests_until = Some(now + RETRY_AFTER);
        self.trouble = Some(why);
    }
}

/// How fast stored notices go.
#[derive(Clone, Copy, Debug)]
struct Pace {
    each: Duration,
    /// When all that has gone would have gone at this pace.
    until: Moment,
}

impl Pace {
    fn new(per_second: u32) -> Self {
        Self { each: Duration::from_secs(1) / per_second.max(1), until: Moment::START }
    }

    fn free_at(&self) -> Moment {
        let burst = self.each.saturating_mul(BURST - 1);
        Moment::from_start(self.until.since_start().saturating_sub(burst))
    }

    fn sent(&mut self, now: Moment) {
        self.until = self.until.max(now) + self.each;
    }
}
