//! How a rollout goes on: the sizes of its waves, who must agree, and how much may fail.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::gates::Gates;
use super::ids::VersionCode;
use super::limits::{LimitChanges, Limits};

/// How a rollout goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strategy {
    /// The waves; the last size repeats until every phone has its wave.
    pub waves: Vec<WaveSize>,
    /// Who must agree before which wave.
    pub approve: Approve,
    /// Between the end of a wave and the beginning of the next one, in seconds.
    pub soak_s: u64,
    /// How many phones may fail before the rollout is paused.
    pub max_failures: Share,
    /// How often an install that failed for a passing reason is tried again.
    pub retries: u32,
    /// Whether phones that appear while it is under way join.
    #[serde(default)]
    pub join: Join,
    /// So long after it began to run, in seconds, phones that are away are waited for.
    #[serde(default = "close_after_s")]
    pub close_after_s: u64,
    /// On how many phones at once it installs, and how a phone must be.
    #[serde(default)]
    pub limits: Limits,
    /// What a wave must show before the next one begins.
    #[serde(default)]
    pub gates: Gates,
    /// Whether phones with a newer version get this one.
    #[serde(default)]
    pub downgrade: Downgrade,
    /// What becomes of it when too many phones have failed.
    #[serde(default)]
    pub on_failure: OnFailure,
}

/// A week: whoever takes a phone home brings it back.
const fn close_after_s() -> u64 {
    7 * 86_400
}

/// Whether phones that appear while a rollout is under way join it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Join {
    /// They do, in its last wave, if they are among those that are meant.
    #[default]
    Dynamic,
    /// They do not.
    Static,
}

impl Join {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dynamic => "dynamic",
            Self::Static => "static",
        }
    }
}

/// Whether a phone may get an older version than it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Downgrade {
    /// Never, as Android itself says.
    #[default]
    Refused,
    /// The operator asked for it. Most builds of Android do it for debuggable apps only.
    Allowed,
}

impl Downgrade {
    /// Whether a phone with the version `seen` has what it shall have where `wanted` is rolled out.
    #[must_use]
    pub fn is_done_by(self, seen: VersionCode, wanted: VersionCode) -> bool {
        match self {
            Self::Refused => seen >= wanted,
            Self::Allowed => seen == wanted,
        }
    }
}

/// What becomes of a rollout in which too many phones have failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// It is paused, and the operator decides.
    #[default]
    Pause,
    /// Its phones get back the versions that they had before.
    RollBack,
}

impl OnFailure {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::RollBack => "roll_back",
        }
    }
}

impl Strategy {
    /// As [`Strategy::close_after_s`].
    #[must_use]
    pub const fn close_after(&self) -> Duration {
        Duration::from_secs(self.close_after_s)
    }

    /// As [`Strategy::soak_s`].
    #[must_use]
    pub const fn soak(&self) -> Duration {
        Duration::from_secs(self.soak_s)
    }
}

impl Default for Strategy {
    fn default() -> Self {
        Self {
            waves: [1, 10, 50].map(|count| WaveSize(Share::Count(count))).to_vec(),
            approve: Approve::First,
            soak_s: 0,
            max_failures: Share::Count(0),
            retries: 3,
            join: Join::Dynamic,
            close_after_s: close_after_s(),
            limits: Limits::default(),
            gates: Gates::default(),
            downgrade: Downgrade::Refused,
            on_failure: OnFailure::Pause,
        }
    }
}

/// What an operator wants otherwise than the configuration says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StrategyChanges {
    /// As [`Strategy::waves`]; empty for those of the configuration.
    pub waves: Vec<WaveSize>,
    /// As [`Strategy::approve`].
    pub approve: Option<Approve>,
    /// As [`Strategy::soak_s`].
    pub soak_s: Option<u64>,
    /// As [`Strategy::max_failures`].
    pub max_failures: Option<Share>,
    /// As [`Strategy::retries`].
    pub retries: Option<u32>,
    /// As [`Strategy::join`].
    pub join: Option<Join>,
    /// As [`Strategy::close_after_s`].
    pub close_after_s: Option<u64>,
    /// As [`Strategy::gates`], in place of all that is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gates: Option<Gates>,
    /// As [`Strategy::downgrade`]; it is asked for anew for each rollout.
    #[serde(skip_serializing_if = "is_usual")]
    pub downgrade: Downgrade,
    /// As [`Strategy::on_failure`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    /// When it begins, as the operator says it: `22:00`, `2026-11-28 22:00`. At once if absent.
    pub at: Option<String>,
    /// As [`Strategy::limits`].
    #[serde(flatten)]
    pub limits: LimitChanges,
}

impl StrategyChanges {
    /// `configured`, with these changes.
    #[must_use]
    pub fn applied_to(self, configured: &Strategy) -> Strategy {
        Strategy {
            waves: if self.waves.is_empty() { configured.waves.clone() } else { self.waves },
            approve: self.approve.unwrap_or(configured.approve),
            soak_s: self.soak_s.unwrap_or(configured.soak_s),
            max_failures: self.max_failures.unwrap_or(configured.max_failures),
            retries: self.retries.unwrap_or(configured.retries),
            join: self.join.unwrap_or(configured.join),
            close_after_s: self.close_after_s.unwrap_or(configured.close_after_s),
            limits: self.limits.applied_to(configured.limits),
            gates: self.gates.unwrap_or(configured.gates),
            downgrade: self.downgrade,
            on_failure: self.on_failure.unwrap_or(configured.on_failure),
        }
    }
}

fn is_usual(downgrade: &Downgrade) -> bool {
    *downgrade == Downgrade::default()
}

