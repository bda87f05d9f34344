//! One phone's line to the central server while no agent is connected: registered, kept alive, and honest.
//!
//! ```text
//!     Idle ──open──▶ Connecting ──connected──▶ Authenticating ──DeviceAuthRsp──▶ Registered
//!      ▲                 ▲  │ failed               │ refused, silent                │ closed, unanswered,
//!      │ close,          │  ▼                      ▼                                │ forced off line
//!      │ deleted,        └─ Waiting ◀──────────────┴────────────────────────────────┘
//!      └ phone silent        (each failure waits longer, at random, so that a whole rack does not come back at once)
//! ```
//!
//! The shell feeds inputs with the time and drains [`Session::poll`] after each; [`Session::deadline`] tells when to call
//! [`Session::advance`]. What the server's messages lead to is in `inbound`, what we send in `outbound`.
//!
//! Invariant: in every state but Idle there is a deadline with a reason.
//! Invariant: HeartBeatReq is sent only as the answer to [`Presence::Answered`].
//! Invariant: the end of a task counts as told only once the server has acknowledged its report, or a heartbeat that followed it on the
//! same registration (`a_failure_is_told_once_the_server_has_acknowledged_what_followed_it`).
//! Invariant: only DeviceAuthReq, and the Error that ends a connection before its answer, go out without the AccessToken.
//! The others are asserted by `no_list_of_operations_breaks_the_rules`.

mod backoff;
mod carried;
mod inbound;
mod outbound;
mod registered;
mod settings;
mod tasks;
mod warnings;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use self::backoff::Backoff;
pub use self::carried::{Agent, Heard, Who};
use self::registered::Acknowledged;
pub use self::settings::Settings;
use self::warnings::Warnings;
use super::policy::Gate;
use super::proto::EnumMsgType;
use super::proto::device_auth_rsp_message::ExtraMessage;
use crate::clock::{Deadline, Moment};
use crate::config::{MinuteOfDay, Policy};
use crate::rack::event::{Condition, DeviceInfo, LineCommand, LineEvent, Presence, TaskName};
use crate::rack::snapshot::LineState;
use crate::store::outbox::Request;

/// Heartbeats that may be unanswered before the connection ends.
const UNANSWERED_MAX: usize = 3;
/// Reports that may be on their way without being known to be taken; the model tells the others again.
const UNTAKEN_MAX: usize = 64;
/// Codes that are counted each by itself; further ones are counted together.
const UNKNOWN_CODES_MAX: usize = 256;
/// What a line waits for whose credential another one holds.
const FOR_THE_OTHER_HOLDER: &str = "the other holder of this phone's credential to leave";
/// What the shell shall do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Connect to [`Session::server`]; answer with [`Session::connected`] or [`Session::connect_failed`].
    Connect,
    /// Send this frame.
    Transmit(Bytes),
    /// End the connection, or the attempt; nothing of it is to be reported any more.
    Disconnect,
    /// Tell the model.
    Event(LineEvent),
    /// Write down what was asked for and whether it passed, before anything that follows; or call [`Session::unrecorded`].
    Judged(Judged),
    /// Give a connection of the agent, which ends next, these last words.
    TellAgent {
        /// Its number.
        connection: u64,
        /// The frame.
        frame: Bytes,
    },
    /// End this connection of the agent.
    EndAgent {
        /// Its number.
        connection: u64,
    },
    /// Ask the outbox for this; the answer goes to [`Relay::disk_says`](super::relay::Relay::disk_says).
    Disk(Request),
}

/// What became of a message of the centre that is no word of the session itself. Its content is nobody's affair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Who said it.
    pub who: Who,
    /// Its code.
    pub msg_type: i32,
    /// Why it was refused, as a sentence; `None` if it passed the policy.
    pub refused: Option<String>,
}

/// What was refused and could not be read, since the line was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages that were answered with Error.
    pub refused: u64,
    /// Of them, those of each code that the catalogue does not have.
    pub unknown: BTreeMap<i32, u64>,
    /// Of them, those of still more such codes.
    pub unknown_beyond: u64,
    /// Connections that ended over bytes that make no sense.
    pub unreadable: u64,
}

