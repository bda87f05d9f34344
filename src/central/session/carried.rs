//! What a session does for an agent on the phone: it carries the agent's frames as messages of its own, and says what came for it.

use super::{Beat, Session, State, name_of};
use crate::central::envelope::{Address, SpliceError, View, splice_frame};
use crate::central::proto::EnumErrorCode;
use crate::central::proto::device_auth_rsp_message::ExtraMessage;
use crate::clock::Moment;

use super::Output;

/// Whether an agent on the phone is connected to this rack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Agent {
    /// None is: the rack says so.
    #[default]
    Away,
    /// One is.
    There,
    /// One is, and has told the centre of the phone by itself: it knows more than the rack.
    TellsOfPhone,
}

/// Who says something on a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The central server.
    Centre,
    /// The agent on the phone.
    Agent,
}

/// What a message of the centre is to an agent on the phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing: the session has seen to it.
    Nothing,
    /// It may pass, and it is the agent's.
    ForAgent,
    /// The acknowledgement of a heartbeat: what was sent before it is taken.
    Barrier {
        /// The Id of the heartbeat.
        of: i64,
    },
    /// The acknowledgement of another message.
    Acknowledged {
        /// Its Id.
        of: i64,
    },
    /// An Error that names a message.
    Refused {
        /// Its Id.
        of: i64,
    },
}

impl Session {
    /// Which of [`Settings::servers`](super::Settings::servers) is to be connected to: the first one, unless it could not be had or has
    /// moved the phone.
    #[must_use]
    pub fn server(&self) -> usize {
        self.server
    }

    /// Whether an agent speaks for the phone, from now on.
    pub(in crate::central) fn set_agent(&mut self, agent: Agent) {
        self.agent = agent;
    }

    /// Whether an agent speaks for the phone.
    pub(in crate::central) fn has_agent(&self) -> bool {
        self.agent != Agent::Away
    }

    /// The number of the registration that stands.
    pub(in crate::central) fn registration(&self) -> Option<u64> {
        matches!(self.state, State::Registered(_)).then_some(self.registrations)
    }

    /// What the phone is, or shall be, registered as; `None` while the line is closed.
    pub(in crate::central) fn credential(&self) -> Option<&str> {
        self.wanted.as_ref().map(|wanted| wanted.credential.as_str())
    }

    /// What the centre said of the phone's owner when it last registered the phone.
    pub(in crate::central) fn extra(&self) -> Option<&ExtraMessage> {
        self.extra.as_ref()
    }

    /// Sends an envelope of the agent as the next message of this registration, in answer to message `reference` of the centre; its Id.
    ///
    /// # Errors
    /// It is no envelope.
    pub(in crate::central) fn carry(&mut self, envelope: &[u8], reference: i64) -> Result<i64, SpliceError> {
        let id = self.next_id;
        let access_token = match &self.state {
            State::Registered(registered) => registered.token.as_str(),
            State::Idle | State::Connecting { .. } | State::Authenticating { .. } | State::Waiting { .. } => "",
        };
        splice_frame(envelope, &Address { id, access_token, ref_message_id: reference }, &mut self.arena)?;
        self.next_id = self.next_id.wrapping_add(1);
        self.outputs.push_back(Output::Transmit(self.arena.split().freeze()));
        Ok(id)
    }

    /// Whether a heartbeat could be sent earlier than it is due: none is on its way, or waits for the phone's answer.
    pub(in crate::central) fn can_beat(&self) -> bool {
        let State::Registered(registered) = &self.state else { return false };
        registered.unanswered.is_empty() && matches!(registered.beat, Beat::Resting { .. })
    }

    /// The next heartbeat is due now: its acknowledgement shows what the centre has taken.
    pub(in crate::central) fn beat_soon(&mut self, now: Moment) {
        if self.can_beat()
            && let State::Registered(registered) = &mut self.state
        {
            registered.beat = Beat::Resting { due: now };
            self.advance(now);
        }
    }

    /// The agent that this message of the centre was given to is gone, or cannot take it.
    pub(in crate::central) fn refuse_for_agent(&mut self, message_id: i64, msg_type: i32, why: &str) {
        if matches!(self.state, State::Registered(_)) {
            let view = View { id: message_id, msg_type, ..View::default() };
            self.refuse(&view, EnumErrorCode::TargetNotOnline, &format!("{}: {why}", name_of(msg_type)));
        }
    }

    /// Tells the centre of the phone, unless the agent has done so.
    pub(in crate::central) fn tell_of_phone(&mut self) {
        if matches!(self.state, State::Registered(_)) && self.agent != Agent::TellsOfPhone {
            self.send_device_info();
        }
    }

    /// The registration is of no use any more.
    pub(in crate::central) fn give_up(&mut self, why: String, now: Moment) {
        if matches!(self.state, State::Registered(_)) {
            self.retry(now, why);
        }
    }

    /// Between heartbeats.
    pub(in crate::central) fn heartbeat(&self) -> std::time::Duration {
        self.settings.heartbeat
    }
}
