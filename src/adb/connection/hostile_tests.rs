//! A handset that breaks the rules: every field of every message wrong, one at a time, and what is worse.
//!
//! From the bytes on the wire to what the core says of them. Whatever happens to one stream, the other one and the connection go on,
//! unless the bytes are no messages any more.

use super::*;
use crate::adb::message::{Checksums, Decoder, HEADER_LEN, VERSION_CHECKSUM};

const T0: Moment = Moment::START;
const PAYLOAD: u32 = 4096;
/// The handset's number of its side of the stream.
const REMOTE: u32 = 70;

/// Where the connection stands when the message comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// CNXN was sent.
    Greeting,
    /// OPEN was sent, as stream 1.
    Opening,
    /// Stream 1 is open, and 3 bytes are on their way to the handset.
    Open,
}

/// The field that is wrong.
#[derive(Clone, Copy, Debug)]
enum Field {
    Command(u32),
    Arg0(u32),
    Arg1(u32),
    Length(u32),
    Checksum(u32),
    Magic(u32),
    Payload(&'static [u8]),
}

/// What must come of it.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// The connection ends, with this in its reason.
    Lost(&'static str),
    /// Stream 1 ends, with this in its reason; the connection goes on.
    Ends(&'static str),
    /// The handset is told to ask for this service; nothing else comes of it.
    Asks(&'static str),
    /// Nothing at all.
    Nothing,
    /// What comes of the right message: the field means nothing there.
    AsRight,
}

use Command::{Auth, Close, Connect, Okay, Open, Sync, Tls, Write};
use Field::{Arg0, Arg1, Checksum, Length, Magic, Payload};
use Then::{AsRight, Asks, Ends, Lost, Nothing};

/// The message as it should be is one that the stage expects; then one field is changed.
const TABLE: &[(Stage, Command, Field, Then)] = &[
    // Before the first answer all that is no CNXN or AUTH counts as left from before, and is skipped.
    (Stage::Greeting, Connect, Field::Command(0x4f4f_4f4f), Nothing),
    (Stage::Greeting, Connect, Magic(1), Nothing),
    (Stage::Greeting, Connect, Length(1 << 20), Nothing),
    (Stage::Greeting, Connect, Arg0(0x00ff_ffff), Lost("the version in CNXN is 0x00ffffff")),
    (Stage::Greeting, Connect, Arg1(4095), Lost("the largest payload in CNXN is 4095")),
    (Stage::Greeting, Connect, Checksum(1), Lost("the checksum of Connect")),
    (Stage::Greeting, Auth, Arg0(2), Lost("AUTH of kind 2 with 20 bytes")),
    (Stage::Greeting, Auth, Arg0(u32::MAX), Lost("AUTH of kind 4294967295")),
    (Stage::Greeting, Auth, Payload(b"nineteen bytes only"), Lost("AUTH of kind 1 with 19 bytes")),
    (Stage::Greeting, Auth, Arg1(7), AsRight),
    (Stage::Greeting, Auth, Payload(b""), Lost("AUTH of kind 1 with 0 bytes")),
    (Stage::Greeting, Auth, Checksum(1), Lost("the checksum of Auth")),
    (Stage::Greeting, Tls, Arg0(1), Lost("the handset wants TLS")),
    (Stage::Greeting, Open, Arg0(5), Nothing),
    (Stage::Greeting, Okay, Arg0(5), Nothing),
    (Stage::Greeting, Write, Arg0(5), Nothing),
    (Stage::Greeting, Close, Arg0(5), Nothing),
    (Stage::Greeting, Sync, Arg0(5), Nothing),
    // The answer to OPEN.
    (Stage::Opening, Okay, Arg0(0), Nothing),
    (Stage::Opening, Okay, Arg1(99), Nothing),
    (Stage::Opening, Write, Arg0(5), Ends("Write on a stream that is not open")),
    (Stage::Opening, Auth, Arg0(2), Lost("started anew")),
    (Stage::Opening, Okay, Payload(b""), Ends("its OKAY carries 0 bytes, expected 4")),
    (Stage::Opening, Okay, Payload(b"12345"), Ends("its OKAY carries 5 bytes, expected 4")),
    (Stage::Opening, Okay, Payload(&[0; 4]), Ends("a window of 0 bytes")),
    (Stage::Opening, Close, Arg1(99), Nothing),
    (Stage::Opening, Close, Arg0(5), Ends("refused")),
    (Stage::Opening, Connect, Arg1(1 << 20), Lost("started anew")),
    // An open stream.
    (Stage::Open, Okay, Field::Command(0), Lost("command (offset 0) is 0x00000000")),
    (Stage::Open, Okay, Magic(0), Lost("the magic of Okay")),
    (Stage::Open, Okay, Length(PAYLOAD + 1), Lost("the length of Okay (offset 12) is 4097, agreed were at most 4096")),
    (Stage::Open, Okay, Checksum(9), Lost("the checksum of Okay")),
    (Stage::Open, Okay, Arg0(0), Nothing),
    (Stage::Open, Okay, Arg0(REMOTE + 1), Nothing),
    (Stage::Open, Okay, Arg1(0), Nothing),
    (Stage::Open, Okay, Arg1(99), Nothing),
    (Stage::Open, Okay, Payload(&[4, 0, 0, 0]), Ends("it acknowledged 4 bytes while 3 were on their way")),
    (Stage::Open, Okay, Payload(&[0xff; 4]), Ends("it acknowledged 4294967295 bytes")),
    (Stage::Open, Okay, Payload(&[3, 0, 0]), Ends("its OKAY carries 3 bytes")),
    (Stage::Open, Write, Field::Command(!0), Lost("command (offset 0)")),
    (Stage::Open, Write, Magic(!0), Lost("the magic of Write")),
    (Stage::Open, Write, Length(u32::MAX), Lost("the length of Write (offset 12) is 4294967295")),
    (Stage::Open, Write, Checksum(0), Lost("the checksum of Write")),
    (Stage::Open, Write, Arg0(0), Nothing),
    (Stage::Open, Write, Arg0(REMOTE + 1), Nothing),
    (Stage::Open, Write, Arg1(0), Nothing),
    (Stage::Open, Write, Arg1(u32::MAX), Nothing),
    (Stage::Open, Write, Payload(b""), Nothing),
    (Stage::Open, Close, Arg0(REMOTE + 1), Nothing),
    (Stage::Open, Close, Arg1(0), Nothing),
    (Stage::Open, Close, Arg1(99), Nothing),
    (Stage::Open, Open, Arg0(0), Nothing),
    (Stage::Open, Open, Arg1(0), Nothing),
    // What no message of an open connection may have.
    (Stage::Open, Connect, Field::Command(0x3f3f_3f3f), Lost("command (offset 0) is 0x3f3f3f3f")),
    (Stage::Open, Connect, Magic(7), Lost("the magic of Connect")),
    (Stage::Open, Connect, Length(PAYLOAD + 1), Lost("the length of Connect")),
    (Stage::Open, Connect, Checksum(9), Lost("the checksum of Connect")),
    (Stage::Open, Auth, Field::Command(0x3f3f_3f3f), Lost("command (offset 0) is 0x3f3f3f3f")),
    (Stage::Open, Auth, Magic(7), Lost("the magic of Auth")),
    (Stage::Open, Auth, Length(PAYLOAD + 1), Lost("the length of Auth")),
    (Stage::Open, Auth, Checksum(9), Lost("the checksum of Auth")),
    (Stage::Open, Open, Field::Command(0x3f3f_3f3f), Lost("command (offset 0) is 0x3f3f3f3f")),
    (Stage::Open, Open, Magic(7), Lost("the magic of Open")),
    (Stage::Open, Open, Length(PAYLOAD + 1), Lost("the length of Open")),
    (Stage::Open, Open, Checksum(9), Lost("the checksum of Open")),
    (Stage::Open, Okay, Field::Command(0x3f3f_3f3f), Lost("command (offset 0) is 0x3f3f3f3f")),
    (Stage::Open, Okay, Magic(7), Lost("the magic of Okay")),
    (Stage::Open, Write, Field::Command(0x3f3f_3f3f), Lost("command (offset 0) is 0x3f3f3f3f")),
    (Stage::Open, Write, Magic(7), Lost("the magic of Write")),
    (Stage::Open, Write, Length(PAYLOAD + 1), Lost("the length of Write")),
    (Stage::Open, Write, Checksum(9), Lost("the checksum of Write")),
    (Stage::Open, Close, Field::Command(0x3f3f_3f3f), Lost("command (offset 0) is 0x3f3f3f3f")),
    (Stage::Open, Close, Magic(7), Lost("the magic of Close")),
    (Stage::Open, Close, Length(PAYLOAD + 1), Lost("the length of Close")),
    (Stage::Open, Close, Checksum(9), Lost("the checksum of Close")),
    (Stage::Open, Tls, Field::Command(0x3f3f_3f3f), Lost("command (offset 0) is 0x3f3f3f3f")),
    (Stage::Open, Tls, Magic(7), Lost("the magic of Tls")),
    (Stage::Open, Tls, Length(PAYLOAD + 1), Lost("the length of Tls")),
    (Stage::Open, Tls, Checksum(9), Lost("the checksum of Tls")),
    (Stage::Open, Sync, Field::Command(0x3f3f_3f3f), Lost("command (offset 0) is 0x3f3f3f3f")),
    (Stage::Open, Sync, Magic(7), Lost("the magic of Sync")),
    (Stage::Open, Sync, Length(PAYLOAD + 1), Lost("the length of Sync")),
    (Stage::Open, Sync, Checksum(9), Lost("the checksum of Sync")),
    (Stage::Open, Connect, Arg0(VERSION_CHECKSUM + 1), Lost("started anew")),
    (Stage::Open, Connect, Arg1(PAYLOAD / 2), Lost("started anew")),
    (Stage::Open, Connect, Payload(b""), Lost("started anew")),
    (Stage::Open, Auth, Arg0(3), Nothing),
    (Stage::Open, Auth, Payload(b""), Nothing),
    // Whoever takes streams refuses a service that it does not know.
    (Stage::Open, Open, Payload(b""), Asks("")),
    (Stage::Open, Open, Payload(b"\xff\0"), Asks("\u{fffd}")),
    (Stage::Open, Close, Arg0(0), AsRight),
    (Stage::Open, Close, Payload(b"bytes"), AsRight),
    (Stage::Open, Tls, Arg0(1), Nothing),
    (Stage::Open, Tls, Arg1(1), Nothing),
    (Stage::Open, Tls, Payload(b"bytes"), Nothing),
    (Stage::Open, Sync, Arg0(1), Nothing),
    (Stage::Open, Sync, Arg1(1), Nothing),
    (Stage::Open, Sync, Payload(b"bytes"), Nothing),
];

#[test]
fn every_field_of_every_message_may_be_wrong() {
    for (stage, command, field, then) in TABLE {
        let case = format!("{stage:?}: {command:?} with {field:?}");
        let mut peer = Peer::at(*stage);
        peer.feed(&peer.wrong(*command, *field));
        let said = peer.events();
        match then {
            Lost(why) => {
                let Some(Event::Lost(fault)) = said.last() else { panic!("{case}: {said:?}") };
                assert!(fault.to_string().contains(why), "{case}: {fault}");
                assert_eq!(peer.ended, usize::from(*stage != Stage::Greeting), "{case}: each stream ends once");
            }
            Ends(why) => {
                let [Event::Closed { id, reason }] = said.as_slice() else { panic!("{case}: {said:?}") };
                assert!(id.0 == 1 && reason.to_string().contains(why), "{case}: {reason}");
                peer.goes_on(&case);
            }
            Asks(wanted) => {
                let [Event::Incoming { service, .. }] = said.as_slice() else { panic!("{case}: {said:?}") };
                assert_eq!(service, wanted, "{case}");
            }
            AsRight => {
                let mut right = Peer::at(*stage);
                right.feed(&right.right(*command));
                let expected = right.events();
                assert!(!expected.is_empty(), "{case}: the right message says nothing that could be compared");
                assert_eq!(said, expected, "{case}");
            }
            Nothing => {
                assert_eq!(said, [], "{case}");
                match stage {
                    Stage::Greeting => assert_eq!(peer.core.framing(), Framing::HANDSHAKE, "{case}"),
                    Stage::Opening | Stage::Open => peer.goes_on(&case),
                }
            }
        }
    }
}

impl Field {
    const NAMES: [&str; 7] = ["command", "arg0", "arg1", "length", "checksum", "magic", "payload"];

    fn name(self) -> &'static str {
        match self {
            Self::Command(_) => "command",
            Arg0(_) => "arg0",
            Arg1(_) => "arg1",
            Length(_) => "length",
            Checksum(_) => "checksum",
            Magic(_) => "magic",
            Payload(_) => "payload",
        }
    }
}

#[test]
fn the_table_has_every_field_of_every_command() {
    for command in [Connect, Auth, Open, Okay, Write, Close, Tls, Sync] {
        let there: Vec<_> = TABLE.iter().filter(|row| row.1 == command).map(|row| row.2.name()).collect();
        for name in Field::NAMES {
            assert!(there.contains(&name), "{command:?}: {name}");
        }
    }
}

#[test]
fn every_row_of_the_table_changes_something() {
    for (stage, command, field, _) in TABLE {
        let peer = Peer::at(*stage);
        assert_ne!(peer.wrong(*command, *field), peer.right(*command), "{stage:?}: {command:?} with {field:?}");
    }
}

#[test]
fn ten_thousand_streams_of_the_handset_are_not_kept() {
    let mut peer = Peer::at(Stage::Open);
    for remote in 1..=10_000 {
        peer.feed(&bytes(Open, 1000 + remote, 1 << 20, b"tcp:1\0"));
        // It takes every answer at once.
        while peer.core.next_transmit(T0).is_some() {}
    }
    let incoming = peer.events().iter().filter(|event| matches!(event, Event::Incoming { .. })).count();
    assert_eq!(incoming, INCOMING_MAX);
    peer.goes_on("ten thousand streams");
}

#[test]
fn a_handset_that_floods_and_takes_nothing_is_given_up() {
    let mut peer = Peer::at(Stage::Open);
    for remote in 1..=10_000 {
        peer.feed(&bytes(Okay, 1000 + remote, 5000 + remote, &[]));
    }
    assert!(matches!(peer.events().last(), Some(Event::Lost(Fault::Flood { .. }))));
    assert!(peer.core.next_transmit(T0).is_none(), "nothing is kept");
}

#[test]
fn a_handset_that_sends_beyond_its_window_loses_the_stream_and_holds_no_memory() {
    let mut peer = Peer::at(Stage::Open);
    let chunk = [7; PAYLOAD as usize];
    let mut held = 0;
    for _ in 0..10_000 {
        peer.feed(&bytes(Write, REMOTE, 1, &chunk));
        for event in peer.events() {
            match event {
                Event::Data { bytes, .. } => held += bytes.len(),
                Event::Closed { reason, .. } => assert!(matches!(reason, EndReason::Violation(_)), "{reason}"),
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(held <= WINDOW as usize + chunk.len(), "{held} bytes came through");
    peer.goes_on("a window that was overrun");
}

#[test]
fn a_handset_that_never_reads_holds_a_queue_and_then_its_stream_ends() {
    let mut peer = Peer::at(Stage::Open);
    let mut taken = 0;
    while peer.core.send(StreamId(1), Bytes::from_static(&[1; 4096])).is_ok() {
        taken += 4096;
        while peer.core.next_transmit(T0).is_some() {}
        assert!(taken <= 2 * SEND_QUEUE_BYTES, "{taken} bytes are held for it");
    }
    assert_eq!(peer.events(), []);
    peer.core.advance(T0 + Waits::default().acknowledgement);
    let [Event::Closed { reason: EndReason::Timeout { why }, .. }] = peer.events()[..] else { panic!("it goes on") };
    assert_eq!(why, "the acknowledgement of what was written");
}

/// A connection and its decoder, with 4 KiB payloads, sums and delayed acknowledgement.
struct Peer {
    core: Connection,
    decoder: Decoder,
    stage: Stage,
    ended: usize,
}

impl Peer {
    fn at(stage: Stage) -> Self {
        let mut peer =
            Self { core: Connection::new(Waits::default(), T0), decoder: Decoder::default(), stage, ended: 0 };
        while peer.core.next_transmit(T0).is_some() {}
        if stage != Stage::Greeting {
            peer.feed(&hello());
            assert_eq!(peer.core.open("shell:", T0), Ok(StreamId(1)));
        }
        if stage == Stage::Open {
            peer.feed(&bytes(Okay, REMOTE, 1, &3_u32.to_le_bytes()));
            peer.core.send(StreamId(1), Bytes::from_static(b"abc")).unwrap();
        }
        while peer.core.next_transmit(T0).is_some() {}
        peer.events();
        peer
    }

    /// Numbers and payload of the message that is right at this stage.
    fn parts(&self, command: Command) -> (u32, u32, Vec<u8>) {
        let window = if self.stage == Stage::Open { 3_u32 } else { 1 << 20 }.to_le_bytes();
        let (arg0, arg1, payload): (u32, u32, &[u8]) = match command {
            Connect => (VERSION_CHECKSUM, PAYLOAD, b"device::features=delayed_ack"),
            Auth => (1, 0, &[5; 20]),
            Open => (200, 1 << 20, b"tcp:1\0"),
            Okay => (REMOTE, 1, &window),
            Write => (REMOTE, 1, b"data"),
            Close => (REMOTE, 1, b""),
            Tls | Sync => (0, 0, b""),
        };
        (arg0, arg1, payload.to_vec())
    }

    fn right(&self, command: Command) -> Vec<u8> {
        let (arg0, arg1, payload) = self.parts(command);
        bytes(command, arg0, arg1, &payload)
    }

    /// The message that is right at this stage, but for a field.
    fn wrong(&self, command: Command, field: Field) -> Vec<u8> {
        let (arg0, arg1, payload) = self.parts(command);
        let (at, value) = match field {
            Arg0(arg0) => return bytes(command, arg0, arg1, &payload),
            Arg1(arg1) => return bytes(command, arg0, arg1, &payload),
            Payload(payload) => return bytes(command, arg0, arg1, payload),
            Field::Command(value) => (0, value),
            Length(value) => (12, value),
            Checksum(value) => (16, value),
            Magic(value) => (20, value),
        };
        let mut wrong = self.right(command);
        wrong[at..at + 4].copy_from_slice(&value.to_le_bytes());
        wrong
    }

    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (chunk, rest) = bytes.split_at(self.decoder.want().min(bytes.len()));
            bytes = rest;
            match self.decoder.push(Bytes::copy_from_slice(chunk)) {
                Ok(Some(message)) => {
                    self.core.receive(message, T0);
                    self.decoder.agree(self.core.framing());
                }
                Ok(None) => {}
                Err(error) => return self.core.fail(error.into()),
            }
        }
    }

    fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Output::Event(event) = self.core.poll() {
            self.ended += usize::from(matches!(event, Event::Closed { .. }));
            events.push(event);
        }
        events
    }

    /// A new stream works from its opening to its end.
    fn goes_on(&mut self, case: &str) {
        let id = self.core.open("shell:", T0).unwrap_or_else(|why| panic!("{case}: {why}"));
        self.feed(&bytes(Okay, 500, id.0, &1000_u32.to_le_bytes()));
        self.feed(&bytes(Write, 500, id.0, b"alive"));
        self.feed(&bytes(Close, 500, id.0, b""));
        let expected = [
            Event::Opened { id },
            Event::Data { id, bytes: Bytes::from_static(b"alive") },
            Event::Closed { id, reason: EndReason::ByPeer },
        ];
        assert_eq!(self.events(), expected, "{case}");
    }
}

fn bytes(command: Command, arg0: u32, arg1: u32, payload: &[u8]) -> Vec<u8> {
    let message = Message::new(command, arg0, arg1, Bytes::copy_from_slice(payload), Checksums::Verified);
    let mut bytes = message.header.emit().to_vec();
    assert_eq!(bytes.len(), HEADER_LEN);
    bytes.extend_from_slice(payload);
    bytes
}

fn hello() -> Vec<u8> {
    bytes(Connect, VERSION_CHECKSUM, PAYLOAD, b"device::features=delayed_ack")
}
