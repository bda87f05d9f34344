//! The agents on the handsets: they come and go, say numbered notices, read or do not, and some are not who they say they are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use farmhand::central::catalogue;
use farmhand::central::envelope::{Body, Envelope, View};
use farmhand::central::proto::{DeviceAuthReqMessage, EnumMsgType, WeChatOnlineNoticeMessage};
use farmhand::clock::Moment;
use farmhand::rack::ids::PhoneId;
use prost::Message as _;

use super::World;
use super::chance::Chance;
use super::input::Input;
use super::lines::LineShell;

const TOKEN: &str = "of the agent";
/// Frames of a flood: so many times eleven at most.
const FLOOD: usize = 150;

/// What the agents have said, and by whose dice.
#[derive(Debug)]
pub(super) struct Agents {
    chance: Chance,
    said: u64,
    acknowledged: BTreeSet<u64>,
}

/// The connection of one agent to its line.
#[derive(Debug, Default)]
pub(super) struct Agent {
    connection: Option<u64>,
    connections: u64,
    reads: bool,
    /// What it has still to say; it waits on the phone.
    to_say: VecDeque<Saying>,
    last_id: i64,
    /// The notices of this connection that were not acknowledged: their numbers by Id.
    waiting: BTreeMap<i64, u64>,
}

/// A frame that an agent is about to say.
#[derive(Clone, Debug)]
enum Saying {
    Auth { credential: String },
    Online,
    Notice,
    Beat,
    Nonsense,
}

/// What an agent may do.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Comes,
    ComesAsAnother,
    Leaves,
    Says,
    Beats,
    Floods,
    StopsReading,
    TalksNonsense,
}

const DEEDS: &[Deed] = &[
    Deed::Comes,
    Deed::Comes,
    Deed::ComesAsAnother,
    Deed::Leaves,
    Deed::Says,
    Deed::Says,
    Deed::Says,
    Deed::Says,
    Deed::Beats,
    Deed::Floods,
    Deed::StopsReading,
    Deed::TalksNonsense,
];

impl Agents {
    pub(super) fn new(seed: u64) -> Self {
        Self { chance: Chance::new(seed ^ 0xa6e7), said: 0, acknowledged: BTreeSet::new() }
    }

    /// The numbers of all notices that were.
    pub(super) fn acknowledged(&self) -> impl Iterator<Item = u64> {
        self.acknowledged.iter().copied()
    }
}

impl Agent {
    pub(super) fn reads(&self) -> Option<u64> {
        self.connection.filter(|_| self.reads)
    }

    /// The line ends this connection.
    pub(super) fn ended(&mut self, connection: u64) {
        if self.connection == Some(connection) {
            self.leaves();
        }
    }

    fn leaves(&mut self) -> Option<u64> {
        self.to_say.clear();
        self.connection.take()
    }

    /// Whether it would say something, if it were heard.
    pub(super) fn would_speak(&self) -> bool {
        self.connection.is_some() && !self.to_say.is_empty()
    }

    /// What comes from the line: the number of the notice that it acknowledges.
    pub(super) fn hears(&mut self, frame: &Bytes) -> Result<Option<u64>, String> {
        let view = frame.get(4..).map(View::parse);
        let Some(Ok(view)) = view else { return Err("an agent got what it cannot read".to_owned()) };
        let acknowledges = view.msg_type == EnumMsgType::MsgReceivedAck as i32;
        Ok(if acknowledges { self.waiting.remove(&view.ref_message_id) } else { None })
    }

    fn envelope(&mut self, code: EnumMsgType, value: &[u8], token: &str) -> Bytes {
        self.last_id += 1;
        let type_name = catalogue::lookup(code as i32).and_then(|entry| entry.body).unwrap_or_default();
        let body = Some(Body { type_name, value });
        let message =
            Envelope { id: self.last_id, access_token: token, msg_type: code as i32, body, ref_message_id: 0 };
        let mut payload = Vec::with_capacity(message.encoded_len());
        message.encode(&mut payload);
        payload.into()
    }
}

impl World {
    /// One agent does something.
    pub(super) fn an_agent_acts(&mut self) {
        let Some(daemon) = &mut self.daemon else { return };
        if daemon.lines.is_empty() {
            return;
        }
        let number = self.agents.chance.below(daemon.lines.len());
        let Some(phone) = daemon.lines.keys().nth(number).cloned() else { return };
        let deed = *self.agents.chance.pick(DEEDS);
        let times = self.agents.chance.below(12);
        let Some(line) = daemon.lines.get_mut(&phone) else { return };
        let imei = line.handset.and_then(|handset| self.handsets.get(handset)).map(|handset| handset.imei.clone());
        let now = self.stage.now;
        self.stage.tell(format_args!("the agent of {phone}: {deed:?}"));
        match (deed, line.agent.connection) {
            (Deed::Comes, _) => enters(line, imei.unwrap_or_default(), now),
            (Deed::ComesAsAnother, _) => enters(line, "350000000000999".to_owned(), now),
            (Deed::Leaves, Some(_)) => {
                if let Some(connection) = line.agent.leaves() {
                    line.relay.agent_closed(connection, "it closed its connection", now);
                }
            }
            // Now and then more than may be on their way at once.
            (Deed::Says, Some(_)) => line.agent.to_say.extend(vec![Saying::Notice; times * times]),
            (Deed::Beats, Some(_)) => line.agent.to_say.push_back(Saying::Beat),
            (Deed::Floods, _) => self.an_agent_floods(&phone, times * FLOOD),
            (Deed::StopsReading, _) => line.agent.reads = false,
            (Deed::TalksNonsense, Some(_)) if times == 0 => line.agent.to_say.push_back(Saying::Nonsense),
            _ => {}
        }
        self.drain_line(&phone);
    }

