//! The power hubs as the model knows them, and the rack's budget for switching ports.
//!
//! Invariant: recovery never switches more than [`CYCLES_MAX`] ports off within [`CYCLES_WINDOW`] (`tests/sim`): a fault of the
//! hub or of farmhand must not take the rack's phones away one by one.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::event::{Command, HubEvent, HubReading};
use super::ids::{HubName, HubPort};
use super::request::Refusal;
use super::snapshot::{HubState, PortMode, PowerPort};
use super::{Change, Outcome, Settings};
use crate::clock::Moment;

/// The most ports that recovery switches off within [`CYCLES_WINDOW`].
pub const CYCLES_MAX: usize = 4;
/// The window of [`CYCLES_MAX`].
pub const CYCLES_WINDOW: Duration = Duration::from_secs(10 * 60);

/// All hubs.
#[derive(Debug)]
pub(super) struct Hubs {
    pub(super) by_name: BTreeMap<HubName, Hub>,
    cycles: VecDeque<Moment>,
}

/// One hub.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) device: String,
    pub(super) state: HubState,
    pub(super) why: String,
    pub(super) reading: Option<HubReading>,
    pub(super) last_reading: Option<Moment>,
}

impl Hubs {
    pub(super) fn new(settings: &Settings) -> Self {
        let hub = |device: &String| Hub {
            device: device.clone(),
            state: HubState::Stale,
            why: "it has not answered yet".to_owned(),
            reading: None,
            last_reading: None,
        };
        let by_name = settings.hubs.iter().map(|(name, device)| (name.clone(), hub(device))).collect();
        Self { by_name, cycles: VecDeque::new() }
    }

    pub(super) fn report(&mut self, now: Moment, name: &HubName, event: HubEvent, out: &mut Outcome) {
        let Some(hub) = self.by_name.get_mut(name) else { return };
        match event {
            HubEvent::Reading(reading) => {
                hub.reading = Some(reading);
                hub.last_reading = Some(now);
                hub.enter(name, HubState::Live, "it answers", out);
            }
            HubEvent::Stale { why } => hub.enter(name, HubState::Stale, &why, out),
            HubEvent::PortSet { port, mode } => {
                if let Some(reading) = &mut hub.reading
                    && let Some(seen) = reading.ports.iter_mut().find(|seen| seen.port == port)
                {
                    seen.mode = mode;
                }
            }
            HubEvent::PortRefused { port, why } => hub.why = format!("port {port} was not switched: {why}"),
        }
    }

    /// Orders a mode, without asking the budget: the operator's word counts.
    pub(super) fn set_port(&mut self, hub: HubName, port: HubPort, mode: PortMode, why: &str, out: &mut Outcome) {
        if !self.by_name.contains_key(&hub) {
            return;
        }
        out.changes.push(Change::PortSwitched { hub: hub.clone(), port, mode, why: why.to_owned() });
        out.commands.push(Command::SetPort { hub, port, mode });
    }

    /// Switches a port off for recovery, if the rack's budget allows.
    pub(super) fn cycle(&mut self, now: Moment, power: PowerPort, out: &mut Outcome) -> Result<(), String> {
        while self.cycles.front().is_some_and(|at| now.since(*at) >= CYCLES_WINDOW) {
            self.cycles.pop_front();
        }
        if self.cycles.len() >= CYCLES_MAX {
            let minutes = CYCLES_WINDOW.as_secs() / 60;
            return Err(format!("the rack's budget of {CYCLES_MAX} power cycles in {minutes} min is spent"));
        }
        if self.by_name.get(&power.hub).is_none_or(|hub| hub.state == HubState::Stale) {
            return Err(format!("hub {} does not answer", power.hub));
        }
        self.cycles.push_back(now);
        self.set_port(power.hub, power.port, PortMode::Off, "recovery: power cycle", out);
        Ok(())
    }

    /// Whether an operator's order makes sense.
    pub(super) fn check(&self, name: &HubName, port: HubPort) -> Result<(), Refusal> {
        let refuse =
            |code: &str, what: String, help: Option<String>| Err(Refusal { code: code.to_owned(), what, help });
        let Some(hub) = self.by_name.get(name) else {
            let names: Vec<_> = self.by_name.keys().map(HubName::as_str).collect();
            let help = if names.is_empty() {
                "no [[hub]] is configured".to_owned()
            } else {
                format!("hubs: {}", names.join(", "))
            };
            return refuse("hub.unknown", format!("there is no hub {name}"), Some(help));
        };
        let Some(reading) = &hub.reading else {
            return refuse("hub.stale", format!("hub {name} has not answered yet: {}", hub.why), None);
        };
        if !reading.ports.iter().any(|seen| seen.port == port) {
            let ports = reading.ports.len();
            return refuse("hub.port", format!("hub {name} has no port {port}"), Some(format!("it has {ports} ports")));
        }
        Ok(())
    }
}

impl Hub {
    fn enter(&mut self, name: &HubName, state: HubState, why: &str, out: &mut Outcome) {
        if self.state != state {
            out.changes.push(Change::Hub { hub: name.clone(), state, why: why.to_owned() });
        }
        self.state = state;
        why.clone_into(&mut self.why);
    }
}
