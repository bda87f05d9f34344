//! What can be wrong with a phone, and the line that spoils what it says.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// One thing that is wrong with a phone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// Each install ends so: `Failure [reason]`.
    InstallFails {
        /// What stands between the brackets, such as `INSTALL_FAILED_INSUFFICIENT_STORAGE`.
        reason: String,
    },
    /// It is there, but neither reads nor answers.
    Stalls,
    /// What it says is noise.
    Garbage,
    /// It asks for a key and its user never answers.
    RefusesAuth,
}

/// All that is wrong with a phone at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Faults {
    pub(super) install: Option<String>,
    pub(super) stalls: bool,
    pub(super) garbage: bool,
    pub(super) refuses_auth: bool,
}

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        match fault {
            Fault::InstallFails { reason } => self.install = Some(reason),
            Fault::Stalls => self.stalls = true,
            Fault::Garbage => self.garbage = true,
            Fault::RefusesAuth => self.refuses_auth = true,
        }
    }
}

/// A TCP connection that can be made to carry noise.
pub(super) struct Line {
    stream: TcpStream,
    garbled: Arc<AtomicBool>,
    noise: Vec<u8>,
}

impl Line {
    /// A line, and the switch that spoils what is written to it.
    pub(super) fn new(stream: TcpStream) -> (Self, Arc<AtomicBool>) {
        let garbled = Arc::new(AtomicBool::new(false));
        (Self { stream, garbled: Arc::clone(&garbled), noise: Vec::new() }, garbled)
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if !this.garbled.load(Ordering::Relaxed) {
            return Pin::new(&mut this.stream).poll_write(cx, bytes);
        }
        // As many bytes as were meant, each another: no header keeps its magic.
        this.noise.clear();
        this.noise.extend(bytes.iter().enumerate().map(|(at, byte)| byte ^ (at as u8) ^ 0x5a));
        Pin::new(&mut this.stream).poll_write(cx, &this.noise)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
