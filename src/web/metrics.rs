//! The rack as Prometheus reads it. A value that is not known, or too old to be believed, is left out: a gap is honest, a zero
//! is not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::Counter;
use crate::clock::UnixMillis;
use crate::rack::Snapshot;
use crate::rack::snapshot::{
    HostHealth, HubState, LineState, MqttState, PhoneState, RolloutState, SettingState, UpkeepView,
};

/// The text format's own content type.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A metric's name, and what Prometheus tells of it. Those that only rise end in `_total`, all others are gauges.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Family(&'static str, &'static str);

const INFO: Family = Family("farmhand_info", "The daemon, always 1.");
const START_TIME: Family = Family("farmhand_start_time_seconds", "When the daemon started, since 1970.");
const PHONES: Family = Family("farmhand_phones", "Phones by state.");
const LINES: Family = Family("farmhand_lines", "Central lines by state.");
const ROLLOUTS: Family = Family("farmhand_rollouts", "Rollouts by state.");
const TROUBLE: Family = Family("farmhand_trouble", "A part of the daemon that does not get on, always 1.");
const LINE_RESTARTS: Family =
    Family("farmhand_line_restarts", "How often a line's actor was stuck and got a successor, since the start.");
const BATTERY: Family = Family("farmhand_phone_battery_ratio", "A phone's battery, 0 to 1, as last read.");
const BATTERY_CELSIUS: Family =
    Family("farmhand_phone_battery_celsius", "A phone's battery temperature, as last read.");
const BATTERY_HEALTH: Family = Family(
    "farmhand_phone_battery_health",
    "What a phone thinks of its battery, always 1; absent where it does not say.",
);
const BATTERY_AMPERES: Family = Family(
    "farmhand_phone_battery_amperes",
    "Current into a phone's battery, negative while it runs down, as last read.",
);
const STORAGE_FREE: Family = Family("farmhand_phone_storage_free_bytes", "Room left for a phone's apps, as last read.");
const STORAGE: Family = Family("farmhand_phone_storage_bytes", "Size of the partition of a phone's apps.");
const PHONE_START: Family =
    Family("farmhand_phone_start_time_seconds", "When a phone's kernel started, since 1970, exact to 10 s.");
const HELD: Family = Family("farmhand_phone_held", "Somebody has the phone to himself, by what he does; always 1.");
const ALIVE: Family = Family("farmhand_phone_alive_time_seconds", "When a phone last answered the probe, since 1970.");
const PROBES: Family =
    Family("farmhand_phone_probes_total", "End-to-end probes of a phone since the start, by result.");
const READINGS: Family =
    Family("farmhand_phone_readings_total", "Readings of a phone's profile since the start, by result.");
const SETTINGS: Family = Family(
    "farmhand_phone_settings",
    "What the owner wants to be so on a phone, by what became of it at the last look.",
);
const DRIFTS: Family = Family(
    "farmhand_phone_setting_drifts_total",
    "How often a setting of a phone was lost since the start, by whether a restart of the phone lay between.",
);
const HUB_LIVE: Family = Family("farmhand_hub_live", "Whether a hub's readings can be believed.");
const HUB_CELSIUS: Family = Family("farmhand_hub_celsius", "A live hub's temperature.");
const HUB_VOLTS: Family = Family("farmhand_hub_supply_volts", "A live hub's 5 V rail.");
const PORT_AMPERES: Family = Family("farmhand_hub_port_amperes", "What a port of a live hub feeds.");
const CPU: Family = Family("farmhand_host_cpu_ratio", "Busy share of all processors, 0 to 1.");
const MEMORY_USED: Family = Family("farmhand_host_memory_used_bytes", "Memory in use.");
const MEMORY: Family = Family("farmhand_host_memory_bytes", "Memory there is.");
const DISK_FREE: Family = Family("farmhand_host_disk_free_bytes", "Room left on the state directory's file system.");
const DISK: Family = Family("farmhand_host_disk_bytes", "Size of the state directory's file system.");
const HOST_CELSIUS: Family = Family("farmhand_host_celsius", "The hottest of the host's sensors.");
const MQTT: Family = Family("farmhand_mqtt_connected", "Whether the configured broker takes what is published.");
const ALERTS: Family = Family("farmhand_alerts", "Alerts that stand, by code.");

pub(super) async fn metrics(State(counter): State<Counter>) -> Response {
    let now = counter.desk.snapshots.borrow().clone();
    ([(CONTENT_TYPE, TEXT_FORMAT)], page(&now)).into_response()
}

