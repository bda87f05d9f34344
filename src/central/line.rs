//! The shell of one line: a connection to the server, the agent's way to it through the cable, and a timer around [`Relay`].
//!
//! It decides nothing. A registered line that has nothing to read holds no buffer: there may be thousands of them.

mod agent;
mod disk;
mod link;
mod server;
mod tls;
mod tunnel;

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Buf, BytesMut};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use self::agent::{AgentLink, Buffered, Turn, Wants};
use self::disk::Disk;
use self::link::{Arrival, Link};
pub use self::server::Server;
pub use self::tls::TlsError;
use self::tunnel::Tunnel;
use super::catalogue;
use super::frame::{self, Split};
use super::outgoing::Outgoing;
use super::pace::{Pace, Speakers};
use super::relay::Relay;
use super::session::{Judged, Output, Session, Settings, Who};
use crate::adb::driver::Stream;
use crate::adb::online::OnlinePhones;
use crate::clock::{Deadline, Moment, UnixMillis};
use crate::config::{self, Ack, MinuteOfDay};
use crate::rack::event::{LineCommand, LineEvent, LineWait};
use crate::rack::ids::PhoneId;
use crate::store::Store;
use crate::store::promise::{AuditRecord, Promise};
pub use disk::Storage;
pub use tunnel::Agents;

/// A server that takes no bytes for this long is as good as gone.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// The last words (an Error, an acknowledgement) and the end of the stream get this long to leave.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(1);

/// Connections from one phone: the agent's, one that may take its place, and one for a moment, until another has made room.
const AGENT_LINKS: usize = 3;

/// What all lines share: what the owner set, and where they write down what the centre asked for.
#[derive(Clone, Debug)]
pub struct LineSettings {
    /// Where the moments of all lines begin.
    pub started: Instant,
    /// The central servers, in the order in which they are tried.
    pub servers: Vec<Server>,
    /// The longest frame that is taken, in bytes.
    pub max_frame: usize,
    /// Intervals and deadlines; the policy is the next field's.
    pub session: Settings,
    /// What the centre may do, whenever the owner changes it.
    pub policy: watch::Receiver<Arc<config::Policy>>,
    /// Where the audit is.
    pub store: Store,
    /// How the central server shows that it has taken a notice.
    pub ack: Ack,
    /// How agents on phones find their lines.
    pub agents: Agents,
    /// Who speaks, so that none of them is heard at the others' cost.
    pub speakers: Speakers,
    /// Where what agents say is kept while the central server is away; without it they are held back.
    pub storage: Option<Storage>,
}

impl LineSettings {
    /// As the owner configured it.
    ///
    /// # Errors
    /// Why TLS can't be spoken so.
    pub fn new(
        central: &config::Central,
        upgrades: config::FromCentral,
        policy: watch::Receiver<Arc<config::Policy>>,
        store: Store,
        online: OnlinePhones,
        storage: Option<Storage>,
    ) -> Result<Self, TlsError> {
        let servers = Server::all_of(central)?;
        let names = servers.iter().map(|server| server.address().to_owned()).collect();
        Ok(Self {
            started: Instant::now(),
            servers,
            max_frame: central.max_frame,
            session: Settings { warn: central.warn, upgrades, servers: names, ..Settings::new(central.heartbeat) },
            policy,
            store,
            ack: central.ack,
            agents: Agents { online, port: central.relay.agent_port },
            speakers: Speakers::default(),
            storage,
        })
    }
}

