//! Lists of operations for the core, out of bytes: what fuzzing and property tests replay.
//!
//! Shell and handset do whatever the bytes say. Some messages of the handset are honest, as one that keeps to the protocol would
//! send them; the others are arbitrary. After every operation the invariants of [`super`] are asserted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::{AuthAnswer, Connection, EndReason, Event, Fault, Output, StreamId, WINDOW, Waits};
use crate::adb::message::{Checksums, Command, Message, VERSION_CHECKSUM};
use crate::clock::Moment;

/// Runs the operations that the bytes stand for.
///
/// # Panics
/// When an invariant of the core does not hold.
pub fn replay(bytes: &[u8]) {
    let mut world = World::new(bytes.iter().copied().collect());
    while !world.bytes.is_empty() {
        world.step();
        world.look();
    }
    world.core.fail(Fault::Ended);
    world.look();
    assert!(world.open.is_empty(), "streams without an end: {:?}", world.open);
    assert!(world.lost, "no end was told");
}

struct World {
    bytes: VecDeque<u8>,
    core: Connection,
    now: Moment,
    /// Streams that began and did not end, and all that ended.
    open: BTreeSet<StreamId>,
    ended: BTreeSet<StreamId>,
    lost: bool,
    /// Streams that were told to end behind their last byte.
    finishing: BTreeSet<StreamId>,
    /// Streams that were told to end at once.
    closed: BTreeSet<StreamId>,
    /// Bytes of each stream: taken by `send` but not yet seen in a WRTE; come by WRTE but not consumed; consumed in all;
    /// acknowledged in all.
    sending: BTreeMap<StreamId, VecDeque<u8>>,
    waiting: BTreeMap<StreamId, usize>,
    consumed: BTreeMap<StreamId, u64>,
    acknowledged: BTreeMap<StreamId, u64>,
    /// The handset's message of this operation, and what it must bring on an open stream.
    said: Option<Message>,
    expected: Option<(StreamId, Bytes)>,
    /// Streams on which data may come, with the handset's number of each; those that it opened and nobody took; those that were taken.
    flowing: BTreeMap<StreamId, u32>,
    asked: BTreeMap<StreamId, u32>,
    accepted: BTreeSet<StreamId>,
    /// Bytes of each stream that came and that no OKAY acknowledged, without delayed acknowledgement.
    unacknowledged: BTreeMap<StreamId, usize>,
    greeted: bool,
    /// Whether delayed acknowledgement was agreed.
    delayed: bool,
    /// How many bytes the handset lets this side send on each stream, and the window of its last OPEN.
    credit: BTreeMap<StreamId, u64>,
    offered: u64,
    /// The handset's side of each stream.
    remotes: BTreeMap<StreamId, u32>,
    next: u8,
}

impl World {
    fn new(bytes: VecDeque<u8>) -> Self {
        Self {
            bytes,
            core: Connection::new(Waits::default(), Moment::START),
            now: Moment::START,
            open: BTreeSet::new(),
            ended: BTreeSet::new(),
            lost: false,
            finishing: BTreeSet::new(),
            closed: BTreeSet::new(),
            sending: BTreeMap::new(),
            waiting: BTreeMap::new(),
            said: None,
            expected: None,
            flowing: BTreeMap::new(),
            asked: BTreeMap::new(),
            accepted: BTreeSet::new(),
            unacknowledged: BTreeMap::new(),
            consumed: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            greeted: false,
            delayed: false,
            credit: BTreeMap::new(),
            offered: 0,
            remotes: BTreeMap::new(),
            next: 0,
        }
    }

    fn byte(&mut self) -> u8 {
        self.bytes.pop_front().unwrap_or_default()
    }

    fn len(&mut self) -> usize {
        // Mostly small, sometimes more than a payload.
        match self.byte() {
            byte @ 200.. => usize::from(byte - 199) * 100,
            byte => usize::from(byte),
        }
    }

    fn stream(&mut self) -> StreamId {
        StreamId(u32::from(self.byte() % 8))
    }

    fn step(&mut self) {
        match self.byte() % 15 {
            0 => self.greet(),
            1 => self.open(),
            2 => self.send(),
            3 => self.consume(),
            4 => {
                let id = self.stream();
                self.closed.extend(self.open.get(&id));
                self.core.close(id, self.now);
            }
            5 => {
                let id = self.stream();
                if let Some(remote) = self.asked.remove(&id) {
                    self.accepted.insert(id);
                    self.flowing.insert(id, remote);
                }
                self.core.accept(id);
            }
            6 => {
                self.now = self.now + Duration::from_secs(u64::from(self.byte() % 20));
                self.core.advance(self.now);
            }
            7 => {
                let answer = match self.byte() {
                    0 => AuthAnswer::NoKey,
                    byte if byte.is_multiple_of(2) => AuthAnswer::PublicKey("key".to_owned()),
                    _ => AuthAnswer::Signature(Bytes::from_static(&[1; 256])),
                };
                self.core.answer_auth(answer, self.now);
            }
            8 if self.byte() < 64 => self.arbitrary(),
            8 => self.honest(),
            9 if self.byte() == 7 => self.core.fail(Fault::Io("unplugged".to_owned())),
            9..=11 => self.honest(),
            14 => {
                let id = self.stream();
                self.core.finish(id, self.now);
                self.finishing.extend(self.open.get(&id));
            }
            _ => self.transmit(),
        }
    }