/// The core of one line.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    state: State,
    wanted: Option<Wanted>,
    /// Whom the backoff is about.
    last_credential: Option<String>,
    backoff: Backoff,
    next_id: i64,
    outputs: VecDeque<Output>,
    counters: Counters,
    gate: Gate,
    /// The time of the day, as the shell told it last.
    minute: MinuteOfDay,
    /// How the phone fares, as the model told it last.
    condition: Condition,
    warnings: Warnings,
    /// Whether an agent on the phone speaks for itself.
    agent: Agent,
    /// Which of the servers is, or was, spoken to.
    server: usize,
    /// How often the line was registered.
    registrations: u64,
    /// What the centre said of the phone's owner when it last registered the phone.
    extra: Option<ExtraMessage>,
    /// Where carried frames are written.
    arena: BytesMut,
}

#[derive(Debug)]
enum State {
    /// Nothing is to be connected.
    Idle,
    Connecting {
        until: Moment,
    },
    Authenticating {
        request: i64,
        until: Moment,
    },
    Registered(Registered),
    Waiting {
        until: Moment,
        why: &'static str,
    },
}

#[derive(Debug)]
struct Registered {
    token: String,
    since: Moment,
    beat: Beat,
    /// Ids of heartbeats without an answer, the oldest first, and when that one was sent.
    unanswered: Vec<i64>,
    unanswered_since: Moment,
    /// Reports of failures that this registration has sent, in order, and that are not known to be taken.
    untaken: Vec<Untaken>,
}

/// A report on its way.
#[derive(Clone, Copy, Debug)]
struct Untaken {
    /// Of our message.
    id: i64,
    /// Of the server's message that failed.
    message_id: i64,
}

/// Where the heart is between two beats.
#[derive(Clone, Copy, Debug)]
enum Beat {
    Resting { due: Moment },
    AskingForPresence { due: Moment, until: Moment },
}

/// What the model wants registered.
#[derive(Debug)]
struct Wanted {
    credential: String,
    device: DeviceInfo,
}

