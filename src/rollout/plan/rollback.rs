//! Rolling back: each phone that has got the version of a rollout gets back the one that it had before.
//!
//! ```text
//!     Running, Paused, … ──▶ RollingBack ── installs under way end ──▶ one rollout for each version before ──▶ RolledBack
//! ```
//!
//! The way back is a rollout of its own for each version that goes back, of one wave that nobody must approve, with all limits, tries and
//! promises of any other ([`RolloutRecord::takes_back`]); what becomes of a phone there is told here. Each of these begins in a step of its
//! own, and that step is committed before anything of it is done.
//!
//! Invariant: a phone goes back only from the very version that the rollout brought, and only to the one that it had before
//! (`stories_of_rollback`, `properties`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::requests::{checked_reason, phones, refusal, wrong_state};
use super::{Apk, Phone, Rollout, Rollouts};
use crate::agent::ApkSource;
use crate::clock::Moment;
use crate::rack::gates::Gates;
use crate::rack::ids::{PackageName, PhoneId, RolloutId, VersionCode};
use crate::rack::request::{Done, Refusal};
use crate::rack::snapshot::{RolloutPhoneState, RolloutState};
use crate::rack::strategy::{Approve, Downgrade, Join, OnFailure, Share, Strategy};
use crate::store::RolloutNumber;
use crate::store::promise::RolloutRecord;

/// The app that this rack keeps on its phones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAgent {
    /// Its package.
    pub package: PackageName,
    /// The APK that phones without it get until a rollout has finished: a rollback may want it.
    pub apk: Option<PathBuf>,
    /// SHA-256 of that APK in lower-case hex, once it was checked.
    pub sha256: Option<String>,
}

impl From<PackageName> for KeptAgent {
    fn from(package: PackageName) -> Self {
        Self { package, apk: None, sha256: None }
    }
}

/// Where the APK of a version is.
struct Origin {
    source: ApkSource,
    sha256: Option<String>,
    version_name: String,
}

/// What becomes of a phone when its rollout is rolled back.
enum Return {
    /// It has nothing of it.
    Nothing,
    /// It goes back to this version.
    To(VersionCode),
    /// It can't go back, for this reason.
    Stays(String),
}

impl Rollouts {
    pub(super) fn roll_back(&mut self, now: Moment, id: &RolloutId, reason: &str) -> Result<Done, Refusal> {
        let reason = checked_reason(reason)?;
        let rollout = self.find(id)?;
        match rollout.record.state {
            RolloutState::WaitingApproval
            | RolloutState::Running
            | RolloutState::Paused
            | RolloutState::Finished
            | RolloutState::Aborted => {}
            state => return Err(wrong_state(id, "begun, and not rolled back", state)),
        }
        let (number, version) = (rollout.record.number, rollout.record.version_code);
        let (returns, stays) = self.returns(number);
        let under_way = self.rollouts.get(&number).is_some_and(Rollout::is_installing);
        if returns.is_empty() && !under_way {
            let why = stays.first_key_value().map(|(phone, why)| format!("; {phone}: {why}")).unwrap_or_default();
            let what = format!("no phone can get back what it had before {id}{why}");
            let help = "`farmhand rollout start OLDER.apk --allow-downgrade` takes any older version to the phones";
            return Err(refusal("rollout.nothing_to_do", what, Some(help)));
        }
        let verb = if returns.len() == 1 { "goes" } else { "go" };
        let mut what = format!("{id} is rolled back: {} of version {version} {verb} back", phones(returns.len()));
        let versions: BTreeSet<String> = returns.values().map(|version| format!("version {version}")).collect();
        if !versions.is_empty() {
            what += &format!(" to {}", versions.into_iter().collect::<Vec<_>>().join(", "));
        }
        if let Some((phone, why)) = stays.first_key_value() {
            what += &format!("; {} can't ({phone}: {why})", phones(stays.len()));
        }
        if under_way {
            what += "; installs under way end first";
        }
        let why = format!("rolled back by the operator: {reason}");
        self.begin_rollback(number, why);
        self.decided(now, id, &format!("rolls back: {reason}"), what)
    }

