//! No step of a rollout without its committed promise.

use farmhand::agent::ApkSource;
use farmhand::rack::event::InstallOrder;
use farmhand::rack::ids::PhoneId;
use farmhand::rack::snapshot::{RolloutPhoneState, RolloutState, RolloutView};
use farmhand::rack::strategy::Downgrade;
use farmhand::store::RolloutNumber;
use farmhand::store::promise::{Report, RolloutRecord};

use super::super::centre::Centre;
use super::super::disk::Disk;
use super::super::rollouts::OLDER_APK;

/// An install is ordered.
pub(crate) fn install(phone: &PhoneId, order: &InstallOrder, disk: &Disk) -> Result<(), String> {
    let what = format!("{} orders an install of {} on {phone}", order.rollout, order.version_code);
    let number = RolloutNumber::of(&order.rollout).ok_or_else(|| format!("{what}: no number"))?;
    let rollout = disk.rollouts.get(&number).ok_or_else(|| format!("{what}: the disk has no such rollout"))?;
    if !matches!(rollout.state, RolloutState::Running | RolloutState::Paused) {
        return Err(format!("{what}: on the disk it is {}", rollout.state.as_str()));
    }
    if rollout.version_code != order.version_code || rollout.package != order.package {
        return Err(format!("{what}: the disk promises {} {}", rollout.package, rollout.version_code));
    }
    if order.downgrade != rollout.strategy.downgrade {
        return Err(format!(
            "{what}: a downgrade is {:?}, on the disk it is {:?}",
            order.downgrade, rollout.strategy.downgrade
        ));
    }
    if order.downgrade == Downgrade::Allowed {
        asked_for(phone, rollout, disk).map_err(|why| format!("{what}: {why}"))?;
    }
    let promised = disk.phones.get(&(number, phone.clone())).map(|record| (record.state, record.attempts));
    match promised {
        Some((RolloutPhoneState::Installing, 1..)) => Ok(()),
        other => Err(format!("{what}: on the disk that phone is {other:?}")),
    }
}

/// No phone is downgraded unasked: somebody has allowed it for this APK, or has rolled back what the phone has got, and it gets what it had
/// before.
fn asked_for(phone: &PhoneId, rollout: &RolloutRecord, disk: &Disk) -> Result<(), String> {
    let Some(origin) = rollout.takes_back else {
        let is_asked = rollout.source == ApkSource::File(OLDER_APK.into());
        return if is_asked { Ok(()) } else { Err("nobody asked for a downgrade".to_owned()) };
    };
    // What is over long since may be forgotten, but not while its phones go back.
    let rolled_back = disk.rollouts.get(&origin).ok_or_else(|| format!("{origin} is not on the disk"))?;
    if !rolled_back.state.is_rolled_back() {
        return Err(format!("{origin} is {}, not rolled back", rolled_back.state.as_str()));
    }
    let before = disk.phones.get(&(origin, phone.clone())).and_then(|record| record.before);
    if before != Some(rollout.version_code) {
        return Err(format!("before {origin} the phone had {before:?}"));
    }
    Ok(())
}

/// No failure counts as told that the centre does not know.
pub(crate) fn told(disk: &Disk, centre: &Centre) -> Result<(), String> {
    let told = disk.phones.values().filter(|record| record.report == Report::Sent);
    let mut told = told.filter_map(|record| Some((record, record.notice?)));
    match told.find(|(_, notice)| !centre.failures.contains(notice)) {
        Some((record, notice)) => {
            Err(format!("{} in {}: the failure of notice {notice} was never told", record.phone, record.rollout))
        }
        None => Ok(()),
    }
}

/// What is shown is on the disk.
pub(crate) fn views(views: &[RolloutView], disk: &Disk) -> Result<(), String> {
    for view in views {
        let number = RolloutNumber::of(&view.id).ok_or_else(|| format!("{} has no number", view.id))?;
        let promised = disk.rollouts.get(&number).map(|record| record.state);
        if promised != Some(view.state) {
            return Err(format!("{} is shown as {}, on the disk it is {promised:?}", view.id, view.state.as_str()));
        }
        for shown in view.waves.iter().flat_map(|wave| &wave.phones) {
            let promised = disk.phones.get(&(number, shown.phone.clone())).map(|record| record.state);
            if promised != Some(shown.state) {
                let (id, phone, state) = (&view.id, &shown.phone, shown.state.as_str());
                return Err(format!("{phone} in {id} is shown as {state}, on the disk it is {promised:?}"));
            }
        }
    }
    Ok(())
}
