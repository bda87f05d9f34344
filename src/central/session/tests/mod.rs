mod life;
mod operations;
mod server;
mod tasks;
mod two_racks;

use prost::Message;

use super::*;
use crate::central::catalogue;
use crate::central::envelope::{Body, Envelope, View};
use crate::central::frame::HEADER;
use crate::central::proto::*;
use crate::rack::event::{AppVersion, BatteryCondition, UpgradeNotice};
use crate::rack::ids::{PackageName, VersionCode};

const HEARTBEAT: Duration = Duration::from_secs(60);
const IMEI: &str = "490154203237518";

/// What the server sees of one message.
#[derive(Debug)]
struct Sent {
    id: i64,
    token: String,
    code: i32,
    reference: i64,
    body: Vec<u8>,
}

/// A line whose clock is moved by hand, and everything that it did since it was last looked at.
struct Line {
    session: Session,
    now: Moment,
    server_id: i64,
    outputs: Vec<Output>,
}

impl Line {
    fn new() -> Self {
        let session = Session::new(Settings::new(HEARTBEAT), 42);
        Self { session, now: Moment::from_start(Duration::from_secs(1000)), server_id: 0, outputs: Vec::new() }
    }

    fn registered() -> Self {
        let mut line = Self::new();
        line.open();
        line.session.connected(line.now);
        let request = line.sent()[0].id;
        line.serve_auth(request);
        line.outputs.clear();
        line
    }

    fn open(&mut self) {
        self.command(LineCommand::Open {
            credential: IMEI.to_owned(),
            device: Box::new(device()),
            pause: Duration::ZERO,
        });
    }

    fn command(&mut self, command: LineCommand) {
        self.session.command(command, self.now);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.session.poll() {
            self.outputs.push(output);
        }
    }

    /// Moves the clock on by `time`, stopping at each deadline as the shell does.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(deadline) = self.session.deadline().filter(|deadline| deadline.at <= end) {
            self.now = self.now.max(deadline.at);
            self.session.advance(self.now);
            self.drain();
        }
        self.now = end;
    }

    /// The server sends a message with the body that the catalogue names.
    fn serve(&mut self, code: EnumMsgType, body: &impl Message, reference: i64) -> i64 {
        self.serve_bytes(code as i32, &body.encode_to_vec(), reference)
    }

    fn serve_bytes(&mut self, code: i32, value: &[u8], reference: i64) -> i64 {
        self.server_id += 1;
        let type_name = catalogue::lookup(code).and_then(|entry| entry.body);
        let body = type_name.map(|type_name| Body { type_name, value });
        let envelope =
            Envelope { id: self.server_id, access_token: "", msg_type: code, body, ref_message_id: reference };
        self.session.receive(&envelope.frame().unwrap()[HEADER..], self.now);
        self.drain();
        self.server_id
    }

    fn serve_auth(&mut self, request: i64) {
        self.drain();
        let response = DeviceAuthRspMessage { access_token: "token".to_owned(), ..Default::default() };
        self.serve(EnumMsgType::DeviceAuthRsp, &response, request);
    }

    /// What was sent since the last look.
    fn sent(&mut self) -> Vec<Sent> {
        self.drain();
        let frames =
            self.outputs.iter().filter_map(|o| if let Output::Transmit(frame) = o { Some(frame) } else { None });
        let sent = frames.map(|frame| {
            let view = View::parse(&frame[HEADER..]).unwrap();
            let expected = catalogue::lookup(view.msg_type).unwrap().body;
            assert_eq!(view.content.map(|c| c.type_name()), expected, "the type URL is exact");
            let (token, body) = (view.access_token.to_owned(), view.body().to_vec());
            Sent { id: view.id, token, code: view.msg_type, reference: view.ref_message_id, body }
        });
        let sent = sent.collect();
        self.outputs.retain(|output| !matches!(output, Output::Transmit(_)));
        sent
    }

    fn codes(&mut self) -> Vec<i32> {
        self.sent().iter().map(|sent| sent.code).collect()
    }

    /// Events since the last look.
    fn events(&mut self) -> Vec<LineEvent> {
        let events =
            self.outputs.iter().filter_map(|o| if let Output::Event(event) = o { Some(event.clone()) } else { None });
        let events = events.collect();
        self.outputs.retain(|output| !matches!(output, Output::Event(_)));
        events
    }

    /// The state that was told last, with its sentence.
    fn told(&mut self) -> (LineState, String) {
        let mut told = self.events().into_iter().filter_map(|event| match event {
            LineEvent::State { state, why } => Some((state, why)),
            _ => None,
        });
        told.next_back().expect("a state was told")
    }

    fn disconnects(&self) -> bool {
        self.outputs.contains(&Output::Disconnect)
    }

    /// The one Error that was sent for message `of`; nothing else was.
    fn refused(&mut self, of: i64) -> (EnumErrorCode, String) {
        let sent = self.sent();
        assert_eq!(sent.iter().map(|s| (s.code, s.reference)).collect::<Vec<_>>(), [(1003, of)], "Error alone");
        let error = ErrorMessage::decode(&sent[0].body[..]).unwrap();
        (error.error_code(), error.error_msg)
    }

    /// Lets the phone answer the probe before the heartbeat, and the server the heartbeat.
    fn beat(&mut self) {
        self.pass(HEARTBEAT);
        assert!(self.events().contains(&LineEvent::HeartbeatDue));
        self.command(LineCommand::Presence(Presence::Answered));
        let beat = self.sent();
        assert_eq!(beat.last().unwrap().code, 1001);
        self.serve_bytes(1002, &[], beat.last().unwrap().id);
        assert!(self.events().contains(&LineEvent::HeartbeatAcknowledged));
    }
}

fn condition(level_percent: u8) -> Condition {
    let battery = BatteryCondition { level_percent, charging: true, temperature_celsius: Some(30.0) };
    Condition { battery: Some(battery), storage: None }
}

fn device() -> DeviceInfo {
    let agent = AppVersion {
        package: PackageName::new("org.example.agent"),
        version_code: VersionCode(7),
        version_name: "0.7".to_owned(),
    };
    DeviceInfo {
        brand: "acme".to_owned(),
        model: "A1".to_owned(),
        sdk: 33,
        imei: IMEI.to_owned(),
        apps: vec![agent],
        network: "wifi".to_owned(),
        ..DeviceInfo::default()
    }
}
