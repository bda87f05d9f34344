//! `farmhand.toml`: what its keys mean once they are read, checked and completed with defaults.
//!
//! Without a configuration farmhand only observes: every section that lets it act is absent by default.
//!
//! ```text
//! farmhand.toml ─▶ section (keys, places in the text) ─▶ value (what one may be) ─▶ read, places ─▶ Config
//!                       └──────────── problem: each with line, code and help ◀────────┘
//! ```
//!
//! Invariant: a file with several problems shows all of them, in the order of its lines; only text that is not TOML hides the
//! rest (`tests::every_problem_is_shown_at_once`).
//! Invariant: no key is ignored: what no reader asked for is a problem.

#[cfg(feature = "daemon")]
mod agent_section;
#[cfg(feature = "daemon")]
mod identity;
#[cfg(feature = "daemon")]
mod places;
mod policy;
#[cfg(feature = "daemon")]
mod policy_section;
#[cfg(feature = "daemon")]
mod problem;
#[cfg(feature = "daemon")]
mod read;
#[cfg(feature = "daemon")]
mod rollout_section;
#[cfg(feature = "daemon")]
mod section;
#[cfg(feature = "daemon")]
mod show;
#[cfg(test)]
#[cfg(feature = "daemon")]
mod tests;
#[cfg(feature = "daemon")]
mod tls_section;
mod upgrades;
mod upkeep;
#[cfg(feature = "daemon")]
mod value;
mod windows;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::rack::ids::{Endpoint, HubName, HubPort, Label, PackageName, SlotName};
use crate::rack::strategy::Strategy;

#[cfg(feature = "daemon")]
pub use identity::{BadPhones, check_credential, parse_phones};
pub use policy::{Allowance, MinuteOfDay, NoHours, PeopleGroup, Policy, PolicyGroup, QuietHours, Rate};
#[cfg(feature = "daemon")]
pub use problem::{ConfigError, Invalid, Problem};
#[cfg(feature = "daemon")]
pub use read::{observing, parse, read};
pub use upgrades::{Delivery, FromCentral};
pub use upkeep::{
    BatteryUse, ClassName, HealthSign, Permission, ProcessName, SettingName, SettingValue, SettingsTable, Start, Upkeep,
};
pub use windows::{NoTime, NoWindow, Window, Windows, Zone};

/// A commented file to begin with. As it stands it switches nothing on.
pub const EXAMPLE: &str = include_str!("example.toml");

/// A configuration, and which of its keys were typed.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What it means.
    pub config: Config,
    /// The keys that were typed, as `section.key`; all others have their defaults.
    pub given: std::collections::BTreeSet<String>,
}

/// The whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The rack's name: MQTT topics, mDNS instance, page title. The host's name by default.
    pub rack_name: String,
    /// `[[slot]]`.
    pub slots: Vec<Slot>,
    /// `[[hub]]`.
    pub hubs: Vec<Hub>,
    /// `[agent]`; off by default.
    pub agent: Option<Agent>,
    /// `[central]`; off by default.
    pub central: Option<Central>,
    /// `[policy]`.
    pub policy: Policy,
    /// `[mqtt]`; off by default.
    pub mqtt: Option<Mqtt>,
    /// `[web]`; `None` after `listen = "off"`.
    pub web: Option<Web>,
    /// `[adb_server]`: where programs that use adb find the phones, beside the Unix socket.
    pub adb_server: AdbServer,
    /// `[recovery]`.
    pub recovery: Recovery,
    /// `[rollout]`.
    pub rollout: Rollout,
    /// `[usb]`: whether handsets on the host's USB are looked for at all.
    pub usb: Usb,
}

/// A place in the rack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The owner's name for it.
    pub name: SlotName,
    /// Where its phone is reached: `path = "1-2.3"` or `endpoint = "tcp:…"`.
    pub endpoint: Endpoint,
    /// The owner's words for it: rollouts choose by them.
    pub labels: BTreeSet<Label>,
    /// The power hub's port that feeds it.
    pub power: Option<(HubName, HubPort)>,
}

/// A power hub on a serial port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hub {
    /// The owner's name for it.
    pub name: HubName,
    /// The serial device, best by `/dev/serial/by-id/…`.
    pub device: PathBuf,
}

/// The agent app that every phone shall have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// The APK on the rack's host.
    pub apk: Option<PathBuf>,
    /// Its package.
    pub package: PackageName,
    /// SHA-256 of each certificate (64 hex digits, lower case) that may have signed it; empty means any, as said at start.
    pub signers: Vec<String>,
    /// What shall be so on each phone, beside it.
    pub upkeep: Upkeep,
}

