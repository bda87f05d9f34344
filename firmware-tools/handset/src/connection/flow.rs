//! The flow control of one stream, of both kinds.
//!
//! ```text
//!   host ──WRTE──▶ waiting ──▶ buffer (BUFFER_BYTES, as of a socket) ──▶ service
//!        ◀─OKAY── when the bytes are in the buffer
//! ```
//!
//! Without delayed_ack one WRTE may be under way in each direction until its OKAY; with it, as many bytes as the receiver's
//! window has room for. Like adbd, which writes into a socket of the service, a stream acknowledges what fits into that socket
//! before the service reads it, and sends a whole message as long as the window is not used up.
//!
//! Invariant: no more than a buffer is acknowledged before the service took it, so a slow service holds the host back; a host
//! that has more than the window under way loses the stream.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::limits;

/// How a stream acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// One WRTE at a time.
    StopAndWait,
    /// With delayed_ack: the host takes `send_bytes` before it acknowledges.
    Window { send_bytes: u32 },
}

impl Pace {
    /// The payload of an OKAY that gives leave for so many bytes more.
    pub(super) fn acknowledgement(self, bytes: u32) -> Bytes {
        match self {
            Self::StopAndWait => Bytes::new(),
            Self::Window { .. } => Bytes::copy_from_slice(&bytes.to_le_bytes()),
        }
    }
}

/// The host sent more than it had leave to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OverWindow;

/// What is under way on a stream. What it gives are the payloads of OKAYs.
pub(super) struct Flow {
    pace: Pace,
    incoming: VecDeque<Bytes>,
    /// Bytes that came, bytes that the service took, bytes that were acknowledged (with delayed_ack).
    received: u64,
    consumed: u64,
    acknowledged: u64,
    /// Where each message ends that still wants its OKAY (without delayed_ack).
    ends: VecDeque<u64>,
    /// Bytes that may still be sent; without delayed_ack 1 or 0 messages.
    send_credit: i64,
}

impl Flow {
    /// Of a stream that the host opened.
    pub(super) fn opened(pace: Pace) -> Self {
        let send_credit = match pace {
            Pace::StopAndWait => 1,
            Pace::Window { send_bytes } => i64::from(send_bytes),
        };
        Self { send_credit, ..Self::asked(pace) }
    }

    /// Of a stream that we ask the host to open: nothing may be sent before its first OKAY.
    pub(super) fn asked(pace: Pace) -> Self {
        Self {
            pace,
            incoming: VecDeque::new(),
            received: 0,
            consumed: 0,
            acknowledged: 0,
            ends: VecDeque::new(),
            send_credit: 0,
        }
    }

    /// Bytes from the host, and what to answer at once.
    ///
    /// # Errors
    /// More is under way than the window allows.
    pub(super) fn receive(&mut self, payload: Bytes) -> Result<Option<Bytes>, OverWindow> {
        if payload.is_empty() {
            // adbd acknowledges nothing by nothing, and only with delayed_ack.
            return Ok((self.pace != Pace::StopAndWait).then(|| self.pace.acknowledgement(0)));
        }
        self.received += payload.len() as u64;
        let under_way = self.received - self.consumed;
        if under_way > u64::from(limits::RECEIVE_WINDOW_BYTES) || self.incoming.len() >= limits::WAITING_MESSAGES_MAX {
            return Err(OverWindow);
        }
        if self.pace == Pace::StopAndWait {
            self.ends.push_back(self.received);
        }
        self.incoming.push_back(payload);
        Ok(self.owed())
    }

    /// The next OKAY that is due, if any.
    pub(super) fn owed(&mut self) -> Option<Bytes> {
        let taken = self.received.min(self.consumed + limits::BUFFER_BYTES);
        match self.pace {
            Pace::StopAndWait => {
                self.ends.pop_front_if(|end| *end <= taken)?;
                Some(self.pace.acknowledgement(0))
            }
            Pace::Window { .. } => {
                let bytes = taken - self.acknowledged;
                self.acknowledged = taken;
                // The difference of two counts that are at most a window apart.
                (bytes > 0).then(|| self.pace.acknowledgement(u32::try_from(bytes).unwrap_or(u32::MAX)))
            }
        }
    }

    /// The next bytes for the service, as they came.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        let bytes = self.incoming.pop_front()?;
        self.consumed += bytes.len() as u64;
        Some(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.incoming.is_empty()
    }

    /// The host acknowledged.
    pub(super) fn acknowledge(&mut self, payload: &[u8]) {
        match self.pace {
            Pace::StopAndWait => self.send_credit = 1,
            Pace::Window { .. } => {
                let bytes = payload.try_into().map_or(0, u32::from_le_bytes);
                // A lying host can only make us send sooner what it will not read.
                self.send_credit = self.send_credit.saturating_add(i64::from(bytes));
            }
        }
    }

    pub(super) fn has_credit(&self) -> bool {
        self.send_credit > 0
    }

    /// Whether a message of so many bytes, at most a payload, may be sent now; then it is counted.
    pub(super) fn spend(&mut self, bytes: usize) -> bool {
        if !self.has_credit() {
            return false;
        }
        match self.pace {
            Pace::StopAndWait => self.send_credit = 0,
            Pace::Window { .. } => self.send_credit -= bytes as i64,
        }
        true
    }
}
