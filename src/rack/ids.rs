//! The names of things in a rack, as types: a slot is not a serial, and neither is a string.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Wraps a text that is already known to be one.
            #[must_use]
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// The serial number that a handset gives of itself (USB descriptor, `ro.serialno`). Not always unique.
    Serial
}
text_id! {
    /// The stable name of one handset in store, topics, URLs and commands: its serial where that is unique and sane.
    PhoneId
}
text_id! {
    /// The owner's name for a place in the rack, such as `A1`.
    SlotName
}
text_id! {
    /// The owner's word for some slots, such as `top-shelf`.
    Label
}
text_id! {
    /// The owner's name for a power hub, such as `H1`.
    HubName
}
text_id! {
    /// An Android package name, such as `org.example.agent`.
    PackageName
}
text_id! {
    /// The name of one rollout, such as `R7`.
    RolloutId
}

/// Android's `versionCode`: what decides whether an APK is newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VersionCode(pub u64);

impl fmt::Display for VersionCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a port on a power hub, as printed on it: counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HubPort(pub u8);

impl fmt::Display for HubPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where on the host's USB a device sits: bus and the chain of hub ports, as Linux writes it (`1-2.3.4`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortPath {
    bus: u8,
    ports: Vec<u8>,
}

/// USB allows five hubs between host and device, so six ports in a chain; libusb gives at most seven.
const PORTS_MAX: usize = 7;

impl PortPath {
    /// A path from the bus number and the port chain as libusb gives them; `None` for a root hub (no port) or a chain that
    /// USB does not allow.
    #[must_use]
    pub fn new(bus: u8, ports: &[u8]) -> Option<Self> {
        let sane = (1..=PORTS_MAX).contains(&ports.len()) && !ports.contains(&0) && bus != 0;
        sane.then(|| Self { bus, ports: ports.to_vec() })
    }

    /// The number of the bus, from 1.
    #[must_use]
    pub fn bus(&self) -> u8 {
        self.bus
    }

    /// The ports from the root hub to the device, each from 1.
    #[must_use]
    pub fn ports(&self) -> &[u8] {
        &self.ports
    }

    /// The hubs between the controller and the device, the outermost first: `1-2` and `1-2.3` for `1-2.3.4`.
    pub fn hubs(&self) -> impl DoubleEndedIterator<Item = Self> + '_ {
        (1..self.ports.len()).filter_map(|len| Self::new(self.bus, self.ports.get(..len)?))
    }

    /// The name of the hub that the device is plugged into, as the kernel writes it: `1-2.3`, or `usb1` for a root hub.
    #[must_use]
    pub fn hub_name(&self) -> String {
        self.hubs().next_back().map_or_else(|| format!("usb{}", self.bus), |hub| hub.to_string())
    }
}

impl fmt::Display for PortPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-", self.bus)?;
        for (i, port) in self.ports.iter().enumerate() {
            if i > 0 {
                f.write_str(".")?;
            }
            write!(f, "{port}")?;
        }
        Ok(())
    }
}

/// A text that should name a place and does not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{seen}` is not {expected}")]
pub struct BadPlace {
    /// What was written.
    pub seen: String,
    /// What is allowed.
    pub expected: &'static str,
}

impl FromStr for PortPath {
    type Err = BadPlace;

    fn from_str(text: &str) -> Result<Self, BadPlace> {
        let bad = || BadPlace { seen: text.to_owned(), expected: "a USB port path such as `1-2.3`" };
        let (bus, ports) = text.split_once('-').ok_or_else(bad)?;
        let bus = bus.parse().map_err(|_| bad())?;
        let ports = ports.split('.').map(str::parse).collect::<Result<Vec<u8>, _>>().map_err(|_| bad())?;
        Self::new(bus, &ports).ok_or_else(bad)
    }
}

impl TryFrom<String> for PortPath {
    type Error = BadPlace;

    fn try_from(text: String) -> Result<Self, BadPlace> {
        text.parse()
    }
}

impl From<PortPath> for String {
    fn from(path: PortPath) -> Self {
        path.to_string()
    }
}

/// Where a handset is reached: a USB port, or (in the demo, on benches and for phones on Wi-Fi) a TCP address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Endpoint {
    /// An ADB interface on the host's USB.
    Usb(PortPath),
    /// A TCP address where something speaks device-side ADB.
    Tcp(SocketAddr),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usb(path) => write!(f, "usb:{path}"),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

impl FromStr for Endpoint {
    type Err = BadPlace;

    fn from_str(text: &str) -> Result<Self, BadPlace> {
        let bad = || BadPlace { seen: text.to_owned(), expected: "an endpoint: `tcp:127.0.0.1:15501` or `usb:1-2.3`" };
        match text.split_once(':') {
            Some(("usb", path)) => path.parse().map(Self::Usb).map_err(|_| bad()),
            Some(("tcp", address)) => address.parse().map(Self::Tcp).map_err(|_| bad()),
            _ => Err(bad()),
        }
    }
}

impl TryFrom<String> for Endpoint {
    type Error = BadPlace;

    fn try_from(text: String) -> Result<Self, BadPlace> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_path_reads_back_as_linux_writes_it() {
        for text in ["1-1", "2-3.4.1", "10-1.2.3.4.5.6"] {
            assert_eq!(text.parse::<PortPath>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_port_path_names_the_hubs_on_the_way() {
        let path: PortPath = "1-2.3.4".parse().unwrap();
        assert_eq!(path.hubs().map(|hub| hub.to_string()).collect::<Vec<_>>(), ["1-2", "1-2.3"]);
        assert_eq!(path.hub_name(), "1-2.3");
        assert_eq!("3-1".parse::<PortPath>().unwrap().hub_name(), "usb3");
    }

    #[test]
    fn what_is_no_port_path_is_named() {
        for text in ["", "1", "1-", "-1", "1-0", "0-1", "1-1.", "1-1.2.3.4.5.6.7.8", "1-300", "a-b", "1-2-3"] {
            let error = text.parse::<PortPath>().unwrap_err();
            assert!(error.to_string().contains("1-2.3"), "{text}: {error}");
        }
    }

    #[test]
    fn an_endpoint_is_a_port_or_an_address() {
        for text in ["usb:1-2.3", "tcp:127.0.0.1:15501", "tcp:[::1]:5555"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        assert!("tcp:localhost".parse::<Endpoint>().is_err());
    }
}