    /// Soon an agent says all this at once, while others say a frame now and then. Whoever has no connection comes first.
    fn an_agent_floods(&mut self, flooding: &PhoneId, frames: usize) {
        let Some(daemon) = &mut self.daemon else { return };
        let (run, now) = (daemon.run, self.stage.now);
        let mut speaking = Vec::new();
        for (phone, line) in &mut daemon.lines {
            let Some(handset) = line.handset.and_then(|handset| self.handsets.get(handset)) else { continue };
            if line.agent.connection.is_none() {
                enters(line, handset.imei.clone(), now);
            }
            speaking.push(phone.clone());
        }
        for phone in speaking {
            let mut after = Duration::ZERO;
            for _ in 0..self.agents.chance.below(12) {
                after += self.agents.chance.millis(1, 300);
                self.stage.after(after, Input::AgentBeats { run, phone: phone.clone(), times: 1 });
            }
            self.drain_line(&phone);
        }
        let soon = self.agents.chance.millis(0, 500);
        self.stage.after(soon, Input::AgentBeats { run, phone: flooding.clone(), times: frames });
    }

    /// The agent of `phone` has so many heartbeats to say, if there is one.
    pub(super) fn agent_beats(&mut self, phone: &PhoneId, times: usize) {
        if let Some(line) = self.line(phone).filter(|line| line.agent.connection.is_some()) {
            line.agent.to_say.extend(vec![Saying::Beat; times]);
        }
        self.drain_line(phone);
    }

    /// The next frame of an agent comes to its line, if that hears it; whether it did.
    pub(super) fn agent_is_heard(&mut self, phone: &PhoneId) -> bool {
        let now = self.stage.now;
        let Some(line) = self.daemon.as_mut().and_then(|daemon| daemon.lines.get_mut(phone)) else { return false };
        line.pace.advance(now);
        let looked = self.watch.paces.looked(now, line.number, line.pace.hushed_until());
        if let Err(rule) = looked {
            self.stage.broke(format!("{phone}: {rule}"));
        }
        let Some(connection) = line.agent.connection else { return false };
        if line.pace.hushed_until().is_some() || !line.relay.wants_agent(connection) {
            return false;
        }
        let Some(saying) = line.agent.to_say.pop_front() else { return false };
        let said = match saying {
            Saying::Auth { credential } => {
                let request = DeviceAuthReqMessage { auth_type: 1, credential };
                line.agent.envelope(EnumMsgType::DeviceAuthReq, &request.encode_to_vec(), "")
            }
            Saying::Online => {
                let we_chat_id = format!("wxid_{connection}");
                let online = WeChatOnlineNoticeMessage { we_chat_id, ..Default::default() };
                line.agent.envelope(EnumMsgType::WeChatOnlineNotice, &online.encode_to_vec(), TOKEN)
            }
            Saying::Notice => {
                self.agents.said += 1;
                let said = line.agent.envelope(EnumMsgType::FriendTalkNotice, &body_of(self.agents.said), TOKEN);
                line.agent.waiting.insert(line.agent.last_id, self.agents.said);
                said
            }
            Saying::Beat => line.agent.envelope(EnumMsgType::HeartBeatReq, &[], TOKEN),
            Saying::Nonsense => Bytes::from_static(&[0xff; 9]),
        };
        line.pace.spoke(said.len(), now);
        if let Err(rule) = self.watch.paces.heard(now, line.number, line.pace.hushed_until()) {
            self.stage.broke(format!("{phone}: {rule}"));
        }
        line.relay.agent_says(connection, &said, now);
        true
    }

    /// An agent has the acknowledgement of a notice: the centre must have it, or the disk.
    pub(super) fn acknowledged(&mut self, phone: &PhoneId, number: u64) {
        self.agents.acknowledged.insert(number);
        if !self.centre.has_notice(number) && !self.outbox.answers_for(number) {
            self.stage.broke(format!("notice {number} of {phone} is acknowledged, and nobody has it"));
        }
    }
}

fn enters(line: &mut LineShell, credential: String, now: Moment) {
    line.agent.connections += 1;
    let connection = line.agent.connections;
    (line.agent.connection, line.agent.reads) = (Some(connection), true);
    line.agent.waiting.clear();
    line.agent.to_say = VecDeque::from([Saying::Auth { credential }, Saying::Online]);
    line.relay.agent_connected(connection, TOKEN.to_owned(), now);
}

/// `WeChatId` is the number, in eight bytes.
fn body_of(number: u64) -> Vec<u8> {
    [&b"\x0a\x08"[..], &number.to_be_bytes()].concat()
}

/// The number in such a body.
pub(super) fn number_of(body: &[u8]) -> Option<u64> {
    body.strip_prefix(b"\x0a\x08")?.try_into().ok().map(u64::from_be_bytes)
}
