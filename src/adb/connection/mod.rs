//! The host's side of one ADB connection as a core: messages and the time go in, messages and events come out.
//!
//! ```text
//!     receive(message) ─┐                      ┌─▶ next_transmit(): OKAY and CLSE first, then the streams in turn
//!     advance(now) ─────┼─▶  Connecting        │
//!     fail(fault) ──────┤    Signing ⇄ Proving ┼─▶ poll(): Event … until Idle(deadline)
//!     answer_auth(…) ───┤    Authorising       │
//!     open, send, … ────┘    Online ─▶ Lost    │
//! ```
//!
//! Its shell calls an input, then `poll` until it is idle, and `next_transmit` whenever the way to the handset is free. Keys stay
//! outside: the core asks for signatures by [`Event::Sign`]. Back-pressure is built in: `send` gives bytes back when the stream is
//! full, and only `consumed` lets an OKAY go.
//!
//! Invariant: no peer panics it, and none makes it hold more than a window a stream (`tests::operations`).
//! Invariant: every stream ends exactly once, with one reason, and nothing of it follows (`tests::operations`).
//! Invariant: no byte is lost, doubled or out of order on a stream (`tests::operations`).
//! Invariant: every wait for the handset has a deadline with a reason (`tests::every_wait_has_a_deadline`).

mod event;
mod handshake;
pub mod operations;
mod stream;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

pub use event::{EndReason, Event, Fault, Output, StreamId, Violation};
pub use handshake::AuthAnswer;
pub use stream::{SEND_QUEUE_BYTES, WINDOW};

use crate::adb::message::{Command, Framing, Message};
use crate::clock::{Deadline, Moment};
use handshake::Handshake;
use stream::{Acknowledgement, Phase, Stream};

/// How many streams farmhand opens on one handset at most.
pub const STREAMS_MAX: usize = 1024;

/// How many streams a handset may have open to farmhand; further ones are refused.
pub const INCOMING_MAX: usize = 64;

/// How many answers may wait to be sent before a handset counts as flooding.
pub const ANSWERS_MAX: usize = 1024;

/// How long the core waits for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// The handset's first answer, and its answer to a signature. A phone under load takes seconds.
    pub answer: Duration,
    /// Somebody to allow the key on the screen. The dialog goes with the connection, so that this is longer than anyone who was
    /// called needs to come.
    pub person: Duration,
    /// The answer to OPEN.
    pub open: Duration,
    /// The acknowledgement of data: a phone that installs on slow flash may take a minute for a mebibyte.
    pub acknowledgement: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(10),
            person: Duration::from_secs(1800),
            open: Duration::from_secs(15),
            acknowledgement: Duration::from_secs(120),
        }
    }
}

/// Why a stream can't be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenRefused {
    /// Not before Online and not after Lost.
    #[error("the handset is not online")]
    NotOnline,
    /// Too many are open.
    #[error("{STREAMS_MAX} streams are open on this handset already")]
    TooMany,
    /// The name is empty, contains a NUL, or does not fit in a message.
    #[error("the service's name has {len} bytes, expected 1 to {max} without a NUL at its end")]
    Service {
        /// Its length.
        len: usize,
        /// What fits.
        max: usize,
    },
}

/// The connection.
#[derive(Debug)]
pub struct Connection {
    waits: Waits,
    life: Life,
    framing: Framing,
    acknowledgement: Acknowledgement,
    /// Of each stream, in bytes, where the handset can do with delayed acknowledgement.
    window: u32,
    streams: BTreeMap<StreamId, Stream>,
    last_id: u32,
    incoming: usize,
    /// Messages that go before any data.
    answers: VecDeque<Message>,
    /// Streams that owe an OKAY, and streams that have data to send, each in turn.
    okays: VecDeque<StreamId>,
    writes: VecDeque<StreamId>,
    events: VecDeque<Event>,
}

#[derive(Debug)]
enum Life {
    Greeting(Handshake),
    Online(Heard),
    Lost,
}

/// What the handset has said since its CNXN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// Nothing: that CNXN may have been the answer to an earlier connection, left in the pipe.
    Nothing,
    /// A word about a stream of this connection, so that its CNXN was meant for this one.
    Streams,
}

