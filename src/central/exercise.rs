//! What the fuzz targets call and the tests replay: any bytes, through each parser and the core, against their invariants.

mod outgoing;
mod pace;
mod relay;
mod shelf;

use std::time::Duration;

use bytes::BytesMut;

use super::envelope::{Address, Envelope, View, splice, splice_frame};
use super::frame::{self, HEADER, Split};
use super::session::{Output, Session, Settings};
use crate::clock::Moment;
use crate::rack::event::{BatteryCondition, Condition, DeviceInfo, LineCommand, LineEvent, Presence, TaskName};
use crate::rack::snapshot::LineState;

pub use self::outgoing::outgoing;
pub use self::pace::pace;
pub use self::relay::{outbox, relay};

/// The bound that the exercises set on frames.
const MAX: usize = 4096;

/// Any bytes as a stream of frames: what comes out covers the input without a gap.
pub fn frames(bytes: &[u8]) {
    let mut rest = bytes;
    loop {
        match frame::split(rest, MAX) {
            Ok(Split::Frame { payload, consumed }) => {
                assert_eq!(consumed, HEADER + payload.len());
                assert!(!payload.is_empty() && payload.len() <= MAX);
                assert_eq!(rest.get(HEADER..consumed), Some(payload));
                rest = rest.get(consumed..).unwrap_or_default();
            }
            Ok(Split::Partial { needed }) => {
                assert!(needed > rest.len() && needed <= HEADER + MAX);
                assert_eq!(frame::at_close(rest, MAX).is_ok(), rest.is_empty());
                return;
            }
            Err(why) => {
                assert_eq!(frame::at_close(rest, MAX), Err(why), "the end of the stream mends nothing");
                return;
            }
        }
    }
}

/// Any bytes as an envelope: another address changes nothing else.
pub fn envelope(bytes: &[u8]) {
    readdress(bytes, &Address { id: 7, access_token: "token", ref_message_id: 9 });
}

/// Any bytes as an address and an envelope that is given it: one byte each for Id, RefMessageId and the length of the AccessToken, of
/// which `0xff` and what follows is the largest there is.
pub fn splicing(bytes: &[u8]) {
    let mut script = Script(bytes);
    let number = |byte: Option<u8>| byte.map_or(0, |byte| if byte == 0xff { i64::MIN } else { i64::from(byte) });
    let (id, ref_message_id) = (number(script.byte()), number(script.byte()));
    let access_token = "t".repeat(usize::from(script.byte().unwrap_or_default()));
    readdress(script.0, &Address { id, access_token: &access_token, ref_message_id });
}

fn readdress(bytes: &[u8], address: &Address<'_>) {
    let mut out = BytesMut::new();
    let spliced = splice(bytes, address, &mut out);
    let Ok(before) = View::parse(bytes) else {
        assert!(spliced.is_ok() || out.is_empty(), "what is none leaves nothing behind");
        return;
    };
    assert!(spliced.is_ok(), "what can be viewed can be spliced");
    let Address { id, access_token, ref_message_id } = *address;
    assert_eq!(View::parse(&out), Ok(View { id, access_token, ref_message_id, ..before }));
    let again = out.split().freeze();
    assert_eq!(splice(&again, address, &mut out), Ok(()));
    assert_eq!(out, again, "the same address again changes no byte");

    let framed = splice_frame(bytes, address, &mut BytesMut::new());
    assert_eq!(framed.is_ok(), !again.is_empty());
}

/// Any bytes as a list of things that happen to a line: every rule of [`super::session`] holds after each.
pub fn session(bytes: &[u8]) {
    let settings = Settings::new(Duration::from_secs(60));
    let mut line = Exercise {
        session: Session::new(settings, bytes.len() as u64),
        now: Moment::START,
        state: LineState::Closed,
        linked: false,
    };
    let mut script = Script(bytes);
    while let Some(operation) = script.byte() {
        line.operate(operation, &mut script);
        let closed = line.state == LineState::Closed;
        assert_eq!(line.session.deadline().is_none(), closed, "every wait has a deadline");
    }
}

struct Exercise {
    session: Session,
    now: Moment,
    state: LineState,
    linked: bool,
}