/// Runs the line of `phone`, closed at first, until `cancel`, or until `commands` or `events` has no other end.
pub fn spawn(
    settings: LineSettings,
    phone: PhoneId,
    mut commands: mpsc::Receiver<LineCommand>,
    events: mpsc::Sender<LineEvent>,
    cancel: CancellationToken,
) -> JoinHandle<()> {
    let span = tracing::info_span!("line", %phone);
    let mut policy = settings.policy;
    let session = Settings { policy: policy.borrow_and_update().as_ref().clone(), ..settings.session };
    let session = Session::new(session, rand::random());
    // Beyond all Ids of a daemon that ran before: no line carries a million messages a second.
    let first_id = UnixMillis::from(SystemTime::now()).0.saturating_mul(1000);
    let relay = Relay::new(session, settings.ack, first_id);
    let relay = match &settings.storage {
        Some(storage) => relay.with_disk(storage.per_second),
        None => relay,
    };
    let started = settings.started;
    let mut line = Line {
        phone,
        policy,
        store: settings.store,
        relay,
        disk: Disk::new(settings.storage),
        agents: settings.agents,
        pace: settings.speakers.join(Moment::from_start(started.elapsed())),
        tunnel: None,
        links: [None, None, None],
        connections: 0,
        servers: settings.servers,
        max_frame: settings.max_frame,
        started,
        link: Link::Down,
        outgoing: Outgoing::default(),
        events,
        told: None,
    };
    // A future that takes what it works with by value, or is handed to another, has room for it twice: there may be thousands of lines.
    tokio::spawn(async move { line.run(&mut commands, &cancel).await }.instrument(span))
}

struct Line {
    phone: PhoneId,
    policy: watch::Receiver<Arc<config::Policy>>,
    store: Store,
    relay: Relay,
    disk: Disk,
    agents: Agents,
    pace: Pace,
    tunnel: Option<Tunnel>,
    links: [Option<AgentLink>; AGENT_LINKS],
    /// From the phone, so far.
    connections: u64,
    servers: Vec<Server>,
    max_frame: usize,
    started: Instant,
    link: Link,
    outgoing: Outgoing,
    events: mpsc::Sender<LineEvent>,
    /// What the model was told last of what is waited for.
    told: Option<Deadline>,
}

/// Whether the server has what was for it, as far as this host knows.
#[derive(PartialEq, Eq)]
enum Sent {
    All,
    Not,
}

/// Whether anybody still listens to the line's events.
#[derive(PartialEq, Eq)]
enum Audience {
    There,
    Gone,
}

impl Line {
    async fn run(&mut self, commands: &mut mpsc::Receiver<LineCommand>, cancel: &CancellationToken) {
        // A full queue of events or a server that takes no bytes must not hold up the end of the daemon.
        tokio::select! {
            biased;
            () = cancel.cancelled() => {}
            () = self.serve(commands) => {}
        }
        self.disconnect().await;
    }

