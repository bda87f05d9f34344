//! What comes from the phone: who may speak as its agent, and what becomes of what it says.

use bytes::Bytes;
use prost::Message as _;

use super::peer::Peer;
use super::up::Sender;
use super::{AGENT_GRACE, Relay};
use crate::central::catalogue::{self, Path};
use crate::central::envelope::{Body, Envelope, View};
use crate::central::proto::device_auth_req_message::EnumAuthType;
use crate::central::proto::{DeviceAuthReqMessage, DeviceAuthRspMessage, EnumErrorCode, EnumMsgType, ErrorMessage};
use crate::central::session::{Judged, Output, Who};
use crate::clock::{Deadline, Moment};
use crate::rack::event::LineEvent;
use crate::store::outbox::Notice;

/// What an end of a connection tells the one at the other end of it.
enum Farewell {
    /// Nothing.
    Silent,
    /// An Error about message `of`.
    Error { of: i64, code: EnumErrorCode, why: String },
}

impl Relay {
    /// Something on the phone has connected. `token` is what it must name once it is let in: nobody can guess it.
    pub fn agent_connected(&mut self, connection: u64, token: String, now: Moment) {
        if self.session.credential().is_none() {
            return self.outputs.push_back(Output::EndAgent { connection });
        }
        let earlier = self.stranger.replace(Peer::new(connection, token, now));
        self.outputs.extend(earlier.map(|earlier| Output::EndAgent { connection: earlier.number }));
    }

    /// A connection from the phone has ended.
    pub fn agent_closed(&mut self, connection: u64, why: &str, now: Moment) {
        self.stranger.take_if(|stranger| stranger.number == connection);
        if self.agent.take_if(|agent| agent.number == connection).is_some() {
            self.left(why, now);
        }
        self.settle(now);
    }

    /// What came by a connection from the phone is no frame, so that the next one cannot be found.
    pub fn agent_corrupt(&mut self, connection: u64, why: &str, now: Moment) {
        let farewell = Farewell::Error { of: 0, code: EnumErrorCode::InvalidParam, why: why.to_owned() };
        self.end(connection, farewell, &format!("it sent what cannot be read: {why}"), now);
        self.settle(now);
    }

    /// A frame came by a connection from the phone; `envelope` is what it holds.
    pub fn agent_says(&mut self, connection: u64, envelope: &Bytes, now: Moment) {
        let view = match View::parse(envelope) {
            Ok(view) => view,
            Err(why) => {
                return self.agent_corrupt(connection, &format!("a frame that is no TransportMessage: {why}"), now);
            }
        };
        if self.agent.as_ref().is_some_and(|agent| agent.number == connection) {
            self.hear_agent(&view, envelope, now);
        } else if self.stranger.as_ref().is_some_and(|stranger| stranger.number == connection) {
            self.hear_stranger(connection, &view, now);
        }
        self.settle(now);
    }

    fn hear_stranger(&mut self, connection: u64, view: &View<'_>, now: Moment) {
        if view.msg_type != EnumMsgType::DeviceAuthReq as i32 {
            let why = format!("{}: authenticate first", catalogue::describe(view.msg_type));
            let error = self.error(view.id, EnumErrorCode::NoRight, &why);
            return self.stranger.iter_mut().for_each(|stranger| stranger.push(error.clone(), now));
        }
        match self.may_enter(view) {
            Ok(()) => self.let_in(view.id, now),
            Err(why) => {
                self.judge(view.msg_type, &why);
                let farewell = Farewell::Error { of: view.id, code: EnumErrorCode::NoRight, why };
                self.end(connection, farewell, "it is not the agent of this phone", now);
            }
        }
    }

    /// Whether DeviceAuthReq names this phone.
    fn may_enter(&self, view: &View<'_>) -> Result<(), String> {
        let request =
            DeviceAuthReqMessage::decode(view.body()).map_err(|why| format!("DeviceAuthReq cannot be read: {why}"))?;
        let ours = self.session.credential().unwrap_or_default();
        match EnumAuthType::try_from(request.auth_type) {
            Ok(EnumAuthType::Default | EnumAuthType::DeviceCode) if request.credential == ours => Ok(()),
            Ok(EnumAuthType::Default | EnumAuthType::DeviceCode) => {
                Err("DeviceAuthReq: the Credential is not that of the phone it comes from".to_owned())
            }
            _ => Err(format!("DeviceAuthReq: AuthType {} is not taken on a phone's line", request.auth_type)),
        }
    }

