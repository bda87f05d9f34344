//! The line between a phone and its host, and what spoils it.
//!
//! What a phone writes begins with a header, so this knows where messages begin: it can change a header and leave the payload, or
//! say a greeting twice.
//!
//! Invariant: as many bytes are taken as the phone meant; with no spoils they go out unchanged.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use handset::wire::HEADER_BYTES;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::faults::Spoils;

/// Bytes at once of what is said in short pieces.
const SHORT_BYTES: usize = 7;

/// The same of a payload over USB, where each piece costs both sides several switches of threads.
const SHORT_PAYLOAD_BYTES: usize = 100;

/// Bytes of a message's payload at most that are kept in order to be said again: those of a greeting.
const GREETING_BYTES_MAX: usize = 4096;

/// What can be done to a line while it is in use, and what is seen of it.
#[derive(Clone, Default)]
pub(super) struct Handle {
    spoils: Arc<Mutex<Spoils>>,
    received: Arc<AtomicU64>,
    /// Bytes from the host after which the line breaks; 0 for never.
    received_max: Arc<AtomicU64>,
}

impl Handle {
    /// From the next message on.
    pub(super) fn spoil(&self, spoils: Spoils) {
        *self.spoils.lock().unwrap_or_else(PoisonError::into_inner) = spoils;
    }

    /// The line breaks when so many bytes came from the host.
    pub(super) fn end_after(&self, bytes: Option<u64>) {
        self.received_max.store(bytes.unwrap_or(0), Ordering::Relaxed);
    }

    /// Whether as many bytes came as the line lasts for.
    pub(super) fn is_worn_out(&self) -> bool {
        let most = self.received_max.load(Ordering::Relaxed);
        most > 0 && self.received.load(Ordering::Relaxed) >= most
    }

    fn spoils(&self) -> Spoils {
        *self.spoils.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line that can be spoilt.
pub(super) struct Line<T> {
    inner: T,
    handle: Handle,
    outgoing: Outgoing,
    /// What must be written before the phone may say more.
    waiting: BytesMut,
}

/// Where in its messages the phone is.
#[derive(Default)]
struct Outgoing {
    header: Vec<u8>,
    payload_left: usize,
    /// The greeting as it went out, as long as it is not whole.
    greeting: Option<Vec<u8>>,
}

impl<T> Line<T> {
    /// A line, and the handle that spoils what is written to it.
    pub(super) fn new(inner: T) -> (Self, Handle) {
        let handle = Handle::default();
        let line = Self { inner, handle: handle.clone(), outgoing: Outgoing::default(), waiting: BytesMut::new() };
        (line, handle)
    }
}

impl Outgoing {
    /// What goes out for `bytes` of the phone.
    fn spoilt(&mut self, mut bytes: &[u8], spoils: Spoils, out: &mut BytesMut) {
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let (payload, rest) = bytes.split_at(bytes.len().min(self.payload_left));
                self.payload_left -= payload.len();
                out.extend_from_slice(payload);
                self.repeat(payload, out);
                bytes = rest;
                continue;
            }
            let (header, rest) = bytes.split_at(bytes.len().min(HEADER_BYTES - self.header.len()));
            self.header.extend_from_slice(header);
            bytes = rest;
            if self.header.len() == HEADER_BYTES {
                let header = std::mem::take(&mut self.header);
                self.begin(header, spoils, out);
            }
        }
    }

    fn begin(&mut self, mut header: Vec<u8>, spoils: Spoils, out: &mut BytesMut) {
        let command = header.get(..4).unwrap_or_default().to_vec();
        self.payload_left = header.get(12..16).map_or(0, |mut length| length.get_u32_le() as usize);
        if spoils.magic {
            header[20] ^= 0x40;
        }
        if spoils.sum {
            header[16] = header[16].wrapping_add(1);
        }
        if spoils.length {
            // More than any version of the protocol lets a payload have; as many bytes as were meant follow.
            header[15] = 0x7f;
        }
        out.extend_from_slice(&header);
        if spoils.greets_twice && command == b"CNXN" && self.payload_left <= GREETING_BYTES_MAX {
            self.greeting = Some(Vec::new());
            self.repeat(&header, out);
        }
    }

    /// Keeps `bytes` of a greeting, and says it again when it is whole.
    fn repeat(&mut self, bytes: &[u8], out: &mut BytesMut) {
        let Some(greeting) = &mut self.greeting else { return };
        greeting.extend_from_slice(bytes);
        if self.payload_left == 0 {
            out.extend_from_slice(greeting);
            self.greeting = None;
        }
    }
}

/// As many bytes as were meant, each another: no header keeps its magic.
fn to_noise(bytes: &mut [u8]) {
    bytes.iter_mut().enumerate().for_each(|(at, byte)| *byte ^= at as u8 ^ 0x5a);
}

