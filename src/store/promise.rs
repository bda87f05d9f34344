//! What is promised: one record for each row of `promises.db`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::agent::ApkSource;
use crate::clock::UnixMillis;
use crate::rack::PowerLedger;
use crate::rack::access::TokenRecord;
use crate::rack::candidate::Choice;
use crate::rack::detach::Detachment;
use crate::rack::ids::{Endpoint, PackageName, PhoneId, RolloutId, Serial, VersionCode};
use crate::rack::lease::Lease;
use crate::rack::snapshot::{RolloutPhoneState, RolloutState};
use crate::rack::strategy::Strategy;

/// One operation on the store; a batch of them is one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Promise {
    /// A rollout as it stands now: new, or in place of its earlier record.
    Rollout(RolloutRecord),
    /// One phone of a rollout as it stands now: new, or in place of its earlier record.
    RolloutPhone(RolloutPhoneRecord),
    /// A rollout that is over is no longer kept, nor are its phones.
    ForgetRollout(RolloutNumber),
    /// What recovery has done to the power of ports, in place of everything that was said of it before.
    Power(PowerLedger),
    /// A person's hold of a phone: new, or in place of an earlier one.
    Lease(Lease),
    /// The time of this hold is over; one that took its place stays.
    LeaseIsOver(Lease),
    /// A phone is no longer held.
    ForgetLease(PhoneId),
    /// What a phone registers as with the central server, in place of what was set for this name before.
    Identity {
        /// Its id, serial or slot.
        name: String,
        /// The credential.
        credential: String,
    },
    /// What was set for this id, serial or slot no longer counts.
    ForgetIdentity(String),
    /// Two phones were seen with this serial.
    SharedSerial(Serial),
    /// The interface of a place is another program's.
    Detached(Detachment),
    /// The interface of a place was taken back.
    Attached(Endpoint),
    /// A token that lets its owner in from other machines.
    Token(TokenRecord),
    /// The token of this id counts no more.
    ForgetToken(String),
    /// Who did what; only ever added.
    Audit(AuditRecord),
}

/// The number of a rollout, counted from 1 and never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RolloutNumber(pub u32);

impl RolloutNumber {
    /// The name that people see: `R7`.
    #[must_use]
    pub fn id(self) -> RolloutId {
        RolloutId::new(self.to_string())
    }

    /// The number in `R7` or `r7`; `None` for what is no such name.
    #[must_use]
    pub fn of(id: &RolloutId) -> Option<Self> {
        let digits = id.as_str().strip_prefix(['R', 'r'])?;
        (digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok().map(Self))?
    }
}

impl fmt::Display for RolloutNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "R{}", self.0)
    }
}

/// One rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutRecord {
    /// Its number.
    pub number: RolloutNumber,
    /// Its state.
    pub state: RolloutState,
    /// Why it is paused or was aborted, as a sentence; empty in every other state.
    pub why: String,
    /// Where its APK came from.
    pub source: ApkSource,
    /// The package.
    pub package: PackageName,
    /// The version that each phone shall have.
    pub version_code: VersionCode,
    /// Its name.
    pub version_name: String,
    /// How it goes on.
    pub strategy: Box<Strategy>,
    /// So many waves have begun, or may.
    pub open_waves: u32,
    /// Until when what the last wave got is watched before the next one begins.
    pub soaks_until: Option<UnixMillis>,
    /// So many failures the operator has seen and taken.
    pub accepted_failures: u32,
    /// Who joins that appears while it is under way; nobody if absent.
    pub joins: Option<Box<Choice>>,
    /// When phones that are away are no longer waited for; known once it runs.
    pub closes: Option<UnixMillis>,
    /// Before this it does not begin.
    pub starts: Option<UnixMillis>,
    /// SHA-256 of the checked APK, in lower-case hex, once there is one: what was approved is what is installed.
    pub sha256: Option<String>,
    /// The rollout whose phones it brings back to the version that they had before.
    pub takes_back: Option<RolloutNumber>,
    /// Phones that come later get its version, since it was finished; until it is rolled back.
    pub stands: Option<Stands>,
    /// When it began.
    pub created: UnixMillis,
    /// When it was finished or aborted.
    pub ended: Option<UnixMillis>,
}

/// That a rollout was finished, with a phone that has its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stands {
    /// Higher than that of each one that was finished before it, whatever the clock said.
    pub turn: u32,
    /// SHA-256 of `[agent] apk` then, in lower-case hex: another file is a later word of the owner's.
    pub over: Option<String>,
}

/// One phone of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutPhoneRecord {
    /// The rollout.
    pub rollout: RolloutNumber,
    /// The phone.
    pub phone: PhoneId,
    /// Its place in the rollout, from 0.
    pub position: u32,
    /// Its wave, from 0.
    pub wave: u32,
    /// How far it is.
    pub state: RolloutPhoneState,
    /// How often an install was promised.
    pub attempts: u32,
    /// How many of these ended without a result (power cut, unplugged) since the operator last said to go on.
    pub interrupted: u32,
    /// The version that it had when the first install was promised; `None` where it had none.
    pub before: Option<VersionCode>,
    /// How often it was tried again after a failure that may pass, since the operator last said to go on.
    pub retried: u32,
    /// What became of it, or what it waits for, as a sentence.
    pub why: Option<String>,
    /// Since when it must not be installed on, though it is here and has its turn.
    pub unfit_since: Option<UnixMillis>,
    /// The `Id` of the server's notice for this phone, if a notice asked for it.
    pub notice: Option<i64>,
    /// Whether the server was told of a failure.
    pub report: Report,
}

/// Whether the server was told of a phone's failure: at least once, also over a crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Report {
    /// There is nothing to tell.
    #[default]
    None,
    /// It must be told.
    Due,
    /// The server has taken the report.
    Sent,
}

/// One line of the audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// When.
    #[serde(rename = "at_unix_ms")]
    pub at: UnixMillis,
    /// Who: the name of a user, `operator`, `central server` or `farmhand`.
    pub who: String,
    /// What was done or refused, as a sentence.
    pub what: String,
    /// What it was done to, such as `R7` or a phone.
    pub target: String,
}

/// Which lines of the audit are wanted; what is not named does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// By whom.
    pub who: Option<String>,
    /// About one of these; all, if there are none.
    pub targets: Vec<String>,
    /// Not before this.
    pub since: Option<UnixMillis>,
    /// The newest so many.
    pub limit: u32,
}

/// So many lines of the audit are kept, the newest: some 20 MB, and years of a busy rack.
pub const AUDIT_LINES_MAX: u32 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollout_is_named_by_its_number() {
        assert_eq!(RolloutNumber(7).id().as_str(), "R7");
        assert_eq!(RolloutNumber::of(&RolloutId::new("R7")), Some(RolloutNumber(7)));
        assert_eq!(RolloutNumber::of(&RolloutId::new("r12")), Some(RolloutNumber(12)));
        for text in ["", "R", "7", "R-1", "R+1", "R1x", "R99999999999", "Q1"] {
            assert_eq!(RolloutNumber::of(&RolloutId::new(text)), None, "{text}");
        }
    }
}
