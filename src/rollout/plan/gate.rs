//! The gate before each wave: how much has failed, whether anybody has the version, how long it is watched, how those fare that have it
//! ([`super::looks`]), and who must agree.
//!
//! Invariant: a wave begins only behind its gate, and each gate is passed once (`open_waves`).

use std::time::Duration;

use super::requests::phones;
use super::{Phone, Rollout, Rollouts};
use crate::clock::{Deadline, Moment};
use crate::rack::snapshot::{RolloutPhoneState, RolloutState};
use crate::rack::strategy::{Approve, OnFailure};
use crate::store::RolloutNumber;

/// Before an install is tried again after a failure that may pass; doubled each time.
const RETRY_FIRST: Duration = Duration::from_secs(30);
const RETRY_LONGEST: Duration = Duration::from_secs(600);

/// How long it is until the next try, after so many.
pub(super) fn retry_after(retried: u32) -> Duration {
    RETRY_FIRST.saturating_mul(2_u32.saturating_pow(retried.saturating_sub(1))).min(RETRY_LONGEST)
}

impl Rollouts {
    /// Lets the wave begin, if nothing stands in its way.
    pub(super) fn open_wave(&mut self, now: Moment, number: RolloutNumber, wave: u32) -> bool {
        let Some(rollout) = self.rollouts.get_mut(&number) else { return false };
        if rollout.nobody_below(wave) {
            let why = format!("nobody has the version after {}: nothing is known of it", rollout.behind(wave));
            self.pause_for(now, number, why);
            return false;
        }
        if !self.has_been_watched(now, number, wave) {
            return false;
        }
        let Some(rollout) = self.rollouts.get_mut(&number) else { return false };
        if rollout.record.strategy.approve == Approve::Each {
            rollout.set(RolloutState::WaitingApproval, "");
            self.draft.touched.insert(number);
            return false;
        }
        rollout.open(wave);
        let began = rollout.wave_began(wave);
        self.draft.touched.insert(number);
        self.audit(now, "farmhand", began, number.to_string());
        true
    }

    /// Pauses a rollout without being asked to, and says so in its story.
    pub(super) fn pause_for(&mut self, now: Moment, number: RolloutNumber, why: String) {
        let Some(rollout) = self.rollouts.get_mut(&number) else { return };
        self.draft.touched.insert(number);
        rollout.set(RolloutState::Paused, why.clone());
        self.audit(now, "farmhand", format!("paused: {why}"), number.to_string());
    }

    /// Ends the waits whose time has come: what follows may still wait for its turn, or for a phone.
    pub(super) fn end_waits(&mut self, now: Moment) {
        let wall = self.wall(now);
        for rollout in self.rollouts.values_mut() {
            rollout.soak_is_over |= rollout.record.soaks_until.is_some_and(|until| until <= wall);
            for phone in &mut rollout.phones {
                phone.retry_at = phone.retry_at.filter(|at| *at > now);
            }
        }
    }

    /// Whether what the wave before this one got has been watched for its time, and fares well by then.
    fn has_been_watched(&mut self, now: Moment, number: RolloutNumber, wave: u32) -> bool {
        let wall = self.wall(now);
        let Some(rollout) = self.rollouts.get_mut(&number) else { return false };
        if rollout.is_soaking() {
            return false;
        }
        let soak = rollout.record.strategy.soak();
        if wave > 0 && !soak.is_zero() && rollout.record.soaks_until.is_none() {
            rollout.record.soaks_until = Some(wall.plus(soak));
            rollout.reckoned.soak = true;
            rollout.soak_is_over = false;
            rollout.dirty = true;
            self.draft.touched.insert(number);
            return false;
        }
        self.passes_gates(now, number, wave)
    }

    /// Watches the last waves of rollouts in which no phone has a turn now as the waves before them were watched.
    pub(super) fn watch_last_waves(&mut self, now: Moment) {
        let is_due = |rollout: &Rollout| {
            let rests = rollout.record.state == RolloutState::Running && rollout.current_wave().is_none();
            let behind = rollout.gate_behind_last().filter(|_| rests)?;
            Some((rollout.record.number, behind))
        };
        let due: Vec<_> = self.rollouts.values().filter_map(is_due).collect();
        for (number, behind) in due {
            if self.has_been_watched(now, number, behind)
                && let Some(rollout) = self.rollouts.get_mut(&number)
            {
                rollout.open(behind);
                self.draft.touched.insert(number);
            }
        }
    }

    /// When the gate of a rollout is looked at again.
    pub(super) fn gate_deadline(&self, rollout: &Rollout) -> Option<Deadline> {
        let mut next = None;
        if rollout.record.state != RolloutState::Running {
            return next;
        }
        if let Some(until) = rollout.record.soaks_until.filter(|_| rollout.is_soaking()) {
            next = Some(Deadline { at: self.moment(until), why: "the end of a wave's soak" });
        }
        for at in rollout.phones.iter().filter_map(|phone| phone.retry_at) {
            next = Deadline::earlier(next, Some(Deadline { at, why: "the next try of an install" }));
        }
        next
    }

