mod agents;
mod centre;
mod notices;
mod operations;
mod outages;
mod upgrade;

use prost::Message;

use super::*;
use crate::central::envelope::Body;
use crate::central::frame::HEADER;
use crate::central::proto::*;
use crate::central::session::{Judged, Settings, Who};
use crate::config::{Allowance, PolicyGroup};
use crate::rack::event::{DeviceInfo, LineEvent, Presence};
use crate::store::outbox::Request;

const IMEI: &str = "490154203237518";
const TOKEN: &str = "of the agent";
const FIRST_ID: i64 = 1000;

/// A message as its receiver sees it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Seen {
    pub(super) id: i64,
    pub(super) token: String,
    pub(super) code: i32,
    pub(super) reference: i64,
    pub(super) body: Vec<u8>,
    /// The whole envelope.
    pub(super) raw: Vec<u8>,
}

impl Seen {
    fn of(frame: &[u8]) -> Self {
        let raw = frame[HEADER..].to_vec();
        assert_eq!(frame[..HEADER], (raw.len() as u32).to_be_bytes(), "a whole frame");
        let view = View::parse(&raw).unwrap();
        Self {
            id: view.id,
            token: view.access_token.to_owned(),
            code: view.msg_type,
            reference: view.ref_message_id,
            body: view.body().to_vec(),
            raw: raw.clone(),
        }
    }

    fn error(&self) -> (EnumErrorCode, String) {
        assert_eq!(self.code, 1003);
        let error = ErrorMessage::decode(&self.body[..]).unwrap();
        (error.error_code(), error.error_msg)
    }
}

/// Both sides of a relay, and a clock that is moved by hand. The phone answers each probe; the centre answers heartbeats, if it does.
pub(super) struct Stage {
    pub(super) relay: Relay,
    pub(super) now: Moment,
    pub(super) centre_answers_heartbeats: bool,
    /// The connection by which the agent reads, if it does.
    pub(super) agent_reads: Option<u64>,
    centre_id: i64,
    agent_id: i64,
    up: Vec<Seen>,
    down: Vec<Seen>,
    events: Vec<LineEvent>,
    judged: Vec<Judged>,
    pub(super) ended: Vec<u64>,
    /// What the line wants of the disk, and was not answered yet.
    pub(super) asked: VecDeque<Request>,
    /// The line wants to be connected.
    pub(super) connects: bool,
}

impl Stage {
    pub(super) fn new(ack: Ack) -> Self {
        Self::of(Settings::new(Duration::from_secs(60)), ack)
    }

    pub(super) fn of(settings: Settings, ack: Ack) -> Self {
        let session = Session::new(settings, 42);
        Self {
            relay: Relay::new(session, ack, FIRST_ID),
            now: Moment::from_start(Duration::from_secs(1000)),
            centre_answers_heartbeats: true,
            agent_reads: None,
            centre_id: 0,
            agent_id: 0,
            up: Vec::new(),
            down: Vec::new(),
            events: Vec::new(),
            judged: Vec::new(),
            ended: Vec::new(),
            asked: VecDeque::new(),
            connects: false,
        }
    }

    /// The centre and the agent are there, and everything may pass.
    pub(super) fn with_agent(ack: Ack) -> Self {
        let mut stage = Self::new(ack);
        let mut policy = Policy::default();
        policy.allowed.extend(PolicyGroup::ALL.map(|group| (group, Allowance::default())));
        stage.relay.change_policy(policy);
        stage.open(IMEI);
        stage.register();
        stage.agent_enters(1);
        stage.forget();
        stage
    }

    pub(super) fn open(&mut self, credential: &str) {
        let device = DeviceInfo { brand: "acme".to_owned(), ..DeviceInfo::default() };
        self.command(LineCommand::Open {
            credential: credential.to_owned(),
            device: Box::new(device),
            pause: Duration::ZERO,
        });
    }

    pub(super) fn command(&mut self, command: LineCommand) {
        self.relay.command(command, self.now);
        self.drain();
    }

    /// The connection that the line wants stands, and the centre lets it in.
    pub(super) fn register(&mut self) {
        while !std::mem::take(&mut self.connects) {
            self.pass(Duration::from_secs(1));
        }
        self.relay.connected(self.now);
        self.drain();
        let response = DeviceAuthRspMessage { access_token: "of the centre".to_owned(), ..Default::default() };
        self.centre_says(1011, &response.encode_to_vec(), 0);
    }

    pub(super) fn centre_hangs_up(&mut self) {
        self.relay.closed("reset by peer", self.now);
        self.drain();
    }

    pub(super) fn agent_enters(&mut self, connection: u64) {
        self.relay.agent_connected(connection, TOKEN.to_owned(), self.now);
        self.agent_reads = Some(connection);
        self.authenticate(connection, IMEI);
    }

