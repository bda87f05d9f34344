//! ADB's messages on the wire: a header of 24 bytes, little-endian, and a payload.
//!
//! ```text
//!     0        4      8      12       16        20      24
//!     │command │ arg0 │ arg1 │ length │ checksum│ magic │ payload …
//!                                                 = !command
//! ```
//!
//! [`Packet`] views any 24 bytes and can show them; [`Header`] holds only what makes sense. [`Decoder`] turns the chunks of a
//! transport into [`Message`]s without copying a payload that arrives whole.
//!
//! Invariant: no input panics, and the decoder never asks for more than the agreed maximum (`decoder_survives_any_bytes`).

use std::fmt;

use bytes::{Bytes, BytesMut};

/// The length of a header in bytes.
pub const HEADER_LEN: usize = 24;

/// The oldest version of the protocol; payloads carry the sum of their bytes.
pub const VERSION_CHECKSUM: u32 = 0x0100_0000;

/// The newest version; payloads carry no sum.
pub const VERSION_SKIP_CHECKSUM: u32 = 0x0100_0001;

/// The largest payload that farmhand takes and sends, in bytes: what current handsets offer.
pub const PAYLOAD_MAX: usize = 1 << 20;

/// The largest payload before both sides have agreed, in bytes. Banners have some hundred, public keys some 700.
pub const HANDSHAKE_PAYLOAD_MAX: usize = 64 << 10;

/// How many bytes of an earlier, uncleanly ended connection are skipped at most while looking for the handset's first answer.
pub const STALE_BYTES_MAX: usize = 64 << 20;

/// What a message wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// CNXN: who I am, which version and payload I can take.
    Connect,
    /// AUTH: a token, its signature, or a public key.
    Auth,
    /// OPEN: a stream to a service.
    Open,
    /// OKAY: the stream is open, or data was taken.
    Okay,
    /// WRTE: data.
    Write,
    /// CLSE: the stream ended, or could not be opened.
    Close,
    /// STLS: go on in TLS.
    Tls,
    /// SYNC: never on the wire of a sane peer.
    Sync,
}

impl Command {
    const ALL: [Self; 8] =
        [Self::Connect, Self::Auth, Self::Open, Self::Okay, Self::Write, Self::Close, Self::Tls, Self::Sync];

    /// Its four letters.
    #[must_use]
    pub const fn letters(self) -> [u8; 4] {
        *match self {
            Self::Connect => b"CNXN",
            Self::Auth => b"AUTH",
            Self::Open => b"OPEN",
            Self::Okay => b"OKAY",
            Self::Write => b"WRTE",
            Self::Close => b"CLSE",
            Self::Tls => b"STLS",
            Self::Sync => b"SYNC",
        }
    }

    /// Its letters as a number on the wire.
    #[must_use]
    pub const fn code(self) -> u32 {
        u32::from_le_bytes(self.letters())
    }

    /// The command with this number.
    #[must_use]
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|command| command.code() == code)
    }

    /// Whether a handset's first answer can begin with it.
    const fn begins_connection(self) -> bool {
        matches!(self, Self::Connect | Self::Auth | Self::Tls)
    }
}

/// Any 24 bytes, seen as a header.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Packet(pub [u8; HEADER_LEN]);

impl Packet {
    /// The number of the field that starts at `offset`.
    fn field(&self, offset: usize) -> u32 {
        let mut value = [0; 4];
        for (to, from) in value.iter_mut().zip(self.0.iter().skip(offset)) {
            *to = *from;
        }
        u32::from_le_bytes(value)
    }
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.field(0).to_le_bytes();
        write!(
            f,
            "{}({:#x}, {:#x}) length {} checksum {:#x} magic {:#x}",
            [a, b, c, d].escape_ascii(),
            self.field(4),
            self.field(8),
            self.field(12),
            self.field(16),
            self.field(20)
        )
    }
}

/// A header that makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the message wants.
    pub command: Command,
    /// Mostly the sender's stream.
    pub arg0: u32,
    /// Mostly the receiver's stream.
    pub arg1: u32,
    /// The payload's length in bytes.
    pub payload_len: u32,
    /// The sum of the payload's bytes, or 0 where the version leaves it out.
    pub checksum: u32,
}

