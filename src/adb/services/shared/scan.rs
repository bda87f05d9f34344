//! One scan of a file for many readers: which block is read next, which blocks are kept, and who is left behind.
//!
//! ```text
//!     block   0   1   2   3   4   5   6   7   8   9  10  11  12
//!                         └────── kept ───────┘
//!                         ▲       ▲   ▲       ▲
//!                     hindmost    readers     the foremost: has block 9 read, or waits while the window is full
//! ```
//!
//! Each reader takes all blocks in order, at its own speed; a block is read once for all of them, and dropped when the hindmost has taken
//! it. A foremost reader waits for room in the window, though not for ever: a hindmost that takes nothing for [`STALLED_MAX`] while others
//! wait is left behind, and a reader that has waited for [`WAITED_MAX`] and half of its time parts from the others. Sharing makes
//! nobody's reading longer than twice its own and ten seconds. Who is no longer a part of one scan goes on in another, or by itself.
//!
//! Invariant: at most `window` blocks are kept, and each is given out to whoever has yet to take it
//! (`tests::whatever_happens_each_reader_gets_each_block_once_and_the_window_holds`).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::clock::{Deadline, Moment};

/// How long a reader may take for one block while others wait for it. Readers that share a slow bus take turns: 32 of them at 30 MB/s need
/// a second for a block each.
pub(super) const STALLED_MAX: Duration = Duration::from_secs(2);
/// How long a reader waits for others in all, beside half of the time since it came.
pub(super) const WAITED_MAX: Duration = Duration::from_secs(5);
/// The part of its time that a reader may wait beside that, as a divisor.
const WAITED_PART: u32 = 2;
/// How long the first blocks are kept for those who begin with the first reader, but a little later.
pub(super) const GATHERING: Duration = Duration::from_millis(250);

/// One of a scan's readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ReaderId(u64);

/// What a reader does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It takes this block, and has the next one to come.
    Take(Bytes),
    /// It reads this block from the file for all, tells by [`Scan::loaded`] or [`Scan::failed`], and asks again.
    Load(u64),
    /// It asks again when the scan has changed, or then.
    Wait(Option<Deadline>),
    /// It is no longer a part of this scan, and goes on elsewhere from this block.
    Part(u64),
    /// There are no more blocks.
    End,
}

#[derive(Clone, Debug)]
enum Slot {
    Loading,
    Ready(Bytes),
    /// Whoever read it could not.
    Failed,
}

#[derive(Clone, Copy, Debug)]
struct Reader {
    next: u64,
    came: Moment,
    /// Its last block, or when it came.
    took: Moment,
    /// At the window's end.
    waits: bool,
    waited: Duration,
    /// It goes on elsewhere.
    gone: bool,
}

/// Blocks of one file, from some block on.
#[derive(Debug)]
pub(super) struct Scan {
    /// How many the file has.
    blocks: u64,
    window: usize,
    begun: Moment,
    /// The first one that is kept.
    oldest: u64,
    kept: VecDeque<Slot>,
    /// Whether everything from its begin on fits into the window, and stays.
    is_whole: bool,
    readers: BTreeMap<ReaderId, Reader>,
    readers_ever: u64,
    settled: Moment,
    /// Since when somebody waits at the window's end all the time.
    waited_since: Option<Moment>,
    changes: u64,
}

impl Scan {
    /// A scan of a file of `blocks` blocks that begins at block `first`. `window` is how many blocks are kept at most, 1 or more.
    pub(super) fn new(first: u64, blocks: u64, window: usize, now: Moment) -> Self {
        let window = window.max(1);
        Self {
            blocks,
            window,
            begun: now,
            oldest: first,
            kept: VecDeque::new(),
            is_whole: blocks.saturating_sub(first) <= window as u64,
            readers: BTreeMap::new(),
            readers_ever: 0,
            settled: now,
            waited_since: None,
            changes: 0,
        }
    }

    /// How many blocks it keeps at most.
    pub(super) fn window(&self) -> usize {
        self.window
    }

    /// Grows whenever somebody who waits is to ask again.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// A reader whose next block is `at`; none if that is no longer here, or not yet.
    pub(super) fn join(&mut self, at: u64, now: Moment) -> Option<ReaderId> {
        if !(self.oldest..=self.front()).contains(&at) {
            return None;
        }
        self.settle(now);
        let id = ReaderId(self.readers_ever);
        self.readers_ever += 1;
        let reader = Reader { next: at, came: now, took: now, waits: false, waited: Duration::ZERO, gone: false };
        self.readers.insert(id, reader);
        Some(id)
    }

    /// A reader ends, wherever it is.
    pub(super) fn leave(&mut self, id: ReaderId, now: Moment) {
        self.settle(now);
        self.readers.remove(&id);
        self.note_waiting(now);
        self.drop_taken(now);
        self.changes += 1;
    }

