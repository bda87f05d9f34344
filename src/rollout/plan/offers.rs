//! From the server's notices to a rollout with a checked APK.

use super::start::Unmeant;
use super::{Apk, Fetch, Output, Phone, Presence, Rollout, Rollouts, UNFINISHED_MAX};
use crate::agent::{ApkSource, CheckedApk};
use crate::clock::Moment;
use crate::config::FromCentral;
use crate::rack::event::UpgradeNotice;
use crate::rack::ids::PhoneId;
use crate::rack::snapshot::{RolloutPhoneState, RolloutState};
use crate::rack::strategy::{Approve, Strategy, waves_of};
use crate::store::RolloutNumber;
use crate::store::promise::{Report, RolloutPhoneRecord, RolloutRecord};

const SERVER: &str = "central server";

impl Rollouts {
    /// A notice joins the rollout of the same package, version and address that is being gathered, or begins one.
    pub(super) fn offered(&mut self, now: Moment, phone: PhoneId, notice: UpgradeNotice) {
        if let Some(why) = self.refusal(&phone, &notice) {
            self.audit(now, SERVER, format!("the upgrade notice for {phone} was refused: {why}"), phone.to_string());
            self.draft.effects.push(Output::ReportFailure { phone, message_id: notice.message_id, why });
            return;
        }
        if self.installed_version(&phone) == Some(notice.version_code) {
            tracing::debug!(%phone, version = %notice.version_code, "an upgrade notice asks for what the phone has");
            return;
        }
        if self.renews(&phone, &notice) {
            return;
        }
        let number = match self.gathering(&notice) {
            Some(number) => number,
            None => self.begin_gathering(now, &notice),
        };
        self.join(number, phone, Some(notice.message_id));
    }

    /// Why a notice is refused before anything is fetched.
    fn refusal(&self, phone: &PhoneId, notice: &UpgradeNotice) -> Option<String> {
        if self.config.from_central == FromCentral::Refuse {
            return Some(
                "this rack takes no upgrades from the central server: [rollout] from_central is refuse".into(),
            );
        }
        let Some(agent) = &self.agent else {
            return Some("installing apps is switched off on this rack: [agent] is not configured".into());
        };
        if agent.package != notice.package {
            let agent = &agent.package;
            return Some(format!("this rack keeps {agent}, and the notice is for {}", notice.package));
        }
        if let Some(installed) = self.installed_version(phone).filter(|installed| *installed > notice.version_code) {
            return Some(format!("{phone} has version {installed}; {} would be a downgrade", notice.version_code));
        }
        let unfinished = self.rollouts.values().filter(|rollout| !rollout.is_over()).count();
        (unfinished >= UNFINISHED_MAX && self.gathering(notice).is_none())
            .then(|| format!("{UNFINISHED_MAX} rollouts are unfinished on this rack, which is the limit"))
    }

    /// The server may say the same again, as after a reconnect: then the newest notice is the one to answer.
    fn renews(&mut self, phone: &PhoneId, notice: &UpgradeNotice) -> bool {
        for rollout in self.rollouts.values_mut().filter(|rollout| !rollout.is_ending()) {
            let same = rollout.record.package == notice.package && rollout.record.version_code == notice.version_code;
            if let Some(known) = rollout.phone_mut(phone).filter(|known| same && known.is_open()) {
                known.record.notice = Some(notice.message_id);
                let failed = known.record.state == RolloutPhoneState::Failed;
                known.record.report = if failed { Report::Due } else { Report::None };
                known.report_again = None;
                known.dirty = true;
                let number = rollout.record.number;
                self.draft.touched.insert(number);
                return true;
            }
        }
        false
    }

    fn gathering(&self, notice: &UpgradeNotice) -> Option<RolloutNumber> {
        let of_this = |rollout: &&Rollout| {
            rollout.record.state == RolloutState::Gathering
                && rollout.record.package == notice.package
                && rollout.record.version_code == notice.version_code
                && rollout.record.source == ApkSource::Url(notice.url.clone())
        };
        self.rollouts.values().find(of_this).map(|rollout| rollout.record.number)
    }

    fn begin_gathering(&mut self, now: Moment, notice: &UpgradeNotice) -> RolloutNumber {
        let number = self.next_number();
        self.audit(now, SERVER, format!("asks for {} {}", notice.package, notice.version_code), number.to_string());
        let strategy = Strategy { approve: self.approve_of_central(), ..self.config.strategy.clone() };
        let (source, package) = (ApkSource::Url(notice.url.clone()), notice.package.clone());
        let record = RolloutRecord {
            version_name: notice.version_name.clone(),
            ..RolloutRecord::new(number, source, package, notice.version_code, strategy, self.wall(now))
        };
        self.begin(record, Apk::Wanted, now + self.config.gather);
        number
    }

