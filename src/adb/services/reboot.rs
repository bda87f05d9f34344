//! `reboot:`: the handset starts anew.

use std::time::Duration;

use super::shell::ServiceError;
use crate::adb::connection::EndReason;
use crate::adb::driver::{Adb, OpenError};

/// How long a handset may take to go down, or to say that it will.
const REBOOT_WAIT: Duration = Duration::from_secs(20);

/// Where a handset starts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RebootTarget {
    /// Android.
    System,
    /// The bootloader.
    Bootloader,
    /// The recovery system.
    Recovery,
    /// The recovery system, waiting for `adb sideload`.
    Sideload,
}

impl RebootTarget {
    fn service(self) -> &'static str {
        match self {
            Self::System => "reboot:",
            Self::Bootloader => "reboot:bootloader",
            Self::Recovery => "reboot:recovery",
            Self::Sideload => "reboot:sideload",
        }
    }
}

impl Adb {
    /// Restarts the handset. Returns when it took the request: it closed the stream or went away.
    ///
    /// # Errors
    /// It refused, or neither answered nor went.
    pub async fn reboot(&self, target: RebootTarget) -> Result<(), ServiceError> {
        let work = async {
            let stream = match self.open(target.service()).await {
                Ok(stream) => stream,
                Err(OpenError::Ended { reason: EndReason::Lost(_), .. }) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            // It says nothing, or a complaint.
            let mut said = Vec::new();
            loop {
                match stream.read().await {
                    Ok(Some(bytes)) if said.len() < 1024 => said.extend_from_slice(&bytes),
                    Ok(Some(_)) => {}
                    Ok(None) if said.is_empty() => return Ok(()),
                    Ok(None) => return Err(ServiceError::Said(String::from_utf8_lossy(&said).trim().to_owned())),
                    Err(error) if matches!(error.reason, EndReason::Lost(_)) => return Ok(()),
                    Err(error) => return Err(error.into()),
                }
            }
        };
        let late = ServiceError::Timeout { why: "the handset to go down", after: REBOOT_WAIT };
        tokio::time::timeout(REBOOT_WAIT, work).await.unwrap_or(Err(late))
    }
}
