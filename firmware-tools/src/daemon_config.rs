//! The `farmhand.toml` that makes the daemon meet a virtual rack.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;

use crate::rack_file::CentralMode;

/// The keys of `farmhand.toml` that a rack needs; a section that is absent leaves that part of the daemon off.
#[derive(Debug, Serialize)]
pub(crate) struct DaemonConfig {
    pub(crate) rack: RackName,
    pub(crate) agent: Option<Agent>,
    pub(crate) central: Option<Central>,
    pub(crate) mqtt: Option<Mqtt>,
    pub(crate) web: Web,
    pub(crate) recovery: Recovery,
    pub(crate) rollout: Rollout,
    pub(crate) usb: Usb,
    pub(crate) slot: Vec<Slot>,
    pub(crate) hub: Vec<Hub>,
}

#[derive(Debug, Serialize)]
pub(crate) struct RackName {
    pub(crate) name: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct Agent {
    pub(crate) package: String,
    pub(crate) apk: PathBuf,
    pub(crate) signers: Vec<String>,
    pub(crate) battery_exempt: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct Central {
    pub(crate) server: SocketAddr,
    pub(crate) heartbeat_s: u64,
    pub(crate) mode: CentralMode,
    pub(crate) identity: Identity,
}

#[derive(Debug, Serialize)]
pub(crate) struct Identity {
    pub(crate) credential: &'static str,
}

#[derive(Debug, Serialize)]
pub(crate) struct Mqtt {
    pub(crate) broker: SocketAddr,
    pub(crate) health_s: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Web {
    /// An address, or `off`.
    pub(crate) listen: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct Recovery {
    pub(crate) max_rung: &'static str,
}

#[derive(Debug, Serialize)]
pub(crate) struct Rollout {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) waves: Vec<usize>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Usb {
    pub(crate) scan: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct Slot {
    pub(crate) name: String,
    pub(crate) endpoint: String,
    pub(crate) hub: Option<String>,
    pub(crate) port: Option<u8>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Hub {
    pub(crate) name: String,
    pub(crate) device: PathBuf,
}