/// Who must agree before which wave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Approve {
    /// The owner, before each wave.
    Each,
    /// The owner, before the first.
    First,
    /// Nobody.
    None,
}

impl Approve {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Each => "each",
            Self::First => "first",
            Self::None => "none",
        }
    }
}

/// So many phones, or a share of all: `3` or `5%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Share {
    /// So many.
    Count(u32),
    /// So much of all, 0 to 100.
    Percent(u8),
}

impl Share {
    /// How many of `total` that is at most.
    #[must_use]
    pub fn at_most(self, total: usize) -> usize {
        match self {
            Self::Count(count) => count as usize,
            Self::Percent(percent) => total.saturating_mul(percent.into()) / 100,
        }
    }

    /// How many of `total` that is at least.
    #[must_use]
    pub fn at_least(self, total: usize) -> usize {
        match self {
            Self::Count(count) => count as usize,
            Self::Percent(percent) => total.saturating_mul(percent.into()).div_ceil(100),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// Why a text is no [`Share`] or [`WaveSize`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{seen}` is neither a number of phones such as `3` nor a share of all such as `5%`, from {least} to 10000 or 100%"
)]
pub struct NoShare {
    seen: String,
    least: u32,
}

/// The most phones in one wave.
const COUNT_MAX: u32 = 10_000;

fn share(text: &str, least: u32) -> Result<Share, NoShare> {
    let whole = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u32>().ok())?;
    let share = match text.strip_suffix('%') {
        Some(digits) => {
            whole(digits).filter(|percent| *percent >= least).and_then(|n| u8::try_from(n).ok()).map(Share::Percent)
        }
        None => whole(text).filter(|count| (least..=COUNT_MAX).contains(count)).map(Share::Count),
    };
    share
        .filter(|share| !matches!(share, Share::Percent(101..)))
        .ok_or_else(|| NoShare { seen: text.to_owned(), least })
}

impl FromStr for Share {
    type Err = NoShare;

    fn from_str(text: &str) -> Result<Self, NoShare> {
        share(text, 0)
    }
}

impl TryFrom<String> for Share {
    type Error = NoShare;

    fn try_from(text: String) -> Result<Self, NoShare> {
        text.parse()
    }
}

impl From<Share> for String {
    fn from(share: Share) -> Self {
        share.to_string()
    }
}

/// How many phones a wave has: `10` more, or as many as it takes until `25%` of all have had their turn. Never none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WaveSize(Share);

impl fmt::Display for WaveSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for WaveSize {
    type Err = NoShare;

    fn from_str(text: &str) -> Result<Self, NoShare> {
        share(text, 1).map(Self)
    }
}

impl TryFrom<String> for WaveSize {
    type Error = NoShare;

    fn try_from(text: String) -> Result<Self, NoShare> {
        text.parse()
    }
}

impl From<WaveSize> for String {
    fn from(size: WaveSize) -> Self {
        size.to_string()
    }
}

/// The wave of each of `total` phones, from 0. The last size repeats; behind a last share of less than 100 % comes one wave of all the
/// rest. A share that is reached already has no wave.
#[must_use]
pub fn waves_of(total: usize, sizes: &[WaveSize]) -> Vec<u32> {
    let mut waves = Vec::with_capacity(total);
    let (mut wave, mut place) = (0, 0);
    while waves.len() < total {
        let until = match sizes.get(place).or_else(|| sizes.last().filter(|size| matches!(size.0, Share::Count(_)))) {
            Some(WaveSize(Share::Count(count))) => waves.len() + (*count as usize).max(1),
            Some(WaveSize(share)) => share.at_least(total),
            None => total,
        };
        place += 1;
        if until > waves.len() {
            waves.resize(until.min(total), wave);
            wave += 1;
        }
    }
    waves
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waves(total: usize, sizes: &str) -> Vec<u32> {
        let sizes: Vec<WaveSize> = sizes.split(',').map(|size| size.parse().unwrap()).collect();
        waves_of(total, &sizes)
    }

    #[test]
    fn counts_are_that_many_more_and_the_last_repeats() {
        assert_eq!(waves(9, "1,3"), [0, 1, 1, 1, 2, 2, 2, 3, 3]);
        assert_eq!(waves(9, "4"), [0, 0, 0, 0, 1, 1, 1, 1, 2]);
        assert_eq!(waves_of(3, &[]), [0, 0, 0], "without sizes all go at once");
    }

    #[test]
    fn shares_are_of_all_and_what_is_left_is_one_wave() {
        let of_200 = waves(200, "1,5%,25%,100%");
        let sizes = (0..4).map(|wave| of_200.iter().filter(|seen| **seen == wave).count()).collect::<Vec<_>>();
        assert_eq!(sizes, [1, 9, 40, 150]);
        assert_eq!(waves(4, "1,5%,25%,100%"), [0, 1, 1, 1], "a share that is reached has no wave");
        assert_eq!(waves(4, "25%"), [0, 1, 1, 1]);
    }

    #[test]
    fn a_share_is_read_as_it_is_said_and_nonsense_is_refused() {
        for text in ["0", "3", "10000", "0%", "5%", "100%"] {
            assert_eq!(text.parse::<Share>().unwrap().to_string(), text);
        }
        for text in ["", "%", "-1", "+1", "1.5", "101%", "10001", "300%", "5 %", "five"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
        assert!("0".parse::<WaveSize>().is_err() && "0%".parse::<WaveSize>().is_err(), "a wave of nobody");
    }

    #[test]
    fn a_limit_of_failures_is_never_rounded_up() {
        assert_eq!((Share::Percent(5).at_most(19), Share::Percent(5).at_most(20)), (0, 1));
    }
}
