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

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::auth::{AndroidPublicKey, Authorisation, KeyStore, TOKEN_BYTES, UnknownKey};
use crate::banner::{Feature, Mode, Profile};
use crate::device::Device;
use crate::limits;
use crate::link::{ByteSink, ByteSource, Sink, Source};
use crate::reverse::Listeners;
use crate::services::{self, Service};
use crate::stream::{Flow, Shared, Stream};
use crate::table::{Job, Streams, Switchboard};
use crate::wire::{Command, Message, Sums, Terms, WireError};

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

    /// Serves one host over a byte stream until it hangs up.
    ///
    /// # Errors
    /// The host sent nonsense, or the transport failed.
    pub async fn serve<T>(&self, transport: T) -> Result<(), SessionError>
    where
        T: AsyncRead + AsyncWrite + Send,
    {
        let (reading, writing) = tokio::io::split(transport);
        self.serve_messages(ByteSource::new(reading, self.terms()), ByteSink(writing)).await
    }

    /// What this phone takes before CNXN agreed on less.
    #[must_use]
    pub fn terms(&self) -> Terms {
        Agreed::before_connect(&self.profile).terms(&self.profile)
    }

    /// Serves one host over a transport that knows messages, as USB does, until it hangs up.
    ///
    /// # Errors
    /// The host sent nonsense, or the transport failed.
    pub async fn serve_messages(&self, messages: impl Source, to_host: impl Sink) -> Result<(), SessionError> {
        let (outgoing, to_send) = mpsc::channel(limits::OUTGOING_MESSAGES_MAX);
        let (jobs, to_run) = mpsc::channel(limits::STREAMS_MAX);
        let agreed = Agreed::before_connect(&self.profile);
        let (sums, told) = watch::channel(agreed.sums());
        let switchboard = Switchboard {
            outgoing,
            jobs,
            streams: Streams::default(),
            delayed_ack: false,
            payload_bytes_max: agreed.payload_bytes_max,
            ends: CancellationToken::new(),
        };
        let ends = switchboard.ends.clone();
        let session =
            Session { handset: self, switchboard, agreed, sums, phase: Phase::Silent, listeners: Arc::default() };
        tokio::select! {
            ended = session.route(messages) => ended,
            sent = send_all(to_send, told, to_host, ends) => sent.map_err(SessionError::Write),
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

    /// Whether messages to the host carry sums.
    fn sums(&self) -> Sums {
        Sums::of_version(self.version)
    }

    /// A phone that knows the version without sums looks at none, whatever its host speaks.
    fn terms(&self, profile: &Profile) -> Terms {
        Terms {
            payload_bytes_max: profile.payload_bytes_max(),
            agreed_bytes_max: self.payload_bytes_max,
            sums: Sums::of_version(profile.version),
        }
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
    /// The host wants TLS (STLS), which this phone leaves out: a handshake that fails ends the connection.
    Greeted,
}

struct Session<'a, D: Device> {
    handset: &'a Handset<D>,
    switchboard: Switchboard,
    agreed: Agreed,
    /// Whether the messages to the host carry sums.
    sums: watch::Sender<Sums>,
    phase: Phase,
    listeners: Arc<Listeners>,
}

impl<D: Device> Session<'_, D> {
    async fn route(mut self, mut messages: impl Source) -> Result<(), SessionError> {
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
            messages.agree(self.agreed.terms(&self.handset.profile));
        }
        self.switchboard.streams.take_all().iter().for_each(|shared| shared.close());
        Ok(())
    }

    async fn receive(&mut self, message: Message) {
        tracing::trace!(command = ?message.command, message.arg0, message.arg1, bytes = message.payload.len(), "from the host");
        if matches!(self.phase, Phase::Greeted) {
            // No TLS client says this.
            self.switchboard.ends.cancel();
            return;
        }
        let online = matches!(self.phase, Phase::Online);
        match message.command {
            Command::CNXN => self.connect(message).await,
            Command::AUTH => self.authenticate(message).await,
            Command::STLS => self.phase = Phase::Greeted,
            Command::OPEN if online => self.open(message).await,
            Command::OKAY if online => self.okay(&message).await,
            Command::WRTE if online => self.data(message).await,
            Command::CLSE if online => self.close(&message).await,
            other => tracing::debug!(command = ?other, online, "a message that means nothing now was ignored"),
        }
    }

    /// The host starts, or starts again: nothing of before counts.
    async fn connect(&mut self, message: Message) {
        for shared in self.switchboard.streams.take_all() {
            shared.close();
            self.send(Message::new(Command::CLSE, shared.local(), shared.remote(), Bytes::new())).await;
        }
        self.listeners.forget(&*self.handset.device);
        let profile = &self.handset.profile;
        self.agreed = Agreed {
            version: message.arg0.min(profile.version),
            payload_bytes_max: message.arg1.min(profile.payload_bytes_max()),
            features: profile.common_features(&message.payload),
        };
        self.switchboard.delayed_ack = self.agreed.features.contains(Feature::DELAYED_ACK);
        self.switchboard.payload_bytes_max = self.agreed.payload_bytes_max;
        match &self.handset.authorisation {
            Authorisation::Off => self.online().await,
            Authorisation::Keys(keys) => self.demand_signature(Arc::clone(keys)).await,
        }
    }

    async fn online(&mut self) {
        let profile = &self.handset.profile;
        self.phase = Phase::Online;
        let hello = Message::new(Command::CNXN, profile.version, self.agreed.payload_bytes_max, profile.banner());
        self.send(hello).await;
        self.sums.send_replace(self.agreed.sums());
    }

    async fn demand_signature(&mut self, keys: Arc<KeyStore>) {
        let token: [u8; TOKEN_BYTES] = rand::random();
        self.phase = Phase::Authorising { keys, token };
        self.send(Message::new(Command::AUTH, auth_kind::TOKEN, 0, Bytes::copy_from_slice(&token))).await;
    }

    async fn authenticate(&mut self, message: Message) {
        let keys = match &self.phase {
            Phase::Authorising { keys, .. } | Phase::Asking { keys, .. } => Arc::clone(keys),
            Phase::Silent | Phase::Online if message.arg0 == auth_kind::SIGNATURE => {
                // Nobody asked. adbd knows no key for it, offers a new token, and goes on as before.
                let token: [u8; TOKEN_BYTES] = rand::random();
                return self.send(Message::new(Command::AUTH, auth_kind::TOKEN, 0, token.to_vec())).await;
            }
            Phase::Silent | Phase::Online | Phase::Greeted => return,
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
        if remote == 0 {
            return;
        }
        let flow = match (self.switchboard.delayed_ack, message.arg1) {
            (false, 0) => Some(Flow::StopAndWait),
            (true, send_bytes @ 1..) => Some(Flow::Window { send_bytes }),
            _ => None,
        };
        let android = self.handset.profile.mode == Mode::Android;
        let service = match flow {
            Some(_) if android => Service::parse(&message.payload),
            _ => None,
        };
        let ready = match service {
            // adbd drops the connection before its answer is out.
            Some(Service::Reconnect) => return self.switchboard.ends.cancel(),
            Some(service) => services::prepare(service, &*self.handset.device).await,
            None => None,
        };
        let opened = flow.zip(ready).and_then(|(flow, ready)| {
            let shared = self.switchboard.streams.add(|local| Shared::new(local, remote, flow))?;
            Some((shared, ready))
        });
        let Some((shared, ready)) = opened else {
            tracing::debug!(service = %String::from_utf8_lossy(&message.payload), window = message.arg1, "an OPEN was refused");
            self.send(Message::new(Command::CLSE, 0, remote, Bytes::new())).await;
            return;
        };
        self.send(shared.opened()).await;
        let local = shared.local();
        let stream = Stream::new(shared, self.switchboard.outgoing.clone(), self.agreed.payload_bytes_max);
        let (device, switchboard) = (Arc::clone(&self.handset.device), self.switchboard.clone());
        let listeners = Arc::clone(&self.listeners);
        let offers = services::Offers::of(&self.handset.profile);
        let job = Box::pin(async move {
            let afterwards = services::run(ready, stream, &device, &switchboard, &listeners, offers).await;
            if switchboard.streams.remove(local) {
                // Fails only when the session has ended.
                let _ = switchboard.outgoing.send(Message::new(Command::CLSE, local, remote, Bytes::new())).await;
            }
            if afterwards == services::Afterwards::Disconnect {
                switchboard.hang_up();
            }
        });
        // As many jobs fit as there can be streams, so this never waits for one.
        let _ = self.switchboard.jobs.send(job).await;
    }

    async fn okay(&self, message: &Message) {
        match self.switchboard.streams.find(message.arg1) {
            Some(shared) => match shared.remote() {
                0 => {
                    shared.answered(message.arg0);
                    shared.acknowledged(&message.payload);
                }
                remote if remote == message.arg0 => shared.acknowledged(&message.payload),
                _ => tracing::debug!(stream = message.arg1, "an OKAY for a stream of another was ignored"),
            },
            None => self.refuse(message).await,
        }
    }

    async fn data(&self, message: Message) {
        // A stream that we closed may still be written to until the host hears of it.
        let shared = self.switchboard.streams.find(message.arg1);
        let Some(shared) = shared.filter(|shared| shared.remote() == message.arg0) else { return };
        match shared.received(message.payload.clone()) {
            Ok(Some(answer)) => self.send(answer).await,
            Ok(None) => {}
            Err(_over) => {
                tracing::debug!(
                    stream = message.arg1,
                    "the host sent more than it had leave to: its stream was closed"
                );
                self.switchboard.streams.remove(message.arg1);
                self.refuse(&message).await;
            }
        }
    }

    async fn close(&self, message: &Message) {
        let Some(shared) = self.switchboard.streams.find(message.arg1) else { return };
        let remote = shared.remote();
        if (message.arg0 == 0 || message.arg0 == remote) && self.switchboard.streams.remove(message.arg1) && remote != 0
        {
            self.send(Message::new(Command::CLSE, message.arg1, remote, Bytes::new())).await;
        }
    }

    /// Tells the host that the stream of this message does not exist.
    async fn refuse(&self, message: &Message) {
        self.send(Message::new(Command::CLSE, message.arg1, message.arg0, Bytes::new())).await;
    }

    async fn send(&self, message: Message) {
        // Fails only when the writer is gone, and with it the session.
        let _ = self.switchboard.outgoing.send(message).await;
    }
}

impl<D: Device> Drop for Session<'_, D> {
    fn drop(&mut self) {
        self.listeners.forget(&*self.handset.device);
    }
}

/// Sends messages until the transport fails, or until all are sent after `ends`.
async fn send_all(
    mut messages: mpsc::Receiver<Message>,
    sums: watch::Receiver<Sums>,
    mut to_host: impl Sink,
    ends: CancellationToken,
) -> io::Result<()> {
    loop {
        let message = tokio::select! {
            biased;
            message = messages.recv() => message,
            () = ends.cancelled() => None,
        };
        let Some(message) = message else { return Ok(()) };
        tracing::trace!(command = ?message.command, message.arg0, message.arg1, bytes = message.payload.len(), "to the host");
        // Whoever does not know the host's version yet tells it the sum, which hurts nobody.
        let told = *sums.borrow();
        let sums = if matches!(message.command, Command::CNXN | Command::AUTH) { Sums::Checked } else { told };
        to_host.send(message, sums).await?;
    }
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
