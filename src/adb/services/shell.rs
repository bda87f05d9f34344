//! Commands on the handset's shell.
//!
//! With the feature `shell_v2` output, errors and exit status come in packets: u8 id, u32 little-endian length, data. Without it
//! all output is one stream, and no status is told.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// The length of a packet's head in bytes.
const HEAD_LEN: usize = 5;

/// The longest packet that is taken, in bytes: a handset has at most a WRTE's payload in one.
pub const PACKET_MAX: usize = 1 << 20;

/// What a packet of shell_v2 carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// Input for the command.
    Stdin(Bytes),
    /// Its output.
    Stdout(Bytes),
    /// Its errors.
    Stderr(Bytes),
    /// It ended with this status.
    Exit(u8),
    /// No more input follows.
    CloseStdin,
    /// The terminal's size changed: `rowsxcols,xpixelsxypixels`.
    WindowSize(Bytes),
}

/// Why bytes are no packet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// No packet has this id.
    #[error("the shell packet's id (offset 0) is {seen}, expected 0 to 5")]
    Id {
        /// The field.
        seen: u8,
    },
    /// It is too long.
    #[error("the length of shell packet {id} (offset 1) is {seen}, expected at most {PACKET_MAX} bytes")]
    Length {
        /// The packet's id.
        id: u8,
        /// The field.
        seen: u32,
    },
    /// An exit status is one byte.
    #[error("the exit packet has {seen} bytes, expected 1")]
    Exit {
        /// Its length.
        seen: usize,
    },
}

impl Packet {
    /// Its bytes. Data must not be longer than [`PACKET_MAX`].
    #[must_use]
    pub fn emit(&self) -> Bytes {
        let (id, data): (u8, &[u8]) = match self {
            Self::Stdin(data) => (0, data),
            Self::Stdout(data) => (1, data),
            Self::Stderr(data) => (2, data),
            Self::Exit(status) => (3, std::slice::from_ref(status)),
            Self::CloseStdin => (4, &[]),
            Self::WindowSize(data) => (5, data),
        };
        debug_assert!(data.len() <= PACKET_MAX);
        let mut bytes = BytesMut::with_capacity(HEAD_LEN + data.len());
        bytes.put_u8(id);
        bytes.put_u32_le(u32::try_from(data.len()).unwrap_or(u32::MAX));
        bytes.put_slice(data);
        bytes.freeze()
    }

    /// The head of a packet of input whose data follow on the stream by themselves. adbd gives a command such a packet piece by piece, so
    /// that it may be longer than [`PACKET_MAX`].
    #[must_use]
    pub fn stdin_head(len: u32) -> Bytes {
        let mut bytes = BytesMut::with_capacity(HEAD_LEN);
        bytes.put_u8(0);
        bytes.put_u32_le(len);
        bytes.freeze()
    }

    fn parse(id: u8, data: Bytes) -> Result<Self, PacketError> {
        Ok(match id {
            0 => Self::Stdin(data),
            1 => Self::Stdout(data),
            2 => Self::Stderr(data),
            3 => match data.as_ref() {
                [status] => Self::Exit(*status),
                other => return Err(PacketError::Exit { seen: other.len() }),
            },
            4 => Self::CloseStdin,
            5 => Self::WindowSize(data),
            seen => return Err(PacketError::Id { seen }),
        })
    }
}

/// Turns a stream's chunks into packets.
#[derive(Debug, Default)]
pub struct PacketDecoder {
    buffer: BytesMut,
}

impl PacketDecoder {
    /// Takes a chunk.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole packet.
    ///
    /// # Errors
    /// What makes the bytes no packet; the stream can't go on then.
    pub fn next_packet(&mut self) -> Result<Option<Packet>, PacketError> {
        let Some((&id, mut rest)) = self.buffer.split_first() else { return Ok(None) };
        if id > 5 {
            return Err(PacketError::Id { seen: id });
        }
        let Ok(seen) = rest.try_get_u32_le() else { return Ok(None) };
        let len = usize::try_from(seen).unwrap_or(usize::MAX);
        if len > PACKET_MAX {
            return Err(PacketError::Length { id, seen });
        }
        if rest.len() < len {
            return Ok(None);
        }
        self.buffer.advance(HEAD_LEN);
        Packet::parse(id, self.buffer.split_to(len).freeze()).map(Some)
    }
}

/// Decodes any bytes, in chunks whose size is the first byte; what a fuzzer calls.
///
/// # Panics
/// When a packet that was decoded is not decoded from its own bytes again.
pub fn fuzz_packets(bytes: &[u8]) {
    let Some((&step, bytes)) = bytes.split_first() else { return };
    let mut decoder = PacketDecoder::default();
    for chunk in bytes.chunks(usize::from(step).max(1)) {
        decoder.push(chunk);
        while let Ok(Some(packet)) = decoder.next_packet() {
            let mut again = PacketDecoder::default();
            again.push(&packet.emit());
            assert_eq!(again.next_packet(), Ok(Some(packet)));
        }
    }
}

#[cfg(feature = "daemon")]
pub use run::{ServiceError, ShellLimits, ShellOutput};
#[cfg(feature = "daemon")]
pub(super) use run::{read_all, read_packets};

#[cfg(feature = "daemon")]
pub use session::{ShellEvent, ShellMode, ShellReader, ShellWriter, WindowSize};

#[cfg(feature = "daemon")]
mod run;
#[cfg(feature = "daemon")]
mod session;

#[cfg(test)]
mod tests;
