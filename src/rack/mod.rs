//! The model of the rack: the one owner of its state.
//!
//! Sources and actors tell it what happened ([`Event`]); it says what must be done ([`Command`]) and shows the whole as a
//! [`Snapshot`]. It takes the time as an argument, does no I/O and never waits, so that a whole rack runs in a test, and a
//! failing run replays exactly.
//!
//! ```text
//!     Event ──▶ apply ──▶ Place (a life at an endpoint) ──▶ settle ──▶ Command, Change
//!                  └────▶ Phone (an identity: profile, line, what rollouts were told)
//! ```
//!
//! A [`Place`](place::Place) is an endpoint with the life of whatever handset is there; a [`Phone`](place::Phone) is an identity that
//! stays when the handset moves or leaves. After each event the touched place is *settled*: the line is opened or closed, rollouts
//! are told, changes are noted.
//!
//! Invariant: a phone is bound to at most one place (`tests/sim`).
//! Invariant: every place that waits has a deadline with a reason (`tests/sim`).

pub mod access;
mod acts;
mod budget;
pub mod candidate;
mod change;
pub mod delivery;
pub mod detach;
pub mod event;
pub mod gates;
mod hubs;
pub mod identities;
mod identity;
pub mod ids;
mod incident;
pub mod lease;
pub mod limits;
mod line;
mod place;
pub mod power;
pub mod request;
mod restraint;
pub mod settings;
pub mod snapshot;
mod story;
pub mod strategy;
mod task;
mod upkeep;
mod view;

use std::collections::{BTreeMap, BTreeSet};

pub use budget::{REBOOTS_MAX, REBOOTS_WINDOW, RESETS_MAX, RESETS_WINDOW};
pub use change::Change;
pub use event::{Command, Event};
pub use power::{CYCLES_MAX, CYCLES_WINDOW, PowerLedger};
pub use settings::Settings;
pub use snapshot::Snapshot;
pub use story::Traces;
pub use view::Standing;

use self::acts::ActsBegun;
use self::budget::Budgets;
use self::event::{LineEvent, RolloutCommand, RolloutEvent, TaskName, UpgradeByAgent};
use self::hubs::Hubs;
use self::ids::{Endpoint, PhoneId, Serial};
use self::incident::Incidents;
use self::lease::Leases;
use self::line::{Reaction, Turns};
use self::place::{Phone, Place};
use self::snapshot::{ControllerView, HostHealth, MqttView, RolloutView};
use crate::clock::{Deadline, Moment, UnixMillis};
use crate::phone::life::{Life, LifePolicy, Wish};
use crate::phone::{self, InstallFailure, InstallFailureClass, OpenFault};

/// The code of `UpgradeDeviceAppNotice`: a failure report names it as the task's type.
const UPGRADE_DEVICE_APP_NOTICE: i32 = 1094;

/// The whole rack.
#[derive(Debug)]
pub struct Rack {
    settings: Settings,
    epoch: UnixMillis,
    started: UnixMillis,
    places: BTreeMap<Endpoint, Place>,
    phones: BTreeMap<PhoneId, Phone>,
    /// Serials that two phones were seen with at once.
    shared: BTreeSet<Serial>,
    hubs: Hubs,
    budgets: Budgets,
    acts: ActsBegun,
    incidents: Incidents,
    leases: Leases,
    /// The credential that somebody has set for an id, a serial or a slot.
    identities: BTreeMap<String, String>,
    host: Option<HostHealth>,
    controllers: Vec<ControllerView>,
    mqtt: MqttView,
    rollouts: Vec<RolloutView>,
    troubles: BTreeMap<&'static str, Trouble>,
    turns: Turns,
    revision: u64,
}

/// A part of the daemon that does not get on.
#[derive(Debug)]
struct Trouble {
    why: String,
    since: Moment,
}

/// What came of an event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// What must be done, in order.
    pub commands: Vec<Command>,
    /// What a person would want to know, in order.
    pub changes: Vec<Change>,
}

impl Rack {
    /// A rack in which nothing was seen yet. Moments are counted from `started` in wall time.
    #[must_use]
    pub fn new(settings: Settings, started: UnixMillis, now: Moment) -> Self {
        Self::restore(settings, PowerLedger::default(), started, now)
    }