/// Why bytes are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No command has this number.
    #[error("the message's command (offset 0) is {seen:#010x}, which is none of ADB's")]
    Command {
        /// The field.
        seen: u32,
    },
    /// The magic is not the command's complement.
    #[error("the magic of {command:?} (offset 20) is {seen:#010x}, expected {expected:#010x}")]
    Magic {
        /// The message's command.
        command: Command,
        /// The field.
        seen: u32,
        /// The command's complement.
        expected: u32,
    },
    /// The payload is longer than agreed.
    #[error("the length of {command:?} (offset 12) is {seen}, agreed were at most {max} bytes")]
    Length {
        /// The message's command.
        command: Command,
        /// The field.
        seen: u32,
        /// What was agreed.
        max: usize,
    },
    /// The payload's sum is wrong.
    #[error("the checksum of {command:?} (offset 16) is {seen:#010x}, its payload's bytes sum up to {expected:#010x}")]
    Checksum {
        /// The message's command.
        command: Command,
        /// The field.
        seen: u32,
        /// The payload's sum.
        expected: u32,
    },
    /// The transport gave more bytes than were asked for.
    #[error("the transport gave {seen} bytes where at most {wanted} were wanted")]
    Chunk {
        /// What came.
        seen: usize,
        /// What was asked for.
        wanted: usize,
    },
    /// Nothing but other bytes came where the first answer was looked for.
    #[error("{STALE_BYTES_MAX} bytes came and no CNXN or AUTH among them")]
    Stale,
}

impl Header {
    /// Reads a header whose payload may have at most `payload_max` bytes.
    ///
    /// # Errors
    /// The first field that makes no sense.
    pub fn parse(packet: Packet, payload_max: usize) -> Result<Self, FrameError> {
        let code = packet.field(0);
        let command = Command::from_code(code).ok_or(FrameError::Command { seen: code })?;
        let magic = packet.field(20);
        if magic != !code {
            return Err(FrameError::Magic { command, seen: magic, expected: !code });
        }
        let payload_len = packet.field(12);
        if usize::try_from(payload_len).map_or(true, |len| len > payload_max) {
            return Err(FrameError::Length { command, seen: payload_len, max: payload_max });
        }
        Ok(Self { command, arg0: packet.field(4), arg1: packet.field(8), payload_len, checksum: packet.field(16) })
    }

    /// Its bytes.
    #[must_use]
    pub fn emit(&self) -> [u8; HEADER_LEN] {
        let code = self.command.code();
        let fields = [code, self.arg0, self.arg1, self.payload_len, self.checksum, !code];
        let mut bytes = [0; HEADER_LEN];
        for (to, field) in bytes.chunks_exact_mut(4).zip(fields) {
            to.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }
}

/// The sum of the bytes, as the oldest version has it.
#[must_use]
pub fn checksum(payload: &[u8]) -> u32 {
    payload.iter().fold(0, |sum, byte| sum.wrapping_add(u32::from(*byte)))
}

/// A header and its payload.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// The header; its length is the payload's.
    pub header: Header,
    /// The payload.
    pub payload: Bytes,
}

impl Message {
    /// A message; `sums` says whether its version carries the payload's sum. The payload must not be longer than
    /// [`PAYLOAD_MAX`].
    #[must_use]
    pub fn new(command: Command, arg0: u32, arg1: u32, payload: Bytes, sums: Checksums) -> Self {
        debug_assert!(payload.len() <= PAYLOAD_MAX, "{command:?} with {} bytes", payload.len());
        let checksum = match sums {
            Checksums::Verified | Checksums::IfPresent => checksum(&payload),
            Checksums::Skipped => 0,
        };
        let payload_len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        Self { header: Header { command, arg0, arg1, payload_len, checksum }, payload }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.payload.get(..64).unwrap_or(&self.payload);
        write!(f, "{:?} {:?}", Packet(self.header.emit()), Bytes::copy_from_slice(shown))
    }
}

/// What is done with a payload's sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksums {
    /// Before the versions are agreed: sent, and checked unless the other side left it out.
    IfPresent,
    /// Sent and checked.
    Verified,
    /// Neither.
    Skipped,
}

/// What both sides agreed on for the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// The longest payload in bytes.
    pub payload_max: usize,
    /// Whether payloads carry their sum.
    pub checksums: Checksums,
}

impl Framing {
    /// Before anything is agreed.
    pub const HANDSHAKE: Self = Self { payload_max: HANDSHAKE_PAYLOAD_MAX, checksums: Checksums::IfPresent };
}

/// Turns a transport's chunks into messages.
///
/// A fresh decoder looks for the handset's first answer and skips all else: after an unclean end old data may sit in the pipe.
#[derive(Debug)]
pub struct Decoder {
    framing: Framing,
    state: Decoding,
    head: BytesMut,
    body: BytesMut,
    skipped: usize,
}

#[derive(Debug)]
enum Decoding {
    Hunting,
    Header,
    Payload(Header),
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            framing: Framing::HANDSHAKE,
            state: Decoding::Hunting,
            head: BytesMut::with_capacity(HEADER_LEN),
            body: BytesMut::new(),
            skipped: 0,
        }
    }
}

