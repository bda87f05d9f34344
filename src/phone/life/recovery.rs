//! How a handset comes, leaves and is brought back: the bus, an operator's restart, and the rungs of the ladder.

use std::time::Duration;

use super::detached::There;
use super::{Bus, CLAIM_MAX, Life, QUARANTINE_RETRY, RESTART_MAX, Restart, State, Wish};
use crate::clock::Moment;
use crate::config::Rung;
use crate::phone::Command;
use crate::phone::ladder::{Ladder, Step};

/// Between two tries at opening a phone that failed together with others: its hub is in trouble, and needs no hammering.
const INCIDENT_LOOK: Duration = Duration::from_secs(10);
/// Between two tries at opening a phone that waits for the rack's budget: it may have come to itself.
const LINE_LOOK: Duration = Duration::from_secs(60);
/// Between two questions on the phone's screen: the next one is there when somebody looks, and a phone that refuses at once is not
/// opened in a hot loop.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// Between two tries at opening a phone that ended its connection because somebody had it do so: adbd starts again within seconds.
const SPARED_LOOK: Duration = Duration::from_secs(1);
/// Between the end of what put a step off and the step.
const RESUME: Duration = Duration::from_secs(1);

/// What keeps recovery, and the configured install, from a phone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restraint {
    /// Somebody holds the phone until then: it is opened again, nothing harsher is done, and nothing is installed.
    pub held: Option<Moment>,
    /// It failed together with others until then at the latest: it is opened again now and then, and nothing of it is charged.
    pub incident: Option<Moment>,
}

impl Restraint {
    /// Whether nothing is in the way.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// What a step that it puts off waits for.
    const fn why(&self) -> &'static str {
        if self.incident.is_some() { "the phones that failed together with it" } else { "its lease to end" }
    }
}

impl Life {
    /// A handset can be reached at the endpoint.
    pub fn appeared(&mut self, now: Moment) -> Vec<Wish> {
        if self.note_while_detached(There::Handset) {
            // What looks for its phone by itself has it open by now.
            return vec![Wish::Actor(Command::Leave)];
        }
        let returns = self.bus == Bus::Away;
        match self.state {
            State::Absent | State::NotEnumerated | State::OtherMode => {
                if !self.ladder.is_shaken(now) {
                    self.ladder = Ladder::new(self.policy.max_rung);
                }
                self.enter(now, State::Detected, "seen; its interface is opened next");
            }
            // It could not be opened before, and now it can.
            State::Quarantined { .. } => self.ladder = Ladder::new(self.policy.max_rung),
            State::Recovering { next: Step::Reopen, .. } => {}
            State::Recovering { .. } | State::Restarting { .. } if returns => {}
            _ => return Vec::new(),
        }
        self.bus = Bus::There;
        // It may be another handset: nothing that was read of the one before says anything of it.
        self.profile = None;
        self.last_alive = None;
        self.claim(now, None)
    }

    /// A handset is on the bus in a mode in which nobody can speak ADB with it: `why` says which, and what to do.
    pub fn other_mode(&mut self, now: Moment, why: &str) -> Vec<Wish> {
        self.bus = Bus::There;
        self.rest(now, State::OtherMode, why)
    }

    /// Something is plugged in that the kernel does not get to know: `why` says what is known of it. A phone that is to come back
    /// from a rung of ours has not come back by that, and the ladder goes on.
    pub fn not_enumerated(&mut self, now: Moment, why: &str) -> Vec<Wish> {
        if self.bus == Bus::Away {
            return Vec::new();
        }
        self.rest(now, State::NotEnumerated, why)
    }

    /// Nothing is to be done until the bus tells of something else.
    fn rest(&mut self, now: Moment, state: State, why: &str) -> Vec<Wish> {
        if self.note_while_detached(There::Resting { state: Box::new(state.clone()), why: why.to_owned() }) {
            return Vec::new();
        }
        let wishes = if self.has_way() { vec![Wish::Actor(Command::Close)] } else { Vec::new() };
        self.disconnect();
        if std::mem::discriminant(&self.state) == std::mem::discriminant(&state) {
            why.clone_into(&mut self.why);
        } else {
            self.enter(now, state, why);
        }
        wishes
    }

