//! The power hub: eight ports, a driver that reads it, and moods.

use std::time::Duration;

use farmhand::clock::Moment;
use farmhand::rack::Event;
use farmhand::rack::event::{HubEvent, HubReading, PortReading};
use farmhand::rack::ids::{HubName, HubPort};
use farmhand::rack::snapshot::PortMode;

use super::input::Input;
use super::{PHONES, World};

/// Readings are ten times as far apart as in life: the model makes the same of each.
const READ_EVERY: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Live,
    Silent,
    Garbage,
}

#[derive(Debug)]
pub(super) struct Hub {
    pub(super) mood: Mood,
    modes: [PortMode; PHONES],
    /// Orders go over one serial line: what was said first happens first.
    acts_until: Moment,
}

impl Hub {
    pub(super) fn new() -> Self {
        Self { mood: Mood::Live, modes: [PortMode::Sync; PHONES], acts_until: Moment::START }
    }

    /// Whether a handset in this place has power and data. Places without a port of the hub always have.
    pub(super) fn feeds(&self, place: usize) -> bool {
        self.modes.get(place).is_none_or(|mode| *mode == PortMode::Sync)
    }
}

pub(super) fn name() -> HubName {
    HubName::new("H1")
}

pub(super) fn port(place: usize) -> HubPort {
    HubPort(u8::try_from(place + 1).unwrap_or(u8::MAX))
}

impl World {
    pub(super) fn read_hub(&mut self) {
        let event = match self.hub.mood {
            Mood::Live => HubEvent::Reading(self.hub_reading()),
            Mood::Silent => HubEvent::Stale { why: "it does not answer".to_owned() },
            Mood::Garbage => HubEvent::Stale { why: "its answers cannot be read".to_owned() },
        };
        let answers = self.hub.mood == Mood::Live && self.daemon.is_some();
        let modes = self.hub.modes;
        if let Err(rule) =
            self.watch.dark.read(answers, |of| (0..PHONES).any(|at| port(at) == of && modes[at] == PortMode::Off))
        {
            self.stage.broke(rule);
        }
        self.tell_model(Event::Hub { hub: name(), event });
        self.stage.after(READ_EVERY, Input::HubReads);
        self.look_whether_well = self.is_calm();
    }

    fn hub_reading(&self) -> HubReading {
        let reading = |(place, mode): (usize, &PortMode)| PortReading {
            port: port(place),
            current_milliamps: 500,
            mode: *mode,
            attached: self.handsets.iter().any(|handset| handset.plugged == Some(place)),
        };
        HubReading {
            identity: "sim".to_owned(),
            temperature_celsius: Some(40.0),
            supply_volts: Some(5.0),
            ports: self.hub.modes.iter().enumerate().map(reading).collect(),
        }
    }

    /// The model orders a mode.
    pub(super) fn order_port(&mut self, hub: &HubName, port: HubPort, mode: PortMode) {
        let place = usize::from(port.0).wrapping_sub(1);
        if *hub != name() || place >= PHONES {
            self.stage.broke(format!("hub {hub} port {port} was ordered to {}: there is none", mode.as_str()));
            return;
        }
        let run = self.run();
        let at = self.stage.now + self.stage.chance.millis(20, 400);
        self.hub.acts_until = self.hub.acts_until.max(at);
        self.stage.at(self.hub.acts_until, Input::PortActs { run, port: place, mode });
    }

    /// The driver carries an order out, or cannot. An order that has left takes effect even if the daemon died meanwhile.
    pub(super) fn port_acts(&mut self, run: u32, place: usize, mode: PortMode) {
        let port = port(place);
        let event = if self.hub.mood == Mood::Live {
            self.hub.modes[place] = mode;
            HubEvent::PortSet { port, mode }
        } else {
            HubEvent::PortRefused { port, why: "it does not answer".to_owned() }
        };
        if run == self.run() {
            self.tell_model(Event::Hub { hub: name(), event });
        }
        let fed: Vec<usize> = self
            .handsets
            .iter()
            .filter(|handset| handset.plugged == Some(place))
            .map(|handset| handset.number)
            .collect();
        for phone in fed {
            self.stage.after(Duration::from_millis(1), Input::Bus { phone });
        }
    }
}
