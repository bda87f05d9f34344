//! After the trouble: the rack becomes well by itself.

use farmhand::rack::candidate::Choice;
use farmhand::rack::snapshot::{LineState, PhoneState, RolloutPhoneState, RolloutState, RolloutView};
use farmhand::store::promise::{Report, RolloutPhoneRecord, RolloutRecord};

use super::super::{World, endpoint};

/// Every handset is ready in its place, its line is registered, and no rollout is stuck.
///
/// # Errors
/// What is not well yet.
pub(crate) fn rack(world: &World) -> Result<(), String> {
    let Some(daemon) = &world.daemon else { return Err("the daemon is down".to_owned()) };
    if daemon.rollouts.committing.is_some() {
        return Err("a promise is not committed".to_owned());
    }
    // Cheap first: most looks end here.
    if let Some(handset) = world.handsets.iter().find(|handset| handset.on_bus.is_none()) {
        return Err(format!("handset {} ({}) is not on the bus", handset.number, handset.serial));
    }
    let snapshot = daemon.rack.snapshot(world.stage.now);
    for handset in &world.handsets {
        let at = handset.on_bus.map(endpoint);
        let Some(phone) = snapshot.phones.iter().find(|phone| phone.endpoint == at) else {
            return Err(format!("handset {} is at {at:?} and the model shows no phone there", handset.number));
        };
        let (state, why) = (phone.state.as_str(), &phone.why);
        if phone.serial.as_ref() != Some(&handset.serial) {
            return Err(format!("{at:?} has handset {}, and the model shows {}", handset.serial, phone.id));
        }
        if world.disk.twins.contains(&handset.serial)
            && phone.id.as_str() != format!("{}~{}", handset.serial, handset.imei)
        {
            return Err(format!("handset {} has a twin, and is called {}", handset.imei, phone.id));
        }
        if phone.state != PhoneState::Ready {
            return Err(format!("{} is {state} in calm: {why}", phone.id));
        }
        if phone.line.state != LineState::Registered {
            return Err(format!("the line of {} is {:?} in calm: {}", phone.id, phone.line.state, phone.line.why));
        }
        let version = phone.agent.as_ref().map(|agent| agent.version_code.0);
        if version != handset.version {
            return Err(format!("{} has version {:?}, and the model shows {version:?}", phone.id, handset.version));
        }
    }
    world.nothing_waits_on_disk()?;
    snapshot.rollouts.iter().try_for_each(|rollout| over_or_waiting(world, rollout))?;
    world.disk.phones.values().filter(|record| world.ready().contains(&record.phone)).try_for_each(told)
}

/// The centre has heard of each failure of what it asked for.
fn told(record: &RolloutPhoneRecord) -> Result<(), String> {
    match (record.report, record.notice, &record.why) {
        (Report::Due, Some(notice), Some(why)) => {
            Err(format!("{} in {}: the failure of notice {notice} is untold: {why}", record.phone, record.rollout))
        }
        _ => Ok(()),
    }
}

/// Whoever is here and has an older version is in the only rollout that is open to all.
fn joined(world: &World, rollout: &RolloutView) -> Result<(), String> {
    let mut open = world.disk.rollouts.values().filter(|record| record.ended.is_none());
    let (Some(record), None) = (open.next(), open.next()) else { return Ok(()) };
    let Some(daemon) = &world.daemon else { return Ok(()) };
    let wall = daemon.rollouts.wall(world.stage.now);
    let is_closed = record.closes.is_some_and(|closes| closes <= wall);
    if is_closed || record.joins.as_deref() != Some(&Choice::default()) || record.number.id() != rollout.id {
        return Ok(());
    }
    for phone in daemon.rack.snapshot(world.stage.now).phones {
        let older = phone.agent.as_ref().is_none_or(|agent| agent.version_code < record.version_code);
        let known = world.disk.phones.contains_key(&(record.number, phone.id.clone()));
        if phone.state == PhoneState::Ready && phone.leases.is_empty() && older && !known {
            return Err(format!("{} is open to all, and {} has not joined", rollout.id, phone.id));
        }
    }
    Ok(())
}

/// Whether a rollout is under way that brings the phones of this one back.
fn takes_back(world: &World, rollout: &RolloutView) -> bool {
    let is_way =
        |way: &RolloutRecord| way.ended.is_none() && way.takes_back.is_some_and(|origin| origin.id() == rollout.id);
    world.disk.rollouts.values().any(is_way)
}

/// A rollout may wait for a phone that is not there, for one before it that does, and for a time of its own: `reasons` sees to it that
/// such a time ends.
fn over_or_waiting(world: &World, rollout: &RolloutView) -> Result<(), String> {
    match rollout.state {
        RolloutState::Finished | RolloutState::Aborted | RolloutState::RolledBack => return Ok(()),
        // What brings its phones back is a rollout of its own.
        RolloutState::RollingBack if takes_back(world, rollout) => return Ok(()),
        RolloutState::Running => {}
        other => return Err(format!("rollout {} is {} in calm: {}", rollout.id, other.as_str(), rollout.why)),
    }
    let ready = world.ready();
    let waits = |number| world.disk.phones.values().any(|phone| phone.rollout == number && !phone.state.is_settled());
    let has_turns = |record: &&RolloutRecord| record.state == RolloutState::Running && waits(record.number);
    // One that begins later has no turn yet, and its own view says so.
    let wall = world.daemon.as_ref().map(|daemon| daemon.rollouts.wall(world.stage.now));
    let has_begun = |record: &&RolloutRecord| record.starts.is_none_or(|starts| Some(starts) <= wall);
    let turn = world.disk.rollouts.values().filter(has_begun).find(has_turns);
    let has_turn = turn.is_some_and(|record| record.number.id() == rollout.id);
    let left = |wave: &&farmhand::rack::snapshot::WaveView| wave.phones.iter().any(|phone| !phone.state.is_settled());
    let parked = rollout
        .waves
        .iter()
        .flat_map(|wave| &wave.phones)
        .find(|phone| phone.state == RolloutPhoneState::Parked && ready.contains(&phone.phone));
    if let Some(parked) = parked {
        return Err(format!("rollout {} waits for {}, which is here", rollout.id, parked.phone));
    }
    joined(world, rollout)?;
    let soaks =
        ["; soaks for ", "outside the maintenance windows", "begins at "].iter().any(|time| rollout.why.contains(time));
    let Some(wave) = rollout.waves.iter().find(left).filter(|_| has_turn && !soaks) else { return Ok(()) };
    for phone in &wave.phones {
        let is_retried = phone.why.as_deref().is_some_and(|why| why.starts_with("tried again "));
        let stuck = phone.state == RolloutPhoneState::Installing
            || phone.state == RolloutPhoneState::Waiting && ready.contains(&phone.phone) && !is_retried;
        if stuck {
            let state = phone.state.as_str();
            return Err(format!("rollout {} is stuck: {} is {state}, {}", rollout.id, phone.phone, rollout.why));
        }
    }
    Ok(())
}
