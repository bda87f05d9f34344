//! ADB over TCP: phones with `adb tcpip`, emulators, and the virtual rack.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWrite as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::transport::{HEADER_LEN, Reader, SPARE_KEPT, SpareBuffers, Transport, Writer};

/// How long a TCP connection may take: phones are at most a network away.
const CONNECT_WAIT: Duration = Duration::from_secs(5);

/// How much is asked of the kernel at once at least, in bytes: header and payload of small messages come in one read.
const READ_AHEAD: usize = 16 << 10;

/// A TCP connection to a handset's adbd.
#[derive(Debug)]
pub struct TcpTransport {
    socket: TcpStream,
}

impl TcpTransport {
    /// Connects.
    ///
    /// # Errors
    /// What the operating system said, or that nothing answered in time.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let connected = timeout(CONNECT_WAIT, TcpStream::connect(address)).await;
        let socket =
            connected.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer to the TCP connection"))??;
        Self::from_socket(socket)
    }

    /// Takes a connected socket.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn from_socket(socket: TcpStream) -> io::Result<Self> {
        // Answers of a few bytes must not wait for each other.
        socket.set_nodelay(true)?;
        Ok(Self { socket })
    }
}

impl Transport for TcpTransport {
    type Reader = TcpReader;
    type Writer = TcpWriter;

    // What is more than a processor's cache holds costs adbd a third more of its time, and comes no sooner (benches/README.md).
    const WINDOW: u32 = 1 << 20;

    fn split(self) -> (TcpReader, TcpWriter) {
        let (read, write) = self.socket.into_split();
        (
            TcpReader { socket: read, ahead: BytesMut::new(), spare: SpareBuffers::default() },
            TcpWriter { socket: write },
        )
    }
}

/// The half that reads.
#[derive(Debug)]
pub struct TcpReader {
    socket: OwnedReadHalf,
    ahead: BytesMut,
    spare: SpareBuffers,
}

impl Reader for TcpReader {
    async fn read(&mut self, want: usize) -> io::Result<Bytes> {
        if want >= READ_AHEAD && self.ahead.len() < want {
            return self.read_large(want).await;
        }
        if self.ahead.is_empty() {
            self.wait_for_more().await;
            self.ahead.reserve(READ_AHEAD);
            self.socket.read_buf(&mut self.ahead).await?;
        }
        if self.ahead.len() <= want {
            // Nothing is held on to, so that an idle connection costs no buffer.
            return Ok(std::mem::take(&mut self.ahead).freeze());
        }
        Ok(self.ahead.split_to(want).freeze())
    }
}

impl TcpReader {
    /// The rest of a large payload straight to its place, so that it is never copied again.
    async fn read_large(&mut self, want: usize) -> io::Result<Bytes> {
        if self.ahead.capacity() < want {
            let mut place = self.spare.take(want).unwrap_or_else(|| BytesMut::with_capacity(want));
            place.clear();
            place.extend_from_slice(&self.ahead);
            self.ahead = place;
        }
        while self.ahead.len() < want {
            let missing = want - self.ahead.len();
            if (&mut self.socket).take(missing as u64).read_buf(&mut self.ahead).await? == 0 {
                break;
            }
        }
        let payload = std::mem::take(&mut self.ahead).freeze();
        self.spare.lend(&payload);
        Ok(payload)
    }

    /// Waits for something to read, without the spare buffers if that takes long.
    async fn wait_for_more(&mut self) {
        if !self.spare.is_empty() && timeout(SPARE_KEPT, self.socket.readable()).await.is_err() {
            self.spare.clear();
        }
    }
}

/// The half that writes.
#[derive(Debug)]
pub struct TcpWriter {
    socket: OwnedWriteHalf,
}

impl Writer for TcpWriter {
    async fn write(&mut self, header: [u8; HEADER_LEN], payload: Bytes) -> io::Result<()> {
        let total = HEADER_LEN + payload.len();
        let mut sent = 0;
        while sent < total {
            let head = header.get(sent..).unwrap_or_default();
            let body = payload.get(sent.saturating_sub(HEADER_LEN)..).unwrap_or_default();
            let slices = [IoSlice::new(head), IoSlice::new(body)];
            let n = poll_fn(|context| Pin::new(&mut self.socket).poll_write_vectored(context, &slices)).await?;
            if n == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            sent += n;
        }
        Ok(())
    }
}
