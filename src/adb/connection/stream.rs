//! One stream: what waits to be sent, what is on its way, and what came and was not consumed.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::event::{EndReason, Violation};
use crate::clock::{Deadline, Moment};

/// How many bytes a stream takes before it is full: one payload on its way and one that fills meanwhile.
pub const SEND_QUEUE_BYTES: usize = 2 << 20;

/// What may be on its way on one stream in each direction, in bytes, with delayed acknowledgement and if nothing else is wanted. adbd tells a
/// window of 32 MiB and queues all of it: whatever is asked on another stream meanwhile waits behind that.
pub const WINDOW: u32 = 4 << 20;

/// Where a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// OPEN was sent or waits to be sent.
    Opening {
        /// The handset's answer must be here by then.
        until: Deadline,
    },
    /// The handset sent OPEN.
    Asked {
        /// This side must have answered by then.
        until: Deadline,
    },
    /// Data may flow.
    Open,
}

/// How data is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acknowledgement {
    /// One WRTE, then its OKAY.
    Each,
    /// OKAY counts bytes; up to a window may be on their way.
    Delayed {
        /// This host's own, in bytes: what it tells the handset, and the most of the handset's that it uses.
        window: u32,
    },
}

impl Acknowledgement {
    /// What an OPEN or its OKAY tells, in bytes.
    pub(super) const fn window(self) -> u32 {
        match self {
            Self::Each => 0,
            Self::Delayed { window } => window,
        }
    }
}

/// A stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) phase: Phase,
    /// The handset's number for it; 0 while it is not known.
    pub(super) remote: u32,
    acknowledgement: Acknowledgement,
    outgoing: VecDeque<Bytes>,
    outgoing_len: usize,
    /// Somebody was told that it is full.
    full: bool,
    /// Nothing more will be given for sending: the stream ends behind the last byte.
    finishing: bool,
    /// What is sent without an acknowledgement, in bytes.
    window: u64,
    /// Bytes on their way to the handset.
    unacknowledged: u64,
    /// When the last of them must be acknowledged.
    stalled_at: Option<Moment>,
    /// Bytes that came and were neither consumed nor acknowledged.
    unconsumed: u64,
    /// Bytes that were consumed but not acknowledged.
    pub(super) owed: u64,
    /// In the connection's turns for OKAY and WRTE.
    pub(super) in_okays: bool,
    pub(super) in_writes: bool,
    /// The handset opened it.
    pub(super) incoming: bool,
}

impl Stream {
    pub(super) fn new(phase: Phase, remote: u32, acknowledgement: Acknowledgement) -> Self {
        Self {
            phase,
            remote,
            acknowledgement,
            outgoing: VecDeque::new(),
            outgoing_len: 0,
            full: false,
            finishing: false,
            window: 0,
            unacknowledged: 0,
            stalled_at: None,
            unconsumed: 0,
            owed: 0,
            in_okays: false,
            in_writes: false,
            incoming: false,
        }
    }

    /// Takes the window that the handset told when the stream was opened, in bytes.
    pub(super) fn opened(&mut self, window: u64) -> Result<(), Violation> {
        if window == 0 {
            return Err(Violation::NoWindow);
        }
        self.phase = Phase::Open;
        self.window = match self.acknowledgement {
            Acknowledgement::Each => window,
            Acknowledgement::Delayed { window: own } => window.min(own.into()),
        };
        Ok(())
    }

    /// The wait that ends first, with the reason.
    pub(super) fn deadline(&self) -> Option<Deadline> {
        match self.phase {
            Phase::Opening { until } | Phase::Asked { until } => Some(until),
            Phase::Open => self.stalled_at.map(|at| Deadline { at, why: "the acknowledgement of what was written" }),
        }
    }

    /// Takes bytes for sending.
    pub(super) fn push(&mut self, bytes: Bytes) -> Result<(), Bytes> {
        if self.finishing {
            return Err(bytes);
        }
        if self.outgoing_len > 0 && self.outgoing_len + bytes.len() > SEND_QUEUE_BYTES {
            self.full = true;
            return Err(bytes);
        }
        if !bytes.is_empty() {
            self.outgoing_len += bytes.len();
            self.outgoing.push_back(bytes);
        }
        Ok(())
    }

    /// Takes no more bytes. Returns whether some are left to be sent.
    pub(super) fn finish(&mut self) -> bool {
        self.finishing = true;
        self.outgoing_len > 0
    }

    /// Whether it ends now: all was sent.
    pub(super) fn is_finished(&self) -> bool {
        self.finishing && self.outgoing_len == 0
    }

    /// How many bytes the next WRTE has; 0 if none may go.
    fn next_len(&self, payload_max: usize) -> usize {
        if self.phase != Phase::Open {
            return 0;
        }
        let filled = self.outgoing_len.min(payload_max);
        if self.unacknowledged == 0 {
            return filled.min(usize::try_from(self.window).unwrap_or(usize::MAX));
        }
        match self.acknowledgement {
            Acknowledgement::Each => 0,
            // A smaller WRTE now would save no time: acknowledgements are under way.
            Acknowledgement::Delayed { .. } if self.window - self.unacknowledged >= filled as u64 => filled,
            Acknowledgement::Delayed { .. } => 0,
        }
    }

