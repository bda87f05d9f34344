//! Messages as they travel: a header of 24 bytes, little-endian, and a payload.
//!
//! ```text
//!   command  arg0  arg1  payload length  payload check  magic = !command
//! ```
//!
//! Invariant: [`Codec`] takes any bytes: it gives messages or one [`WireError`], and never holds more than a header and the
//! largest payload allowed.

use std::fmt;
use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::Decoder;

/// Bytes of a header.
pub const HEADER_BYTES: usize = 24;

/// The protocol version whose receivers check the sum of the payload's bytes.
pub const VERSION_CHECKED: u32 = 0x0100_0000;

/// The protocol version that leaves the payload unchecked.
pub const VERSION_UNCHECKED: u32 = 0x0100_0001;

/// What a message is: four ASCII letters, read as a little-endian number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Command(pub u32);

impl Command {
    /// Connect: version, largest payload, banner.
    pub const CNXN: Self = Self(u32::from_le_bytes(*b"CNXN"));
    /// Authenticate: token, signature or public key.
    pub const AUTH: Self = Self(u32::from_le_bytes(*b"AUTH"));
    /// Open a stream to a service.
    pub const OPEN: Self = Self(u32::from_le_bytes(*b"OPEN"));
    /// The stream is open, or ready for more.
    pub const OKAY: Self = Self(u32::from_le_bytes(*b"OKAY"));
    /// Data for a stream.
    pub const WRTE: Self = Self(u32::from_le_bytes(*b"WRTE"));
    /// The stream is closed, or was refused.
    pub const CLSE: Self = Self(u32::from_le_bytes(*b"CLSE"));
    /// Go on in TLS.
    pub const STLS: Self = Self(u32::from_le_bytes(*b"STLS"));
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = self.0.to_le_bytes();
        if letters.iter().all(u8::is_ascii_alphanumeric) {
            letters.iter().try_for_each(|&letter| write!(f, "{}", char::from(letter)))
        } else {
            write!(f, "{:#010x}", self.0)
        }
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub command: Command,
    /// First argument: mostly the sender's stream id.
    pub arg0: u32,
    /// Second argument: mostly the receiver's stream id.
    pub arg1: u32,
    /// The data.
    pub payload: Bytes,
}

impl Message {
    /// A message with a payload.
    #[must_use]
    pub fn new(command: Command, arg0: u32, arg1: u32, payload: impl Into<Bytes>) -> Self {
        Self { command, arg0, arg1, payload: payload.into() }
    }

    /// The header that goes before the payload.
    #[must_use]
    pub fn header(&self, sums: Sums) -> [u8; HEADER_BYTES] {
        let check = match sums {
            Sums::Checked => sum(&self.payload),
            Sums::Unchecked => 0,
        };
        // A payload is never longer than `limits::PAYLOAD_BYTES_MAX`: it was cut to the agreed size, or came through `Codec`.
        let length = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        let mut header = [0; HEADER_BYTES];
        let mut rest = &mut header[..];
        for field in [self.command.0, self.arg0, self.arg1, length, check, !self.command.0] {
            rest.put_u32_le(field);
        }
        header
    }
}

/// Whether payloads carry the sum of their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sums {
    /// As in protocol version 0x01000000.
    Checked,
    /// As in protocol version 0x01000001.
    Unchecked,
}

impl Sums {
    /// What the peers do once they agreed on `version`.
    #[must_use]
    pub fn of_version(version: u32) -> Self {
        if version >= VERSION_UNCHECKED { Self::Unchecked } else { Self::Checked }
    }
}

fn sum(payload: &[u8]) -> u32 {
    payload.iter().fold(0, |sum: u32, &byte| sum.wrapping_add(u32::from(byte)))
}

