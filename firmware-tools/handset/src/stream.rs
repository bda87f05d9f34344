//! One stream between a service and the host, with the flow control of both kinds.
//!
//! ```text
//!   host ──WRTE──▶ waiting ──▶ buffer (BUFFER_BYTES, as of a socket) ──▶ service
//!        ◀─OKAY── when the bytes are in the buffer
//! ```
//!
//! Without delayed_ack one WRTE may be under way in each direction until its OKAY; with it, as many bytes as the receiver's
//! window has room for. Like adbd, which writes into a socket of the service, a stream acknowledges what fits into that socket
//! before the service reads it, and sends a whole message as long as the window is not used up.
//!
//! Invariant: no more than a buffer is acknowledged before the service took it, so a slow service holds the host back; a host
//! that has more than the window under way loses the stream.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::limits;
use crate::wire::{Command, Message};

/// The stream is closed: by the host, or since the connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the host closed the stream")]
pub struct Closed;

/// How a stream acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// One WRTE at a time.
    StopAndWait,
    /// With delayed_ack: the host takes `send_bytes` before it acknowledges.
    Window { send_bytes: u32 },
}

/// What the session and the service share.
pub(crate) struct Shared {
    local: u32,
    /// 0 as long as the host has not answered our OPEN.
    remote: AtomicU32,
    flow: Flow,
    state: Mutex<State>,
    readable: Notify,
    writable: Notify,
    closed: CancellationToken,
}

struct State {
    incoming: VecDeque<Bytes>,
    /// Bytes that came, bytes that the service took, bytes that were acknowledged (with delayed_ack).
    received: u64,
    consumed: u64,
    acknowledged: u64,
    /// Where each message ends that still wants its OKAY (without delayed_ack).
    ends: VecDeque<u64>,
    /// Bytes that may still be sent; without delayed_ack 1 or 0 messages.
    send_credit: i64,
}

impl Shared {
    /// A stream that the host opened.
    pub(crate) fn new(local: u32, remote: u32, flow: Flow) -> Arc<Self> {
        let send_credit = match flow {
            Flow::StopAndWait => 1,
            Flow::Window { send_bytes } => i64::from(send_bytes),
        };
        Self::with_credit(local, remote, flow, send_credit)
    }

    /// A stream that we ask the host to open: nothing may be sent before its first OKAY.
    pub(crate) fn asked(local: u32, flow: Flow) -> Arc<Self> {
        Self::with_credit(local, 0, flow, 0)
    }

    fn with_credit(local: u32, remote: u32, flow: Flow, send_credit: i64) -> Arc<Self> {
        let state = State {
            incoming: VecDeque::new(),
            received: 0,
            consumed: 0,
            acknowledged: 0,
            ends: VecDeque::new(),
            send_credit,
        };
        Arc::new(Self {
            local,
            remote: AtomicU32::new(remote),
            flow,
            state: Mutex::new(state),
            readable: Notify::new(),
            writable: Notify::new(),
            closed: CancellationToken::new(),
        })
    }

    pub(crate) fn local(&self) -> u32 {
        self.local
    }

    pub(crate) fn remote(&self) -> u32 {
        self.remote.load(Ordering::Relaxed)
    }

    /// The host answered our OPEN.
    pub(crate) fn answered(&self, remote: u32) {
        self.remote.store(remote, Ordering::Relaxed);
    }

    /// The OKAY that tells the host that the stream is open.
    pub(crate) fn opened(&self) -> Message {
        self.okay(limits::RECEIVE_WINDOW_BYTES)
    }

