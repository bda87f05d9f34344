//! Runs a [`Connection`] over a transport.
//!
//! Three futures in one: the reader hands messages to the core, the writer sends what the core has to say, and the services run.
//! The reader never waits for a service, only for the writer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::auth::Authorisation;
use crate::banner::Profile;
use crate::connection::{Asked, Connection, Demand};
use crate::device::Device;
use crate::limits;
use crate::line::{Job, Line};
use crate::link::{ByteSink, ByteSource, Sink, Source};
use crate::reverse::Listeners;
use crate::services::{self, Ready};
use crate::stream::Stream;
use crate::wire::{Terms, WireError};

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
        self.connection().terms()
    }

    /// Serves one host over a transport that knows messages, as USB does, until it hangs up.
    ///
    /// # Errors
    /// The host sent nonsense, or the transport failed.
    pub async fn serve_messages(&self, messages: impl Source, to_host: impl Sink) -> Result<(), SessionError> {
        let (jobs, to_run) = mpsc::channel(limits::STREAMS_MAX);
        let line = Line::new(self.connection(), jobs);
        let session = Session { handset: self, line: line.clone(), started: Instant::now(), listeners: Arc::default() };
        tokio::select! {
            ended = session.route(messages) => ended,
            sent = send_all(&line, to_host) => sent.map_err(SessionError::Write),
            () = run_all(to_run) => Ok(()),
        }
    }

    fn connection(&self) -> Connection {
        Connection::new(self.profile.clone(), self.authorisation.clone(), Box::new(rand::random))
    }
}

struct Session<'a, D: Device> {
    handset: &'a Handset<D>,
    line: Line,
    started: Instant,
    listeners: Arc<Listeners>,
}

impl<D: Device> Session<'_, D> {
    async fn route(self, mut messages: impl Source) -> Result<(), SessionError> {
        loop {
            while !self.line.with(Connection::takes_more) {
                self.line.has_room().await;
            }
            let message = tokio::select! {
                message = messages.next() => message,
                () = self.deadline() => {
                    self.line.with(|core| core.advance(self.started.elapsed()));
                    continue;
                }
            };
            let Some(message) = message.transpose()? else { break };
            tracing::trace!(command = ?message.command, message.arg0, message.arg1, bytes = message.payload.len(), "from the host");
            match self.line.with(|core| core.receive(message, self.started.elapsed())) {
                Some(Demand::Open(asked)) => self.open(asked).await,
                Some(Demand::ForgetTunnels) => self.listeners.forget(&*self.handset.device),
                None => {}
            }
            messages.agree(self.line.with(|core| core.terms()));
        }
        self.line.with(Connection::lose_host);
        Ok(())
    }

    /// Ends when the core has something to do by itself; never if it has not.
    fn deadline(&self) -> impl Future<Output = ()> + use<D> {
        const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);
        let at = self.line.with(|core| core.deadline());
        tokio::time::sleep_until(at.map_or_else(|| Instant::now() + NEVER, |at| self.started + at))
    }

    async fn open(&self, asked: Asked) {
        let ready = services::prepare(asked.service.clone(), &*self.handset.device).await;
        let Some(ready) = ready else { return self.line.with(|core| core.refuse(&asked)) };
        if let Some(stream) = Stream::begin(&self.line, |core| core.accept(&asked)) {
            // As many jobs fit as there can be streams, so this never waits for one.
            self.line.run(self.job(ready, stream)).await;
        }
    }

    fn job(&self, ready: Ready, stream: Stream) -> Job {
        let (device, line, listeners) =
            (Arc::clone(&self.handset.device), self.line.clone(), Arc::clone(&self.listeners));
        let offers = services::Offers::of(&self.handset.profile);
        let local = stream.local();
        Box::pin(async move {
            let afterwards = services::run(ready, stream, &device, &line, &listeners, offers).await;
            line.with(|core| {
                core.close(local);
                if afterwards == services::Afterwards::Disconnect {
                    core.hang_up();
                }
            });
        })
    }
}

impl<D: Device> Drop for Session<'_, D> {
    fn drop(&mut self) {
        self.listeners.forget(&*self.handset.device);
    }
}

/// Sends messages until the transport fails, or until all are sent and the core hangs up.
async fn send_all(line: &Line, mut to_host: impl Sink) -> io::Result<()> {
    loop {
        let Some((message, sums)) = line.with(Connection::next_message) else {
            if line.with(|core| core.hangs_up()) {
                return Ok(());
            }
            line.has_to_send().await;
            continue;
        };
        tracing::trace!(command = ?message.command, message.arg0, message.arg1, bytes = message.payload.len(), "to the host");
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