    /// Whether a WRTE may go.
    pub(super) fn wants_write(&self, payload_max: usize) -> bool {
        self.next_len(payload_max) > 0
    }

    /// The next WRTE's payload, filled to the maximum; the handset must acknowledge it by `stalled_at`.
    pub(super) fn pull(&mut self, payload_max: usize, stalled_at: Moment) -> Option<Bytes> {
        let len = self.next_len(payload_max);
        let payload = take_front(&mut self.outgoing, len)?;
        self.outgoing_len -= payload.len();
        self.unacknowledged += payload.len() as u64;
        self.stalled_at = Some(stalled_at);
        Some(payload)
    }

    /// Whether it was full and takes data again; said once.
    pub(super) fn became_writable(&mut self) -> bool {
        let room = self.full && self.outgoing_len <= SEND_QUEUE_BYTES / 2;
        self.full &= !room;
        room
    }

    /// An OKAY on an open stream. `counted` is its payload, where acknowledgement is delayed.
    pub(super) fn acknowledged(&mut self, counted: &Bytes, stalled_at: Moment) -> Result<(), Violation> {
        let seen = match self.acknowledgement {
            // Older handsets repeat their OKAY; it says no more than that all was taken.
            Acknowledgement::Each => self.unacknowledged,
            Acknowledgement::Delayed { .. } => counted_bytes(counted)?,
        };
        self.unacknowledged =
            self.unacknowledged.checked_sub(seen).ok_or(Violation::Acknowledged { seen, sent: self.unacknowledged })?;
        self.stalled_at = (self.unacknowledged > 0).then_some(stalled_at);
        Ok(())
    }

    /// Data came.
    pub(super) fn received(&mut self, len: usize, payload_max: usize) -> Result<(), Violation> {
        let seen = self.unconsumed + self.owed + len as u64;
        let allowed = match self.acknowledgement {
            Acknowledgement::Each => len as u64,
            // adbd sends a whole payload while any of the window is left.
            Acknowledgement::Delayed { window } => u64::from(window) + payload_max as u64,
        };
        if seen > allowed {
            return Err(Violation::Overrun { seen, allowed });
        }
        self.unconsumed += len as u64;
        Ok(())
    }

    /// The consumer took `n` bytes. Returns whether an OKAY is owed now.
    pub(super) fn consumed(&mut self, n: usize) -> bool {
        let n = (n as u64).min(self.unconsumed);
        self.unconsumed -= n;
        self.owed += n;
        self.owes_okay()
    }

    fn owes_okay(&self) -> bool {
        match self.acknowledgement {
            Acknowledgement::Each => self.owed > 0 && self.unconsumed == 0,
            // So that a handset that sends small messages costs few OKAYs and is never held up.
            Acknowledgement::Delayed { window } => self.owed >= u64::from(window) / 4,
        }
    }

    /// The payload of the OKAY that is owed.
    pub(super) fn pull_okay(&mut self) -> Option<Bytes> {
        if !self.owes_okay() {
            return None;
        }
        let owed = std::mem::take(&mut self.owed);
        Some(self.okay_payload(u32::try_from(owed).unwrap_or(u32::MAX)))
    }

    /// The payload of the OKAY that opens the stream.
    pub(super) fn opening_okay(&self) -> Bytes {
        self.okay_payload(self.acknowledgement.window())
    }

    fn okay_payload(&self, bytes: u32) -> Bytes {
        match self.acknowledgement {
            Acknowledgement::Each => Bytes::new(),
            Acknowledgement::Delayed { .. } => Bytes::copy_from_slice(&bytes.to_le_bytes()),
        }
    }

    /// The window that the OKAY tells which opens the stream; with single acknowledgements a payload is one.
    pub(super) fn window_of(&self, okay: &Bytes, payload_max: usize) -> Result<u64, Violation> {
        match self.acknowledgement {
            Acknowledgement::Each => Ok(payload_max as u64),
            Acknowledgement::Delayed { .. } => counted_bytes(okay),
        }
    }

    /// How it ends when `deadline` passes.
    pub(super) fn timed_out(deadline: Deadline) -> EndReason {
        EndReason::Timeout { why: deadline.why }
    }
}

fn counted_bytes(payload: &Bytes) -> Result<u64, Violation> {
    let bytes =
        <[u8; 4]>::try_from(payload.as_ref()).map_err(|_| Violation::AcknowledgementLength { seen: payload.len() })?;
    Ok(u64::from(u32::from_le_bytes(bytes)))
}

/// The first `len` bytes of the queue, without a copy where one chunk holds them.
fn take_front(queue: &mut VecDeque<Bytes>, len: usize) -> Option<Bytes> {
    if len == 0 {
        return None;
    }
    let first = queue.front_mut()?;
    if first.len() > len {
        return Some(first.split_to(len));
    }
    if first.len() == len {
        return queue.pop_front();
    }
    let mut payload = BytesMut::with_capacity(len);
    while payload.len() < len {
        let chunk = queue.front_mut()?;
        let part = chunk.split_to(chunk.len().min(len - payload.len()));
        payload.extend_from_slice(&part);
        if chunk.is_empty() {
            queue.pop_front();
        }
    }
    Some(payload.freeze())
}
