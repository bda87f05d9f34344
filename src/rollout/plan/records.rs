//! What one rollout and one phone in it know of themselves, and how their changes become promises.

use std::time::Duration;

use super::{Apk, Flight, KEPT_MAX, Phone, Rollout, Rollouts, times};
use crate::agent::ApkSource;
use crate::clock::{Moment, UnixMillis};
use crate::rack::ids::{PackageName, PhoneId, VersionCode};
use crate::rack::snapshot::{RolloutPhoneState, RolloutState};
use crate::rack::strategy::Strategy;
use crate::store::RolloutNumber;
use crate::store::promise::{Promise, Report, RolloutPhoneRecord, RolloutRecord};

impl Rollouts {
    /// Takes in one committed promise; those of other kinds are skipped.
    pub(super) fn restore_one(&mut self, now: Moment, promise: Promise) {
        match promise {
            Promise::Rollout(record) => {
                self.last_number = self.last_number.max(record.number.0);
                let gathered_by = now + self.config.gather;
                let rollout = Rollout {
                    record,
                    dirty: false,
                    phones: Vec::new(),
                    apk: Apk::Wanted,
                    gathered_by,
                    soak_is_over: false,
                    reckoned: times::Reckoned::default(),
                    look: None,
                };
                self.rollouts.insert(rollout.record.number, rollout);
            }
            Promise::RolloutPhone(record) => {
                // It may have been under way when the daemon died: what the phone reports decides.
                let flight = (record.state == RolloutPhoneState::Installing)
                    .then_some(Flight { deadline: Some(now + self.config.install_timeout), gone: true });
                if let Some(rollout) = self.rollouts.get_mut(&record.rollout) {
                    rollout.phones.push(Phone { flight, ..Phone::new(record) });
                }
            }
            Promise::ForgetRollout(_)
            | Promise::Power(_)
            | Promise::Audit(_)
            | Promise::Lease(_)
            | Promise::LeaseIsOver(_)
            | Promise::ForgetLease(_)
            | Promise::Identity { .. }
            | Promise::ForgetIdentity(_)
            | Promise::SharedSerial(_)
            | Promise::Detached(_)
            | Promise::Attached(_)
            | Promise::Token(_)
            | Promise::ForgetToken(_) => {}
        }
    }

    /// Forgets the oldest of those that are over. The highest number of all stays, so that no number is used twice, and so does what stands.
    pub(super) fn forget_old(&mut self) {
        let stands = self.last_to_stand();
        let over: Vec<_> = self.rollouts.values().filter(|one| one.is_over()).map(|one| one.record.number).collect();
        let oldest = over.iter().take(over.len().saturating_sub(KEPT_MAX));
        for number in oldest.filter(|number| Some(**number) != stands) {
            self.rollouts.remove(number);
            self.draft.touched.remove(number);
            self.draft.forgotten.push(*number);
        }
    }
}

impl RolloutRecord {
    /// A rollout of what comes from `source`, of which nothing else is known yet: it gathers its phones, and no wave is open.
    pub(super) fn new(
        number: RolloutNumber,
        source: ApkSource,
        package: PackageName,
        version_code: VersionCode,
        strategy: Strategy,
        created: UnixMillis,
    ) -> Self {
        Self {
            number,
            state: RolloutState::Gathering,
            why: String::new(),
            source,
            package,
            version_code,
            version_name: String::new(),
            strategy: Box::new(strategy),
            open_waves: 0,
            soaks_until: None,
            accepted_failures: 0,
            joins: None,
            closes: None,
            starts: None,
            sha256: None,
            takes_back: None,
            stands: None,
            created,
            ended: None,
        }
    }
}

impl Rollout {
    pub(super) fn is_over(&self) -> bool {
        self.record.state.is_over()
    }

    /// Whether no phone has a turn in it any more.
    pub(super) fn is_ending(&self) -> bool {
        self.is_over() || self.record.state == RolloutState::RollingBack
    }

