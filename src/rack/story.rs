//! What the model writes into the traces of its phones.
//!
//! A place whose phone nobody knows yet keeps what happens there, and hands it over once the phone has a name.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ids::{Endpoint, PhoneId};
use super::snapshot::{Answers, LineState, PhoneState};
use super::{Change, Outcome, Rack};
use crate::clock::{Moment, UnixMillis};
use crate::phone::life::Wish;
use crate::phone::trace::{Happening, Trace, TraceEvent};
use crate::phone::upkeep::{AimResult, Report};
use crate::phone::{Command, Event};

/// The traces of all phones at one moment: cheap to clone, for each is shared until something happens to its phone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// The wall time from which their moments are counted.
    pub epoch: UnixMillis,
    /// By the ids under which the snapshot shows the phones.
    pub by_phone: BTreeMap<PhoneId, Arc<Trace>>,
}

impl Traces {
    /// The events of a phone, by its id in the snapshot, with a number from `from` on; the oldest first.
    #[must_use]
    pub fn of(&self, phone: &PhoneId, from: u64) -> Vec<TraceEvent> {
        self.by_phone.get(phone).map(|trace| trace.since(from, self.epoch).collect()).unwrap_or_default()
    }
}

impl Rack {
    /// Writes into the trace of the phone at `endpoint`.
    pub(super) fn record(&mut self, now: Moment, endpoint: &Endpoint, what: Happening) {
        let Some(place) = self.places.get_mut(endpoint) else { return };
        match place.phone.as_ref().and_then(|id| self.phones.get_mut(id)) {
            Some(phone) => {
                let trace = Arc::make_mut(&mut phone.trace);
                if !place.trace.is_empty() {
                    trace.take_over(Arc::unwrap_or_clone(std::mem::take(&mut place.trace)));
                }
                trace.push(now, what);
            }
            None => Arc::make_mut(&mut place.trace).push(now, what),
        }
    }

    /// What the actor reported.
    pub(super) fn record_report(&mut self, now: Moment, endpoint: &Endpoint, event: &Event) {
        let phone = self.places.get(endpoint).and_then(|place| place.phone.as_ref());
        if let Some(phone) = phone.and_then(|id| self.phones.get_mut(id)) {
            count(event, &mut phone.answers);
            if let Event::Upkept(report) = event {
                let started = phone.read.and_then(|read| read.started);
                phone.upkept.take_in(now, started, report.as_ref().clone());
            }
        }
        if let Some(what) = reported(event) {
            self.record(now, endpoint, what);
        }
    }

    /// The state that a life has come to, and what it wants done.
    pub(super) fn record_step(&mut self, now: Moment, endpoint: &Endpoint, before: PhoneState, wishes: &[Wish]) {
        let Some(place) = self.places.get(endpoint) else { return };
        let to = place.life.state();
        let changed = to != before;
        if changed {
            let why = place.life.why().to_owned();
            self.record(now, endpoint, Happening::State { from: before, to, why });
        }
        for what in wishes.iter().filter_map(wanted) {
            // A new state says by itself that the phone is opened or installed on.
            if !changed || matches!(what, Happening::Rung { .. }) {
                self.record(now, endpoint, what);
            }
        }
    }

    /// What changed beside the lives themselves.
    pub(super) fn record_changes(&mut self, now: Moment, out: &Outcome) {
        for change in &out.changes {
            let (phone, what) = match change {
                // An attempt has its end; its beginning says nothing more.
                Change::Line { state: LineState::Connecting, .. } => continue,
                Change::Line { phone, state, why } => (phone, Happening::Line { state: *state, why: why.clone() }),
                Change::Moved { phone, from, to } => (phone, Happening::Moved { from: from.clone(), to: to.clone() }),
                Change::Lease { phone, what } => (phone, Happening::Lease { what: what.clone() }),
                _ => continue,
            };
            if let Some(known) = self.phones.get_mut(phone) {
                Arc::make_mut(&mut known.trace).push(now, what);
            }
        }
    }

    /// The traces by the ids under which a snapshot shows the phones.
    pub(super) fn traces(&self) -> Traces {
        let phones = self.phones.values().map(|phone| (phone.id.clone(), Arc::clone(&phone.trace)));
        let unnamed = self.places.values().filter(|place| place.phone.is_none() && !place.trace.is_empty());
        let unnamed = unnamed.map(|place| (place.shown_as(), Arc::clone(&place.trace)));
        Traces { epoch: self.epoch, by_phone: unnamed.chain(phones).collect() }
    }
}

fn wanted(wish: &Wish) -> Option<Happening> {
    use crate::config::Rung;
    Some(match wish {
        Wish::CyclePower => Happening::Rung { rung: Rung::CyclePower },
        Wish::Actor(Command::ResetUsb) => Happening::Rung { rung: Rung::ResetUsb },
        Wish::Actor(Command::Reboot) => Happening::Rung { rung: Rung::Reboot },
        Wish::Actor(Command::Open) => Happening::Opening,
        Wish::Provision | Wish::Actor(Command::Provision { .. }) => Happening::Install { rollout: None },
        Wish::Actor(Command::Install { order }) => Happening::Install { rollout: Some(order.rollout.clone()) },
        // What is asked shows by its answer.
        Wish::Actor(
            Command::ReadProfile
            | Command::Inspect { .. }
            | Command::Probe
            | Command::Upkeep
            | Command::RestartAgent
            | Command::Close
            | Command::Leave,
        ) => return None,
    })
}

/// What was set anew, as a list for people.
fn set(report: &Report) -> String {
    let names = report.results.iter().filter(|(_, result)| matches!(result, AimResult::Set { .. }));
    names.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
}

fn count(event: &Event, answers: &mut Answers) {
    let counter = match event {
        Event::ProbeAnswered => &mut answers.probes.answered,
        Event::ProbeFailed { .. } => &mut answers.probes.failed,
        Event::Profile(_) => &mut answers.readings.answered,
        Event::ProfileFailed { .. } => &mut answers.readings.failed,
        _ => return,
    };
    *counter += 1;
}

fn reported(event: &Event) -> Option<Happening> {
    Some(match event {
        Event::AuthorisationWanted => Happening::AuthorisationWanted,
        Event::Opened { model, .. } => Happening::Opened { model: model.clone() },
        Event::OpenFailed { fault, why } => Happening::OpenFailed { fault: *fault, why: why.clone() },
        Event::Lost { why } => Happening::Lost { why: why.clone() },
        Event::Profile(_) => Happening::Alive { probes: 0, readings: 1 },
        Event::ProbeAnswered => Happening::Alive { probes: 1, readings: 0 },
        Event::ProfileFailed { why } | Event::ProbeFailed { why } => Happening::Silent { why: why.clone() },
        Event::Provisioned(agent) | Event::Installed { result: Ok(agent), .. } => {
            Happening::Installed { version: agent.version_name.clone() }
        }
        Event::ProvisionFailed(failure) | Event::Installed { result: Err(failure), .. } => {
            Happening::InstallFailed { class: failure.class, why: failure.why.clone() }
        }
        Event::Acted { result: Err(why) } => Happening::RungRefused { why: why.clone() },
        Event::Upkept(report) if report.set() > 0 => Happening::Set { what: set(report) },
        // The new state says so.
        Event::OtherMode { .. }
        | Event::AgentRestarted { .. }
        | Event::Inspected { .. }
        | Event::Upkept(_)
        | Event::Acted { result: Ok(()) } => return None,
    })
}
