//! What everyone outside the model sees of the rack: one value, made anew after each change, and the shape of the JSON API.

mod device;
mod forecast;
mod hub;
mod outbox;
mod rollout;
mod trouble;
mod upkeep;
mod usb;

use serde::{Deserialize, Serialize};

use super::ids::{Endpoint, HubName, HubPort, PhoneId, Serial, SlotName};
use super::lease::Lease;
use super::story::Traces;
use crate::clock::UnixMillis;

pub use device::{
    Answers, Battery, BatteryHealth, DeviceView, InstalledAgent, Outcomes, ScreenSize, ScreenState, Storage,
};
pub use forecast::{Forecast, ForecastPhone, LeftOut};
pub use hub::{HubPortView, HubState, HubView, PortMode};
pub use outbox::OutboxView;
pub use rollout::{RolloutPhoneState, RolloutPhoneView, RolloutState, RolloutView, WaveView};
pub use trouble::{IncidentPhone, IncidentView};
pub use upkeep::{SettingState, SettingView, UpkeepView};
pub use usb::{ControllerView, Speed, UsbView};

/// The whole rack at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Rises by one with each change; a page that has missed some sees it here.
    pub revision: u64,
    /// When the snapshot was made.
    pub at: UnixMillis,
    /// The daemon itself.
    pub daemon: DaemonView,
    /// The host's health, once measured.
    pub host: Option<HostHealth>,
    /// Every phone that is here or that the configuration expects, in the order of slots, then ids.
    pub phones: Vec<PhoneView>,
    /// Every configured hub.
    pub hubs: Vec<HubView>,
    /// Every USB controller of the host, where USB is scanned.
    #[serde(default)]
    pub controllers: Vec<ControllerView>,
    /// Rollouts, the newest first.
    pub rollouts: Vec<RolloutView>,
    /// The connection to the MQTT broker.
    pub mqtt: MqttView,
    /// What a person should see to, the newest first.
    #[serde(default)]
    pub alerts: Vec<AlertView>,
    /// Phones that failed together and wait for each other, the newest first.
    #[serde(default)]
    pub incidents: Vec<IncidentView>,
    /// What the owner has not switched on, and how to.
    pub switched_off: Vec<SwitchedOff>,
    /// Parts of the daemon itself that do not get on.
    #[serde(default)]
    pub troubles: Vec<TroubleView>,
    /// What happened to each phone; read one by one, and no part of the snapshot's JSON.
    #[serde(skip)]
    pub traces: Traces,
}

impl Snapshot {
    /// The phone that an operator calls `name`: a slot's name first, else an id.
    #[must_use]
    pub fn phone(&self, name: &str) -> Option<&PhoneView> {
        let by_slot = || self.phones.iter().find(|phone| phone.slot.as_ref().is_some_and(|slot| slot.as_str() == name));
        by_slot().or_else(|| self.phones.iter().find(|phone| phone.id.as_str() == name))
    }

    /// The hub that the configuration calls `name`.
    #[must_use]
    pub fn hub(&self, name: &str) -> Option<&HubView> {
        self.hubs.iter().find(|hub| hub.name.as_str() == name)
    }
}

/// The daemon itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DaemonView {
    /// The rack's name (`[rack] name`), also its MQTT topic and mDNS instance.
    pub rack: String,
    /// farmhand's version.
    pub version: String,
    /// When the daemon started.
    pub started: UnixMillis,
}

/// Something that happened and that a person should see to. It stands for a while, also once things go on by themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertView {
    /// A stable code for programs: `line.forced_offline`.
    pub code: String,
    /// When it happened.
    pub at: UnixMillis,
    /// Which phone it is about, if it is about one.
    pub phone: Option<PhoneId>,
    /// The slot in which that phone sits, or sat last.
    pub slot: Option<SlotName>,
    /// What happened, as a sentence.
    pub what: String,
    /// What can be done.
    pub help: String,
}

/// What a capability that is off is called, and the line of configuration that would switch it on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchedOff {
    /// What does not happen: `installing the agent`.
    pub what: String,
    /// What the owner would write: `[agent] apk = "…"`.
    pub how: String,
}

