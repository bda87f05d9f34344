//! A rollout that an operator begins: who is meant, who gets it, who is left out and why.
//!
//! [`Rollouts::forecast`] asks the same code what a rollout would come to.

use std::path::{Path, PathBuf};

use super::requests::{done, phones, refusal};
use super::{Apk, Ask, OPERATOR, Output, Presence, Rollouts};
use crate::agent::fit::{Downgrade, Handset, InstalledPackage, Misfit, fits};
use crate::agent::{ApkSource, CheckedApk};
use crate::clock::{Moment, UnixMillis};
use crate::rack::candidate::{Choice, spread};
use crate::rack::ids::{PackageName, PhoneId, VersionCode};
use crate::rack::limits::Heed;
use crate::rack::request::{Done, Refusal};
use crate::rack::snapshot::{RolloutPhoneState, RolloutState};
use crate::rack::strategy::{Approve, Join, StrategyChanges};
use crate::store::RolloutNumber;
use crate::store::promise::RolloutRecord;

/// What an operator wants to be rolled out, besides the APK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where the APK came from.
    pub file: PathBuf,
    /// To whom.
    pub choice: Choice,
    /// What shall be otherwise than configured.
    pub strategy: StrategyChanges,
}

/// Who gets an APK, and who of those that were meant does not.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// In the order of their turns, the canaries first.
    pub(super) gets: Vec<PhoneId>,
    /// How many of them are canaries.
    pub(super) canaries: usize,
    /// They are away and have their turn once they are back.
    pub(super) parked: Vec<PhoneId>,
    pub(super) left_out: Vec<(PhoneId, Unmeant)>,
}

/// Why a phone that was meant does not get an APK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unmeant {
    /// It has it, or a newer one.
    Has(String),
    /// It can't have it.
    Misfit(String),
    /// It is not here now.
    Away(String),
    /// Others make up the share that was asked for.
    BeyondShare(u8),
}

impl Unmeant {
    /// As a sentence about the phone.
    pub(super) fn sentence(&self) -> String {
        match self {
            Self::Has(why) | Self::Misfit(why) | Self::Away(why) => why.clone(),
            Self::BeyondShare(percent) => format!("others make up {percent}% already"),
        }
    }
}

impl Rollouts {
    /// What an APK must be to be started with [`Self::start`]: its package, and the lowest version among the chosen phones,
    /// below which it would be a downgrade on each of them, unless that is asked for.
    ///
    /// # Errors
    /// A [`Refusal`] if no agent is configured, the package is another, or a phone is not known.
    pub fn may_start(
        &self,
        package: Option<&PackageName>,
        choice: &Choice,
        downgrade: Downgrade,
    ) -> Result<(PackageName, Option<VersionCode>), Refusal> {
        let Some(agent) = self.agent.as_ref().map(|agent| &agent.package) else {
            let help = "write [agent] package = \"…\" and signers = [\"…\"] into farmhand.toml";
            return Err(refusal("rollout.agent_off", "installing apps is switched off on this rack", Some(help)));
        };
        if let Some(package) = package.filter(|package| *package != agent) {
            let what = format!("this rack keeps {agent}, and the rollout is of {package}");
            return Err(refusal("rollout.package", what, Some("change [agent] package, or leave --package out")));
        }
        let chosen = self.chosen(choice)?;
        let lowest = chosen.iter().map(|phone| self.installed_version(phone)).min().flatten();
        Ok((agent.clone(), lowest.filter(|_| downgrade == Downgrade::Refused)))
    }

    /// Whether a rollout has this file of an APK, or it is the one that phones without the agent get.
    #[must_use]
    pub fn uses(&self, apk: &Path) -> bool {
        let stands = self.last_to_stand().and_then(|number| self.rollouts.get(&number)?.record.sha256.as_deref());
        self.rollouts.values().any(|rollout| matches!(&rollout.apk, Apk::Ready(ready) if ready.path == apk))
            || stands.is_some_and(|sha256| apk.file_stem().is_some_and(|stem| stem == sha256))
    }