    /// Nobody has a turn in it any more; who goes back is decided once what is under way has ended.
    pub(super) fn begin_rollback(&mut self, number: RolloutNumber, why: String) {
        let Some(rollout) = self.rollouts.get_mut(&number) else { return };
        for phone in &mut rollout.phones {
            if !phone.record.state.is_final() && !phone.is_ordered() {
                phone.miss(RolloutPhoneState::Skipped, "the rollout is rolled back".to_owned());
            }
        }
        (rollout.record.ended, rollout.record.stands) = (None, None);
        rollout.look = None;
        rollout.set(RolloutState::RollingBack, why);
        self.draft.touched.insert(number);
    }

    /// Takes one step of each rollback that can go on.
    pub(super) fn run_rollbacks(&mut self, now: Moment) {
        self.tell_of_returns();
        // What is decided stands on the promise to roll back.
        let can_go_on =
            |one: &&Rollout| one.record.state == RolloutState::RollingBack && !one.dirty && !one.is_installing();
        let numbers: Vec<_> = self.rollouts.values().filter(can_go_on).map(|one| one.record.number).collect();
        for number in numbers {
            if !self.is_decided(number) {
                self.decide(number);
            }
            if !self.begin_return(now, number) {
                self.end_rollback(now, number);
            }
        }
    }

    /// Whether it is known who goes back: that is decided once, for what is known of phones changes meanwhile.
    fn is_decided(&self, number: RolloutNumber) -> bool {
        let goes_back = |phone: &Phone| {
            matches!(phone.record.state, RolloutPhoneState::RollingBack | RolloutPhoneState::RolledBack)
        };
        self.rollouts.get(&number).is_some_and(|rollout| rollout.phones.iter().any(goes_back))
            || self.rollouts.values().any(|way| way.record.takes_back == Some(number))
    }

    /// Who goes back, and who can't.
    fn decide(&mut self, number: RolloutNumber) {
        let (returns, stays) = self.returns(number);
        let Some(rollout) = self.rollouts.get_mut(&number) else { return };
        for (phone, why) in stays {
            if let Some(known) = rollout.phone_mut(&phone) {
                known.miss(RolloutPhoneState::NeedsHand, format!("it can't be rolled back: {why}"));
            }
        }
        for (phone, version) in returns {
            if let Some(known) = rollout.phone_mut(&phone) {
                known.set(RolloutPhoneState::RollingBack, Some(format!("goes back to version {version}")));
            }
        }
        self.draft.touched.insert(number);
    }

    /// Begins the way back to one version that has none yet; whether there was one.
    fn begin_return(&mut self, now: Moment, number: RolloutNumber) -> bool {
        let Some(rollout) = self.rollouts.get(&number) else { return false };
        let ways = || self.rollouts.values().filter(|way| way.record.takes_back == Some(number));
        let is_on_its_way = |phone: &PhoneId| ways().any(|way| way.phones.iter().any(|one| one.record.phone == *phone));
        let waits = |phone: &&Phone| {
            phone.record.state == RolloutPhoneState::RollingBack && !is_on_its_way(&phone.record.phone)
        };
        let waiting: Vec<&Phone> = rollout.phones.iter().filter(waits).collect();
        let Some(target) = waiting.iter().filter_map(|phone| phone.record.before).min() else { return false };
        let Some(origin) = self.origin(number, target) else { return false };
        let goes: Vec<PhoneId> = waiting
            .into_iter()
            .filter(|phone| phone.record.before == Some(target))
            .map(|phone| phone.record.phone.clone())
            .collect();
        let (package, strategy) = (rollout.record.package.clone(), way_back(&rollout.record.strategy));
        let back = self.next_number();
        let record = RolloutRecord {
            state: RolloutState::Fetching,
            version_name: origin.version_name,
            sha256: origin.sha256,
            takes_back: Some(number),
            ..RolloutRecord::new(back, origin.source, package, target, strategy, self.wall(now))
        };
        self.begin(record, Apk::Wanted, now);
        let what = format!("begun, to bring version {target} back to {} of {number}", phones(goes.len()));
        for phone in goes {
            self.join(back, phone, None);
        }
        self.audit(now, "farmhand", what, back.to_string());
        true
    }

