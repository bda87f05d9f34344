//! Upgrades by the agent on the phone, as a step of a rollout: its line tells it, and what the phone reports over ADB decides.
//!
//! Invariant: an upgrade that was handed to an agent ends well only once the phone itself reports the version, or a newer one
//! (`an_upgrade_by_the_agent_is_done_once_the_phone_reports_the_version`). One without any word has failed by the rollout's own deadline.

use super::event::{Command, LineCommand, RolloutCommand};
use super::ids::{PackageName, PhoneId, RolloutId, VersionCode};
use super::place::Phone;
use super::snapshot::PhoneState;
use super::{Outcome, Rack};
use crate::clock::Moment;
use crate::phone::{Carrier, InstallFailure, InstallFailureClass, InstallOrder};

/// `UpgradeDeviceAppNotice` of the server, for one phone and one app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeNotice {
    /// The `Id` of the message: a failure is answered with it as `RefMessageId`.
    pub message_id: i64,
    /// The package.
    pub package: PackageName,
    /// The version that is wanted.
    pub version_code: VersionCode,
    /// Its name.
    pub version_name: String,
    /// Where the APK is.
    pub url: String,
}

/// What the agent on a phone is told to do with itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeByAgent {
    /// For which rollout.
    pub rollout: RolloutId,
    /// The package.
    pub package: PackageName,
    /// The version that is wanted.
    pub version_code: VersionCode,
    /// Its name.
    pub version_name: String,
    /// Where the APK is.
    pub url: String,
}

/// An upgrade by the agent that came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeFailed {
    /// Of which rollout.
    pub rollout: RolloutId,
    /// What happened, as a sentence.
    pub why: String,
}

impl UpgradeByAgent {
    /// `None` where the order is to be carried out over ADB.
    pub(super) fn of(order: &InstallOrder) -> Option<Self> {
        let Carrier::Agent { url, version_name } = &order.carrier else { return None };
        Some(Self {
            rollout: order.rollout.clone(),
            package: order.package.clone(),
            version_code: order.version_code,
            version_name: version_name.clone(),
            url: url.clone(),
        })
    }
}

impl Rack {
    pub(super) fn upgrade_by_agent(&mut self, id: PhoneId, upgrade: UpgradeByAgent, out: &mut Outcome) {
        match self.why_not_by_agent(&id) {
            None => {
                let Some(phone) = self.phones.get_mut(&id) else { return };
                phone.awaits = Some(upgrade.clone());
                let command = LineCommand::Upgrade(Box::new(upgrade));
                out.commands.push(Command::Line { phone: id, command });
            }
            Some(failure) => out.commands.push(installed(id, upgrade.rollout, Err(failure))),
        }
    }

    /// Why the agent of a phone can't be told now.
    fn why_not_by_agent(&self, id: &PhoneId) -> Option<InstallFailure> {
        let Some(phone) = self.phones.get(id).filter(|phone| phone.place.is_some()) else {
            return Some(InstallFailure::not_here());
        };
        let life = phone.place.as_ref().and_then(|endpoint| self.places.get(endpoint)).map(|place| &place.life);
        let away = match life {
            Some(life) if life.state() == PhoneState::Ready => None,
            Some(life) => Some(format!("the phone is {}: {}", life.state().as_str(), life.why())),
            None => return Some(InstallFailure::not_here()),
        };
        let silent = || {
            let why = "no agent is connected on this phone that could be told to upgrade itself";
            phone.line.agent_since().is_none().then(|| why.to_owned())
        };
        self.held_by(id).or(away).or_else(silent).map(may_pass)
    }

    /// Something changed on a line. An agent that was told to upgrade itself and is there again may be the new one: the phone is asked at
    /// once, instead of when its turn comes.
    pub(super) fn look_for_upgrade(&mut self, now: Moment, id: &PhoneId, out: &mut Outcome) {
        let is_back = |phone: &&Phone| phone.awaits.is_some() && phone.line.agent_since().is_some();
        let place = self.phones.get(id).filter(is_back).and_then(|phone| phone.place.clone());
        if let Some(endpoint) = place {
            self.on_place(now, &endpoint, out, |life| life.profile_is_old(now));
        }
    }

    pub(super) fn upgrade_failed(&mut self, id: &PhoneId, failed: UpgradeFailed, out: &mut Outcome) {
        let awaited = self.phones.get_mut(id).and_then(|phone| phone.awaits.take_if(|it| it.rollout == failed.rollout));
        if awaited.is_some() {
            out.commands.push(installed(id.clone(), failed.rollout, Err(may_pass(failed.why))));
        }
    }
}

impl Phone {
    /// It has this version: what rollouts are told if that was waited for.
    pub(super) fn upgrade_seen(&mut self, version: Option<VersionCode>) -> Option<Command> {
        let version = version?;
        let done = self.awaits.take_if(|awaited| version >= awaited.version_code)?;
        Some(installed(self.id.clone(), done.rollout, Ok(version)))
    }
}

/// The agent's own reasons are not known well enough to give the phone up at once.
fn may_pass(why: String) -> InstallFailure {
    InstallFailure { class: InstallFailureClass::Transient, reason: None, why }
}

fn installed(phone: PhoneId, rollout: RolloutId, result: Result<VersionCode, InstallFailure>) -> Command {
    Command::Rollout(RolloutCommand::Installed { phone, rollout, result })
}
