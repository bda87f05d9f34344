//! Whatever waits has a deadline, and every deadline has a reason.

use farmhand::clock::{Deadline, Moment};
use farmhand::rack::Rack;
use farmhand::rack::ids::PhoneId;
use farmhand::rack::snapshot::{LineState, PhoneState, RolloutPhoneState, RolloutState, RolloutView};

use super::super::actor::Actor;
use super::super::lines::LineShell;

fn reasonable(who: impl FnOnce() -> String, deadline: Option<&str>) -> Result<(), String> {
    match deadline {
        Some(why) if why.trim().is_empty() => Err(format!("{} has a deadline without a reason", who())),
        Some(_) => Ok(()),
        None => Err(format!("{} waits without a deadline", who())),
    }
}

pub(crate) fn phones(rack: &Rack) -> Result<(), String> {
    for standing in rack.standings() {
        let (endpoint, state) = (standing.endpoint, standing.state);
        // Who is not here, and what a person has given away, waits for nothing that has a time.
        if !matches!(state, PhoneState::Absent | PhoneState::Detached) {
            let deadline = standing.deadline.map(|deadline| deadline.why);
            reasonable(|| format!("the phone at {endpoint:?}, which is {},", state.as_str()), deadline)?;
        }
        let in_line = standing.deadline.is_some_and(|deadline| deadline.why == "its turn in the rack's budget");
        if in_line && !standing.why.contains("; the rack ") {
            return Err(format!("the phone at {endpoint:?} waits for its turn, and says: {}", standing.why));
        }
        let told = [
            "; it is tried again after ",
            "; it is opened at once when it comes back",
            "; it is opened by itself within seconds",
        ];
        if state == PhoneState::Quarantined && !told.iter().any(|told| standing.why.contains(told)) {
            return Err(format!("the phone at {endpoint:?} is quarantined for ever: {}", standing.why));
        }
        if standing.why.is_empty() {
            return Err(format!("the phone at {endpoint:?} is {} and nobody says why", state.as_str()));
        }
    }
    Ok(())
}

/// A line that was touched.
pub(crate) fn line(id: &PhoneId, line: &LineShell) -> Result<(), String> {
    if matches!(line.state, LineState::Connecting | LineState::Registered | LineState::Waiting) {
        let deadline = line.deadline.map(|deadline| deadline.why);
        reasonable(|| format!("the line of {id}, which is {},", line.state.as_str()), deadline)?;
    }
    Ok(())
}

/// An actor that was touched.
pub(crate) fn actor(place: usize, actor: &Actor) -> Result<(), String> {
    if actor.waits() {
        reasonable(|| format!("the connection at place {place}"), actor.deadline().map(|deadline| deadline.why))?;
    }
    Ok(())
}

pub(crate) fn rollouts(views: &[RolloutView], deadline: Option<Deadline>, now: Moment) -> Result<(), String> {
    let why = deadline.map(|deadline| deadline.why);
    for view in views {
        let mut phones = view.waves.iter().flat_map(|wave| &wave.phones);
        let parked = phones.clone().any(|phone| phone.state == RolloutPhoneState::Parked);
        let installing = phones.any(|phone| phone.state == RolloutPhoneState::Installing);
        let soaks = view.why.contains("; soaks for ");
        if view.state == RolloutState::Gathering || installing || soaks || parked && view.state == RolloutState::Running
        {
            reasonable(|| format!("rollout {} at {now}", view.id), why)?;
        }
    }
    Ok(())
}
