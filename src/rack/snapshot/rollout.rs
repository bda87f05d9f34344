//! Rollouts in a snapshot.

use serde::{Deserialize, Serialize};

use crate::clock::UnixMillis;
use crate::rack::ids::{PackageName, PhoneId, RolloutId, VersionCode};

/// A rollout's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    /// Notices of the same package are still being gathered.
    Gathering,
    /// The APK is being fetched and checked.
    Fetching,
    /// It waits for the owner's approval.
    WaitingApproval,
    /// A wave is under way.
    Running,
    /// It stopped; the owner must look.
    Paused,
    /// It is given up, and its phones get back the versions that they had before.
    RollingBack,
    /// Every phone has its result.
    Finished,
    /// It was given up: the APK was refused, or the owner said so.
    Aborted,
    /// Its phones have got back the versions that they had before, as far as that was possible.
    RolledBack,
}

impl RolloutState {
    /// Whether nothing more will happen in it.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Finished | Self::Aborted | Self::RolledBack)
    }

    /// Whether its phones get back what they had before, or have.
    #[must_use]
    pub const fn is_rolled_back(self) -> bool {
        matches!(self, Self::RollingBack | Self::RolledBack)
    }

    /// All states, in the order of the enum.
    pub const ALL: [Self; 9] = [
        Self::Gathering,
        Self::Fetching,
        Self::WaitingApproval,
        Self::Running,
        Self::Paused,
        Self::RollingBack,
        Self::Finished,
        Self::Aborted,
        Self::RolledBack,
    ];

    /// The word for it in JSON and in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gathering => "gathering",
            Self::Fetching => "fetching",
            Self::WaitingApproval => "waiting_approval",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::RollingBack => "rolling_back",
            Self::Finished => "finished",
            Self::Aborted => "aborted",
            Self::RolledBack => "rolled_back",
        }
    }
}

/// One rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutView {
    /// Its name.
    pub id: RolloutId,
    /// Its state.
    pub state: RolloutState,
    /// Why, as a sentence.
    pub why: String,
    /// The package that is rolled out.
    pub package: PackageName,
    /// The version that is rolled out.
    pub version_code: VersionCode,
    /// Its name.
    pub version_name: String,
    /// When it began.
    pub created: UnixMillis,
    /// The waves, in order.
    pub waves: Vec<WaveView>,
}

/// One wave of a rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WaveView {
    /// Its phones, each with what became of it.
    pub phones: Vec<RolloutPhoneView>,
}

/// One phone in a rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutPhoneView {
    /// The phone.
    pub phone: PhoneId,
    /// How far it is.
    pub state: RolloutPhoneState,
    /// Why it failed or waits.
    pub why: Option<String>,
    /// How often the install was tried.
    pub attempts: u32,
}

/// How far one phone is in a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutPhoneState {
    /// Its turn has not come.
    Waiting,
    /// It is away; the others go on, and it has its turn once it is back.
    Parked,
    /// Its install was promised in the store and may be under way.
    Installing,
    /// The phone reports the new version.
    Done,
    /// The install failed.
    Failed,
    /// Somebody must touch the phone first: that says nothing of what is rolled out.
    NeedsHand,
    /// It does not get this version: the operator said so, or gave the rollout up.
    Skipped,
    /// Another rollout brings back the version that it had before.
    RollingBack,
    /// It has the version again that it had before.
    RolledBack,
}

impl RolloutPhoneState {
    /// All states.
    pub const ALL: [Self; 9] = [
        Self::Waiting,
        Self::Parked,
        Self::Installing,
        Self::Done,
        Self::Failed,
        Self::NeedsHand,
        Self::Skipped,
        Self::RollingBack,
        Self::RolledBack,
    ];

    /// Whether nobody waits for it: its turn is over, or it is away.
    #[must_use]
    pub const fn is_settled(self) -> bool {
        !matches!(self, Self::Waiting | Self::Installing)
    }

    /// Whether its turn is over for good.
    #[must_use]
    pub const fn is_final(self) -> bool {
        self.is_settled() && !matches!(self, Self::Parked | Self::RollingBack)
    }

    /// The word for it in JSON, in tables and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Parked => "parked",
            Self::Installing => "installing",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::NeedsHand => "needs_hand",
            Self::Skipped => "skipped",
            Self::RollingBack => "rolling_back",
            Self::RolledBack => "rolled_back",
        }
    }
}