/// The whole page, family by family.
fn page(rack: &Snapshot) -> String {
    let mut page = Page::default();
    page.add(INFO, &[("rack", &rack.daemon.rack), ("version", &rack.daemon.version)], 1.0);
    page.add(START_TIME, &[], seconds(rack.daemon.started));
    for state in PhoneState::ALL {
        let count = rack.phones.iter().filter(|phone| phone.state == state).count();
        page.add(PHONES, &[("state", state.as_str())], count as f64);
    }
    for state in LineState::ALL {
        let count = rack.phones.iter().filter(|phone| phone.line.state == state).count();
        page.add(LINES, &[("state", state.as_str())], count as f64);
    }
    for state in RolloutState::ALL {
        let count = rack.rollouts.iter().filter(|rollout| rollout.state == state).count();
        page.add(ROLLOUTS, &[("state", state.as_str())], count as f64);
    }
    for trouble in &rack.troubles {
        page.add(TROUBLE, &[("part", &trouble.part)], 1.0);
    }
    let mut alerts = BTreeMap::from([("line.forced_offline", 0), ("incident", 0)]);
    for alert in &rack.alerts {
        *alerts.entry(alert.code.as_str()).or_default() += 1;
    }
    for (code, count) in alerts {
        page.add(ALERTS, &[("code", code)], f64::from(count));
    }
    page.phones(rack);
    page.hubs(rack);
    if let Some(host) = &rack.host {
        page.host(host);
    }
    if rack.mqtt.state != MqttState::Off {
        page.add(MQTT, &[], truth(rack.mqtt.state == MqttState::Connected));
    }
    page.text()
}

/// Lines by family: the format wants each family's lines together, in whatever order they are found.
#[derive(Default)]
struct Page(BTreeMap<Family, Vec<String>>);

impl Page {
    fn add(&mut self, family: Family, labels: &[(&str, &str)], value: f64) {
        let labels = labels.iter().map(|(key, text)| format!("{key}=\"{}\"", escaped(text))).collect::<Vec<_>>();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        self.0.entry(family).or_default().push(format!("{}{labels} {value}", family.0));
    }

    fn add_known(&mut self, family: Family, labels: &[(&str, &str)], value: Option<f64>) {
        if let Some(value) = value {
            self.add(family, labels, value);
        }
    }

    fn phones(&mut self, rack: &Snapshot) {
        for phone in &rack.phones {
            let slot = phone.slot.as_ref().map_or("", |slot| slot.as_str());
            let labels = [("phone", phone.id.as_str()), ("slot", slot)];
            let battery = phone.battery.as_ref();
            self.add_known(BATTERY, &labels, battery.map(|battery| f64::from(battery.level_percent) / 100.0));
            self.add_known(
                BATTERY_CELSIUS,
                &labels,
                battery.and_then(|battery| battery.temperature_celsius).map(f64::from),
            );
            if let Some(health) = battery.and_then(|battery| battery.health) {
                self.add(BATTERY_HEALTH, &[labels[0], labels[1], ("health", health.as_str())], 1.0);
            }
            let amperes =
                battery.and_then(|battery| battery.current_milliamps).map(|current| f64::from(current) / 1000.0);
            self.add_known(BATTERY_AMPERES, &labels, amperes);
            let storage = phone.device.storage.as_ref();
            self.add_known(STORAGE_FREE, &labels, storage.map(|storage| storage.free_bytes as f64));
            self.add_known(STORAGE, &labels, storage.map(|storage| storage.total_bytes as f64));
            self.add_known(PHONE_START, &labels, phone.device.started.map(seconds));
            for tool in phone.leases.iter().map(|lease| lease.tool).collect::<BTreeSet<_>>() {
                self.add(HELD, &[labels[0], labels[1], ("tool", tool.as_str())], 1.0);
            }
            self.add(LINE_RESTARTS, &labels, f64::from(phone.line.restarts));
            self.add_known(ALIVE, &labels, phone.last_alive.map(seconds));
            self.upkeep(&labels, &phone.upkeep);
            for (family, outcomes) in [(PROBES, phone.answers.probes), (READINGS, phone.answers.readings)] {
                for (result, count) in [("answered", outcomes.answered), ("failed", outcomes.failed)] {
                    self.add(family, &[labels[0], labels[1], ("result", result)], count as f64);
                }
            }
        }
    }

    fn upkeep(&mut self, labels: &[(&str, &str); 2], upkeep: &UpkeepView) {
        if upkeep.looked.is_none() {
            return;
        }
        for state in SettingState::ALL {
            let count = upkeep.settings.iter().filter(|setting| setting.state == state).count();
            self.add(SETTINGS, &[labels[0], labels[1], ("state", state.as_str())], count as f64);
        }
        for setting in &upkeep.settings {
            let by_itself = setting.drifts.saturating_sub(setting.lost_by_restart);
            for (restart, count) in [("yes", setting.lost_by_restart), ("no", by_itself)] {
                let labels = [labels[0], labels[1], ("setting", setting.name.as_str()), ("restart", restart)];
                self.add(DRIFTS, &labels, f64::from(count));
            }
        }
    }

    fn hubs(&mut self, rack: &Snapshot) {
        for hub in &rack.hubs {
            let name = ("hub", hub.name.as_str());
            self.add(HUB_LIVE, &[name], truth(hub.state == HubState::Live));
            if hub.state != HubState::Live {
                continue;
            }
            self.add_known(HUB_CELSIUS, &[name], hub.temperature_celsius.map(f64::from));
            self.add_known(HUB_VOLTS, &[name], hub.supply_volts.map(f64::from));
            for port in &hub.ports {
                let slot = port.slot.as_ref().map_or("", |slot| slot.as_str());
                let labels = [name, ("port", &port.port.to_string()), ("slot", slot)];
                self.add(PORT_AMPERES, &labels, f64::from(port.current_milliamps) / 1000.0);
            }
        }
    }

