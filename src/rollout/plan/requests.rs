//! What the operator asks: start, approve, pause, resume. Each is answered once it is promised, or refused with what to do.

use std::path::{Path, PathBuf};

use super::{Apk, Ask, Output, Presence, Rollout, Rollouts};
use crate::agent::{ApkSource, CheckedApk};
use crate::clock::Moment;
use crate::rack::ids::{PackageName, PhoneId, RolloutId, VersionCode};
use crate::rack::lease::REASON_MAX;
use crate::rack::request::{Done, Refusal, Request};
use crate::rack::snapshot::{RolloutPhoneState, RolloutState};
use crate::rack::strategy::{Approve, StrategyChanges};
use crate::store::RolloutNumber;
use crate::store::promise::RolloutRecord;

const OPERATOR: &str = "operator";

/// What an operator wants to be rolled out, besides the APK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where the APK came from.
    pub file: PathBuf,
    /// To whom; to all that are ready if empty.
    pub phones: Vec<PhoneId>,
    /// What shall be otherwise than configured.
    pub strategy: StrategyChanges,
}

impl Rollouts {
    /// Approves, pauses or resumes. [`Request::RolloutStart`] needs its APK checked first: see [`Self::may_start`] and
    /// [`Self::start`].
    pub fn request(&mut self, now: Moment, ask: Ask, request: &Request) {
        let result = match request {
            Request::RolloutApprove { rollout } => self.approve(now, rollout),
            Request::RolloutPause { rollout } => self.pause(now, rollout),
            Request::RolloutResume { rollout } => self.resume(now, rollout),
            Request::RolloutSkip { rollout, phone } => self.skip(now, rollout, phone),
            Request::RolloutPromote { rollout, reason } => self.promote(now, rollout, reason),
            Request::RolloutAbort { rollout, reason } => self.abort(now, rollout, reason),
            _ => Err(refusal("rollout.not_here", "this is no request to a rollout that exists", None)),
        };
        self.draft.effects.push(Output::Answer { ask, result });
        self.close(now);
    }

    /// What an APK must be to be started with [`Self::start`]: its package, and the lowest version among the chosen phones,
    /// below which it would be a downgrade on each of them.
    ///
    /// # Errors
    /// A [`Refusal`] if no agent is configured, the package is another, or a phone is not known.
    pub fn may_start(
        &self,
        package: Option<&PackageName>,
        chosen: &[PhoneId],
    ) -> Result<(PackageName, Option<VersionCode>), Refusal> {
        let Some(agent) = &self.agent else {
            let help = "write [agent] package = \"…\" and signers = [\"…\"] into farmhand.toml";
            return Err(refusal("rollout.agent_off", "installing apps is switched off on this rack", Some(help)));
        };
        if let Some(package) = package.filter(|package| *package != agent) {
            let what = format!("this rack keeps {agent}, and the rollout is of {package}");
            return Err(refusal("rollout.package", what, Some("change [agent] package, or leave --package out")));
        }
        if let Some(unknown) = chosen.iter().find(|phone| !self.phones.contains_key(phone)) {
            let what = format!("no phone `{unknown}` is known");
            return Err(refusal(
                "rollout.phone_unknown",
                what,
                Some("`farmhand phones` lists the phones of this rack"),
            ));
        }
        let phones = self.chosen(chosen);
        if phones.is_empty() {
            return Err(refusal("rollout.no_phone", "no phone is ready", Some("`farmhand phones` shows why")));
        }
        let lowest = phones.iter().map(|phone| self.installed_version(phone)).min().flatten();
        Ok((agent.clone(), lowest))
    }

    /// Whether a rollout has this file of an APK.
    #[must_use]
    pub fn uses(&self, apk: &Path) -> bool {
        self.rollouts.values().any(|rollout| matches!(&rollout.apk, Apk::Ready(path) if path == apk))
    }

    /// Begins a rollout of a checked APK that came from the operator's `file`, to these phones or to all that are ready.
    pub fn start(&mut self, now: Moment, ask: Ask, apk: CheckedApk, wanted: Wanted) {
        let result =
            self.may_start(Some(&apk.package), &wanted.phones).and_then(|_| self.begin_start(now, apk, wanted));
        self.draft.effects.push(Output::Answer { ask, result });
        self.close(now);
    }

    fn begin_start(
        &mut self,
        now: Moment,
        apk: CheckedApk,
        Wanted { file, phones: chosen, strategy }: Wanted,
    ) -> Result<Done, Refusal> {
        let wanted = apk.version_code;
        let (older, others): (Vec<_>, Vec<_>) = self
            .chosen(&chosen)
            .into_iter()
            .partition(|phone| self.installed_version(phone).is_none_or(|version| version < wanted));
        if older.is_empty() {
            let what = format!("every phone that was chosen has version {wanted} or a newer one");
            return Err(refusal("rollout.nothing_to_do", what, None));
        }
        let strategy = strategy.applied_to(&self.config.strategy);
        let must_be_approved = strategy.approve != Approve::None;
        let number = self.next_number();
        let count = older.len();
        let record = RolloutRecord {
            number,
            state: RolloutState::WaitingApproval,
            why: String::new(),
            source: ApkSource::File(file),
            package: apk.package.clone(),
            version_code: wanted,
            version_name: apk.version_name,
            strategy,
            open_waves: 0,
            soaks_until: None,
            accepted_failures: 0,
            sha256: Some(apk.sha256),
            created: self.wall(now),
            ended: None,
        };
        self.begin(record, Apk::Ready(apk.path), now);
        for phone in older {
            self.join(number, phone, None);
        }
        if let Some(rollout) = self.rollouts.get_mut(&number) {
            rollout.make_waves();
            rollout.begin_waves();
        }
        let mut what = format!("{number} takes {} {wanted} to {}", apk.package, phones(count));
        if !others.is_empty() {
            what += &format!("; {} left out, having this version or a newer one", phones(others.len()));
        }
        if must_be_approved {
            what += &format!("; it waits for `farmhand rollout approve {number}`");
        }
        self.audit(now, OPERATOR, format!("started: {what}"), number.to_string());
        Ok(done(number, what))
    }