/// The central server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Central {
    /// `host:port`.
    pub server: String,
    /// Further servers, in the order in which they are tried where the one before cannot be had; the centre may move phones among all of
    /// them, and to no other.
    pub fallbacks: Vec<String>,
    /// `[central.tls]`: whom to trust, and how the rack shows who it is; without the section nothing is encrypted.
    pub tls: Option<CentralTls>,
    /// Between heartbeats; 60 s by default.
    pub heartbeat: Duration,
    /// The longest frame that is taken, in bytes; 16 MiB by default.
    pub max_frame: usize,
    /// A line stays open while the last answered probe is younger; 90 s by default.
    pub grace: Duration,
    /// What phones register as, and what is told of them.
    pub identity: Identity,
    /// Which readings of a phone the central server is warned of.
    pub warn: Warn,
    /// How the central server shows that it has taken a notice; `auto` by default.
    pub ack: Ack,
    /// Whether agents on phones speak through the cable.
    pub relay: Relay,
    /// What is kept of agents' notices while the central server is away.
    pub outbox: Outbox,
}

/// What is kept of agents' notices while the central server is away: `[central.outbox]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outbox {
    /// On the disk, of all phones together, in MB of 1,000,000 bytes, from 1; one phone may have a quarter of it; 1000 by default.
    pub max_mb: u32,
    /// What is older is removed unsent; 1 to 720 hours, 72 by default. Time in which farmhand does not run is not counted.
    pub max_age: Duration,
    /// Stored notices of one phone that go to the central server in a second, at most, once it is back; 1 to 1000, 50 by default.
    pub per_second: u32,
}

impl Default for Outbox {
    fn default() -> Self {
        Self { max_mb: 1000, max_age: Duration::from_secs(72 * 3600), per_second: 50 }
    }
}

/// TLS to the central server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CentralTls {
    /// Whose certificates are taken.
    pub trust: Trust,
    /// How the rack shows who it is, where the central server asks.
    pub client: Option<CertificateFiles>,
}

/// Whose certificates are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Those that one of the host's own authorities has signed.
    #[default]
    System,
    /// Those that an authority in this PEM file has signed.
    Authorities(PathBuf),
    /// These certificates themselves; never empty.
    Pinned(Vec<Pin>),
}

/// A certificate that is taken for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// By its SHA-256.
    Sha256([u8; 32]),
    /// By a PEM file, and all that are in it.
    File(PathBuf),
}

/// How the central server shows that it has taken a notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ack {
    /// As `Barrier`, until it acknowledges one; then as `Each`.
    #[default]
    Auto,
    /// It acknowledges each.
    Each,
    /// By the acknowledgement of a heartbeat that followed.
    Barrier,
}

impl Ack {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Each, Self::Barrier];

    /// The word for it in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Each => "each",
            Self::Barrier => "barrier",
        }
    }
}

/// What becomes of agents that connect from phones: `mode`, `agent_port` and `[central.modes]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relay {
    /// Of phones that are not named.
    pub mode: LineMode,
    /// Of phones by id, serial or slot.
    pub modes: std::collections::BTreeMap<String, LineMode>,
    /// Where each agent finds its line, on its phone's own loopback; 9200 by default.
    pub agent_port: AgentPort,
}

impl Relay {
    /// What holds for a phone that has these names.
    #[must_use]
    pub fn mode_of<'n>(&self, mut names: impl Iterator<Item = &'n str>) -> LineMode {
        names.find_map(|name| self.modes.get(name).copied()).unwrap_or(self.mode)
    }
}

/// Where agents find their line: a TCP port on the phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentPort(pub u16);

impl Default for AgentPort {
    fn default() -> Self {
        Self(9200)
    }
}

/// Who speaks for a phone on its line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineMode {
    /// The rack alone.
    #[default]
    Hold,
    /// The agent on the phone while it is connected through the cable, else the rack.
    Relay,
}

impl LineMode {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Hold, Self::Relay];

    /// The word for it in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Relay => "relay",
        }
    }
}

/// Which readings of a phone the central server is warned of: `[central.warn]`. `None` is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warn {
    /// A battery below this many percent, 1 to 100; 20 by default.
    pub battery_below_percent: Option<u8>,
    /// Less room than this for apps and their data, in MB of 1,000,000 bytes, from 1; 500 by default.
    pub storage_below_mb: Option<u32>,
    /// A battery warmer than this many degrees Celsius, 1 to 100; 45 by default.
    pub temperature_above_celsius: Option<u8>,
}

