//! The shell of one line: a TCP connection and a timer around [`Session`].
//!
//! It decides nothing. A registered line that has nothing to read holds no buffer: there may be thousands of them.

use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::catalogue;
use super::frame::{self, Split};
use super::resolver::Resolver;
use super::session::{Judged, Output, Session, Settings};
use crate::clock::{Deadline, Moment, UnixMillis};
use crate::config::{self, MinuteOfDay};
use crate::rack::event::{LineCommand, LineEvent, LineWait};
use crate::rack::ids::PhoneId;
use crate::reason;
use crate::store::Store;
use crate::store::promise::{AuditRecord, Promise};

/// What is read at once; most frames are shorter than a tenth of it.
const READ_CHUNK: usize = 4096;
/// A server that takes no bytes for this long is as good as gone.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// The last words (an Error, an acknowledgement) and the end of the stream get this long to leave.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(1);

/// Who is said in the audit to have asked for something.
const CENTRE: &str = "central server";

/// What all lines share: what the owner set, and where they write down what the centre asked for.
#[derive(Clone, Debug)]
pub struct LineSettings {
    /// The central server, looked up once for all lines.
    pub server: Resolver,
    /// The longest frame that is taken, in bytes.
    pub max_frame: usize,
    /// Intervals and deadlines; the policy is the next field's.
    pub session: Settings,
    /// What the centre may do, whenever the owner changes it.
    pub policy: watch::Receiver<Arc<config::Policy>>,
    /// Where the audit is.
    pub store: Store,
}

impl LineSettings {
    /// As the owner configured it.
    #[must_use]
    pub fn new(central: &config::Central, policy: watch::Receiver<Arc<config::Policy>>, store: Store) -> Self {
        Self {
            server: Resolver::new(central.server.clone()),
            max_frame: central.max_frame,
            session: Settings { warn: central.warn, ..Settings::new(central.heartbeat) },
            policy,
            store,
        }
    }
}

/// Runs the line of `phone`, closed at first, until `cancel`, or until `commands` or `events` has no other end.
pub fn spawn(
    settings: LineSettings,
    phone: PhoneId,
    commands: mpsc::Receiver<LineCommand>,
    events: mpsc::Sender<LineEvent>,
    cancel: CancellationToken,
) -> JoinHandle<()> {
    let span = tracing::info_span!("line", %phone);
    let mut policy = settings.policy;
    let session = Settings { policy: policy.borrow_and_update().as_ref().clone(), ..settings.session };
    let line = Line {
        phone,
        policy,
        store: settings.store,
        session: Session::new(session, rand::random()),
        server: settings.server,
        max_frame: settings.max_frame,
        started: Instant::now(),
        link: Link::Down,
        events,
        told: None,
    };
    tokio::spawn(line.run(commands, cancel).instrument(span))
}

struct Line {
    phone: PhoneId,
    policy: watch::Receiver<Arc<config::Policy>>,
    store: Store,
    session: Session,
    server: Resolver,
    max_frame: usize,
    started: Instant,
    link: Link,
    events: mpsc::Sender<LineEvent>,
    /// What the model was told last of what is waited for.
    told: Option<Deadline>,
}

/// The way to the server.
enum Link {
    Down,
    Connecting(Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>),
    Up(TcpStream, BytesMut),
}

/// What came by the link.
enum Arrival {
    Connected(io::Result<TcpStream>),
    Readable(io::Result<()>),
}

/// Whether anybody still listens to the line's events.
#[derive(PartialEq, Eq)]
enum Audience {
    There,
    Gone,
}

impl Line {
    async fn run(mut self, mut commands: mpsc::Receiver<LineCommand>, cancel: CancellationToken) {
        let end = cancel.clone();
        // A full queue of events or a server that takes no bytes must not hold up the end of the daemon.
        end.run_until_cancelled(self.serve(&mut commands)).await;
        self.disconnect().await;
    }

