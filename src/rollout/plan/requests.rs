//! What the operator asks: start, approve, pause, resume. Each is answered once it is promised, or refused with what to do.

use super::{Apk, Ask, OPERATOR, Output, Phone, Rollout, Rollouts};
use crate::clock::Moment;
use crate::rack::ids::{PhoneId, RolloutId};
use crate::rack::lease::REASON_MAX;
use crate::rack::request::{Done, Refusal, Request};
use crate::rack::snapshot::{RolloutPhoneState, RolloutState};
use crate::store::RolloutNumber;

impl Rollouts {
    /// Approves, pauses or resumes. [`Request::RolloutStart`] needs its APK checked first: see [`Self::may_start`] and
    /// [`Self::start`].
    pub fn request(&mut self, now: Moment, ask: Ask, request: &Request) {
        let result = match request {
            Request::RolloutApprove { rollout } => self.approve(now, rollout),
            Request::RolloutPause { rollout } => self.pause(now, rollout),
            Request::RolloutResume { rollout } => self.resume(now, rollout),
            Request::RolloutRetry { rollout, phone } => self.retry(now, rollout, phone.as_ref()),
            Request::RolloutSkip { rollout, phone } => self.skip(now, rollout, phone),
            Request::RolloutPromote { rollout, reason } => self.promote(now, rollout, reason),
            Request::RolloutAbort { rollout, reason } => self.abort(now, rollout, reason),
            Request::RolloutRollback { rollout, reason } => self.roll_back(now, rollout, reason),
            _ => Err(refusal("rollout.not_here", "this is no request to a rollout that exists", None)),
        };
        self.draft.effects.push(Output::Answer { ask, result });
        self.close(now);
    }

    fn approve(&mut self, now: Moment, id: &RolloutId) -> Result<Done, Refusal> {
        let rollout = self.find(id)?;
        match rollout.record.state {
            RolloutState::WaitingApproval => {
                rollout.open(rollout.current_wave().unwrap_or_default());
                rollout.set(RolloutState::Running, "");
            }
            RolloutState::Paused => {
                let help = format!("`farmhand rollout resume {id}` goes on");
                return Err(refusal("rollout.state", format!("{id} is paused, not waiting for approval"), Some(&help)));
            }
            state => return Err(wrong_state(id, "waiting for approval", state)),
        }
        rollout.want_again();
        let what = format!("{id} is approved for {}", phones(rollout.phones.len()));
        self.decided(now, id, "approved", what)
    }

    fn pause(&mut self, now: Moment, id: &RolloutId) -> Result<Done, Refusal> {
        let rollout = self.find(id)?;
        match rollout.record.state {
            RolloutState::Running => rollout.set(RolloutState::Paused, "paused by the operator"),
            state => return Err(wrong_state(id, "running", state)),
        }
        let under_way = rollout.phones.iter().filter(|phone| phone.flight.is_some()).count();
        let what = match under_way {
            0 => format!("{id} is paused; nothing is under way"),
            _ => format!("{id} is paused; {} under way will finish", installs(under_way)),
        };
        self.decided(now, id, "paused", what)
    }

    fn resume(&mut self, now: Moment, id: &RolloutId) -> Result<Done, Refusal> {
        let rollout = self.find(id)?;
        match rollout.record.state {
            RolloutState::Paused => rollout.set(RolloutState::Running, ""),
            state => return Err(wrong_state(id, "paused", state)),
        }
        rollout.want_again();
        rollout.look = None;
        let again = rollout.phones.iter_mut().map(Phone::try_again).filter(|again| *again).count();
        let what = match again {
            0 => format!("{id} goes on"),
            _ => format!("{id} goes on and tries {} again", phones(again)),
        };
        self.decided(now, id, "resumed", what)
    }

    /// A rollout that is finished is open again by that, and whoever is away is waited for anew.
    fn retry(&mut self, now: Moment, id: &RolloutId, phone: Option<&PhoneId>) -> Result<Done, Refusal> {
        let rollout = self.find(id)?;
        match rollout.record.state {
            RolloutState::Running | RolloutState::Paused | RolloutState::Finished => {}
            state => return Err(wrong_state(id, "running, paused or finished", state)),
        }
        if let Some(missing) = phone.filter(|phone| rollout.phones.iter().all(|one| one.record.phone != **phone)) {
            return Err(not_in_it(id, missing));
        }
        let is_meant = |one: &&mut Phone| phone.is_none_or(|phone| one.record.phone == *phone);
        let again = rollout.phones.iter_mut().filter(is_meant).map(Phone::try_again).filter(|again| *again).count();
        if again == 0 {
            let what = format!("nothing that failed or needs a hand is left to try again in {id}");
            return Err(refusal("rollout.nothing_to_do", what, None));
        }
        if rollout.is_over() {
            (rollout.record.ended, rollout.record.closes) = (None, None);
        }
        rollout.set(RolloutState::Running, "");
        rollout.want_again();
        self.decided(now, id, "retried", format!("{id} tries {} again", phones(again)))
    }

