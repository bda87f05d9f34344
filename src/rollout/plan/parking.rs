//! Phones that come and go while a rollout is under way.
//!
//! A phone that is away for long when its turn has come, or was away from the beginning, is *parked*: the others go on without it, it
//! counts neither for nor against the version, and has its turn once it is back, until the rollout closes. A phone that appears
//! meanwhile and is among those that are meant joins the last wave.
//!
//! Invariant: a rollout in which a phone is parked ends at its close at the latest.

use std::time::Duration;

use super::requests::phones;
use super::{Presence, Rollout, Rollouts};
use crate::clock::{Deadline, Moment, UnixMillis};
use crate::rack::ids::PhoneId;
use crate::rack::snapshot::{RolloutPhoneState, RolloutState};
use crate::rack::strategy::Downgrade;

/// So long the others wait for a phone that is away when its turn has come: Android restarts within minutes, and a cable is plugged
/// in again.
pub const PARK_AFTER: Duration = Duration::from_secs(600);

impl Rollouts {
    /// Parks who is away for too long, and gives up who is parked when a rollout closes; whether anybody was.
    pub(super) fn park(&mut self, now: Moment) -> bool {
        let wall = self.wall(now);
        let mut parked = Vec::new();
        for rollout in self.rollouts.values_mut() {
            let number = rollout.record.number;
            if rollout.record.state == RolloutState::Running && rollout.record.closes.is_none() {
                rollout.record.closes = Some(wall.plus(rollout.record.strategy.close_after()));
                rollout.reckoned.close = true;
                rollout.dirty = true;
                self.draft.touched.insert(number);
            }
            if rollout.is_closed(wall) {
                let after = rollout.record.strategy.close_after_s;
                for phone in rollout.phones.iter_mut().filter(|one| one.record.state == RolloutPhoneState::Parked) {
                    let why = format!("it was away until the rollout closed, after {}", span(after));
                    phone.miss(RolloutPhoneState::Skipped, why);
                    self.draft.touched.insert(number);
                }
            }
            if rollout.record.state == RolloutState::Running {
                let open = rollout.record.open_waves;
                let is_due = |one: &super::Phone| {
                    one.record.state == RolloutPhoneState::Waiting && one.record.wave < open && !rollout.is_over()
                };
                parked.extend(
                    rollout.phones.iter().filter(|one| is_due(one)).map(|one| (number, one.record.phone.clone())),
                );
            }
        }
        parked.retain(|(_, phone)| self.away_since(phone).is_some_and(|since| since + PARK_AFTER <= now));
        for (number, phone) in &parked {
            if let Some(known) = self.rollouts.get_mut(number).and_then(|rollout| rollout.phone_mut(phone)) {
                known.set(RolloutPhoneState::Parked, None);
                self.draft.touched.insert(*number);
            }
        }
        !parked.is_empty()
    }

    /// Since when a phone is away; one that was not seen yet, since this core began.
    fn away_since(&self, phone: &PhoneId) -> Option<Moment> {
        match self.phones.get(phone) {
            Some(Presence::Available(_)) => None,
            Some(Presence::Unavailable { since, .. }) => Some(*since),
            None => Some(self.began),
        }
    }

    /// When [`Self::park`] has something to do for a rollout.
    pub(super) fn parking_deadline(&self, rollout: &Rollout) -> Option<Deadline> {
        let mut next = None;
        if rollout.is_over() {
            return next;
        }
        if rollout.count(RolloutPhoneState::Parked) > 0
            && let Some(closes) = rollout.record.closes
        {
            let why = "the close of a rollout that waits for phones";
            next = Some(Deadline { at: self.moment(closes), why });
        }
        if rollout.record.state != RolloutState::Running {
            return next;
        }
        let open = rollout.record.open_waves;
        let is_due = |state, wave| state == RolloutPhoneState::Waiting && wave < open;
        for phone in rollout.phones.iter().filter(|one| is_due(one.record.state, one.record.wave)) {
            let at = self.away_since(&phone.record.phone).map(|since| since + PARK_AFTER);
            let why = "a phone that is away, before the others go on without it";
            next = Deadline::earlier(next, at.map(|at| Deadline { at, why }));
        }
        next
    }

