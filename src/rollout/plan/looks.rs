//! A look at the phones of a wave before the next one begins: each is asked how it fares, and the gates judge the answers.
//!
//! Nothing of a look is stored: after a restart it is taken again.
//!
//! Invariant: a wave behind a gate that is looked at begins only after every phone of the wave before has answered, or the operator has
//! promoted it (`stories_of_looks`).

use std::collections::BTreeMap;
use std::time::Duration;

use super::requests::phones;
use super::{Output, Phone, Rollout, Rollouts};
use crate::clock::{Deadline, Moment};
use crate::rack::gates::{Gate, Health, Least, Verdict};
use crate::rack::ids::{PhoneId, RolloutId, VersionCode};
use crate::rack::snapshot::{RolloutPhoneState, RolloutState};
use crate::rack::strategy::Downgrade;
use crate::store::RolloutNumber;

/// The longest that a phone has to say how it fares.
pub const LOOK_MAX: Duration = Duration::from_secs(60);
/// After a start phones are opened within so long, or they are away.
const SEEN_WITHIN: Duration = Duration::from_secs(120);
/// Phones that are named for one gate; the others are counted.
const NAMED_MAX: usize = 3;

/// A look at one wave.
#[derive(Debug)]
pub(super) struct Look {
    /// The wave that waits for it.
    wave: u32,
    until: Moment,
    /// Who was asked, and the answer once there is one.
    answers: BTreeMap<PhoneId, Option<Answer>>,
}

/// What a phone has answered.
#[derive(Debug)]
enum Answer {
    Fares(Health),
    /// Why nothing is known, as a sentence.
    Nothing(String),
    /// It has another version by now, of another rollout: it says nothing of this one any more.
    HasMovedOn,
}

impl Look {
    fn is_complete(&self, now: Moment) -> bool {
        self.until <= now || self.answers.values().all(Option::is_some)
    }

    /// How each phone stands at a gate.
    fn verdicts(&self, gate: Gate, rollout: &Rollout) -> Vec<(&PhoneId, Verdict)> {
        let version = rollout.record.version_code;
        let verdict = |answer: &Option<Answer>| match answer {
            Some(Answer::Fares(health)) => Some(health.at(gate, version)),
            Some(Answer::Nothing(why)) => Some(Verdict::Unknown(why.clone())),
            Some(Answer::HasMovedOn) => None,
            None => Some(Verdict::Unknown(format!("it has not answered within {} s", LOOK_MAX.as_secs()))),
        };
        self.answers.iter().filter_map(|(phone, answer)| Some((phone, verdict(answer)?))).collect()
    }
}

/// Why a wave must not begin, as a sentence.
enum Stop {
    /// Too many phones fare badly.
    Fails(String),
    /// Nobody can say.
    Unknown(String),
}

impl Rollouts {
    /// Whether the gates let a wave begin. Asks the phones of the wave before first; what is wrong stops the rollout, and what
    /// can't be judged pauses it.
    pub(super) fn passes_gates(&mut self, now: Moment, number: RolloutNumber, wave: u32) -> bool {
        let is_early = self.is_early(now, number, wave);
        let Some(rollout) = self.rollouts.get_mut(&number) else { return false };
        if wave == 0 || rollout.record.strategy.gates.on().next().is_none() {
            return true;
        }
        match rollout.look.take_if(|look| look.wave == wave && look.is_complete(now)) {
            Some(look) => match rollout.judge_look(&look) {
                Ok(()) => true,
                Err(Stop::Fails(why)) => {
                    self.stop(now, number, why);
                    false
                }
                Err(Stop::Unknown(why)) => {
                    self.pause_for(now, number, why);
                    false
                }
            },
            None if rollout.look.as_ref().is_some_and(|look| look.wave == wave) => false,
            None if is_early => false,
            None => {
                self.begin_look(now, number, wave);
                // Nobody to ask, as where all of them had the version already.
                let nobody = |rollout: &mut Rollout| rollout.look.take_if(|look| look.answers.is_empty()).is_some();
                self.rollouts.get_mut(&number).is_some_and(nobody)
            }
        }
    }

    /// Whether a phone that is to be asked was not seen yet after a start that was not long ago.
    fn is_early(&self, now: Moment, number: RolloutNumber, wave: u32) -> bool {
        now < self.began + SEEN_WITHIN
            && self.rollouts.get(&number).is_some_and(|rollout| {
                rollout
                    .phones
                    .iter()
                    .any(|phone| phone.is_asked_before(wave) && !self.seen.contains(&phone.record.phone))
            })
    }