    /// Whether a phone with this version has what it shall have.
    pub(super) fn is_done_by(&self, version: VersionCode) -> bool {
        self.record.strategy.downgrade.is_done_by(version, self.record.version_code)
    }

    pub(super) fn phone_mut(&mut self, phone: &PhoneId) -> Option<&mut Phone> {
        self.phones.iter_mut().find(|one| one.record.phone == *phone)
    }

    /// Whether an install of it may be under way.
    pub(super) fn is_installing(&self) -> bool {
        self.phones.iter().any(|phone| phone.record.state == RolloutPhoneState::Installing)
    }

    /// The lowest wave that has a phone whose turn is not over.
    pub(super) fn current_wave(&self) -> Option<u32> {
        self.phones.iter().filter(|phone| !phone.record.state.is_settled()).map(|phone| phone.record.wave).min()
    }

    /// Whether it runs, and a phone's turn is not over.
    pub(super) fn has_turns(&self) -> bool {
        self.record.state == RolloutState::Running && self.current_wave().is_some()
    }

    pub(super) fn count(&self, state: RolloutPhoneState) -> usize {
        self.phones.iter().filter(|phone| phone.record.state == state).count()
    }

    pub(super) fn set(&mut self, state: RolloutState, why: impl Into<String>) {
        self.record.state = state;
        self.record.why = why.into();
        self.dirty = true;
    }

    /// The records that changed, the rollout before its phones.
    pub(super) fn drain_changes(&mut self, batch: &mut Vec<Promise>) {
        if std::mem::take(&mut self.dirty) {
            batch.push(Promise::Rollout(self.record.clone()));
        }
        for phone in &mut self.phones {
            if std::mem::take(&mut phone.dirty) {
                batch.push(Promise::RolloutPhone(phone.record.clone()));
            }
        }
    }
}

impl Phone {
    /// As its record says, with nothing under way.
    pub(super) fn new(record: RolloutPhoneRecord) -> Self {
        Self {
            record,
            dirty: false,
            flight: None,
            report_again: None,
            retry_at: None,
            unfitness_is_reckoned: false,
            is_unseen: false,
            done_at: None,
            install_took: Duration::ZERO,
        }
    }

    pub(super) fn set(&mut self, state: RolloutPhoneState, why: Option<String>) {
        self.record.state = state;
        self.record.why = why;
        self.flight = None;
        self.retry_at = None;
        self.record.unfit_since = None;
        self.dirty = true;
    }

    /// Has all its tries and all its time again; if it failed or needs a hand it waits for its turn, which is told.
    pub(super) fn try_again(&mut self) -> bool {
        let was_unfit = self.record.unfit_since.take().is_some();
        self.dirty |= self.record.interrupted > 0 || self.record.retried > 0 || was_unfit;
        (self.record.interrupted, self.record.retried) = (0, 0);
        let again = matches!(self.record.state, RolloutPhoneState::Failed | RolloutPhoneState::NeedsHand);
        if again {
            self.set(RolloutPhoneState::Waiting, None);
        }
        again
    }

    /// Whether the order to install has gone out and has no result yet.
    pub(super) fn is_ordered(&self) -> bool {
        self.flight.is_some_and(|flight| flight.deadline.is_some())
    }

    /// Whether the server has asked for what failed here, and is not known to have heard of the failure.
    pub(super) fn has_untold_failure(&self) -> bool {
        self.record.report == Report::Due && self.record.notice.is_some() && self.record.why.is_some()
    }

    /// It does not get the version, at least for now; the server is told if it had asked.
    pub(super) fn miss(&mut self, state: RolloutPhoneState, why: String) {
        if self.record.notice.is_some() && self.record.report == Report::None {
            self.record.report = Report::Due;
            self.report_again = None;
        }
        self.set(state, Some(why));
    }
}
