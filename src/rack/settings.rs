//! What the model needs to know of the configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::ids::{Endpoint, HubName, HubPort, Label, SlotName};
use super::snapshot::{PowerPort, SwitchedOff};
use crate::config::{Config, Credential, Relay, Rung, Upkeep};
use crate::phone::WantedAgent;
use crate::phone::life::AgentPolicy;

/// What the model needs to know of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The rack's name.
    pub rack: String,
    /// The owner's slots by endpoint.
    pub slots: BTreeMap<Endpoint, SlotName>,
    /// The order in which slots are shown.
    pub slot_order: Vec<SlotName>,
    /// The owner's labels of each slot.
    pub labels: BTreeMap<SlotName, BTreeSet<Label>>,
    /// The hub port that feeds each slot.
    pub power: BTreeMap<SlotName, PowerPort>,
    /// The hubs, with their serial devices.
    pub hubs: Vec<(HubName, String)>,
    /// What a phone registers as; `None` without a central server.
    pub credential: Option<Credential>,
    /// Which phones' agents speak through the cable.
    pub relay: Relay,
    /// How old the last answered probe of an open line may be.
    pub grace: Duration,
    /// The checked agent that phones without it get; the model is told of another one. None is installed without it.
    pub agent: Option<WantedAgent>,
    /// The longest that one install may take.
    pub install_timeout: Duration,
    /// Between two looks at what the owner wants to be so on each phone; `None` if nothing is.
    pub upkeep: Option<Duration>,
    /// How far recovery may go.
    pub max_rung: Rung,
    /// What the owner has not switched on.
    pub switched_off: Vec<SwitchedOff>,
}

impl Settings {
    /// Whether the agent is installed where it is missing.
    #[must_use]
    pub const fn agent_policy(&self) -> AgentPolicy {
        if self.agent.is_some() { AgentPolicy::InstallWhereMissing } else { AgentPolicy::Observe }
    }

    /// The slot that hangs on a hub's port.
    #[must_use]
    pub fn slot_on(&self, hub: &HubName, port: HubPort) -> Option<&SlotName> {
        self.power.iter().find(|(_, power)| power.hub == *hub && power.port == port).map(|(slot, _)| slot)
    }
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        let power = config
            .slots
            .iter()
            .filter_map(|slot| {
                let (hub, port) = slot.power.clone()?;
                Some((slot.name.clone(), PowerPort { hub, port }))
            })
            .collect();
        Self {
            rack: config.rack_name.clone(),
            slots: config.slots.iter().map(|slot| (slot.endpoint.clone(), slot.name.clone())).collect(),
            slot_order: config.slots.iter().map(|slot| slot.name.clone()).collect(),
            labels: config.slots.iter().map(|slot| (slot.name.clone(), slot.labels.clone())).collect(),
            power,
            hubs: config.hubs.iter().map(|hub| (hub.name.clone(), hub.device.display().to_string())).collect(),
            credential: config.central.as_ref().map(|central| central.identity.credential.clone()),
            relay: config.central.as_ref().map(|central| central.relay.clone()).unwrap_or_default(),
            grace: config.central.as_ref().map_or(Duration::from_secs(90), |central| central.grace),
            agent: None,
            install_timeout: config.rollout.install_timeout,
            upkeep: upkeep(config).map(|upkeep| upkeep.every),
            max_rung: config.recovery.max_rung,
            switched_off: switched_off(config),
        }
    }
}

fn upkeep(config: &Config) -> Option<&Upkeep> {
    config.agent.as_ref().map(|agent| &agent.upkeep).filter(|upkeep| !upkeep.is_nothing())
}

fn switched_off(config: &Config) -> Vec<SwitchedOff> {
    let mut off = Vec::new();
    let mut say = |what: &str, how: &str| off.push(SwitchedOff { what: what.to_owned(), how: how.to_owned() });
    if config.agent.as_ref().is_none_or(|agent| agent.apk.is_none()) {
        say("installing the agent", "[agent] package = \"…\", apk = \"/path/agent.apk\"");
    }
    if upkeep(config).is_none() {
        say(
            "keeping the agent's permissions, its exemption from saving power, and that it runs",
            "[agent] permissions = […], battery_exempt = true, start = \"launcher\"",
        );
    }
    if config.central.is_none() {
        say("registering phones with a central server", "[central] server = \"host:9200\"");
    }
    if config.mqtt.is_none() {
        say("reporting over MQTT", "[mqtt] broker = \"host:1883\"");
    }
    if config.hubs.is_empty() {
        say("reading and switching power hubs", "[[hub]] name = \"H1\", device = \"/dev/serial/by-id/…\"");
    }
    match config.recovery.max_rung {
        Rung::Reopen => say(
            "resetting, restarting and power-cycling phones that hang",
            "[recovery] max_rung = \"reset-usb\", \"reboot\" or \"cycle-power\"",
        ),
        Rung::ResetUsb => {
            say("restarting and power-cycling phones that hang", "[recovery] max_rung = \"reboot\" or \"cycle-power\"");
        }
        Rung::Reboot => say("power-cycling phones that hang", "[recovery] max_rung = \"cycle-power\""),
        Rung::CyclePower => {}
    }
    off
}
