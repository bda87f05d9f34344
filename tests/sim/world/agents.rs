//! The agents on the handsets: they come and go, say numbered notices, read or do not, and some are not who they say they are.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use farmhand::central::catalogue;
use farmhand::central::envelope::{Body, Envelope, View};
use farmhand::central::proto::{DeviceAuthReqMessage, EnumMsgType, WeChatOnlineNoticeMessage};
use farmhand::rack::ids::PhoneId;
use prost::Message as _;

use super::World;
use super::chance::Chance;
use super::lines::LineShell;

const TOKEN: &str = "of the agent";

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
    last_id: i64,
    /// The notices of this connection that were not acknowledged: their numbers by Id.
    waiting: BTreeMap<i64, u64>,
}

/// What an agent may do.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Comes,
    ComesAsAnother,
    Leaves,
    Says,
    Beats,
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
            self.connection = None;
        }
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
            (Deed::Comes, _) => enters(line, &imei.unwrap_or_default(), now),
            (Deed::ComesAsAnother, _) => enters(line, "350000000000999", now),
            (Deed::Leaves, Some(connection)) => {
                line.agent.connection = None;
                line.relay.agent_closed(connection, "it closed its connection", now);
            }
            (Deed::Says, Some(connection)) => {
                // Now and then more than may be on their way at once.
                for _ in 0..times * times {
                    if line.relay.wants_agent(connection) {
                        self.agents.said += 1;
                        let said =
                            line.agent.envelope(EnumMsgType::FriendTalkNotice, &body_of(self.agents.said), TOKEN);
                        line.agent.waiting.insert(line.agent.last_id, self.agents.said);
                        line.relay.agent_says(connection, &said, now);
                    }
                }
            }
            (Deed::Beats, Some(connection)) if line.relay.wants_agent(connection) => {
                let beat = line.agent.envelope(EnumMsgType::HeartBeatReq, &[], TOKEN);
                line.relay.agent_says(connection, &beat, now);
            }
            (Deed::StopsReading, _) => line.agent.reads = false,
            (Deed::TalksNonsense, Some(connection)) if times == 0 => {
                line.relay.agent_says(connection, &Bytes::from_static(&[0xff; 9]), now);
            }
            _ => {}
        }
        self.drain_line(&phone);
    }

    /// An agent has the acknowledgement of a notice: the centre must have it, or the disk.
    pub(super) fn acknowledged(&mut self, phone: &PhoneId, number: u64) {
        self.agents.acknowledged.insert(number);
        if !self.centre.has_notice(number) && !self.outbox.answers_for(number) {
            self.stage.broke(format!("notice {number} of {phone} is acknowledged, and nobody has it"));
        }
    }
}

fn enters(line: &mut LineShell, credential: &str, now: farmhand::clock::Moment) {
    line.agent.connections += 1;
    let connection = line.agent.connections;
    (line.agent.connection, line.agent.reads) = (Some(connection), true);
    line.agent.waiting.clear();
    line.relay.agent_connected(connection, TOKEN.to_owned(), now);
    let request = DeviceAuthReqMessage { auth_type: 1, credential: credential.to_owned() };
    let request = line.agent.envelope(EnumMsgType::DeviceAuthReq, &request.encode_to_vec(), "");
    line.relay.agent_says(connection, &request, now);
    let online = WeChatOnlineNoticeMessage { we_chat_id: format!("wxid_{connection}"), ..Default::default() };
    let online = line.agent.envelope(EnumMsgType::WeChatOnlineNotice, &online.encode_to_vec(), TOKEN);
    line.relay.agent_says(connection, &online, now);
}

/// `WeChatId` is the number, in eight bytes.
fn body_of(number: u64) -> Vec<u8> {
    [&b"\x0a\x08"[..], &number.to_be_bytes()].concat()
}

/// The number in such a body.
pub(super) fn number_of(body: &[u8]) -> Option<u64> {
    body.strip_prefix(b"\x0a\x08")?.try_into().ok().map(u64::from_be_bytes)
}