/// A part of the daemon that does not get on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TroubleView {
    /// Which: `rollouts`.
    pub part: String,
    /// What was seen, as a sentence.
    pub why: String,
    /// Since when.
    pub since: UnixMillis,
}

/// Host readings, each absent where the host cannot measure it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostHealth {
    /// When they were taken.
    pub at: UnixMillis,
    /// Share of all processors that was busy since the reading before, 0 to 100.
    pub cpu_percent: Option<f32>,
    /// Memory in use.
    pub memory_used_bytes: u64,
    /// Memory there is.
    pub memory_total_bytes: u64,
    /// Room left on the file system of the state directory.
    pub disk_free_bytes: Option<u64>,
    /// Size of that file system.
    pub disk_total_bytes: Option<u64>,
    /// The hottest of the host's sensors, in degrees Celsius.
    pub temperature_celsius: Option<f32>,
}

/// Where a phone is in its life. The order is the order of a good life; see [`crate::phone::life`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhoneState {
    /// Known, not here.
    #[default]
    Absent,
    /// Its hub says that something is plugged in, and the kernel has no device there.
    NotEnumerated,
    /// It is on USB in a mode in which nobody can speak ADB with it: fastboot, or files only.
    OtherMode,
    /// Its interface was given to another program, until somebody takes it back.
    Detached,
    /// Seen on USB or answering on its TCP address; nothing was said yet.
    Detected,
    /// Its ADB interface is being opened.
    Claiming,
    /// It wants its user to allow this host's key.
    Authorising,
    /// ADB works; its profile is being read and Android may still be starting.
    Online,
    /// The agent is being installed or verified.
    Provisioning,
    /// Everything that was configured for it is done.
    Ready,
    /// Something failed; the recovery ladder is at work.
    Recovering,
    /// The ladder is at its end; a person is needed.
    Quarantined,
}

impl PhoneState {
    /// All states, in the order of the enum.
    pub const ALL: [Self; 12] = [
        Self::Absent,
        Self::NotEnumerated,
        Self::OtherMode,
        Self::Detached,
        Self::Detected,
        Self::Claiming,
        Self::Authorising,
        Self::Online,
        Self::Provisioning,
        Self::Ready,
        Self::Recovering,
        Self::Quarantined,
    ];

    /// The word for it in JSON, topics and tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::NotEnumerated => "not_enumerated",
            Self::OtherMode => "other_mode",
            Self::Detached => "detached",
            Self::Detected => "detected",
            Self::Claiming => "claiming",
            Self::Authorising => "authorising",
            Self::Online => "online",
            Self::Provisioning => "provisioning",
            Self::Ready => "ready",
            Self::Recovering => "recovering",
            Self::Quarantined => "quarantined",
        }
    }
}

/// One phone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhoneView {
    /// Its stable name.
    pub id: PhoneId,
    /// The slot in which it sits, or in which it was last seen.
    pub slot: Option<SlotName>,
    /// Where it is reached, or was reached last.
    pub endpoint: Option<Endpoint>,
    /// The serial that it gives of itself; two phones may give the same one.
    pub serial: Option<Serial>,
    /// Where it is in its life.
    pub state: PhoneState,
    /// Why it is in that state, as a sentence for a person.
    pub why: String,
    /// Since when it is in that state.
    pub since: UnixMillis,
    /// What is being waited for, and until when.
    pub deadline: Option<DeadlineView>,
    /// `ro.product.brand`.
    pub brand: Option<String>,
    /// `ro.product.model`.
    pub model: Option<String>,
    /// `ro.build.version.sdk`.
    pub sdk: Option<u32>,
    /// What else Android tells of it.
    #[serde(default)]
    pub device: DeviceView,
    /// Its battery, as last read.
    pub battery: Option<Battery>,
    /// The agent that is installed on it.
    pub agent: Option<InstalledAgent>,
    /// What the owner wants to be so on it, beside that.
    #[serde(default, skip_serializing_if = "UpkeepView::is_empty")]
    pub upkeep: UpkeepView,
    /// Its line to the central server.
    pub line: LineView,
    /// When the end-to-end probe was last answered.
    pub last_alive: Option<UnixMillis>,
    /// How often it answered farmhand's own questions, and how often not.
    #[serde(default)]
    pub answers: Answers,
    /// The power hub's port that feeds it.
    pub power: Option<PowerPort>,
    /// What the bus shows of it, while it is on USB.
    #[serde(default)]
    pub usb: Option<UsbView>,
    /// Who has it to himself, a person's hold first.
    #[serde(default)]
    pub leases: Vec<Lease>,
}