    fn let_in(&mut self, request: i64, now: Moment) {
        let Some(mut agent) = self.stranger.take() else { return };
        agent.speaks(now);
        if let Some(earlier) = self.agent.replace(agent) {
            self.outputs.push_back(Output::EndAgent { connection: earlier.number });
            self.forsake("the agent began a new connection before it acknowledged this");
        }
        self.awaited_until = None;
        self.agent_stands();
        self.welcome(request, now);
        self.outputs.push_back(Output::Event(LineEvent::AgentThere));
    }

    fn welcome(&mut self, request: i64, now: Moment) {
        let Some(agent) = &self.agent else { return };
        let response = DeviceAuthRspMessage { access_token: agent.token.clone(), extra: self.session.extra().cloned() };
        self.tell_agent(EnumMsgType::DeviceAuthRsp, Some(&response.encode_to_vec()), request, now);
    }

    fn hear_agent(&mut self, view: &View<'_>, envelope: &Bytes, now: Moment) {
        let Some(agent) = &mut self.agent else { return };
        agent.speaks(now);
        let has_token = view.access_token == agent.token;
        match EnumMsgType::try_from(view.msg_type) {
            Ok(EnumMsgType::DeviceAuthReq) => match self.may_enter(view) {
                Ok(()) => self.welcome(view.id, now),
                Err(why) => self.refuse_agent(view, &why, now),
            },
            _ if !has_token => self.refuse_agent(view, "the AccessToken was not given to this connection", now),
            _ if self.hears_of_upgrade(view, now) => {}
            Ok(EnumMsgType::HeartBeatReq) => self.tell_agent(EnumMsgType::MsgReceivedAck, None, view.id, now),
            Ok(EnumMsgType::MsgReceivedAck) => self.answer_centre(view, envelope),
            Ok(EnumMsgType::Error) if self.down.message_id(view.ref_message_id) != 0 => {
                self.answer_centre(view, envelope);
            }
            Ok(EnumMsgType::Error) => {
                tracing::warn!("an Error of the agent about nothing that it was given is left aside");
            }
            _ => match catalogue::lookup(view.msg_type).map(|entry| entry.path) {
                Some(Path::Made) => self.refuse_agent(view, "nothing that a phone sends", now),
                Some(Path::Refused) => self.refuse_agent(view, "never on a phone's line", now),
                Some(Path::CarriedUp | Path::CarriedDown | Path::Rack) => self.carry_up(view, envelope),
                None => {
                    self.count_unknown(view.msg_type);
                    self.carry_up(view, envelope);
                }
            },
        }
    }

    /// The agent acknowledges what it was given, or says why it cannot do it: the first word about it is the centre's.
    fn answer_centre(&mut self, view: &View<'_>, envelope: &Bytes) {
        let Some(message_id) = self.down.acknowledge(view.ref_message_id) else { return };
        if self.session.registration().is_some()
            && let Err(why) = self.session.carry(envelope, message_id)
        {
            tracing::warn!("{} is not carried: {why}", catalogue::describe(view.msg_type));
        }
    }

    fn carry_up(&mut self, view: &View<'_>, envelope: &Bytes) {
        let Some(agent) = &self.agent else { return };
        let from = Sender { connection: agent.number, id: view.id };
        self.accounts.note(view, envelope);
        self.agent_stands();
        // Whoever tells what came of a task has taken it.
        self.down.acknowledge(view.ref_message_id);
        let reference = self.down.message_id(view.ref_message_id);
        let said = Notice { msg_type: view.msg_type, reference, envelope: envelope.clone() };
        self.up.push(said, Some(from), self.session.registration().is_some());
    }

    fn refuse_agent(&mut self, view: &View<'_>, why: &str, now: Moment) {
        let why = format!("{}: {why}", catalogue::describe(view.msg_type));
        if self.agent.as_mut().is_some_and(|agent| agent.is_news(view.msg_type)) {
            self.judge(view.msg_type, &why);
        }
        let error = self.error(view.id, EnumErrorCode::NoRight, &why);
        self.agent.iter_mut().for_each(|agent| agent.push(error.clone(), now));
    }

