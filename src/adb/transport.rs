//! What ADB's messages travel over: USB bulk transfers or a TCP connection, as two halves that are driven side by side.

use std::future::Future;
use std::io;

use bytes::Bytes;

use super::connection::WINDOW;
pub use super::message::HEADER_LEN;
pub use spare::{SPARE_KEPT, SpareBuffers};

mod spare;

/// An open way to a handset.
pub trait Transport: Send + 'static {
    /// The half that reads.
    type Reader: Reader;
    /// The half that writes.
    type Writer: Writer;

    /// What may be on its way on one stream in each direction, in bytes, where the handset can do with delayed acknowledgement.
    const WINDOW: u32 = WINDOW;

    /// Parts it in its halves. The way is closed, and pending transfers are cancelled, when both are dropped.
    fn split(self) -> (Self::Reader, Self::Writer);
}

/// Reads the bytes of messages.
pub trait Reader: Send + 'static {
    /// The next bytes: at least one, at most `want`; none at the end of the way.
    ///
    /// `want` is what the decoder needs next, so that on USB a transfer is never longer than what the handset sends.
    /// Cancel-safe: bytes that arrived are kept for the next call when the future is dropped.
    ///
    /// # Errors
    /// What the operating system said; the way is dead then.
    fn read(&mut self, want: usize) -> impl Future<Output = io::Result<Bytes>> + Send;
}

/// Writes whole messages.
pub trait Writer: Send + 'static {
    /// Takes a message over for sending: header and payload, as separate transfers on USB (with the zero-length packet that ends
    /// a payload whose length is a multiple of the packet size). Returns when there is room for the next message, which may be
    /// before this one has left.
    ///
    /// # Errors
    /// What the operating system said of this or of an earlier message; the way is dead then.
    fn write(&mut self, header: [u8; HEADER_LEN], payload: Bytes) -> impl Future<Output = io::Result<()>> + Send;
}