impl Connection {
    /// Begins: CNXN waits to be sent.
    #[must_use]
    pub fn new(waits: Waits, now: Moment) -> Self {
        let mut connection = Self {
            waits,
            life: Life::Greeting(Handshake::begin(now + waits.answer)),
            framing: Framing::HANDSHAKE,
            acknowledgement: Acknowledgement::Each,
            window: WINDOW,
            streams: BTreeMap::new(),
            last_id: 0,
            incoming: 0,
            answers: VecDeque::new(),
            okays: VecDeque::new(),
            writes: VecDeque::new(),
            events: VecDeque::new(),
        };
        connection.answers.push_back(handshake::hello());
        connection
    }

    /// The same with another window for each stream than [`WINDOW`], in bytes.
    #[must_use]
    pub fn with_window(self, window: u32) -> Self {
        Self { window, ..self }
    }

    /// The window of each stream, in bytes.
    #[must_use]
    pub fn window(&self) -> u32 {
        self.window
    }

    /// What was agreed for the wire: the decoder's shell takes it over after each `receive`.
    #[must_use]
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Takes a message of the handset. Before its first CNXN or AUTH all else is skipped.
    pub fn receive(&mut self, message: Message, now: Moment) {
        match self.life {
            Life::Lost => {}
            Life::Greeting(_) => self.receive_greeting(message, now),
            Life::Online(heard) => match message.header.command {
                Command::Connect if heard == Heard::Nothing => self.receive_hello_again(&message),
                Command::Auth if heard == Heard::Nothing => self.fail(Fault::Restarted),
                Command::Connect => self.fail(Fault::Restarted),
                Command::Auth | Command::Tls | Command::Sync => {}
                Command::Open => self.receive_open(&message, now),
                Command::Okay => self.receive_okay(&message, now),
                Command::Write => self.receive_write(message),
                Command::Close => self.receive_close(&message),
            },
        }
    }

    /// Lets time pass: whatever waited too long ends.
    pub fn advance(&mut self, now: Moment) {
        if let Life::Greeting(handshake) = &self.life
            && let Some(fault) = handshake.overdue(now)
        {
            self.fail(fault);
            return;
        }
        let overdue: Vec<_> = self
            .streams
            .iter()
            .filter_map(|(id, stream)| stream.deadline().filter(|d| d.at <= now).map(|d| (*id, d)))
            .collect();
        for (id, deadline) in overdue {
            self.end(id, Stream::timed_out(deadline), Notify::Peer);
        }
    }

    /// Ends the connection, and every stream of it.
    pub fn fail(&mut self, fault: Fault) {
        if matches!(self.life, Life::Lost) {
            return;
        }
        self.life = Life::Lost;
        for id in std::mem::take(&mut self.streams).into_keys() {
            self.events.push_back(Event::Closed { id, reason: EndReason::Lost(fault.clone()) });
        }
        self.answers.clear();
        self.okays.clear();
        self.writes.clear();
        self.events.push_back(Event::Lost(fault));
    }

    /// Opens a stream to a service of the handset; [`Event::Opened`] or [`Event::Closed`] follows.
    ///
    /// # Errors
    /// Why not even OPEN can be sent.
    pub fn open(&mut self, service: &str, now: Moment) -> Result<StreamId, OpenRefused> {
        if !matches!(self.life, Life::Online(_)) {
            return Err(OpenRefused::NotOnline);
        }
        if self.streams.len() - self.incoming >= STREAMS_MAX {
            return Err(OpenRefused::TooMany);
        }
        let max = self.framing.payload_max - 1;
        if service.is_empty() || service.len() > max || service.ends_with('\0') {
            return Err(OpenRefused::Service { len: service.len(), max });
        }
        let until = Deadline { at: now + self.waits.open, why: "the handset's answer to OPEN" };
        let id = self.add(Stream::new(Phase::Opening { until }, 0, self.acknowledgement));
        let window = self.acknowledgement.window();
        let payload = [service.as_bytes(), b"\0"].concat().into();
        self.answer(Command::Open, id.0, window, payload);
        Ok(id)
    }

    /// Takes a stream that the handset opened.
    pub fn accept(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if let Phase::Asked { .. } = stream.phase {
            stream.phase = Phase::Open;
            let (remote, payload) = (stream.remote, stream.opening_okay());
            self.answer(Command::Okay, id.0, remote, payload);
            self.schedule_write(id);
        }
    }

