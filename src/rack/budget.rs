//! The rack's budgets for what recovery does to phones: who gets none any more waits in line, and says so.
//!
//! ```text
//!     a rung is due ──room left──▶ taken, and counted
//!           └──none──▶ in line ──its turn comes──▶ taken, and counted
//!                         └── answers, leaves, is held or part of an incident: out of the line
//! ```
//!
//! A fault of a hub, of the host or of farmhand itself looks like many phones that fail: without these budgets all of them would be
//! reset and restarted at once. Power cycles are counted in [`power`](super::power), since they are promised on the disk; resets and
//! restarts count within one run of the daemon.
//!
//! Invariant: a rung is taken at most as often as its budget says within any of its windows (`properties`, `tests/sim`).
//! Invariant: whoever came first has the first turn (`properties`).

use std::collections::VecDeque;
use std::time::Duration;

use super::Rack;
use super::ids::Endpoint;
use super::power::{CYCLES_MAX, CYCLES_WINDOW};
use crate::clock::Moment;
use crate::config::Rung;
use crate::phone::trace::Happening;

/// The most USB devices that recovery resets within [`RESETS_WINDOW`].
pub const RESETS_MAX: usize = 6;
/// The window of [`RESETS_MAX`].
pub const RESETS_WINDOW: Duration = Duration::from_secs(60);
/// The most phones that recovery restarts within [`REBOOTS_WINDOW`].
pub const REBOOTS_MAX: usize = 4;
/// The window of [`REBOOTS_MAX`].
pub const REBOOTS_WINDOW: Duration = Duration::from_secs(10 * 60);

/// What is left of the rack's budgets, and who waits for them.
#[derive(Debug, Default)]
pub(super) struct Budgets {
    resets: Budget,
    reboots: Budget,
    cycles: Queue,
}

/// One budget.
#[derive(Debug, Default)]
struct Budget {
    /// When each time that counts leaves the window, the first one first.
    spent: VecDeque<Moment>,
    queue: Queue,
}

/// Who waits for one budget, the first one first. A place is in it at most once.
#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Endpoint>,
}

/// How often within which time.
#[derive(Clone, Copy, Debug)]
struct Limit {
    max: usize,
    window: Duration,
}

const RESETS: Limit = Limit { max: RESETS_MAX, window: RESETS_WINDOW };
const REBOOTS: Limit = Limit { max: REBOOTS_MAX, window: REBOOTS_WINDOW };
const CYCLES: Limit = Limit { max: CYCLES_MAX, window: CYCLES_WINDOW };

impl Budget {
    /// Takes the rung for `endpoint`, if it is its turn; else when that is expected.
    fn take(&mut self, now: Moment, endpoint: &Endpoint, limit: Limit) -> Result<(), Moment> {
        while self.spent.front().is_some_and(|at| *at <= now) {
            self.spent.pop_front();
        }
        self.queue.turn(now, endpoint, limit, self.spent.iter().copied())?;
        self.spent.push_back(now + limit.window);
        Ok(())
    }
}

impl Queue {
    /// Whether it is the turn of `endpoint`, which is in the queue no longer by that; else when it will be, should everyone before it
    /// take his turn as soon as it comes. `spent` says when what is spent leaves the window, the first one first.
    fn turn(
        &mut self,
        now: Moment,
        endpoint: &Endpoint,
        limit: Limit,
        spent: impl Iterator<Item = Moment>,
    ) -> Result<(), Moment> {
        let mut back: Vec<Moment> = spent.collect();
        let room = limit.max.saturating_sub(back.len());
        let place = self.waiting.iter().position(|waiting| waiting == endpoint).unwrap_or_else(|| {
            self.waiting.push_back(endpoint.clone());
            self.waiting.len() - 1
        });
        if place < room {
            self.waiting.remove(place);
            return Ok(());
        }
        // Those before it for whom there is room take their turn now, and what they take is back after a window.
        back.extend(std::iter::repeat_n(now + limit.window, room));
        let (rounds, after) = ((place - room) / limit.max, (place - room) % limit.max);
        let first = back.get(back.len() - limit.max + after).copied().unwrap_or(now);
        Err(first + limit.window.saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX)))
    }

    fn leave(&mut self, endpoint: &Endpoint) {
        self.waiting.retain(|waiting| waiting != endpoint);
    }
}

impl Budgets {
    fn leave(&mut self, endpoint: &Endpoint) {
        self.resets.queue.leave(endpoint);
        self.reboots.queue.leave(endpoint);
        self.cycles.leave(endpoint);
    }
}

impl Rack {
    /// If a harsh rung is due at `endpoint` and the rack's budget for it is spent, the phone waits in line.
    pub(super) fn ask_budget(&mut self, now: Moment, endpoint: &Endpoint) {
        let Some(place) = self.places.get(endpoint) else { return };
        let Some(rung) = place.life.rung_due(now) else { return };
        let turn = match (rung, endpoint) {
            // Nothing is reset where there is no USB: that is told at once.
            (Rung::Reopen, _) | (Rung::ResetUsb, Endpoint::Tcp(_)) => Ok(()),
            (Rung::ResetUsb, _) => self.budgets.resets.take(now, endpoint, RESETS),
            (Rung::Reboot, _) => self.budgets.reboots.take(now, endpoint, REBOOTS),
            (Rung::CyclePower, _) if self.port_to_cycle(endpoint).is_err() => Ok(()),
            (Rung::CyclePower, _) => self.budgets.cycles.turn(now, endpoint, CYCLES, self.hubs.cycles.leaving(now)),
        };
        let Err(at) = turn else { return };
        let why = format!("{}, and its turn comes at about {}", limit_of(rung), self.wall(at).time_of_day());
        if let Some(place) = self.places.get_mut(endpoint) {
            let news = !place.life.is_in_line();
            place.life.wait_in_line(now, at, &why);
            if news {
                self.record(now, endpoint, Happening::RungWaits { rung, why });
            }
        }
    }

