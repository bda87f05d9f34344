//! What people see of the rollouts.

use super::requests::phones;
use super::{Apk, Phone, Presence, Rollout, Rollouts};
use crate::rack::snapshot::{RolloutPhoneState, RolloutPhoneView, RolloutState, RolloutView, WaveView};

impl Rollouts {
    /// All rollouts that are kept, the newest first.
    #[must_use]
    pub fn views(&self) -> Vec<RolloutView> {
        self.rollouts.values().rev().map(|rollout| self.view(rollout)).collect()
    }

    fn view(&self, rollout: &Rollout) -> RolloutView {
        let record = &rollout.record;
        let mut waves: Vec<WaveView> = Vec::new();
        let mut last = None;
        for phone in &rollout.phones {
            if last.replace(phone.record.wave) != Some(phone.record.wave) {
                waves.push(WaveView { phones: Vec::new() });
            }
            if let Some(wave) = waves.last_mut() {
                wave.phones.push(self.phone_view(rollout, phone));
            }
        }
        RolloutView {
            id: record.number.id(),
            state: record.state,
            why: self.why(rollout, waves.len()),
            package: record.package.clone(),
            version_code: record.version_code,
            version_name: record.version_name.clone(),
            created: record.created,
            waves,
        }
    }

    fn phone_view(&self, rollout: &Rollout, phone: &Phone) -> RolloutPhoneView {
        let record = &phone.record;
        let absent = match self.phones.get(&record.phone) {
            Some(Presence::Available(_)) => None,
            Some(Presence::Unavailable { why, .. }) => Some(why.clone()),
            None => Some("it has not been seen since farmhand started".into()),
        };
        let why = match record.state {
            RolloutPhoneState::Waiting | RolloutPhoneState::Parked if !rollout.is_over() => {
                absent.or_else(|| self.hindrance(rollout, phone)).or_else(|| record.why.clone())
            }
            _ => record.why.clone(),
        };
        RolloutPhoneView { phone: record.phone.clone(), state: record.state, why, attempts: record.attempts }
    }

    fn why(&self, rollout: &Rollout, waves: usize) -> String {
        let record = &rollout.record;
        match record.state {
            RolloutState::Gathering => "further notices of the same version are gathered".into(),
            RolloutState::Fetching => format!("the APK is fetched from {} and checked", record.source),
            RolloutState::WaitingApproval => match (&rollout.apk, rollout.current_wave()) {
                (Apk::Failed(why), _) => format!("its APK can't be had again: {why}"),
                (_, Some(wave @ 1..)) => {
                    format!("{} done; waits for `farmhand rollout approve {}`", rollout.behind(wave), record.number)
                }
                _ => format!("waits for `farmhand rollout approve {}`", record.number),
            },
            RolloutState::Running => self.running_why(rollout, waves),
            RolloutState::RollingBack => self.rollback_why(rollout),
            RolloutState::Finished => {
                let stands = self.standing().is_some_and(|standing| standing.rollout == record.number);
                rollout.sum() + if stands { "; phones that come without the agent get it" } else { "" }
            }
            RolloutState::Paused | RolloutState::Aborted | RolloutState::RolledBack => record.why.clone(),
        }
    }

    fn running_why(&self, rollout: &Rollout, waves: usize) -> String {
        if let Some(starts) = rollout.record.starts.filter(|_| self.begins_later(rollout)) {
            return format!("begins at {}", self.config.windows.zone.say(starts));
        }
        if rollout.current_wave().is_none() && rollout.is_soaking() {
            let soak = rollout.record.strategy.soak_s;
            return format!("{}; soaks for {soak} s before its phones are asked how they fare", rollout.sum());
        }
        if rollout.current_wave().is_none() && rollout.is_looked_at() {
            return format!("{}; its phones are asked how they fare", rollout.sum());
        }
        let others = |other: &&Rollout| {
            let number = other.record.number;
            let before = other.has_turns() && number < rollout.record.number && !self.begins_later(other);
            number != rollout.record.number && (before || other.is_installing())
        };
        if let Some(other) = self.rollouts.values().find(others) {
            return format!("waits until {} is finished or paused", other.record.number);
        }
        if rollout.current_wave().is_none() {
            return self.parked_why(rollout);
        }
        if rollout.checked_apk().is_none() {
            return format!("its APK is looked for and checked again: {}", rollout.record.source);
        }
        let wave = rollout.current_wave().unwrap_or_default();
        if rollout.is_soaking() {
            let soak = rollout.record.strategy.soak_s;
            return format!("{} done; soaks for {soak} s before wave {} of {waves}", rollout.behind(wave), wave + 1);
        }
        if rollout.is_looked_at() {
            return format!("{} done; its phones are asked how they fare", rollout.behind(wave));
        }
        let in_wave = || rollout.phones.iter().filter(|phone| phone.record.wave == wave);
        let done = in_wave().filter(|phone| phone.record.state == RolloutPhoneState::Done).count();
        let mut why = format!("wave {} of {waves}: {done} of {} done", wave + 1, phones(in_wave().count()));
        if self.is_shut() {
            return why + &self.shut_why();
        }
        let waits = |phone: &&Phone| phone.record.state == RolloutPhoneState::Waiting;
        let is_away = |phone: &&Phone| !matches!(self.phones.get(&phone.record.phone), Some(Presence::Available(_)));
        let is_unfit = |phone: &&Phone| self.why_unfit(rollout, &phone.record.phone).is_some();
        let held_up = in_wave().filter(waits).find(is_away).or_else(|| in_wave().filter(waits).find(is_unfit));
        if let Some(held_up) = held_up {
            why += &format!("; waits for {}", held_up.record.phone);
            if let Some(reason) = self.phone_view(rollout, held_up).why {
                why += &format!(" ({reason})");
            }
        }
        why
    }

    /// Why nothing begins now, and when it does, as the end of a sentence.
    fn shut_why(&self) -> String {
        let windows = &self.config.windows;
        match windows.next_change(self.wall(self.now)) {
            Some(opens) => format!("; outside the maintenance windows: goes on at {}", windows.zone.say(opens)),
            None => "; outside the maintenance windows".to_owned(),
        }
    }
}