    /// The rack after a daemon that has `promised` this of the power of its ports. Moments are counted from `started` in wall time.
    #[must_use]
    pub fn restore(settings: Settings, promised: PowerLedger, started: UnixMillis, now: Moment) -> Self {
        let hubs = Hubs::new(&settings, promised, started.plus(now.since_start()), now);
        let mut rack = Self {
            settings,
            epoch: started,
            started,
            places: BTreeMap::new(),
            phones: BTreeMap::new(),
            shared: BTreeSet::new(),
            hubs,
            budgets: Budgets::default(),
            acts: ActsBegun::default(),
            incidents: Incidents::default(),
            leases: Leases::default(),
            identities: BTreeMap::new(),
            host: None,
            controllers: Vec::new(),
            mqtt: MqttView::default(),
            rollouts: Vec::new(),
            troubles: BTreeMap::new(),
            turns: Turns::new(started.0.unsigned_abs()),
            revision: 0,
        };
        let endpoints: Vec<Endpoint> = rack.settings.slots.keys().cloned().collect();
        for endpoint in endpoints {
            rack.place(now, &endpoint);
        }
        rack
    }

    /// Takes in one event.
    pub fn apply(&mut self, now: Moment, event: Event) -> Outcome {
        let mut out = Outcome::default();
        self.revision += 1;
        match event {
            Event::Appeared { endpoint, serial } => self.appeared(now, &endpoint, serial, &mut out),
            Event::Usb { endpoint, usb } => self.place(now, &endpoint).usb = Some(usb),
            Event::OtherMode { endpoint, serial, why } => self.other_mode(now, &endpoint, serial, &why, &mut out),
            Event::NotEnumerated { endpoint, why } => self.not_enumerated(now, &endpoint, &why, &mut out),
            Event::Controllers(controllers) => self.controllers = controllers,
            Event::Gone { endpoint, why } => self.gone(now, &endpoint, &why, &mut out),
            Event::Phone { endpoint, event } => self.phone_reports(now, &endpoint, event, &mut out),
            Event::Line { phone, event } => self.line_reports(now, &phone, event, &mut out),
            Event::Hub { hub, event } => self.hub_reports(now, &hub, event, &mut out),
            Event::Power(promise) => self.power_promised(now, promise, &mut out),
            Event::Host(host) => self.host = Some(host),
            Event::Mqtt(view) => self.mqtt = view,
            Event::Rollout(event) => self.rollout_reports(now, event, &mut out),
            Event::SetPort { hub, port, mode } => self.operator_sets_port(now, hub, port, mode, &mut out),
            Event::Restart { phone } => {
                if let Some(endpoint) = self.phones.get(&phone).and_then(|known| known.place.clone()) {
                    self.on_place(now, &endpoint, &mut out, |life| life.restart(now, "the operator"));
                }
            }
            Event::Leaves { phone, time } => {
                if let Some(endpoint) = self.phones.get(&phone).and_then(|known| known.place.clone()) {
                    self.on_place(now, &endpoint, &mut out, |life| {
                        life.leaves(now, time);
                        Vec::new()
                    });
                }
            }
            Event::Changed { phone } => {
                if let Some(endpoint) = self.phones.get(&phone).and_then(|known| known.place.clone()) {
                    self.on_place(now, &endpoint, &mut out, |life| life.profile_is_old(now));
                }
            }
            Event::Twins(serials) => self.shared.extend(serials),
            Event::Identity { event, .. } => self.identities_changed(now, event, &mut out),
            Event::Lease { event, .. } => self.lease_reports(now, event, &mut out),
            Event::Detach { event, .. } => self.detach_reports(now, event, &mut out),
            Event::ClockSet(epoch) => {
                self.clock_set(epoch);
                out.commands.push(Command::Rollout(RolloutCommand::ClockSet(epoch)));
            }
        }
        self.keep_power_ledger(now, &mut out);
        self.record_changes(now, &out);
        out
    }

