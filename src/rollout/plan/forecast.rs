//! What a rollout would come to: the core itself, run ahead on a copy in which everybody agrees at once and every install works.
//!
//! Invariant: who gets it and in which wave is what a start would do, for a start on the copy says it (`stories_of_choice`).

use std::collections::BTreeMap;
use std::time::Duration;

use super::requests::phones;
use super::start::Wanted;
use super::{Draft, Output, Rollouts};
use crate::agent::CheckedApk;
use crate::clock::Moment;
use crate::rack::event::RolloutCommand;
use crate::rack::gates::Health;
use crate::rack::ids::{PhoneId, RolloutId};
use crate::rack::request::{Ask, Refusal, Request};
use crate::rack::snapshot::{Forecast, ForecastPhone, LeftOut, RolloutPhoneState, RolloutState};
use crate::store::RolloutNumber;

/// What an install takes where none was seen yet: a hundred megabytes over USB 2, and Android's own work.
const INSTALL_GUESS: Duration = Duration::from_secs(30);
/// Installs whose time is remembered.
pub(super) const TIMES_MAX: usize = 64;
/// Inputs to the copy before the look ahead is given up, for each phone and altogether: a rollout that works has a handful a phone.
const STEPS_EACH_MAX: usize = 64;
const STEPS_MIN: usize = 1024;

impl Rollouts {
    pub(super) fn look_ahead(
        &self,
        now: Moment,
        apk: CheckedApk,
        wanted: Wanted,
    ) -> Result<(String, Forecast), Refusal> {
        let mut copy = self.copy_without_rollouts();
        let join = wanted.strategy.join.unwrap_or(self.config.strategy.join);
        let left_out = copy.lay_out(&apk, &wanted.choice, join, wanted.strategy.downgrade)?.left_out;
        let apk_bytes = apk.size;
        let (number, _) = copy.begin_start(now, apk, wanted)?;
        let slot = |phone: &PhoneId| self.candidates.get(phone).and_then(|candidate| candidate.slot.clone());
        let left_out = left_out.into_iter().map(|(phone, why)| {
            let slot = slot(&phone);
            LeftOut { phone, slot, why: why.sentence() }
        });
        let mut waves: BTreeMap<u32, Vec<ForecastPhone>> = BTreeMap::new();
        let Some(rollout) = copy.rollouts.get_mut(&number) else { unreachable!("it was begun right above") };
        let (package, version_code) = (rollout.record.package.clone(), rollout.record.version_code);
        let version_name = rollout.record.version_name.clone();
        let limits = rollout.record.strategy.limits;
        for phone in &mut rollout.phones {
            if phone.record.state == RolloutPhoneState::Skipped {
                continue;
            }
            let id = phone.record.phone.clone();
            let away = self.is_away(&id).map(|away| away.sentence());
            let waits = away.or_else(|| limits.why_unfit(apk_bytes, &self.readings(&id)));
            if waits.is_some() {
                phone.set(RolloutPhoneState::Skipped, None);
            }
            let hand = self.hand_needed(&id);
            let newer = self.installed_version(&id).filter(|installed| *installed > version_code);
            let shown = ForecastPhone { slot: slot(&id), waits, hand, newer, phone: id };
            waves.entry(phone.record.wave).or_default().push(shown);
        }
        let (install, measured) = self.install_time();
        let (approvals, takes) = copy.run_ahead(now, number, install);
        let forecast = Forecast {
            package,
            version_code,
            version_name,
            waves: waves.into_values().collect(),
            left_out: left_out.collect(),
            approvals,
            behind: self.rollouts.values().filter(|one| !one.is_over()).map(|one| one.record.number.id()).collect(),
            install_s: install.as_secs(),
            measured,
            takes_s: takes.map(|takes| takes.as_secs()),
        };
        Ok((sum(&forecast), forecast))
    }

    /// The same phones and settings; what is under way is not.
    fn copy_without_rollouts(&self) -> Self {
        Self {
            config: self.config.clone(),
            agent: self.agent.clone(),
            wall_at_start: self.wall_at_start,
            began: self.began,
            now: self.now,
            was_shut: self.was_shut,
            rollouts: BTreeMap::new(),
            phones: self.phones.clone(),
            seen: self.seen.clone(),
            candidates: self.candidates.clone(),
            install_times: self.install_times.clone(),
            draft: Draft::default(),
            held: BTreeMap::new(),
            said_standing: None,
            last_number: self.last_number,
            last_ticket: self.last_ticket,
            outputs: std::collections::VecDeque::new(),
        }
    }

