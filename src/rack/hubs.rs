//! The power hubs as the model knows them; what recovery does with their ports is in [`power`](super::power).

use std::collections::BTreeMap;

use super::event::{Command, HubEvent, HubReading};
use super::ids::{HubName, HubPort};
use super::power::{PowerCycles, PowerLedger};
use super::request::Refusal;
use super::snapshot::{HubState, PortMode, PowerPort};
use super::{Change, Outcome, Settings};
use crate::clock::{Moment, UnixMillis};

/// All hubs.
#[derive(Debug)]
pub(super) struct Hubs {
    pub(super) by_name: BTreeMap<HubName, Hub>,
    pub(super) cycles: PowerCycles,
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
    /// The hubs of the configuration, and what an earlier daemon has promised of their ports; `wall` is the wall time of `now`.
    pub(super) fn new(settings: &Settings, promised: PowerLedger, wall: UnixMillis, now: Moment) -> Self {
        let hub = |device: &String| Hub {
            device: device.clone(),
            state: HubState::Stale,
            why: "it has not answered yet".to_owned(),
            reading: None,
            last_reading: None,
        };
        let by_name: BTreeMap<HubName, Hub> =
            settings.hubs.iter().map(|(name, device)| (name.clone(), hub(device))).collect();
        let cycles = PowerCycles::restore(promised, |name| by_name.contains_key(name), wall, now);
        Self { by_name, cycles }
    }

    /// Whether the hub answers.
    pub(super) fn is_live(&self, name: &HubName) -> bool {
        self.by_name.get(name).is_some_and(|hub| hub.state == HubState::Live)
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

    /// Orders a mode, without asking the budget.
    pub(super) fn set_port(&mut self, hub: HubName, port: HubPort, mode: PortMode, why: &str, out: &mut Outcome) {
        if !self.by_name.contains_key(&hub) {
            return;
        }
        out.changes.push(Change::PortSwitched { hub: hub.clone(), port, mode, why: why.to_owned() });
        out.commands.push(Command::SetPort { hub, port, mode });
    }

    /// Whether recovery may cycle the power of this port, as far as its hub is concerned: what is off is the operator's affair.
    pub(super) fn may_cycle(&self, PowerPort { hub: name, port }: &PowerPort) -> Result<(), String> {
        let Some(hub) = self.by_name.get(name).filter(|hub| hub.state == HubState::Live) else {
            return Err(format!("hub {name} does not answer"));
        };
        let mut ports = hub.reading.iter().flat_map(|reading| &reading.ports);
        if ports.any(|seen| seen.port == *port && seen.mode == PortMode::Off) {
            return Err(format!("port {port} of hub {name} is off already, and not by recovery"));
        }
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