    /// Ends a rollback in which nobody is on the way back any more.
    fn end_rollback(&mut self, now: Moment, number: RolloutNumber) {
        let ended = self.wall(now);
        let is_under_way = self.rollouts.values().any(|way| way.record.takes_back == Some(number) && !way.is_over());
        let Some(rollout) = self.rollouts.get_mut(&number) else { return };
        if is_under_way {
            return;
        }
        for phone in rollout.phones.iter_mut().filter(|phone| phone.record.state == RolloutPhoneState::RollingBack) {
            phone.miss(RolloutPhoneState::NeedsHand, "not rolled back: its way back ended without a result".to_owned());
        }
        let (sum, why) = (rollout.sum(), std::mem::take(&mut rollout.record.why));
        rollout.record.ended = Some(ended);
        rollout.set(RolloutState::RolledBack, format!("{sum}; {why}"));
        self.draft.touched.insert(number);
        self.audit(now, "farmhand", format!("rolled back: {sum}"), number.to_string());
    }

    /// What has become of phones on their way back is told in the rollout from which they come.
    fn tell_of_returns(&mut self) {
        let ways = self.draft.touched.iter().filter_map(|number| self.rollouts.get(number));
        let mut told = Vec::new();
        for way in ways {
            let Some(origin) = way.record.takes_back else { continue };
            let back = format!("on version {} again, by {}", way.record.version_code, way.record.number);
            let came = |phone: &Phone| {
                let why = phone.record.why.clone().unwrap_or_default();
                let (state, why) = match phone.record.state {
                    RolloutPhoneState::Done => (RolloutPhoneState::RolledBack, back.clone()),
                    RolloutPhoneState::Skipped => (RolloutPhoneState::Skipped, format!("not rolled back: {why}")),
                    RolloutPhoneState::Failed | RolloutPhoneState::NeedsHand => {
                        (RolloutPhoneState::NeedsHand, format!("not rolled back: {why}"))
                    }
                    _ => return None,
                };
                Some((origin, phone.record.phone.clone(), state, why))
            };
            told.extend(way.phones.iter().filter_map(came));
        }
        for (origin, phone, state, why) in told {
            let Some(rollout) = self.rollouts.get_mut(&origin) else { continue };
            let Some(known) = rollout.phone_mut(&phone) else { continue };
            let is_news = match known.record.state {
                RolloutPhoneState::RollingBack => true,
                // Tried again over there, and it worked.
                RolloutPhoneState::NeedsHand => state == RolloutPhoneState::RolledBack,
                _ => false,
            };
            if is_news {
                known.miss(state, why);
                self.draft.touched.insert(origin);
            }
        }
    }

    /// Who goes back to which version that is not on its way there, and who can't and why.
    fn returns(&self, number: RolloutNumber) -> (BTreeMap<PhoneId, VersionCode>, BTreeMap<PhoneId, String>) {
        let (mut returns, mut stays) = (BTreeMap::new(), BTreeMap::new());
        let Some(rollout) = self.rollouts.get(&number) else { return (returns, stays) };
        for phone in &rollout.phones {
            match self.return_of(rollout, phone) {
                Return::Nothing => {}
                Return::To(version) => drop(returns.insert(phone.record.phone.clone(), version)),
                Return::Stays(why) => drop(stays.insert(phone.record.phone.clone(), why)),
            }
        }
        (returns, stays)
    }