    /// Does what is due at `now`.
    pub fn advance(&mut self, now: Moment) -> Outcome {
        let mut out = Outcome::default();
        self.advance_incidents(now, &mut out);
        self.advance_leases(now, &mut out);
        let due: Vec<Endpoint> = self
            .places
            .iter()
            .filter(|(_, place)| place.deadline().is_some_and(|deadline| deadline.at <= now))
            .map(|(endpoint, _)| endpoint.clone())
            .collect();
        for endpoint in due {
            self.ask_budget(now, &endpoint);
            self.on_place(now, &endpoint, &mut out, |life| life.advance(now));
        }
        self.advance_power_cycles(now, &mut out);
        self.close_stale_lines(now, &mut out);
        self.reopen_lines(now, &mut out);
        self.keep_power_ledger(now, &mut out);
        self.record_changes(now, &out);
        if !out.commands.is_empty() || !out.changes.is_empty() {
            self.revision += 1;
        }
        out
    }

    /// Rises by one with each event that may have changed something.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// When [`Rack::advance`] must be called next, and why.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        let places = self.places.values().map(Place::deadline);
        let lines = self.phones.values().map(|phone| self.line_deadline(phone));
        let of_all = [self.incidents.deadline(), self.hubs.cycles.deadline(), self.leases.deadline()];
        places.chain(lines).chain(of_all).fold(None, Deadline::earlier)
    }

    fn phone_reports(&mut self, now: Moment, endpoint: &Endpoint, event: phone::Event, out: &mut Outcome) {
        if let phone::Event::Profile(profile) = &event
            && self.places.get(endpoint).is_some_and(|place| place.life.is_connected())
        {
            self.bind_profile(now, endpoint, profile, out);
            // Whoever holds the phone holds it wherever it is plugged in, from the first moment that it is known.
            self.restrain(now, endpoint);
        }
        let event = match (endpoint, event) {
            // Of a USB device only the bus says that it is gone: it tells of an arrival once, so that a phone which was given up
            // for gone would stay so.
            (Endpoint::Usb(_), phone::Event::OpenFailed { fault: OpenFault::Gone, why }) => {
                phone::Event::OpenFailed { fault: OpenFault::Protocol, why }
            }
            (_, event) => event,
        };
        if event == phone::Event::ProbeAnswered {
            self.answer_heartbeat(endpoint, out);
        }
        self.record_report(now, endpoint, &event);
        if let phone::Event::Installed { rollout, result } = &event {
            self.tell_installed(endpoint, rollout, result, out);
        }
        self.tell_health(now, endpoint, &event, out);
        if let phone::Event::AgentRestarted { result } = &event {
            self.agent_restarted(endpoint, result, out);
        }
        self.on_place(now, endpoint, out, |life| life.report(now, event));
    }

    /// Rollouts hear of the install before they hear that the phone is available again.
    fn tell_installed(
        &self,
        endpoint: &Endpoint,
        rollout: &ids::RolloutId,
        result: &Result<snapshot::InstalledAgent, InstallFailure>,
        out: &mut Outcome,
    ) {
        let awaited = self.places.get(endpoint).and_then(|place| place.life.installing());
        if awaited.is_some_and(|order| order.rollout == *rollout)
            && let Some(phone) = self.phone_at(endpoint)
        {
            let result = result.clone().map(|agent| agent.version_code);
            let told = RolloutCommand::Installed { phone: phone.clone(), rollout: rollout.clone(), result };
            out.commands.push(Command::Rollout(told));
        }
    }

    fn line_reports(&mut self, now: Moment, id: &PhoneId, event: LineEvent, out: &mut Outcome) {
        let Some(phone) = self.phones.get_mut(id) else { return };
        match phone.line.report(now, id, event, &mut out.commands) {
            Reaction::Nothing => {}
            Reaction::Changed => {
                out.changes.push(phone.line_change());
                self.look_for_upgrade(now, id, out);
            }
            Reaction::Alerted(what) => out.changes.push(Change::Alert { phone: id.clone(), what }),
            Reaction::Offered(notice) => {
                out.commands.push(Command::Rollout(RolloutCommand::Offered { phone: id.clone(), notice }));
            }
            Reaction::Told(message_id) => {
                out.commands.push(Command::Rollout(RolloutCommand::FailureTold { phone: id.clone(), message_id }));
            }
            Reaction::Asked(asked) => self.asked(now, id, asked, out),
            Reaction::UpgradeFailed(failed) => self.upgrade_failed(id, failed, out),
            Reaction::Probe => self.probe_for_heartbeat(now, id, out),
        }
    }

    fn probe_for_heartbeat(&mut self, now: Moment, id: &PhoneId, out: &mut Outcome) {
        let endpoint = self.phones.get(id).and_then(|phone| phone.place.clone());
        let connected =
            endpoint.as_ref().and_then(|at| self.places.get(at)).is_some_and(|place| place.life.is_connected());
        match endpoint {
            Some(endpoint) if connected => self.on_place(now, &endpoint, out, |life| life.probe_now(now)),
            _ => self.close_line(now, id, "the phone cannot be reached, so no heartbeat is sent for it", out),
        }
    }

    /// A probe that was awaited is answered; how it ends without an answer, [`Rack::settle`] sees.
    fn answer_heartbeat(&mut self, endpoint: &Endpoint, out: &mut Outcome) {
        let Some(place) = self.places.get(endpoint).filter(|place| place.life.is_being_probed()) else { return };
        if let Some(phone) = place.phone.as_ref().and_then(|id| self.phones.get_mut(id)) {
            phone.line.probe_answered(&phone.id, &mut out.commands);
        }
    }

    /// How a phone fares, as it says itself; what is known of its line comes to it.
    fn tell_health(&mut self, now: Moment, endpoint: &Endpoint, event: &phone::Event, out: &mut Outcome) {
        let phone::Event::Inspected { rollout, health, within } = event else { return };
        let Some(phone) = self.phone_at(endpoint).and_then(|id| self.phones.get(id)) else { return };
        let mut health = health.clone();
        if self.settings.credential.is_some() {
            health.registered = Some(phone.line.state == snapshot::LineState::Registered);
            health.heartbeats = Some(phone.line.heartbeats_around(now, *within));
        }
        let told = RolloutCommand::Looked { phone: phone.id.clone(), rollout: rollout.clone(), health: Ok(health) };
        out.commands.push(Command::Rollout(told));
    }

    /// A rollout asks how a phone fares.
    fn look_at(&mut self, phone: PhoneId, rollout: ids::RolloutId, within: std::time::Duration, out: &mut Outcome) {
        let place = self.phones.get(&phone).and_then(|known| self.places.get(known.place.as_ref()?));
        match place.filter(|place| place.life.is_connected()) {
            Some(place) => {
                let (endpoint, command) = (place.endpoint.clone(), phone::Command::Inspect { rollout, within });
                out.commands.push(Command::Phone { endpoint, command });
            }
            None => {
                let health = Err("the phone is not here".to_owned());
                out.commands.push(Command::Rollout(RolloutCommand::Looked { phone, rollout, health }));
            }
        }
    }

    fn rollout_reports(&mut self, now: Moment, event: RolloutEvent, out: &mut Outcome) {
        match event {
            RolloutEvent::Views(views) => {
                for view in &views {
                    let before = self.rollouts.iter().find(|before| before.id == view.id);
                    if before.is_none_or(|before| before.state != view.state) {
                        out.changes.push(Change::Rollout {
                            rollout: view.id.clone(),
                            state: view.state,
                            why: view.why.clone(),
                        });
                    }
                }
                self.rollouts = views;
            }
            RolloutEvent::ReportFailure { phone, message_id, why } => {
                let task = TaskName { message_id, task_type: UPGRADE_DEVICE_APP_NOTICE, ..TaskName::default() };
                if let Some(known) = self.phones.get_mut(&phone) {
                    known.line.report_end(&phone, task, Err(why), &mut out.commands);
                }
            }
            RolloutEvent::Answer { .. } => {}
            RolloutEvent::Trouble(why) => self.trouble(now, "rollouts", why),
            RolloutEvent::Restarted => {
                self.trouble(now, "rollouts", None);
                self.tell_rollouts_again(out);
            }
            // Where installing is switched off it stays so.
            RolloutEvent::Agent(agent) => {
                self.settings.agent.iter_mut().for_each(|wanted| wanted.clone_from(&agent));
            }
            RolloutEvent::Look { phone, rollout, within } => self.look_at(phone, rollout, within, out),
            RolloutEvent::Install { phone, order } => {
                if let Some(upgrade) = UpgradeByAgent::of(&order) {
                    return self.upgrade_by_agent(phone, upgrade, out);
                }
                let rollout = order.rollout.clone();
                let refused = |failure: InstallFailure| {
                    Command::Rollout(RolloutCommand::Installed { phone: phone.clone(), rollout, result: Err(failure) })
                };
                let place = self.phones.get(&phone).and_then(|known| known.place.clone());
                match (place, self.held_by(&phone)) {
                    (None, _) => out.commands.push(refused(InstallFailure::not_here())),
                    // The order may have met the lease on its way.
                    (Some(_), Some(why)) => {
                        let class = InstallFailureClass::Transient;
                        out.commands.push(refused(InstallFailure { class, reason: None, why }));
                    }
                    (Some(endpoint), None) => {
                        let mut failure = None;
                        self.on_place(now, &endpoint, out, |life| match life.install(now, order) {
                            Ok(wishes) => wishes,
                            Err(why) => {
                                failure = Some(why);
                                Vec::new()
                            }
                        });
                        out.commands.extend(failure.map(refused));
                    }
                }
            }
        }
    }

    /// A part of the daemon does not get on, or does again.
    fn trouble(&mut self, now: Moment, part: &'static str, why: Option<String>) {
        match (why, self.troubles.get_mut(part)) {
            (Some(why), Some(trouble)) => trouble.why = why,
            (Some(why), None) => drop(self.troubles.insert(part, Trouble { why, since: now })),
            (None, _) => drop(self.troubles.remove(part)),
        }
    }

    /// Lets `act` move the life at `endpoint`, then carries its wishes out and settles the place.
    fn on_place(
        &mut self,
        now: Moment,
        endpoint: &Endpoint,
        out: &mut Outcome,
        act: impl FnOnce(&mut Life) -> Vec<Wish>,
    ) {
        let Some(place) = self.places.get_mut(endpoint) else { return };
        let (before, was_connected) = (place.life.state(), place.life.is_connected());
        let wishes = act(&mut place.life);
        let failed = was_connected && place.life.has_failed();
        self.record_step(now, endpoint, before, &wishes);
        for wish in wishes {
            match wish {
                Wish::Actor(command) => out.commands.push(Command::Phone { endpoint: endpoint.clone(), command }),
                Wish::Provision => out.commands.extend(self.provision(endpoint)),
                Wish::CyclePower => self.begin_power_cycle(now, endpoint, out),
            }
        }
        // A power cycle that is refused is the end of the ladder: the state is judged after the wishes.
        if let Some(place) = self.places.get(endpoint).filter(|place| place.life.state() != before) {
            let (to, why) = (place.life.state(), place.life.why().to_owned());
            out.changes.push(Change::Phone { name: place.name(), from: before, to, why });
        }
        if failed {
            self.note_failure(now, endpoint, out);
        } else {
            self.note_answer(now, endpoint, out);
        }
        self.restrain(now, endpoint);
        self.settle(now, endpoint, out);
    }

    fn place(&mut self, now: Moment, endpoint: &Endpoint) -> &mut Place {
        let settings = &self.settings;
        let seed = self.places.len() as u64;
        self.places.entry(endpoint.clone()).or_insert_with(|| {
            let policy = LifePolicy {
                agent: settings.agent_policy(),
                max_rung: settings.max_rung,
                install_timeout: settings.install_timeout,
                upkeep: settings.upkeep,
                jitter_seed: seed,
            };
            Place::new(endpoint.clone(), settings.slots.get(endpoint).cloned(), Life::new(policy, now))
        })
    }

    /// The order to install what phones without the agent get now: a life wishes for it only where there is something.
    fn provision(&self, endpoint: &Endpoint) -> Option<Command> {
        let agent = Box::new(self.settings.agent.clone()?);
        Some(Command::Phone { endpoint: endpoint.clone(), command: phone::Command::Provision { agent } })
    }

    fn phone_at(&self, endpoint: &Endpoint) -> Option<&PhoneId> {
        self.places.get(endpoint).and_then(|place| place.phone.as_ref())
    }
}

#[cfg(test)]
mod tests;
