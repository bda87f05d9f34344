//! One connection with a host, from CNXN to its end.
//!
//! ```text
//!   Silent ──CNXN──▶ Authorising ──right signature──▶ Online ──CNXN──▶ (from the start)
//!                        │    ▲                          ▲
//!                        └────┴─ public key ─▶ Asking ───┘ the user allows it
//! ```
//!
//! Three futures in one: the reader routes messages, the writer sends them, and the services run. The reader never waits for a
//! service, only for the writer.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::codec::FramedRead;

use crate::auth::{AndroidPublicKey, Authorisation, KeyStore, TOKEN_BYTES, UnknownKey};
use crate::banner::{Feature, Profile};
use crate::device::Device;
use crate::limits;
use crate::services::{self, Service};
use crate::stream::{Flow, Shared, Stream};
use crate::wire::{Codec, Command, Message, Sums, WireError};

/// First arguments of AUTH.
mod auth_kind {
    pub(super) const TOKEN: u32 = 1;
    pub(super) const SIGNATURE: u32 = 2;
    pub(super) const RSA_PUBLIC_KEY: u32 = 3;
}

/// A phone that hosts can connect to.
pub struct Handset<D> {
    device: Arc<D>,
    profile: Profile,
    authorisation: Authorisation,
}

/// Why a connection ended otherwise than by the host's hanging up.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The host sent what is no ADB, or the transport failed while it was read.
    #[error("reading from the host")]
    Read(#[from] WireError),
    /// The transport failed.
    #[error("writing to the host")]
    Write(#[source] io::Error),
}

impl<D: Device> Handset<D> {
    /// A phone that shows `device` to whom `authorisation` lets in.
    pub fn new(device: Arc<D>, profile: Profile, authorisation: Authorisation) -> Self {
        Self { device, profile, authorisation }
    }

    /// The device behind it.
    #[must_use]
    pub fn device(&self) -> &D {
        &self.device
    }

    /// Serves one host until it hangs up.
    ///
    /// # Errors
    /// The host sent nonsense, or the transport failed.
    pub async fn serve<T>(&self, transport: T) -> Result<(), SessionError>
    where
        T: AsyncRead + AsyncWrite + Send,
    {
        let (reading, writing) = tokio::io::split(transport);
        let codec = Codec::new(self.profile.payload_bytes_max(), Sums::of_version(self.profile.version));
        let messages = FramedRead::new(reading, codec);
        let (outgoing, to_send) = mpsc::channel(limits::OUTGOING_MESSAGES_MAX);
        let (jobs, to_run) = mpsc::channel(limits::STREAMS_MAX);
        let session = Session {
            handset: self,
            outgoing,
            jobs,
            agreed: Agreed::before_connect(&self.profile),
            phase: Phase::Silent,
            streams: Streams::default(),
        };
        tokio::select! {
            ended = session.route(messages) => ended,
            error = send_all(to_send, writing) => Err(SessionError::Write(error)),
            () = run_all(to_run) => Ok(()),
        }
    }
}

/// What CNXN agreed on.
#[derive(Clone, Debug)]
struct Agreed {
    version: u32,
    payload_bytes_max: u32,
    features: BTreeSet<String>,
}

impl Agreed {
    fn before_connect(profile: &Profile) -> Self {
        Self { version: profile.version, payload_bytes_max: profile.payload_bytes_max(), features: BTreeSet::new() }
    }
}

enum Phase {
    /// Nothing came yet.
    Silent,
    /// The host must sign this.
    Authorising { keys: Arc<KeyStore>, token: [u8; TOKEN_BYTES] },
    /// The question is on the screen; with `answered_at` the user will allow it.
    Asking { keys: Arc<KeyStore>, key: AndroidPublicKey, answered_at: Option<Instant> },
    /// The host may open streams.
    Online,
}

/// The streams of a connection by our id.
#[derive(Clone, Default)]
struct Streams(Arc<Mutex<StreamTable>>);

#[derive(Default)]
struct StreamTable {
    open: BTreeMap<u32, Arc<Shared>>,
    last_id: u32,
}

impl Streams {
    fn lock(&self) -> MutexGuard<'_, StreamTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new stream; `None` if there are too many.
    fn add(&self, remote: u32, flow: Flow) -> Option<(u32, Arc<Shared>)> {
        let mut table = self.lock();
        if table.open.len() >= limits::STREAMS_MAX {
            return None;
        }
        // With fewer streams than numbers there is a free one; 0 means "none".
        loop {
            table.last_id = table.last_id.wrapping_add(1);
            let id = table.last_id;
            if id != 0 && !table.open.contains_key(&id) {
                let shared = Shared::new(id, remote, flow);
                table.open.insert(id, Arc::clone(&shared));
                return Some((id, shared));
            }
        }
    }

    fn find(&self, local: u32, remote: u32) -> Option<Arc<Shared>> {
        self.lock().open.get(&local).filter(|shared| shared.remote() == remote).cloned()
    }

    /// Takes the stream out; false if it was already.
    fn remove(&self, local: u32) -> bool {
        self.lock().open.remove(&local).map(|shared| shared.close()).is_some()
    }

    fn close_all(&self) {
        let open = std::mem::take(&mut self.lock().open);
        open.values().for_each(|shared| shared.close());
    }
}

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Session<'a, D> {
    handset: &'a Handset<D>,
    outgoing: mpsc::Sender<Message>,
    jobs: mpsc::Sender<Job>,
    agreed: Agreed,
    phase: Phase,
    streams: Streams,
}

