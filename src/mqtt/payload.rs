//! What the topics hold, as JSON. Every key is always there; what is not known is `null`.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::clock::UnixMillis;
use crate::rack::Snapshot;
use crate::rack::ids::{PackageName, PhoneId, Serial, SlotName, VersionCode};
use crate::rack::lease::Tool;
use crate::rack::snapshot::{AlertView, BatteryHealth, HubState, HubView, LineState, PhoneState, PhoneView};

/// The payload of `status` while the daemon is there.
pub const ONLINE: &str = "online";

/// The payload of `status` once it is not: published at a clean end, else by the broker as the last will.
pub const OFFLINE: &str = "offline";

/// The longest `why` that is published, in characters: a broker is no log.
const WHY_MAX_CHARS: usize = 500;

/// One message to the broker. All of ours are retained: who subscribes later sees the rack as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where.
    pub topic: String,
    /// What; empty removes the retained message.
    pub payload: Vec<u8>,
}

/// The payload of `health`.
#[must_use]
pub fn health(snapshot: &Snapshot) -> Vec<u8> {
    let host = snapshot.host.as_ref();
    json(&Health {
        at: snapshot.at,
        rack: &snapshot.daemon.rack,
        version: &snapshot.daemon.version,
        started: snapshot.daemon.started,
        host: Host {
            at: host.map(|host| host.at),
            cpu_percent: host.and_then(|host| host.cpu_percent),
            memory_used_bytes: host.map(|host| host.memory_used_bytes),
            memory_total_bytes: host.map(|host| host.memory_total_bytes),
            disk_free_bytes: host.and_then(|host| host.disk_free_bytes),
            disk_total_bytes: host.and_then(|host| host.disk_total_bytes),
            temperature_celsius: host.and_then(|host| host.temperature_celsius),
        },
        phones: PhoneCounts(&snapshot.phones),
        hubs: hub_counts(&snapshot.hubs),
        alerts: alerts(&snapshot.alerts),
    })
}

/// The payload of a phone's topic, as of `at`.
#[must_use]
pub fn phone(phone: &PhoneView, at: UnixMillis) -> Vec<u8> {
    json(&Phone {
        at,
        id: &phone.id,
        slot: phone.slot.as_ref(),
        serial: phone.serial.as_ref(),
        model: phone.model.as_deref(),
        android: phone.device.android.as_deref(),
        state: phone.state,
        why: shortened(&phone.why),
        since: phone.since,
        battery: phone.battery.map(|battery| Battery {
            level_percent: battery.level_percent,
            temperature_celsius: battery.temperature_celsius,
            current_milliamps: battery.current_milliamps,
            health: battery.health,
            charging: battery.charging,
        }),
        storage_free_bytes: phone.device.storage.map(|storage| storage.free_bytes),
        started: phone.device.started,
        agent: phone.agent.as_ref().map(|agent| Agent {
            package: &agent.package,
            version_code: agent.version_code,
            version_name: &agent.version_name,
        }),
        line: Line { state: phone.line.state, why: shortened(&phone.line.why) },
        last_alive: phone.last_alive,
        held: phone.leases.first().map(|lease| Held {
            who: &lease.who,
            tool: lease.tool,
            reason: shortened(&lease.reason),
            since: lease.since,
            until: lease.until,
        }),
    })
}

#[derive(Serialize)]
struct Health<'a> {
    at: UnixMillis,
    rack: &'a str,
    version: &'a str,
    started: UnixMillis,
    host: Host,
    phones: PhoneCounts<'a>,
    hubs: HubCounts,
    alerts: Alerts<'a>,
}

#[derive(Serialize)]
struct Host {
    at: Option<UnixMillis>,
    cpu_percent: Option<f32>,
    memory_used_bytes: Option<u64>,
    memory_total_bytes: Option<u64>,
    disk_free_bytes: Option<u64>,
    disk_total_bytes: Option<u64>,
    temperature_celsius: Option<f32>,
}

/// How many phones there are, in all and in each state.
struct PhoneCounts<'a>(&'a [PhoneView]);

impl Serialize for PhoneCounts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(PhoneState::ALL.len() + 1))?;
        map.serialize_entry("total", &self.0.len())?;
        for state in PhoneState::ALL {
            let count = self.0.iter().filter(|phone| phone.state == state).count();
            map.serialize_entry(state.as_str(), &count)?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct HubCounts {
    total: usize,
    live: usize,
    stale: usize,
}

#[derive(Serialize)]
struct Alerts<'a> {
    total: usize,
    newest: Option<Alert<'a>>,
}

#[derive(Serialize)]
struct Alert<'a> {
    at: UnixMillis,
    code: &'a str,
    phone: Option<&'a PhoneId>,
    slot: Option<&'a SlotName>,
    what: String,
}

/// The newest stands for all: a message must not grow with the rack.
fn alerts(alerts: &[AlertView]) -> Alerts<'_> {
    let newest = alerts.first().map(|alert| Alert {
        at: alert.at,
        code: &alert.code,
        phone: alert.phone.as_ref(),
        slot: alert.slot.as_ref(),
        what: shortened(&alert.what),
    });
    Alerts { total: alerts.len(), newest }
}

fn hub_counts(hubs: &[HubView]) -> HubCounts {
    let live = hubs.iter().filter(|hub| hub.state == HubState::Live).count();
    HubCounts { total: hubs.len(), live, stale: hubs.len() - live }
}

#[derive(Serialize)]
struct Phone<'a> {
    at: UnixMillis,
    id: &'a PhoneId,
    slot: Option<&'a SlotName>,
    serial: Option<&'a Serial>,
    model: Option<&'a str>,
    android: Option<&'a str>,
    state: PhoneState,
    why: String,
    since: UnixMillis,
    battery: Option<Battery>,
    storage_free_bytes: Option<u64>,
    started: Option<UnixMillis>,
    agent: Option<Agent<'a>>,
    line: Line,
    last_alive: Option<UnixMillis>,
    held: Option<Held<'a>>,
}

#[derive(Serialize)]
struct Battery {
    level_percent: u8,
    temperature_celsius: Option<f32>,
    current_milliamps: Option<i32>,
    health: Option<BatteryHealth>,
    charging: bool,
}

/// Who has the phone to himself: the person's hold, else whoever came first.
#[derive(Serialize)]
struct Held<'a> {
    who: &'a str,
    tool: Tool,
    reason: String,
    since: UnixMillis,
    until: UnixMillis,
}

#[derive(Serialize)]
struct Agent<'a> {
    package: &'a PackageName,
    version_code: VersionCode,
    version_name: &'a str,
}

#[derive(Serialize)]
struct Line {
    state: LineState,
    why: String,
}

fn shortened(why: &str) -> String {
    why.chars().take(WHY_MAX_CHARS).collect()
}

/// Our payloads have text keys and plain values only, which serde_json always writes.
pub(super) fn json(payload: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(payload).unwrap_or_default()
}