    fn return_of(&self, rollout: &Rollout, phone: &Phone) -> Return {
        let record = &phone.record;
        let may_have_it = matches!(record.state, RolloutPhoneState::Done | RolloutPhoneState::Failed);
        if record.attempts == 0 || !may_have_it {
            return Return::Nothing;
        }
        let has = self.installed_version(&record.phone);
        let is_here = self.is_away(&record.phone).is_none();
        if record.state == RolloutPhoneState::Failed && is_here && (has.is_none() || has == record.before) {
            return Return::Nothing;
        }
        if let Some(other) = has.filter(|has| *has != rollout.record.version_code) {
            return Return::Stays(format!(
                "it has version {other} by now, which {} did not bring",
                rollout.record.number
            ));
        }
        match record.before {
            None => Return::Stays("it had no version before, and farmhand uninstalls nothing".to_owned()),
            Some(before) if self.origin(rollout.record.number, before).is_none() => {
                Return::Stays(format!("no rollout has brought version {before}, so its APK is not known here"))
            }
            Some(before) => Return::To(before),
        }
    }

    /// Where the APK of a version is, by the newest other rollout that had it checked, or else the one that new phones get: what it is shows
    /// when it is checked.
    fn origin(&self, not: RolloutNumber, version: VersionCode) -> Option<Origin> {
        let package = &self.rollouts.get(&not)?.record.package;
        let had_it = |record: &&RolloutRecord| {
            record.number != not
                && record.package == *package
                && record.version_code == version
                && record.sha256.is_some()
        };
        let known = self.rollouts.values().rev().map(|rollout| &rollout.record).find(had_it).map(|record| Origin {
            source: record.source.clone(),
            sha256: record.sha256.clone(),
            version_name: record.version_name.clone(),
        });
        let of_agent =
            |apk: &PathBuf| Origin { source: ApkSource::File(apk.clone()), sha256: None, version_name: String::new() };
        known.or_else(|| self.agent.as_ref()?.apk.as_ref().map(of_agent))
    }

    /// Why a phone keeps a newer version than a rollout brings that takes phones back, as a sentence.
    pub(super) fn keeps_newer(&self, rollout: &Rollout, phone: &PhoneId, has: VersionCode) -> Option<String> {
        let number = rollout.record.number;
        if let Some(origin) = rollout.record.takes_back {
            let brought = self.rollouts.get(&origin).map(|origin| origin.record.version_code);
            if brought != Some(has) {
                return Some(format!("it has version {has} by now, which {origin} did not bring"));
            }
        }
        let later = self.brought_later(number, phone, has)?;
        Some(format!("it has version {has} from {later}, which began later"))
    }

    /// The rollout that began later than this one and has brought a version to a phone.
    pub(super) fn brought_later(
        &self,
        number: RolloutNumber,
        phone: &PhoneId,
        has: VersionCode,
    ) -> Option<RolloutNumber> {
        let brought = |later: &&Rollout| {
            let is_done = |one: &Phone| one.record.phone == *phone && one.record.state == RolloutPhoneState::Done;
            later.record.number > number && later.record.version_code == has && later.phones.iter().any(is_done)
        };
        self.rollouts.values().find(brought).map(|later| later.record.number)
    }

    /// What a rollback waits for, as a sentence.
    pub(super) fn rollback_why(&self, rollout: &Rollout) -> String {
        let why = &rollout.record.why;
        let installing = rollout.count(RolloutPhoneState::Installing);
        if installing > 0 {
            return format!("{why}; waits for {} under way", super::requests::installs(installing));
        }
        let goes_back = |way: &&Rollout| way.record.takes_back == Some(rollout.record.number) && !way.is_over();
        let ways: Vec<_> = self.rollouts.values().filter(goes_back).map(|way| way.record.number.to_string()).collect();
        format!("{why}; {}; see {}", rollout.sum(), ways.join(", "))
    }
}

/// How the way back goes: at once, with the same limits, and whatever fails on one phone stops no other.
fn way_back(strategy: &Strategy) -> Strategy {
    Strategy {
        waves: Vec::new(),
        approve: Approve::None,
        soak_s: 0,
        max_failures: Share::Percent(100),
        join: Join::Static,
        gates: Gates::default(),
        downgrade: Downgrade::Allowed,
        on_failure: OnFailure::Pause,
        ..strategy.clone()
    }
}
