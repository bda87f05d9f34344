//! Any bytes as a list of what agents on three lines say, and when.

use std::collections::VecDeque;
use std::time::Duration;

use super::Script;
use crate::central::pace::{BURST, FRAME_LEN, FRAMES_PER_S, HUSH, LATELY, Pace, Speakers};
use crate::clock::Moment;

const LINES: usize = 3;
/// Longer than any agent may be held up, so that what made it so is in there.
const WINDOW: Duration = Duration::from_millis(125);

/// Any bytes as what agents say beside each other: every rule of [`crate::central::pace`] holds after each frame.
pub fn pace(bytes: &[u8]) {
    let speakers = Speakers::default();
    let mut lines: [Agent; LINES] = std::array::from_fn(|_| Agent::new(speakers.join(Moment::START)));
    let (mut now, mut script) = (Moment::START, Script(bytes));
    while let Some(operation) = script.byte() {
        let (at, amount) = (usize::from(operation) % LINES, script.byte().unwrap_or(0));
        match operation >> 5 {
            0 | 1 => speak(&mut lines, at, amount, 200, now),
            2 => speak(&mut lines, at, amount, usize::from(script.byte().unwrap_or(0)) << 12, now),
            3 => speak(&mut lines, at, 1, usize::MAX, now),
            4 | 5 => now = now + Duration::from_micros(u64::from(amount) * 50),
            6 => now = now + Duration::from_millis(u64::from(amount) * 4),
            _ => now = lines.iter().filter_map(|agent| agent.pace.hushed_until()).min().unwrap_or(now),
        }
        lines.iter_mut().for_each(|agent| agent.is_heard_again(now));
    }
}

/// One agent says so many frames as far as it is heard.
fn speak(lines: &mut [Agent; LINES], at: usize, times: u8, len: usize, now: Moment) {
    let others = lines.iter().enumerate().filter(|(other, _)| *other != at).filter_map(|(_, agent)| agent.spoke);
    let others_speak = others.max().is_some_and(|spoke| now.since(spoke) < LATELY);
    if let Some(agent) = lines.get_mut(at) {
        for _ in 0..times {
            agent.speak(len, others_speak, now);
        }
    }
}

struct Agent {
    pace: Pace,
    spoke: Option<Moment>,
    held_up: Option<Moment>,
    /// What it said while others spoke, in frames, and when.
    said: VecDeque<(Moment, u32)>,
}

impl Agent {
    fn new(pace: Pace) -> Self {
        Self { pace, spoke: None, held_up: None, said: VecDeque::new() }
    }

    fn speak(&mut self, len: usize, others_speak: bool, now: Moment) {
        if self.pace.hushed_until().is_some() {
            return;
        }
        self.pace.spoke(len, now);
        self.spoke = Some(now);
        let hushed_until = self.pace.hushed_until();
        if !others_speak {
            assert_eq!(hushed_until, None, "who is alone is heard");
            return;
        }
        self.said.push_back((now, frames_of(len)));
        self.said.retain(|(at, _)| now.since(*at) <= WINDOW);
        let said: u32 = self.said.iter().map(|(_, frames)| frames).sum();
        let share = BURST.get() + FRAMES_PER_S.get() / 8;
        assert!(said <= share + BURST.get(), "{said} frames were heard in {WINDOW:?}, and {share} are its share");
        if let Some(until) = hushed_until {
            self.held_up = Some(now);
            assert!(said > BURST.get(), "who said {said} frames in {WINDOW:?} is held up");
            assert_eq!(until, now + HUSH);
        }
    }

    fn is_heard_again(&mut self, now: Moment) {
        self.pace.advance(now);
        let Some(since) = self.held_up else { return };
        let whole_again_after = Duration::from_secs(1) * BURST.get() / FRAMES_PER_S.get();
        match self.pace.hushed_until() {
            Some(until) => {
                assert!(until > now, "every wait ends later");
                assert!(now.since(since) < whole_again_after + HUSH, "it is held up for {:?}", now.since(since));
            }
            None => self.held_up = None,
        }
    }
}

fn frames_of(len: usize) -> u32 {
    u32::try_from(len / FRAME_LEN).unwrap_or(u32::MAX).saturating_add(1).min(BURST.get())
}