    pub(super) fn authenticate(&mut self, connection: u64, credential: &str) -> i64 {
        let request = DeviceAuthReqMessage { auth_type: 1, credential: credential.to_owned() };
        self.say(connection, 1010, &request.encode_to_vec(), 0, "")
    }

    /// The agent sends a message by its newest connection.
    pub(super) fn agent_says(&mut self, code: i32, value: &[u8], reference: i64) -> i64 {
        let connection = self.agent_reads.unwrap_or(1);
        self.say(connection, code, value, reference, TOKEN)
    }

    pub(super) fn say(&mut self, connection: u64, code: i32, value: &[u8], reference: i64, token: &str) -> i64 {
        self.agent_id += 1;
        let envelope = envelope(self.agent_id, code, value, reference, token);
        self.relay.agent_says(connection, &envelope, self.now);
        self.drain();
        self.agent_id
    }

    pub(super) fn centre_says(&mut self, code: i32, value: &[u8], reference: i64) -> i64 {
        self.centre_id += 1;
        let envelope = envelope(self.centre_id, code, value, reference, "");
        self.relay.receive(&envelope, self.now);
        self.drain();
        self.centre_id
    }

    pub(super) fn centre_refuses(&mut self, id: i64, code: EnumErrorCode) {
        let error = ErrorMessage { error_code: code as i32, error_msg: "no".to_owned() };
        self.centre_says(1003, &error.encode_to_vec(), id);
    }

    /// Does what the line wants, as the shell does.
    pub(super) fn drain(&mut self) {
        loop {
            while let Some(output) = self.relay.poll() {
                match output {
                    Output::Connect => self.connects = true,
                    Output::Transmit(frame) => self.transmit(&frame),
                    Output::Disconnect => {}
                    Output::Event(LineEvent::HeartbeatDue) => {
                        self.relay.command(LineCommand::Presence(Presence::Answered), self.now);
                    }
                    Output::Event(event) => self.events.push(event),
                    Output::Judged(judged) => self.judged.push(judged),
                    Output::TellAgent { frame, .. } => self.down.push(Seen::of(&frame)),
                    Output::EndAgent { connection } => self.ended.push(connection),
                    Output::Disk(request) => self.asked.push_back(request),
                }
            }
            let Some(connection) = self.agent_reads else { return };
            let Some(frame) = self.relay.next_for_agent(connection, self.now) else { return };
            self.down.push(Seen::of(&frame));
        }
    }

    fn transmit(&mut self, frame: &[u8]) {
        let seen = Seen::of(frame);
        let is_heartbeat = seen.code == 1001;
        let (id, answers) = (seen.id, self.centre_answers_heartbeats);
        self.up.push(seen);
        if is_heartbeat && answers {
            self.centre_id += 1;
            let acknowledgement = envelope(self.centre_id, 1002, &[], id, "");
            self.relay.receive(&acknowledgement, self.now);
        }
    }

    /// Moves the clock on, stopping at each deadline as the shell does.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(deadline) = self.relay.deadline().filter(|deadline| deadline.at <= end) {
            self.now = self.now.max(deadline.at);
            self.relay.advance(self.now);
            self.drain();
        }
        self.now = end;
    }

    pub(super) fn pass_s(&mut self, seconds: u64) {
        self.pass(Duration::from_secs(seconds));
    }

    /// What the centre got since the last look, heartbeats aside.
    pub(super) fn up(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.up).into_iter().filter(|seen| seen.code != 1001).collect()
    }

    /// What the agent got since the last look.
    pub(super) fn down(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.down)
    }

    pub(super) fn up_codes(&mut self) -> Vec<i32> {
        self.up().iter().map(|seen| seen.code).collect()
    }

    pub(super) fn down_codes(&mut self) -> Vec<(i32, i64)> {
        self.down().iter().map(|seen| (seen.code, seen.reference)).collect()
    }

    fn forget(&mut self) {
        (self.up, self.down, self.events, self.judged) = Default::default();
    }

    fn events(&mut self) -> Vec<LineEvent> {
        std::mem::take(&mut self.events)
    }
}

pub(super) fn envelope(id: i64, code: i32, value: &[u8], reference: i64, token: &str) -> Bytes {
    let type_name = catalogue::lookup(code).and_then(|entry| entry.body).unwrap_or_default();
    let body = (!value.is_empty()).then_some(Body { type_name, value });
    let mut out = BytesMut::new();
    Envelope { id, access_token: token, msg_type: code, body, ref_message_id: reference }.encode(&mut out);
    out.freeze()
}

fn online(wechat_id: &str) -> Vec<u8> {
    WeChatOnlineNoticeMessage { we_chat_id: wechat_id.to_owned(), ..Default::default() }.encode_to_vec()
}