    fn approve_of_central(&self) -> Approve {
        match (self.config.from_central, self.config.strategy.approve) {
            (FromCentral::Auto, _) => Approve::None,
            (_, Approve::None) => Approve::First,
            (_, as_configured) => as_configured,
        }
    }

    pub(super) fn next_number(&mut self) -> RolloutNumber {
        self.last_number += 1;
        RolloutNumber(self.last_number)
    }

    pub(super) fn begin(&mut self, record: RolloutRecord, apk: Apk, gathered_by: Moment) {
        let number = record.number;
        self.rollouts.insert(
            number,
            Rollout {
                record,
                dirty: true,
                phones: Vec::new(),
                apk,
                gathered_by,
                soak_is_over: false,
                reckoned: super::times::Reckoned::default(),
                look: None,
            },
        );
        self.draft.touched.insert(number);
    }

    /// Adds a phone at the end; its wave is known once all are there ([`Rollout::make_waves`]).
    pub(super) fn join(&mut self, number: RolloutNumber, phone: PhoneId, notice: Option<i64>) {
        let Some(rollout) = self.rollouts.get_mut(&number) else { return };
        let position = rollout.phones.len();
        let record = RolloutPhoneRecord {
            rollout: number,
            phone,
            position: u32::try_from(position).unwrap_or(u32::MAX),
            wave: 0,
            state: RolloutPhoneState::Waiting,
            attempts: 0,
            interrupted: 0,
            retried: 0,
            before: None,
            why: None,
            unfit_since: None,
            notice,
            report: Report::None,
        };
        rollout.phones.push(Phone { dirty: true, ..Phone::new(record) });
        self.draft.touched.insert(number);
    }

    /// Ends the gathering of those whose time is over.
    pub(super) fn close_gatherings(&mut self, now: Moment) {
        for (number, rollout) in &mut self.rollouts {
            if rollout.record.state == RolloutState::Gathering && rollout.gathered_by <= now {
                rollout.set(RolloutState::Fetching, "");
                self.draft.touched.insert(*number);
            }
        }
    }

    /// Asks once for each APK that is wanted: for a new rollout, and after a start for each that is not over.
    pub(super) fn ask_for_apks(&mut self) {
        for rollout in self.rollouts.values_mut() {
            let idle = rollout.is_over() || rollout.record.state == RolloutState::Gathering;
            if rollout.apk == Apk::Wanted && !idle {
                rollout.apk = Apk::Asked;
                self.draft.effects.push(Output::Fetch(Fetch {
                    rollout: rollout.record.number,
                    source: rollout.record.source.clone(),
                    package: rollout.record.package.clone(),
                    version_code: rollout.record.version_code,
                    version_name: rollout.record.version_name.clone(),
                    sha256: rollout.record.sha256.clone(),
                }));
            }
        }
    }

    pub(super) fn apk_ready(&mut self, now: Moment, number: RolloutNumber, apk: CheckedApk) {
        let Some(rollout) = self.rollouts.get_mut(&number) else { return };
        rollout.apk = Apk::Ready(Box::new(apk.clone()));
        if rollout.record.state != RolloutState::Fetching {
            // What it waits for is another thing now.
            self.draft.effects.push(Output::Changed);
            return self.join_all_late(now);
        }
        rollout.record.sha256 = Some(apk.sha256.clone());
        rollout.record.version_name.clone_from(&apk.version_name);
        self.draft.touched.insert(number);
        let what = format!("the APK was fetched and checked; it is signed by {}", apk.signer_sha256);
        self.audit(now, "farmhand", what, number.to_string());
        self.leave_out_misfits(now, number, &apk);
        if let Some(rollout) = self.rollouts.get_mut(&number).filter(|rollout| !rollout.is_over()) {
            rollout.make_waves(0);
            rollout.begin_waves();
        }
    }

