//! What fuzzing and property tests do to a connection: a host and services that do anything in any order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use super::{Asked, Connection, Demand, Read, Wake, Write};
use crate::auth::{Authorisation, TOKEN_BYTES};
use crate::banner::{Feature, Profile};
use crate::limits;
use crate::wire::{Command, Message, VERSION_UNCHECKED};

/// The host's id of the stream that [`open_sync`] opens.
pub(crate) const HOST_ID: u32 = 7;

fn hello(payload_bytes_max: u32, features: &'static [u8]) -> Message {
    Message::new(Command::CNXN, VERSION_UNCHECKED, payload_bytes_max, features)
}

/// A phone that has let in a host with delayed acknowledgement, and has said so.
pub(crate) fn online(payload_bytes_max: u32) -> Connection {
    let profile = Profile::modern("p", "m").with(Feature::DELAYED_ACK);
    let mut core = Connection::new(profile, Authorisation::Off, Box::new(|| [0; TOKEN_BYTES]));
    core.receive(hello(payload_bytes_max, b"host::features=delayed_ack"), Duration::ZERO);
    while core.next_message().is_some() {}
    core
}

/// Has the host open `sync:`, and takes the answer.
pub(crate) fn open_sync(core: &mut Connection) -> Option<u32> {
    let open = Message::new(Command::OPEN, HOST_ID, u32::MAX, &b"sync:\0"[..]);
    let Some(Demand::Open(asked)) = core.receive(open, Duration::ZERO) else { return None };
    let local = core.accept(&asked);
    while core.next_message().is_some() {}
    local
}

/// What is known of a stream from outside.
#[derive(Default)]
struct Seen {
    /// Bytes that the host sent with leave or without, that the service read, that were acknowledged.
    received: u64,
    read: u64,
    acknowledged: u64,
}

/// The phone, and what is expected of it.
struct Exercise {
    core: Connection,
    streams: BTreeMap<u32, Seen>,
    told_closed: BTreeSet<u32>,
    woken_closed: BTreeSet<u32>,
}

/// An operation for each two bytes: which, and its argument.
///
/// # Panics
/// An invariant is broken.
pub(crate) fn operations(bytes: &[u8]) {
    let mut exercise = Exercise {
        core: online(4096),
        streams: BTreeMap::new(),
        told_closed: BTreeSet::new(),
        woken_closed: BTreeSet::new(),
    };
    for pair in bytes.chunks_exact(2) {
        exercise.operate(pair[0], u32::from(pair[1]));
        while let Some(wake) = exercise.core.next_wake() {
            if let Wake::Closed(local) = wake {
                assert!(exercise.woken_closed.insert(local), "a stream ended twice");
            }
        }
        let queued = exercise.core.outgoing.len();
        let answers = 2 * bytes.len();
        assert!(queued <= limits::OUTGOING_MESSAGES_MAX + answers, "more waits than was asked for");
    }
}

impl Exercise {
    fn operate(&mut self, operation: u8, argument: u32) {
        // A few ids, so that they meet.
        let local = argument % 5;
        match operation % 12 {
            0 => self.open(argument),
            1 => self.okay(argument >> 4, local, argument),
            2..=4 => self.write_of_host(argument >> 4, local, operation),
            5 => self.host(Message::new(Command::CLSE, argument >> 4, local, Bytes::new())),
            6 if argument < 8 => self.restart(),
            6 => self.host(Message::new(Command::AUTH, argument % 4, 0, vec![0; 16])),
            7 => drop(self.core.open("tcp:1").map(|local| self.begin(local))),
            8 => self.read(local),
            9 => self.write_of_service(local, argument as usize * 100 + 1),
            10 if argument < 200 => self.core.close(local),
            10 => self.core.abandon(local),
            _ => self.take(argument),
        }
    }

    fn begin(&mut self, local: u32) {
        assert!(self.streams.insert(local, Seen::default()).is_none(), "an id is given twice");
    }

    fn open(&mut self, argument: u32) {
        let open = Message::new(Command::OPEN, argument >> 4, argument % 3 * 1000, &b"shell:cat\0"[..]);
        if let Some(Demand::Open(asked)) = self.core.receive(open, Duration::ZERO) {
            self.decide(&asked, argument);
        }
    }

    fn decide(&mut self, asked: &Asked, argument: u32) {
        if argument.is_multiple_of(7) {
            return self.core.refuse(asked);
        }
        if let Some(local) = self.core.accept(asked) {
            self.begin(local);
        }
    }

    fn host(&mut self, message: Message) {
        let _ = self.core.receive(message, Duration::ZERO);
    }

    fn okay(&mut self, remote: u32, local: u32, bytes: u32) {
        // An answer to what is not open would look like the end of what is opened later.
        let local = if self.streams.contains_key(&local) { local } else { local + 1000 };
        self.host(Message::new(Command::OKAY, remote, local, bytes.to_le_bytes().to_vec()));
    }

    fn write_of_host(&mut self, remote: u32, local: u32, size: u8) {
        let payload = vec![0; usize::from(size) * 16];
        if let Some(seen) = self.streams.get_mut(&local) {
            seen.received += payload.len() as u64;
        }
        self.host(Message::new(Command::WRTE, remote, local, payload));
    }

    fn restart(&mut self) {
        self.host(hello(4096, b"host::features=delayed_ack"));
        assert!(self.core.open_ids().is_empty(), "a stream outlives its connection");
    }

    fn read(&mut self, local: u32) {
        if let (Read::Bytes(bytes), Some(seen)) = (self.core.read(local), self.streams.get_mut(&local)) {
            seen.read += bytes.len() as u64;
            assert!(seen.read <= seen.received, "more is read than came");
        }
    }

    fn write_of_service(&mut self, local: u32, len: usize) {
        let mut bytes = Bytes::from(vec![0; len]);
        let written = self.core.write(local, &mut bytes);
        let expected = if written == Write::Sent { len.min(self.core.payload_bytes_max()) } else { 0 };
        assert_eq!(len - bytes.len(), expected, "what is not sent is kept");
    }

    fn take(&mut self, count: u32) {
        for _ in 0..count % 8 {
            let Some((message, _)) = self.core.next_message() else { return };
            let local = message.arg0;
            match message.command {
                Command::OKAY => {
                    let bytes = <[u8; 4]>::try_from(&message.payload[..]).map_or(0, u32::from_le_bytes);
                    self.acknowledged(local, u64::from(bytes));
                }
                Command::WRTE => {
                    assert!(message.payload.len() <= 4096, "a message is longer than agreed");
                    assert!(!self.told_closed.contains(&local), "a stream goes on behind its end");
                }
                Command::CLSE if self.streams.contains_key(&local) => {
                    self.told_closed.insert(local);
                }
                _ => {}
            }
        }
    }

    fn acknowledged(&mut self, local: u32, bytes: u64) {
        let Some(seen) = self.streams.get_mut(&local) else { return };
        seen.acknowledged += bytes;
        let leave = u64::from(limits::RECEIVE_WINDOW_BYTES) + seen.read + limits::BUFFER_BYTES;
        assert!(seen.acknowledged <= leave, "more is acknowledged than fits");
    }
}
