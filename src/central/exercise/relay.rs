//! Any bytes as a list of things that happen to a line with an agent behind it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use super::shelf::{Mood, Shelf};
use super::{Script, open};
use crate::central::catalogue;
use crate::central::envelope::{Body, Envelope, View};
use crate::central::frame::{self, HEADER, Split};
use crate::central::proto::{DeviceAuthReqMessage, DeviceAuthRspMessage};
use crate::central::relay::Relay;
use crate::central::session::{Output, Session, Settings};
use crate::clock::Moment;
use crate::config::Ack;
use crate::rack::event::{LineCommand, LineEvent, Presence};
use crate::rack::snapshot::LineState;
use crate::store::outbox::BLOCK_NOTICES_MAX;

const TOKEN: &str = "of the agent";
/// More than waits for an agent that takes nothing: what is given to it, and the acknowledgements of all that waits for the centre.
const HELD_MAX: usize = 400;
/// More than waits for the centre.
const WAITING_MAX: usize = 260;
/// Two blocks more may be loaded.
const WAITING_MAX_WITH_DISK: usize = WAITING_MAX + 2 * BLOCK_NOTICES_MAX;
/// Slow enough that a pace counts.
const PER_SECOND: u32 = 100;

/// Any bytes as a list of things that happen to a relay: every rule of [`crate::central::relay`] holds after each.
pub fn relay(bytes: &[u8]) {
    live(bytes, None);
}

/// The same with a disk, which the bytes have answer, fail, be full, and outlive the daemon: every rule of [`crate::central::outbox`] holds
/// after each.
pub fn outbox(bytes: &[u8]) {
    live(bytes, Some(Shelf::default()));
}

fn line_of(bytes: &[u8], disk: Option<&Shelf>) -> Relay {
    let session = Session::new(Settings::new(Duration::from_secs(60)), bytes.len() as u64);
    let relay = Relay::new(session, Ack::ALL[bytes.len() % Ack::ALL.len()], 1);
    if disk.is_some() { relay.with_disk(PER_SECOND) } else { relay }
}

fn live(bytes: &[u8], disk: Option<Shelf>) {
    let mut line = Exercise {
        relay: line_of(bytes, disk.as_ref()),
        disk,
        now: Moment::START,
        state: LineState::Closed,
        linked: false,
        connection: 0,
        held: 0,
    };
    let mut script = Script(bytes);
    while let Some(operation) = script.byte() {
        if line.disk.is_some() && operation % 16 == 15 {
            line.disk_does(bytes, &mut script);
        } else {
            line.operate(operation, &mut script);
        }
        let closed = line.state == LineState::Closed;
        assert_eq!(line.relay.deadline().is_none(), closed, "every wait has a deadline");
        let waiting_max = if line.disk.is_some() { WAITING_MAX_WITH_DISK } else { WAITING_MAX };
        assert!(line.relay.waiting() <= waiting_max, "what waits for the centre is bounded");
    }
}

struct Exercise {
    relay: Relay,
    disk: Option<Shelf>,
    now: Moment,
    state: LineState,
    linked: bool,
    /// The newest from the phone.
    connection: u64,
    /// Frames that an agent took since it last did something.
    held: usize,
}

impl Exercise {
    fn operate(&mut self, operation: u8, script: &mut Script<'_>) {
        let (now, connection) = (self.now, self.connection);
        match operation % 16 {
            0 => self.relay.command(open(), now),
            1 => self.relay.command(LineCommand::Close { why: String::new() }, now),
            2 => self.register(),
            3 => self.relay.closed("reset", now),
            4 => self.relay.command(LineCommand::Presence(Presence::Answered), now),
            5 | 6 => self.wait(script),
            7 => self.relay.receive(script.bytes(), now),
            8 => {
                self.connection += 1;
                self.relay.agent_connected(self.connection, TOKEN.to_owned(), now);
            }
            9 if self.relay.wants_agent(connection) => {
                let credential = if script.byte() == Some(0) { "other" } else { "c" };
                let request = DeviceAuthReqMessage { auth_type: 1, credential: credential.to_owned() };
                self.relay.agent_says(connection, &message(1010, 1, &request.encode_to_vec(), 0, ""), now);
            }
            10 => self.relay.agent_closed(connection, "closed", now),
            11 if self.relay.wants_agent(connection) => {
                self.relay.agent_says(connection, &Bytes::copy_from_slice(script.bytes()), now);
            }
            12 => self.take(),
            13 if self.relay.wants_agent(connection) => {
                let said = any_message(script, TOKEN);
                self.relay.agent_says(connection, &said, now);
            }
            _ => {
                let said = any_message(script, "");
                self.relay.receive(&said, now);
            }
        }
        self.drain();
    }

