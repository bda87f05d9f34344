//! One task a handset: it owns the core and the transport, everyone else holds an [`Adb`].
//!
//! ```text
//!     Adb, Stream ──bounded commands──▶ task ──▶ Connection (core)
//!         ▲                              │ ▲          │
//!         └────── inbox of a stream ─────┘ └─ Reader, Writer
//! ```
//!
//! Invariant: the task never waits for a consumer. What came sits in the stream's inbox, which the core bounds, since nothing is
//! acknowledged before it was read.
//! Invariant: the task ends when the connection is lost, when [`Adb::close`] is called, or when nobody holds an [`Adb`] or a
//! [`Stream`] any more.

mod handle;
mod inbox;

use std::collections::{BTreeMap, VecDeque};
use std::future::{pending, poll_fn};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, ReusableBoxFuture};
use tracing::Instrument as _;

pub use handle::{Adb, Incoming, OpenError, Stream, StreamError};

use super::auth::KeyRing;
use super::banner::Banner;
use super::connection::{AuthAnswer, Connection, EndReason, Event, Fault, Output, StreamId, Waits};
use super::message::{Decoder, Message};
use super::transport::{Reader, Transport, Writer};
use crate::adb::failure::OpenFault;
use crate::clock::{Deadline, Moment};
use inbox::Inbox;

/// How many commands wait for the task at most; whoever gives one more waits.
const COMMANDS_MAX: usize = 64;

/// How long the way to the handset may take for one message: it stands still then.
const WRITE_WAIT: Duration = Duration::from_secs(60);

/// How to connect.
#[derive(Debug, Default)]
pub struct ConnectOptions {
    /// How long to wait for what.
    pub waits: Waits,
    /// Told once when the handset asks its user to allow this host's key.
    pub authorisation_wanted: Option<oneshot::Sender<()>>,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct ConnectError {
    /// What ended it.
    pub fault: Fault,
}

impl ConnectError {
    /// What kind of failure, to act on.
    #[must_use]
    pub fn kind(&self) -> OpenFault {
        match &self.fault {
            Fault::Ended | Fault::Io(_) | Fault::ByUs => OpenFault::Gone,
            Fault::Unauthorised { .. } | Fault::NoKey => OpenFault::Unauthorised,
            Fault::Frame(_)
            | Fault::Timeout { .. }
            | Fault::WantsTls
            | Fault::Restarted
            | Fault::Version { .. }
            | Fault::PayloadMax { .. }
            | Fault::Auth { .. }
            | Fault::Flood { .. } => OpenFault::Protocol,
        }
    }
}

/// Speaks CNXN over a transport, authenticates, and gives a handle when the handset is online.
///
/// It ends by itself at the deadlines of `options`; while somebody must allow the key on the screen, that is minutes. Dropping the
/// future closes the transport.
///
/// # Errors
/// What ended the connection instead.
pub async fn connect<T: Transport>(
    transport: T,
    keys: Arc<KeyRing>,
    options: ConnectOptions,
) -> Result<Adb, ConnectError> {
    let (commands, command_queue) = mpsc::channel(COMMANDS_MAX);
    // One entry a stream at most: bounded by the core's limit on streams.
    let (dropped, dropped_queue) = mpsc::unbounded_channel();
    let (ready, online) = oneshot::channel();
    let (ended, end) = watch::channel(None);
    let cancel = CancellationToken::new();
    let (reader, writer) = transport.split();
    let started = Instant::now();
    let heard = Arc::new(Heard { started, last_ms: AtomicU64::new(0) });
    let task = Task {
        heard: Arc::clone(&heard),
        core: Connection::new(options.waits, Moment::START).with_window(T::WINDOW),
        decoder: Decoder::default(),
        outgoing: Outgoing::new(writer),
        started,
        keys,
        entries: BTreeMap::new(),
        listeners: BTreeMap::new(),
        handles: Handles { commands: commands.downgrade(), dropped: dropped.clone() },
        ready: Some(ready),
        authorisation_wanted: options.authorisation_wanted,
        ended,
    };
    let queues = Queues { commands: command_queue, dropped: dropped_queue, cancel: cancel.clone() };
    tokio::spawn(task.run(reader, queues).in_current_span());
    match online.await {
        Ok(greeted) => Ok(Adb::new(greeted, commands, end, cancel, heard)),
        Err(_) => Err(ConnectError { fault: end.borrow().clone().unwrap_or(Fault::Ended) }),
    }
}

/// What the greeting brought.
#[derive(Debug)]
struct Greeted {
    banner: Arc<Banner>,
    payload_max: usize,
    /// Of each stream, in bytes.
    window: usize,
}

/// When the handset said something last, of whatever stream.
#[derive(Debug)]
struct Heard {
    started: Instant,
    /// Since `started`.
    last_ms: AtomicU64,
}

impl Heard {
    fn note(&self) {
        self.last_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    fn ago(&self) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(self.last_ms.load(Ordering::Relaxed)))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// What the handles ask of the task.
#[derive(Debug)]
enum Command {
    Open {
        service: String,
        reply: oneshot::Sender<Result<Stream, OpenError>>,
    },
    Send {
        id: StreamId,
        bytes: Bytes,
        reply: oneshot::Sender<Result<(), EndReason>>,
    },
    Consumed {
        id: StreamId,
        len: usize,
    },
    /// The stream ends behind what was given for sending.
    Finish {
        id: StreamId,
    },
    /// Streams that the handset opens to this service go there.
    Listen {
        service: String,
        to: mpsc::Sender<Stream>,
    },
}

/// What a new stream's handle needs. Weak, so that the task ends with the last handle.
#[derive(Debug)]
struct Handles {
    commands: mpsc::WeakSender<Command>,
    dropped: mpsc::UnboundedSender<StreamId>,
}

struct Queues {
    commands: mpsc::Receiver<Command>,
    dropped: mpsc::UnboundedReceiver<StreamId>,
    cancel: CancellationToken,
}

/// A stream as the task sees it.
#[derive(Debug)]
struct Entry {
    inbox: Arc<Inbox>,
    service: String,
    opening: Option<oneshot::Sender<Result<Stream, OpenError>>>,
    /// Writes that wait for room, in order; each writer waits for its own, so that there are as many as writers.
    parked: VecDeque<(Bytes, oneshot::Sender<Result<(), EndReason>>)>,
}

struct Task<W> {
    core: Connection,
    decoder: Decoder,
    outgoing: Outgoing<W>,
    started: Instant,
    heard: Arc<Heard>,
    keys: Arc<KeyRing>,
    entries: BTreeMap<StreamId, Entry>,
    /// Who takes the streams that the handset opens, by service.
    listeners: BTreeMap<String, mpsc::Sender<Stream>>,
    handles: Handles,
    ready: Option<oneshot::Sender<Greeted>>,
    authorisation_wanted: Option<oneshot::Sender<()>>,
    ended: watch::Sender<Option<Fault>>,
}

impl<W: Writer> Task<W> {
    async fn run<R: Reader>(mut self, mut reader: R, mut queues: Queues) {
        loop {
            let deadline = self.settle().await;
            if self.ended.borrow().is_some() {
                return;
            }
            let wait = deadline.map(|deadline| self.started + deadline.at.since_start());
            tokio::select! {
                read = reader.read(self.decoder.want()) => self.arrived(read),
                sent = self.outgoing.done() => if let Err(error) = sent {
                    self.core.fail(Fault::Io(error.to_string()));
                },
                command = queues.commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => self.core.fail(Fault::ByUs),
                },
                Some(id) = queues.dropped.recv() => self.core.close(id, self.now()),
                () = sleep_until(wait) => self.core.advance(self.now()),
                () = queues.cancel.cancelled() => self.core.fail(Fault::ByUs),
            }
        }
    }

