//! One phone's line with an agent behind it: the agent speaks as if to the centre, and neither sees the other's connections.
//!
//! ```text
//!     agent on the phone                        farmhand                                central server
//!     DeviceAuthReq, heartbeats ──▶ answered here      session ◀──────────────▶ registration, heartbeats
//!     everything else           ──▶ up (in order, until taken) ──▶ session ──▶ Id, token, RefMessageId of this side
//!     tasks, responses          ◀── peer ◀── down (Ids) ◀── policy ◀── session ◀──
//! ```
//!
//! A [`Relay`] owns the [`Session`], which is the line's in hold as well: without an agent a relay does nothing of its own. The shell
//! feeds both sides and drains [`Relay::poll`]; what is for the agent it pulls by [`Relay::next_for_agent`] when it can send it, and it
//! reads the agent only while [`Relay::wants_agent`].
//!
//! Invariant: an agent is let in only with the identity of its phone (`another_phones_identity_is_refused`).
//! Invariant: what is carried has the same bytes but for Id, AccessToken and RefMessageId (`what_is_carried_stays_as_it_was`).
//! While the centre is away, notices of the agent go to the disk ([`Output::Disk`]) and from there to the centre's next registration.
//!
//! Invariant: a notice is acknowledged to the agent only once the centre has shown that it has taken it, or the disk that it holds it
//! (`a_notice_is_acknowledged_once_the_centre_has_taken_it`, `nothing_that_was_acknowledged_is_lost`).
//! Invariant: all queues are bounded, and an agent that does not read is not read (`an_agent_that_floods_is_held_back`).

mod accounts;
mod agent;
mod caution;
mod disk;
mod down;
mod peer;
#[cfg(test)]
mod tests;
mod up;
mod upgrade;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use self::accounts::Accounts;
use self::disk::Told;
use self::down::Down;
use self::peer::Peer;
use self::up::{Refused, Up, Urgency, Waiting};
use self::upgrade::Noticed;
use super::catalogue::{self, Kind};
use super::envelope::{Address, Body, Envelope, View, splice_frame};
use super::outbox::Outbox;
use super::proto::{EnumMsgType, WeChatOfflineNoticeMessage};
use super::session::{Agent, Heard, Output, Session};
use crate::clock::{Deadline, Moment};
use crate::config::{Ack, MinuteOfDay, Policy};
use crate::rack::event::LineCommand;
use crate::store::outbox::Notice;

/// An agent that is back within this time was never gone to the centre.
const AGENT_GRACE: Duration = Duration::from_secs(20);
/// Between two heartbeats that only ask what the centre has taken, while nothing more may go before its answer: the protocol allows one a
/// second.
const BARRIER_FULL: Duration = Duration::from_secs(1);
/// The same, while more may go: each costs a probe of the phone.
const BARRIER_USUAL: Duration = Duration::from_secs(2);
/// A centre that acknowledges each notice must do so within so many times the interval of heartbeats.
const ACKNOWLEDGED_WITHIN: u32 = 3;
/// Codes that are counted each by itself; further ones are counted together.
const UNKNOWN_CODES_MAX: usize = 256;

/// What went through a line, since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Frames of the agent that went to the centre.
    pub up: u64,
    /// Frames of the centre that went to the agent.
    pub down: u64,
    /// Notices that were on their way when a registration ended: they went again, and the centre may have had them.
    pub maybe_twice: u64,
    /// Notices that the centre answered by an Error for good.
    pub refused: u64,
    /// Notices that were forgotten since the phone became another device to the centre.
    pub forgotten: u64,
    /// Frames of the agent with codes that the catalogue does not have, by code.
    pub unknown: BTreeMap<i32, u64>,
    /// Those of still more such codes.
    pub unknown_beyond: u64,
}

/// The core of one line, agent or no agent.
#[derive(Debug)]
pub struct Relay {
    session: Session,
    /// The registration that was seen last.
    registration: Option<u64>,
    /// Whom all that waits is about.
    credential: Option<String>,
    up: Up,
    down: Down,
    /// The agent, and how much of what waits for it came with the last frame of the centre.
    agent: Option<Peer>,
    fresh: usize,
    /// What the rack has asked of the agent by itself.
    noticed: Option<Noticed>,
    /// Whoever has connected and not shown the phone's identity.
    stranger: Option<Peer>,
    accounts: Accounts,
    /// Until when an agent that has left may come back unnoticed.
    awaited_until: Option<Moment>,
    last_barrier: Option<Moment>,
    outputs: VecDeque<Output>,
    carried: Carried,
    told: Told,
    /// Where frames for the agent are written.
    arena: BytesMut,
}