impl Exercise {
    fn operate(&mut self, operation: u8, script: &mut Script<'_>) {
        let now = self.now;
        let answered = operation % 16 == 4;
        match operation % 16 {
            0 => self.session.command(open(), now),
            1 => self.session.command(LineCommand::Close { why: String::new() }, now),
            2 => self.session.connected(now),
            3 => self.session.connect_failed("refused", now),
            4 => self.session.command(LineCommand::Presence(Presence::Answered), now),
            5 => self.session.command(LineCommand::Presence(Presence::Silent), now),
            6 => self.session.closed("reset", now),
            7 => self.session.corrupt("nonsense", now),
            8 => {
                let brand = script.byte().map(|b| b.to_string()).unwrap_or_default();
                self.session.command(LineCommand::Device(Box::new(DeviceInfo { brand, ..DeviceInfo::default() })), now);
            }
            9 => {
                let task = TaskName { message_id: 1, task_type: 1094, ..TaskName::default() };
                let result = if script.byte().is_some_and(|byte| byte & 1 == 0) { Ok(()) } else { Err(String::new()) };
                self.session.command(LineCommand::TaskEnded { task, result }, now);
            }
            10 | 11 => self.wait(script),
            12 => {
                self.session.receive(script.bytes(), now);
            }
            13 => {
                let level_percent = script.byte().unwrap_or(0) % 101;
                let battery = BatteryCondition { level_percent, charging: false, temperature_celsius: None };
                let condition = Condition { battery: Some(battery), storage: None };
                self.session.command(LineCommand::Condition(condition), now);
            }
            _ => self.serve(script),
        }
        self.drain(answered);
    }

    /// On to the next deadline, or to a moment before it.
    fn wait(&mut self, script: &mut Script<'_>) {
        let Some(deadline) = self.session.deadline() else { return };
        let early = Duration::from_secs(u64::from(script.byte().unwrap_or(0) & 3) * 20);
        self.now = self.now.max(Moment::from_start(deadline.at.since_start().saturating_sub(early)));
        self.session.advance(self.now);
        if early.is_zero() {
            let next = self.session.deadline();
            assert!(next.is_none_or(|next| next.at > self.now), "an advance gets on: {next:?} at {}", self.now);
        }
    }

    fn serve(&mut self, script: &mut Script<'_>) {
        let code = i32::from(script.byte().unwrap_or(0)) * 8 + i32::from(script.byte().unwrap_or(0));
        let ref_message_id = i64::from(script.byte().unwrap_or(0));
        let type_name = super::catalogue::lookup(code).and_then(|entry| entry.body).unwrap_or_default();
        let body = Some(super::envelope::Body { type_name, value: script.bytes() });
        let message = Envelope { id: 9, access_token: "", msg_type: code, body, ref_message_id };
        let mut payload = BytesMut::new();
        message.encode(&mut payload);
        self.session.receive(&payload, self.now);
    }

    fn drain(&mut self, answered: bool) {
        while let Some(output) = self.session.poll() {
            match output {
                Output::Connect => self.linked = true,
                Output::Disconnect => assert!(std::mem::take(&mut self.linked), "there was something to end"),
                Output::Event(LineEvent::State { state, .. }) => self.state = state,
                Output::Event(_) | Output::Judged(_) => {}
                Output::TellAgent { .. } | Output::EndAgent { .. } | Output::Disk(_) => {
                    unreachable!("a session has no agent")
                }
                Output::Transmit(frame) => {
                    assert!(self.linked, "nothing is sent into the void");
                    self.check(&frame, answered);
                }
            }
        }
    }

    fn check(&self, frame: &[u8], answered: bool) {
        let Ok(Split::Frame { payload, .. }) = frame::split(frame, frame::MAX_FRAME_DEFAULT) else {
            unreachable!("the session sends whole frames")
        };
        let view = View::parse(payload);
        assert!(view.is_ok(), "and in them envelopes");
        let view = view.unwrap_or_default();
        assert!(answered || view.msg_type != 1001, "a heartbeat that nobody vouched for");
        let before_registration = matches!(view.msg_type, 1010 | 1003);
        assert!(!view.access_token.is_empty() || before_registration, "{} without a token", view.msg_type);
    }
}

fn open() -> LineCommand {
    LineCommand::Open { credential: "c".to_owned(), device: Box::default(), pause: Duration::ZERO }
}

/// The bytes of an input, read from the front.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// As many bytes as the next one says, if there are as many.
    fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte().unwrap_or(0)).min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes
    }
}
