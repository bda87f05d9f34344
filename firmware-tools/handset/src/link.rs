//! How messages come from a host and go to it: a byte stream, or something that knows where messages begin, as USB does.

use std::io;

use bytes::Buf as _;
use futures_util::StreamExt as _;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_util::codec::FramedRead;

use crate::wire::{Codec, Message, Sums, Terms, WireError};

/// Where messages of the host come from.
pub trait Source: Send {
    /// The next message; `None` when the host hung up. May be dropped before it is done, and loses nothing then.
    fn next(&mut self) -> impl Future<Output = Option<Result<Message, WireError>>> + Send;

    /// From the next message on, take what these terms say.
    fn agree(&mut self, terms: Terms);
}

/// Where messages to the host go.
pub trait Sink: Send {
    /// Sends one message, its sum told or left out.
    fn send(&mut self, message: Message, sums: Sums) -> impl Future<Output = io::Result<()>> + Send;
}

/// Messages out of a byte stream.
pub(crate) struct ByteSource<R>(FramedRead<R, Codec>);

impl<R: AsyncRead> ByteSource<R> {
    pub(crate) fn new(reading: R, terms: Terms) -> Self {
        /// Room for a whole payload: one read takes what the kernel has.
        const READ_BYTES: usize = 1 << 18;
        Self(FramedRead::with_capacity(reading, Codec::with(terms), READ_BYTES))
    }
}

impl<R: AsyncRead + Send + Unpin> Source for ByteSource<R> {
    async fn next(&mut self) -> Option<Result<Message, WireError>> {
        self.0.next().await
    }

    fn agree(&mut self, terms: Terms) {
        self.0.decoder_mut().agree(terms);
    }
}

/// Messages into a byte stream.
pub(crate) struct ByteSink<W>(pub(crate) W);

impl<W: AsyncWrite + Send + Unpin> Sink for ByteSink<W> {
    async fn send(&mut self, message: Message, sums: Sums) -> io::Result<()> {
        let header = message.header(sums);
        self.0.write_all_buf(&mut header.chain(message.payload)).await?;
        self.0.flush().await
    }
}
