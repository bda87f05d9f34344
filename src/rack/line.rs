//! What the model knows of a phone's line to the central server, and when the line may be open.
//!
//! Invariant: a line is open only for a phone that is there: its handset answered the end-to-end probe within the grace period
//! (`tests/sim` asserts it after every step).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::event::{
    AppVersion, Asked, BatteryCondition, Command, Condition, DeviceInfo, LineCommand, LineEvent, Presence, TaskName,
};
use super::gates::Heartbeats;
use super::ids::{Endpoint, PhoneId};
use super::snapshot::{LineState, OutboxView};
use crate::clock::{Deadline, Moment};
use crate::phone::Profile;

/// Heartbeats that are remembered, to compare times before and after an install: two hours of them.
const HEARTBEATS_MAX: usize = 128;

/// Ends of tasks that are kept until the server has taken their reports; the rollouts say those beyond again later.
const UNTOLD_MAX: usize = 64;

/// What a line without an actor waits for.
pub(super) const NEW_ACTOR: &str = "the line's new actor";
/// Before the first new actor of a line whose actor was stuck; doubled each time.
const REOPEN_FIRST: Duration = Duration::from_secs(1);
/// The longest of these pauses.
const REOPEN_LONGEST: Duration = Duration::from_secs(60);
/// A line whose actor was not stuck for so long begins with the shortest pause again.
const FORGIVE_AFTER: Duration = Duration::from_secs(10 * 60);
/// An alert of a line stands at least so long: whoever looks at the rack now and then shall see it.
const ALERT_STANDS: Duration = Duration::from_secs(3600);

/// Between the first connections of two lines, on average: a rack of a thousand phones takes 5 s.
const TURN: Duration = Duration::from_millis(5);

/// Whose turn it is to connect: the first line connects at once, those that come with it one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turns {
    next: Moment,
    jitter: u64,
}

impl Turns {
    /// Nobody waits. `seed` spreads racks that start at the same time.
    pub(super) fn new(seed: u64) -> Self {
        Self { next: Moment::START, jitter: seed }
    }

    /// How long the next line waits.
    fn take(&mut self, now: Moment) -> Duration {
        self.jitter = self.jitter.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let permille = 500 + u32::try_from((self.jitter >> 33) % 1001).unwrap_or(0);
        let at = self.next.max(now);
        self.next = at + TURN * permille / 1000;
        at.since(now)
    }
}

/// One phone's line.
#[derive(Clone, Debug)]
pub(super) struct Line {
    open: Option<Open>,
    pub(super) state: LineState,
    pub(super) why: String,
    pub(super) since: Moment,
    pub(super) last_heartbeat: Option<Moment>,
    /// What its actor waits for.
    pub(super) waits: Option<Deadline>,
    pub(super) alert: Option<Alert>,
    agent: AgentOnLine,
    pub(super) outbox: OutboxView,
    heartbeat: Heartbeat,
    /// When the last ones were acknowledged, the newest first.
    acknowledged: VecDeque<Moment>,
    /// Orders to report the end of a task, by the `Id` of the server's message, that are not known to be taken.
    untold: BTreeMap<i64, LineCommand>,
    stuck: Stuck,
}

/// How its actors fared.
#[derive(Clone, Copy, Debug, Default)]
struct Stuck {
    /// How often one was stuck.
    times: u32,
    /// Of these, how often without ten good minutes between.
    in_a_row: u32,
    last: Option<Moment>,
    /// No new one before then.
    reopen_at: Option<Moment>,
}

/// The server took the phone off line. It stands until a heartbeat is acknowledged [`ALERT_STANDS`] later or more.
#[derive(Clone, Debug)]
pub(super) struct Alert {
    pub(super) at: Moment,
    pub(super) why: String,
}

/// Whether an agent on the phone speaks by the line.
#[derive(Clone, Debug, PartialEq, Eq)]
enum AgentOnLine {
    /// None ever has.
    Never,
    There {
        since: Moment,
    },
    Away {
        why: String,
    },
}

