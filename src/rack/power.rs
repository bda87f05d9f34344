//! Recovery's power cycles: a port goes off only once its promise is on the disk, and is switched on until its hub says that it is.
//!
//! ```text
//!     begin ──▶ Promising ──kept──▶ Off ──5 s──▶ Returning ──the hub says that it is on──▶ over
//!                   │ 10 s, or the store fails       ▲
//!                   └──▶ refused: the next rung      └── what the ledger of an earlier daemon says
//! ```
//!
//! A [`PowerLedger`] is the whole truth at once, so that only the newest one has to reach the disk.
//!
//! Invariant: a port that recovery has switched off is on the disk until its hub has confirmed another mode (`tests/sim`).
//! Invariant: recovery never switches more than [`CYCLES_MAX`] ports off within [`CYCLES_WINDOW`], over restarts too (`tests/sim`): a
//! fault of the hub or of farmhand must not take the rack's phones away one by one.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::event::{Command, HubEvent, PowerPromise};
use super::ids::{Endpoint, HubName, HubPort};
use super::snapshot::{PortMode, PowerPort};
use super::{Outcome, Rack};
use crate::clock::{Deadline, Moment, UnixMillis};
use crate::phone::life::Wish;

/// The most ports that recovery switches off within [`CYCLES_WINDOW`].
pub const CYCLES_MAX: usize = 4;
/// The window of [`CYCLES_MAX`].
pub const CYCLES_WINDOW: Duration = Duration::from_secs(10 * 60);
/// How long a port stays off when its power is cycled: long enough for a phone to see VBUS go.
const POWER_OFF: Duration = Duration::from_secs(5);
/// Between two orders to switch such a port on, while its hub has not said that it is: no phone stays dark for our doing.
const POWER_AGAIN: Duration = Duration::from_secs(30);
/// The longest that a promise may take to reach the disk: the phone waits for its power to be cycled for 60 s in all.
const PROMISE_MAX: Duration = Duration::from_secs(10);

/// What of the power cycles must survive a crash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PowerLedger {
    /// The ports that recovery may have switched off, in the order of their names.
    pub off: Vec<PortOff>,
    /// The latest moments at which the cycles that still count against [`CYCLES_MAX`] began, the oldest first.
    pub cycles: Vec<UnixMillis>,
}

/// A port that recovery may have switched off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortOff {
    /// Which.
    pub power: PowerPort,
    /// Since when.
    pub since: UnixMillis,
}

/// All power cycles that are under way, and what is left of the budget.
#[derive(Debug, Default)]
pub(super) struct PowerCycles {
    ports: BTreeMap<PowerPort, Cycle>,
    /// When each cycle that counts leaves the window.
    spent: VecDeque<Moment>,
    /// The number of the ledger that was given out last.
    number: u64,
    /// The next ledger differs from that one.
    changed: bool,
    /// Why no promise can be made, while that is so.
    failing: Option<String>,
    /// Ports that an earlier daemon left off and that no hub of this configuration has.
    orphans: Vec<PowerPort>,
}

#[derive(Debug)]
struct Cycle {
    since: UnixMillis,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// The ledger with this number must be on the disk before the port goes off; given up then.
    Promising { number: u64, until: Moment, endpoint: Endpoint },
    /// Off, until then.
    Off { until: Moment },
    /// To be in this mode; ordered again then, unless the hub has said that it is.
    Returning { mode: PortMode, again_at: Moment, overdue: bool },
}

impl PowerCycles {
    /// What an earlier daemon has promised, at the wall time `wall`.
    pub(super) fn restore(
        ledger: PowerLedger,
        knows: impl Fn(&HubName) -> bool,
        wall: UnixMillis,
        now: Moment,
    ) -> Self {
        let mut cycles = Self::default();
        for PortOff { power, since } in ledger.off {
            if knows(&power.hub) {
                let step = Step::Returning { mode: PortMode::Sync, again_at: now + POWER_AGAIN, overdue: true };
                cycles.ports.insert(power, Cycle { since, step });
            } else {
                cycles.orphans.push(power);
                cycles.changed = true;
            }
        }
        for began in ledger.cycles {
            let left = u64::try_from(began.plus(CYCLES_WINDOW).0.saturating_sub(wall.0)).unwrap_or(0);
            // A wall clock that was set back must not stretch the window.
            cycles.spent.push_back(now + Duration::from_millis(left).min(CYCLES_WINDOW + PROMISE_MAX));
        }
        cycles
    }

