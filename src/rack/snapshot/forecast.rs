//! What a rollout would come to.

use serde::{Deserialize, Serialize};

use crate::rack::ids::{PackageName, PhoneId, RolloutId, SlotName, VersionCode};

/// What a rollout would come to, by all that is known now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// The package of the APK.
    pub package: PackageName,
    /// Its version.
    pub version_code: VersionCode,
    /// Its name.
    pub version_name: String,
    /// Who gets it, wave by wave.
    pub waves: Vec<Vec<ForecastPhone>>,
    /// Who does not.
    pub left_out: Vec<LeftOut>,
    /// How often the owner must agree.
    pub approvals: u32,
    /// The rollouts that come first.
    pub behind: Vec<RolloutId>,
    /// What one install is reckoned to take, in seconds.
    pub install_s: u64,
    /// Of how many installs that is the median; 0 where none was seen, and a guess stands for it.
    pub measured: usize,
    /// From the first approval to the last result, if everybody agrees at once and everything goes well; phones that are away are not
    /// waited for. Absent if it would not end by itself.
    pub takes_s: Option<u64>,
}

/// A phone that gets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForecastPhone {
    /// The phone.
    pub phone: PhoneId,
    /// Where it sits.
    pub slot: Option<SlotName>,
    /// What it waits for before its install can begin.
    pub waits: Option<String>,
    /// Why somebody must go to its screen.
    pub hand: Option<String>,
    /// The newer version that it has now: this is a downgrade.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newer: Option<VersionCode>,
}

/// A phone that was meant, and does not get it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The phone.
    pub phone: PhoneId,
    /// Where it sits.
    pub slot: Option<SlotName>,
    /// Why.
    pub why: String,
}