    /// Once: a second CNXN ends the connection, which is left to arbitrary messages.
    fn greet(&mut self) {
        if std::mem::replace(&mut self.greeted, true) {
            return;
        }
        let banner: &[u8] = if self.byte().is_multiple_of(2) { b"device::features=delayed_ack" } else { b"device::" };
        let version = VERSION_CHECKSUM + u32::from(self.byte() % 2);
        self.receive(Command::Connect, version, 4096, banner.to_vec());
    }

    fn open(&mut self) {
        if let Ok(id) = self.core.open("service", self.now) {
            assert!(self.open.insert(id) && !self.ended.contains(&id), "{id} was used before");
        }
    }

    fn send(&mut self) {
        let (id, len) = (self.stream(), self.len());
        let bytes: Vec<u8> = (0..len).map(|_| self.count()).collect();
        if self.core.send(id, bytes.clone().into()).is_ok() {
            assert!(self.open.contains(&id), "{id} takes data and is not open");
            assert!(!self.finishing.contains(&id), "{id} takes data behind its end");
            self.sending.entry(id).or_default().extend(bytes);
        }
    }

    fn count(&mut self) -> u8 {
        self.next = self.next.wrapping_add(1);
        self.next
    }

    fn consume(&mut self) {
        let (id, n) = (self.stream(), self.len());
        let waiting = self.waiting.entry(id).or_default();
        let taken = n.min(*waiting);
        *waiting -= taken;
        *self.consumed.entry(id).or_default() += taken as u64;
        self.core.consumed(id, n);
    }

    fn receive(&mut self, command: Command, arg0: u32, arg1: u32, payload: Vec<u8>) {
        self.allow(command, arg1, &payload);
        let message = Message::new(command, arg0, arg1, payload.into(), Checksums::Skipped);
        let id = StreamId(arg1);
        let comes = command == Command::Write && self.flowing.get(&id) == Some(&arg0) && !message.payload.is_empty();
        self.expected = comes.then(|| (id, message.payload.clone()));
        self.said = Some(message.clone());
        self.core.receive(message, self.now);
    }

    /// What a message lets this side send at most; whether the core believes it is another matter.
    fn allow(&mut self, command: Command, arg1: u32, payload: &[u8]) {
        let payload_max = self.core.framing().payload_max as u64;
        match (command, payload) {
            (Command::Okay, [a, b, c, d]) if self.delayed => {
                let more = u64::from(u32::from_le_bytes([*a, *b, *c, *d]));
                *self.credit.entry(StreamId(arg1)).or_default() += more;
            }
            // One payload may be on its way.
            (Command::Okay, _) if !self.delayed => {
                self.credit.insert(StreamId(arg1), payload_max);
            }
            (Command::Open, _) => self.offered = if self.delayed { arg1.into() } else { payload_max },
            _ => {}
        }
    }

    /// Takes a WRTE's bytes from what the handset lets this side send.
    fn spend(&mut self, id: StreamId, len: usize) {
        let credit = self.credit.entry(id).or_default();
        let left = credit.checked_sub(len as u64);
        assert!(left.is_some(), "{len} bytes on {id} where the handset takes {credit}");
        // Without counts nothing more may go until the next OKAY.
        *credit = if self.delayed { left.unwrap_or_default() } else { 0 };
    }

    fn arbitrary(&mut self) {
        const COMMANDS: [Command; 8] = [
            Command::Connect,
            Command::Auth,
            Command::Open,
            Command::Okay,
            Command::Write,
            Command::Close,
            Command::Tls,
            Command::Sync,
        ];
        let command = COMMANDS.get(usize::from(self.byte() % 8)).copied().unwrap_or(Command::Sync);
        let (arg0, arg1, len) = (u32::from(self.byte() % 80), u32::from(self.byte() % 8), self.len().min(4096));
        let payload = (0..len).map(|_| self.count()).collect();
        self.receive(command, arg0, arg1, payload);
    }

    /// What a handset says that keeps to the protocol, on a stream that it knows.
    fn honest(&mut self) {
        let (id, what, len) = (self.stream(), self.byte(), self.len().min(4096));
        let remote = *self.remotes.entry(id).or_insert(70 + id.0);
        match what % 3 {
            0 => self.receive(Command::Okay, remote, id.0, u32::try_from(len).unwrap_or(0).to_le_bytes().to_vec()),
            1 => {
                let payload = (0..len).map(|_| self.count()).collect();
                self.receive(Command::Write, remote, id.0, payload);
            }
            _ => self.receive(Command::Open, remote, WINDOW, b"tcp:1\0".to_vec()),
        }
    }

