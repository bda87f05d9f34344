//! What everyone else holds of a connection and of a stream.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::inbox::{Inbox, Mail};
use super::{Command, Greeted, Heard};
use crate::adb::banner::Banner;
use crate::adb::connection::{EndReason, Fault, OpenRefused, StreamId};
use crate::adb::turns::{Bus, Party, Pass};

/// How many streams of the handset may wait for whoever listens; one more is refused.
const INCOMING_WAITING_MAX: usize = 16;

/// A handset that is online. Cheap to clone; each call opens a stream of its own.
#[derive(Clone, Debug)]
pub struct Adb {
    shared: Arc<Shared>,
    /// What is written waits for its turn at the handset's bus.
    pass: Option<Pass>,
}

#[derive(Debug)]
struct Shared {
    greeted: Greeted,
    commands: mpsc::Sender<Command>,
    end: watch::Receiver<Option<Fault>>,
    cancel: CancellationToken,
    heard: Arc<Heard>,
}

/// Why a stream was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// OPEN could not be sent.
    #[error("{service:?} can't be opened: {why}")]
    NotSent {
        /// The service.
        service: String,
        /// Why.
        why: OpenRefused,
    },
    /// The handset refused it, or did not answer, or the connection ended.
    #[error("{service:?} was not opened: {reason}")]
    Ended {
        /// The service.
        service: String,
        /// Why.
        reason: EndReason,
    },
}

impl Adb {
    pub(super) fn new(
        greeted: Greeted,
        commands: mpsc::Sender<Command>,
        end: watch::Receiver<Option<Fault>>,
        cancel: CancellationToken,
        heard: Arc<Heard>,
    ) -> Self {
        Self { shared: Arc::new(Shared { greeted, commands, end, cancel, heard }), pass: None }
    }

    /// The handset sits at this bus: what is written shares it with what goes to its other handsets.
    #[must_use]
    pub fn on_bus(self, bus: &Bus) -> Self {
        Self { pass: Some(bus.pass(Party::Rack)), ..self }
    }

    /// The same handset for somebody: what is written by this handle is on his share of the bus.
    #[must_use]
    pub fn for_person(&self, who: &str) -> Self {
        let pass = self.pass.as_ref().map(|pass| pass.of(Party::Person(who.into())));
        Self { shared: Arc::clone(&self.shared), pass }
    }

    /// What the handset said of itself.
    #[must_use]
    pub fn banner(&self) -> &Banner {
        &self.shared.greeted.banner
    }

    /// As [`Adb::banner`], to be kept.
    #[must_use]
    pub fn shared_banner(&self) -> Arc<Banner> {
        Arc::clone(&self.shared.greeted.banner)
    }

    /// The most bytes that one message carries: writes of exactly this length are fastest.
    #[must_use]
    pub fn payload_max(&self) -> usize {
        self.shared.greeted.payload_max
    }

    /// How many bytes are given to a stream at once at most while somebody else makes them: half of what may be on its way, so that the
    /// handset has something to do meanwhile, and no more than one message carries.
    #[must_use]
    pub fn piece_max(&self) -> usize {
        self.payload_max().min(self.shared.greeted.window / 2)
    }

    /// For how long the handset has said nothing, on any stream: while much is on the way to it, an answer comes behind that.
    #[must_use]
    pub fn silent_for(&self) -> Duration {
        self.shared.heard.ago()
    }

    /// Opens a stream to a service such as `shell:ls`. The handset's answer has a deadline.
    ///
    /// # Errors
    /// Why it is not open.
    pub async fn open(&self, service: impl Into<String>) -> Result<Stream, OpenError> {
        let service = service.into();
        let (reply, answer) = oneshot::channel();
        let command = Command::Open { service: service.clone(), reply };
        let asked = self.shared.commands.send(command).await.is_ok();
        match answer.await {
            Ok(opened) if asked => opened.map(|stream| stream.with(self.pass.clone())),
            _ => Err(OpenError::Ended { service, reason: EndReason::Lost(self.fault()) }),
        }
    }

    /// Takes the streams that the handset opens to `service`, such as `tcp:5000` behind a reverse tunnel. Others are refused, and so
    /// are those for which nobody called [`Incoming::next`] in time. A later listener takes an earlier one's place.
    ///
    /// # Errors
    /// Why the connection has ended.
    pub async fn listen(&self, service: impl Into<String>) -> Result<Incoming, Fault> {
        let (to, streams) = mpsc::channel(INCOMING_WAITING_MAX);
        let command = Command::Listen { service: service.into(), to };
        self.shared.commands.send(command).await.map_err(|_| self.fault())?;
        Ok(Incoming { streams, pass: self.pass.clone() })
    }