    /// Begins a rollout of a checked APK.
    pub fn start(&mut self, now: Moment, ask: Ask, apk: CheckedApk, wanted: Wanted) {
        let result = self
            .may_start(Some(&apk.package), &wanted.choice, wanted.strategy.downgrade)
            .and_then(|_| self.begin_start(now, apk, wanted))
            .map(|(number, what)| done(number, what));
        self.draft.effects.push(Output::Answer { ask, result });
        self.close(now);
    }

    /// Answers with what [`Self::start`] would come to; nothing is begun.
    pub fn forecast(&mut self, now: Moment, ask: Ask, apk: CheckedApk, wanted: Wanted) {
        let result = self
            .may_start(Some(&apk.package), &wanted.choice, wanted.strategy.downgrade)
            .and_then(|_| self.look_ahead(now, apk, wanted))
            .map(|(what, forecast)| Done { what, rollout: None, forecast: Some(Box::new(forecast)) });
        self.draft.effects.push(Output::Answer { ask, result });
        self.close(now);
    }

    pub(super) fn begin_start(
        &mut self,
        now: Moment,
        apk: CheckedApk,
        Wanted { file, choice, strategy }: Wanted,
    ) -> Result<(RolloutNumber, String), Refusal> {
        let starts = self.starts(now, strategy.at.as_deref())?;
        let strategy = strategy.applied_to(&self.config.strategy);
        let Layout { gets, canaries, parked, left_out } =
            self.lay_out(&apk, &choice, strategy.join, strategy.downgrade)?;
        let is_open = strategy.join == Join::Dynamic && choice.phones.is_empty() && choice.percent.is_none();
        let is_forced = strategy.limits.readings == Heed::Forced;
        let must_be_approved = strategy.approve != Approve::None;
        let (number, count, away) = (self.next_number(), gets.len(), parked.len());
        let older = gets.iter().filter(|phone| self.installed_version(phone) > Some(apk.version_code)).count();
        let mut what = format!("{number} takes {} {} to {}", apk.package, apk.version_code, phones(count));
        let (source, package) = (ApkSource::File(file), apk.package.clone());
        let record = RolloutRecord {
            state: RolloutState::WaitingApproval,
            version_name: apk.version_name.clone(),
            joins: is_open.then(|| Box::new(choice)),
            starts,
            sha256: Some(apk.sha256.clone()),
            ..RolloutRecord::new(number, source, package, apk.version_code, strategy, self.wall(now))
        };
        self.begin(record, Apk::Ready(Box::new(apk)), now);
        for phone in gets {
            self.join(number, phone, None);
        }
        for phone in parked {
            self.join(number, phone.clone(), None);
            if let Some(joined) = self.rollouts.get_mut(&number).and_then(|rollout| rollout.phone_mut(&phone)) {
                joined.set(RolloutPhoneState::Parked, None);
            }
        }
        for (phone, why) in &left_out {
            if let Unmeant::Misfit(why) = why {
                self.join(number, phone.clone(), None);
                self.leave_out(number, phone, why.clone());
            }
        }
        if let Some(rollout) = self.rollouts.get_mut(&number) {
            rollout.make_waves(canaries);
            rollout.begin_waves();
        }
        if away > 0 {
            what += &format!("; it waits for {} that {} away", phones(away), if away == 1 { "is" } else { "are" });
        }
        if older > 0 {
            what += &format!("; a downgrade of {}", phones(older));
        }
        what += &said_of(&left_out);
        if let Some(starts) = starts {
            what += &format!("; it begins at {}", self.config.windows.zone.say(starts));
        }
        if is_forced {
            what += "; by force: the phones' batteries are not looked at";
        }
        if must_be_approved {
            what += &format!("; it waits for `farmhand rollout approve {number}`");
        }
        self.audit(now, OPERATOR, format!("started: {what}"), number.to_string());
        Ok((number, what))
    }