    fn now(&self) -> Moment {
        Moment::from_start(self.started.elapsed())
    }

    /// Carries out all that the core says, and gives the way something to do if it is free.
    async fn settle(&mut self) -> Option<Deadline> {
        loop {
            match self.core.poll() {
                Output::Event(event) => self.happened(event).await,
                Output::Idle(deadline) => {
                    // Sending may make room in a stream, which is an event again.
                    if !self.outgoing.is_free() {
                        return deadline;
                    }
                    let Some(message) = self.core.next_transmit(self.now()) else { return deadline };
                    self.outgoing.start(message);
                }
            }
        }
    }

    fn arrived(&mut self, read: io::Result<Bytes>) {
        let message = match read {
            Ok(chunk) if chunk.is_empty() => return self.core.fail(Fault::Ended),
            Ok(chunk) => self.decoder.push(chunk),
            Err(error) => return self.core.fail(Fault::Io(error.to_string())),
        };
        match message {
            Ok(Some(message)) => {
                self.heard.note();
                self.core.receive(message, self.now());
                self.decoder.agree(self.core.framing());
            }
            Ok(None) => {}
            Err(error) => self.core.fail(error.into()),
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Open { service, reply } => match self.core.open(&service, self.now()) {
                Ok(id) => {
                    let inbox = Arc::default();
                    let entry = Entry { inbox, service, opening: Some(reply), parked: VecDeque::new() };
                    self.entries.insert(id, entry);
                }
                Err(why) => drop(reply.send(Err(OpenError::NotSent { service, why }))),
            },
            Command::Send { id, bytes, reply } => {
                let Some(entry) = self.entries.get_mut(&id) else {
                    drop(reply.send(Err(EndReason::ByUs)));
                    return;
                };
                entry.parked.push_back((bytes, reply));
                self.unpark(id);
            }
            Command::Consumed { id, len } => self.core.consumed(id, len),
            Command::Finish { id } => self.core.finish(id, self.now()),
            Command::Listen { service, to } => {
                self.listeners.retain(|_, to| !to.is_closed());
                self.listeners.insert(service, to);
            }
        }
    }

    fn unpark(&mut self, id: StreamId) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        while let Some((bytes, reply)) = entry.parked.pop_front() {
            match self.core.send(id, bytes) {
                Ok(()) => drop(reply.send(Ok(()))),
                Err(bytes) => {
                    entry.parked.push_front((bytes, reply));
                    return;
                }
            }
        }
    }