impl Relay {
    /// A line around a session that is closed. `first_id` is the first Id towards the agent: beyond all that an earlier daemon has used.
    #[must_use]
    pub fn new(session: Session, ack: Ack, first_id: i64) -> Self {
        Self {
            session,
            registration: None,
            credential: None,
            up: Up::new(ack, Outbox::without()),
            down: Down::new(first_id),
            agent: None,
            fresh: 0,
            noticed: None,
            stranger: None,
            accounts: Accounts::default(),
            awaited_until: None,
            last_barrier: None,
            outputs: VecDeque::new(),
            carried: Carried::default(),
            told: Told::default(),
            arena: BytesMut::new(),
        }
    }

    /// The line towards the centre.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// What went through.
    #[must_use]
    pub fn carried(&self) -> &Carried {
        &self.carried
    }

    /// Frames of the agent that the centre may not have.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.up.len()
    }

    /// The next thing to do; to be called until there is none, after each input.
    pub fn poll(&mut self) -> Option<Output> {
        let output = self.session.poll().or_else(|| self.outputs.pop_front());
        if output.is_none() {
            self.fresh = 0;
        }
        output
    }

    /// When [`Self::advance`] must be called, and what is waited for.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        let stranger = self.stranger.as_ref().map(Peer::auth_deadline);
        let silence = self.agent.as_ref().map(|agent| agent.silence_deadline(self.session.heartbeat()));
        let stalled = self.agent.as_ref().and_then(Peer::stalled_deadline);
        let awaited = self.awaited_until.map(|at| Deadline { at, why: "the agent on the phone to come back" });
        let centre = [self.session.deadline(), self.barrier(), self.acknowledgement()];
        [stranger, silence, stalled, awaited, self.disk_deadlines()]
            .into_iter()
            .chain(centre)
            .fold(None, Deadline::earlier)
    }

    /// When a heartbeat shall ask what the centre has taken.
    fn barrier(&self) -> Option<Deadline> {
        let gap = match self.up.wants_barrier().filter(|_| self.session.can_beat())? {
            Urgency::Full => BARRIER_FULL,
            Urgency::Usual => BARRIER_USUAL,
        };
        let at = self.last_barrier.map_or(Moment::START, |last| last + gap);
        Some(Deadline { at, why: "a heartbeat that shows what the central server has taken" })
    }

    fn acknowledgement(&self) -> Option<Deadline> {
        self.session.registration()?;
        let since = self.up.unacknowledged_since()?;
        let at = since + self.session.heartbeat().saturating_mul(ACKNOWLEDGED_WITHIN);
        Some(Deadline { at, why: "the central server's acknowledgement of a notice" })
    }

    /// The model tells the line something.
    pub fn command(&mut self, command: LineCommand, now: Moment) {
        match command {
            LineCommand::Upgrade(upgrade) => self.upgrade(*upgrade, now),
            command => self.session.command(command, now),
        }
        self.settle(now);
    }

    /// As [`Session::change_policy`].
    pub fn change_policy(&mut self, policy: Policy) {
        self.session.change_policy(policy);
    }

    /// As [`Session::clock_shows`].
    pub fn clock_shows(&mut self, minute: MinuteOfDay) {
        self.session.clock_shows(minute);
    }

    /// As [`Session::unrecorded`]; the agent does not have it either.
    pub fn unrecorded(&mut self, why: impl Display, now: Moment) {
        for _ in 0..std::mem::take(&mut self.fresh) {
            self.agent.as_mut().into_iter().for_each(Peer::take_back);
            self.down.take_back();
        }
        self.session.unrecorded(why, now);
        self.settle(now);
    }

    /// As [`Session::connected`].
    pub fn connected(&mut self, now: Moment) {
        self.session.connected(now);
        self.settle(now);
    }

    /// As [`Session::connect_failed`].
    pub fn connect_failed(&mut self, why: impl Display, now: Moment) {
        self.session.connect_failed(why, now);
        self.settle(now);
    }

    /// As [`Session::closed`].
    pub fn closed(&mut self, why: impl Display, now: Moment) {
        self.session.closed(why, now);
        self.settle(now);
    }

    /// As [`Session::corrupt`].
    pub fn corrupt(&mut self, why: impl Display, now: Moment) {
        self.session.corrupt(why, now);
        self.settle(now);
    }

    /// The time of [`Self::deadline`] has come.
    pub fn advance(&mut self, now: Moment) {
        let is_past = |deadline: Deadline| deadline.at <= now;
        if self.barrier().is_some_and(is_past) {
            self.last_barrier = Some(now);
            self.session.beat_soon(now);
        }
        self.session.advance(now);
        if self.acknowledgement().is_some_and(is_past) {
            self.session.give_up("the central server left a notice of the agent unacknowledged".to_owned(), now);
        }
        self.advance_agent(now);
        self.up.advance(now);
        self.settle(now);
    }

    /// A frame of the centre came; `payload` is what it holds.
    pub fn receive(&mut self, payload: &[u8], now: Moment) {
        match self.session.receive(payload, now) {
            Heard::Nothing => {}
            Heard::ForAgent => self.give(payload, now),
            Heard::Barrier { of } => {
                for taken in self.up.barrier(of) {
                    self.acknowledge(&taken, ToldBy::Barrier, now);
                }
            }
            Heard::Acknowledged { of } => {
                if let Some(taken) = self.up.acknowledged(of) {
                    self.acknowledge(&taken, ToldBy::Centre, now);
                }
            }
            Heard::Refused { of } => {
                if let Refused::ForGood(refused) = self.up.refused(of) {
                    self.refuse(&refused, payload, now);
                }
            }
        }
        self.settle(now);
    }

    /// A message of the centre that may pass.
    fn give(&mut self, payload: &[u8], now: Moment) {
        let view = View::parse(payload).unwrap_or_default();
        if self.agent.as_ref().is_some_and(Peer::has_room) {
            // An answer to what the agent has said shows that the centre has taken it.
            if let Some(taken) = self.up.answered(view.ref_message_id) {
                self.acknowledge(&taken, ToldBy::Barrier, now);
            }
            self.hand_down(payload, now);
        } else {
            let why = "the agent on this phone takes nothing more now";
            self.session.refuse_for_agent(view.id, view.msg_type, why);
        }
    }

    /// The centre will not have what the agent said: the agent must know, if it is still the one that said it.
    fn refuse(&mut self, refused: &Waiting, error: &[u8], now: Moment) {
        self.carried.refused += 1;
        tracing::warn!("{} is refused by the central server", catalogue::describe(refused.msg_type));
        let connection = refused.from.map(|from| from.connection);
        if self.agent.as_ref().is_some_and(|agent| Some(agent.number) == connection) {
            self.hand_down(error, now);
        }
    }

    /// Puts a message of the centre behind what waits for the agent.
    fn hand_down(&mut self, payload: &[u8], now: Moment) {
        let Some(agent) = &mut self.agent else { return };
        let view = View::parse(payload).unwrap_or_default();
        let sender = self.up.sender_of(view.ref_message_id).filter(|sender| sender.connection == agent.number);
        let wants_word = catalogue::lookup(view.msg_type)
            .is_none_or(|entry| matches!(entry.kind, Kind::Task | Kind::Notice | Kind::Request));
        let address = Address {
            id: self.down.give(view.id, view.msg_type, wants_word),
            // As the centre itself does: where it names no token, none is named.
            access_token: if view.access_token.is_empty() { "" } else { &agent.token },
            ref_message_id: sender.map_or(0, |sender| sender.id),
        };
        match splice_frame(payload, &address, &mut self.arena) {
            Ok(()) => {
                agent.push(self.arena.split().freeze(), now);
                self.fresh += 1;
                self.carried.down += 1;
            }
            Err(why) => {
                self.down.take_back();
                tracing::warn!("{} is not carried: {why}", catalogue::describe(view.msg_type));
            }
        }
    }

    /// The centre has taken what the agent said.
    fn acknowledge(&mut self, taken: &Waiting, by: ToldBy, now: Moment) {
        let Some(from) = taken.from.filter(|_| by != ToldBy::Barrier || wants_acknowledgement(taken.msg_type)) else {
            return;
        };
        // What was said by another connection was said by an agent that may have begun to count anew.
        if self.agent.as_ref().is_some_and(|agent| agent.number == from.connection) {
            self.tell_agent(EnumMsgType::MsgReceivedAck, None, from.id, now);
        }
    }

    /// Follows what the session has become, and sends what can be sent.
    fn settle(&mut self, now: Moment) {
        self.follow_credential();
        let registration = self.session.registration();
        if registration != self.registration {
            if self.registration.is_some() {
                self.carried.maybe_twice += self.up.lost();
                self.down.nobody_waits();
            }
            self.registration = registration;
            if registration.is_some() {
                for notice in self.accounts.notices() {
                    if let Err(why) = self.session.carry(notice, 0) {
                        tracing::warn!("what the agent has said is not said again: {why}");
                    }
                }
            }
        }
        if registration.is_some() {
            self.pump(now);
        }
        self.tend_disk(now);
    }

    fn pump(&mut self, now: Moment) {
        while let Some(waiting) = self.up.next(now) {
            match self.session.carry(&waiting.envelope, waiting.reference) {
                Ok(id) => {
                    self.carried.up += 1;
                    self.up.sent(id, now);
                }
                Err(why) => {
                    tracing::warn!("{} is not carried: {why}", catalogue::describe(waiting.msg_type));
                    self.up.skip();
                }
            }
        }
    }

    /// Whose line it is may change, and it may be closed: an agent has no place on it then.
    fn follow_credential(&mut self) {
        let credential = self.session.credential();
        if credential.is_some() && credential == self.credential.as_deref() {
            return;
        }
        if let Some(credential) = credential.map(str::to_owned) {
            if self.credential.as_ref() != Some(&credential) {
                self.carried.forgotten += self.up.become_of(&credential);
            }
            self.credential = Some(credential);
        }
        self.let_go("the phone's line to the central server is closed");
        self.accounts = Accounts::default();
        self.awaited_until = None;
    }

    /// The agent has been gone for too long: the centre must not believe any longer what it said.
    fn take_back_the_agents_word(&mut self) {
        self.awaited_until = None;
        let imei = self.credential.clone().unwrap_or_default();
        let code = EnumMsgType::WeChatOfflineNotice as i32;
        for we_chat_id in self.accounts.take() {
            let value = WeChatOfflineNoticeMessage { we_chat_id, imei: imei.clone(), reason: 0 }.encode_to_vec();
            let type_name = catalogue::lookup(code).and_then(|entry| entry.body).unwrap_or_default();
            let body = Some(Body { type_name, value: &value });
            let mut envelope = BytesMut::new();
            Envelope { msg_type: code, body, ..Envelope::default() }.encode(&mut envelope);
            let said = Notice { msg_type: code, reference: 0, envelope: envelope.freeze() };
            self.up.push(said, None, self.session.registration().is_some());
        }
        self.session.tell_of_phone();
    }

    fn count_unknown(&mut self, code: i32) {
        let known = self.carried.unknown.contains_key(&code);
        if known || self.carried.unknown.len() < UNKNOWN_CODES_MAX {
            *self.carried.unknown.entry(code).or_default() += 1;
        } else {
            self.carried.unknown_beyond += 1;
        }
    }
}