    /// A phone is here: it has the turns that it missed, and joins the rollout that is for such phones.
    pub(super) fn appeared(&mut self, now: Moment, phone: &PhoneId) {
        for rollout in self.rollouts.values_mut().filter(|rollout| !rollout.is_ending()) {
            let number = rollout.record.number;
            if let Some(known) = rollout.phone_mut(phone).filter(|one| one.record.state == RolloutPhoneState::Parked) {
                known.set(RolloutPhoneState::Waiting, None);
                self.draft.touched.insert(number);
            }
        }
        self.join_late(now, phone);
    }

    /// Everyone that is here, once the APK is: who came while it was looked for has not joined yet.
    pub(super) fn join_all_late(&mut self, now: Moment) {
        let here = |(phone, presence): (&PhoneId, &Presence)| {
            matches!(presence, Presence::Available(_)).then(|| phone.clone())
        };
        let here: Vec<PhoneId> = self.phones.iter().filter_map(here).collect();
        for phone in here {
            self.join_late(now, &phone);
        }
    }

    /// Of several rollouts that are for such a phone it joins the one of the highest version.
    fn join_late(&mut self, now: Moment, phone: &PhoneId) {
        if self.is_away(phone).is_some() {
            return;
        }
        let takes = |rollout: &&Rollout| self.takes_late(now, rollout, phone);
        let best = self.rollouts.values().filter(takes).max_by_key(|rollout| rollout.record.version_code);
        let Some(number) = best.map(|rollout| rollout.record.number) else { return };
        let last = best.and_then(|rollout| rollout.phones.iter().map(|one| one.record.wave).max()).unwrap_or_default();
        self.join(number, phone.clone(), None);
        if let Some(joined) = self.rollouts.get_mut(&number).and_then(|rollout| rollout.phone_mut(phone)) {
            joined.record.wave = last;
        }
        self.audit(now, "farmhand", format!("{phone} joined: it appeared while the rollout ran"), number.to_string());
    }

    fn takes_late(&self, now: Moment, rollout: &Rollout, phone: &PhoneId) -> bool {
        let (Some(choice), Some(apk)) = (&rollout.record.joins, rollout.checked_apk()) else { return false };
        let nothing = super::Candidate::default();
        !rollout.is_ending()
            && !rollout.is_closed(self.wall(now))
            && choice.takes(self.candidates.get(phone).unwrap_or(&nothing))
            && !rollout.phones.iter().any(|known| known.record.phone == *phone)
            // Nobody asked for a downgrade of a phone that was not there.
            && self.why_not(apk, phone, Downgrade::Refused).is_none()
    }

    /// For whom a rollout waits that has nothing else to do, as a sentence.
    pub(super) fn parked_why(&self, rollout: &Rollout) -> String {
        let parked = || rollout.phones.iter().filter(|one| one.record.state == RolloutPhoneState::Parked);
        let mut why = format!(
            "{}; waits for {} that {} away",
            rollout.sum(),
            phones(parked().count()),
            if parked().count() == 1 { "is" } else { "are" },
        );
        if let Some(closes) = rollout.record.closes {
            why += &format!(", until {}", self.config.windows.zone.say(closes));
        }
        if let Some(first) = parked().next() {
            why += &format!(": {}", first.record.phone);
            if let Some(away) = self.is_away(&first.record.phone) {
                why += &format!(" ({})", away.sentence());
            }
        }
        why
    }
}

impl Rollout {
    /// Whether it waits for nobody any more.
    fn is_closed(&self, wall: UnixMillis) -> bool {
        !self.is_over() && self.record.closes.is_some_and(|closes| closes <= wall)
    }
}

/// A time as people say it.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        86_400 => "1 day".to_owned(),
        86_401.. if seconds.is_multiple_of(86_400) => format!("{} days", seconds / 86_400),
        3600.. => format!("{} h", seconds / 3600),
        _ => format!("{seconds} s"),
    }
}