/// The transfers that carry a message over USB, where it is spoilt: there each header and each payload is a transfer of its own.
pub(super) fn transfers(header: &[u8; HEADER_BYTES], payload: &[u8], spoils: Spoils) -> Option<Vec<Bytes>> {
    if spoils == Spoils::default() {
        return None;
    }
    let mut all = BytesMut::new();
    Outgoing::default().spoilt(&[header, payload].concat(), spoils, &mut all);
    if spoils.garbage {
        to_noise(&mut all);
    }
    let mut transfers = Vec::new();
    while !all.is_empty() {
        for (len, short) in [(HEADER_BYTES, SHORT_BYTES), (payload.len(), SHORT_PAYLOAD_BYTES)] {
            let mut part = all.split_to(len.min(all.len())).freeze();
            let most = if spoils.short_packets { short } else { part.len() };
            while !part.is_empty() {
                transfers.push(part.split_to(most.min(part.len())));
            }
        }
    }
    Some(transfers)
}

impl<T: AsyncRead + Unpin> AsyncRead for Line<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.handle.is_worn_out() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.handle.received.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        read
    }
}

impl<T: AsyncWrite + Unpin> Line<T> {
    /// Writes what waits, in short pieces where it must.
    fn poll_waiting(&mut self, cx: &mut Context<'_>, spoils: Spoils) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let most = if spoils.short_packets { SHORT_BYTES } else { self.waiting.len() };
            let piece = self.waiting.get(..most.min(self.waiting.len())).unwrap_or_default();
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, piece))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.waiting.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Line<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let spoils = this.handle.spoils();
        ready!(this.poll_waiting(cx, spoils))?;
        let Line { outgoing, waiting, .. } = this;
        outgoing.spoilt(bytes, spoils, waiting);
        if spoils.garbage {
            to_noise(waiting);
        }
        // What can't go now goes before the next byte, or by the flush behind each message.
        if let Poll::Ready(Err(error)) = this.poll_waiting(cx, spoils) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let spoils = this.handle.spoils();
        ready!(this.poll_waiting(cx, spoils))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use handset::wire::{Command, Message, Sums};
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn greeting() -> Vec<u8> {
        let message = Message::new(Command::CNXN, 1, 2, "device::");
        [&message.header(Sums::Checked)[..], &message.payload].concat()
    }

    /// What goes out of `bytes`, written in pieces.
    fn out(spoils: Spoils, bytes: &[u8], piece: usize) -> Vec<u8> {
        let mut outgoing = Outgoing::default();
        let mut out = BytesMut::new();
        bytes.chunks(piece.max(1)).for_each(|piece| outgoing.spoilt(piece, spoils, &mut out));
        out.to_vec()
    }

    #[test]
    fn a_header_is_spoilt_and_its_payload_is_not() {
        let clean = greeting();
        let magic = out(Spoils { magic: true, ..Spoils::default() }, &clean, 5);
        assert_eq!((magic[20], &magic[24..]), (clean[20] ^ 0x40, &clean[24..]));
        let sum = out(Spoils { sum: true, ..Spoils::default() }, &clean, 100);
        assert_eq!((sum[16], &sum[20..]), (clean[16] + 1, &clean[20..]));
        let twice = out(Spoils { greets_twice: true, ..Spoils::default() }, &clean, 3);
        assert_eq!(twice, [&clean[..], &clean].concat());
    }

    #[test]
    fn over_usb_each_part_of_a_message_is_a_transfer() {
        let clean = greeting();
        let (header, payload) = clean.split_first_chunk().unwrap();
        let of = |spoils| transfers(header, payload, spoils).unwrap();
        assert_eq!(transfers(header, payload, Spoils::default()), None, "nothing is copied");
        let twice = of(Spoils { greets_twice: true, ..Spoils::default() });
        assert_eq!(twice, [&header[..], payload, header, payload]);
        let short = of(Spoils { short_packets: true, ..Spoils::default() });
        assert_eq!(short.iter().map(Bytes::len).collect::<Vec<_>>(), [7, 7, 7, 3, 8]);
        assert_eq!(short.concat(), clean);
        let long = of(Spoils { length: true, ..Spoils::default() });
        assert_eq!((long[0][15], long[1].len()), (0x7f, payload.len()));
        let noise = of(Spoils { garbage: true, ..Spoils::default() });
        assert!(noise.concat().iter().zip(&clean).filter(|(noise, clean)| noise == clean).count() < 2);
    }

    #[tokio::test]
    async fn short_packets_carry_everything() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let (mut line, handle) = Line::new(ours);
        handle.spoil(Spoils { short_packets: true, ..Spoils::default() });
        let clean = greeting();
        let mut seen = vec![0; clean.len()];
        let writing = async {
            line.write_all(&clean).await.unwrap();
            line.flush().await.unwrap();
        };
        tokio::join!(writing, async { theirs.read_exact(&mut seen).await.unwrap() });
        assert_eq!(seen, clean);
    }

    proptest! {
        #[test]
        fn without_spoils_nothing_changes(bytes in prop::collection::vec(any::<u8>(), 0..300), piece in 1_usize..80) {
            let seen = out(Spoils::default(), &bytes, piece);
            // A header that is not whole yet waits.
            prop_assert_eq!(&bytes[..seen.len()], &seen[..]);
            prop_assert!(bytes.len() - seen.len() < HEADER_BYTES);
        }
    }
}
