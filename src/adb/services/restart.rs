//! `root:`, `unroot:`, `tcpip:`, `usb:`: adbd itself starts anew, in another way. The connection ends by that.

use std::time::Duration;

use super::shell::ServiceError;
use crate::adb::connection::EndReason;
use crate::adb::driver::{Adb, OpenError};

/// How long adbd may take to say what it does.
const RESTART_WAIT: Duration = Duration::from_secs(20);

/// How much it may say, in bytes.
const SAID_MAX: usize = 4096;

/// How adbd shall run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdbdMode {
    /// As root, where the build allows it.
    Root,
    /// As the user shell.
    Unroot,
    /// Listening on this TCP port, on all interfaces of the phone.
    Tcp(u16),
    /// On USB only.
    Usb,
}

/// What adbd does about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restarted {
    /// It starts anew: the connection ends, and a new one meets it in its new mode.
    Restarting,
    /// It runs that way already, and goes on.
    Already,
}

impl Adb {
    /// Has adbd run in another way.
    ///
    /// # Errors
    /// It will not, in its own words; or it did not answer.
    pub async fn restart_adbd(&self, mode: AdbdMode) -> Result<Restarted, ServiceError> {
        let service = match mode {
            AdbdMode::Root => "root:".to_owned(),
            AdbdMode::Unroot => "unroot:".to_owned(),
            AdbdMode::Tcp(port) => format!("tcpip:{port}"),
            AdbdMode::Usb => "usb:".to_owned(),
        };
        let work = async {
            let stream = match self.open(service).await {
                Ok(stream) => stream,
                Err(OpenError::Ended { reason: EndReason::Lost(_), .. }) => return Ok(Restarted::Restarting),
                Err(error) => return Err(error.into()),
            };
            let mut said = Vec::new();
            loop {
                match stream.read().await {
                    Ok(Some(bytes)) if said.len() < SAID_MAX => said.extend_from_slice(&bytes),
                    Ok(Some(_)) => {}
                    Ok(None) => return judge(String::from_utf8_lossy(&said).trim()),
                    Err(error) if matches!(error.reason, EndReason::Lost(_)) => return Ok(Restarted::Restarting),
                    Err(error) => return Err(error.into()),
                }
            }
        };
        let late = ServiceError::Timeout { why: "adbd to say how it will run", after: RESTART_WAIT };
        tokio::time::timeout(RESTART_WAIT, work).await.unwrap_or(Err(late))
    }
}

fn judge(said: &str) -> Result<Restarted, ServiceError> {
    match said {
        said if said.starts_with("restarting") || said.is_empty() => Ok(Restarted::Restarting),
        said if said.contains("already running") || said.contains("not running as root") => Ok(Restarted::Already),
        said => Err(ServiceError::Said(said.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adbds_words_are_understood() {
        assert_eq!(judge("restarting adbd as root").unwrap(), Restarted::Restarting);
        assert_eq!(judge("restarting in TCP mode port: 5555").unwrap(), Restarted::Restarting);
        assert_eq!(judge("adbd is already running as root").unwrap(), Restarted::Already);
        assert_eq!(judge("adbd not running as root").unwrap(), Restarted::Already);
        assert!(judge("adbd cannot run as root in production builds").is_err());
        assert!(judge("invalid port").is_err());
    }
}