    /// Why somebody must go to the phone's screen, by its settings or by what the last rollout met.
    fn hand_needed(&self, phone: &PhoneId) -> Option<String> {
        if let Some(why) = self.candidates.get(phone).and_then(|candidate| candidate.asks_its_user) {
            return Some(why.to_owned());
        }
        let last = self.rollouts.values().rev().find_map(|rollout| {
            let known = rollout.phones.iter().find(|known| known.record.phone == *phone)?;
            Some((rollout.record.number, &known.record))
        });
        let (number, record) = last.filter(|(_, record)| record.state == RolloutPhoneState::NeedsHand)?;
        Some(format!("it needed a hand in {number}: {}", record.why.as_deref().unwrap_or("nobody said why")))
    }

    /// The middle of the last installs that worked, and how many these are.
    fn install_time(&self) -> (Duration, usize) {
        let mut times: Vec<Duration> = self.install_times.iter().copied().collect();
        times.sort_unstable();
        (times.get(times.len() / 2).copied().unwrap_or(INSTALL_GUESS), times.len())
    }

    /// Runs the only rollout to its end: how often somebody had to agree, and how long it took, if it ended.
    fn run_ahead(&mut self, begin: Moment, number: RolloutNumber, install: Duration) -> (u32, Option<Duration>) {
        let (mut now, mut approvals) = (begin, 0);
        let mut ends: BTreeMap<(Moment, PhoneId), RolloutId> = BTreeMap::new();
        let Some(rollout) = self.rollouts.get(&number) else { return (0, None) };
        let steps = rollout.phones.len().saturating_mul(STEPS_EACH_MAX).max(STEPS_MIN);
        let version = rollout.record.version_code;
        self.close(now);
        for _ in 0..steps {
            while let Some(output) = self.poll() {
                match output {
                    Output::Commit { ticket, .. } => self.committed(now, ticket),
                    Output::Look { phone, rollout, .. } => {
                        let health = Ok(Box::new(Health::well(version)));
                        self.command(now, RolloutCommand::Looked { phone, rollout, health });
                    }
                    Output::Install { phone, order } => drop(ends.insert((now + install, phone), order.rollout)),
                    _ => {}
                }
            }
            match self.rollouts.get(&number).map(|rollout| rollout.record.state) {
                Some(RolloutState::Finished) => return (approvals, Some(now.since(begin))),
                Some(RolloutState::WaitingApproval) => {
                    approvals += 1;
                    self.request(now, Ask(0), &Request::RolloutApprove { rollout: number.id() });
                    continue;
                }
                Some(RolloutState::Running) => {}
                _ => return (approvals, None),
            }
            let deadline = self.deadline().map(|deadline| deadline.at);
            let end = ends.first_key_value().map(|((at, _), _)| *at);
            match (end, deadline) {
                (Some(at), deadline) if deadline.is_none_or(|deadline| at <= deadline) => {
                    let Some(((_, phone), rollout)) = ends.pop_first() else { continue };
                    now = at;
                    self.command(now, RolloutCommand::Installed { phone, rollout, result: Ok(version) });
                }
                (_, Some(deadline)) => {
                    now = now.max(deadline);
                    self.advance(now);
                }
                (_, None) => return (approvals, None),
            }
        }
        (approvals, None)
    }
}

/// The line at the top.
fn sum(forecast: &Forecast) -> String {
    let count: usize = forecast.waves.iter().map(Vec::len).sum();
    let waves = forecast.waves.len();
    let mut sum = format!(
        "{} {} would go to {} in {waves} wave{}",
        forecast.package,
        forecast.version_name,
        phones(count),
        if waves == 1 { "" } else { "s" }
    );
    if let Some(takes) = forecast.takes_s {
        let minutes = takes.div_ceil(60);
        sum += &if minutes < 120 {
            format!(" within {minutes} min")
        } else {
            format!(" within {} h", takes.div_ceil(3600))
        };
    }
    let all = || forecast.waves.iter().flatten();
    let counted = [
        (all().filter(|phone| phone.waits.is_some()).count(), "not ready now"),
        (all().filter(|phone| phone.hand.is_some()).count(), "to be confirmed on the screen"),
        (all().filter(|phone| phone.newer.is_some()).count(), "to go back from a newer version"),
        (forecast.left_out.len(), "left out"),
    ];
    for (count, what) in counted {
        if count > 0 {
            sum += &format!("; {count} {what}");
        }
    }
    sum
}