    /// The disk does the next thing, in one mood or another, or outlives the daemon.
    fn disk_does(&mut self, bytes: &[u8], script: &mut Script<'_>) {
        let how = script.byte().unwrap_or(0);
        let mood = match how & 3 {
            0 | 1 => Mood::Works,
            2 => Mood::Fails,
            _ => Mood::IsFull,
        };
        let Some(disk) = &mut self.disk else { return };
        if how & 0x80 != 0 {
            disk.forget_asked(mood);
            self.relay = line_of(bytes, self.disk.as_ref());
            (self.state, self.linked, self.connection, self.held) = (LineState::Closed, false, 0, 0);
        } else if let Some((owner, answer)) = disk.answer(mood) {
            self.relay.disk_says(&owner, answer, self.now);
            self.drain();
        }
    }

    fn register(&mut self) {
        self.relay.connected(self.now);
        let response = DeviceAuthRspMessage { access_token: "t".to_owned(), ..Default::default() };
        self.relay.receive(&message(1011, 1, &response.encode_to_vec(), 0, ""), self.now);
    }

    /// On to the next deadline, or to a moment before it.
    fn wait(&mut self, script: &mut Script<'_>) {
        let Some(deadline) = self.relay.deadline() else { return };
        let early = Duration::from_secs(u64::from(script.byte().unwrap_or(0) & 3) * 20);
        self.now = self.now.max(Moment::from_start(deadline.at.since_start().saturating_sub(early)));
        self.relay.advance(self.now);
    }

    fn take(&mut self) {
        self.held = 0;
        while let Some(frame) = self.relay.next_for_agent(self.connection, self.now) {
            view_of(&frame, |_| {});
            self.held += 1;
            assert!(self.held <= HELD_MAX, "what waits for the agent is bounded");
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.relay.poll() {
            match output {
                Output::Connect => self.linked = true,
                Output::Disconnect => assert!(std::mem::take(&mut self.linked), "there was something to end"),
                Output::Event(LineEvent::State { state, .. }) => self.state = state,
                Output::Disk(request) => {
                    assert!(self.disk.is_some(), "only a line with a disk asks it");
                    self.disk.iter_mut().for_each(|disk| disk.ask(request.clone()));
                }
                Output::Event(_) | Output::Judged(_) | Output::EndAgent { .. } => {}
                Output::TellAgent { frame, .. } => view_of(&frame, |_| {}),
                Output::Transmit(frame) => {
                    assert!(self.linked, "nothing is sent into the void");
                    view_of(&frame, |view| {
                        let before_registration = matches!(view.msg_type, 1010 | 1003);
                        assert!(
                            !view.access_token.is_empty() || before_registration,
                            "{} without a token",
                            view.msg_type
                        );
                    });
                }
            }
        }
    }
}

fn view_of(frame: &[u8], look: impl Fn(&View<'_>)) {
    let Ok(Split::Frame { payload, consumed }) = frame::split(frame, frame::MAX_FRAME_DEFAULT) else {
        unreachable!("a relay sends whole frames")
    };
    assert_eq!(consumed, payload.len() + HEADER);
    let view = View::parse(payload);
    assert!(view.is_ok(), "and in them envelopes");
    look(&view.unwrap_or_default());
}

fn any_message(script: &mut Script<'_>, token: &str) -> Bytes {
    let code = i32::from(script.byte().unwrap_or(0)) * 8 + i32::from(script.byte().unwrap_or(0));
    let reference = i64::from(script.byte().unwrap_or(0));
    let id = i64::from(script.byte().unwrap_or(0));
    message(code, id, script.bytes(), reference, token)
}

fn message(code: i32, id: i64, value: &[u8], reference: i64, token: &str) -> Bytes {
    let type_name = catalogue::lookup(code).and_then(|entry| entry.body).unwrap_or_default();
    let body = Some(Body { type_name, value });
    let mut payload = BytesMut::new();
    Envelope { id, access_token: token, msg_type: code, body, ref_message_id: reference }.encode(&mut payload);
    payload.freeze()
}