    pub(super) fn deadline(&self) -> Option<Deadline> {
        let deadline = |cycle: &Cycle| {
            Some(match cycle.step {
                Step::Promising { until, .. } => {
                    Deadline { at: until, why: "its port's power cycle to be promised on the disk" }
                }
                Step::Off { until } => Deadline { at: until, why: "its port's power to be switched on again" },
                Step::Returning { again_at, .. } => {
                    Deadline { at: again_at, why: "its hub to say that the port's power is on" }
                }
            })
        };
        self.ports.values().map(deadline).fold(None, Deadline::earlier)
    }

    /// Begins a cycle, if the budget allows: the port is switched off once the next ledger is on the disk.
    pub(super) fn begin(
        &mut self,
        now: Moment,
        wall: UnixMillis,
        power: PowerPort,
        endpoint: Endpoint,
    ) -> Result<(), String> {
        self.spent.retain(|at| *at > now);
        if self.spent.len() >= CYCLES_MAX {
            let minutes = CYCLES_WINDOW.as_secs() / 60;
            return Err(format!("the rack's budget of {CYCLES_MAX} power cycles in {minutes} min is spent"));
        }
        self.is_free(&power)?;
        let until = now + PROMISE_MAX;
        self.spent.push_back(until + CYCLES_WINDOW);
        self.changed = true;
        let step = Step::Promising { number: self.number + 1, until, endpoint };
        self.ports.insert(power, Cycle { since: wall, step });
        Ok(())
    }

    /// Whether no cycle of this port is under way.
    fn is_free(&self, power: &PowerPort) -> Result<(), String> {
        if self.ports.contains_key(power) {
            return Err(format!("hub {} has not said yet that port {} is on again", power.hub, power.port));
        }
        Ok(())
    }

    /// When each cycle that counts leaves the window, the first one first.
    pub(super) fn leaving(&self, now: Moment) -> impl Iterator<Item = Moment> {
        self.spent.iter().copied().filter(move |at| *at > now)
    }

    /// The ledgers up to `number` are on the disk: the ports that may go off now.
    fn kept(&mut self, now: Moment, number: u64) -> Vec<PowerPort> {
        self.failing = None;
        let mut off = Vec::new();
        for (power, cycle) in &mut self.ports {
            if matches!(cycle.step, Step::Promising { number: awaited, until, .. } if awaited <= number && now < until)
            {
                cycle.step = Step::Off { until: now + POWER_OFF };
                off.push(power.clone());
            }
        }
        off
    }

    /// Gives up the cycles whose promise is awaited and of which `which` is true; nothing was switched for them.
    fn withdraw(&mut self, which: impl Fn(&PowerPort, &Endpoint, Moment) -> bool) -> Vec<Endpoint> {
        let (spent, changed) = (&mut self.spent, &mut self.changed);
        let mut withdrawn = Vec::new();
        self.ports.retain(|power, cycle| match &cycle.step {
            Step::Promising { until, endpoint, .. } if which(power, endpoint, *until) => {
                if let Some(at) = spent.iter().position(|at| *at == *until + CYCLES_WINDOW) {
                    spent.remove(at);
                }
                *changed = true;
                withdrawn.push(endpoint.clone());
                false
            }
            _ => true,
        });
        withdrawn
    }

    /// What is to be ordered at `now`: ports whose time without power is over, and those that their hub has not confirmed.
    fn due(&mut self, now: Moment) -> Vec<(PowerPort, PortMode)> {
        let mut orders = Vec::new();
        for (power, cycle) in &mut self.ports {
            let (mode, overdue) = match cycle.step {
                Step::Off { until } if until <= now => (PortMode::Sync, false),
                Step::Returning { mode, again_at, .. } if again_at <= now => (mode, true),
                _ => continue,
            };
            cycle.step = Step::Returning { mode, again_at: now + POWER_AGAIN, overdue };
            orders.push((power.clone(), mode));
        }
        orders
    }