    async fn serve(&mut self, commands: &mut mpsc::Receiver<LineCommand>) {
        while self.drain().await == Audience::There {
            let deadline = self.session.deadline().map(|deadline| self.started + deadline.at.since_start());
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.session.command(command, self.now()),
                    None => return,
                },
                arrival = self.link.arrival() => self.arrived(arrival).await,
                // Without an owner who could change it, it stays as it is.
                Ok(()) = self.policy.changed() => {
                    let policy = self.policy.borrow_and_update().as_ref().clone();
                    self.session.change_policy(policy);
                }
                () = at(deadline) => self.session.advance(self.now()),
            }
        }
    }

    fn now(&self) -> Moment {
        Moment::from_start(self.started.elapsed())
    }

    /// Does what the session wants.
    async fn drain(&mut self) -> Audience {
        while let Some(output) = self.session.poll() {
            match output {
                Output::Connect => self.link = Link::Connecting(Box::pin(connect(self.server.clone()))),
                Output::Transmit(frame) => self.transmit(frame).await,
                Output::Disconnect => self.disconnect().await,
                Output::Judged(judged) => self.record(judged).await,
                Output::Event(event) => {
                    if self.events.send(event).await.is_err() {
                        return Audience::Gone;
                    }
                }
            }
        }
        self.tell_wait().await
    }

    /// What is not in the audit has no consequences. A store that is busy holds the centre back.
    async fn record(&mut self, judged: Judged) {
        let what = match judged.refused {
            None => format!("{} passed", catalogue::describe(judged.msg_type)),
            Some(why) => format!("{} was refused: {why}", catalogue::describe(judged.msg_type)),
        };
        let at = UnixMillis::from(SystemTime::now());
        let record = AuditRecord { at, who: CENTRE.to_owned(), what, target: self.phone.to_string() };
        if let Err(why) = self.store.commit(vec![Promise::Audit(record)]).await {
            self.session.unrecorded(why, self.now());
        }
    }

    async fn tell_wait(&mut self) -> Audience {
        let deadline = self.session.deadline();
        if deadline == self.told {
            return Audience::There;
        }
        self.told = deadline;
        let now = self.now();
        let wait = deadline.map(|deadline| LineWait { within: deadline.at.since(now), why: deadline.why });
        match self.events.send(LineEvent::Waits(wait)).await {
            Ok(()) => Audience::There,
            Err(_) => Audience::Gone,
        }
    }

    async fn transmit(&mut self, frame: Bytes) {
        let Link::Up(stream, _) = &mut self.link else { return };
        let failure = match timeout(WRITE_DEADLINE, stream.write_all(&frame)).await {
            Ok(Ok(())) => return,
            Ok(Err(why)) => reason::of(&why),
            Err(_) => format!("it took no bytes for {} s", WRITE_DEADLINE.as_secs()),
        };
        self.link = Link::Down;
        self.session.closed(failure, self.now());
    }

    async fn disconnect(&mut self) {
        if let Link::Up(mut stream, _) = std::mem::replace(&mut self.link, Link::Down) {
            // Whether the farewell arrives is the server's affair.
            let _ = timeout(SHUTDOWN_DEADLINE, stream.shutdown()).await;
        }
    }

    async fn arrived(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Connected(Ok(stream)) => {
                self.link = Link::Up(stream, BytesMut::new());
                self.session.connected(self.now());
            }
            Arrival::Connected(Err(why)) => {
                self.link = Link::Down;
                self.session.connect_failed(reason::connecting(self.server.server(), &why), self.now());
            }
            Arrival::Readable(Ok(())) => self.read().await,
            Arrival::Readable(Err(why)) => self.lost(reason::of(&why)),
        }
    }

    /// Takes one chunk from the server and hands over each whole frame.
    async fn read(&mut self) {
        let Link::Up(stream, buffer) = &mut self.link else { return };
        buffer.reserve(READ_CHUNK);
        match stream.try_read_buf(buffer) {
            Ok(0) => {
                let end = frame::at_close(buffer, self.max_frame);
                self.lost(end.err().map_or_else(|| "it was closed by the server".to_owned(), |why| why.to_string()));
            }
            Ok(_) => self.take_frames().await,
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => release(buffer),
            Err(why) => self.lost(reason::of(&why)),
        }
    }

    /// Each answer leaves before the next frame is looked at, so that a server which does not read is not read either.
    async fn take_frames(&mut self) {
        while let Link::Up(_, buffer) = &mut self.link {
            let now = Moment::from_start(self.started.elapsed());
            self.session.clock_shows(minute_of_day());
            match frame::split(buffer, self.max_frame) {
                Ok(Split::Frame { payload, consumed }) => {
                    self.session.receive(payload, now);
                    buffer.advance(consumed);
                }
                Ok(Split::Partial { .. }) => return release(buffer),
                Err(why) => self.session.corrupt(why, now),
            }
            if self.drain().await == Audience::Gone {
                return;
            }
        }
    }

    fn lost(&mut self, why: impl std::fmt::Display) {
        self.link = Link::Down;
        self.session.closed(why, self.now());
    }
}

impl Link {
    /// Waits for the next thing to come by the link; for ever while it is down. May be dropped and called again.
    async fn arrival(&mut self) -> Arrival {
        match self {
            Self::Down => pending().await,
            Self::Connecting(attempt) => Arrival::Connected(attempt.await),
            Self::Up(stream, _) => Arrival::Readable(stream.readable().await),
        }
    }
}

/// By the rack's own clock and time zone.
fn minute_of_day() -> MinuteOfDay {
    let now = jiff::ZonedDateTime::now();
    let (hour, minute) = (now.hour().unsigned_abs(), now.minute().unsigned_abs());
    MinuteOfDay::new(hour, minute).unwrap_or_default()
}

/// The session's deadline bounds this.
async fn connect(server: Resolver) -> io::Result<TcpStream> {
    let addresses = server.addresses().await?;
    let stream = TcpStream::connect(&*addresses).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

/// Gives an empty buffer's memory back.
fn release(buffer: &mut BytesMut) {
    if buffer.is_empty() {
        *buffer = BytesMut::new();
    }
}
