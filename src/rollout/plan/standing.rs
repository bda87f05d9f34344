//! The version that phones without the agent get: the one that last finished its rollout.
//!
//! ```text
//!     finished, a phone has the version ──▶ it stands ──▶ rolled back: the one before it stands again
//! ```
//!
//! `[agent] apk` is what they get before any rollout has finished. Afterwards it counts only once its owner has put another file there that no
//! rollout has brought or tries: whoever spoke last decides.
//!
//! Invariant: a version that is in trial, was given up or was rolled back never stands (`stories_of_standing`, and in the simulation `checks::standing`).

use super::{KeptAgent, Output, Rollout, Rollouts};
use crate::agent::CheckedApk;
use crate::rack::ids::{PackageName, VersionCode};
use crate::rack::snapshot::RolloutPhoneState;
use crate::store::RolloutNumber;
use crate::store::promise::{Promise, RolloutRecord, Stands};

/// A version that has finished its rollout, as the one of all that phones without the agent get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its rollout.
    pub rollout: RolloutNumber,
    /// The package.
    pub package: PackageName,
    /// The version.
    pub version_code: VersionCode,
    /// SHA-256 of the APK, in lower-case hex: the state directory has it.
    pub sha256: String,
}

impl Standing {
    /// What stands by the promises of a store; `None` if that is `[agent] apk`.
    #[must_use]
    pub fn of(promises: &[Promise], agent: &KeptAgent) -> Option<Self> {
        let records = || {
            promises.iter().filter_map(|promise| match promise {
                Promise::Rollout(record) => Some(record),
                _ => None,
            })
        };
        standing(records, agent)
    }

    /// The newest version of a package that has finished its rollout, whatever `[agent] apk` is: its APK is kept.
    #[must_use]
    pub fn last<'r>(
        records: impl Iterator<Item = &'r RolloutRecord>,
        package: &PackageName,
    ) -> Option<&'r RolloutRecord> {
        let stands = |record: &RolloutRecord| record.stands.as_ref().map(|stands| stands.turn);
        records
            .filter(|record| record.package == *package && stands(record).is_some())
            .max_by_key(|record| stands(record))
    }
}

fn standing<'r, I: Iterator<Item = &'r RolloutRecord>>(records: impl Fn() -> I, agent: &KeptAgent) -> Option<Standing> {
    let owners = agent.sha256.as_ref()?;
    let last = Standing::last(records(), &agent.package)?;
    let over = last.stands.as_ref()?.over.as_ref();
    let is_known = records().any(|record| record.sha256.as_ref() == Some(owners));
    if over != Some(owners) && !is_known {
        return None;
    }
    Some(Standing {
        rollout: last.number,
        package: last.package.clone(),
        version_code: last.version_code,
        sha256: last.sha256.clone()?,
    })
}

impl Rollouts {
    /// What stands now; `None` if that is `[agent] apk`, or there is none.
    #[must_use]
    pub fn standing(&self) -> Option<Standing> {
        standing(|| self.rollouts.values().map(|rollout| &rollout.record), self.agent.as_ref()?)
    }

    /// The APK of a rollout, if it was checked since the start.
    #[must_use]
    pub fn checked(&self, number: RolloutNumber) -> Option<&CheckedApk> {
        self.rollouts.get(&number)?.checked_apk()
    }

    /// The rollout whose version stands, or would but for `[agent] apk`.
    pub(super) fn last_to_stand(&self) -> Option<RolloutNumber> {
        let package = &self.agent.as_ref()?.package;
        Standing::last(self.rollouts.values().map(|rollout| &rollout.record), package).map(|record| record.number)
    }

    /// A rollout has finished: from now on its version stands, if a phone has it. The way back of another one is none of its own.
    pub(super) fn may_stand(&self, rollout: &Rollout) -> Option<Stands> {
        let is_new = rollout.record.takes_back.is_none() && rollout.record.stands.is_none();
        if !is_new || rollout.count(RolloutPhoneState::Done) == 0 {
            return rollout.record.stands.clone();
        }
        let turns = self.rollouts.values().filter_map(|one| one.record.stands.as_ref()).map(|stands| stands.turn);
        let over = self.agent.as_ref().and_then(|agent| agent.sha256.clone());
        Some(Stands { turn: turns.max().unwrap_or_default() + 1, over })
    }

    /// Says what stands when that is another one.
    pub(super) fn say_standing(&mut self) {
        let stands = self.standing();
        if self.said_standing != stands {
            self.said_standing.clone_from(&stands);
            self.draft.effects.push(Output::Standing(stands));
        }
    }
}
