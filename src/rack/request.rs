//! What an operator may ask of a running daemon, by command line, page or API, and what is answered.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::candidate::Choice;
use super::ids::{HubName, HubPort, PackageName, PhoneId, RolloutId};
use super::snapshot::{Forecast, PortMode};
use super::strategy::StrategyChanges;

/// A request of an operator. Reading is no request: everyone reads the [`super::Snapshot`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Request {
    /// Switch a port of a power hub.
    SetPort {
        /// The hub.
        hub: HubName,
        /// Its port.
        port: HubPort,
        /// The mode.
        mode: PortMode,
    },
    /// Have a phone to oneself: rollouts and recovery leave it alone.
    Hold {
        /// Its slot or id.
        phone: String,
        /// For how long.
        seconds: u64,
        /// Why, for others.
        reason: String,
        /// The user's name; the daemon sets it by the door through which the request came.
        #[serde(skip)]
        who: String,
    },
    /// End the hold of a phone.
    Release {
        /// Its slot or id.
        phone: String,
        /// As in [`Request::Hold`].
        #[serde(skip)]
        who: String,
    },
    /// Give the interface of a phone to another program.
    Detach {
        /// Its slot or id.
        phone: String,
        /// As in [`Request::Hold`].
        #[serde(skip)]
        who: String,
    },
    /// Take the interface of a phone back.
    Attach {
        /// Its slot or id.
        phone: String,
        /// As in [`Request::Hold`].
        #[serde(skip)]
        who: String,
    },
    /// Set what a phone registers as with the central server.
    IdentitySet {
        /// Its slot or id.
        phone: String,
        /// The credential.
        credential: String,
        /// As in [`Request::Hold`].
        #[serde(skip)]
        who: String,
    },
    /// What was set for a phone no longer counts: the configuration does.
    IdentityForget {
        /// Its slot or id.
        phone: String,
        /// As in [`Request::Hold`].
        #[serde(skip)]
        who: String,
    },
    /// Set what many phones register as.
    IdentitiesImport {
        /// The credential of each id, serial or slot.
        phones: BTreeMap<String, String>,
        /// As in [`Request::Hold`].
        #[serde(skip)]
        who: String,
    },
    /// Begin a rollout of an APK on the rack's host.
    RolloutStart(RolloutOrder),
    /// Say what such a rollout would come to, and begin none.
    RolloutForecast(RolloutOrder),
    /// Let a rollout that waits for approval begin.
    RolloutApprove {
        /// Which.
        rollout: RolloutId,
    },
    /// Start no further install.
    RolloutPause {
        /// Which.
        rollout: RolloutId,
    },
    /// Go on, trying again what failed.
    RolloutResume {
        /// Which.
        rollout: RolloutId,
    },
    /// Try again what failed or needs a hand, also in one that is finished.
    RolloutRetry {
        /// Which.
        rollout: RolloutId,
        /// Only this phone; all of them if absent.
        phone: Option<PhoneId>,
    },
    /// Leave a phone out.
    RolloutSkip {
        /// Which.
        rollout: RolloutId,
        /// The phone.
        phone: PhoneId,
    },
    /// Go on in spite of what failed, without trying it again.
    RolloutPromote {
        /// Which.
        rollout: RolloutId,
        /// Why, for the audit.
        reason: String,
    },
    /// Give it up, and bring back the version that each of its phones had before.
    RolloutRollback {
        /// Which.
        rollout: RolloutId,
        /// Why, for the audit.
        reason: String,
    },
    /// Give it up.
    RolloutAbort {
        /// Which.
        rollout: RolloutId,
        /// Why, for the audit.
        reason: String,
    },
}

/// An APK for phones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutOrder {
    /// The APK's file on the host, absolute.
    pub apk: PathBuf,
    /// Its package, as a check against mistakes; the configured agent's if absent.
    pub package: Option<PackageName>,
    /// For whom.
    #[serde(flatten)]
    pub choice: Choice,
    /// What shall be otherwise than configured.
    #[serde(default)]
    pub strategy: StrategyChanges,
}

/// Names one request of an operator, so that its answer finds the asker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ask(pub u64);

impl Request {
    /// The same, as `user` asks for it.
    #[must_use]
    pub fn by(mut self, user: &str) -> Self {
        if let Self::Hold { who, .. }
        | Self::Release { who, .. }
        | Self::Detach { who, .. }
        | Self::Attach { who, .. }
        | Self::IdentitySet { who, .. }
        | Self::IdentityForget { who, .. }
        | Self::IdentitiesImport { who, .. } = &mut self
        {
            user.clone_into(who);
        }
        self
    }
}

/// What was done, as a sentence; `rollout` names the rollout that was begun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// What was done.
    pub what: String,
    /// The rollout it was done to.
    pub rollout: Option<RolloutId>,
    /// What a rollout would come to, where that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Box<Forecast>>,
}

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}")]
pub struct Refusal {
    /// A stable code for programs: `rollout.unknown`.
    pub code: String,
    /// What was wrong: the thing, what was expected, what was seen.
    pub what: String,
    /// What the operator can do.
    pub help: Option<String>,
}
