//! Waves: who is installed next, what came of it, and what a failure stops.

use super::forecast::TIMES_MAX;
use super::gate::retry_after;
use super::limits::Room;
use super::start::Unmeant;
use super::{Flight, INTERRUPTED_MAX, Output, Phone, Presence, REPORT_AGAIN, Rollout, Rollouts};
use crate::clock::Moment;
use crate::phone::{InstallFailure, InstallFailureClass};
use crate::rack::event::InstallOrder;
use crate::rack::ids::{PhoneId, RolloutId, VersionCode};
use crate::rack::snapshot::{RolloutPhoneState, RolloutState};
use crate::rack::strategy::Downgrade;
use crate::store::RolloutNumber;
use crate::store::promise::Report;

/// What Android says of an older version.
const NO_WAY_BACK: &str = "INSTALL_FAILED_VERSION_DOWNGRADE";
const KEEPS_THE_NEWER: &str = "its Android takes an older version of debuggable apps only: the app must be uninstalled there first, \
                               and its data goes with it";

/// What becomes of a phone whose turn it is.
enum Turn {
    Has(&'static str),
    Misfit(String),
    /// It must not be installed on for now.
    Unfit(String),
    Installs(InstallOrder),
}

impl Rollouts {
    pub(super) fn available(&mut self, now: Moment, phone: PhoneId, version: Option<VersionCode>) {
        self.interrupted(now, &phone, version);
        self.seen.insert(phone.clone());
        self.show(phone.clone(), Presence::Available(version));
        self.appeared(now, &phone);
    }

    pub(super) fn unavailable(&mut self, now: Moment, phone: PhoneId, why: String) {
        for rollout in self.rollouts.values_mut() {
            // An install whose promise is not yet committed has not gone out: `release` looks again.
            if let Some(flight) = rollout.phone_mut(&phone).and_then(|phone| phone.flight.as_mut()) {
                flight.gone = flight.deadline.is_some();
            }
        }
        let since = match self.phones.get(&phone) {
            Some(Presence::Unavailable { since, .. }) => *since,
            Some(Presence::Available(_)) | None => now,
        };
        self.show(phone, Presence::Unavailable { why, since });
    }

    fn show(&mut self, phone: PhoneId, presence: Presence) {
        let concerns = |rollout: &Rollout| !rollout.is_over() && rollout.phones.iter().any(|p| p.record.phone == phone);
        if self.phones.get(&phone) == Some(&presence) {
            return;
        }
        if self.rollouts.values().any(concerns) {
            self.draft.effects.push(Output::Changed);
        }
        self.phones.insert(phone, presence);
    }

    /// A phone is back after an install that had no result: what it has now decides.
    fn interrupted(&mut self, now: Moment, phone: &PhoneId, version: Option<VersionCode>) {
        let lost = |known: &&mut Phone| known.flight.is_some_and(|flight| flight.gone);
        let mut given_up = Vec::new();
        for rollout in self.rollouts.values_mut() {
            let number = rollout.record.number;
            let is_over = rollout.is_ending();
            let is_done = version.is_some_and(|version| rollout.is_done_by(version));
            let Some(known) = rollout.phone_mut(phone).filter(lost) else { continue };
            self.draft.touched.insert(number);
            if is_done {
                known.set(RolloutPhoneState::Done, None);
                known.is_unseen = true;
                rollout.watch_again();
                continue;
            }
            known.record.interrupted += 1;
            if is_over {
                known.miss(RolloutPhoneState::Skipped, "the rollout was given up during its install".into());
            } else if known.record.interrupted < INTERRUPTED_MAX {
                known.set(RolloutPhoneState::Waiting, Some("the last install was interrupted".into()));
            } else {
                given_up.push(number);
            }
        }
        for number in given_up {
            let why = format!("the install was interrupted {INTERRUPTED_MAX} times");
            self.fail(now, number, phone, InstallFailureClass::Permanent, why);
        }
    }

