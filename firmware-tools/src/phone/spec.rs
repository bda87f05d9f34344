//! Which phone to be, as a rack file describes it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One virtual phone. Only `name` and `serial` must be given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhoneSpec {
    /// What the rack calls it.
    pub name: String,
    /// `ro.serialno`.
    pub serial: String,
    /// What `service call iphonesubinfo` answers; without it the phone has no modem.
    #[serde(default)]
    pub imei: Option<String>,
    /// `ro.product.brand`.
    #[serde(default = "default_brand")]
    pub brand: String,
    /// `ro.product.model`.
    #[serde(default = "default_model")]
    pub model: String,
    /// `ro.build.version.sdk`, from 19 (Android 4.4).
    #[serde(default = "default_sdk")]
    pub sdk: u32,
    /// Where its adbd listens; with port 0 the system picks one, which the phone then keeps.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// APKs that are installed from the start.
    #[serde(default)]
    pub packages: Vec<PathBuf>,
    /// Percent in the battery at the start.
    #[serde(default = "default_battery")]
    pub battery_percent: f64,
    /// Whom it lets in.
    #[serde(default)]
    pub auth: Auth,
    /// Which ADB it speaks.
    #[serde(default)]
    pub adb: AdbGeneration,
    /// The network that it uses.
    #[serde(default)]
    pub network: Network,
    /// Whether it is a build for developers: `adb root` works.
    #[serde(default)]
    pub debuggable: bool,
    /// Seconds that its adbd is away when only that restarts, as for `adb root`; with 0 nothing but the connection ends.
    #[serde(default)]
    pub adbd_away_s: f64,
    /// Seconds that it is away when it restarts.
    #[serde(default = "default_away")]
    pub reboot_away_s: f64,
    /// Seconds from its coming back until Android has started.
    #[serde(default = "default_boot")]
    pub boot_s: f64,
}

impl PhoneSpec {
    /// A phone with this name and serial, everything else as usual, on a free port of this host.
    #[must_use]
    pub fn new(name: impl Into<String>, serial: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            serial: serial.into(),
            imei: None,
            brand: default_brand(),
            model: default_model(),
            sdk: default_sdk(),
            listen: default_listen(),
            packages: Vec::new(),
            battery_percent: default_battery(),
            auth: Auth::default(),
            adb: AdbGeneration::default(),
            network: Network::default(),
            debuggable: false,
            adbd_away_s: 0.0,
            reboot_away_s: default_away(),
            boot_s: default_boot(),
        }
    }
}

/// Whom a phone lets in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Auth {
    /// Everybody.
    #[default]
    Off,
    /// Who has one of these keys (`adbkey.pub` files); others wait in vain.
    Known(Vec<PathBuf>),
    /// Whoever offers a key, as its user allows it after so many seconds.
    Ask {
        /// Seconds until the user answers.
        accept_after_s: f64,
    },
}

/// Which ADB a phone speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdbGeneration {
    /// Payloads of 4 KiB, sums, no features: Android 6 and before.
    Old,
    /// Features of Android 7 to 10: no abb, no compression, no delayed_ack.
    Middle,
    /// All features but delayed_ack.
    #[default]
    Modern,
    /// The same with delayed_ack.
    Windowed,
}

/// The network that a phone uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// None.
    None,
    /// Wi-Fi.
    #[default]
    Wifi,
    /// LTE.
    Lte,
}

fn default_brand() -> String {
    "google".to_owned()
}

fn default_model() -> String {
    "Pixel 6a".to_owned()
}

fn default_sdk() -> u32 {
    34
}

fn default_listen() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)
}

fn default_battery() -> f64 {
    80.0
}

fn default_away() -> f64 {
    2.0
}

fn default_boot() -> f64 {
    3.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_lines_are_a_phone() {
        let spec: PhoneSpec = toml::from_str("name = \"A1\"\nserial = \"R58M123\"").unwrap();
        assert_eq!(spec, PhoneSpec::new("A1", "R58M123"));
    }

    #[test]
    fn everything_can_be_said() {
        let spec: PhoneSpec = toml::from_str(
            r#"
            name = "A2"
            serial = "S2"
            imei = "353626072090389"
            sdk = 23
            adb = "old"
            network = "lte"
            auth = { ask = { accept_after_s = 0.5 } }
            listen = "127.0.0.1:15501"
            "#,
        )
        .unwrap();
        assert_eq!(spec.auth, Auth::Ask { accept_after_s: 0.5 });
        assert_eq!((spec.adb, spec.network), (AdbGeneration::Old, Network::Lte));
        assert!(toml::from_str::<PhoneSpec>("name = \"A\"\nserial = \"S\"\nimie = \"1\"").is_err());
    }
}
