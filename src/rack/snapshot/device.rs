//! What Android tells of a handset. What it does not tell is absent, never guessed.

use serde::{Deserialize, Serialize};

use crate::clock::UnixMillis;
use crate::rack::ids::{PackageName, VersionCode};

/// A handset, beside what [`super::PhoneView`] says of it, as last read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceView {
    /// Android's version as people call it (`ro.build.version.release`): `14`.
    pub android: Option<String>,
    /// The build that its maker shipped (`ro.build.display.id`).
    pub build: Option<String>,
    /// The instruction set that it prefers (`ro.product.cpu.abi`): `arm64-v8a`.
    pub abi: Option<String>,
    /// Its first IMEI, where it tells it to its shell.
    pub imei: Option<String>,
    /// `android_id` of the shell's user, asked only where there is no IMEI.
    pub android_id: Option<String>,
    /// The partition of apps and their data.
    pub storage: Option<Storage>,
    /// Its screen's size, as apps see it.
    pub screen_size: Option<ScreenSize>,
    /// Its screen's density, as apps see it, in dots an inch.
    pub screen_density_dpi: Option<u32>,
    /// Whether its screen is on.
    pub screen: Option<ScreenState>,
    /// When its kernel started; exact to 10 s.
    pub started: Option<UnixMillis>,
    /// When all of this was read.
    pub read: Option<UnixMillis>,
}

/// What became of farmhand's own questions to a phone, counted since the daemon started. A question that ended with its connection
/// counts on neither side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answers {
    /// End-to-end probes.
    pub probes: Outcomes,
    /// Readings of its profile, a dozen questions each.
    pub readings: Outcomes,
}

/// How often it went well and how often not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes {
    /// It was answered.
    pub answered: u64,
    /// It was not, or not in time.
    pub failed: u64,
}

/// A battery as Android reports it (`dumpsys battery`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Battery {
    /// 0 to 100.
    pub level_percent: u8,
    /// In degrees Celsius; Android gives tenths.
    pub temperature_celsius: Option<f32>,
    /// In millivolt.
    pub voltage_millivolts: Option<u32>,
    /// Into the battery, in milliampere; negative while it runs down. Many phones keep it from their shell.
    #[serde(default)]
    pub current_milliamps: Option<i32>,
    /// What the phone thinks of it.
    #[serde(default)]
    pub health: Option<BatteryHealth>,
    /// Whether it is being charged or full.
    pub charging: bool,
}

/// What a phone thinks of its battery (`BatteryManager.BATTERY_HEALTH_*`); a health that it does not know is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatteryHealth {
    /// Nothing is wrong with it.
    Good,
    /// It is too hot.
    Overheat,
    /// It is at its end.
    Dead,
    /// Its voltage is too high.
    OverVoltage,
    /// It has failed, and the phone does not say how.
    Failure,
    /// It is too cold.
    Cold,
}

impl BatteryHealth {
    /// All of them, in Android's order.
    pub const ALL: [Self; 6] = [Self::Good, Self::Overheat, Self::Dead, Self::OverVoltage, Self::Failure, Self::Cold];

    /// The word for it in JSON and in labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Overheat => "overheat",
            Self::Dead => "dead",
            Self::OverVoltage => "over_voltage",
            Self::Failure => "failure",
            Self::Cold => "cold",
        }
    }
}

/// Room on a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storage {
    /// What an app may still use.
    pub free_bytes: u64,
    /// All of it.
    pub total_bytes: u64,
}

/// A screen's size in points, upright.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScreenSize {
    /// From left to right.
    pub width: u32,
    /// From top to bottom.
    pub height: u32,
}

/// Whether a screen is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScreenState {
    /// It shines, or shows a screen saver.
    On,
    /// It is dark.
    Off,
    /// It shows the little that an always-on display shows.
    Dozing,
}

impl ScreenState {
    /// The word for it in JSON and in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Dozing => "dozing",
        }
    }
}

/// The agent's package as the phone's package manager reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledAgent {
    /// Its package.
    pub package: PackageName,
    /// `versionCode`.
    pub version_code: VersionCode,
    /// `versionName`.
    pub version_name: String,
}