impl PhoneView {
    /// A phone of which nothing is known but its name: absent, in no slot.
    #[must_use]
    pub fn unknown(id: PhoneId) -> Self {
        Self {
            id,
            slot: None,
            endpoint: None,
            serial: None,
            state: PhoneState::Absent,
            why: String::new(),
            since: UnixMillis(0),
            deadline: None,
            brand: None,
            model: None,
            sdk: None,
            device: DeviceView::default(),
            battery: None,
            agent: None,
            upkeep: UpkeepView::default(),
            line: LineView::default(),
            last_alive: None,
            answers: Answers::default(),
            power: None,
            usb: None,
            leases: Vec::new(),
        }
    }
}

/// A wait, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadlineView {
    /// When the wait ends.
    pub at: UnixMillis,
    /// What is waited for.
    pub why: String,
}

/// The state of a phone's line to the central server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineState {
    /// Nothing is to be connected: the phone is not here, or no server is configured.
    #[default]
    Closed,
    /// The phone has no credential under the configured kind of identity.
    NeedsIdentity,
    /// A connection is being made or authenticated.
    Connecting,
    /// The server knows the phone and its heartbeat is kept.
    Registered,
    /// The attempt failed; the next one is scheduled.
    Waiting,
}

impl LineState {
    /// All of them, in the order of the enum.
    pub const ALL: [Self; 5] = [Self::Closed, Self::NeedsIdentity, Self::Connecting, Self::Registered, Self::Waiting];

    /// The word for it in JSON and in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::NeedsIdentity => "needs_identity",
            Self::Connecting => "connecting",
            Self::Registered => "registered",
            Self::Waiting => "waiting",
        }
    }
}

/// A phone's line to the central server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LineView {
    /// Its state.
    pub state: LineState,
    /// Why, as a sentence.
    pub why: String,
    /// Since when.
    pub since: UnixMillis,
    /// When the server last acknowledged a heartbeat.
    pub last_heartbeat: Option<UnixMillis>,
    /// What the line waits for, and until when: the next attempt, an answer, the next heartbeat.
    pub deadline: Option<DeadlineView>,
    /// How often its actor was stuck and got a successor since the daemon started.
    #[serde(default)]
    pub restarts: u32,
    /// Since when the agent on the phone speaks by it; `None` while the rack speaks alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_since: Option<UnixMillis>,
    /// What is stored of its agent's notices.
    #[serde(default, skip_serializing_if = "OutboxView::is_empty")]
    pub outbox: OutboxView,
}

/// A port of a power hub, by names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PowerPort {
    /// The hub.
    pub hub: HubName,
    /// Its port.
    pub port: HubPort,
}

/// The connection to the MQTT broker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MqttView {
    /// Whether there is a broker to talk to.
    pub state: MqttState,
    /// Why, as a sentence.
    pub why: String,
    /// Since when: since it was first seen to be so.
    #[serde(default)]
    pub since: UnixMillis,
}

/// Whether there is a broker to talk to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MqttState {
    /// No broker is configured.
    #[default]
    Off,
    /// Connected.
    Connected,
    /// There is a connection, and the broker acknowledges nothing of what is published.
    Unacknowledged,
    /// The broker is away; the next attempt is scheduled.
    Away,
}

impl MqttState {
    /// All of them, in the order of the enum.
    pub const ALL: [Self; 4] = [Self::Off, Self::Connected, Self::Unacknowledged, Self::Away];

    /// The word for it in JSON and in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Connected => "connected",
            Self::Unacknowledged => "unacknowledged",
            Self::Away => "away",
        }
    }
}
