//! Power hubs and their ports, as everyone outside the model sees them.

use serde::{Deserialize, Serialize};

use crate::clock::UnixMillis;
use crate::rack::ids::{HubName, HubPort, SlotName};

/// One power hub.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HubView {
    /// The owner's name for it.
    pub name: HubName,
    /// The serial device.
    pub device: String,
    /// What it says of itself (`id`), once it has answered.
    pub identity: Option<String>,
    /// Whether the readings below can be believed.
    pub state: HubState,
    /// Why, as a sentence.
    pub why: String,
    /// When it last answered.
    pub last_reading: Option<UnixMillis>,
    /// In degrees Celsius.
    pub temperature_celsius: Option<f32>,
    /// The 5 V rail.
    pub supply_volts: Option<f32>,
    /// Its ports, in order.
    pub ports: Vec<HubPortView>,
}

/// Whether a hub's readings can be believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HubState {
    /// It answers.
    Live,
    /// It has not answered for a while; its readings are old.
    #[default]
    Stale,
}

impl HubState {
    /// All of them, in the order of the enum.
    pub const ALL: [Self; 2] = [Self::Live, Self::Stale];

    /// The word for it in JSON and in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Stale => "stale",
        }
    }
}

/// One port of a power hub.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HubPortView {
    /// Its number.
    pub port: HubPort,
    /// What it feeds, as measured.
    pub current_milliamps: u32,
    /// What it does.
    pub mode: PortMode,
    /// Whether something is plugged in.
    pub attached: bool,
    /// The slot that hangs on it, by configuration.
    pub slot: Option<SlotName>,
}

/// What a hub's port does. Cambrionix-style hubs know more while they charge; see [`crate::power`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortMode {
    /// No power, no data.
    Off,
    /// Power and data.
    Sync,
    /// Power without data.
    Charge,
    /// Power only to detect a device.
    Biased,
}

impl PortMode {
    /// The word for it in JSON, in tables and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Sync => "sync",
            Self::Charge => "charge",
            Self::Biased => "biased",
        }
    }
}