    /// A phone that waits for its turn no longer makes room for the next one.
    pub(super) fn leave_line(&mut self, endpoint: &Endpoint) {
        if self.places.get(endpoint).is_none_or(|place| !place.life.is_in_line()) {
            self.budgets.leave(endpoint);
        }
    }
}

/// What the rack allows, as a phrase that follows the fault.
fn limit_of(rung: Rung) -> String {
    match rung {
        Rung::Reopen | Rung::ResetUsb => {
            format!("the rack resets at most {RESETS_MAX} USB devices in {} s", RESETS_WINDOW.as_secs())
        }
        Rung::Reboot => {
            format!("the rack restarts at most {REBOOTS_MAX} phones in {} min", REBOOTS_WINDOW.as_secs() / 60)
        }
        Rung::CyclePower => {
            format!("the rack cycles the power of at most {CYCLES_MAX} ports in {} min", CYCLES_WINDOW.as_secs() / 60)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const LIMIT: Limit = Limit { max: 3, window: Duration::from_secs(60) };

    fn s(seconds: u64) -> Moment {
        Moment::from_start(Duration::from_secs(seconds))
    }

    fn place(number: usize) -> Endpoint {
        format!("usb:1-{}", number + 1).parse().unwrap()
    }

    #[test]
    fn what_is_over_the_budget_is_told_when_its_turn_comes() {
        let mut budget = Budget::default();
        let asked = |budget: &mut Budget, at, number| budget.take(s(at), &place(number), LIMIT);
        let told: Vec<_> = (0..8).map(|number| asked(&mut budget, 10 + number as u64, number).err()).collect();
        assert_eq!(told, [None, None, None, Some(s(70)), Some(s(71)), Some(s(72)), Some(s(130)), Some(s(131))]);
        assert_eq!(asked(&mut budget, 69, 3), Err(s(70)));
        assert_eq!(asked(&mut budget, 70, 3), Ok(()));
        assert_eq!(asked(&mut budget, 71, 6), Err(s(130)), "nobody overtakes those who came before");
        budget.queue.leave(&place(4));
        budget.queue.leave(&place(5));
        assert_eq!(asked(&mut budget, 71, 6), Ok(()), "unless they do not wait any more");
    }

    /// Phones that ask at these moments, and again when they were told.
    fn taken(first: &[u64]) -> BTreeMap<usize, (Moment, Moment)> {
        let mut budget = Budget::default();
        let mut due: BTreeMap<(Moment, usize), ()> =
            first.iter().enumerate().map(|(number, at)| ((s(*at), number), ())).collect();
        let (mut told, mut taken) = (BTreeMap::new(), BTreeMap::new());
        while let Some(((now, number), ())) = due.pop_first() {
            match budget.take(now, &place(number), LIMIT) {
                Ok(()) => drop(taken.insert(number, (*told.entry(number).or_insert(now), now))),
                Err(at) => {
                    told.entry(number).or_insert(at);
                    assert!(at > now, "phone {number} asks for ever");
                    due.insert((at, number), ());
                }
            }
        }
        taken
    }

    fn most_in_a_window(taken: &[Moment]) -> usize {
        let within = |from: &Moment| taken.iter().filter(|at| **at >= *from && **at < *from + LIMIT.window).count();
        taken.iter().map(within).max().unwrap_or(0)
    }

    proptest! {
        /// Where everyone asks when it was told to, everyone has its turn at the moment that it was told at first.
        #[test]
        fn properties(first in proptest::collection::vec(0_u64..400, 1..40)) {
            let taken = taken(&first);
            prop_assert_eq!(taken.len(), first.len());
            for (number, (told, at)) in &taken {
                prop_assert_eq!(told, at, "phone {}", number);
            }
            let moments: Vec<Moment> = taken.values().map(|(_, at)| *at).collect();
            prop_assert!(most_in_a_window(&moments) <= LIMIT.max);
            for (one, (_, at)) in &taken {
                let earlier = |other: &usize| (first[*other], *other) < (first[*one], *one);
                prop_assert!(taken.iter().all(|(other, (_, before))| !earlier(other) || before <= at));
            }
        }

        /// Whoever asks late or goes away neither stretches the budget nor blocks it.
        #[test]
        fn whatever_phones_do_the_budget_holds(steps in proptest::collection::vec((0_usize..12, 0_u64..30, any::<bool>()), 1..200)) {
            let (mut budget, mut now, mut taken) = (Budget::default(), s(0), Vec::new());
            for (number, pause, goes) in steps {
                now = now + Duration::from_secs(pause);
                if goes {
                    budget.queue.leave(&place(number));
                } else if budget.take(now, &place(number), LIMIT).is_ok() {
                    taken.push(now);
                    let waits_before = budget.queue.waiting.iter().position(|at| *at == place(number));
                    prop_assert_eq!(waits_before, None);
                }
                prop_assert!(budget.queue.waiting.len() <= 12);
            }
            prop_assert!(most_in_a_window(&taken) <= LIMIT.max);
        }
    }
}
