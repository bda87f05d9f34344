//! What is on the handset's screen, and making the handset stand out among others.

use std::time::Duration;

use bytes::Bytes;

use super::shell::{ServiceError, ShellLimits, read_all};
use crate::adb::driver::Adb;

/// How long a picture may take: a slow phone packs a large screen for seconds.
const SCREENSHOT_WAIT: Duration = Duration::from_secs(30);

/// How large a picture may be, in bytes.
const SCREENSHOT_MAX: usize = 128 << 20;

/// How every PNG begins.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// How long the handset shows itself.
const IDENTIFY_WAIT: Duration = Duration::from_secs(20);

/// Lights the screen and vibrates three times, by whatever this Android has for it; says what worked. What `cmd` says is looked at
/// too: see [`NO_COMMAND`].
const IDENTIFY: &str = "\
input keyevent KEYCODE_WAKEUP >/dev/null 2>&1 && echo screen; \
for n in 1 2 3; do \
  { cmd vibrator_manager synced -f -d farmhand oneshot 700 || cmd vibrator vibrate -f 700 farmhand || \
    cmd vibrator vibrate 700 farmhand; } 2>&1 && echo vibration; \
  sleep 1; \
done; true";

/// What a service of Android 7 says that takes no commands yet, and takes for success.
const NO_COMMAND: &str = "No shell command implementation.";

/// How a handset shows itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its screen was lit.
    pub screen: bool,
    /// It vibrated.
    pub vibration: bool,
}

impl Adb {
    /// The screen as a PNG.
    ///
    /// # Errors
    /// There is none; what the handset said instead.
    pub async fn screenshot(&self) -> Result<Bytes, ServiceError> {
        let work = async {
            let stream = self.open("exec:screencap -p").await?;
            read_all(&stream, SCREENSHOT_MAX).await
        };
        let late = ServiceError::Timeout { why: "the picture of the screen", after: SCREENSHOT_WAIT };
        let picture = tokio::time::timeout(SCREENSHOT_WAIT, work).await.unwrap_or(Err(late))?;
        if picture.starts_with(PNG) {
            return Ok(picture.into());
        }
        let said = String::from_utf8_lossy(picture.get(..300).unwrap_or(&picture)).trim().to_owned();
        Err(ServiceError::Said(if said.is_empty() { "no picture came".to_owned() } else { said }))
    }

    /// Lights the screen and vibrates, so that somebody at the rack sees which one it is.
    ///
    /// # Errors
    /// The handset can do neither, or does not answer.
    pub async fn identify(&self) -> Result<Shown, ServiceError> {
        let limits = ShellLimits { wait: IDENTIFY_WAIT, output_max: 4096 };
        let said = self.shell_within(IDENTIFY, limits).await?.text();
        let shown = Shown {
            screen: said.lines().any(|line| line == "screen"),
            vibration: said.lines().any(|line| line == "vibration") && !said.contains(NO_COMMAND),
        };
        match shown {
            Shown { screen: false, vibration: false } => {
                Err(ServiceError::Said("it can neither light its screen nor vibrate".to_owned()))
            }
            shown => Ok(shown),
        }
    }
}