    fn judge(&mut self, msg_type: i32, why: &str) {
        self.outputs.push_back(Output::Judged(Judged { who: Who::Agent, msg_type, refused: Some(why.to_owned()) }));
    }

    /// Ends what has waited for too long.
    pub(super) fn advance_agent(&mut self, now: Moment) {
        let is_past = |deadline: Deadline| deadline.at <= now;
        if let Some(stranger) = self.stranger.take_if(|stranger| is_past(stranger.auth_deadline())) {
            self.outputs.push_back(Output::EndAgent { connection: stranger.number });
        }
        let heartbeat = self.session.heartbeat();
        let ends = self.agent.as_ref().and_then(|agent| {
            let silent = is_past(agent.silence_deadline(heartbeat)).then_some("it sent nothing, not even heartbeats");
            silent.or_else(|| {
                agent.stalled_deadline().is_some_and(is_past).then_some("it took nothing of what was for it")
            })
        });
        if let (Some(why), Some(agent)) = (ends, &self.agent) {
            let connection = agent.number;
            self.end(connection, Farewell::Silent, why, now);
        }
        if self.awaited_until.is_some_and(|until| until <= now) {
            self.take_back_the_agents_word();
        }
    }

    /// Ends a connection from the phone.
    fn end(&mut self, connection: u64, farewell: Farewell, why: &str, now: Moment) {
        if let Farewell::Error { of, code, why } = farewell {
            let error = self.error(of, code, &why);
            self.outputs.push_back(Output::TellAgent { connection, frame: error });
        }
        self.outputs.push_back(Output::EndAgent { connection });
        self.stranger.take_if(|stranger| stranger.number == connection);
        if self.agent.take_if(|agent| agent.number == connection).is_some() {
            self.left(why, now);
        }
    }

    /// Ends every connection from the phone, since the line itself is closed.
    pub(super) fn let_go(&mut self, why: &str) {
        for peer in self.stranger.take().into_iter().chain(self.agent.take()) {
            self.outputs.push_back(Output::EndAgent { connection: peer.number });
        }
        self.agent_away(why);
    }

    fn left(&mut self, why: &str, now: Moment) {
        self.forsake("the agent on this phone left before it acknowledged this");
        self.agent_away(why);
        if !self.accounts.is_empty() {
            self.awaited_until = Some(now + AGENT_GRACE);
        }
    }

    fn agent_away(&mut self, why: &str) {
        if self.session.has_agent() {
            self.outputs.push_back(Output::Event(LineEvent::AgentLeft { why: why.to_owned() }));
        }
        self.agent_stands();
    }

    fn forsake(&mut self, why: &str) {
        self.forsake_upgrade();
        for (message_id, msg_type) in self.down.forsake() {
            self.session.refuse_for_agent(message_id, msg_type, why);
        }
        self.fresh = 0;
    }

    /// Sends the agent a message of the rack's own.
    pub(super) fn tell_agent(&mut self, code: EnumMsgType, body: Option<&[u8]>, reference: i64, now: Moment) {
        let Some(frame) = self.made(code, body, reference) else { return };
        self.agent.iter_mut().for_each(|agent| agent.push(frame.clone(), now));
    }

    fn error(&mut self, of: i64, code: EnumErrorCode, why: &str) -> Bytes {
        let error = ErrorMessage { error_code: code as i32, error_msg: why.to_owned() };
        self.made(EnumMsgType::Error, Some(&error.encode_to_vec()), of).unwrap_or_default()
    }

    /// A frame of the rack's own for the phone.
    fn made(&mut self, code: EnumMsgType, body: Option<&[u8]>, reference: i64) -> Option<Bytes> {
        let type_name = catalogue::lookup(code as i32).and_then(|entry| entry.body);
        let body = body.zip(type_name).map(|(value, type_name)| Body { type_name, value });
        let id = self.down.take_id();
        let envelope = Envelope { id, access_token: "", msg_type: code as i32, body, ref_message_id: reference };
        envelope.put_frame(&mut self.arena).ok()?;
        Some(self.arena.split().freeze())
    }
}