    /// Phones for which the APK is not made get no turn; if there is no other, there is no rollout.
    fn leave_out_misfits(&mut self, now: Moment, number: RolloutNumber, apk: &CheckedApk) {
        let Some(rollout) = self.rollouts.get(&number) else { return };
        let downgrade = rollout.record.strategy.downgrade;
        let misfit = |phone: &Phone| match self.why_not(apk, &phone.record.phone, downgrade) {
            Some(Unmeant::Misfit(why)) => Some((phone.record.phone.clone(), why)),
            _ => None,
        };
        let misfits: Vec<_> = rollout.phones.iter().filter_map(misfit).collect();
        let ended = self.wall(now);
        let Some(rollout) = self.rollouts.get_mut(&number) else { return };
        for (phone, why) in &misfits {
            if let Some(phone) = rollout.phone_mut(phone) {
                phone.miss(RolloutPhoneState::Skipped, why.clone());
            }
        }
        let (Some((phone, why)), None) = (misfits.first(), rollout.current_wave()) else { return };
        let why = format!("it is made for none of its phones; {phone}: {why}");
        rollout.record.ended = Some(ended);
        rollout.set(RolloutState::Aborted, why.clone());
        self.audit(now, "farmhand", format!("given up: {why}"), number.to_string());
    }

    /// Before approval a rollout without an APK is given up; later it waits for the operator.
    pub(super) fn apk_failed(&mut self, now: Moment, number: RolloutNumber, why: String) {
        let ended = self.wall(now);
        let Some(rollout) = self.rollouts.get_mut(&number) else { return };
        rollout.apk = Apk::Failed(why.clone());
        match rollout.record.state {
            RolloutState::Fetching => {
                rollout.record.ended = Some(ended);
                rollout.set(RolloutState::Aborted, why.clone());
                for phone in &mut rollout.phones {
                    phone.miss(RolloutPhoneState::Failed, why.clone());
                }
                self.draft.touched.insert(number);
                self.audit(now, "farmhand", format!("given up: {why}"), number.to_string());
            }
            RolloutState::Running => {
                self.pause_for(now, number, format!("its APK can't be had again: {why}"));
            }
            _ => self.draft.effects.push(Output::Changed),
        }
    }

    pub(super) fn installed_version(&self, phone: &PhoneId) -> Option<crate::rack::ids::VersionCode> {
        match self.phones.get(phone)? {
            Presence::Available(version) => *version,
            Presence::Unavailable { .. } => None,
        }
    }
}

impl Rollout {
    /// Gives each phone its place and its wave: the first `canaries` are a wave of their own; who is away comes in the
    /// last one, and who is left out behind all.
    pub(super) fn make_waves(&mut self, canaries: usize) {
        let order = |phone: &Phone| match phone.record.state {
            RolloutPhoneState::Skipped => 2,
            RolloutPhoneState::Parked => 1,
            _ => 0,
        };
        self.phones.sort_by_key(order);
        let going = self.phones.iter().filter(|phone| order(phone) == 0).count();
        let canaries = canaries.min(going);
        let others = waves_of(going - canaries, &self.record.strategy.waves);
        let first = u32::from(canaries > 0);
        let waves: Vec<u32> =
            std::iter::repeat_n(0, canaries).chain(others.into_iter().map(|wave| wave + first)).collect();
        let last = waves.last().copied().unwrap_or_default();
        for (place, phone) in self.phones.iter_mut().enumerate() {
            phone.record.position = u32::try_from(place).unwrap_or(u32::MAX);
            phone.record.wave = waves.get(place).copied().unwrap_or(last);
            phone.dirty = true;
        }
    }

    /// The APK is here: the first wave may begin, if nobody must agree.
    pub(super) fn begin_waves(&mut self) {
        if self.record.strategy.approve == Approve::None {
            self.open(0);
            self.set(RolloutState::Running, "");
        } else {
            self.set(RolloutState::WaitingApproval, "");
        }
    }

    /// Whether an APK is the one that this rollout is about, and the one that was approved.
    pub(super) fn judge(&self, apk: CheckedApk) -> Result<CheckedApk, String> {
        let record = &self.record;
        if apk.package != record.package || apk.version_code != record.version_code {
            return Err(format!(
                "{} is {} {}, and {} {} was asked for",
                record.source, apk.package, apk.version_code, record.package, record.version_code
            ));
        }
        if record.sha256.as_ref().is_some_and(|known| *known != apk.sha256) {
            return Err(format!("{} has changed since it was checked for this rollout", record.source));
        }
        Ok(apk)
    }

    /// The checked APK.
    pub(super) fn checked_apk(&self) -> Option<&CheckedApk> {
        match &self.apk {
            Apk::Ready(apk) => Some(apk),
            Apk::Wanted | Apk::Asked | Apk::Failed(_) => None,
        }
    }
}

impl Phone {
    fn is_open(&self) -> bool {
        self.record.state != RolloutPhoneState::Done
    }
}