    /// Whether its actor may hold a connection, or be making one.
    fn has_way(&self) -> bool {
        self.is_connected() || matches!(self.state, State::Claiming { .. } | State::Authorising { .. })
    }

    /// Nothing can be reached at the endpoint any more.
    pub fn gone(&mut self, now: Moment, why: &str) -> Vec<Wish> {
        if self.note_while_detached(There::Nothing { why: why.to_owned() }) {
            return Vec::new();
        }
        match self.state {
            State::Absent => {}
            State::Recovering { next: Step::Settle { after }, at } => {
                // It left by our doing, and has its time to come back.
                self.bus = Bus::Away;
                let at = at.max(now + Step::return_max(after));
                self.state = State::Recovering { next: Step::Settle { after }, at };
            }
            State::Restarting { .. } => self.bus = Bus::Away,
            State::Recovering { .. } if self.bus == Bus::Away => {}
            _ => {
                self.disconnect();
                self.enter(now, State::Absent, why);
            }
        }
        Vec::new()
    }

    /// Its handset, which was to come back here, has come back elsewhere. Whether a restart that somebody asked for is still under way
    /// with it: that goes on there, by [`Self::goes_on_with_restart`].
    pub fn moved(&mut self, now: Moment) -> (bool, Vec<Wish>) {
        let wishes = if self.has_way() { vec![Wish::Actor(Command::Close)] } else { Vec::new() };
        let restart = std::mem::take(&mut self.restart);
        self.bus = Bus::There;
        self.disconnect();
        self.enter(now, State::Absent, "it has come back in another place");
        (restart == Restart::UnderWay, wishes)
    }

    /// The handset that is here was restarted in the place that it was in before.
    pub fn goes_on_with_restart(&mut self) {
        self.restart = if self.is_connected() { Restart::Ended(Ok(())) } else { Restart::UnderWay };
    }

    /// Somebody, `who`, wants the phone restarted. It has 3 min to come back before anything counts as trouble.
    pub fn restart(&mut self, now: Moment, who: &str) -> Vec<Wish> {
        if !self.is_connected() {
            return Vec::new();
        }
        self.disconnect();
        self.restart = Restart::UnderWay;
        self.enter(now, State::Restarting { until: now + RESTART_MAX }, &format!("it restarts, as {who} asked"));
        vec![Wish::Actor(Command::Reboot)]
    }

    /// What has become of a restart that somebody asked for, once that is known; told once.
    pub fn take_restarted(&mut self) -> Option<Result<(), String>> {
        match std::mem::take(&mut self.restart) {
            Restart::Ended(result) => Some(result),
            unended => {
                self.restart = unended;
                None
            }
        }
    }

    /// What the new state makes of a restart that is under way.
    pub(super) fn note_restart(&mut self, state: &State, why: &str) {
        if self.restart != Restart::UnderWay {
            return;
        }
        self.restart = match state {
            State::Restarting { .. } | State::Detected | State::Claiming { .. } | State::Authorising { .. } => return,
            State::Online { .. } | State::Provisioning { .. } | State::Ready => Restart::Ended(Ok(())),
            State::Absent
            | State::NotEnumerated
            | State::OtherMode
            | State::Recovering { .. }
            | State::Quarantined { .. }
            | State::Detached(_) => Restart::Ended(Err(why.to_owned())),
        };
    }

    /// Somebody who works with the phone has it end its connections (`adb root`, `adb reboot`). Until it had `time` to be back it is opened
    /// again as often as it takes, and no rung is charged.
    pub fn leaves(&mut self, now: Moment, time: Duration) {
        self.spared = self.spared.max(Some(now + time));
    }

    /// Ends the connection and takes the next step of the ladder.
    pub(super) fn fail(&mut self, now: Moment, why: &str) -> Vec<Wish> {
        why.clone_into(&mut self.fault);
        self.take_next_step(now, why)
    }