/// What no well-behaved host sends; the connection ends.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The transport failed.
    #[error("the transport failed")]
    Io(#[from] io::Error),
    /// The payload is longer than this phone ever takes.
    #[error("{command:?} announces {seen} bytes of payload where at most {allowed} are taken")]
    TooLong {
        /// What the message is.
        command: Command,
        /// The length in the header.
        seen: u32,
        /// The length taken.
        allowed: u32,
    },
    /// The sum of the payload's bytes is another.
    #[error("the payload of {command:?} sums up to {seen:#x} where the header says {told:#x}")]
    Sum {
        /// What the message is.
        command: Command,
        /// The sum of what came.
        seen: u32,
        /// The sum in the header.
        told: u32,
    },
}

/// The fields of a header that came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    command: Command,
    arg0: u32,
    arg1: u32,
    length: u32,
    check: u32,
    magic: u32,
}

impl Header {
    /// Reads the first [`HEADER_BYTES`] of `raw`; `None` if there are fewer.
    pub(crate) fn read(mut raw: &[u8]) -> Option<Self> {
        if raw.len() < HEADER_BYTES {
            return None;
        }
        let command = Command(raw.get_u32_le());
        let (arg0, arg1) = (raw.get_u32_le(), raw.get_u32_le());
        let (length, check, magic) = (raw.get_u32_le(), raw.get_u32_le(), raw.get_u32_le());
        Some(Self { command, arg0, arg1, length, check, magic })
    }

    /// Whether the last field is the complement of the first.
    pub(crate) fn is_well_formed(&self) -> bool {
        self.magic == !self.command.0
    }

    /// Whether this begins a connection.
    pub(crate) fn connects(&self) -> bool {
        self.command == Command::CNXN && self.is_well_formed()
    }

    /// Bytes of the payload that follows.
    pub(crate) fn payload_bytes(&self) -> usize {
        self.length as usize
    }

    /// The message, once its payload is there; `None` if it must be skipped by `terms`.
    ///
    /// # Errors
    /// The payload's sum is another.
    pub(crate) fn message(self, payload: Bytes, terms: Terms) -> Result<Option<Message>, WireError> {
        let Self { command, arg0, arg1, check: told, .. } = self;
        if !self.is_well_formed() || self.length > terms.agreed_bytes_max {
            tracing::debug!(
                ?command,
                magic = self.magic,
                bytes = self.length,
                "a message that nobody agreed on was skipped"
            );
            return Ok(None);
        }
        if terms.sums == Sums::Checked {
            let seen = sum(&payload);
            if seen != told {
                return Err(WireError::Sum { command, seen, told });
            }
        }
        Ok(Some(Message { command, arg0, arg1, payload }))
    }

    /// Refuses a payload that is longer than this phone ever takes.
    pub(crate) fn check_length(&self, terms: Terms) -> Result<(), WireError> {
        let allowed = terms.payload_bytes_max;
        if self.length > allowed {
            return Err(WireError::TooLong { command: self.command, seen: self.length, allowed });
        }
        Ok(())
    }
}

/// What a phone takes from its host.
///
/// As adbd does: a payload that is longer than the phone's own maximum ends the connection; one that is longer than was agreed,
/// or whose header has a wrong magic, is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Bytes of a payload that this phone ever takes.
    pub payload_bytes_max: u32,
    /// Bytes of a payload that CNXN agreed on.
    pub agreed_bytes_max: u32,
    /// Whether payloads must carry their sum.
    pub sums: Sums,
}

/// Makes messages of bytes.
pub struct Codec {
    terms: Terms,
    header: Option<Header>,
}

impl Codec {
    /// A codec that takes payloads of at most `payload_bytes_max`.
    #[must_use]
    pub fn new(payload_bytes_max: u32, sums: Sums) -> Self {
        Self::with(Terms { payload_bytes_max, agreed_bytes_max: payload_bytes_max, sums })
    }

    /// A codec on these terms.
    #[must_use]
    pub fn with(terms: Terms) -> Self {
        Self { terms, header: None }
    }

    /// From the next message on, do so.
    pub fn agree(&mut self, terms: Terms) {
        self.terms = terms;
    }
}

impl Decoder for Codec {
    type Item = Message;
    type Error = WireError;

    fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<Message>, WireError> {
        loop {
            let header = match self.header.take() {
                Some(header) => header,
                None => {
                    let Some(header) = Header::read(bytes) else { return Ok(None) };
                    header.check_length(self.terms)?;
                    bytes.advance(HEADER_BYTES);
                    header
                }
            };
            let length = header.payload_bytes();
            if bytes.len() < length {
                bytes.reserve(length - bytes.len());
                self.header = Some(header);
                return Ok(None);
            }
            if let Some(message) = header.message(bytes.split_to(length).freeze(), self.terms)? {
                return Ok(Some(message));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode_all(bytes: &[u8], piece: usize, sums: Sums) -> Result<Vec<Message>, WireError> {
        let mut codec = Codec::new(4096, sums);
        let mut buffer = BytesMut::new();
        let mut messages = Vec::new();
        for chunk in bytes.chunks(piece.max(1)) {
            buffer.extend_from_slice(chunk);
            while let Some(message) = codec.decode(&mut buffer)? {
                messages.push(message);
            }
        }
        Ok(messages)
    }

    #[test]
    fn a_message_has_these_bytes() {
        let message = Message::new(Command::OPEN, 1, 0, &b"shell:ls\0"[..]);
        let header = message.header(Sums::Checked);
        assert_eq!(
            header,
            [0x4f, 0x50, 0x45, 0x4e, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0x31, 0x03, 0, 0, 0xb0, 0xaf, 0xba, 0xb1]
        );
        assert_eq!(message.header(Sums::Unchecked)[16..20], [0; 4]);
    }

    #[test]
    fn a_payload_that_is_too_long_and_a_wrong_sum_are_named() {
        let mut header = Message::new(Command::WRTE, 1, 2, Bytes::new()).header(Sums::Checked);
        header[13] = 0x20;
        let error = decode_all(&header, 24, Sums::Checked).unwrap_err();
        assert_eq!(error.to_string(), "WRTE announces 8192 bytes of payload where at most 4096 are taken");

        let message = Message::new(Command::CNXN, 1, 2, &b"host::"[..]);
        let bytes = [&message.header(Sums::Checked)[..], b"host:;"].concat();
        let error = decode_all(&bytes, 24, Sums::Checked).unwrap_err();
        assert_eq!(error.to_string(), "the payload of CNXN sums up to 0x233 where the header says 0x232");
        assert!(decode_all(&bytes, 24, Sums::Unchecked).is_ok());
    }

    #[test]
    fn a_wrong_magic_and_more_than_was_agreed_are_skipped_with_their_payload() {
        let wrong = Message::new(Command::WRTE, 1, 2, &b"payload"[..]);
        let mut header = wrong.header(Sums::Checked);
        header[20] ^= 1;
        let right = Message::new(Command::OKAY, 1, 2, Bytes::new());
        let bytes = [&header[..], b"payload", &right.header(Sums::Checked)].concat();
        assert_eq!(decode_all(&bytes, 5, Sums::Checked).unwrap(), std::slice::from_ref(&right));

        let terms = Terms { payload_bytes_max: 4096, agreed_bytes_max: 6, sums: Sums::Unchecked };
        let mut buffer =
            BytesMut::from(&[&wrong.header(Sums::Checked)[..], b"payload", &right.header(Sums::Checked)].concat()[..]);
        assert_eq!(Codec::with(terms).decode(&mut buffer).unwrap(), Some(right));
    }

    proptest! {
        #[test]
        fn whatever_is_cut_wherever_reads_back(
            messages in prop::collection::vec((any::<u32>(), any::<u32>(), any::<u32>(), prop::collection::vec(any::<u8>(), 0..300)), 0..8),
            piece in 1_usize..700,
        ) {
            let messages: Vec<_> =
                messages.into_iter().map(|(command, a, b, payload)| Message::new(Command(command), a, b, payload)).collect();
            let bytes: Vec<u8> = messages.iter().flat_map(|m| [&m.header(Sums::Checked)[..], &m.payload].concat()).collect();
            prop_assert_eq!(decode_all(&bytes, piece, Sums::Checked).unwrap(), messages);
        }

        #[test]
        fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600), piece in 1_usize..64) {
            let _ = decode_all(&bytes, piece, Sums::Checked);
        }
    }
}