    /// Takes bytes for a stream.
    ///
    /// # Errors
    /// The bytes, when the stream is full ([`Event::Writable`] follows) or has ended.
    pub fn send(&mut self, id: StreamId, bytes: Bytes) -> Result<(), Bytes> {
        let Some(stream) = self.streams.get_mut(&id) else { return Err(bytes) };
        stream.push(bytes)?;
        self.schedule_write(id);
        Ok(())
    }

    /// Says that `n` bytes of a stream's data were taken: only this lets an OKAY go.
    pub fn consumed(&mut self, id: StreamId, n: usize) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.consumed(n)
            && !std::mem::replace(&mut stream.in_okays, true)
        {
            self.okays.push_back(id);
        }
    }

    /// Ends a stream at once, or refuses one that the handset opened. What was not sent yet is dropped.
    pub fn close(&mut self, id: StreamId, _now: Moment) {
        self.end(id, EndReason::ByUs, Notify::Peer);
    }

    /// Ends a stream once all that was given to `send` is on its way.
    pub fn finish(&mut self, id: StreamId, now: Moment) {
        let data_left = self.streams.get_mut(&id).is_some_and(Stream::finish);
        if !data_left {
            self.close(id, now);
        }
    }

    /// The next message for the handset: called whenever the way is free. OKAY and CLSE go first, then the streams' data in turn.
    pub fn next_transmit(&mut self, now: Moment) -> Option<Message> {
        if let Some(answer) = self.answers.pop_front() {
            return Some(answer);
        }
        while let Some(id) = self.okays.pop_front() {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            stream.in_okays = false;
            if let Some(payload) = stream.pull_okay() {
                let remote = stream.remote;
                return Some(Message::new(Command::Okay, id.0, remote, payload, self.framing.checksums));
            }
        }
        while let Some(id) = self.writes.pop_front() {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            stream.in_writes = false;
            let Some(payload) = stream.pull(self.framing.payload_max, now + self.waits.acknowledgement) else {
                continue;
            };
            let remote = stream.remote;
            if stream.became_writable() {
                self.events.push_back(Event::Writable { id });
            }
            if stream.is_finished() {
                self.end(id, EndReason::ByUs, Notify::Peer);
            }
            self.schedule_write(id);
            return Some(Message::new(Command::Write, id.0, remote, payload, self.framing.checksums));
        }
        None
    }

    /// The next event, or the deadline at which `advance` must be called.
    pub fn poll(&mut self) -> Output {
        if let Some(event) = self.events.pop_front() {
            return Output::Event(event);
        }
        let greeting = match &self.life {
            Life::Greeting(handshake) => handshake.deadline(),
            Life::Online(_) | Life::Lost => None,
        };
        let streams = self.streams.values().map(Stream::deadline);
        Output::Idle(streams.fold(greeting, Deadline::earlier))
    }

    fn receive_open(&mut self, message: &Message, now: Moment) {
        let (remote, window) = (message.header.arg0, message.header.arg1);
        if remote == 0 {
            return;
        }
        if self.incoming >= INCOMING_MAX {
            self.answer(Command::Close, 0, remote, Bytes::new());
            return;
        }
        let service = String::from_utf8_lossy(&message.payload).trim_end_matches('\0').to_owned();
        let until =
            Deadline { at: now + self.waits.open, why: "this host's answer to a stream that the handset opened" };
        let window = match self.acknowledgement {
            Acknowledgement::Each => self.framing.payload_max as u64,
            Acknowledgement::Delayed { .. } => u64::from(window),
        };
        let mut stream = Stream::new(Phase::Asked { until }, remote, self.acknowledgement);
        if stream.opened(window).is_err() {
            self.answer(Command::Close, 0, remote, Bytes::new());
            return;
        }
        stream.phase = Phase::Asked { until };
        stream.incoming = true;
        self.incoming += 1;
        let id = self.add(stream);
        self.events.push_back(Event::Incoming { id, service });
    }

    fn receive_okay(&mut self, message: &Message, now: Moment) {
        let id = StreamId(message.header.arg1);
        let remote = message.header.arg0;
        if remote == 0 {
            return;
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            // It crossed this side's end of the stream; had it been the answer to OPEN, the handset would keep it open for ever.
            self.answer(Command::Close, id.0, remote, Bytes::new());
            return;
        };
        let taken = match stream.phase {
            Phase::Opening { .. } => {
                if let Life::Online(heard) = &mut self.life {
                    *heard = Heard::Streams;
                }
                stream.remote = remote;
                let window = stream.window_of(&message.payload, self.framing.payload_max);
                let taken = window.and_then(|window| stream.opened(window));
                if taken.is_ok() {
                    self.events.push_back(Event::Opened { id });
                }
                taken
            }
            Phase::Asked { .. } => Err(Violation::NotOpen(Command::Okay)),
            Phase::Open if stream.remote != remote => return,
            Phase::Open => stream.acknowledged(&message.payload, now + self.waits.acknowledgement),
        };
        match taken {
            Ok(()) => self.schedule_write(id),
            Err(violation) => self.end(id, EndReason::Violation(violation), Notify::Peer),
        }
    }

    fn receive_write(&mut self, message: Message) {
        let id = StreamId(message.header.arg1);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let taken = match stream.phase {
            Phase::Opening { .. } | Phase::Asked { .. } => Err(Violation::NotOpen(Command::Write)),
            Phase::Open if stream.remote != message.header.arg0 || message.payload.is_empty() => return,
            Phase::Open => stream.received(message.payload.len(), self.framing.payload_max),
        };
        match taken {
            Ok(()) => self.events.push_back(Event::Data { id, bytes: message.payload }),
            Err(violation) => self.end(id, EndReason::Violation(violation), Notify::Peer),
        }
    }

    fn receive_close(&mut self, message: &Message) {
        let id = StreamId(message.header.arg1);
        let Some(stream) = self.streams.get(&id) else { return };
        let reason = match stream.phase {
            Phase::Opening { .. } => EndReason::Refused,
            // adbd closes with 0 as its own number once its side is gone.
            Phase::Asked { .. } | Phase::Open if [0, stream.remote].contains(&message.header.arg0) => EndReason::ByPeer,
            Phase::Asked { .. } | Phase::Open => return,
        };
        self.end(id, reason, Notify::Nobody);
    }

    fn add(&mut self, stream: Stream) -> StreamId {
        // Numbers are reused only after 2^32 streams; 0 means none, and one that is still open is left out.
        loop {
            self.last_id = self.last_id.wrapping_add(1).max(1);
            let id = StreamId(self.last_id);
            if let Entry::Vacant(vacant) = self.streams.entry(id) {
                vacant.insert(stream);
                return id;
            }
        }
    }

    fn end(&mut self, id: StreamId, reason: EndReason, notify: Notify) {
        let Some(stream) = self.streams.remove(&id) else { return };
        self.incoming -= usize::from(stream.incoming);
        self.events.push_back(Event::Closed { id, reason });
        match notify {
            Notify::Nobody => {}
            // A refused OPEN is answered with 0. Before the handset told its number, a CLSE has none to name: its OKAY will
            // meet no stream here.
            Notify::Peer if matches!(stream.phase, Phase::Asked { .. }) => {
                self.answer(Command::Close, 0, stream.remote, Bytes::new());
            }
            Notify::Peer if stream.remote != 0 => self.answer(Command::Close, id.0, stream.remote, Bytes::new()),
            Notify::Peer => {}
        }
    }

    fn answer(&mut self, command: Command, arg0: u32, arg1: u32, payload: Bytes) {
        self.answers.push_back(Message::new(command, arg0, arg1, payload, self.framing.checksums));
        if self.answers.len() > ANSWERS_MAX + STREAMS_MAX {
            self.fail(Fault::Flood { waiting: ANSWERS_MAX });
        }
    }

    fn schedule_write(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.wants_write(self.framing.payload_max)
            && !std::mem::replace(&mut stream.in_writes, true)
        {
            self.writes.push_back(id);
        }
    }

    fn online(&mut self, (framing, acknowledgement): (Framing, Acknowledgement)) {
        self.framing = framing;
        self.acknowledgement = acknowledgement;
        self.life = Life::Online(Heard::Nothing);
    }
}

/// Who is told that a stream ended.
enum Notify {
    Peer,
    Nobody,
}

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