    /// The host is gone; what came before can still be read.
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }

    /// Bytes from the host, and what to answer at once.
    ///
    /// # Errors
    /// More is under way than the window allows.
    pub(crate) fn received(&self, payload: Bytes) -> Result<Option<Message>, OverWindow> {
        let mut state = self.lock();
        if payload.is_empty() {
            // adbd acknowledges nothing by nothing, and only with delayed_ack.
            return Ok((self.flow != Flow::StopAndWait).then(|| self.okay(0)));
        }
        state.received += payload.len() as u64;
        let under_way = state.received - state.consumed;
        if under_way > u64::from(limits::RECEIVE_WINDOW_BYTES) || state.incoming.len() >= limits::WAITING_MESSAGES_MAX {
            return Err(OverWindow);
        }
        if self.flow == Flow::StopAndWait {
            let end = state.received;
            state.ends.push_back(end);
        }
        state.incoming.push_back(payload);
        let answer = self.owed(&mut state);
        drop(state);
        self.readable.notify_one();
        Ok(answer)
    }

    /// The next OKAY that is due, if any.
    fn owed(&self, state: &mut State) -> Option<Message> {
        let taken = state.received.min(state.consumed + limits::BUFFER_BYTES);
        match self.flow {
            Flow::StopAndWait => {
                state.ends.pop_front_if(|end| *end <= taken)?;
                Some(self.okay(0))
            }
            Flow::Window { .. } => {
                let bytes = taken - state.acknowledged;
                state.acknowledged = taken;
                // The difference of two counts that are at most a window apart.
                (bytes > 0).then(|| self.okay(u32::try_from(bytes).unwrap_or(u32::MAX)))
            }
        }
    }

    /// The host acknowledged.
    pub(crate) fn acknowledged(&self, payload: &[u8]) {
        let mut state = self.lock();
        match self.flow {
            Flow::StopAndWait => state.send_credit = 1,
            Flow::Window { .. } => {
                let bytes = payload.try_into().map_or(0, u32::from_le_bytes);
                // A lying host can only make us send sooner what it will not read.
                state.send_credit = state.send_credit.saturating_add(i64::from(bytes));
            }
        }
        drop(state);
        self.writable.notify_one();
    }

    fn okay(&self, bytes: u32) -> Message {
        let payload = match self.flow {
            Flow::StopAndWait => Bytes::new(),
            Flow::Window { .. } => Bytes::copy_from_slice(&bytes.to_le_bytes()),
        };
        Message::new(Command::OKAY, self.local, self.remote(), payload)
    }

    /// The next bytes, and the OKAYs that are due since they are taken.
    fn take_incoming(&self) -> Option<(Bytes, Vec<Message>)> {
        let mut state = self.lock();
        let bytes = state.incoming.pop_front()?;
        state.consumed += bytes.len() as u64;
        let owed = std::iter::from_fn(|| self.owed(&mut state)).collect();
        Some((bytes, owed))
    }

    /// Bytes that may be sent now, `None` if the host must acknowledge first.
    fn take_send_credit(&self, wanted: usize) -> Option<usize> {
        let mut state = self.lock();
        if state.send_credit <= 0 {
            return None;
        }
        match self.flow {
            Flow::StopAndWait => state.send_credit = 0,
            // At most a payload: it fits.
            Flow::Window { .. } => state.send_credit -= wanted as i64,
        }
        Some(wanted)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The host sent more than it had leave to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OverWindow;

/// The service's end of a stream.
pub(crate) struct Stream {
    writer: StreamWriter,
    /// What was taken from the host and not yet by the service.
    taken: Bytes,
}

/// The half of a stream that goes to the host.
#[derive(Clone)]
pub(crate) struct StreamWriter {
    shared: Arc<Shared>,
    outgoing: mpsc::Sender<Message>,
    payload_bytes_max: usize,
}

impl Stream {
    pub(crate) fn new(shared: Arc<Shared>, outgoing: mpsc::Sender<Message>, payload_bytes_max: u32) -> Self {
        let writer = StreamWriter { shared, outgoing, payload_bytes_max: payload_bytes_max as usize };
        Self { writer, taken: Bytes::new() }
    }

    /// Ends when the host closes the stream.
    pub(crate) fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        self.writer.shared.closed.clone().cancelled_owned()
    }

    /// Our id of it.
    pub(crate) fn local(&self) -> u32 {
        self.writer.shared.local()
    }

    /// The other half.
    pub(crate) fn writer(&self) -> StreamWriter {
        self.writer.clone()
    }

    /// The next bytes, however many came; `None` once the host closed the stream and all was read.
    pub(crate) async fn read(&mut self) -> Option<Bytes> {
        if !self.taken.is_empty() {
            return Some(std::mem::take(&mut self.taken));
        }
        let shared = &self.writer.shared;
        loop {
            let closed = shared.closed.is_cancelled();
            if let Some((bytes, owed)) = shared.take_incoming() {
                for okay in owed.into_iter().filter(|_| !closed) {
                    // The writer is gone only together with the session, which then ends this service too.
                    let _ = self.writer.outgoing.send(okay).await;
                }
                return Some(bytes);
            }
            if closed {
                return None;
            }
            tokio::select! {
                () = shared.readable.notified() => {}
                () = shared.closed.cancelled() => {}
            }
        }
    }

    /// The next bytes, at most `bytes_max` of them.
    pub(crate) async fn read_some(&mut self, bytes_max: usize) -> Option<Bytes> {
        let mut bytes = self.read().await?;
        if bytes.len() > bytes_max {
            self.taken = bytes.split_off(bytes_max);
        }
        Some(bytes)
    }

    /// Exactly `count` bytes; `None` if the host closed the stream before.
    pub(crate) async fn read_exact(&mut self, count: usize) -> Option<Bytes> {
        let mut bytes = BytesMut::new();
        while bytes.len() < count {
            let some = self.read_some(count - bytes.len()).await?;
            if bytes.is_empty() && some.len() == count {
                return Some(some);
            }
            bytes.extend_from_slice(&some);
        }
        Some(bytes.freeze())
    }

    /// Sends all of `bytes` as the host makes room.
    pub(crate) async fn write(&self, bytes: impl Into<Bytes>) -> Result<(), Closed> {
        self.writer.write(bytes).await
    }

    /// Bytes of the largest message to the host.
    pub(crate) fn payload_bytes_max(&self) -> usize {
        self.writer.payload_bytes_max
    }
}

impl StreamWriter {
    /// Closes the stream as the host would, once all that came was taken.
    pub(crate) async fn close_when_read(&self) {
        while !self.shared.lock().incoming.is_empty() {
            tokio::task::yield_now().await;
        }
        self.shared.close();
    }

    /// Waits until the host takes something: for the answer to our OPEN.
    pub(crate) async fn writable(&self) -> Result<(), Closed> {
        while self.shared.lock().send_credit <= 0 {
            tokio::select! {
                () = self.shared.writable.notified() => {}
                () = self.shared.closed.cancelled() => return Err(Closed),
            }
        }
        Ok(())
    }

    /// Sends all of `bytes` as the host makes room.
    pub(crate) async fn write(&self, bytes: impl Into<Bytes>) -> Result<(), Closed> {
        let mut bytes = bytes.into();
        while !bytes.is_empty() {
            if self.shared.closed.is_cancelled() {
                return Err(Closed);
            }
            let Some(count) = self.shared.take_send_credit(bytes.len().min(self.payload_bytes_max)) else {
                self.writable().await?;
                continue;
            };
            let message = Message::new(Command::WRTE, self.shared.local, self.shared.remote(), bytes.split_to(count));
            self.outgoing.send(message).await.map_err(|_| Closed)?;
        }
        Ok(())
    }
}