    fn begin_look(&mut self, now: Moment, number: RolloutNumber, wave: u32) {
        let Some(rollout) = self.rollouts.get_mut(&number) else { return };
        // When an earlier daemon installed is not known here; so long ago it was at least.
        let soak = rollout.record.strategy.soak();
        let since = |phone: &Phone| phone.done_at.map_or(soak, |at| now.since(at) + phone.install_took);
        let asked: Vec<(PhoneId, Duration)> = rollout
            .phones
            .iter()
            .filter(|phone| phone.is_asked_before(wave))
            .map(|phone| (phone.record.phone.clone(), since(phone)))
            .collect();
        let answers = asked.iter().map(|(phone, _)| (phone.clone(), None)).collect();
        rollout.look = Some(Look { wave, until: now + LOOK_MAX, answers });
        for (phone, within) in asked {
            self.draft.effects.push(Output::Look { phone, rollout: number.id(), within });
        }
        self.draft.effects.push(Output::Changed);
    }

    /// A phone says how it fares.
    pub(super) fn looked(&mut self, phone: &PhoneId, rollout: &RolloutId, health: Result<Health, String>) {
        let Some(number) = RolloutNumber::of(rollout) else { return };
        let answer = match health {
            Ok(health) if self.has_moved_on(number, phone, health.version) => Answer::HasMovedOn,
            Ok(health) => Answer::Fares(health),
            Err(why) => Answer::Nothing(why),
        };
        let look = self.rollouts.get_mut(&number).and_then(|rollout| rollout.look.as_mut());
        if let Some(known) = look.and_then(|look| look.answers.get_mut(phone)) {
            *known = Some(answer);
        }
    }

    /// Whether a phone that this rollout has brought its version to has another one by now: a newer one, or whatever a later rollout brought.
    fn has_moved_on(&self, number: RolloutNumber, phone: &PhoneId, has: Option<VersionCode>) -> bool {
        let (Some(rollout), Some(has)) = (self.rollouts.get(&number), has) else { return false };
        let (wanted, downgrade) = (rollout.record.version_code, rollout.record.strategy.downgrade);
        has != wanted
            && (downgrade == Downgrade::Refused && has > wanted || self.brought_later(number, phone, has).is_some())
    }

    /// When a look ends without the answers that are missing.
    pub(super) fn look_deadline(&self, rollout: &Rollout) -> Option<Deadline> {
        let has_turn = || self.turn() == Some(rollout.record.number) || rollout.current_wave().is_none();
        let starts = self.began + SEEN_WITHIN;
        let has_gates = rollout.record.strategy.gates.on().next().is_some();
        if rollout.record.state == RolloutState::Running && has_gates && rollout.look.is_none() && self.now < starts {
            return Some(Deadline { at: starts, why: "phones that were not seen since the start" });
        }
        let look = rollout.look.as_ref().filter(|_| rollout.record.state == RolloutState::Running && has_turn())?;
        Some(Deadline { at: look.until, why: "the phones of a wave to say how they fare" })
    }
}

impl Phone {
    /// Whether it is asked before a wave begins: it got the version in the wave before, or later than its own wave.
    fn is_asked_before(&self, wave: u32) -> bool {
        let is_meant = self.record.wave + 1 == wave || self.is_unseen && self.record.wave < wave;
        is_meant && self.record.state == RolloutPhoneState::Done && self.record.attempts > 0
    }
}

impl Rollout {
    /// Whether the phones are being asked.
    pub(super) fn is_looked_at(&self) -> bool {
        self.look.is_some()
    }

    /// What is known to be wrong counts before what can't be judged.
    ///
    /// # Errors
    /// Why the wave must not begin.
    fn judge_look(&self, look: &Look) -> Result<(), Stop> {
        let judged = self.record.strategy.gates.on().map(|(gate, least)| self.judge_gate(gate, least, look));
        let stops: Vec<Stop> = judged.filter_map(Result::err).collect();
        let (fails, unknown): (Vec<_>, Vec<_>) = stops.into_iter().partition(|stop| matches!(stop, Stop::Fails(_)));
        fails.into_iter().chain(unknown).next().map_or(Ok(()), Err)
    }

    fn judge_gate(&self, gate: Gate, least: Least, look: &Look) -> Result<(), Stop> {
        let verdicts = look.verdicts(gate, self);
        let named = |wanted: fn(&Verdict) -> Option<&String>| {
            let told: Vec<String> =
                verdicts.iter().filter_map(|(phone, verdict)| Some(format!("{phone}: {}", wanted(verdict)?))).collect();
            let others = told.len().saturating_sub(NAMED_MAX);
            let first = told.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join("; ");
            (told.len(), if others > 0 { format!("{first}; and {others} more") } else { first })
        };
        let (failed, why) = named(|verdict| match verdict {
            Verdict::Fails(why) => Some(why),
            _ => None,
        });
        let (unknown, why_unknown) = named(|verdict| match verdict {
            Verdict::Unknown(why) => Some(why),
            _ => None,
        });
        let (passed, total) = (verdicts.len() - failed - unknown, verdicts.len());
        if !least.is_met(verdicts.len() - failed, total) {
            let (gate, of) = (gate.as_str(), phones(total));
            return Err(Stop::Fails(format!("the gate `{gate}` wants {least}, and {passed} of {of} pass; {why}")));
        }
        if unknown > 0 {
            return Err(Stop::Unknown(format!("the gate `{}` can't be judged: {why_unknown}", gate.as_str())));
        }
        Ok(())
    }
}