    pub(super) fn installed(
        &mut self,
        now: Moment,
        phone: &PhoneId,
        rollout: &RolloutId,
        result: Result<VersionCode, InstallFailure>,
    ) {
        if let (Ok(version), Some(Presence::Available(shown))) = (&result, self.phones.get_mut(phone)) {
            // Whatever became of the rollout meanwhile.
            *shown = Some(*version);
        }
        let Some(number) = RolloutNumber::of(rollout) else { return };
        let Some(rollout) = self.rollouts.get_mut(&number) else { return };
        let wanted = rollout.record.version_code;
        let downgrade = rollout.record.strategy.downgrade;
        let Some(known) = rollout.phone_mut(phone) else { return };
        match result {
            Ok(_) if known.record.state == RolloutPhoneState::Done => {}
            Ok(version) if downgrade.is_done_by(version, wanted) => {
                if let Some(deadline) = known.flight.and_then(|flight| flight.deadline) {
                    known.install_took = (now + self.config.install_timeout).since(deadline);
                    self.install_times.truncate(TIMES_MAX - 1);
                    self.install_times.push_front(known.install_took);
                }
                known.set(RolloutPhoneState::Done, None);
                known.done_at = Some(now);
                known.is_unseen = true;
                rollout.watch_again();
                self.draft.touched.insert(number);
            }
            Ok(version) => {
                let why = format!("the phone reports version {version} after the install of {wanted}");
                self.fail(now, number, phone, InstallFailureClass::Permanent, why);
            }
            Err(failure) if failure.reason.as_deref() == Some(NO_WAY_BACK) && downgrade == Downgrade::Allowed => {
                self.fail(now, number, phone, InstallFailureClass::NeedsHand, KEEPS_THE_NEWER.to_owned());
            }
            Err(failure) => {
                let why = match failure.reason {
                    Some(reason) if !failure.why.contains(&reason) => format!("{reason}: {}", failure.why),
                    _ => failure.why,
                };
                self.fail(now, number, phone, failure.class, why);
            }
        }
    }

    /// An install failed. What may pass is tried again; what needs a hand says nothing of the version; of the rest so many may fail, and
    /// one more pauses the rollout. What is under way goes on then; nothing else is begun.
    fn fail(&mut self, now: Moment, number: RolloutNumber, phone: &PhoneId, class: InstallFailureClass, why: String) {
        let Some(rollout) = self.rollouts.get_mut(&number) else { return };
        let retries = if rollout.is_ending() { 0 } else { rollout.record.strategy.retries };
        let Some(known) = rollout.phone_mut(phone) else { return };
        // A late failure of an attempt that was given up already says nothing new.
        if known.record.state != RolloutPhoneState::Installing {
            return;
        }
        self.draft.touched.insert(number);
        match class {
            InstallFailureClass::NeedsHand => known.miss(RolloutPhoneState::NeedsHand, why),
            InstallFailureClass::Transient if known.record.retried < retries => {
                known.record.retried += 1;
                let after = retry_after(known.record.retried);
                let why = format!("tried again {} s after: {why}", after.as_secs());
                known.set(RolloutPhoneState::Waiting, Some(why));
                known.retry_at = Some(now + after);
            }
            InstallFailureClass::Transient | InstallFailureClass::Permanent => {
                known.miss(RolloutPhoneState::Failed, why.clone());
                self.stop_at_limit(now, number, format!("{phone} failed: {why}"));
            }
        }
    }

    /// Installs that have had no result in time have failed.
    pub(super) fn end_overdue(&mut self, now: Moment) {
        let limit = self.config.install_timeout.as_secs();
        let mut overdue = Vec::new();
        for rollout in self.rollouts.values() {
            for phone in &rollout.phones {
                if phone.flight.and_then(|flight| flight.deadline).is_some_and(|deadline| deadline <= now) {
                    overdue.push((rollout.record.number, phone.record.phone.clone()));
                }
            }
        }
        for (number, phone) in overdue {
            let why = match self.phones.get(&phone) {
                Some(Presence::Available(_)) => format!("no result within {limit} s"),
                Some(Presence::Unavailable { why, .. }) => {
                    format!("no result within {limit} s; the phone is away: {why}")
                }
                None => format!("no result within {limit} s; the phone is away"),
            };
            self.fail(now, number, &phone, InstallFailureClass::Permanent, why);
        }
    }

    /// Goes on with the rollout whose turn it is, and finishes those in which every phone is done.
    pub(super) fn run_waves(&mut self, now: Moment) {
        self.watch_last_waves(now);
        self.finish(now);
        while let Some(number) = self.turn() {
            self.run_wave(now, number);
            self.watch_last_waves(now);
            if self.finish(now) == 0 {
                break;
            }
        }
    }

    /// The oldest running rollout in which a phone waits for its turn, unless an install of another may still be under way.
    pub(super) fn turn(&self) -> Option<RolloutNumber> {
        let has_turns = |rollout: &&Rollout| rollout.has_turns() && !self.begins_later(rollout);
        let number = self.rollouts.values().find(has_turns)?.record.number;
        let busy = self.rollouts.values().any(|other| other.record.number != number && other.is_installing());
        (!busy).then_some(number)
    }

