//! One connection with a host as a phone has it: a core without I/O or clock.
//!
//! ```text
//!   Silent ──CNXN──▶ Authorising ──right signature──▶ Online ──CNXN──▶ (from the start)
//!                        │    ▲                          ▲
//!                        └────┴─ public key ─▶ Asking ───┘ the user allows it
//! ```
//!
//! Messages of the host go in by [`Connection::receive`], what services do by [`read`](Connection::read),
//! [`write`](Connection::write) and [`close`](Connection::close); out come messages to the host
//! ([`next_message`](Connection::next_message)) and who may go on ([`next_wake`](Connection::next_wake)). Whoever writes a service
//! never meets it: that is [`Stream`](crate::stream::Stream).
//!
//! Invariants: what a service writes waits while [`limits::OUTGOING_MESSAGES_MAX`] messages do; each stream ends once; no payload is
//! longer than agreed.

mod authentication;
pub(crate) mod exercise;
mod flow;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::auth::{Authorisation, TOKEN_BYTES};
use crate::banner::{Feature, Mode, Profile};
use crate::limits;
use crate::services::Service;
use crate::wire::{Command, Message, Sums, Terms};
use authentication::Phase;
pub(crate) use flow::Pace;
use flow::{Flow, OverWindow};

/// Where the tokens come from that hosts must sign.
pub(crate) type Tokens = Box<dyn FnMut() -> [u8; TOKEN_BYTES] + Send>;

/// What a host wants that the core can't do by itself.
#[derive(Debug)]
pub(crate) enum Demand {
    /// To be answered by [`Connection::accept`] or [`Connection::refuse`] before the next message is taken.
    Open(Asked),
    /// It started, or started again: tunnels of before are no more.
    ForgetTunnels,
}

/// A host asks for a service.
#[derive(Debug)]
pub(crate) struct Asked {
    /// What it is.
    pub(crate) service: Service,
    /// The host's id of the stream.
    remote: u32,
    pace: Pace,
}

/// Who may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// A service that reads this stream.
    Reader(u32),
    /// A service that writes to this stream.
    Writer(u32),
    /// All that have to do with this stream: the host is gone.
    Closed(u32),
    /// Whoever takes messages from the transport.
    Transport,
}

/// What is there to read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Bytes(Bytes),
    Nothing,
    Closed,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// One message of it is on its way.
    Sent,
    /// [`Wake::Writer`] tells when to try again.
    Wait,
    Closed,
}

/// See the [module](self).
pub(crate) struct Connection {
    profile: Profile,
    authorisation: Authorisation,
    tokens: Tokens,
    agreed: Agreed,
    /// Whether messages to the host carry sums.
    sums: Sums,
    phase: Phase,
    /// By our id; those that are closed stay until their service lets go of them.
    streams: BTreeMap<u32, Entry>,
    last_id: u32,
    outgoing: VecDeque<(Message, Sums)>,
    wakes: VecDeque<Wake>,
    /// Streams that are written to, in turns.
    wait_for_room: VecDeque<u32>,
    transport_waits: bool,
    hangs_up: bool,
}

struct Entry {
    /// 0 as long as the host has not answered our OPEN.
    remote: u32,
    flow: Flow,
    state: EntryState,
}

/// Who still holds on to a stream: it goes when neither does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EntryState {
    /// Host and service.
    Open,
    /// The host only: the service has let go of it.
    Abandoned,
    /// The service only: it is closed, and what came can still be read.
    Closed,
}

impl Entry {
    fn is_closed(&self) -> bool {
        self.state == EntryState::Closed
    }
}

/// What CNXN agreed on.
#[derive(Clone, Debug)]
struct Agreed {
    version: u32,
    payload_bytes_max: u32,
    delayed_ack: bool,
}

impl Agreed {
    fn before_connect(profile: &Profile) -> Self {
        Self { version: profile.version, payload_bytes_max: profile.payload_bytes_max(), delayed_ack: false }
    }
}

impl Connection {
    /// Nothing came yet.
    pub(crate) fn new(profile: Profile, authorisation: Authorisation, tokens: Tokens) -> Self {
        let agreed = Agreed::before_connect(&profile);
        Self {
            sums: Sums::of_version(agreed.version),
            agreed,
            profile,
            authorisation,
            tokens,
            phase: Phase::Silent,
            streams: BTreeMap::new(),
            last_id: 0,
            outgoing: VecDeque::new(),
            wakes: VecDeque::new(),
            wait_for_room: VecDeque::new(),
            transport_waits: false,
            hangs_up: false,
        }
    }