    /// When it shall begin.
    fn starts(&self, now: Moment, at: Option<&str>) -> Result<Option<UnixMillis>, Refusal> {
        let zone = &self.config.windows.zone;
        let Some(text) = at else { return Ok(None) };
        zone.read(text, self.wall(now)).map(Some).map_err(|why| {
            let example = zone.say(self.wall(now));
            let help = format!("22:00, \"2026-11-28 22:00\" or 2026-11-28T22:00:00+01:00; here it is {example}");
            refusal("rollout.time", format!("`{text}` {why}"), Some(&help))
        })
    }

    fn leave_out(&mut self, number: RolloutNumber, phone: &PhoneId, why: String) {
        if let Some(phone) = self.rollouts.get_mut(&number).and_then(|rollout| rollout.phone_mut(phone)) {
            phone.miss(RolloutPhoneState::Skipped, why);
        }
    }

    /// Who gets the APK of those that are meant.
    ///
    /// # Errors
    /// Nobody does, or a canary does not.
    pub(super) fn lay_out(
        &self,
        apk: &CheckedApk,
        choice: &Choice,
        join: Join,
        downgrade: Downgrade,
    ) -> Result<Layout, Refusal> {
        let mut layout = Layout::default();
        let awaits = !choice.phones.is_empty() || join == Join::Dynamic && choice.percent.is_none();
        for phone in self.chosen(choice)? {
            match (self.why_not(apk, &phone, downgrade), self.is_away(&phone)) {
                (Some(why), _) => layout.left_out.push((phone, why)),
                (None, Some(_)) if awaits => layout.parked.push(phone),
                (None, Some(away)) => layout.left_out.push((phone, away)),
                (None, None) => layout.gets.push(phone),
            }
        }
        if let Some(percent) = choice.percent {
            let mut is_taken = spread(layout.gets.len(), percent).into_iter();
            let is_canary = |phone: &PhoneId| choice.canary.contains(phone);
            let beyond = layout.gets.extract_if(.., |phone| is_taken.next() == Some(false) && !is_canary(phone));
            layout.left_out.extend(beyond.map(|phone| (phone, Unmeant::BeyondShare(percent))));
        }
        if layout.gets.is_empty() && layout.parked.is_empty() {
            return Err(nobody(apk, &layout));
        }
        if let Some(missing) = choice.canary.iter().find(|canary| !layout.gets.contains(canary)) {
            let why = layout.left_out.iter().find(|(phone, _)| phone == missing);
            let away = || self.is_away(missing).filter(|_| layout.parked.contains(missing)).map(|away| away.sentence());
            let unchosen = || "it is not among the phones that were chosen".to_owned();
            let why = why.map(|(_, why)| why.sentence()).or_else(away).unwrap_or_else(unchosen);
            let what = format!("{missing} can't go first: {why}");
            return Err(refusal("rollout.canary", what, Some("name phones with --canary that get the version")));
        }
        let place = |phone: &PhoneId| choice.canary.iter().position(|canary| canary == phone).unwrap_or(usize::MAX);
        layout.gets.sort_by_key(place);
        layout.canaries = layout.gets.iter().filter(|phone| choice.canary.contains(phone)).count();
        Ok(layout)
    }

    /// The phones that are meant, each once.
    fn chosen(&self, choice: &Choice) -> Result<Vec<PhoneId>, Refusal> {
        let named = choice.phones.iter().chain(&choice.canary);
        if let Some(unknown) = named.clone().find(|phone| !self.phones.contains_key(phone)) {
            let help = Some("`farmhand phones` lists the phones of this rack");
            return Err(refusal("rollout.phone_unknown", format!("no phone `{unknown}` is known"), help));
        }
        let nothing = super::Candidate::default();
        let is_meant = |phone: &&PhoneId| choice.takes(self.candidates.get(*phone).unwrap_or(&nothing));
        let mut chosen: Vec<PhoneId> = Vec::new();
        if choice.phones.is_empty() {
            chosen.extend(self.phones.keys().filter(is_meant).cloned());
        } else {
            for phone in choice.phones.iter().filter(is_meant) {
                if !chosen.contains(phone) {
                    chosen.push(phone.clone());
                }
            }
        }
        if chosen.is_empty() && !self.phones.is_empty() {
            let what = "no phone is in such a slot, with such a label, and of such a model";
            return Err(refusal("rollout.no_phone", what, Some("`farmhand phones` lists the phones of this rack")));
        }
        if !chosen.iter().any(|phone| self.is_away(phone).is_none() || !choice.phones.is_empty()) {
            return Err(refusal("rollout.no_phone", "no phone is ready", Some("`farmhand phones` shows why")));
        }
        Ok(chosen)
    }