impl Session {
    /// A line that is closed. `seed` decides how it waits: each line of a rack gets another.
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            gate: Gate::new(settings.policy.clone()),
            minute: MinuteOfDay::default(),
            condition: Condition::default(),
            warnings: Warnings::new(settings.warn),
            settings,
            state: State::Idle,
            wanted: None,
            last_credential: None,
            backoff: Backoff::new(seed),
            next_id: 1,
            outputs: VecDeque::new(),
            counters: Counters::default(),
            agent: Agent::Away,
            server: 0,
            registrations: 0,
            extra: None,
            arena: BytesMut::new(),
        }
    }

    /// The owner has changed what the centre may do; it counts for what comes next.
    pub fn change_policy(&mut self, policy: Policy) {
        self.gate.change(policy);
    }

    /// The time of the day by the rack's own clock, for quiet hours; to be told before [`Session::receive`].
    pub fn clock_shows(&mut self, minute: MinuteOfDay) {
        self.minute = minute;
    }

    /// What [`Output::Judged`] says could not be written down: then it has no consequences, and the centre is not heard until that works.
    pub fn unrecorded(&mut self, why: impl Display, now: Moment) {
        self.outputs.clear();
        self.closed(format!("what it asks for cannot be written down: {why}"), now);
    }

    /// The next thing to do; to be called until there is none, after each input.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Self::advance`] must be called, and what is waited for; `None` while the line is closed.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        let (at, why) = match &self.state {
            State::Idle => return None,
            State::Connecting { until } => (*until, "the connection to the central server"),
            State::Authenticating { until, .. } => (*until, "the central server's answer to DeviceAuthReq"),
            State::Waiting { until, why } => (*until, *why),
            State::Registered(registered) => return Some(registered.deadline(self.settings.heartbeat)),
        };
        Some(Deadline { at, why })
    }

    /// What was refused and could not be read.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The model tells the line something.
    pub fn command(&mut self, command: LineCommand, now: Moment) {
        match command {
            LineCommand::Open { credential, device, pause } => self.open(credential, *device, pause, now),
            LineCommand::Close { why } => self.close(why),
            LineCommand::Device(device) => self.device(*device),
            LineCommand::Presence(presence) => self.presence(&presence, now),
            LineCommand::Condition(condition) => self.fares(condition),
            // The way of the agent to this line is the shell's, and what it is told the relay's.
            LineCommand::Tunnel(_) | LineCommand::Upgrade(_) => {}
            LineCommand::TaskEnded { task, result } => self.task_ended(task, result),
        }
    }

    fn open(&mut self, credential: String, device: DeviceInfo, pause: Duration, now: Moment) {
        match &self.wanted {
            Some(wanted) if wanted.credential == credential => return self.device(device),
            Some(_) => self.close("the phone is to be registered as another device".to_owned()),
            None => {}
        }
        if self.last_credential.replace(credential.clone()).is_some_and(|last| last != credential) {
            self.backoff.another_credential();
        }
        self.wanted = Some(Wanted { credential, device });
        match self.backoff.barred_until(now) {
            Some(until) => self.wait_until(until, "another holder of this phone's credential is registered"),
            None if pause.is_zero() => self.connect(now),
            None => {
                self.state = State::Waiting { until: now + pause, why: "its turn to connect" };
                self.tell(
                    LineState::Connecting,
                    "it waits for its turn to connect, one line after the other".to_owned(),
                );
            }
        }
    }

    fn close(&mut self, why: String) {
        self.wanted = None;
        // Whoever opens the line again says anew how the phone fares.
        self.condition = Condition::default();
        if !matches!(self.state, State::Idle) {
            self.disconnect();
            self.state = State::Idle;
            self.tell(LineState::Closed, why);
        }
    }

    fn device(&mut self, device: DeviceInfo) {
        let Some(wanted) = &mut self.wanted else { return };
        if wanted.device != device {
            wanted.device = device;
            self.tell_of_phone();
        }
    }

    fn presence(&mut self, presence: &Presence, now: Moment) {
        let State::Registered(registered) = &mut self.state else { return };
        let Beat::AskingForPresence { due, .. } = registered.beat else { return };
        match presence {
            Presence::Answered => {
                let next = due + self.settings.heartbeat;
                registered.beat = Beat::Resting { due: if next > now { next } else { now + self.settings.heartbeat } };
                self.send_heartbeat(now);
            }
            Presence::Silent => self.close("the phone does not answer, so no heartbeat is sent for it".to_owned()),
        }
    }

    /// Tells the server, if it can be told now. Nothing waits here: the model keeps what is not known to be taken, and tells it
    /// again to each new registration.
    fn task_ended(&mut self, task: TaskName, result: Result<(), String>) {
        let (id, message_id) = (self.next_id, task.message_id);
        let State::Registered(registered) = &mut self.state else { return };
        let on_its_way = registered.untaken.iter().any(|report| report.message_id == message_id);
        if !on_its_way && registered.untaken.len() < UNTAKEN_MAX {
            registered.untaken.push(Untaken { id, message_id });
            self.send_task_result(task, result);
        }
    }

    fn fares(&mut self, condition: Condition) {
        self.warnings.read(&condition);
        self.condition = condition;
        self.warn();
    }

    /// Tells the centre of what is due, where it can be told. The notice names a battery's level, so one must be known.
    fn warn(&mut self) {
        let State::Registered(_) = &self.state else { return };
        if let Some(battery) = self.condition.battery.filter(|_| self.warnings.is_due()) {
            self.warnings.sent(self.next_id);
            self.send_warning(battery);
        }
    }

    /// The connection that [`Output::Connect`] asked for stands.
    pub fn connected(&mut self, now: Moment) {
        if matches!(self.state, State::Connecting { .. }) {
            self.authenticate(now);
        }
    }

    /// The connection that [`Output::Connect`] asked for could not be made.
    pub fn connect_failed(&mut self, why: impl Display, now: Moment) {
        if matches!(self.state, State::Connecting { .. }) {
            self.retry(now, format!("the central server cannot be reached: {why}"));
        }
    }

    /// The connection ended.
    pub fn closed(&mut self, why: impl Display, now: Moment) {
        if matches!(self.state, State::Authenticating { .. } | State::Registered(_)) {
            self.retry(now, format!("the connection to the central server ended: {why}"));
        }
    }

    /// Bytes came that are no frame, so that the next one cannot be found.
    pub fn corrupt(&mut self, why: impl Display, now: Moment) {
        if matches!(self.state, State::Authenticating { .. } | State::Registered(_)) {
            self.counters.unreadable += 1;
            self.send_error(0, super::proto::EnumErrorCode::InvalidParam, &format!("{why}"));
            self.retry(now, format!("the central server sent what cannot be read: {why}"));
        }
    }

    /// The time of [`Self::deadline`] has come.
    pub fn advance(&mut self, now: Moment) {
        match &mut self.state {
            State::Connecting { until } if *until <= now => {
                let waited = self.settings.connect_deadline.as_secs();
                self.retry(now, format!("the central server did not accept the connection within {waited} s"));
            }
            State::Authenticating { until, .. } if *until <= now => {
                let waited = self.settings.auth_deadline.as_secs();
                let why = format!(
                    "the central server did not answer DeviceAuthReq within {waited} s: it may not know this device"
                );
                self.retry(now, why);
            }
            State::Waiting { until, .. } if *until <= now => self.connect(now),
            State::Registered(_) => self.advance_registered(now),
            State::Idle | State::Connecting { .. } | State::Authenticating { .. } | State::Waiting { .. } => {}
        }
    }

    fn advance_registered(&mut self, now: Moment) {
        let State::Registered(registered) = &mut self.state else { return };
        if registered.given_up_at(self.settings.heartbeat).is_some_and(|at| at <= now) {
            let missing = registered.unanswered.len();
            return self.retry(now, format!("the central server left {missing} heartbeats unanswered"));
        }
        match registered.beat {
            Beat::Resting { due } if due <= now && registered.unanswered.len() >= UNANSWERED_MAX => {
                self.retry(now, format!("the central server left {UNANSWERED_MAX} heartbeats in a row unanswered"));
            }
            Beat::Resting { due } if due <= now => {
                registered.beat = Beat::AskingForPresence { due, until: now + self.settings.presence_deadline };
                self.outputs.push_back(Output::Event(LineEvent::HeartbeatDue));
            }
            Beat::AskingForPresence { until, .. } if until <= now => {
                let waited = self.settings.presence_deadline.as_secs();
                self.close(format!("whether the phone is there was not known {waited} s after its heartbeat was due"));
            }
            Beat::Resting { .. } | Beat::AskingForPresence { .. } => {}
        }
    }

    fn connect(&mut self, now: Moment) {
        self.state = State::Connecting { until: now + self.settings.connect_deadline };
        self.outputs.push_back(Output::Connect);
        self.tell(LineState::Connecting, "connecting to the central server".to_owned());
    }

    /// On a new connection, or on the same one after the server lost the registration.
    fn authenticate(&mut self, now: Moment) {
        let request = self.next_id;
        self.state = State::Authenticating { request, until: now + self.settings.auth_deadline };
        self.send_auth();
    }

    fn registered(&mut self, token: String, now: Moment) {
        let beat = Beat::Resting { due: now + self.settings.heartbeat };
        let (unanswered, untaken) = (Vec::new(), Vec::new());
        let registered = Registered { token, since: now, beat, unanswered, unanswered_since: now, untaken };
        self.state = State::Registered(registered);
        self.registrations += 1;
        self.tell(LineState::Registered, "the central server knows this phone".to_owned());
        self.warnings.lost();
        self.tell_of_phone();
        self.warn();
    }

    /// Ends the connection; the next attempt comes soon, or later the more have failed.
    fn retry(&mut self, now: Moment, why: String) {
        self.server = match &self.state {
            State::Registered(registered) => {
                self.backoff.lasted(now.since(registered.since));
                0
            }
            _ => (self.server + 1) % self.settings.servers.len().max(1),
        };
        let pause = self.backoff.next_pause();
        self.pause(now, pause, "the next attempt to reach the central server", &why);
    }

    fn pause(&mut self, now: Moment, pause: Duration, waiting_for: &'static str, why: &str) {
        self.disconnect();
        self.state = State::Waiting { until: now + pause, why: waiting_for };
        self.tell(LineState::Waiting, why.to_owned());
    }

    fn wait_until(&mut self, until: Moment, why: &'static str) {
        self.state = State::Waiting { until, why: FOR_THE_OTHER_HOLDER };
        self.tell(LineState::Waiting, why.to_owned());
    }

    fn disconnect(&mut self) {
        if matches!(self.state, State::Connecting { .. } | State::Authenticating { .. } | State::Registered(_)) {
            self.outputs.push_back(Output::Disconnect);
        }
    }

    fn tell(&mut self, state: LineState, why: String) {
        tracing::debug!(state = state.as_str(), "{why}");
        self.outputs.push_back(Output::Event(LineEvent::State { state, why }));
    }
}

/// A code in a sentence; kept here so that both halves of the session name messages alike.
fn name_of(code: i32) -> String {
    match EnumMsgType::try_from(code) {
        Ok(known) if code != 0 => known.as_str_name().to_owned(),
        _ => format!("message type {code}"),
    }
}

#[cfg(test)]
mod tests;
