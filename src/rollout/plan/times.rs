//! The clock on the wall: when a rollout begins, the windows in which anything may, and what becomes of all waits when the clock is set.
//!
//! Outside the windows no install begins; one that is under way ends. A time that this core has reckoned itself keeps its distance when the
//! clock is set. One that an earlier daemon has promised stays as it is, for that clock may have been right; but no wait is ever longer
//! than it may be.
//!
//! Invariant: no install begins before its rollout's time, or outside the windows (`properties`, `tests/sim`).

use std::time::Duration;

use super::{Output, Phone, Rollout, Rollouts};
use crate::clock::{Deadline, Moment, UnixMillis};
use crate::rack::snapshot::{RolloutPhoneState, RolloutState};

/// Which of a rollout's times this core has reckoned by its own clock.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reckoned {
    pub(super) soak: bool,
    pub(super) close: bool,
}

impl Rollouts {
    /// Whether it begins at a time that has not come.
    pub(super) fn begins_later(&self, rollout: &Rollout) -> bool {
        rollout.record.starts.is_some_and(|starts| starts > self.wall(self.now))
    }

    /// Whether no install may begin now, of whatever rollout.
    pub(super) fn is_shut(&self) -> bool {
        !self.config.windows.are_open(self.wall(self.now))
    }

    /// Has everyone told that the windows have opened or closed.
    pub(super) fn look_at_windows(&mut self) {
        let shut = self.is_shut();
        if std::mem::replace(&mut self.was_shut, shut) == shut {
            return;
        }
        let runs = |rollout: &Rollout| rollout.record.state == RolloutState::Running;
        if self.rollouts.values().any(runs) {
            self.draft.effects.push(Output::Changed);
        }
        if shut {
            // Whoever was not fit when they closed has all its time again when they open.
            self.forget_unfitness();
        }
    }

    fn forget_unfitness(&mut self) {
        for (number, rollout) in &mut self.rollouts {
            for phone in rollout.phones.iter_mut().filter(|phone| phone.record.unfit_since.is_some()) {
                phone.record.unfit_since = None;
                phone.dirty = true;
                self.draft.touched.insert(*number);
            }
        }
    }

    /// When a rollout that waits for the clock is looked at again.
    pub(super) fn times_deadline(&self, rollout: &Rollout) -> Option<Deadline> {
        if rollout.record.state != RolloutState::Running {
            return None;
        }
        if let Some(starts) = rollout.record.starts.filter(|_| self.begins_later(rollout)) {
            return Some(Deadline { at: self.moment(starts), why: "the time at which a rollout begins" });
        }
        let is_unfit = |phone: &Phone| phone.record.unfit_since.is_some();
        let waits = |phone: &Phone| phone.record.state == RolloutPhoneState::Waiting;
        let shut = self.is_shut();
        if !(shut && rollout.phones.iter().any(waits) || rollout.phones.iter().any(is_unfit)) {
            return None;
        }
        let turn = self.config.windows.next_change(self.wall(self.now))?;
        let why = if shut { "the maintenance window to open" } else { "the maintenance window to close" };
        Some(Deadline { at: self.moment(turn), why })
    }

    /// The wall clock was set: `epoch` is the wall time of [`Moment::START`] now.
    pub(super) fn clock_set(&mut self, epoch: UnixMillis) {
        let moved = epoch.0.saturating_sub(self.wall_at_start.0);
        self.wall_at_start = epoch;
        let shift = |at: &mut Option<UnixMillis>| {
            *at = at.map(|at| UnixMillis(at.0.saturating_add(moved)));
            at.is_some()
        };
        for (number, rollout) in &mut self.rollouts {
            let soak = rollout.reckoned.soak && shift(&mut rollout.record.soaks_until);
            let close = rollout.reckoned.close && shift(&mut rollout.record.closes);
            rollout.dirty |= soak || close;
            for phone in rollout.phones.iter_mut().filter(|phone| phone.unfitness_is_reckoned) {
                phone.dirty |= shift(&mut phone.record.unfit_since);
            }
            self.draft.touched.insert(*number);
        }
        self.bound_waits();
    }

    /// By the clock as it is now no wait is longer than it may be, whatever the clock was when it was promised.
    pub(super) fn bound_waits(&mut self) {
        let wall = self.wall(self.now);
        for (number, rollout) in &mut self.rollouts {
            let strategy = &rollout.record.strategy;
            let (soaked, closed) = (wall.plus(strategy.soak()), wall.plus(strategy.close_after()));
            if rollout.record.soaks_until.is_some_and(|until| until > soaked) {
                rollout.record.soaks_until = Some(soaked);
                (rollout.reckoned.soak, rollout.dirty) = (true, true);
            }
            if rollout.record.closes.is_some_and(|closes| closes > closed) {
                rollout.record.closes = Some(closed);
                (rollout.reckoned.close, rollout.dirty) = (true, true);
            }
            for phone in &mut rollout.phones {
                if phone.record.unfit_since.is_some_and(|since| since > wall) {
                    phone.record.unfit_since = Some(wall);
                    (phone.unfitness_is_reckoned, phone.dirty) = (true, true);
                }
            }
            if rollout.dirty || rollout.phones.iter().any(|phone| phone.dirty) {
                self.draft.touched.insert(*number);
            }
        }
    }

    /// The moment of a wall-clock time; that of the start for an earlier one.
    pub(super) fn moment(&self, wall: UnixMillis) -> Moment {
        let since_start = wall.0.saturating_sub(self.wall_at_start.0);
        Moment::from_start(Duration::from_millis(u64::try_from(since_start).unwrap_or_default()))
    }
}
