//! Never more installs at once than the strategy allows, none on a phone that is known to be unfit, and none outside the windows.

use std::collections::BTreeMap;

use farmhand::clock::UnixMillis;
use farmhand::config::Windows;
use farmhand::rack::candidate::Candidate;
use farmhand::rack::ids::PhoneId;
use farmhand::rack::snapshot::RolloutPhoneState;
use farmhand::store::promise::Promise;

use super::super::disk::Disk;
use super::super::rollouts::apk;

/// A batch of promises is made at the wall time `wall`, by a core that was told this of the phones.
pub(crate) fn promised(
    batch: &[Promise],
    disk: &Disk,
    known: &BTreeMap<PhoneId, Candidate>,
    windows: &Windows,
    wall: UnixMillis,
) -> Result<(), String> {
    let mut records = disk.phones.clone();
    let mut begun = Vec::new();
    for promise in batch {
        let Promise::RolloutPhone(record) = promise else { continue };
        let before = records.insert((record.rollout, record.phone.clone()), record.clone());
        if before.map_or(0, |before| before.attempts) < record.attempts {
            begun.push(record);
        }
    }
    let hub_of = |phone: &PhoneId| known.get(phone).and_then(|candidate| candidate.hub.as_ref());
    let installing: Vec<&PhoneId> = records
        .values()
        .filter(|record| record.state == RolloutPhoneState::Installing)
        .map(|record| &record.phone)
        .collect();
    for record in begun {
        let what = format!("{} promises an install on {}", record.rollout, record.phone);
        let rollout = batch.iter().find_map(|promise| match promise {
            Promise::Rollout(rollout) if rollout.number == record.rollout => Some(rollout),
            _ => None,
        });
        let rollout = rollout.or_else(|| disk.rollouts.get(&record.rollout));
        if !windows.are_open(wall) {
            return Err(format!("{what} outside the windows"));
        }
        if let Some(starts) = rollout.and_then(|rollout| rollout.starts).filter(|starts| *starts > wall) {
            return Err(format!("{what} before {starts:?}"));
        }
        let Some(limits) = rollout.map(|rollout| rollout.strategy.limits) else {
            return Err(format!("{what}, and there is no such rollout"));
        };
        if installing.len() > limits.at_once as usize {
            return Err(format!("{what}: {} at once, {} are allowed", installing.len(), limits.at_once));
        }
        let hub = hub_of(&record.phone);
        let of_hub = installing.iter().filter(|phone| hub.is_some() && hub_of(phone) == hub).count();
        if of_hub > limits.at_once_per_hub as usize {
            return Err(format!("{what}: {of_hub} of {hub:?} at once, {} are allowed", limits.at_once_per_hub));
        }
        let readings = known.get(&record.phone).map(|candidate| candidate.readings).unwrap_or_default();
        if let Some(why) = limits.why_unfit(apk(2).size, &readings) {
            return Err(format!("{what}: {why}"));
        }
    }
    Ok(())
}