    /// Why a phone does not get an APK, by what is known of it.
    pub(super) fn why_not(&self, apk: &CheckedApk, phone: &PhoneId, downgrade: Downgrade) -> Option<Unmeant> {
        let installed = self.installed_version(phone);
        if installed == Some(apk.version_code) {
            return Some(Unmeant::Has(format!("it has version {} already", apk.version_code)));
        }
        let candidate = self.candidates.get(phone);
        let handset = Handset {
            sdk: candidate.and_then(|candidate| candidate.sdk),
            abis: candidate.map(|candidate| candidate.abis.clone()).unwrap_or_default(),
            installed: installed.map(|version_code| InstalledPackage { version_code, signer_sha256: None }),
        };
        match fits(apk, &handset, downgrade) {
            Ok(()) => None,
            // Its own package manager will say.
            Err(Misfit::SdkUnknown) => {
                let refused = downgrade == Downgrade::Refused;
                let newer = installed.filter(|installed| refused && *installed > apk.version_code)?;
                Some(Unmeant::Has(Misfit::Downgrade { installed: newer, apk: apk.version_code }.to_string()))
            }
            Err(downgrade @ Misfit::Downgrade { .. }) => Some(Unmeant::Has(downgrade.to_string())),
            Err(misfit) => Some(Unmeant::Misfit(misfit.to_string())),
        }
    }

    pub(super) fn is_away(&self, phone: &PhoneId) -> Option<Unmeant> {
        match self.phones.get(phone) {
            Some(Presence::Available(_)) => None,
            Some(Presence::Unavailable { why, .. }) => Some(Unmeant::Away(why.clone())),
            None => Some(Unmeant::Away("it has not been seen since farmhand started".into())),
        }
    }
}

/// Nobody gets it: why.
fn nobody(apk: &CheckedApk, layout: &Layout) -> Refusal {
    let version = apk.version_code;
    let misfit = layout.left_out.iter().find(|(_, why)| !matches!(why, Unmeant::Has(_)));
    let what = match misfit {
        None => format!("every phone that was chosen has version {version} or a newer one"),
        Some((phone, why)) => {
            let count = layout.left_out.len();
            format!("none of {} can get version {version}; {phone}: {}", phones(count), why.sentence())
        }
    };
    refusal("rollout.nothing_to_do", what, None)
}

/// Who is left out, as the end of a sentence.
fn said_of(left_out: &[(PhoneId, Unmeant)]) -> String {
    let of = |is: fn(&Unmeant) -> bool| left_out.iter().filter(move |(_, why)| is(why));
    let mut said = String::new();
    let has = of(|why| matches!(why, Unmeant::Has(_))).count();
    if has > 0 {
        said += &format!("; {} left out, having this version or a newer one", phones(has));
    }
    if let Some((phone, why)) = of(|why| matches!(why, Unmeant::Misfit(_))).next() {
        let count = of(|why| matches!(why, Unmeant::Misfit(_))).count();
        said += &format!("; {} left out for which it is not made ({phone}: {})", phones(count), why.sentence());
    }
    let away = of(|why| matches!(why, Unmeant::Away(_))).count();
    if away > 0 {
        said += &format!("; {} left out, not being ready", phones(away));
    }
    said
}
