//! One stream between a service and the host, with the flow control of both kinds.
//!
//! Without delayed_ack one WRTE may be under way in each direction until its OKAY; with it, as many bytes as the receiver's
//! window has room for.
//!
//! Invariant: bytes from the host are acknowledged only once the service took them, so a slow service holds the host back;
//! a host that sends without leave loses the stream.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::limits;
use crate::wire::{Command, Message};

/// The stream is closed: by the host, or since the connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the host closed the stream")]
pub(crate) struct Closed;

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
    remote: u32,
    flow: Flow,
    state: Mutex<State>,
    readable: Notify,
    writable: Notify,
    closed: CancellationToken,
}

struct State {
    incoming: BytesMut,
    /// Bytes that the host may still send; with stop-and-wait, whether it may send one WRTE (1) or not (0).
    receive_credit: usize,
    /// The same in the other direction.
    send_credit: usize,
}

impl Shared {
    pub(crate) fn new(local: u32, remote: u32, flow: Flow) -> Arc<Self> {
        let (receive_credit, send_credit) = match flow {
            Flow::StopAndWait => (1, 1),
            Flow::Window { send_bytes } => (limits::RECEIVE_WINDOW_BYTES as usize, send_bytes as usize),
        };
        Arc::new(Self {
            local,
            remote,
            flow,
            state: Mutex::new(State { incoming: BytesMut::new(), receive_credit, send_credit }),
            readable: Notify::new(),
            writable: Notify::new(),
            closed: CancellationToken::new(),
        })
    }

    pub(crate) fn remote(&self) -> u32 {
        self.remote
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
    /// The host had no leave to send so much.
    pub(crate) fn received(&self, payload: &[u8]) -> Result<Option<Message>, OverWindow> {
        if payload.is_empty() {
            return Ok(Some(self.okay(0)));
        }
        let cost = match self.flow {
            Flow::StopAndWait => 1,
            Flow::Window { .. } => payload.len(),
        };
        let mut state = self.lock();
        state.receive_credit = state.receive_credit.checked_sub(cost).ok_or(OverWindow)?;
        state.incoming.extend_from_slice(payload);
        drop(state);
        self.readable.notify_one();
        Ok(None)
    }

    /// The host acknowledged.
    pub(crate) fn acknowledged(&self, payload: &[u8]) {
        let mut state = self.lock();
        match self.flow {
            Flow::StopAndWait => state.send_credit = 1,
            Flow::Window { .. } => {
                let bytes = payload.try_into().map_or(0, u32::from_le_bytes);
                // A lying host can only make us send sooner what it will not read.
                state.send_credit = state.send_credit.saturating_add(bytes as usize);
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
        Message::new(Command::OKAY, self.local, self.remote, payload)
    }

    fn take_incoming(&self) -> Option<Bytes> {
        let mut state = self.lock();
        if state.incoming.is_empty() {
            return None;
        }
        let bytes = state.incoming.split().freeze();
        state.receive_credit += match self.flow {
            Flow::StopAndWait => 1,
            Flow::Window { .. } => bytes.len(),
        };
        Some(bytes)
    }

    /// Bytes that may be sent now, `None` if the host must acknowledge first.
    fn take_send_credit(&self, wanted: usize) -> Option<usize> {
        let mut state = self.lock();
        if state.send_credit == 0 {
            return None;
        }
        match self.flow {
            Flow::StopAndWait => {
                state.send_credit = 0;
                Some(wanted)
            }
            Flow::Window { .. } => {
                let bytes = wanted.min(state.send_credit);
                state.send_credit -= bytes;
                Some(bytes)
            }
        }
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
    shared: Arc<Shared>,
    outgoing: mpsc::Sender<Message>,
    payload_bytes_max: usize,
    /// What was taken from the host and not yet by the service.
    taken: Bytes,
}

impl Stream {
    pub(crate) fn new(shared: Arc<Shared>, outgoing: mpsc::Sender<Message>, payload_bytes_max: u32) -> Self {
        Self { shared, outgoing, payload_bytes_max: payload_bytes_max as usize, taken: Bytes::new() }
    }

    /// Ends when the host closes the stream.
    pub(crate) fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        self.shared.closed.clone().cancelled_owned()
    }

    /// The next bytes, however many came; `None` once the host closed the stream and all was read.
    pub(crate) async fn read(&mut self) -> Option<Bytes> {
        if !self.taken.is_empty() {
            return Some(std::mem::take(&mut self.taken));
        }
        loop {
            let closed = self.shared.closed.is_cancelled();
            if let Some(bytes) = self.shared.take_incoming() {
                if !closed {
                    let acknowledged = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                    // The writer is gone only together with the session, which then ends this service too.
                    let _ = self.outgoing.send(self.shared.okay(acknowledged)).await;
                }
                return Some(bytes);
            }
            if closed {
                return None;
            }
            tokio::select! {
                () = self.shared.readable.notified() => {}
                () = self.shared.closed.cancelled() => {}
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
        let mut bytes = bytes.into();
        while !bytes.is_empty() {
            if self.shared.closed.is_cancelled() {
                return Err(Closed);
            }
            let Some(count) = self.shared.take_send_credit(bytes.len().min(self.payload_bytes_max)) else {
                tokio::select! {
                    () = self.shared.writable.notified() => continue,
                    () = self.shared.closed.cancelled() => return Err(Closed),
                }
            };
            let message = Message::new(Command::WRTE, self.shared.local, self.shared.remote, bytes.split_to(count));
            self.outgoing.send(message).await.map_err(|_| Closed)?;
        }
        Ok(())
    }
}