    fn transmit(&mut self) {
        let Some(message) = self.core.next_transmit(self.now) else { return self.nothing_is_owed() };
        let id = StreamId(message.header.arg0);
        let payload_max = self.core.framing().payload_max;
        assert!(message.payload.len() <= payload_max, "{message:?} is longer than {payload_max}");
        match message.header.command {
            Command::Write => {
                assert!(self.open.contains(&id), "{message:?} on a stream that is not open");
                let sending = self.sending.entry(id).or_default();
                let expected: Vec<u8> = sending.drain(..message.payload.len().min(sending.len())).collect();
                assert_eq!(message.payload, expected, "bytes lost, doubled or out of order on {id}");
                self.spend(id, message.payload.len());
            }
            Command::Okay => self.acknowledge(id, &message.payload),
            _ => {}
        }
    }

    /// An OKAY of this side: the one that opens a stream, or one for bytes that were consumed before.
    fn acknowledge(&mut self, id: StreamId, payload: &[u8]) {
        assert_eq!(payload.len(), if self.delayed { 4 } else { 0 }, "the OKAY's bytes on {id}");
        let counted = payload.iter().rev().fold(0, |sum: u32, byte| sum << 8 | u32::from(*byte));
        if self.accepted.remove(&id) {
            assert_eq!(counted, if self.delayed { WINDOW } else { 0 }, "the window of {id}");
        } else if self.delayed {
            assert!(counted >= WINDOW / 4, "an OKAY for {counted} bytes on {id}");
            let acknowledged = self.acknowledged.entry(id).or_default();
            *acknowledged += u64::from(counted);
            assert!(
                *acknowledged <= self.consumed.get(&id).copied().unwrap_or_default(),
                "OKAY before consumed on {id}"
            );
        } else {
            let owed = self.unacknowledged.remove(&id).unwrap_or_default();
            assert!(owed > 0, "an OKAY on {id} for no bytes");
            assert_eq!(self.waiting.get(&id), Some(&0), "OKAY before all of {owed} bytes were consumed on {id}");
        }
    }

    /// This side has nothing to say: then no stream waits for an OKAY for what was consumed.
    fn nothing_is_owed(&self) {
        let consumed = |id: &&StreamId| self.waiting.get(id) == Some(&0) && self.open.contains(id);
        let owed = self.unacknowledged.keys().find(consumed);
        assert!(self.delayed || owed.is_none(), "{owed:?} waits for an OKAY that never comes");
    }

    /// Takes all events.
    fn look(&mut self) {
        loop {
            match self.core.poll() {
                Output::Event(event) => self.event(event),
                Output::Idle(deadline) => {
                    assert!(deadline.is_none_or(|deadline| !deadline.why.is_empty()));
                    if let Some((id, bytes)) = self.expected.take() {
                        assert!(!self.open.contains(&id), "{} bytes on {id} were lost", bytes.len());
                    }
                    self.said = None;
                    return;
                }
            }
        }
    }

    /// The handset's own number in what it said.
    fn remote(&self) -> u32 {
        self.said.as_ref().map_or(0, |message| message.header.arg0)
    }

    fn event(&mut self, event: Event) {
        assert!(!self.lost, "{event:?} after the end");
        match event {
            Event::Incoming { id, .. } => {
                assert!(self.open.insert(id), "{id} twice");
                self.asked.insert(id, self.remote());
                self.credit.insert(id, self.offered);
            }
            Event::Opened { id } => {
                assert!(self.open.contains(&id), "{id} is not open");
                assert_eq!(self.flowing.insert(id, self.remote()), None, "{id} was opened twice");
            }
            Event::Writable { id } => assert!(self.open.contains(&id), "{id} is not open"),
            Event::Data { id, bytes } => {
                assert!(self.open.contains(&id) && !bytes.is_empty());
                assert_eq!(self.expected.take(), Some((id, bytes.clone())), "bytes lost, doubled or changed on {id}");
                if !self.delayed {
                    *self.unacknowledged.entry(id).or_default() += bytes.len();
                }
                let waiting = self.waiting.entry(id).or_default();
                *waiting += bytes.len();
                // One payload, or a window and the payload that overruns it.
                let allowed = if self.delayed { WINDOW as usize } else { 0 } + self.core.framing().payload_max;
                assert!(*waiting <= allowed, "{id} holds {waiting}");
            }
            Event::Closed { id, reason } => {
                assert!(self.open.remove(&id) && self.ended.insert(id), "{id} ended twice: {reason:?}");
                self.flowing.remove(&id);
                self.asked.remove(&id);
                if reason == EndReason::ByUs && self.finishing.contains(&id) && !self.closed.contains(&id) {
                    let left = self.sending.get(&id).map_or(0, VecDeque::len);
                    assert_eq!(left, 0, "{id} was ended before its last bytes");
                }
                let early = matches!(reason, EndReason::Lost(_)) && self.lost;
                assert!(!early, "the connection's end was told before its streams'");
            }
            Event::Lost(_) => {
                assert!(self.open.is_empty(), "streams outlive the connection: {:?}", self.open);
                self.lost = true;
            }
            Event::Online(banner) => self.delayed = banner.offers("delayed_ack"),
            Event::Sign { .. } | Event::AuthorisationWanted => {}
        }
    }
}
