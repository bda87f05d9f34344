//! The host's USB as a snapshot shows it.

use serde::{Deserialize, Serialize};

use crate::rack::ids::PortPath;

/// The speed that a device has negotiated with its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Speed {
    /// The host does not tell.
    Unknown,
    /// 1.5 Mbit/s.
    Low,
    /// 12 Mbit/s: for a handset a sign of a bad cable or hub.
    Full,
    /// 480 Mbit/s.
    High,
    /// 5 Gbit/s.
    Super,
    /// 10 Gbit/s and more.
    SuperPlus,
}

impl Speed {
    /// The word for it in tables and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Low => "low",
            Self::Full => "full",
            Self::High => "high",
            Self::Super => "super",
            Self::SuperPlus => "super+",
        }
    }
}

/// A handset as the bus shows it, before a word of ADB was spoken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsbView {
    /// The speed that was negotiated.
    pub speed: Speed,
    /// The most that it may draw from its port, as its descriptor claims.
    pub claimed_milliamps: u16,
    /// `idVendor`.
    pub vendor_id: u16,
    /// `idProduct`.
    pub product_id: u16,
    /// What it calls itself (`iProduct`).
    pub product: Option<String>,
    /// The hubs between the controller and the handset, the outermost first; none if it sits on the controller's own port.
    pub hubs: Vec<PortPath>,
    /// The controller's name, such as `0000:00:14.0`.
    pub controller: Option<String>,
}

/// One USB controller of the host, with the room that is left on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControllerView {
    /// Its name in the kernel, such as `0000:00:14.0`.
    pub name: String,
    /// Its buses: one for USB 2, one for USB 3.
    pub buses: Vec<u8>,
    /// The devices on it, hubs included, root hubs not.
    pub devices: u32,
    /// How many it takes: what the kernel says, else the 127 addresses of each bus.
    pub devices_max: u32,
    /// The endpoints in use on it, each device's own control endpoint included.
    pub endpoints: u32,
    /// Why the kernel has turned a device away since farmhand started, as a sentence.
    pub full: Option<String>,
}

impl ControllerView {
    /// How many more devices it takes, as far as is known.
    #[must_use]
    pub fn devices_left(&self) -> u32 {
        self.devices_max.saturating_sub(self.devices)
    }
}