    async fn happened(&mut self, event: Event) {
        match event {
            Event::Sign { token, attempt } => {
                let answer = sign(self.keys.clone(), token, attempt).await;
                self.core.answer_auth(answer, self.now());
            }
            Event::AuthorisationWanted => {
                if let Some(notice) = self.authorisation_wanted.take() {
                    // Nobody may be interested.
                    let _ = notice.send(());
                }
            }
            Event::Online(banner) => {
                tracing::debug!(skipped = self.decoder.skipped(), ?banner, "ADB is online");
                // If `connect` was dropped, the commands' end follows.
                let payload_max = self.core.framing().payload_max;
                let window = usize::try_from(self.core.window()).unwrap_or(usize::MAX);
                if let Some(ready) = self.ready.take() {
                    drop(ready.send(Greeted { banner: Arc::new(banner), payload_max, window }));
                }
            }
            Event::Incoming { id, service } => self.incoming(id, service),
            Event::Opened { id } => self.opened(id),
            Event::Data { id, bytes } => {
                if let Some(entry) = self.entries.get(&id) {
                    entry.inbox.push(bytes);
                }
            }
            Event::Writable { id } => self.unpark(id),
            Event::Closed { id, reason } => self.closed(id, &reason),
            Event::Lost(fault) => {
                tracing::debug!(%fault, "ADB ended");
                self.ended.send_replace(Some(fault));
                self.ready = None;
            }
        }
    }

    /// The handset opens a stream: it is for whoever listens, and has room for one more.
    fn incoming(&mut self, id: StreamId, service: String) {
        let listener = self.listeners.get(&service).and_then(|to| to.try_reserve().ok());
        let (Some(room), Some(commands)) = (listener, self.handles.commands.upgrade()) else {
            tracing::debug!(%id, service, "refused a stream that the handset opened: nobody takes it");
            self.core.close(id, self.now());
            return;
        };
        let inbox = Arc::<Inbox>::default();
        room.send(Stream::new(id, inbox.clone(), commands, self.handles.dropped.clone()));
        self.core.accept(id);
        self.entries.insert(id, Entry { inbox, service, opening: None, parked: VecDeque::new() });
    }

    fn opened(&mut self, id: StreamId) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let Some(reply) = entry.opening.take() else { return };
        let Some(commands) = self.handles.commands.upgrade() else { return };
        let stream = Stream::new(id, entry.inbox.clone(), commands, self.handles.dropped.clone());
        // Whoever asked may be gone: then the stream's drop closes it.
        let _ = reply.send(Ok(stream));
    }

    fn closed(&mut self, id: StreamId, reason: &EndReason) {
        let Some(entry) = self.entries.remove(&id) else { return };
        tracing::trace!(%id, service = entry.service, %reason, "stream ended");
        entry.inbox.end(reason.clone());
        if let Some(reply) = entry.opening {
            let _ = reply.send(Err(OpenError::Ended { service: entry.service, reason: reason.clone() }));
        }
        for (_, reply) in entry.parked {
            let _ = reply.send(Err(reason.clone()));
        }
    }
}

/// Signs on a thread of its own: it takes some 10 ms on a small host.
///
/// After the last key the public one is offered, and after that the keys come in turn again: the first token may have been an
/// earlier connection's, left in the pipe, so that a key which the handset knows was refused.
async fn sign(keys: Arc<KeyRing>, token: [u8; 20], attempt: usize) -> AuthAnswer {
    let offered = keys.public_key_text();
    let turns = keys.files().count() + 1;
    let signature = tokio::task::spawn_blocking(move || keys.sign(attempt % turns, &token)).await.ok().flatten();
    match (signature, offered) {
        (Some(signature), _) => AuthAnswer::Signature(signature.into()),
        (None, Some(text)) => AuthAnswer::PublicKey(text),
        (None, None) => AuthAnswer::NoKey,
    }
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => pending().await,
    }
}

/// The writer, or the message that it is busy with: that goes on whatever else happens.
struct Outgoing<W> {
    free: Option<W>,
    busy: ReusableBoxFuture<'static, (W, io::Result<()>)>,
}

impl<W: Writer> Outgoing<W> {
    fn new(writer: W) -> Self {
        Self { free: Some(writer), busy: ReusableBoxFuture::new(pending()) }
    }

    fn is_free(&self) -> bool {
        self.free.is_some()
    }

    fn start(&mut self, message: Message) {
        let Some(mut writer) = self.free.take() else { return };
        self.busy.set(async move {
            let written = tokio::time::timeout(WRITE_WAIT, writer.write(message.header.emit(), message.payload)).await;
            let stuck = || io::Error::new(io::ErrorKind::TimedOut, "it took no data for a minute");
            (writer, written.unwrap_or_else(|_| Err(stuck())))
        });
    }

    /// Waits until the message is taken over; for ever if there is none. Cancel-safe.
    async fn done(&mut self) -> io::Result<()> {
        if self.is_free() {
            return pending().await;
        }
        let (writer, result) = poll_fn(|context| self.busy.poll(context)).await;
        self.free = Some(writer);
        result
    }
}
