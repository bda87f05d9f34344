//! The shell of a connection from the phone: a stream of its ADB connection, read while the line wants it, written beside it.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::future::OptionFuture;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::adb::driver::{Stream, StreamError};
use crate::central::frame::{self, FrameError, Split};

/// Frames that wait for the cable; the others wait in the core, which counts them.
const WRITES_MAX: usize = 16;
/// Small frames leave together, up to so many bytes.
const WRITE_LEN: usize = 64 << 10;
/// What was still for a connection that ends gets this long to leave.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// One connection from the phone.
pub(super) struct AgentLink {
    pub(super) number: u64,
    stream: Arc<Stream>,
    buffer: BytesMut,
    writes: mpsc::Sender<Bytes>,
}

/// What a connection from the phone is ready for.
pub(super) enum Turn {
    /// Bytes came, or its end.
    Read(Result<Option<Bytes>, StreamError>),
    /// It takes one more frame, or none any more: then what is for it is lost, and must not keep what it has said from being heard.
    Writable,
}

/// What lies in the buffer of a connection.
pub(super) enum Buffered {
    Frame(Bytes),
    Partial,
    Corrupt(FrameError),
}

impl AgentLink {
    pub(super) fn new(number: u64, stream: Stream) -> Self {
        let stream = Arc::new(stream);
        let (writes, frames) = mpsc::channel(WRITES_MAX);
        tokio::spawn(write(Arc::clone(&stream), frames));
        Self { number, stream, buffer: BytesMut::new(), writes }
    }

    /// Waits until the connection is ready for one of the two that are wanted. Cancel-safe.
    pub(super) async fn turn(&self, wants: Wants) -> Turn {
        let read: OptionFuture<_> = wants.to_read.then(|| self.stream.read()).into();
        let room: OptionFuture<_> = wants.to_write.then(|| self.writes.reserve()).into();
        tokio::select! {
            Some(_) = room => Turn::Writable,
            Some(read) = read => Turn::Read(read),
            else => std::future::pending().await,
        }
    }

    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole frame of what was read.
    pub(super) fn take_frame(&mut self, max: usize) -> Buffered {
        match frame::split(&self.buffer, max) {
            Ok(Split::Frame { consumed, .. }) => {
                let mut frame = self.buffer.split_to(consumed);
                frame.advance(frame::HEADER);
                Buffered::Frame(frame.freeze())
            }
            Ok(Split::Partial { .. }) => {
                if self.buffer.is_empty() {
                    self.buffer = BytesMut::new();
                }
                Buffered::Partial
            }
            Err(why) => Buffered::Corrupt(why),
        }
    }

    /// Sends a frame, if there is room for it.
    pub(super) fn send(&self, frame: Bytes) {
        if self.writes.try_send(frame).is_err() {
            tracing::debug!("the last words for an agent that takes nothing are lost");
        }
    }
}

/// What the line wants of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wants {
    pub(super) to_read: bool,
    pub(super) to_write: bool,
}

/// Writes what comes, until nothing more can; then the connection ends.
async fn write(stream: Arc<Stream>, mut frames: mpsc::Receiver<Bytes>) {
    while let Some(frame) = frames.recv().await {
        let chunk = gather(frame, &mut frames);
        if stream.write(chunk).await.is_err() {
            return;
        }
    }
    // The line has let its half go before.
    if let Ok(stream) = Arc::try_unwrap(stream) {
        let _ = timeout(FAREWELL_MAX, stream.finish()).await;
    }
}

/// The frame, with those that wait behind it.
fn gather(frame: Bytes, frames: &mut mpsc::Receiver<Bytes>) -> Bytes {
    let Ok(mut next) = frames.try_recv() else { return frame };
    let mut chunk = BytesMut::from(&frame[..]);
    loop {
        chunk.extend_from_slice(&next);
        match frames.try_recv() {
            Ok(more) if chunk.len() < WRITE_LEN => next = more,
            Ok(last) => {
                chunk.extend_from_slice(&last);
                return chunk.freeze();
            }
            Err(_) => return chunk.freeze(),
        }
    }
}