    /// What a reader does next.
    pub(super) fn step(&mut self, id: ReaderId, now: Moment) -> Step {
        self.settle(now);
        self.drop_taken(now);
        loop {
            let Some(&reader) = self.readers.get(&id) else { return Step::End };
            if reader.gone {
                return Step::Part(reader.next);
            }
            if reader.next >= self.blocks {
                return Step::End;
            }
            if let Some(step) = self.step_within(id, reader.next, now) {
                return step;
            }
            if self.kept.len() < self.window {
                self.kept.push_back(Slot::Loading);
                self.set_waits(id, false, now);
                return Step::Load(reader.next);
            }
            self.set_waits(id, true, now);
            let until = self.room_due(now).min(self.patience_ends(&reader, now));
            if until > now {
                let why = "room in the window of a file that is read once for many phones";
                return Step::Wait(Some(Deadline { at: until, why }));
            }
            if !self.leave_stalled_behind(now) {
                self.part(id, now);
            }
        }
    }

    /// A block was read. It may be that nobody wants it any more.
    pub(super) fn loaded(&mut self, index: u64, bytes: Bytes) {
        self.put(index, Slot::Ready(bytes));
    }

    /// A block could not be read; whoever wants it tries again.
    pub(super) fn failed(&mut self, index: u64) {
        self.put(index, Slot::Failed);
    }

    fn put(&mut self, index: u64, slot: Slot) {
        if let Some(place) = self.place(index) {
            *place = slot;
        }
        self.changes += 1;
    }

    fn place(&mut self, index: u64) -> Option<&mut Slot> {
        let at = usize::try_from(index.checked_sub(self.oldest)?).ok()?;
        self.kept.get_mut(at)
    }

    /// The first block that was never asked for.
    fn front(&self) -> u64 {
        self.oldest + self.kept.len() as u64
    }

    /// What comes of asking for a block in the window; nothing if it is beyond.
    fn step_within(&mut self, id: ReaderId, next: u64, now: Moment) -> Option<Step> {
        let slot = self.place(next)?;
        let step = match slot {
            Slot::Loading => Step::Wait(None),
            Slot::Failed => {
                *slot = Slot::Loading;
                Step::Load(next)
            }
            Slot::Ready(bytes) => Step::Take(bytes.clone()),
        };
        self.set_waits(id, false, now);
        if matches!(step, Step::Take(_)) {
            if let Some(reader) = self.readers.get_mut(&id) {
                reader.next += 1;
                reader.took = now;
            }
            self.drop_taken(now);
        }
        Some(step)
    }

    fn set_waits(&mut self, id: ReaderId, waits: bool, now: Moment) {
        if let Some(reader) = self.readers.get_mut(&id) {
            reader.waits = waits;
        }
        self.note_waiting(now);
    }

    fn note_waiting(&mut self, now: Moment) {
        let waits = self.in_step().any(|reader| reader.waits);
        self.waited_since = if waits { self.waited_since.or(Some(now)) } else { None };
    }

    fn in_step(&self) -> impl Iterator<Item = &Reader> {
        self.readers.values().filter(|reader| !reader.gone)
    }

    fn hindmost(&self) -> Option<u64> {
        self.in_step().map(|reader| reader.next).min()
    }

    /// Counts the time since the last look to whoever has waited.
    fn settle(&mut self, now: Moment) {
        let passed = now.since(self.settled);
        self.settled = self.settled.max(now);
        for reader in self.readers.values_mut().filter(|reader| reader.waits && !reader.gone) {
            reader.waited += passed;
        }
    }

    /// Drops what everybody has taken.
    fn drop_taken(&mut self, now: Moment) {
        if self.is_whole || now.since(self.begun) < GATHERING {
            return;
        }
        let hindmost = self.hindmost().unwrap_or(u64::MAX).min(self.front());
        while self.oldest < hindmost {
            self.kept.pop_front();
            self.oldest += 1;
            self.changes += 1;
        }
    }

    /// When this reader, which waits for room, waits no more.
    fn patience_ends(&self, reader: &Reader, now: Moment) -> Moment {
        let allowed = WAITED_MAX + now.since(reader.came) / WAITED_PART;
        now + allowed.saturating_sub(reader.waited)
    }

    /// When there is room at the latest: as the gathering ends, or as the first of the hindmost is left behind.
    fn room_due(&self, now: Moment) -> Moment {
        let gathered = self.begun + GATHERING;
        if now < gathered {
            return gathered;
        }
        let hindmost = self.hindmost();
        let holders = self.in_step().filter(|reader| Some(reader.next) == hindmost);
        holders.map(|holder| self.stalled_at(holder, now)).min().unwrap_or(now)
    }

    /// When a reader that others wait for has taken too long for its next block.
    fn stalled_at(&self, holder: &Reader, now: Moment) -> Moment {
        holder.took.max(self.waited_since.unwrap_or(now)) + STALLED_MAX
    }

    /// Leaves those behind who hold others up for too long. Whether there were any.
    fn leave_stalled_behind(&mut self, now: Moment) -> bool {
        let hindmost = self.hindmost();
        let is_stalled =
            |reader: &Reader| !reader.gone && Some(reader.next) == hindmost && self.stalled_at(reader, now) <= now;
        let stalled: Vec<ReaderId> =
            self.readers.iter().filter(|(_, reader)| is_stalled(reader)).map(|(id, _)| *id).collect();
        for id in &stalled {
            self.part(*id, now);
        }
        !stalled.is_empty()
    }

    /// From now on this reader is no part of the scan.
    fn part(&mut self, id: ReaderId, now: Moment) {
        if let Some(reader) = self.readers.get_mut(&id) {
            reader.gone = true;
        }
        self.changes += 1;
        self.note_waiting(now);
        self.drop_taken(now);
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