    /// The hub answers again: what it has not confirmed is ordered at once.
    fn hub_is_back(&mut self, now: Moment, hub: &HubName) -> Vec<(PowerPort, PortMode)> {
        for cycle in self.ports.iter_mut().filter(|(power, _)| power.hub == *hub).map(|(_, cycle)| cycle) {
            if let Step::Returning { again_at, .. } = &mut cycle.step {
                *again_at = now;
            }
        }
        self.due(now)
    }

    /// A mode was set and the hub confirmed it: what was to return has returned. A reading does not count: it may be older than an
    /// order to switch off that is still on its way.
    fn confirmed(&mut self, power: &PowerPort, mode: PortMode) {
        let returning = self.ports.get(power).is_some_and(|cycle| matches!(cycle.step, Step::Returning { .. }));
        if returning && mode != PortMode::Off {
            self.ports.remove(power);
            self.changed = true;
        }
    }

    /// The operator has spoken about this port: what shall be off stays off, and a mode with power is what the port returns to.
    fn overruled(&mut self, now: Moment, power: &PowerPort, mode: PortMode) {
        self.withdraw(|promising, _, _| promising == power);
        match (mode, self.ports.get_mut(power)) {
            (_, None) => {}
            (PortMode::Off, Some(_)) => {
                self.ports.remove(power);
                self.changed = true;
            }
            (mode, Some(cycle)) => {
                cycle.step = Step::Returning { mode, again_at: now + POWER_AGAIN, overdue: false };
            }
        }
    }

    /// The ledger and its number, if it differs from the last one; moments are counted from `epoch`.
    fn ledger(&mut self, now: Moment, epoch: UnixMillis) -> Option<(u64, PowerLedger)> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        self.number += 1;
        let off =
            self.ports.iter().map(|(power, cycle)| PortOff { power: power.clone(), since: cycle.since }).collect();
        let window = i64::try_from(CYCLES_WINDOW.as_millis()).unwrap_or(i64::MAX);
        let began = |at: &Moment| UnixMillis(epoch.plus(at.since_start()).0.saturating_sub(window));
        let cycles = self.spent.iter().filter(|at| **at > now).map(began).collect();
        Some((self.number, PowerLedger { off, cycles }))
    }

    /// What a person should know, as a sentence.
    fn trouble(&self) -> Option<String> {
        let unconfirmed =
            self.ports.iter().filter(|(_, cycle)| matches!(cycle.step, Step::Returning { overdue: true, .. }));
        let dark = unconfirmed.map(|(PowerPort { hub, port }, _)| {
            format!("recovery switched port {port} of hub {hub} off, and the hub has not said yet that it is on again")
        });
        let lost = self.orphans.iter().map(|PowerPort { hub, port }| {
            format!("recovery switched port {port} of hub {hub} off, and no such hub is configured any more: switch it on by hand")
        });
        let told: Vec<String> = self.failing.iter().cloned().chain(dark).chain(lost).collect();
        (!told.is_empty()).then(|| told.join("; "))
    }
}

impl Rack {
    /// Begins what the ladder wants for the phone at `endpoint`; a refusal is the end of its rung.
    pub(super) fn begin_power_cycle(&mut self, now: Moment, endpoint: &Endpoint, out: &mut Outcome) {
        let begun = self.port_to_cycle(endpoint).and_then(|power| {
            let wall = self.epoch.plus(now.since_start());
            self.hubs.cycles.begin(now, wall, power, endpoint.clone())
        });
        let (Err(why), Some(place)) = (begun, self.places.get_mut(endpoint)) else { return };
        // The next rung, or quarantine: what follows from a refusal needs no further settling here.
        let wishes = place.life.power_cycled(now, Err(why));
        out.commands.extend(wishes.into_iter().filter_map(|wish| match wish {
            Wish::Actor(command) => Some(Command::Phone { endpoint: endpoint.clone(), command }),
            Wish::Provision | Wish::CyclePower => None,
        }));
    }

    /// The port whose power recovery may cycle for the phone at `endpoint`, as far as the port itself is concerned.
    ///
    /// # Errors
    /// Why there is none, as a phrase.
    pub(super) fn port_to_cycle(&self, endpoint: &Endpoint) -> Result<PowerPort, String> {
        let slot = self.places.get(endpoint).and_then(|place| place.slot.as_ref());
        let power = slot.and_then(|slot| self.settings.power.get(slot));
        let power = power.ok_or_else(|| "no hub port is configured for its slot".to_owned())?;
        self.hubs.may_cycle(power)?;
        self.hubs.cycles.is_free(power)?;
        Ok(power.clone())
    }