impl<D: Device> Session<'_, D> {
    async fn route<R>(mut self, mut messages: FramedRead<R, Codec>) -> Result<(), SessionError>
    where
        R: AsyncRead + Unpin,
    {
        loop {
            let message = tokio::select! {
                message = messages.next() => message,
                () = self.user_allows() => {
                    self.allow_asking_host().await;
                    continue;
                }
            };
            match message {
                None => break,
                Some(message) => self.receive(message?).await,
            }
            messages.decoder_mut().agree(self.agreed.payload_bytes_max, Sums::of_version(self.agreed.version));
        }
        self.streams.close_all();
        Ok(())
    }

    async fn receive(&mut self, message: Message) {
        tracing::trace!(command = ?message.command, message.arg0, message.arg1, bytes = message.payload.len(), "from the host");
        let online = matches!(self.phase, Phase::Online);
        match message.command {
            Command::CNXN => self.connect(message).await,
            Command::AUTH => self.authenticate(message).await,
            Command::OPEN if online => self.open(message).await,
            Command::OKAY if online => self.okay(&message).await,
            Command::WRTE if online => self.data(&message).await,
            Command::CLSE if online => self.close(&message).await,
            other => tracing::debug!(command = ?other, online, "a message that means nothing now was ignored"),
        }
    }

    /// The host starts, or starts again: nothing of before counts.
    async fn connect(&mut self, message: Message) {
        self.streams.close_all();
        let profile = &self.handset.profile;
        self.agreed = Agreed {
            version: message.arg0.min(profile.version),
            // adbd takes whatever the host says; with less than a header a stream would never get on.
            payload_bytes_max: message.arg1.clamp(64, profile.payload_bytes_max()),
            features: profile.common_features(&message.payload),
        };
        match &self.handset.authorisation {
            Authorisation::Off => self.online().await,
            Authorisation::Keys(keys) => self.demand_signature(Arc::clone(keys)).await,
        }
    }

    async fn online(&mut self) {
        let profile = &self.handset.profile;
        self.phase = Phase::Online;
        self.send(Message::new(Command::CNXN, profile.version, profile.payload_bytes_max(), profile.banner())).await;
    }

    async fn demand_signature(&mut self, keys: Arc<KeyStore>) {
        let token: [u8; TOKEN_BYTES] = rand::random();
        self.phase = Phase::Authorising { keys, token };
        self.send(Message::new(Command::AUTH, auth_kind::TOKEN, 0, Bytes::copy_from_slice(&token))).await;
    }

    async fn authenticate(&mut self, message: Message) {
        let keys = match &self.phase {
            Phase::Authorising { keys, .. } | Phase::Asking { keys, .. } => Arc::clone(keys),
            Phase::Silent | Phase::Online => return,
        };
        match message.arg0 {
            auth_kind::SIGNATURE => {
                let Phase::Authorising { token, .. } = &self.phase else { return };
                if keys.signed_by_one(token, &message.payload) {
                    self.online().await;
                } else {
                    self.demand_signature(keys).await;
                }
            }
            auth_kind::RSA_PUBLIC_KEY => match AndroidPublicKey::parse(&message.payload) {
                Ok(key) => {
                    let answered_at = match keys.unknown() {
                        UnknownKey::AcceptAfter(delay) => Some(Instant::now() + delay),
                        UnknownKey::Ignore => None,
                    };
                    self.phase = Phase::Asking { keys, key, answered_at };
                }
                Err(error) => tracing::debug!(%error, "the host's public key was ignored"),
            },
            kind => tracing::debug!(kind, "an AUTH message of no known kind was ignored"),
        }
    }

    /// Ends when the user allows the host that asks; never if nobody asks.
    fn user_allows(&self) -> impl Future<Output = ()> + use<D> {
        const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);
        let at = match &self.phase {
            Phase::Asking { answered_at: Some(at), .. } => Some(*at),
            _ => None,
        };
        tokio::time::sleep_until(at.unwrap_or_else(|| Instant::now() + NEVER))
    }

    async fn allow_asking_host(&mut self) {
        if let Phase::Asking { keys, key, answered_at: Some(_) } = &self.phase {
            keys.allow(key.clone());
            self.online().await;
        }
    }

    async fn open(&mut self, message: Message) {
        let remote = message.arg0;
        let delayed = self.agreed.features.contains(Feature::DELAYED_ACK);
        let flow = match (delayed, message.arg1) {
            (false, 0) => Some(Flow::StopAndWait),
            (true, window @ 1..) => Some(Flow::Window { send_bytes: window }),
            _ => None,
        };
        let service = flow.and_then(|flow| Some((flow, Service::parse(&message.payload)?)));
        let opened = service.filter(|_| remote != 0).and_then(|(flow, service)| {
            let (local, shared) = self.streams.add(remote, flow)?;
            Some((local, shared, service))
        });
        let Some((local, shared, service)) = opened else {
            tracing::debug!(service = %String::from_utf8_lossy(&message.payload), window = message.arg1, "an OPEN was refused");
            self.send(Message::new(Command::CLSE, 0, remote, Bytes::new())).await;
            return;
        };
        self.send(shared.opened()).await;
        let stream = Stream::new(shared, self.outgoing.clone(), self.agreed.payload_bytes_max);
        let (device, streams, outgoing) =
            (Arc::clone(&self.handset.device), self.streams.clone(), self.outgoing.clone());
        let job = Box::pin(async move {
            services::run(service, stream, &*device).await;
            if streams.remove(local) {
                // Fails only when the session has ended.
                let _ = outgoing.send(Message::new(Command::CLSE, local, remote, Bytes::new())).await;
            }
        });
        // As many jobs fit as there can be streams, so this never waits for one.
        let _ = self.jobs.send(job).await;
    }

    async fn okay(&self, message: &Message) {
        match self.streams.find(message.arg1, message.arg0) {
            Some(shared) => shared.acknowledged(&message.payload),
            None => self.refuse(message).await,
        }
    }

    async fn data(&self, message: &Message) {
        // A stream that we closed may still be written to until the host hears of it.
        let Some(shared) = self.streams.find(message.arg1, message.arg0) else { return };
        match shared.received(&message.payload) {
            Ok(Some(answer)) => self.send(answer).await,
            Ok(None) => {}
            Err(_over) => {
                tracing::debug!(
                    stream = message.arg1,
                    "the host sent more than it had leave to: its stream was closed"
                );
                self.streams.remove(message.arg1);
                self.refuse(message).await;
            }
        }
    }

    async fn close(&self, message: &Message) {
        let known = self.streams.find(message.arg1, message.arg0).is_some();
        if known && self.streams.remove(message.arg1) {
            self.send(Message::new(Command::CLSE, message.arg1, message.arg0, Bytes::new())).await;
        }
    }

    /// Tells the host that the stream of this message does not exist.
    async fn refuse(&self, message: &Message) {
        self.send(Message::new(Command::CLSE, message.arg1, message.arg0, Bytes::new())).await;
    }

    async fn send(&self, message: Message) {
        // Fails only when the writer is gone, and with it the session.
        let _ = self.outgoing.send(message).await;
    }
}

/// Sends messages until the transport fails.
async fn send_all<W: AsyncWrite + Unpin>(mut messages: mpsc::Receiver<Message>, mut writing: W) -> io::Error {
    // CNXN is checked by the oldest hosts before they know our version, and sums hurt nobody.
    let sums = Sums::Checked;
    while let Some(message) = messages.recv().await {
        tracing::trace!(command = ?message.command, message.arg0, message.arg1, bytes = message.payload.len(), "to the host");
        let header = message.header(sums);
        let written = async {
            writing.write_all_buf(&mut header.chain(message.payload)).await?;
            writing.flush().await
        };
        if let Err(error) = written.await {
            return error;
        }
    }
    io::Error::from(io::ErrorKind::BrokenPipe)
}

/// Runs the services side by side until no more can come.
async fn run_all(mut jobs: mpsc::Receiver<Job>) {
    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            job = jobs.recv() => match job {
                Some(job) => running.push(job),
                None => return,
            },
            Some(()) = running.next() => {}
        }
    }
}
