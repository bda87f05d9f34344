//! The rack as one device of Home Assistant: a single message tells of all its sensors.
//!
//! Facts: the device discovery of Home Assistant's MQTT integration. `default_entity_id` names the entities; its older
//! sibling `object_id` is being removed, so it is not used.

use std::collections::BTreeMap;

use serde::Serialize;

use super::payload::json;
use super::topics::Topics;

/// The payload of the discovery topic.
pub(super) fn device(topics: &Topics, rack: &str, version: &str) -> Vec<u8> {
    let id = topics.device_id();
    // Home Assistant wants entity ids in lower case, with `_` only.
    let entity = id.to_ascii_lowercase().replace('-', "_");
    let components = SENSORS.iter().map(|sensor| (sensor.key, component(sensor, id, &entity))).collect();
    json(&Device {
        device: About {
            identifiers: [id],
            name: format!("farmhand {rack}"),
            manufacturer: "farmhand",
            model: "phone rack",
            sw_version: version,
        },
        origin: Origin { name: "farmhand", sw_version: version },
        availability_topic: topics.status(),
        state_topic: topics.health(),
        qos: 1,
        components,
    })
}

/// One sensor of the device; `at` is its place in the JSON of `health`.
struct Sensor {
    key: &'static str,
    name: &'static str,
    at: &'static str,
    class: Option<&'static str>,
    unit: Option<&'static str>,
    shown_in: Option<&'static str>,
}

const fn count(key: &'static str, name: &'static str, at: &'static str, unit: &'static str) -> Sensor {
    Sensor { key, name, at, class: None, unit: Some(unit), shown_in: None }
}

const fn bytes(key: &'static str, name: &'static str, at: &'static str) -> Sensor {
    Sensor { key, name, at, class: Some("data_size"), unit: Some("B"), shown_in: Some("GB") }
}

const SENSORS: [Sensor; 10] = [
    count("phones_ready", "Phones ready", "phones.ready", "phones"),
    count("phones_total", "Phones", "phones.total", "phones"),
    count("phones_absent", "Phones absent", "phones.absent", "phones"),
    count("phones_quarantined", "Phones quarantined", "phones.quarantined", "phones"),
    count("hubs_stale", "Hubs without readings", "hubs.stale", "hubs"),
    count("alerts", "Alerts", "alerts.total", "alerts"),
    count("cpu", "CPU", "host.cpu_percent", "%"),
    bytes("memory_used", "Memory used", "host.memory_used_bytes"),
    bytes("disk_free", "Disk free", "host.disk_free_bytes"),
    Sensor {
        key: "temperature",
        name: "Temperature",
        at: "host.temperature_celsius",
        class: Some("temperature"),
        unit: Some("°C"),
        shown_in: None,
    },
];

fn component(sensor: &Sensor, id: &str, entity: &str) -> Component {
    Component {
        platform: "sensor",
        name: sensor.name,
        unique_id: format!("{id}_{}", sensor.key),
        default_entity_id: format!("sensor.{entity}_{}", sensor.key),
        value_template: format!("{{{{ value_json.{} }}}}", sensor.at),
        state_class: "measurement",
        device_class: sensor.class,
        unit_of_measurement: sensor.unit,
        suggested_unit_of_measurement: sensor.shown_in,
    }
}

#[derive(Serialize)]
struct Device<'a> {
    device: About<'a>,
    origin: Origin<'a>,
    availability_topic: String,
    state_topic: String,
    qos: u8,
    components: BTreeMap<&'static str, Component>,
}

#[derive(Serialize)]
struct About<'a> {
    identifiers: [&'a str; 1],
    name: String,
    manufacturer: &'static str,
    model: &'static str,
    sw_version: &'a str,
}

#[derive(Serialize)]
struct Origin<'a> {
    name: &'static str,
    sw_version: &'a str,
}

#[derive(Serialize)]
struct Component {
    platform: &'static str,
    name: &'static str,
    unique_id: String,
    default_entity_id: String,
    value_template: String,
    state_class: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_class: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit_of_measurement: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suggested_unit_of_measurement: Option<&'static str>,
}