    async fn serve(&mut self, commands: &mut mpsc::Receiver<LineCommand>) {
        while self.drain().await == Audience::There && self.hear_agents().await == Audience::There {
            if self.flush().await == Sent::Not {
                continue;
            }
            let hushed_until = self.pace.hushed_until().map(|at| self.instant(at));
            let deadline = self.relay.deadline().map(|deadline| self.instant(deadline.at));
            let wants = [0, 1, 2].map(|at| self.wants(at));
            let [first, second, third] = &self.links;
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                arrival = self.link.arrival() => self.arrived(arrival).await,
                turn = turn_of(first.as_ref(), wants[0]) => self.take_turn(0, turn),
                turn = turn_of(second.as_ref(), wants[1]) => self.take_turn(1, turn),
                turn = turn_of(third.as_ref(), wants[2]) => self.take_turn(2, turn),
                stream = connection(&mut self.tunnel) => self.agent_connects(stream),
                (owner, answer) = self.disk.answer() => self.relay.disk_says(&owner, answer, self.now()),
                // Without an owner who could change it, it stays as it is.
                Ok(()) = self.policy.changed() => {
                    let policy = self.policy.borrow_and_update().as_ref().clone();
                    self.relay.change_policy(policy);
                }
                () = at(deadline) => self.relay.advance(self.now()),
                () = at(hushed_until) => {}
            }
        }
    }

    fn obey(&mut self, command: LineCommand) {
        match &command {
            LineCommand::Tunnel(None) | LineCommand::Close { .. } => self.tunnel = None,
            LineCommand::Tunnel(Some(endpoint)) => {
                self.tunnel = Some(Tunnel::keep(self.agents.clone(), endpoint.clone()));
            }
            _ => {}
        }
        self.relay.command(command, self.now());
    }

    /// The one that the session wants, or has tried last.
    fn server(&self) -> Option<&Server> {
        self.servers.get(self.relay.session().server())
    }

    fn now(&self) -> Moment {
        Moment::from_start(self.started.elapsed())
    }

    fn instant(&self, moment: Moment) -> Instant {
        self.started + moment.since_start()
    }

    /// Does what the session wants.
    async fn drain(&mut self) -> Audience {
        while let Some(output) = self.relay.poll() {
            if !matches!(output, Output::Transmit(_) | Output::TellAgent { .. }) {
                self.flush().await;
            }
            match output {
                Output::Connect => self.link = Link::connect(self.server().cloned()),
                Output::Transmit(frame) => {
                    self.outgoing.push(frame);
                    if self.outgoing.is_enough() {
                        self.flush().await;
                    }
                }
                Output::Disconnect => self.disconnect().await,
                Output::Judged(judged) => self.record(judged).await,
                Output::TellAgent { connection, frame } => {
                    let mut links = self.links.iter().flatten();
                    links.find(|link| link.number == connection).into_iter().for_each(|link| link.send(frame.clone()));
                }
                Output::EndAgent { connection } => self.end_agent(connection),
                Output::Disk(request) => self.disk.ask(request).await,
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
        let who = match judged.who {
            Who::Centre => "central server",
            Who::Agent => "agent",
        };
        let at = UnixMillis::from(SystemTime::now());
        let record = AuditRecord { at, who: who.to_owned(), what, target: self.phone.to_string() };
        if let Err(why) = self.store.commit(vec![Promise::Audit(record)]).await {
            self.relay.unrecorded(why, self.now());
        }
    }

    async fn tell_wait(&mut self) -> Audience {
        let deadline = self.relay.deadline();
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

    /// Sends the server what is for it.
    async fn flush(&mut self) -> Sent {
        while self.outgoing.has_remaining() {
            let Link::Up(wire, _) = &mut self.link else {
                self.outgoing = Outgoing::default();
                return Sent::All;
            };
            let failure = match timeout(WRITE_DEADLINE, wire.send_some(&mut self.outgoing)).await {
                Ok(Ok(())) => continue,
                Ok(Err(why)) => tls::words(&why),
                Err(_) => format!("it took no bytes for {} s", WRITE_DEADLINE.as_secs()),
            };
            self.lost(failure);
            return Sent::Not;
        }
        Sent::All
    }

    async fn disconnect(&mut self) {
        let mut last = std::mem::take(&mut self.outgoing);
        if let Link::Up(mut wire, _) = std::mem::replace(&mut self.link, Link::Down) {
            let farewell = async {
                while last.has_remaining() {
                    wire.send_some(&mut last).await?;
                }
                wire.shutdown().await
            };
            // Whether it arrives is the server's affair.
            let _ = timeout(SHUTDOWN_DEADLINE, farewell).await;
        }
    }

    async fn arrived(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Connected(Ok(wire)) => {
                self.link = Link::Up(wire, BytesMut::new());
                self.relay.connected(self.now());
            }
            Arrival::Connected(Err(why)) => {
                self.link = Link::Down;
                self.relay.connect_failed(why, self.now());
            }
            Arrival::Read(Ok(0)) => {
                let Link::Up(_, buffer) = &self.link else { return };
                let end = frame::at_close(buffer, self.max_frame);
                self.lost(end.err().map_or_else(|| "it was closed by the server".to_owned(), |why| why.to_string()));
            }
            Arrival::Read(Ok(_)) => self.take_frames().await,
            Arrival::Read(Err(why)) => self.lost(tls::words(&why)),
        }
    }

    /// The answers leave before more is read, so that a server which does not read is not read either.
    async fn take_frames(&mut self) {
        self.relay.clock_shows(minute_of_day());
        while let Link::Up(_, buffer) = &mut self.link {
            let now = Moment::from_start(self.started.elapsed());
            match frame::split(buffer, self.max_frame) {
                Ok(Split::Frame { payload, consumed }) => {
                    self.relay.receive(payload, now);
                    buffer.advance(consumed);
                }
                Ok(Split::Partial { .. }) => return link::release(buffer),
                Err(why) => self.relay.corrupt(why, now),
            }
            if self.drain().await == Audience::Gone {
                return;
            }
        }
    }

    /// Takes what was read from connections of the phone, as far as the line wants it; each frame's consequences come before the next.
    async fn hear_agents(&mut self) -> Audience {
        self.pace.advance(self.now());
        for at in 0..AGENT_LINKS {
            while self.wants(at).to_read
                && let Some(link) = self.links.get_mut(at).and_then(Option::as_mut)
            {
                let (number, now) = (link.number, Moment::from_start(self.started.elapsed()));
                match link.take_frame(self.max_frame) {
                    Buffered::Frame(frame) => {
                        self.pace.spoke(frame.len(), now);
                        self.relay.agent_says(number, &frame, now);
                    }
                    Buffered::Partial => break,
                    Buffered::Corrupt(why) => self.relay.agent_corrupt(number, &why.to_string(), now),
                }
                if self.drain().await == Audience::Gone {
                    return Audience::Gone;
                }
            }
        }
        Audience::There
    }

    fn wants(&self, at: usize) -> Wants {
        let number = self.links.get(at).and_then(Option::as_ref).map(|link| link.number);
        Wants {
            to_read: number.is_some_and(|number| self.relay.wants_agent(number)) && self.pace.hushed_until().is_none(),
            to_write: number.is_some_and(|number| self.relay.has_for_agent(number)),
        }
    }

    fn take_turn(&mut self, at: usize, turn: Turn) {
        let now = self.now();
        let Some(link) = self.links.get_mut(at).and_then(Option::as_mut) else { return };
        let why = match turn {
            Turn::Writable => {
                if let Some(frame) = self.relay.next_for_agent(link.number, now) {
                    link.send(frame);
                }
                return;
            }
            Turn::Read(Ok(Some(chunk))) => return link.push(&chunk),
            Turn::Read(Ok(None)) => "it closed its connection".to_owned(),
            Turn::Read(Err(why)) => why.to_string(),
        };
        let number = link.number;
        self.end_agent(number);
        self.relay.agent_closed(number, &why, now);
    }

    fn agent_connects(&mut self, stream: Stream) {
        self.connections += 1;
        let number = self.connections;
        let token = format!("{:032x}", rand::random::<u128>());
        self.relay.agent_connected(number, token, self.now());
        // One is always free: the relay keeps two, and has those that it let go ended before the next one comes.
        match self.links.iter_mut().find(|link| link.is_none()) {
            Some(free) => *free = Some(AgentLink::new(number, stream)),
            None => self.relay.agent_closed(number, "there is no room for it", self.now()),
        }
    }

    fn end_agent(&mut self, connection: u64) {
        for link in &mut self.links {
            link.take_if(|link| link.number == connection);
        }
    }

    fn lost(&mut self, why: impl std::fmt::Display) {
        self.link = Link::Down;
        self.outgoing = Outgoing::default();
        self.relay.closed(why, self.now());
    }
}

async fn turn_of(link: Option<&AgentLink>, wants: Wants) -> Turn {
    match link {
        Some(link) => link.turn(wants).await,
        None => pending().await,
    }
}

/// The next connection from the phone; for ever while there is no way for one.
async fn connection(tunnel: &mut Option<Tunnel>) -> Stream {
    match tunnel {
        Some(tunnel) => match tunnel.next().await {
            Some(stream) => stream,
            None => pending().await,
        },
        None => pending().await,
    }
}

/// By the rack's own clock and time zone.
fn minute_of_day() -> MinuteOfDay {
    let now = jiff::ZonedDateTime::now();
    let (hour, minute) = (now.hour().unsigned_abs(), now.minute().unsigned_abs());
    MinuteOfDay::new(hour, minute).unwrap_or_default()
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}
