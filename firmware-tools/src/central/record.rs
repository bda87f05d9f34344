//! What the server has seen of each device, as JSON for tests and people.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use farmhand::clock::UnixMillis;

/// Everything since the server was made; it outlives a stop and a start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// By IMEI, or whatever credential the device registered with.
    pub devices: BTreeMap<String, DeviceRecord>,
    /// Connections that were taken.
    pub connections: u64,
    /// Attempts that were refused: a fault, or a token that was not given out.
    pub refusals: u64,
    /// Frames that were no messages, and connections that were ended for it.
    pub bad_frames: u64,
    /// Connections with which no TLS was agreed on.
    #[serde(default)]
    pub bad_handshakes: u64,
}

/// One device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// Whether its session is open now.
    pub connected: bool,
    /// How often it authenticated.
    pub sessions: u32,
    /// When it last did.
    pub registered_at: Option<UnixMillis>,
    /// When its last session ended.
    pub ended_at: Option<UnixMillis>,
    /// Why.
    pub ended_why: Option<String>,
    /// Heartbeats of all its sessions.
    pub heartbeats: u32,
    /// Heartbeats of the session that is open, or was last.
    pub session_heartbeats: u32,
    /// How often it told about itself.
    pub device_infos: u32,
    /// What it last told about itself.
    pub device_info: Option<DeviceInfoRecord>,
    /// The results of tasks that it reported, in order.
    pub task_results: Vec<TaskResultRecord>,
    /// The errors that it reported, in order.
    pub errors: Vec<ErrorRecord>,
    /// `RefMessageId` of each acknowledgement that it sent.
    pub acknowledged: Vec<i64>,
    /// Every other message, counted by its number.
    pub others: BTreeMap<i32, u32>,
}

/// `PostDeviceInfoNotice`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeviceInfoRecord {
    /// `PhoneBrand`
    pub brand: String,
    /// `PhoneModel`
    pub model: String,
    /// `OSVerNumber`
    pub sdk: i32,
    /// `IMEI`
    pub imei: String,
    /// `NetType`
    pub network: String,
    /// `AppInfos`
    pub apps: Vec<AppRecord>,
}

/// One app of `PostDeviceInfoNotice`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AppRecord {
    /// `PackageName`
    pub package: String,
    /// `VerNumber`
    pub version_code: i32,
    /// `Version`
    pub version_name: String,
}

/// `TaskResultNotice`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskResultRecord {
    /// The server's message that it answers.
    pub ref_message_id: i64,
    /// `Success`
    pub success: bool,
    /// `TaskType`
    pub task_type: i32,
    /// `ErrMsg`
    pub error: String,
}

/// `Error`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ErrorRecord {
    /// The server's message that it answers.
    pub ref_message_id: i64,
    /// `ErrorCode`
    pub code: i32,
    /// `ErrorMsg`
    pub message: String,
}