#[derive(Clone, Debug, PartialEq)]
struct Open {
    credential: String,
    device: DeviceInfo,
    condition: Condition,
    tunnel: Option<Endpoint>,
}

/// What a line shall be.
#[derive(Debug)]
pub(super) struct Wanted {
    /// What the phone registers as.
    pub(super) credential: String,
    pub(super) tunnel: Tunnel,
}

/// Whether an agent on the phone shall find its line there.
#[derive(Debug)]
pub(super) enum Tunnel {
    /// It shall not.
    None,
    /// It shall once the phone at this endpoint is ready; if it was before, it still does.
    OnceReady(Endpoint),
    /// It shall, at this endpoint.
    At(Endpoint),
}

/// Whether the line waits for a probe before it sends a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heartbeat {
    Quiet,
    WaitsForProbe,
}

/// What the model makes of an event of the line.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reaction {
    Nothing,
    Changed,
    Probe,
    Alerted(String),
    Offered(super::event::UpgradeNotice),
    Asked(Asked),
    UpgradeFailed(super::event::UpgradeFailed),
    /// The server has taken the report about this message of its own.
    Told(i64),
}

impl Line {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            open: None,
            state: LineState::Closed,
            why: "the phone is not here".to_owned(),
            since: now,
            last_heartbeat: None,
            waits: None,
            alert: None,
            agent: AgentOnLine::Never,
            outbox: OutboxView::default(),
            heartbeat: Heartbeat::Quiet,
            acknowledged: VecDeque::new(),
            untold: BTreeMap::new(),
            stuck: Stuck::default(),
        }
    }

    /// Whether the line's actor was told to be open.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether it is open with this credential.
    pub(super) fn registers_as(&self, credential: &str) -> bool {
        self.open.as_ref().is_some_and(|open| open.credential == credential)
    }

    /// Why it is as it is, and what became of the agent on the phone.
    pub(super) fn sentence(&self) -> String {
        match &self.agent {
            AgentOnLine::Never => self.why.clone(),
            AgentOnLine::There { .. } => format!("{}; the agent on the phone speaks by it", self.why),
            AgentOnLine::Away { why } => format!("{}; the agent on the phone has left: {why}", self.why),
        }
    }

    /// Since when the agent on the phone speaks by it.
    pub(super) fn agent_since(&self) -> Option<Moment> {
        match self.agent {
            AgentOnLine::There { since } => Some(since),
            AgentOnLine::Never | AgentOnLine::Away { .. } => None,
        }
    }

    /// How many heartbeats were acknowledged in a time of this length before the last such time, and in the last one.
    pub(super) fn heartbeats_around(&self, now: Moment, within: Duration) -> Heartbeats {
        let count = |from: Duration, until: Duration| {
            let in_it = |at: &&Moment| (from..until).contains(&now.since(**at));
            u32::try_from(self.acknowledged.iter().filter(in_it).count()).unwrap_or(u32::MAX)
        };
        Heartbeats { before: count(within, within * 2), since: count(Duration::ZERO, within) }
    }

    /// How often its actor was stuck.
    pub(super) fn restarts(&self) -> u32 {
        self.stuck.times
    }

    /// When the line may have a new actor, after one that was stuck.
    pub(super) fn reopen_at(&self) -> Option<Moment> {
        self.stuck.reopen_at
    }

    /// The pause after an actor that was stuck is over.
    pub(super) fn may_reopen(&mut self) {
        self.stuck.reopen_at = None;
    }

    /// Its actor took no more orders and was ended. What it was told is forgotten, so that a new one is told it again.
    fn lose_actor(&mut self, now: Moment, why: &str) {
        let stuck = &mut self.stuck;
        let in_a_row = stuck.last.is_some_and(|last| now.since(last) < FORGIVE_AFTER);
        stuck.in_a_row = if in_a_row { stuck.in_a_row.saturating_add(1) } else { 0 };
        stuck.times = stuck.times.saturating_add(1);
        stuck.last = Some(now);
        let pause = REOPEN_FIRST.saturating_mul(2u32.saturating_pow(stuck.in_a_row)).min(REOPEN_LONGEST);
        stuck.reopen_at = Some(now + pause);
        let times = stuck.times;
        self.open = None;
        self.agent = AgentOnLine::Never;
        self.heartbeat = Heartbeat::Quiet;
        self.enter(now, LineState::Waiting, &format!("its actor was stuck ({why}), {times} times so far"));
        self.waits = Some(Deadline { at: now + pause, why: NEW_ACTOR });
    }

    /// Opens the line, or tells it what changed.
    pub(super) fn keep_open(
        &mut self,
        now: Moment,
        phone: &PhoneId,
        wanted: Wanted,
        profile: &Profile,
        turns: &mut Turns,
        out: &mut Vec<Command>,
    ) {
        let credential = wanted.credential;
        if self.stuck.reopen_at.is_some_and(|at| at > now) {
            return;
        }
        self.stuck.reopen_at = None;
        let (device, condition) = (device_info(profile, &credential), condition(profile));
        let before = self.open.take();
        let same = before.as_ref().filter(|open| open.credential == credential);
        let told = match same {
            Some(open) if open.device == device => None,
            Some(_) => Some(LineCommand::Device(Box::new(device.clone()))),
            None => {
                if before.is_some() {
                    // What was said of one credential says nothing of another.
                    self.alert = None;
                }
                let pause = turns.take(now);
                Some(LineCommand::Open { credential: credential.clone(), device: Box::new(device.clone()), pause })
            }
        };
        let fares = same.map_or_else(Condition::default, |open| open.condition.clone()) != condition;
        let fares = fares.then(|| LineCommand::Condition(condition.clone()));
        let dug = same.and_then(|open| open.tunnel.clone());
        let tunnel = match wanted.tunnel {
            Tunnel::None => None,
            Tunnel::OnceReady(endpoint) => dug.clone().filter(|dug| *dug == endpoint),
            Tunnel::At(endpoint) => Some(endpoint),
        };
        let digs = (dug != tunnel).then(|| LineCommand::Tunnel(tunnel.clone()));
        let commands = told.into_iter().chain(fares).chain(digs);
        out.extend(commands.map(|command| Command::Line { phone: phone.clone(), command }));
        self.open = Some(Open { credential, device, condition, tunnel });
    }

    /// Closes the line, if it is open.
    pub(super) fn close(
        &mut self,
        now: Moment,
        phone: &PhoneId,
        state: LineState,
        why: &str,
        out: &mut Vec<Command>,
    ) -> bool {
        let was_open = self.open.take().is_some();
        if was_open {
            self.heartbeat = Heartbeat::Quiet;
            self.agent = AgentOnLine::Never;
            out.push(Command::Line { phone: phone.clone(), command: LineCommand::Close { why: why.to_owned() } });
        }
        let changed = self.state != state;
        if changed || was_open {
            self.enter(now, state, why);
        }
        changed || was_open
    }

    /// The actor's report. What it says of a line that was closed meanwhile is old news.
    pub(super) fn report(
        &mut self,
        now: Moment,
        phone: &PhoneId,
        event: LineEvent,
        out: &mut Vec<Command>,
    ) -> Reaction {
        if let LineEvent::UpgradeNotice(notice) = event {
            return Reaction::Offered(notice);
        }
        if let LineEvent::UpgradeFailed(failed) = event {
            return Reaction::UpgradeFailed(failed);
        }
        if let LineEvent::Asked(asked) = event {
            return Reaction::Asked(asked);
        }
        if let LineEvent::EndTold { message_id } = event {
            self.untold.remove(&message_id);
            return Reaction::Told(message_id);
        }
        if let LineEvent::ForcedOffline { why } = event {
            self.alert = Some(Alert { at: now, why: why.clone() });
            return Reaction::Alerted(why);
        }
        if let LineEvent::Outbox(outbox) = event {
            self.outbox = outbox;
            return Reaction::Changed;
        }
        if self.open.is_none() {
            return Reaction::Nothing;
        }
        match event {
            LineEvent::Stuck { why } => {
                self.lose_actor(now, &why);
                Reaction::Changed
            }
            LineEvent::State { state, why } => {
                self.enter(now, state, &why);
                if state == LineState::Registered {
                    let again = self.untold.values().cloned();
                    out.extend(again.map(|command| Command::Line { phone: phone.clone(), command }));
                }
                Reaction::Changed
            }
            LineEvent::HeartbeatDue => {
                self.heartbeat = Heartbeat::WaitsForProbe;
                Reaction::Probe
            }
            LineEvent::HeartbeatAcknowledged => {
                self.last_heartbeat = Some(now);
                self.acknowledged.truncate(HEARTBEATS_MAX - 1);
                self.acknowledged.push_front(now);
                self.alert = self.alert.take().filter(|alert| now.since(alert.at) < ALERT_STANDS);
                Reaction::Nothing
            }
            LineEvent::Waits(wait) => {
                self.waits = wait.map(|wait| Deadline { at: now + wait.within, why: wait.why });
                Reaction::Nothing
            }
            LineEvent::AgentThere => {
                self.agent = AgentOnLine::There { since: now };
                Reaction::Changed
            }
            LineEvent::AgentLeft { why } => {
                self.agent = AgentOnLine::Away { why };
                Reaction::Changed
            }
            LineEvent::UpgradeNotice(_)
            | LineEvent::UpgradeFailed(_)
            | LineEvent::Asked(_)
            | LineEvent::Outbox(_)
            | LineEvent::EndTold { .. }
            | LineEvent::ForcedOffline { .. } => Reaction::Nothing,
        }
    }

    /// The phone has answered a probe: a heartbeat that waits for it may go.
    pub(super) fn probe_answered(&mut self, phone: &PhoneId, out: &mut Vec<Command>) {
        if self.heartbeat == Heartbeat::WaitsForProbe {
            self.heartbeat = Heartbeat::Quiet;
            let command = LineCommand::Presence(Presence::Answered);
            out.push(Command::Line { phone: phone.clone(), command });
        }
    }

    /// Whether a heartbeat waits for a probe.
    pub(super) fn heartbeat_waits(&self) -> bool {
        self.heartbeat == Heartbeat::WaitsForProbe
    }

    /// Tells the server of the end of a task, now if the line is registered, and to each new registration until it has taken the
    /// report.
    pub(super) fn report_end(
        &mut self,
        phone: &PhoneId,
        task: TaskName,
        result: Result<(), String>,
        out: &mut Vec<Command>,
    ) {
        let message_id = task.message_id;
        let command = LineCommand::TaskEnded { task, result };
        if self.untold.len() >= UNTOLD_MAX && !self.untold.contains_key(&message_id) {
            return;
        }
        if self.open.is_some() && self.state == LineState::Registered {
            out.push(Command::Line { phone: phone.clone(), command: command.clone() });
        }
        self.untold.insert(message_id, command);
    }

    fn enter(&mut self, now: Moment, state: LineState, why: &str) {
        if self.state != state {
            self.since = now;
        }
        if matches!(state, LineState::Closed | LineState::NeedsIdentity) {
            self.waits = None;
        }
        self.state = state;
        why.clone_into(&mut self.why);
    }
}

/// How a phone fares.
fn condition(profile: &Profile) -> Condition {
    let battery = profile.battery.map(|battery| BatteryCondition {
        level_percent: battery.level_percent,
        charging: battery.charging,
        temperature_celsius: battery.temperature_celsius,
    });
    Condition { battery, storage: profile.storage }
}

/// What the server is told of a phone.
fn device_info(profile: &Profile, credential: &str) -> DeviceInfo {
    DeviceInfo {
        brand: profile.brand.clone(),
        model: profile.model.clone(),
        sdk: profile.sdk,
        imei: credential.to_owned(),
        apps: profile
            .agent
            .iter()
            .map(|agent| AppVersion {
                package: agent.package.clone(),
                version_code: agent.version_code,
                version_name: agent.version_name.clone(),
            })
            .collect(),
        network: profile.network.clone(),
        sims: profile.sims.clone(),
    }
}