    /// What is taken of the next message. A phone that knows the version without sums looks at none, whatever its host speaks.
    pub(crate) fn terms(&self) -> Terms {
        Terms {
            payload_bytes_max: self.profile.payload_bytes_max(),
            agreed_bytes_max: self.agreed.payload_bytes_max,
            sums: Sums::of_version(self.profile.version),
        }
    }

    /// Bytes of the largest payload to the host.
    pub(crate) fn payload_bytes_max(&self) -> usize {
        self.agreed.payload_bytes_max as usize
    }

    /// Takes a message of the host, at a time since the connection began.
    pub(crate) fn receive(&mut self, message: Message, now: Duration) -> Option<Demand> {
        if matches!(self.phase, Phase::Greeted) {
            // No TLS client says this.
            self.hang_up();
            return None;
        }
        let online = matches!(self.phase, Phase::Online);
        match message.command {
            Command::CNXN => {
                self.connect(&message);
                return Some(Demand::ForgetTunnels);
            }
            Command::AUTH => self.authenticate(&message, now),
            Command::STLS => self.phase = Phase::Greeted,
            Command::OPEN if online => return self.open_asked(&message),
            Command::OKAY if online => self.okay(&message),
            Command::WRTE if online => self.data(message),
            Command::CLSE if online => self.close_asked(&message),
            other => tracing::debug!(command = ?other, online, "a message that means nothing now was ignored"),
        }
        None
    }

    /// The next message to the host, and whether it carries its sum.
    pub(crate) fn next_message(&mut self) -> Option<(Message, Sums)> {
        let message = self.outgoing.pop_front()?;
        if self.has_room() {
            // One for each message, so that all have their turns; whoever was woken and wrote nothing keeps nobody waiting for long.
            let in_turn = if self.outgoing.is_empty() { self.wait_for_room.len() } else { 1 };
            let woken = self.wait_for_room.drain(..in_turn.min(self.wait_for_room.len()));
            self.wakes.extend(woken.map(Wake::Writer));
            if std::mem::take(&mut self.transport_waits) {
                self.wakes.push_back(Wake::Transport);
            }
        }
        Some(message)
    }

    /// Who may go on.
    pub(crate) fn next_wake(&mut self) -> Option<Wake> {
        self.wakes.pop_front()
    }

    /// Whether a further message of the host may be taken; if not, [`Wake::Transport`] tells when.
    pub(crate) fn takes_more(&mut self) -> bool {
        self.transport_waits = !self.has_room();
        !self.transport_waits
    }

    /// Ends the connection once all is sent that waits.
    pub(crate) fn hang_up(&mut self) {
        self.hangs_up = true;
    }

    /// Whether a message waits, or none comes any more.
    pub(crate) fn has_to_send(&self) -> bool {
        self.hangs_up || !self.outgoing.is_empty()
    }

    /// Whether the connection ends as soon as nothing waits to be sent.
    pub(crate) fn hangs_up(&self) -> bool {
        self.hangs_up
    }

    /// Opens the stream for which the host asked, and gives our id of it; none if there are too many.
    pub(crate) fn accept(&mut self, asked: &Asked) -> Option<u32> {
        let Some(local) = self.add(asked.remote, Flow::opened(asked.pace)) else {
            self.refuse(asked);
            return None;
        };
        let window = asked.pace.acknowledgement(limits::RECEIVE_WINDOW_BYTES);
        self.send(Command::OKAY, local, asked.remote, window);
        Some(local)
    }

    /// Opens nothing.
    pub(crate) fn refuse(&mut self, asked: &Asked) {
        self.send(Command::CLSE, 0, asked.remote, Bytes::new());
    }

    /// Asks the host for a stream to `destination`, and gives our id of it; none if there are too many.
    pub(crate) fn open(&mut self, destination: &str) -> Option<u32> {
        let (pace, window) = match self.agreed.delayed_ack {
            true => (Pace::Window { send_bytes: 0 }, limits::RECEIVE_WINDOW_BYTES),
            false => (Pace::StopAndWait, 0),
        };
        let local = self.add(0, Flow::asked(pace))?;
        self.send(Command::OPEN, local, window, [destination.as_bytes(), b"\0"].concat());
        Some(local)
    }