    fn skip(&mut self, now: Moment, id: &RolloutId, phone: &PhoneId) -> Result<Done, Refusal> {
        let rollout = self.find(id)?;
        if rollout.is_ending() {
            return Err(wrong_state(id, "under way", rollout.record.state));
        }
        let Some(known) = rollout.phone_mut(phone) else {
            return Err(not_in_it(id, phone));
        };
        match known.record.state {
            RolloutPhoneState::Waiting
            | RolloutPhoneState::Parked
            | RolloutPhoneState::Failed
            | RolloutPhoneState::NeedsHand => {}
            state => {
                let what = format!("{phone} is {} in {id} and can't be left out", state.as_str().replace('_', " "));
                return Err(refusal("rollout.phone_state", what, None));
            }
        }
        known.miss(RolloutPhoneState::Skipped, "left out by the operator".to_owned());
        self.decided(now, id, &format!("left out {phone}"), format!("{phone} is left out of {id}"))
    }

    fn promote(&mut self, now: Moment, id: &RolloutId, reason: &str) -> Result<Done, Refusal> {
        let reason = checked_reason(reason)?;
        let rollout = self.find(id)?;
        if rollout.record.state != RolloutState::Paused {
            return Err(wrong_state(id, "paused", rollout.record.state));
        }
        let failed = rollout.count(RolloutPhoneState::Failed);
        rollout.record.accepted_failures = u32::try_from(failed).unwrap_or(u32::MAX);
        if let Some(wave) = rollout.current_wave() {
            rollout.open(wave.max(rollout.record.open_waves.saturating_sub(1)));
        } else if let Some(behind) = rollout.gate_behind_last() {
            rollout.open(behind);
        }
        rollout.set(RolloutState::Running, "");
        rollout.want_again();
        let what = match failed {
            0 => format!("{id} goes on"),
            _ => format!("{id} goes on without {}", phones(failed)),
        };
        self.decided(now, id, &format!("promoted: {reason}"), what)
    }

    fn abort(&mut self, now: Moment, id: &RolloutId, reason: &str) -> Result<Done, Refusal> {
        let reason = checked_reason(reason)?.to_owned();
        let ended = self.wall(now);
        let rollout = self.find(id)?;
        if rollout.is_ending() {
            return Err(wrong_state(id, "under way", rollout.record.state));
        }
        for phone in &mut rollout.phones {
            // An order that has gone out ends as it ends: until then nobody else installs on that phone.
            if !phone.record.state.is_final() && !phone.is_ordered() {
                phone.miss(RolloutPhoneState::Skipped, format!("the rollout was given up: {reason}"));
            }
        }
        let under_way = rollout.count(RolloutPhoneState::Installing);
        (rollout.record.ended, rollout.record.stands) = (Some(ended), None);
        rollout.set(RolloutState::Aborted, format!("given up by the operator: {reason}"));
        let mut what = format!("{id} is given up; {}", rollout.sum());
        if under_way > 0 {
            what += &format!("; {} under way will finish", installs(under_way));
        }
        self.decided(now, id, &format!("gave up: {reason}"), what)
    }

    pub(super) fn find(&mut self, id: &RolloutId) -> Result<&mut Rollout, Refusal> {
        RolloutNumber::of(id).and_then(|number| self.rollouts.get_mut(&number)).ok_or_else(|| {
            let help = "`farmhand rollout list` shows the rollouts of this rack";
            refusal("rollout.unknown", format!("no rollout is called `{id}`"), Some(help))
        })
    }

    pub(super) fn decided(&mut self, now: Moment, id: &RolloutId, verb: &str, what: String) -> Result<Done, Refusal> {
        let number = self.find(id)?.record.number;
        self.draft.touched.insert(number);
        self.audit(now, OPERATOR, verb.to_owned(), number.to_string());
        Ok(done(number, what))
    }
}

impl Rollout {
    /// Has the APK fetched again if it could not be had the last time.
    fn want_again(&mut self) {
        if matches!(self.apk, Apk::Failed(_)) {
            self.apk = Apk::Wanted;
        }
    }
}

/// Others read it in the audit.
pub(super) fn checked_reason(reason: &str) -> Result<&str, Refusal> {
    let reason = reason.trim();
    if reason.is_empty() || reason.len() > REASON_MAX {
        return Err(refusal("rollout.reason", format!("a reason has 1 to {REASON_MAX} bytes: others read it"), None));
    }
    Ok(reason)
}

pub(super) fn done(number: RolloutNumber, what: String) -> Done {
    Done { what, rollout: Some(number.id()), forecast: None }
}

pub(super) fn refusal(code: &str, what: impl Into<String>, help: Option<&str>) -> Refusal {
    Refusal { code: code.to_owned(), what: what.into(), help: help.map(str::to_owned) }
}

fn not_in_it(id: &RolloutId, phone: &PhoneId) -> Refusal {
    let help = format!("`farmhand rollout show {id}` lists its phones");
    refusal("rollout.phone_unknown", format!("{phone} is not in {id}"), Some(&help))
}

pub(super) fn wrong_state(id: &RolloutId, expected: &str, seen: RolloutState) -> Refusal {
    let seen = seen.as_str().replace('_', " ");
    let help = format!("`farmhand rollout show {id}` tells where it is");
    refusal("rollout.state", format!("{id} is {seen}, not {expected}"), Some(&help))
}

/// `1 phone`, `3 phones`.
pub(super) fn phones(count: usize) -> String {
    if count == 1 { "1 phone".into() } else { format!("{count} phones") }
}

pub(super) fn installs(count: usize) -> String {
    if count == 1 { "1 install".into() } else { format!("{count} installs") }
}