    /// Pauses a rollout in which too much has failed, or rolls it back.
    pub(super) fn stop_at_limit(&mut self, now: Moment, number: RolloutNumber, sentence: String) {
        let Some(rollout) = self.rollouts.get_mut(&number) else { return };
        if rollout.record.state != RolloutState::Running || !rollout.has_failed_too_often() {
            return;
        }
        self.stop(now, number, sentence);
    }

    /// Pauses a rollout whose version is no good, or rolls it back, as its owner has said.
    pub(super) fn stop(&mut self, now: Moment, number: RolloutNumber, sentence: String) {
        let Some(rollout) = self.rollouts.get_mut(&number) else { return };
        self.draft.touched.insert(number);
        match rollout.record.strategy.on_failure {
            OnFailure::Pause => self.pause_for(now, number, sentence),
            OnFailure::RollBack => {
                self.audit(now, "farmhand", format!("rolls back: {sentence}"), number.to_string());
                self.begin_rollback(number, sentence);
            }
        }
    }
}

impl Rollout {
    /// Whether more has failed than the strategy and the operator allow.
    pub(super) fn has_failed_too_often(&self) -> bool {
        let allowed = self.record.strategy.max_failures.at_most(self.phones.len());
        self.count(RolloutPhoneState::Failed) > allowed.max(self.record.accepted_failures as usize)
    }

    /// The wave that would come behind the last one, while the gate before it is not passed. Where nothing is looked at, or nobody has got
    /// anything, there is no such gate.
    pub(super) fn gate_behind_last(&self) -> Option<u32> {
        let got_it = |phone: &Phone| phone.record.state == RolloutPhoneState::Done && phone.record.attempts > 0;
        let is_looked_at = self.record.strategy.gates.on().next().is_some() && self.phones.iter().any(got_it);
        let behind = self.phones.iter().map(|phone| phone.record.wave.saturating_add(1)).max()?;
        (is_looked_at && self.record.open_waves <= behind).then_some(behind)
    }

    /// A phone has got it, maybe behind the last gate: then that is to be passed anew.
    pub(super) fn watch_again(&mut self) {
        let behind = self.phones.iter().map(|phone| phone.record.wave.saturating_add(1)).max().unwrap_or_default();
        if self.record.open_waves > behind {
            self.record.open_waves = behind;
            self.record.soaks_until = None;
            self.look = None;
            self.dirty = true;
        }
    }

    /// Lets the waves up to this one begin.
    pub(super) fn open(&mut self, wave: u32) {
        for phone in self.phones.iter_mut().filter(|phone| phone.record.wave < wave) {
            phone.is_unseen = false;
        }
        self.record.open_waves = wave.saturating_add(1);
        self.record.soaks_until = None;
        self.soak_is_over = false;
        self.look = None;
        self.dirty = true;
    }

    /// That a wave has begun, as a sentence.
    fn wave_began(&self, wave: u32) -> String {
        let waves = self.phones.iter().map(|phone| phone.record.wave).max().map_or(0, |last| last.saturating_add(1));
        let members = self.phones.iter().filter(|phone| phone.record.wave == wave).count();
        format!("wave {} of {waves} began: {}", wave.saturating_add(1), phones(members))
    }

    /// Whether the waves below this one are over and none of their phones has the version.
    fn nobody_below(&self, wave: u32) -> bool {
        let below = || self.phones.iter().filter(|phone| phone.record.wave < wave);
        let tried = below().any(|phone| phone.record.state != RolloutPhoneState::Skipped);
        tried && below().all(|phone| phone.record.state != RolloutPhoneState::Done)
    }

    pub(super) fn is_soaking(&self) -> bool {
        self.record.soaks_until.is_some() && !self.soak_is_over
    }

    /// What is over, as a phrase.
    pub(super) fn behind(&self, wave: u32) -> String {
        if wave == 1 { "wave 1".to_owned() } else { format!("{wave} waves") }
    }

    /// What the phones have got, as a sentence.
    pub(super) fn sum(&self) -> String {
        let mut sum =
            format!("{} on version {}", phones(self.count(RolloutPhoneState::Done)), self.record.version_code);
        let others = [
            (RolloutPhoneState::Failed, "failed", "failed"),
            (RolloutPhoneState::NeedsHand, "needs a hand", "need a hand"),
            (RolloutPhoneState::Skipped, "skipped", "skipped"),
            (RolloutPhoneState::Parked, "parked", "parked"),
            (RolloutPhoneState::RollingBack, "rolls back", "roll back"),
            (RolloutPhoneState::RolledBack, "rolled back", "rolled back"),
        ];
        for (state, one, many) in others {
            match self.count(state) {
                0 => {}
                1 => sum += &format!("; 1 {one}"),
                count => sum += &format!("; {count} {many}"),
            }
        }
        sum
    }
}