    /// The next bytes of a stream.
    pub(crate) fn read(&mut self, local: u32) -> Read {
        let Some(entry) = self.streams.get_mut(&local) else { return Read::Closed };
        let Some(bytes) = entry.flow.take() else {
            return if entry.is_closed() { Read::Closed } else { Read::Nothing };
        };
        if !entry.is_closed() {
            let remote = entry.remote;
            let owed: Vec<Bytes> = std::iter::from_fn(|| entry.flow.owed()).collect();
            owed.into_iter().for_each(|payload| self.send(Command::OKAY, local, remote, payload));
        }
        Read::Bytes(bytes)
    }

    /// Sends the first message's worth of `bytes`, which are not empty, and takes it off them.
    pub(crate) fn write(&mut self, local: u32, bytes: &mut Bytes) -> Write {
        let (has_room, payload_bytes_max) = (self.has_room(), self.payload_bytes_max());
        let Some(entry) = self.streams.get_mut(&local).filter(|entry| !entry.is_closed()) else { return Write::Closed };
        if !has_room {
            if !self.wait_for_room.contains(&local) {
                self.wait_for_room.push_back(local);
            }
            return Write::Wait;
        }
        let count = bytes.len().min(payload_bytes_max);
        if !entry.flow.spend(count) {
            return Write::Wait;
        }
        let remote = entry.remote;
        self.send(Command::WRTE, local, remote, bytes.split_to(count));
        Write::Sent
    }

    /// Whether the host has answered our OPEN, and waits for bytes.
    pub(crate) fn is_writable(&self, local: u32) -> bool {
        self.streams.get(&local).is_some_and(|entry| entry.flow.has_credit())
    }

    /// Whether all that came was read.
    pub(crate) fn is_read(&self, local: u32) -> bool {
        self.streams.get(&local).is_none_or(|entry| entry.flow.is_empty())
    }

    /// Closes a stream, and tells the host if it knows of it.
    pub(crate) fn close(&mut self, local: u32) {
        if let Some(remote @ 1..) = self.end(local) {
            self.send(Command::CLSE, local, remote, Bytes::new());
        }
    }

    /// Nobody reads or writes this stream any more.
    pub(crate) fn abandon(&mut self, local: u32) {
        if let Some(entry) = self.streams.get_mut(&local) {
            match entry.state {
                EntryState::Open | EntryState::Abandoned => entry.state = EntryState::Abandoned,
                EntryState::Closed => drop(self.streams.remove(&local)),
            }
            self.wait_for_room.retain(|waiting| *waiting != local);
        }
    }

    /// The transport has nothing more: what came can still be read.
    pub(crate) fn lose_host(&mut self) {
        for local in self.open_ids() {
            self.end(local);
        }
    }

    fn has_room(&self) -> bool {
        self.outgoing.len() < limits::OUTGOING_MESSAGES_MAX
    }

    fn send(&mut self, command: Command, arg0: u32, arg1: u32, payload: impl Into<Bytes>) {
        // Whoever does not know the host's version yet tells it the sum, which hurts nobody.
        let is_early = matches!(command, Command::CNXN | Command::AUTH);
        let sums = if is_early { Sums::Checked } else { self.sums };
        self.outgoing.push_back((Message::new(command, arg0, arg1, payload), sums));
    }

    fn open_ids(&self) -> Vec<u32> {
        self.streams.iter().filter(|(_, entry)| !entry.is_closed()).map(|(local, _)| *local).collect()
    }