    /// Begins every install that the current wave allows; a wave whose phones all have the version is passed at once.
    fn run_wave(&mut self, now: Moment, number: RolloutNumber) {
        while let Some(wave) = self.rollouts.get(&number).and_then(Rollout::current_wave) {
            let Some(rollout) = self.rollouts.get_mut(&number) else { return };
            if wave >= rollout.record.open_waves {
                if self.open_wave(now, number, wave) {
                    continue;
                }
                return;
            }
            if !self.take_turns(now, number, wave) {
                break;
            }
        }
    }

    /// Lets each phone of a wave take its turn whose turn it is; whether one was settled by that.
    fn take_turns(&mut self, now: Moment, number: RolloutNumber, wave: u32) -> bool {
        let mut settled = self.park(now);
        let turns = self.turns(now, number, wave);
        let Some(mut room) = self.rollouts.get(&number).map(|rollout| self.room(rollout)) else { return false };
        for (place, turn) in turns {
            let Some(phone) = self.rollouts.get_mut(&number).and_then(|rollout| rollout.phones.get_mut(place)) else {
                continue;
            };
            match turn {
                Turn::Has(why) => phone.set(RolloutPhoneState::Done, Some(why.to_owned())),
                Turn::Misfit(why) => phone.miss(RolloutPhoneState::Skipped, why),
                Turn::Unfit(why) => {
                    settled |= self.must_wait(now, number, place, &why);
                    continue;
                }
                Turn::Installs(order) => {
                    self.begin_install(number, place, order, &mut room);
                    continue;
                }
            }
            self.draft.touched.insert(number);
            settled = true;
        }
        settled
    }

    /// Orders an install, if there is room for one more. A phone that is fit again waits no longer to be so.
    fn begin_install(&mut self, number: RolloutNumber, place: usize, order: InstallOrder, room: &mut Room) {
        let Some(rollout) = self.rollouts.get_mut(&number) else { return };
        let Some(phone) = rollout.phones.get_mut(place) else { return };
        let before = match self.phones.get(&phone.record.phone) {
            Some(Presence::Available(version)) => *version,
            _ => None,
        };
        let hub = self.candidates.get(&phone.record.phone).and_then(|candidate| candidate.hub.as_ref());
        if !room.take(hub) {
            if phone.record.unfit_since.is_some() {
                phone.set(RolloutPhoneState::Waiting, None);
                self.draft.touched.insert(number);
            }
            return;
        }
        phone.set(RolloutPhoneState::Installing, None);
        phone.flight = Some(Flight { deadline: None, gone: false });
        if phone.record.attempts == 0 {
            phone.record.before = before;
        }
        phone.record.attempts += 1;
        self.draft.effects.push(Output::Install { phone: phone.record.phone.clone(), order });
        self.draft.touched.insert(number);
    }

    /// What becomes of the phones of a wave that can take their turn now, by their places.
    fn turns(&self, now: Moment, number: RolloutNumber, wave: u32) -> Vec<(usize, Turn)> {
        let Some(rollout) = self.rollouts.get(&number) else { return Vec::new() };
        let waiting = |(_, phone): &(usize, &Phone)| {
            let is_due = phone.retry_at.is_none_or(|at| at <= now);
            phone.record.wave == wave && phone.record.state == RolloutPhoneState::Waiting && is_due
        };
        let turn = |(place, phone): (usize, &Phone)| Some((place, self.turn_of(rollout, &phone.record.phone)?));
        rollout.phones.iter().enumerate().filter(waiting).filter_map(turn).collect()
    }

    /// What becomes of a phone whose turn it is; `None` while it must wait.
    fn turn_of(&self, rollout: &Rollout, phone: &PhoneId) -> Option<Turn> {
        let Some(Presence::Available(version)) = self.phones.get(phone) else { return None };
        let record = &rollout.record;
        let wanted = record.version_code;
        match version {
            Some(version) if *version == wanted => return Some(Turn::Has("had the version already")),
            Some(version) if rollout.is_done_by(*version) => return Some(Turn::Has("has a newer version")),
            Some(version) if *version > wanted => {
                if let Some(why) = self.keeps_newer(rollout, phone, *version) {
                    return Some(Turn::Misfit(why));
                }
            }
            _ => {}
        }
        let apk = rollout.checked_apk()?;
        if let Some(Unmeant::Misfit(why)) = self.why_not(apk, phone, record.strategy.downgrade) {
            return Some(Turn::Misfit(why));
        }
        if self.is_shut() {
            return None;
        }
        if let Some(why) = self.why_unfit(rollout, phone) {
            return Some(Turn::Unfit(why));
        }
        let (rollout, apk, package) = (record.number.id(), apk.path.clone(), record.package.clone());
        let (carrier, downgrade) = (self.carrier_of(record), record.strategy.downgrade);
        Some(Turn::Installs(InstallOrder { rollout, apk, package, version_code: wanted, carrier, downgrade }))
    }

