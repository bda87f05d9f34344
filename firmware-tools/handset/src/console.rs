//! What a command reads and writes while it runs: the stream itself, or packets of the shell protocol.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::device::Output;
use crate::limits;
use crate::stream::{Closed, Stream};

/// Ids of the shell protocol's packets.
pub(crate) mod packet {
    pub(crate) const STDIN: u8 = 0;
    pub(crate) const STDOUT: u8 = 1;
    pub(crate) const STDERR: u8 = 2;
    pub(crate) const EXIT: u8 = 3;
    pub(crate) const CLOSE_STDIN: u8 = 4;
    /// Id and length.
    pub(crate) const HEADER_BYTES: usize = 5;
}

/// How a stream carries standard input and output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Bytes; standard error is mixed in and the exit code is lost.
    Raw,
    /// Packets, as agreed by the feature shell_v2.
    Packets,
}

/// What stands between a command and its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Terminal {
    /// Nothing.
    None,
    /// A pseudo-terminal: it ends lines by a carriage return too, and mixes standard error in.
    Pty,
}

/// A command's standard input, and its output while it runs.
pub struct Console<'a> {
    stream: &'a mut Stream,
    protocol: Protocol,
    terminal: Terminal,
    /// Bytes of the current packet that are still to be read.
    packet_bytes: usize,
    ended: bool,
    taken: Bytes,
}

impl<'a> Console<'a> {
    pub(crate) fn new(stream: &'a mut Stream, protocol: Protocol, terminal: Terminal) -> Self {
        Self { stream, protocol, terminal, packet_bytes: 0, ended: false, taken: Bytes::new() }
    }

    /// Writes standard output at once, for a command that runs long.
    ///
    /// # Errors
    /// The host has closed the stream: whoever writes to it should end.
    pub async fn print(&mut self, bytes: &[u8]) -> Result<(), Closed> {
        self.write(packet::STDOUT, bytes).await
    }

    /// Ends when the host closes the stream.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        self.stream.closed()
    }

    /// What a command has said at its end.
    pub(crate) async fn finish(&mut self, output: &Output) -> Result<(), Closed> {
        self.write(packet::STDOUT, &output.stdout).await?;
        self.write(packet::STDERR, &output.stderr).await
    }

    /// How the command ended, where that can be told.
    pub(crate) async fn exit(&mut self, code: u8) -> Result<(), Closed> {
        match self.protocol {
            Protocol::Raw => Ok(()),
            Protocol::Packets => self.write(packet::EXIT, &[code]).await,
        }
    }

    async fn write(&mut self, id: u8, bytes: &[u8]) -> Result<(), Closed> {
        let (id, bytes) = match self.terminal {
            Terminal::Pty if id != packet::EXIT => (packet::STDOUT, with_carriage_returns(bytes)),
            Terminal::Pty | Terminal::None => (id, Bytes::copy_from_slice(bytes)),
        };
        match self.protocol {
            Protocol::Raw => self.stream.write(bytes).await,
            Protocol::Packets => self.stream.write(framed(id, &bytes)).await,
        }
    }

    /// The next bytes, however many came; `None` at the end.
    pub async fn read(&mut self) -> Option<Bytes> {
        if !self.taken.is_empty() {
            return Some(std::mem::take(&mut self.taken));
        }
        if self.ended {
            return None;
        }
        let bytes = match self.protocol {
            Protocol::Raw => self.stream.read().await,
            Protocol::Packets => self.read_packet().await,
        };
        self.ended = bytes.is_none();
        bytes
    }

    /// Exactly `count` bytes, handed to `sink` as they come.
    ///
    /// Returns how many came: fewer than `count` if the host ended its input before.
    pub async fn read_into(&mut self, count: u64, mut sink: impl FnMut(&[u8]) + Send) -> u64 {
        let mut left = count;
        while left > 0 {
            let Some(mut bytes) = self.read().await else { break };
            if bytes.len() as u64 > left {
                // Fits: it is less than the length of a slice.
                self.taken = bytes.split_off(left as usize);
            }
            left -= bytes.len() as u64;
            sink(&bytes);
        }
        count - left
    }

    /// One line without its end, at most [`limits::SHELL_LINE_BYTES_MAX`] long; `None` at the end.
    pub(crate) async fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        loop {
            let Some(mut bytes) = self.read().await else {
                return (!line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned());
            };
            if let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
                self.taken = bytes.split_off(end + 1);
                bytes.truncate(end);
                line.extend_from_slice(&bytes);
                return Some(String::from_utf8_lossy(&line).into_owned());
            }
            line.extend_from_slice(&bytes);
            if line.len() > limits::SHELL_LINE_BYTES_MAX {
                return None;
            }
        }
    }

    async fn read_packet(&mut self) -> Option<Bytes> {
        while self.packet_bytes == 0 {
            let mut header = self.stream.read_exact(packet::HEADER_BYTES).await?;
            let (id, length) = (header.get_u8(), header.get_u32_le() as usize);
            match id {
                // As adbd, it gives the command what has come of it, however long it is.
                packet::STDIN => self.packet_bytes = length,
                packet::CLOSE_STDIN => return None,
                _ if length > limits::SHELL_PACKET_BYTES_MAX => return None,
                // Window sizes and what later hosts may add are of no use to a phone without a terminal.
                _ => drop(self.stream.read_exact(length).await?),
            }
        }
        let bytes = self.stream.read_some(self.packet_bytes).await?;
        self.packet_bytes -= bytes.len();
        Some(bytes)
    }
}

fn with_carriage_returns(bytes: &[u8]) -> Bytes {
    let lines = bytes.split_inclusive(|&byte| byte == b'\n');
    lines
        .fold(BytesMut::new(), |mut all, line| {
            match line.strip_suffix(b"\n") {
                Some(line) => {
                    all.put_slice(line);
                    all.put_slice(b"\r\n");
                }
                None => all.put_slice(line),
            }
            all
        })
        .freeze()
}

/// Bytes as packets of the shell protocol.
fn framed(id: u8, bytes: &[u8]) -> Bytes {
    /// adbd's packets carry what fits into its buffer of 4096 bytes.
    const DATA_BYTES_MAX: usize = 4096 - packet::HEADER_BYTES;
    let mut packets = BytesMut::with_capacity(bytes.len() + packet::HEADER_BYTES);
    for data in bytes.chunks(DATA_BYTES_MAX) {
        packets.put_u8(id);
        packets.put_u32_le(data.len() as u32);
        packets.put_slice(data);
    }
    packets.freeze()
}