    /// The phones that are meant, each once: all that are ready if none is named.
    fn chosen(&self, chosen: &[PhoneId]) -> Vec<PhoneId> {
        if chosen.is_empty() {
            let ready = |(phone, presence): (&PhoneId, &Presence)| {
                matches!(presence, Presence::Available(_)).then(|| phone.clone())
            };
            return self.phones.iter().filter_map(ready).collect();
        }
        let mut once = Vec::new();
        for phone in chosen {
            if !once.contains(phone) {
                once.push(phone.clone());
            }
        }
        once
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
        let mut again = 0;
        for phone in &mut rollout.phones {
            phone.dirty |= phone.record.interrupted > 0 || phone.record.retried > 0;
            (phone.record.interrupted, phone.record.retried) = (0, 0);
            if matches!(phone.record.state, RolloutPhoneState::Failed | RolloutPhoneState::NeedsHand) {
                phone.set(RolloutPhoneState::Waiting, None);
                again += 1;
            }
        }
        let what = match again {
            0 => format!("{id} goes on"),
            _ => format!("{id} goes on and tries {} again", phones(again)),
        };
        self.decided(now, id, "resumed", what)
    }

    fn skip(&mut self, now: Moment, id: &RolloutId, phone: &PhoneId) -> Result<Done, Refusal> {
        let rollout = self.find(id)?;
        if rollout.is_over() {
            return Err(wrong_state(id, "under way", rollout.record.state));
        }
        let Some(known) = rollout.phone_mut(phone) else {
            let help = format!("`farmhand rollout show {id}` lists its phones");
            return Err(refusal("rollout.phone_unknown", format!("{phone} is not in {id}"), Some(&help)));
        };
        match known.record.state {
            RolloutPhoneState::Waiting | RolloutPhoneState::Failed | RolloutPhoneState::NeedsHand => {}
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
        if rollout.is_over() {
            return Err(wrong_state(id, "under way", rollout.record.state));
        }
        for phone in &mut rollout.phones {
            // An order that has gone out ends as it ends: until then nobody else installs on that phone.
            if !phone.record.state.is_settled() && !phone.is_ordered() {
                phone.miss(RolloutPhoneState::Skipped, format!("the rollout was given up: {reason}"));
            }
        }
        let under_way = rollout.count(RolloutPhoneState::Installing);
        rollout.record.ended = Some(ended);
        rollout.set(RolloutState::Aborted, format!("given up by the operator: {reason}"));
        let mut what = format!("{id} is given up; {}", rollout.sum());
        if under_way > 0 {
            what += &format!("; {} under way will finish", installs(under_way));
        }
        self.decided(now, id, &format!("gave up: {reason}"), what)
    }

    fn find(&mut self, id: &RolloutId) -> Result<&mut Rollout, Refusal> {
        RolloutNumber::of(id).and_then(|number| self.rollouts.get_mut(&number)).ok_or_else(|| {
            let help = "`farmhand rollout list` shows the rollouts of this rack";
            refusal("rollout.unknown", format!("no rollout is called `{id}`"), Some(help))
        })
    }

    fn decided(&mut self, now: Moment, id: &RolloutId, verb: &str, what: String) -> Result<Done, Refusal> {
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
fn checked_reason(reason: &str) -> Result<&str, Refusal> {
    let reason = reason.trim();
    if reason.is_empty() || reason.len() > REASON_MAX {
        return Err(refusal("rollout.reason", format!("a reason has 1 to {REASON_MAX} bytes: others read it"), None));
    }
    Ok(reason)
}

fn done(number: RolloutNumber, what: String) -> Done {
    Done { what, rollout: Some(number.id()) }
}

fn refusal(code: &str, what: impl Into<String>, help: Option<&str>) -> Refusal {
    Refusal { code: code.to_owned(), what: what.into(), help: help.map(str::to_owned) }
}

fn wrong_state(id: &RolloutId, expected: &str, seen: RolloutState) -> Refusal {
    let seen = seen.as_str().replace('_', " ");
    let help = format!("`farmhand rollout show {id}` tells where it is");
    refusal("rollout.state", format!("{id} is {seen}, not {expected}"), Some(&help))
}

/// `1 phone`, `3 phones`.
pub(super) fn phones(count: usize) -> String {
    if count == 1 { "1 phone".into() } else { format!("{count} phones") }
}

fn installs(count: usize) -> String {
    if count == 1 { "1 install".into() } else { format!("{count} installs") }
}