    /// Finishes each rollout in which no phone's turn is left; returns how many.
    fn finish(&mut self, now: Moment) -> usize {
        let all_settled = |rollout: &&Rollout| {
            matches!(rollout.record.state, RolloutState::Running | RolloutState::Paused)
                && rollout.phones.iter().all(|phone| phone.record.state.is_final())
                && !rollout.has_failed_too_often()
                && rollout.gate_behind_last().is_none()
        };
        let settled: Vec<_> = self.rollouts.values().filter(all_settled).map(|one| one.record.number).collect();
        let (ended, mut finished) = (self.wall(now), 0);
        for number in settled {
            let stands = self.rollouts.get(&number).and_then(|rollout| self.may_stand(rollout));
            let Some(rollout) = self.rollouts.get_mut(&number) else { continue };
            let sum = rollout.sum();
            let needy = rollout.phones.iter().find(|phone| phone.record.state == RolloutPhoneState::NeedsHand);
            let is_new = rollout.record.takes_back.is_none();
            if let Some(needy) = needy.filter(|_| rollout.count(RolloutPhoneState::Done) == 0 && is_new) {
                // That is no end of a rollout: resumed, it tries them again.
                if rollout.record.state == RolloutState::Running {
                    let reason = needy.record.why.as_deref().unwrap_or_default();
                    let why = format!("{} needs a hand: {reason}", needy.record.phone);
                    self.pause_for(now, number, why);
                }
                continue;
            }
            rollout.record.ended = Some(ended);
            rollout.record.stands = stands;
            rollout.set(RolloutState::Finished, "");
            self.draft.touched.insert(number);
            self.audit(now, "farmhand", format!("finished: {sum}"), number.to_string());
            finished += 1;
        }
        finished
    }

    /// Failures that the server must be told: held until their batch is committed, and asked for again, once the phone is known to
    /// be here or away, until the server has taken the report.
    pub(super) fn report_failures(&mut self, now: Moment) {
        let mut known_before = Vec::new();
        for rollout in self.rollouts.values() {
            let is_due = |phone: &&Phone| phone.has_untold_failure() && phone.report_again.is_none_or(|at| at <= now);
            for phone in rollout.phones.iter().filter(is_due) {
                let (Some(message_id), Some(why)) = (phone.record.notice, phone.record.why.clone()) else { continue };
                let report = Output::ReportFailure { phone: phone.record.phone.clone(), message_id, why };
                if self.held.values().flatten().any(|held| *held == report) {
                    continue;
                }
                if phone.dirty {
                    self.draft.effects.push(report);
                } else if self.phones.contains_key(&phone.record.phone) {
                    known_before.push(report);
                }
            }
        }
        for report in known_before {
            self.release(now, report);
        }
    }

    /// The report has gone out; whether it arrives is not known.
    pub(super) fn reported(&mut self, now: Moment, phone: &PhoneId, message_id: i64) {
        for known in self.untold(phone, message_id) {
            known.1.report_again = Some(now + REPORT_AGAIN);
        }
    }

    /// The server has taken the report, which counts once it is committed: a crash before that tells the server twice.
    pub(super) fn told(&mut self, phone: &PhoneId, message_id: i64) {
        let mut touched = Vec::new();
        for (number, known) in self.untold(phone, message_id) {
            known.record.report = Report::Sent;
            known.dirty = true;
            touched.push(number);
        }
        self.draft.touched.extend(touched);
    }

    fn untold(&mut self, phone: &PhoneId, message_id: i64) -> impl Iterator<Item = (RolloutNumber, &mut Phone)> {
        self.rollouts.iter_mut().filter_map(move |(number, rollout)| {
            let known = rollout.phone_mut(phone)?;
            let is_meant = known.record.notice == Some(message_id) && known.record.report == Report::Due;
            is_meant.then_some((*number, known))
        })
    }
}