/// How it was shown that something is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ToldBy {
    Centre,
    Barrier,
    /// It has not, and it is stored.
    Disk,
}

/// Whether an agent waits for the acknowledgement of this type: its questions have answers, and its answers need none.
fn wants_acknowledgement(msg_type: i32) -> bool {
    catalogue::lookup(msg_type).is_none_or(|entry| !matches!(entry.kind, Kind::Request | Kind::Response))
}

/// The numbers of connections from the phone, for the shell.
impl Relay {
    /// Whether this connection may be read.
    #[must_use]
    pub fn wants_agent(&self, connection: u64) -> bool {
        let is = |peer: &&Peer| peer.number == connection;
        let agent = self.agent.as_ref().filter(is).is_some_and(|agent| agent.has_room() && self.up.has_room());
        agent || self.stranger.as_ref().filter(is).is_some_and(Peer::has_room)
    }

    /// Whether anything waits for this connection.
    #[must_use]
    pub fn has_for_agent(&self, connection: u64) -> bool {
        self.peer(connection).is_some_and(Peer::has_waiting)
    }

    /// The next frame for this connection, which the shell sends now. Only to be called once [`Self::poll`] has nothing more.
    pub fn next_for_agent(&mut self, connection: u64, now: Moment) -> Option<Bytes> {
        self.peer_mut(connection)?.take(now)
    }

    fn peer(&self, connection: u64) -> Option<&Peer> {
        self.agent.iter().chain(&self.stranger).find(|peer| peer.number == connection)
    }

    fn peer_mut(&mut self, connection: u64) -> Option<&mut Peer> {
        self.agent.iter_mut().chain(&mut self.stranger).find(|peer| peer.number == connection)
    }

    fn agent_stands(&mut self) {
        let told = if self.accounts.tells_of_phone() { Agent::TellsOfPhone } else { Agent::There };
        self.session.set_agent(if self.agent.is_some() { told } else { Agent::Away });
    }
}
