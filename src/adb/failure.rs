//! Why a handset could not be opened and why an install failed, by what to do about it.

use serde::{Deserialize, Serialize};

/// Why a phone could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpenFault {
    /// The host does not let this user open the device node (yet).
    NoPermission,
    /// Another program holds the interface.
    Busy,
    /// The device is not there any more.
    Gone,
    /// It refused every key.
    Unauthorised,
    /// It did not answer, or answered with nonsense.
    Protocol,
}

/// Why an install failed, by what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallFailure {
    /// What to do about it.
    pub class: InstallFailureClass,
    /// The phone's own reason, such as `INSTALL_FAILED_VERSION_DOWNGRADE`, where it gave one.
    pub reason: Option<String>,
    /// A sentence for a person.
    pub why: String,
}

impl InstallFailure {
    /// The phone is in no place of the rack.
    #[must_use]
    pub fn not_here() -> Self {
        Self { class: InstallFailureClass::Transient, reason: None, why: "the phone is not here".to_owned() }
    }

    /// The phone left, or its connection failed, in the middle.
    #[must_use]
    pub fn interrupted(why: &str) -> Self {
        let why = format!("the connection ended in the middle of the install: {why}");
        Self { class: InstallFailureClass::Transient, reason: None, why }
    }
}

/// What to do about a failed install.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstallFailureClass {
    /// It may work the next time.
    Transient,
    /// It will not work with this APK on this phone.
    Permanent,
    /// Somebody must tap on the phone's screen.
    NeedsHand,
}