    /// This host is kept from opening it: no rung mends that, and none is charged. The bus says when it may be opened.
    pub(super) fn bar(&mut self, now: Moment, why: &str) -> Vec<Wish> {
        why.clone_into(&mut self.fault);
        let why = format!("{why}; it is opened by itself within seconds once that is mended");
        self.disconnect();
        self.enter(now, State::Quarantined { retry_at: now + QUARANTINE_RETRY }, &why);
        vec![Wish::Actor(Command::Close)]
    }

    /// Nobody has allowed this host: no rung mends that, and none is charged. The phone is asked again, for the question on its screen
    /// went with its connection.
    pub(super) fn ask_again(&mut self, now: Moment, why: &str) -> Vec<Wish> {
        why.clone_into(&mut self.fault);
        let why = format!("{why}: unlock the phone and allow USB debugging for this host; it is asked again");
        self.disconnect();
        self.enter(now, State::Recovering { next: Step::Reopen, at: now + ASK_AGAIN }, &why);
        vec![Wish::Actor(Command::Close)]
    }

    /// What failed is in [`Self::fault`], and shown as `why`.
    fn take_next_step(&mut self, now: Moment, why: &str) -> Vec<Wish> {
        self.disconnect();
        let mut wishes = vec![Wish::Actor(Command::Close)];
        if self.restraint.incident.is_some() {
            self.enter(now, State::Recovering { next: Step::Reopen, at: now + INCIDENT_LOOK }, why);
            return wishes;
        }
        if self.spared.is_some_and(|until| now < until) {
            self.enter(now, State::Recovering { next: Step::Reopen, at: now + SPARED_LOOK }, why);
            return wishes;
        }
        match self.ladder.next(now) {
            Some((step, at)) => {
                let at = self.allowed_at(step, at);
                self.enter(now, State::Recovering { next: step, at }, why);
                if at <= now && !step.is_harsh() {
                    wishes.extend(self.climb(now, step));
                }
            }
            None => {
                let why = format!("{}; {}", self.fault, self.ladder.end());
                self.quarantine(now, &why);
            }
        }
        wishes
    }

    /// The harsh rung that is due at `now`, where nothing of the phone's own keeps it back. It is taken by [`Life::advance`], unless
    /// [`Life::wait_in_line`] comes before.
    #[must_use]
    pub fn rung_due(&self, now: Moment) -> Option<Rung> {
        match self.state {
            State::Recovering { next, at } if next.is_harsh() && self.allowed_at(next, at) <= now => Some(next.rung()),
            _ => None,
        }
    }

    /// The rack's budget for the rung that is due is spent: its turn is expected at `turn`, and `why` says so as a phrase. Meanwhile it
    /// is opened again now and then, and no try is charged for it.
    pub fn wait_in_line(&mut self, now: Moment, turn: Moment, why: &str) {
        let State::Recovering { next, .. } = self.state else { return };
        self.turn = Some(turn);
        self.why = format!("{}; {why}", self.fault);
        let look = now + LINE_LOOK;
        self.state = if look < turn {
            self.ladder.spare_last();
            State::Recovering { next: Step::Reopen, at: look }
        } else {
            State::Recovering { next, at: turn }
        };
    }

    /// Whether it waits for its turn in the rack's budget.
    #[must_use]
    pub fn is_in_line(&self) -> bool {
        self.turn.is_some()
    }

