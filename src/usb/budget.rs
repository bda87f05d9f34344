//! Who may have how many bytes in the kernel, as a core.
//!
//! Linux bounds the memory of all USB transfers of all programs together (`usbfs_memory_mb`, 16 MiB by default); a transfer over
//! it fails. So every transfer asks here first, and who gets nothing waits. Each direction of each handset is a [`Lane`]; while
//! many handsets are open each may hold an equal share only, so that one that stalls keeps nobody else waiting for long. Its two
//! directions share it, since hardly ever are both in use.
//!
//! Invariant: what is granted and not given back never passes the total.
//! Invariant: a lane that holds nothing is granted its next transfer as soon as the total allows it.

use std::collections::{BTreeMap, VecDeque};

/// What one transfer may carry at most. Larger ones gain nothing (measured: 4 × 256 KiB fill a high-speed bus).
pub const TRANSFER_MAX: usize = 256 * 1024;

/// What one transfer carries at least, when many handsets share little memory: four packets of USB 3.
pub const TRANSFER_MIN: usize = 4 * 1024;

/// What the kernel needs for a transfer besides its bytes: `struct async`, `struct urb` and a scatter list, rounded up.
pub const TRANSFER_OVERHEAD: usize = 1024;

/// `usbfs_memory_mb` where the kernel does not say.
const USBFS_MEBIBYTES_DEFAULT: usize = 16;

/// The total where the kernel sets no bound (`usbfs_memory_mb` is 0).
const TOTAL_UNBOUNDED: usize = 256 * 1024 * 1024;

/// One direction of one open handset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lane {
    handset: u64,
    direction: Direction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Direction {
    FromHandset,
    ToHandset,
}

/// A wish that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// The answer to a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The bytes are the lane's until they are given back.
    Granted,
    /// They will be: the ticket comes out of a later call.
    Waits(Ticket),
}

#[derive(Clone, Copy, Debug)]
struct Wish {
    ticket: Ticket,
    lane: Lane,
    bytes: usize,
}

/// The bytes of all handsets.
#[derive(Debug)]
pub struct Budget {
    total: usize,
    used: usize,
    lanes: BTreeMap<Lane, usize>,
    /// Whose lanes these are.
    handsets: usize,
    waiting: VecDeque<Wish>,
    next: u64,
}

impl Budget {
    /// A budget of three quarters of the kernel's bound, given as `usbfs_memory_mb` says it; the rest is left to other programs.
    #[must_use]
    pub fn of_usbfs_memory(mebibytes: Option<usize>) -> Self {
        let total = match mebibytes.unwrap_or(USBFS_MEBIBYTES_DEFAULT) {
            0 => TOTAL_UNBOUNDED,
            some => some.saturating_mul(1024 * 1024) / 4 * 3,
        };
        Self { total, used: 0, lanes: BTreeMap::new(), handsets: 0, waiting: VecDeque::new(), next: 0 }
    }

    /// The whole budget in bytes.
    #[must_use]
    pub fn total(&self) -> usize {
        self.total
    }

    /// Opens the lanes of a handset: from it, and to it.
    pub fn open_lanes(&mut self) -> (Lane, Lane) {
        let handset = self.number();
        let open = |direction| Lane { handset, direction };
        let lanes = (open(Direction::FromHandset), open(Direction::ToHandset));
        self.lanes.extend([(lanes.0, 0), (lanes.1, 0)]);
        self.handsets += 1;
        lanes
    }

    /// Closes a lane. Its wishes are dropped; what it still holds is given back later, as its transfers end.
    pub fn close_lane(&mut self, lane: Lane) -> Vec<Ticket> {
        self.waiting.retain(|wish| wish.lane != lane);
        let was_open = self.lanes.remove(&lane).is_some();
        let is_last = [Direction::FromHandset, Direction::ToHandset]
            .iter()
            .all(|direction| !self.lanes.contains_key(&Lane { direction: *direction, ..lane }));
        if was_open && is_last {
            self.handsets -= 1;
        }
        self.serve()
    }

    /// What the next transfer of any lane should carry at most, in bytes: half a handset's share, as a power of two, so that two
    /// are in flight even when memory is short.
    #[must_use]
    pub fn transfer_len(&self) -> usize {
        let half = self.share() / 2;
        let power = if half == 0 { 0 } else { 1 << half.ilog2() };
        power.clamp(TRANSFER_MIN, TRANSFER_MAX)
    }

    /// Asks for the bytes of one transfer, at most [`TRANSFER_MAX`] and its overhead.
    pub fn ask(&mut self, lane: Lane, bytes: usize) -> Answer {
        let ticket = Ticket(self.number());
        let wish = Wish { ticket, lane, bytes };
        let first = !self.waiting.iter().any(|earlier| earlier.lane == lane || !self.fits_total(earlier.bytes));
        if first && self.fits_lane(&wish) && self.fits_total(bytes) {
            self.grant(&wish);
            return Answer::Granted;
        }
        self.waiting.push_back(wish);
        Answer::Waits(ticket)
    }

    /// Gives back what a transfer was granted. The tickets that come out are granted now.
    pub fn give_back(&mut self, lane: Lane, bytes: usize) -> Vec<Ticket> {
        self.used = self.used.saturating_sub(bytes);
        if let Some(held) = self.lanes.get_mut(&lane) {
            *held = held.saturating_sub(bytes);
        }
        self.serve()
    }

    /// Takes a wish back that nobody waits for any more. The tickets that come out are granted now.
    pub fn withdraw(&mut self, ticket: Ticket) -> Vec<Ticket> {
        self.waiting.retain(|wish| wish.ticket != ticket);
        self.serve()
    }

    /// What the lanes of one handset may hold together.
    fn share(&self) -> usize {
        self.total / self.handsets.max(1)
    }

    fn serve(&mut self) -> Vec<Ticket> {
        let mut granted = Vec::new();
        let mut kept = VecDeque::with_capacity(self.waiting.len());
        while let Some(wish) = self.waiting.pop_front() {
            if !self.fits_total(wish.bytes) {
                // Whoever waits for the total waits before all that came later: else small wishes would starve a big one.
                kept.push_back(wish);
                break;
            }
            if self.fits_lane(&wish) {
                self.grant(&wish);
                granted.push(wish.ticket);
            } else {
                kept.push_back(wish);
            }
        }
        kept.append(&mut self.waiting);
        self.waiting = kept;
        granted
    }

    fn fits_total(&self, bytes: usize) -> bool {
        // Nothing else in flight: granted even if the kernel's bound is tiny, for the kernel to judge.
        self.used == 0 || self.used.saturating_add(bytes) <= self.total
    }

    fn fits_lane(&self, wish: &Wish) -> bool {
        let held = |direction| self.lanes.get(&Lane { direction, ..wish.lane }).copied().unwrap_or(0);
        let both = held(Direction::FromHandset) + held(Direction::ToHandset);
        held(wish.lane.direction) == 0 || both.saturating_add(wish.bytes) <= self.share()
    }

    fn grant(&mut self, wish: &Wish) {
        self.used = self.used.saturating_add(wish.bytes);
        if let Some(held) = self.lanes.get_mut(&wish.lane) {
            *held = held.saturating_add(wish.bytes);
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
