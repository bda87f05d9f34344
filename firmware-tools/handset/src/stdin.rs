//! What a command reads: the stream itself, or packets of the shell protocol.

use bytes::{Buf, Bytes};

use crate::limits;
use crate::stream::Stream;

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

/// A command's standard input.
pub struct Stdin<'a> {
    stream: &'a mut Stream,
    protocol: Protocol,
    /// Bytes of the current packet that are still to be read.
    packet_bytes: usize,
    ended: bool,
    taken: Bytes,
}

impl<'a> Stdin<'a> {
    pub(crate) fn new(stream: &'a mut Stream, protocol: Protocol) -> Self {
        Self { stream, protocol, packet_bytes: 0, ended: false, taken: Bytes::new() }
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

    pub(crate) fn stream(&self) -> &Stream {
        self.stream
    }

    async fn read_packet(&mut self) -> Option<Bytes> {
        while self.packet_bytes == 0 {
            let mut header = self.stream.read_exact(packet::HEADER_BYTES).await?;
            let (id, length) = (header.get_u8(), header.get_u32_le() as usize);
            if length > limits::SHELL_PACKET_BYTES_MAX {
                return None;
            }
            match id {
                packet::STDIN => self.packet_bytes = length,
                packet::CLOSE_STDIN => return None,
                // Window sizes and what later hosts may add are of no use to a phone without a terminal.
                _ => drop(self.stream.read_exact(length).await?),
            }
        }
        let bytes = self.stream.read_some(self.packet_bytes).await?;
        self.packet_bytes -= bytes.len();
        Some(bytes)
    }
}
