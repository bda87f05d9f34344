//! The way to the server, whether it is bare TCP or TLS: read when there is something, without a buffer until then.

use std::future::{pending, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::server::{ConnectError, Server};

/// What is read at once; most frames are shorter than a tenth of it.
const READ_CHUNK: usize = 4096;

/// The way to the server.
pub(super) enum Link {
    Down,
    Connecting(Pin<Box<dyn Future<Output = Result<Wire, ConnectError>> + Send>>),
    /// With what was read and is no whole frame yet.
    Up(Wire, BytesMut),
}

/// What came by the link.
pub(super) enum Arrival {
    Connected(Result<Wire, ConnectError>),
    /// So many bytes are in the buffer; none at the end of the stream.
    Read(io::Result<usize>),
}

/// A connection to the server.
pub(super) enum Wire {
    Bare(TcpStream),
    /// Boxed, so that lines without TLS are no larger for it.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Link {
    /// The session's deadline bounds the attempt.
    pub(super) fn connect(server: Option<Server>) -> Self {
        Self::Connecting(Box::pin(async move { server.ok_or(ConnectError::NoServer)?.connect().await }))
    }

    /// Waits for the next thing to come by the link; for ever while it is down. May be dropped and called again.
    pub(super) async fn arrival(&mut self) -> Arrival {
        match self {
            Self::Down => pending().await,
            Self::Connecting(attempt) => Arrival::Connected(attempt.await),
            Self::Up(wire, buffer) => Arrival::Read(wire.read(buffer).await),
        }
    }
}

impl Wire {
    /// One chunk more at the end of `buffer`; none at the end of the stream. Nothing is lost if it is dropped.
    async fn read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Bare(stream) => loop {
                stream.readable().await?;
                buffer.reserve(READ_CHUNK);
                match stream.try_read_buf(buffer) {
                    Err(why) if why.kind() == io::ErrorKind::WouldBlock => release(buffer),
                    read => return read,
                }
            },
            Self::Tls(stream) => match poll_fn(|context| read_tls(stream, context, buffer)).await {
                // The length of each frame says whether something is missing; many servers end TLS without a word.
                Err(why) if why.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                read => read,
            },
        }
    }

    /// Sends as much of `bytes` as the system takes at once, at least one of them. Nothing is sent twice if it is dropped.
    pub(super) async fn send_some(&mut self, bytes: &mut impl Buf) -> io::Result<()> {
        let sent = match self {
            Self::Bare(stream) => stream.write_buf(bytes).await?,
            Self::Tls(stream) => {
                let sent = stream.write_buf(bytes).await?;
                stream.flush().await?;
                sent
            }
        };
        if sent == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(()) }
    }

    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Bare(stream) => stream.shutdown().await,
            Self::Tls(stream) => stream.shutdown().await,
        }
    }
}

/// What TLS holds back is not seen at the socket, so it is asked itself, with a buffer that lasts no longer than the question.
fn read_tls(
    stream: &mut TlsStream<TcpStream>,
    context: &mut std::task::Context<'_>,
    buffer: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    let mut chunk = [MaybeUninit::uninit(); READ_CHUNK];
    let mut read = ReadBuf::uninit(&mut chunk);
    ready!(Pin::new(stream).poll_read(context, &mut read))?;
    buffer.extend_from_slice(read.filled());
    Poll::Ready(Ok(read.filled().len()))
}

/// Gives an empty buffer's memory back.
pub(super) fn release(buffer: &mut BytesMut) {
    if buffer.is_empty() {
        *buffer = BytesMut::new();
    }
}
