//! What a rollout keeps to while it installs: on how many phones at once, and how a phone must be.

use serde::{Deserialize, Serialize};

use super::candidate::Readings;

/// The room that an install wants on a phone, in sizes of its APK: the file itself, what Android makes of it, and the version before.
pub const ROOM_FACTOR: u64 = 3;
const MIB: u64 = 1 << 20;

/// What a rollout keeps to while it installs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// So many phones of the rack are installed on at once, at most; from 1.
    pub at_once: u32,
    /// So many phones of one hub are installed on at once, at most; from 1.
    pub at_once_per_hub: u32,
    /// A battery below this many percent waits.
    pub battery_min_percent: u8,
    /// A battery warmer than this many degrees Celsius waits.
    pub temperature_max_celsius: u8,
    /// A phone may wait so long, in seconds, until it is fit; then it has failed.
    pub fit_within_s: u64,
    /// How far the phones' readings count.
    pub readings: Heed,
}

/// How far the phones' readings count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Heed {
    /// All of them; what is not known counts as bad.
    #[default]
    All,
    /// The operator has said `--force`: the battery does not count, and the free space only where it is known.
    Forced,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            at_once: 32,
            at_once_per_hub: 8,
            battery_min_percent: 30,
            temperature_max_celsius: 42,
            fit_within_s: 6 * 3600,
            readings: Heed::All,
        }
    }
}

/// What an operator wants otherwise than the configuration says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitChanges {
    /// As [`Limits::at_once`].
    pub at_once: Option<u32>,
    /// As [`Limits::at_once_per_hub`].
    pub at_once_per_hub: Option<u32>,
    /// As [`Limits::readings`].
    pub readings: Heed,
}

impl LimitChanges {
    /// `configured`, with these changes. Nobody at once would be a rollout that never begins.
    #[must_use]
    pub fn applied_to(self, configured: Limits) -> Limits {
        Limits {
            at_once: self.at_once.unwrap_or(configured.at_once).max(1),
            at_once_per_hub: self.at_once_per_hub.unwrap_or(configured.at_once_per_hub).max(1),
            readings: self.readings,
            ..configured
        }
    }
}

impl Limits {
    /// Why a phone with these readings must not be installed on now, as a sentence; `apk_bytes` is the APK's size.
    #[must_use]
    pub fn why_unfit(&self, apk_bytes: u64, readings: &Readings) -> Option<String> {
        self.battery(readings).or_else(|| self.room(apk_bytes, readings))
    }

    fn battery(&self, readings: &Readings) -> Option<String> {
        if self.readings == Heed::Forced {
            return None;
        }
        let (least, most) = (self.battery_min_percent, self.temperature_max_celsius);
        match (readings.battery_percent, readings.temperature_celsius) {
            (None, _) if least > 0 => Some("its battery's level is not known".to_owned()),
            (Some(percent), _) if percent < least => {
                Some(format!("its battery is at {percent} %, and an install wants {least} %"))
            }
            (_, None) => Some("its battery's temperature is not known".to_owned()),
            (_, Some(celsius)) if celsius > i16::from(most) => {
                Some(format!("its battery has {celsius} °C, and an install wants at most {most} °C"))
            }
            _ => None,
        }
    }

    fn room(&self, apk_bytes: u64, readings: &Readings) -> Option<String> {
        let wanted = apk_bytes.saturating_mul(ROOM_FACTOR).div_ceil(MIB);
        match readings.free_mib {
            Some(free) if free < wanted => {
                Some(format!("it has {free} MiB free, and an install wants {wanted} MiB, three times the APK"))
            }
            None if self.readings == Heed::All => Some("its free space is not known".to_owned()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(percent: u8, celsius: i16, free: u64) -> Option<String> {
        let (battery_percent, temperature_celsius, free_mib) = (Some(percent), Some(celsius), Some(free));
        Limits::default().why_unfit(16 * MIB + 1, &Readings { battery_percent, temperature_celsius, free_mib })
    }

    #[test]
    fn each_limit_lets_its_own_value_pass_and_says_what_is_beyond() {
        assert_eq!(why(30, 42, 49), None);
        assert_eq!(why(29, 42, 49).unwrap(), "its battery is at 29 %, and an install wants 30 %");
        assert_eq!(why(30, 43, 49).unwrap(), "its battery has 43 °C, and an install wants at most 42 °C");
        let room = "it has 48 MiB free, and an install wants 49 MiB, three times the APK";
        assert_eq!(why(30, 42, 48).unwrap(), room);
    }

    #[test]
    fn what_is_not_known_counts_as_bad_unless_it_is_forced() {
        let limits = Limits::default();
        assert_eq!(limits.why_unfit(1, &Readings::default()).unwrap(), "its battery's level is not known");
        let forced = Limits { readings: Heed::Forced, ..limits };
        assert_eq!(forced.why_unfit(1, &Readings::default()), None);
        let full = Readings { free_mib: Some(0), ..Readings::default() };
        assert!(forced.why_unfit(1, &full).is_some(), "no force makes room");
    }
}
