//! While others speak, an agent is heard at its share at most; who says no more than that, or is alone, is never held up.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use farmhand::clock::Moment;

/// Whoever spoke within this time still speaks.
const LATELY: Duration = Duration::from_millis(250);
/// What may be said at once.
const BURST: usize = 64;
/// Longer than any agent is held up.
const WINDOW: Duration = Duration::from_millis(125);
/// 4,000 frames a second of it, the burst, and one frame that is owed before and after.
const SHARE: usize = 500 + BURST + 2;
/// For how long an agent is not heard at once, and for how long until its burst is whole again.
const HUSH_MAX: Duration = Duration::from_millis(5);
const HELD_UP_MAX: Duration = Duration::from_millis(16 + 5);

/// When the agents of the daemon's lines spoke.
#[derive(Debug, Default)]
pub(crate) struct Paces {
    last: BTreeMap<u32, Moment>,
    /// Of each line, while others spoke.
    said: BTreeMap<u32, VecDeque<Moment>>,
    held_up_since: BTreeMap<u32, Moment>,
}

impl Paces {
    /// The line looks whether it hears its agent.
    pub(crate) fn looked(&mut self, now: Moment, line: u32, hushed_until: Option<Moment>) -> Result<(), String> {
        let Some(until) = hushed_until else {
            self.held_up_since.remove(&line);
            return Ok(());
        };
        let since = *self.held_up_since.entry(line).or_insert(now);
        if until <= now || now.since(since) > HELD_UP_MAX {
            return Err(format!("an agent has not been heard since {since}, until {until}"));
        }
        Ok(())
    }

    /// The agent of a line was heard, and now is not until `hushed_until`.
    pub(crate) fn heard(&mut self, now: Moment, line: u32, hushed_until: Option<Moment>) -> Result<(), String> {
        let others_speak = self.last.iter().any(|(other, at)| *other != line && now.since(*at) < LATELY);
        self.last.insert(line, now);
        if !others_speak {
            return if hushed_until.is_none() {
                Ok(())
            } else {
                Err("an agent is held up, and no other speaks".to_owned())
            };
        }
        let said = self.said.entry(line).or_default();
        said.push_back(now);
        while said.front().is_some_and(|at| now.since(*at) > WINDOW) {
            said.pop_front();
        }
        match (said.len(), hushed_until) {
            (SHARE.., _) => {
                Err(format!("{} frames of an agent were heard within {WINDOW:?}, beside others", said.len()))
            }
            (0..=BURST, Some(_)) => Err(format!("an agent that said {} frames is held up", said.len())),
            (_, Some(until)) if until.since(now) > HUSH_MAX => Err(format!("an agent is not heard until {until}")),
            _ => Ok(()),
        }
    }
}