    fn host(&mut self, host: &HostHealth) {
        self.add_known(CPU, &[], host.cpu_percent.map(|cpu| f64::from(cpu) / 100.0));
        self.add(MEMORY_USED, &[], host.memory_used_bytes as f64);
        self.add(MEMORY, &[], host.memory_total_bytes as f64);
        self.add_known(DISK_FREE, &[], host.disk_free_bytes.map(|bytes| bytes as f64));
        self.add_known(DISK, &[], host.disk_total_bytes.map(|bytes| bytes as f64));
        self.add_known(HOST_CELSIUS, &[], host.temperature_celsius.map(f64::from));
    }

    fn text(self) -> String {
        let mut text = String::new();
        for (Family(name, help), lines) in self.0 {
            let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{}", lines.join("\n"));
        }
        text
    }
}

fn seconds(at: UnixMillis) -> f64 {
    at.0 as f64 / 1000.0
}

fn truth(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}

/// A label's text, as the format wants it.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rack::ids::{HubName, PhoneId};
    use crate::rack::snapshot::{HubView, MqttView, Outcomes, PhoneView, SettingView};

    #[test]
    fn what_is_not_known_is_left_out() {
        let stale = HubView {
            name: HubName::new("H\"1"),
            device: "/dev/ttyUSB0".to_owned(),
            identity: None,
            state: HubState::Stale,
            why: "it does not answer".to_owned(),
            last_reading: None,
            temperature_celsius: Some(40.0),
            supply_volts: Some(5.1),
            ports: Vec::new(),
        };
        let rack = Snapshot { hubs: vec![stale], ..Snapshot::default() };
        let text = page(&rack);
        assert!(text.contains("farmhand_phones{state=\"ready\"} 0\n"), "{text}");
        assert!(text.contains("farmhand_hub_live{hub=\"H\\\"1\"} 0\n"), "{text}");
        for absent in ["farmhand_hub_celsius", "farmhand_host", "farmhand_mqtt"] {
            assert!(!text.contains(absent), "{absent} in {text}");
        }
    }

    #[test]
    fn what_only_rises_is_a_counter_of_each_result() {
        let mut phone = PhoneView::unknown(PhoneId::new("P1"));
        phone.answers.probes = Outcomes { answered: 41, failed: 1 };
        let text = page(&Snapshot { phones: vec![phone], ..Snapshot::default() });
        for line in [
            "# TYPE farmhand_phone_probes_total counter",
            "farmhand_phone_probes_total{phone=\"P1\",slot=\"\",result=\"answered\"} 41",
            "farmhand_phone_probes_total{phone=\"P1\",slot=\"\",result=\"failed\"} 1",
            "farmhand_phone_readings_total{phone=\"P1\",slot=\"\",result=\"answered\"} 0",
            "# TYPE farmhand_phones gauge",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }

    #[test]
    fn what_was_lost_on_a_phone_is_told_by_its_cause() {
        let mut phone = PhoneView::unknown(PhoneId::new("P1"));
        let autostart = SettingView {
            name: "autostart".to_owned(),
            state: SettingState::Set,
            why: "it was `ignore`".to_owned(),
            drifts: 3,
            lost_by_restart: 2,
            restarts_outlived: 0,
        };
        phone.upkeep = UpkeepView { looked: Some(UnixMillis(1)), recipes: Vec::new(), settings: vec![autostart] };
        let text = page(&Snapshot { phones: vec![phone], ..Snapshot::default() });
        for line in [
            "farmhand_phone_settings{phone=\"P1\",slot=\"\",state=\"set\"} 1",
            "farmhand_phone_settings{phone=\"P1\",slot=\"\",state=\"refused\"} 0",
            "farmhand_phone_setting_drifts_total{phone=\"P1\",slot=\"\",setting=\"autostart\",restart=\"yes\"} 2",
            "farmhand_phone_setting_drifts_total{phone=\"P1\",slot=\"\",setting=\"autostart\",restart=\"no\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }

    #[test]
    fn each_family_stands_together_below_its_help() {
        let mqtt = MqttView { state: MqttState::Away, ..MqttView::default() };
        let text = page(&Snapshot { host: Some(HostHealth::default()), mqtt, ..Snapshot::default() });
        let mut current = "";
        for line in text.lines() {
            match line.strip_prefix("# HELP ") {
                Some(help) => current = help.split(' ').next().unwrap(),
                None if line.starts_with('#') => assert!(line.contains(current), "{line}"),
                None => assert!(line.starts_with(current), "{line} below {current}"),
            }
        }
        assert!(text.contains("farmhand_mqtt_connected 0\n"));
    }
}