    pub(super) fn power_promised(&mut self, now: Moment, promise: PowerPromise, out: &mut Outcome) {
        match promise {
            PowerPromise::Kept { number } => {
                // It may have come back meanwhile, or be part of an incident.
                let places = &self.places;
                let waits = |at: &Endpoint| places.get(at).is_some_and(|place| place.life.awaits_power_cycle());
                self.hubs.cycles.withdraw(|_, endpoint, _| !waits(endpoint));
                for PowerPort { hub, port } in self.hubs.cycles.kept(now, number) {
                    self.hubs.set_port(hub, port, PortMode::Off, "recovery: power cycle", out);
                }
            }
            PowerPromise::Failing { why } => {
                self.hubs.cycles.failing = Some(format!("no port's power is cycled, for it cannot be promised: {why}"));
                let refusal = format!("its port's power cycle could not be promised: {why}");
                let withdrawn = self.hubs.cycles.withdraw(|_, _, _| true);
                self.refuse_power_cycles(now, withdrawn, &refusal, out);
            }
        }
    }

    fn refuse_power_cycles(&mut self, now: Moment, of: Vec<Endpoint>, why: &str, out: &mut Outcome) {
        for endpoint in of {
            self.on_place(now, &endpoint, out, |life| life.power_cycled(now, Err(why.to_owned())));
        }
    }

    pub(super) fn hub_reports(&mut self, now: Moment, hub: &HubName, event: HubEvent, out: &mut Outcome) {
        if let HubEvent::PortSet { port, mode } = &event {
            self.hubs.cycles.confirmed(&PowerPort { hub: hub.clone(), port: *port }, *mode);
        }
        let was_live = self.hubs.is_live(hub);
        self.hubs.report(now, hub, event, out);
        if !was_live && self.hubs.is_live(hub) {
            let orders = self.hubs.cycles.hub_is_back(now, hub);
            self.order_power_back(orders, out);
        }
    }

    /// The operator's word about a port counts more than recovery's.
    pub(super) fn operator_sets_port(
        &mut self,
        now: Moment,
        hub: HubName,
        port: HubPort,
        mode: PortMode,
        out: &mut Outcome,
    ) {
        self.hubs.cycles.overruled(now, &PowerPort { hub: hub.clone(), port }, mode);
        self.hubs.set_port(hub, port, mode, "the operator", out);
    }

    pub(super) fn advance_power_cycles(&mut self, now: Moment, out: &mut Outcome) {
        let late = self.hubs.cycles.withdraw(|_, _, until| until <= now);
        let why = format!("its port's power cycle could not be promised within {} s", PROMISE_MAX.as_secs());
        self.refuse_power_cycles(now, late, &why, out);
        let orders = self.hubs.cycles.due(now);
        self.order_power_back(orders, out);
    }

    /// A hub that does not answer is told once it does.
    fn order_power_back(&mut self, orders: Vec<(PowerPort, PortMode)>, out: &mut Outcome) {
        for (PowerPort { hub, port }, mode) in orders {
            if self.hubs.is_live(&hub) {
                self.hubs.set_port(hub, port, mode, "recovery: power back", out);
            }
        }
    }

    /// The wall clock was set: what the ledger says of time must be said anew.
    pub(super) fn clock_set(&mut self, epoch: UnixMillis) {
        self.epoch = epoch;
        self.hubs.cycles.changed |= !self.hubs.cycles.spent.is_empty();
    }

    /// Has the ledger promised and shows what is wrong, where either changed.
    pub(super) fn keep_power_ledger(&mut self, now: Moment, out: &mut Outcome) {
        if let Some((number, ledger)) = self.hubs.cycles.ledger(now, self.epoch) {
            out.commands.push(Command::PromisePower { number, ledger });
        }
        let trouble = self.hubs.cycles.trouble();
        if self.troubles.get("power").map(|known| &known.why) != trouble.as_ref() {
            self.trouble(now, "power", trouble);
            self.revision += 1;
        }
    }
}