    /// Waits until the connection has ended, and tells why.
    pub async fn closed(&self) -> Fault {
        let mut end = self.shared.end.clone();
        match end.wait_for(Option::is_some).await {
            Ok(fault) => fault.clone().unwrap_or(Fault::Ended),
            Err(_) => Fault::Ended,
        }
    }

    /// Ends the connection and all its streams.
    pub fn close(&self) {
        self.shared.cancel.cancel();
    }

    fn fault(&self) -> Fault {
        self.shared.end.borrow().clone().unwrap_or(Fault::Ended)
    }
}

/// Streams that the handset opens to one service. Dropping it has further ones refused.
#[derive(Debug)]
pub struct Incoming {
    streams: mpsc::Receiver<Stream>,
    pass: Option<Pass>,
}

impl Incoming {
    /// The next stream, already accepted; none once the connection has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<Stream> {
        self.streams.recv().await.map(|stream| stream.with(self.pass.clone()))
    }
}

/// Why a stream can't be read or written any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream ended: {reason}")]
pub struct StreamError {
    /// Why.
    pub reason: EndReason,
}

/// An open stream. Dropping it closes it at once; what was written and not sent is lost then.
#[derive(Debug)]
pub struct Stream {
    id: StreamId,
    inbox: Arc<Inbox>,
    commands: mpsc::Sender<Command>,
    dropped: mpsc::UnboundedSender<StreamId>,
    pass: Option<Pass>,
}

impl Stream {
    pub(super) fn new(
        id: StreamId,
        inbox: Arc<Inbox>,
        commands: mpsc::Sender<Command>,
        dropped: mpsc::UnboundedSender<StreamId>,
    ) -> Self {
        Self { id, inbox, commands, dropped, pass: None }
    }

    fn with(mut self, pass: Option<Pass>) -> Self {
        self.pass = pass;
        self
    }

    /// The next bytes, or none once the handset closed the stream and all was read. Only what was read is acknowledged, so that a
    /// slow reader holds the handset back. Cancel-safe. It waits as long as nothing comes: the caller has the deadline.
    ///
    /// # Errors
    /// Any other end than the handset's own.
    pub async fn read(&self) -> Result<Option<Bytes>, StreamError> {
        loop {
            // Room for the acknowledgement first: bytes that were taken are never lost by a cancelled read.
            let room = self.commands.reserve().await.ok();
            match self.inbox.take() {
                Some(Mail::Chunk(bytes)) => {
                    if let Some(room) = room {
                        room.send(Command::Consumed { id: self.id, len: bytes.len() });
                    }
                    return Ok(Some(bytes));
                }
                Some(Mail::End(EndReason::ByPeer)) => return Ok(None),
                Some(Mail::End(reason)) => return Err(StreamError { reason }),
                None => drop(room),
            }
            self.inbox.changed().await;
        }
    }

    /// Gives bytes for sending; waits while the stream is full, and for its turn at the handset's bus. Not cancel-safe: the bytes may or may not go.
    ///
    /// # Errors
    /// The stream's end. What the handset sent before can still be read.
    pub async fn write(&self, bytes: Bytes) -> Result<(), StreamError> {
        if let Some(reason) = self.inbox.ended() {
            return Err(StreamError { reason });
        }
        let bytes = match &self.pass {
            Some(pass) => pass.take(bytes).await,
            None => bytes,
        };
        let (reply, answer) = oneshot::channel();
        // The task's end drops both.
        let _ = self.commands.send(Command::Send { id: self.id, bytes, reply }).await;
        match answer.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => Err(StreamError { reason: self.inbox.ended().unwrap_or(reason) }),
            Err(_) => Err(StreamError { reason: self.inbox.ended().unwrap_or(EndReason::Lost(Fault::Ended)) }),
        }
    }

    /// Closes the stream; the same as dropping it.
    pub fn close(self) {}

    /// Closes the stream once all that was written is on its way. What the handset still sends is lost.
    pub async fn finish(self) {
        // Room in the queue is waited for, so that the end comes behind all writes. The task may be gone: then the stream is, too.
        let _ = self.commands.send(Command::Finish { id: self.id }).await;
        self.inbox.until_ended().await;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // The task may be gone: then the stream is, too.
        let _ = self.dropped.send(self.id);
    }
}