    /// A new stream; none if there are too many.
    fn add(&mut self, remote: u32, flow: Flow) -> Option<u32> {
        if self.streams.values().filter(|entry| !entry.is_closed()).count() >= limits::STREAMS_MAX {
            return None;
        }
        // With fewer streams than numbers there is a free one; 0 means "none".
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            let local = self.last_id;
            if local != 0 && !self.streams.contains_key(&local) {
                let entry = Entry { remote, flow, state: EntryState::Open };
                self.streams.insert(local, entry);
                return Some(local);
            }
        }
    }

    /// The host's id of a stream that was open until now.
    fn end(&mut self, local: u32) -> Option<u32> {
        let entry = self.streams.get_mut(&local).filter(|entry| !entry.is_closed())?;
        let remote = entry.remote;
        match entry.state {
            EntryState::Abandoned => drop(self.streams.remove(&local)),
            EntryState::Open | EntryState::Closed => entry.state = EntryState::Closed,
        }
        self.wait_for_room.retain(|waiting| *waiting != local);
        self.wakes.push_back(Wake::Closed(local));
        Some(remote)
    }

    /// The host starts, or starts again: nothing of before counts.
    fn connect(&mut self, message: &Message) {
        self.open_ids().into_iter().for_each(|local| self.close_as_told(local));
        let features = self.profile.common_features(&message.payload);
        self.agreed = Agreed {
            version: message.arg0.min(self.profile.version),
            payload_bytes_max: message.arg1.min(self.profile.payload_bytes_max()),
            delayed_ack: features.contains(Feature::DELAYED_ACK),
        };
        self.welcome();
    }

    /// Tells the host of the end of each stream, of one that it never answered, too.
    fn close_as_told(&mut self, local: u32) {
        if let Some(remote) = self.end(local) {
            self.send(Command::CLSE, local, remote, Bytes::new());
        }
    }

    fn go_online(&mut self) {
        self.phase = Phase::Online;
        let (version, banner) = (self.profile.version, self.profile.banner());
        self.send(Command::CNXN, version, self.agreed.payload_bytes_max, banner);
        self.sums = Sums::of_version(self.agreed.version);
    }

    fn open_asked(&mut self, message: &Message) -> Option<Demand> {
        let remote = message.arg0;
        if remote == 0 {
            return None;
        }
        let pace = match (self.agreed.delayed_ack, message.arg1) {
            (false, 0) => Some(Pace::StopAndWait),
            (true, send_bytes @ 1..) => Some(Pace::Window { send_bytes }),
            _ => None,
        };
        let service = match pace {
            Some(_) if self.profile.mode == Mode::Android => Service::parse(&message.payload),
            _ => None,
        };
        match pace.zip(service) {
            // adbd drops the connection before its answer is out.
            Some((_, Service::Reconnect)) => self.hang_up(),
            Some((pace, service)) => return Some(Demand::Open(Asked { service, remote, pace })),
            None => {
                tracing::debug!(service = %String::from_utf8_lossy(&message.payload), window = message.arg1, "an OPEN was refused");
                self.send(Command::CLSE, 0, remote, Bytes::new());
            }
        }
        None
    }

    fn okay(&mut self, message: &Message) {
        let local = message.arg1;
        let Some(entry) = self.streams.get_mut(&local).filter(|entry| !entry.is_closed()) else {
            return self.deny(message);
        };
        if entry.remote == 0 {
            entry.remote = message.arg0;
        }
        if entry.remote != message.arg0 || message.arg0 == 0 {
            return tracing::debug!(stream = local, "an OKAY for a stream of another was ignored");
        }
        entry.flow.acknowledge(&message.payload);
        self.wakes.push_back(Wake::Writer(local));
    }

    fn data(&mut self, message: Message) {
        let (local, remote) = (message.arg1, message.arg0);
        // A stream that we closed may still be written to until the host hears of it.
        let open =
            self.streams.get_mut(&local).filter(|entry| !entry.is_closed() && remote != 0 && entry.remote == remote);
        let Some(entry) = open else { return };
        match entry.flow.receive(message.payload.clone()) {
            Ok(answer) => {
                self.wakes.push_back(Wake::Reader(local));
                if let Some(payload) = answer {
                    self.send(Command::OKAY, local, remote, payload);
                }
            }
            Err(OverWindow) => {
                tracing::debug!(stream = local, "the host sent more than it had leave to: its stream was closed");
                self.close(local);
            }
        }
    }

    fn close_asked(&mut self, message: &Message) {
        let local = message.arg1;
        let Some(entry) = self.streams.get(&local) else { return };
        if message.arg0 == 0 || message.arg0 == entry.remote {
            self.close(local);
        }
    }

    /// Tells the host that the stream of this message does not exist.
    fn deny(&mut self, message: &Message) {
        self.send(Command::CLSE, message.arg1, message.arg0, Bytes::new());
    }
}