    /// What is waited for until `at`, before `next`.
    pub(super) fn awaited(&self, next: Step, at: Moment) -> &'static str {
        match next.is_harsh() {
            true if !self.restraint.is_none() => self.restraint.why(),
            true if self.turn == Some(at) => "its turn in the rack's budget",
            _ => next.why(),
        }
    }

    /// When a step that is due at `at` may be taken.
    fn allowed_at(&self, step: Step, at: Moment) -> Moment {
        let waits_for = self.restraint.held.max(self.restraint.incident).filter(|_| step.is_harsh());
        waits_for.map_or(at, |until| until.max(at))
    }

    /// What keeps recovery from the phone from now on; what kept it before comes back.
    pub fn restrain(&mut self, now: Moment, restraint: Restraint) -> Restraint {
        let before = std::mem::replace(&mut self.restraint, restraint);
        self.turn = self.turn.filter(|_| restraint.is_none());
        if before.incident.is_none() && restraint.incident.is_some() {
            // What failed was the hub, not the phone.
            self.ladder.spare_last();
        }
        if let State::Recovering { next, at } = self.state
            && !matches!(next, Step::Settle { .. })
            && restraint != before
        {
            // What was put off may be due now; what is put off now was due at its own time.
            let sooner = if before.is_none() { at } else { at.min(now + RESUME) };
            self.state = State::Recovering { next, at: self.allowed_at(next, sooner) };
        }
        before
    }

    pub(super) fn climb(&mut self, now: Moment, step: Step) -> Vec<Wish> {
        let why = self.fault.clone();
        let allowed = self.allowed_at(step, now);
        if allowed > now {
            self.state = State::Recovering { next: step, at: allowed };
            return Vec::new();
        }
        match step {
            Step::Reopen => {
                let claiming = State::Claiming { until: now + CLAIM_MAX, after: None };
                self.enter(now, claiming, &format!("opened again after: {why}"));
                vec![Wish::Actor(Command::Open)]
            }
            Step::ResetUsb | Step::Reboot | Step::CyclePower => {
                let settle = Step::Settle { after: step.rung() };
                self.turn = None;
                self.ladder.shakes(now);
                self.enter(now, State::Recovering { next: settle, at: now + step.patience() }, &why);
                match step {
                    Step::ResetUsb => vec![Wish::Actor(Command::ResetUsb)],
                    Step::Reboot => vec![Wish::Actor(Command::Reboot)],
                    _ => vec![Wish::CyclePower],
                }
            }
            Step::Settle { after } if self.bus == Bus::Away => self.did_not_return(now, after),
            Step::Settle { after } => self.claim(now, Some(after)),
        }
    }

    /// A rung of ours made it leave, and it is not back in time: the next rung may bring it.
    pub(super) fn did_not_return(&mut self, now: Moment, after: Rung) -> Vec<Wish> {
        let (waited, rung) = (Step::return_max(after).as_secs(), Step::name(after));
        self.fail(now, &format!("it did not come back within {waited} s after {rung}"))
    }

    /// The answer to a rung of the ladder: carried out, it has its time to show; refused, the next rung follows.
    pub(super) fn acted(&mut self, now: Moment, result: Result<(), String>) -> Vec<Wish> {
        match (&self.state, result) {
            (State::Recovering { next: Step::Settle { after }, .. }, Err(why)) => {
                let after = *after;
                self.ladder.refused(after, &why);
                let why = format!("{}; {}: {why}", self.fault, Step::name(after));
                self.take_next_step(now, &why)
            }
            (State::Restarting { .. }, Err(why)) => self.fail(now, &format!("it could not be restarted: {why}")),
            _ => Vec::new(),
        }
    }

    /// Whether it still waits for its port's power to be cycled, and nothing keeps recovery from it.
    #[must_use]
    pub fn awaits_power_cycle(&self) -> bool {
        let waits = matches!(self.state, State::Recovering { next: Step::Settle { after: Rung::CyclePower }, .. });
        waits && self.restraint.is_none()
    }

    /// A person is needed: `why` says for what.
    pub(super) fn quarantine(&mut self, now: Moment, why: &str) {
        self.disconnect();
        let minutes = QUARANTINE_RETRY.as_secs() / 60;
        let again = match self.bus {
            Bus::There => format!("it is tried again after {minutes} min, and at once if it is plugged in again"),
            Bus::Away => "it is opened at once when it comes back".to_owned(),
        };
        self.enter(now, State::Quarantined { retry_at: now + QUARANTINE_RETRY }, &format!("{why}; {again}"));
    }
}