impl Decoder {
    /// A decoder that begins at a message's first byte and skips nothing.
    #[must_use]
    pub fn aligned(framing: Framing) -> Self {
        Self { framing, state: Decoding::Header, ..Self::default() }
    }

    /// Takes over what was agreed; from the next message on.
    pub fn agree(&mut self, framing: Framing) {
        self.framing = framing;
    }

    /// How many bytes of an earlier connection were skipped.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// How many bytes are wanted next: at least 1, at most the agreed maximum (or a header).
    #[must_use]
    pub fn want(&self) -> usize {
        match &self.state {
            Decoding::Hunting | Decoding::Header => HEADER_LEN - self.head.len(),
            Decoding::Payload(header) => header.payload_len as usize - self.body.len(),
        }
    }

    /// Takes at most [`want`](Self::want) bytes and gives the message that they complete.
    ///
    /// # Errors
    /// What makes the bytes no message; the connection can't go on then.
    pub fn push(&mut self, chunk: Bytes) -> Result<Option<Message>, FrameError> {
        if chunk.len() > self.want() {
            return Err(FrameError::Chunk { seen: chunk.len(), wanted: self.want() });
        }
        match self.state {
            Decoding::Hunting | Decoding::Header => {
                self.head.extend_from_slice(&chunk);
                self.header()
            }
            Decoding::Payload(header) if self.body.is_empty() && chunk.len() == self.want() => {
                self.complete(header, chunk).map(Some)
            }
            Decoding::Payload(header) => {
                self.body.reserve(self.want());
                self.body.extend_from_slice(&chunk);
                if self.want() > 0 {
                    return Ok(None);
                }
                let payload = self.body.split().freeze();
                self.complete(header, payload).map(Some)
            }
        }
    }

    fn header(&mut self) -> Result<Option<Message>, FrameError> {
        let Ok(bytes) = <[u8; HEADER_LEN]>::try_from(self.head.as_ref()) else {
            return Ok(None);
        };
        let parsed = Header::parse(Packet(bytes), self.framing.payload_max);
        let header = match (&self.state, parsed) {
            (Decoding::Hunting, Ok(header)) if header.command.begins_connection() => header,
            (Decoding::Hunting, _) => return self.skip(),
            (_, parsed) => parsed?,
        };
        self.head.clear();
        if header.payload_len == 0 {
            return self.complete(header, Bytes::new()).map(Some);
        }
        self.state = Decoding::Payload(header);
        Ok(None)
    }

    /// Drops bytes up to the next one at which a first answer may begin.
    fn skip(&mut self) -> Result<Option<Message>, FrameError> {
        let next = self.head.iter().skip(1).position(|byte| matches!(byte, b'C' | b'A' | b'S'));
        let dropped = next.map_or(self.head.len(), |at| at + 1);
        let _ = self.head.split_to(dropped);
        self.skipped += dropped;
        if self.skipped > STALE_BYTES_MAX {
            return Err(FrameError::Stale);
        }
        Ok(None)
    }

    fn complete(&mut self, header: Header, payload: Bytes) -> Result<Message, FrameError> {
        self.state = Decoding::Header;
        let verify = match self.framing.checksums {
            Checksums::Verified => true,
            Checksums::IfPresent => header.checksum != 0,
            Checksums::Skipped => false,
        };
        if verify {
            let expected = checksum(&payload);
            if expected != header.checksum {
                return Err(FrameError::Checksum { command: header.command, seen: header.checksum, expected });
            }
        }
        Ok(Message { header, payload })
    }
}

/// Decodes any bytes, in chunks whose size is the first byte; what a fuzzer calls.
///
/// # Panics
/// When a message that was decoded is not encoded to what it was.
pub fn fuzz_messages(bytes: &[u8]) {
    let Some((&step, bytes)) = bytes.split_first() else { return };
    let framing = Framing { payload_max: HANDSHAKE_PAYLOAD_MAX, checksums: Checksums::Verified };
    for mut decoder in [Decoder::default(), Decoder::aligned(framing)] {
        let mut rest = bytes;
        while !rest.is_empty() {
            let len = decoder.want().min(usize::from(step).max(1)).min(rest.len());
            let (chunk, after) = rest.split_at(len);
            rest = after;
            match decoder.push(Bytes::copy_from_slice(chunk)) {
                Ok(None) => {}
                Ok(Some(message)) => {
                    let emitted = Header::parse(Packet(message.header.emit()), HANDSHAKE_PAYLOAD_MAX);
                    assert_eq!(emitted, Ok(message.header));
                }
                Err(_) => break,
            }
        }
    }
}

#[cfg(test)]
mod tests;
