//! How many phones are installed on at once, and how a phone must be for its install: what does not fit waits, and says for what.
//!
//! A phone that is here and must not be installed on waits until it is fit, for a limited time, which goes on over a restart; then it has
//! failed. Who waits only for the installs of others has no such time, for these end by their own.
//!
//! Invariant: never are more phones installed on at once than the strategy allows, of the rack and of each hub, and none that is known
//! to be unfit (`properties`, `tests/sim`).

use std::collections::BTreeMap;
use std::time::Duration;

use super::parking::span;
use super::{Candidate, Output, Phone, Presence, Rollout, Rollouts};
use crate::clock::{Deadline, Moment};
use crate::rack::candidate::Readings;
use crate::rack::ids::PhoneId;
use crate::rack::snapshot::{RolloutPhoneState, RolloutState};
use crate::store::RolloutNumber;

/// The room that is left for installs, of the rack and of each hub.
pub(super) struct Room {
    rack: u32,
    each_hub: u32,
    hubs: BTreeMap<String, u32>,
}

impl Room {
    /// Takes the place of one install, if there is one.
    pub(super) fn take(&mut self, hub: Option<&String>) -> bool {
        let on_hub = hub.map(|hub| self.hubs.entry(hub.clone()).or_insert(self.each_hub));
        if self.rack == 0 || on_hub.as_ref().is_some_and(|left| **left == 0) {
            return false;
        }
        self.rack -= 1;
        if let Some(left) = on_hub {
            *left -= 1;
        }
        true
    }
}

impl Rollouts {
    /// What is left beside the installs that may be under way.
    pub(super) fn room(&self, rollout: &Rollout) -> Room {
        let limits = rollout.record.strategy.limits;
        let mut room = Room { rack: limits.at_once, each_hub: limits.at_once_per_hub, hubs: BTreeMap::new() };
        let installing = |phone: &&Phone| phone.record.state == RolloutPhoneState::Installing;
        for phone in self.rollouts.values().flat_map(|other| &other.phones).filter(installing) {
            room.rack = room.rack.saturating_sub(1);
            if let Some(hub) = self.hub_of(&phone.record.phone) {
                let left = room.hubs.entry(hub.clone()).or_insert(limits.at_once_per_hub);
                *left = left.saturating_sub(1);
            }
        }
        room
    }

    pub(super) fn hub_of(&self, phone: &PhoneId) -> Option<&String> {
        self.candidates.get(phone)?.hub.as_ref()
    }

    /// Why a phone must not be installed on now, as a sentence.
    pub(super) fn why_unfit(&self, rollout: &Rollout, phone: &PhoneId) -> Option<String> {
        let apk_bytes = rollout.checked_apk()?.size;
        rollout.record.strategy.limits.why_unfit(apk_bytes, &self.readings(phone))
    }

    pub(super) fn readings(&self, phone: &PhoneId) -> Readings {
        self.candidates.get(phone).map(|candidate| candidate.readings).unwrap_or_default()
    }

    /// What is known of a phone, which may be what it waited for.
    pub(super) fn known(&mut self, phone: PhoneId, candidate: Candidate) {
        let waits = |rollout: &Rollout| {
            let (running, open) = (rollout.record.state == RolloutState::Running, rollout.record.open_waves);
            let is_it = |one: &Phone| one.record.phone == phone && one.record.wave < open;
            running && rollout.phones.iter().any(|one| is_it(one) && one.record.state == RolloutPhoneState::Waiting)
        };
        if self.candidates.get(&phone) != Some(&candidate) && self.rollouts.values().any(waits) {
            self.draft.effects.push(Output::Changed);
        }
        self.candidates.insert(phone, candidate);
    }

    /// A phone whose turn it is must not be installed on: its time begins, or is over. Whether it has failed by that.
    pub(super) fn must_wait(&mut self, now: Moment, number: RolloutNumber, place: usize, why: &str) -> bool {
        let wall = self.wall(now);
        let Some(rollout) = self.rollouts.get_mut(&number) else { return false };
        let within = rollout.record.strategy.limits.fit_within_s;
        let Some(phone) = rollout.phones.get_mut(place) else { return false };
        let Some(since) = phone.record.unfit_since else {
            phone.record.unfit_since = Some(wall);
            phone.unfitness_is_reckoned = true;
            phone.dirty = true;
            self.draft.touched.insert(number);
            return false;
        };
        if since.plus(Duration::from_secs(within)) > wall {
            return false;
        }
        let why = format!("it was not fit for an install within {}: {why}", span(within));
        let sentence = format!("{} failed: {why}", phone.record.phone);
        phone.miss(RolloutPhoneState::Failed, why);
        self.draft.touched.insert(number);
        self.stop_at_limit(now, number, sentence);
        true
    }

    /// When a phone that waits to be fit has failed.
    pub(super) fn limits_deadline(&self, rollout: &Rollout) -> Option<Deadline> {
        let record = &rollout.record;
        if record.state != RolloutState::Running
            || self.is_shut()
            || self.turn() != Some(record.number)
            || rollout.checked_apk().is_none()
        {
            return None;
        }
        // Those of a later wave wait for this one: nothing is done with them when their time is over.
        let wave = rollout.current_wave().filter(|wave| *wave < record.open_waves)?;
        let here = |phone: &&Phone| matches!(self.phones.get(&phone.record.phone), Some(Presence::Available(_)));
        let has_turn = |phone: &&Phone| phone.record.wave == wave && phone.retry_at.is_none();
        let waits = |phone: &&Phone| phone.record.state == RolloutPhoneState::Waiting && has_turn(phone) && here(phone);
        let since = rollout.phones.iter().filter(waits).filter_map(|phone| phone.record.unfit_since).min()?;
        let at = self.moment(since.plus(Duration::from_secs(record.strategy.limits.fit_within_s)));
        Some(Deadline { at, why: "a phone to be fit for its install" })
    }

    /// For what a phone waits that is here and has its turn, as a sentence.
    pub(super) fn hindrance(&self, rollout: &Rollout, phone: &Phone) -> Option<String> {
        let record = &rollout.record;
        let has_turn = record.state == RolloutState::Running && phone.record.wave < record.open_waves;
        let is_early = self.is_shut() || self.begins_later(rollout) || phone.retry_at.is_some();
        if !has_turn || is_early || phone.record.state != RolloutPhoneState::Waiting {
            return None;
        }
        if let Some(why) = self.why_unfit(rollout, &phone.record.phone) {
            return Some(why);
        }
        let hub = self.hub_of(&phone.record.phone);
        let (limits, mut room) = (record.strategy.limits, self.room(rollout));
        if room.rack == 0 {
            return Some(format!("its turn comes after others: {} are installed on at once", limits.at_once));
        }
        let is_full = !room.take(hub);
        let hub = hub.filter(|_| is_full)?;
        Some(format!("its turn comes after others: {} of {hub} are installed on at once", limits.at_once_per_hub))
    }
}
