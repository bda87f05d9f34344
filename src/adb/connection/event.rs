//! What the core tells its shell, and the reasons for which things end.

use std::fmt;

use bytes::Bytes;

use crate::adb::banner::Banner;
use crate::adb::message::{Command, FrameError};
use crate::clock::Deadline;

/// A stream of this connection, as farmhand numbers it. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(super) u32);

impl StreamId {
    /// The stream with this number, as fuzzing and tests make them up.
    #[must_use]
    pub fn from_number(number: u32) -> Self {
        Self(number)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the core has to say.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Something happened.
    Event(Event),
    /// Nothing more, until an input or this deadline.
    Idle(Option<Deadline>),
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The handset wants this token signed: answer with `answer_auth`.
    Sign {
        /// The token, to be taken as a SHA-1 digest.
        token: [u8; 20],
        /// How many tokens came before: whose turn it is among the keys.
        attempt: usize,
    },
    /// The public key was offered: somebody must allow it on the handset's screen.
    AuthorisationWanted,
    /// ADB works.
    Online(Banner),
    /// The handset opens a stream: `accept` or `close` it.
    Incoming {
        /// The stream.
        id: StreamId,
        /// What it wants, such as `tcp:5000`.
        service: String,
    },
    /// The handset opened the stream.
    Opened {
        /// The stream.
        id: StreamId,
    },
    /// Data from the handset; it is acknowledged only by `consumed`.
    Data {
        /// The stream.
        id: StreamId,
        /// At least one byte.
        bytes: Bytes,
    },
    /// A stream that was full takes data again.
    Writable {
        /// The stream.
        id: StreamId,
    },
    /// The stream ended. Said exactly once of each stream; nothing of it follows.
    Closed {
        /// The stream.
        id: StreamId,
        /// Why.
        reason: EndReason,
    },
    /// The connection ended. Said exactly once, after every stream's end; nothing follows.
    Lost(Fault),
}

/// Why a stream ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndReason {
    /// This side closed it.
    #[error("closed by this side")]
    ByUs,
    /// The handset closed it.
    #[error("closed by the handset")]
    ByPeer,
    /// The handset would not open it.
    #[error("the handset refused to open it")]
    Refused,
    /// A wait took too long.
    #[error("waited too long for {why}")]
    Timeout {
        /// What for.
        why: &'static str,
    },
    /// The handset broke the rules of streams.
    #[error("the handset broke the protocol: {0}")]
    Violation(Violation),
    /// The whole connection ended.
    #[error("the connection ended: {0}")]
    Lost(Fault),
}

/// How a handset broke the rules of streams.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// It sent data before the earlier data was acknowledged, or beyond the window.
    #[error("it sent {seen} bytes while {allowed} were allowed")]
    Overrun {
        /// The bytes that are not acknowledged.
        seen: u64,
        /// The bytes that may be.
        allowed: u64,
    },
    /// It acknowledged what was not sent.
    #[error("it acknowledged {seen} bytes while {sent} were on their way")]
    Acknowledged {
        /// What it acknowledged.
        seen: u64,
        /// What was on its way.
        sent: u64,
    },
    /// An OKAY without its count of bytes, though delayed acknowledgement was agreed.
    #[error("its OKAY carries {seen} bytes, expected 4")]
    AcknowledgementLength {
        /// The payload's length.
        seen: usize,
    },
    /// It opened a stream and takes nothing on it.
    #[error("it opened the stream with a window of 0 bytes")]
    NoWindow,
    /// Data on a stream that is not open yet.
    #[error("it sent {0:?} on a stream that is not open yet")]
    NotOpen(Command),
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// This side closed it.
    #[error("closed by this side")]
    ByUs,
    /// The way ended, as by an unplug.
    #[error("the handset went away")]
    Ended,
    /// The way failed.
    #[error("the way to the handset failed: {0}")]
    Io(String),
    /// Bytes that are no message.
    #[error("the handset sent nonsense: {0}")]
    Frame(#[from] FrameError),
    /// A wait took too long.
    #[error("waited too long for {why}")]
    Timeout {
        /// What for.
        why: &'static str,
    },
    /// It refused every key, or nobody allowed the key on its screen.
    #[error("the handset does not allow this host's keys: {why}")]
    Unauthorised {
        /// What was seen.
        why: &'static str,
    },
    /// Its owner can't sign.
    #[error("this host has no key to offer")]
    NoKey,
    /// It wants TLS, as phones do over Wi-Fi.
    #[error("the handset wants TLS, which is for debugging over Wi-Fi; use USB or plain TCP")]
    WantsTls,
    /// It said CNXN again: its adbd was started anew.
    #[error("the handset's adbd was started anew")]
    Restarted,
    /// A version that does not exist.
    #[error("the version in CNXN is {seen:#010x}, expected 0x01000000 or later")]
    Version {
        /// The field.
        seen: u32,
    },
    /// A payload that no version allows.
    #[error("the largest payload in CNXN is {seen}, expected at least 4096 bytes")]
    PayloadMax {
        /// The field.
        seen: u32,
    },
    /// A token of the wrong length, or an AUTH of a kind that only hosts send.
    #[error("AUTH of kind {kind} with {len} bytes, expected kind 1 with 20 bytes")]
    Auth {
        /// The kind.
        kind: u32,
        /// The payload's length.
        len: usize,
    },
    /// It makes answers necessary faster than it takes them.
    #[error("the handset floods: {waiting} answers wait to be sent")]
    Flood {
        /// The answers that wait.
        waiting: usize,
    },
}