impl Default for Warn {
    fn default() -> Self {
        Self { battery_below_percent: Some(20), storage_below_mb: Some(500), temperature_above_celsius: Some(45) }
    }
}

/// Who a phone is to the central server: `[central.identity]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// What it registers as, where nobody has set it for this phone.
    pub credential: Credential,
    /// Whether its SIM cards' IMSI and numbers are read and told; `send_sim`.
    pub sims: Sims,
}

/// Whether the central server is told of SIM cards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sims {
    /// They are neither read nor told.
    #[default]
    Kept,
    /// IMSI and number of each are told.
    Told,
}

/// What a phone registers with the central server as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credential {
    /// Its first IMEI.
    #[default]
    Imei,
    /// Its serial.
    Serial,
    /// By id, serial or slot, from the owner's table.
    Map(IdentityMap),
}

/// The owner's table of credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentityMap {
    /// The CSV file from which it was read; `None` for a table of the configuration itself.
    pub file: Option<PathBuf>,
    /// The credential of each id, serial or slot.
    pub entries: std::collections::BTreeMap<String, String>,
}

/// The MQTT broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mqtt {
    /// `host:port`.
    pub broker: String,
    /// User name, with the password in a file that only the daemon reads.
    pub user: Option<(String, PathBuf)>,
    /// Home Assistant's discovery prefix; `None` switches discovery off. `homeassistant` by default.
    pub discovery_prefix: Option<String>,
    /// Between two `health` messages; 10 s by default.
    pub health_interval: Duration,
}

/// The page, the API and the metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Web {
    /// Where it listens; `127.0.0.1:8420` by default.
    pub listen: SocketAddr,
    /// Whether the page is announced as `_farmhand._tcp` by mDNS.
    pub announce: Announce,
}

/// Whether the page is announced on the local network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announce {
    /// It is, when it listens on more than loopback.
    Mdns,
    /// It is not.
    Off,
}

/// Where programs that use adb find the phones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdbServer {
    /// Where the adb server listens; nowhere by default. On any address but the loopback's it speaks TLS with the owners of tokens only.
    pub listen: Option<SocketAddr>,
    /// The certificate for TLS and its key, as PEM; one that farmhand has made, if absent.
    pub certificate: Option<CertificateFiles>,
    /// The port of the first slot, at which device-side ADB is spoken; the next slot has the next one. None by default.
    pub slot_base: Option<u16>,
    /// The address of the slots' ports: the loopback by default. On any other one only the owners of `keys` are let in.
    pub slot_listen: Option<IpAddr>,
    /// Files with the public halves of adb's keys.
    pub keys: Vec<PathBuf>,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, with those that vouch for it behind it.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// How far recovery may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The highest rung that may be climbed; `Reopen` by default.
    pub max_rung: Rung,
}

/// A rung of the recovery ladder, from mild to harsh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rung {
    /// Open the interface again.
    Reopen,
    /// Reset the USB device.
    ResetUsb,
    /// Restart Android over ADB.
    Reboot,
    /// Switch the port's power off and on.
    CyclePower,
}

impl Rung {
    /// All rungs, from mild to harsh.
    pub const ALL: [Self; 4] = [Self::Reopen, Self::ResetUsb, Self::Reboot, Self::CyclePower];

    /// The word for it in the configuration and in messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reopen => "reopen",
            Self::ResetUsb => "reset-usb",
            Self::Reboot => "reboot",
            Self::CyclePower => "cycle-power",
        }
    }
}

/// How rollouts are carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// Its waves, who must agree, and how much may fail.
    pub strategy: Strategy,
    /// How long notices of one package are gathered into one rollout; 5 s by default.
    pub gather: Duration,
    /// The longest that one install may take; 5 min by default.
    pub install_timeout: Duration,
    /// When installs may begin; at any time by default.
    pub windows: Windows,
    /// Hosts from which APKs may be fetched; empty means any, as said at start.
    pub sources: Vec<String>,
    /// What becomes of the central server's `UpgradeDeviceAppNotice`.
    pub from_central: FromCentral,
    /// Who carries the installs of its rollouts out.
    pub delivery: Delivery,
}

/// Whether handsets are looked for on USB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usb {
    /// They are.
    Scan,
    /// Only TCP endpoints of slots are used.
    Off,
}
