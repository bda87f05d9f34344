//! How much one agent is heard while others speak, as a core.
//!
//! Whoever says as much as it can keeps host, cable and central server busy, and all others wait for their turn: an agent that is alone is
//! heard as fast as it speaks, one of several [`FRAMES_PER_S`] at most. What it has still to say waits on its phone.
//!
//! Invariant: an agent that says no more than its share is never held up (`tests`).
//! Invariant: one that says more comes to its share (`tests`).

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use super::policy::HandMoved;
use crate::clock::Moment;

/// What an agent may say in a second while others speak, in frames of [`FRAME_LEN`] at most.
pub(super) const FRAMES_PER_S: NonZeroU32 = NonZeroU32::new(4_000).expect("it is not zero");
/// What it may say at once, in the same frames.
pub(super) const BURST: NonZeroU32 = NonZeroU32::new(64).expect("it is not zero");
/// A longer frame counts as several, in bytes.
pub(super) const FRAME_LEN: usize = 16 << 10;
/// For how long it is not read then: some twenty frames are heard together afterwards, for waking is what costs most.
pub(super) const HUSH: Duration = Duration::from_millis(5);
/// Whoever spoke within this time still speaks.
pub(super) const LATELY: Duration = Duration::from_millis(250);

/// Who has spoken last. All lines of a daemon share it, and count their moments from one start.
#[derive(Clone, Debug, Default)]
pub struct Speakers(Arc<Mutex<Spoken>>);

#[derive(Debug, Default)]
struct Spoken {
    lines: u64,
    last: Option<(u64, Moment)>,
    /// The last one that is not the same.
    before: Option<(u64, Moment)>,
}

impl Speakers {
    /// The pace of one more line.
    #[must_use]
    pub fn join(&self, now: Moment) -> Pace {
        let mut spoken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spoken.lines += 1;
        let clock = HandMoved::default();
        clock.set(now.since_start());
        let share = RateLimiter::direct_with_clock(Quota::per_second(FRAMES_PER_S).allow_burst(BURST), clock.clone());
        Pace { line: spoken.lines, speakers: self.clone(), clock, share, hush: None }
    }

    /// A line's agent speaks; whether another's has done so lately.
    fn note(&self, line: u64, now: Moment) -> bool {
        let mut spoken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spoken.last.is_some_and(|(last, _)| last != line) {
            spoken.before = spoken.last;
        }
        spoken.last = Some((line, now));
        spoken.before.is_some_and(|(_, at)| now.since(at) < LATELY)
    }
}

/// How one line's agent is heard.
#[derive(Debug)]
pub struct Pace {
    line: u64,
    speakers: Speakers,
    clock: HandMoved,
    share: RateLimiter<NotKeyed, InMemoryState, HandMoved, NoOpMiddleware<Duration>>,
    hush: Option<Hush>,
}

/// A time in which an agent is not heard.
#[derive(Debug)]
struct Hush {
    until: Moment,
    /// What it said last was more than its share, by so many frames: it is heard again once they are within it.
    owed: NonZeroU32,
}

impl Pace {
    /// A frame of so many bytes came from the line's agent.
    pub fn spoke(&mut self, len: usize, now: Moment) {
        if !self.speakers.note(self.line, now) {
            return;
        }
        let frames = u32::try_from(len / FRAME_LEN).unwrap_or(u32::MAX).saturating_add(1).min(BURST.get());
        self.count(NonZeroU32::new(frames).unwrap_or(NonZeroU32::MIN), now);
    }

    fn count(&mut self, frames: NonZeroU32, now: Moment) {
        self.clock.set(now.since_start());
        // No frame counts more than the burst.
        let is_within = matches!(self.share.check_n(frames), Ok(Ok(())));
        self.hush = (!is_within).then_some(Hush { until: now + HUSH, owed: frames });
    }

    /// Until when the agent is not heard, if it is not. It stays so until [`Self::advance`] is told of that time.
    #[must_use]
    pub fn hushed_until(&self) -> Option<Moment> {
        self.hush.as_ref().map(|hush| hush.until)
    }

    /// It is `now`: an agent that is within its share again is heard from now on. A line that comes late does not cost it any of that.
    pub fn advance(&mut self, now: Moment) {
        while let Some(hush) = self.hush.take_if(|hush| hush.until <= now) {
            self.count(hush.owed, hush.until);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Frames of `len` bytes that were heard within ten seconds of an agent which says a hundred in each millisecond in which it is heard.
    fn heard_of_a_flood(len: usize, others_speak: bool) -> u32 {
        let (speakers, start) = (Speakers::default(), Moment::START);
        let (mut flood, mut other) = (speakers.join(start), speakers.join(start));
        let mut heard = 0;
        for millis in 0..10_000 {
            let now = start + Duration::from_millis(millis);
            if others_speak && millis % 30 == 0 {
                other.spoke(200, now);
                assert_eq!(other.hushed_until(), None, "it says little");
            }
            flood.advance(now);
            for _ in 0..100 {
                if flood.hushed_until().is_none() {
                    flood.spoke(len, now);
                    heard += 1;
                }
            }
        }
        heard
    }

    #[test]
    fn who_says_too_much_while_others_speak_comes_to_its_share() {
        let heard = heard_of_a_flood(200, true);
        assert!((39_000..40_200).contains(&heard), "{heard} frames of 40,000");
    }

    #[test]
    fn long_frames_count_as_several() {
        let heard = heard_of_a_flood(3 * FRAME_LEN, true);
        assert!((9_800..10_100).contains(&heard), "{heard} frames of 10,000");
    }

    #[test]
    fn the_longest_frame_is_heard() {
        let heard = heard_of_a_flood(usize::MAX, true);
        assert!((400..650).contains(&heard), "{heard} frames of 625");
    }

    #[test]
    fn who_is_alone_says_as_much_as_it_can() {
        assert_eq!(heard_of_a_flood(200, false), 1_000_000);
    }

    #[test]
    fn a_speaker_of_a_while_ago_is_none() {
        let (speakers, start) = (Speakers::default(), Moment::START);
        speakers.join(start).spoke(200, start);
        let mut alone = speakers.join(start);
        for _ in 0..1_000 {
            alone.spoke(200, start + LATELY);
        }
        assert_eq!(alone.hushed_until(), None);
    }

    #[test]
    fn what_was_too_much_is_forgotten_by_a_line_that_looks_late() {
        let (speakers, start) = (Speakers::default(), Moment::START);
        let (mut first, mut second) = (speakers.join(start), speakers.join(start));
        second.spoke(1, start);
        first.spoke(1, start);
        first.spoke(usize::MAX, start);
        assert_ne!(first.hushed_until(), None);
        let late = start + Duration::from_secs(1);
        first.advance(late);
        second.spoke(1, late);
        for _ in 0..BURST.get() {
            assert_eq!(first.hushed_until(), None);
            first.spoke(1, late);
        }
        assert_eq!(first.hushed_until(), None);
    }

    proptest! {
        #[test]
        fn who_says_no_more_than_its_share_is_never_held_up(pauses in prop::collection::vec(250_u64..100_000, 1..400)) {
            let (speakers, start) = (Speakers::default(), Moment::START);
            let (mut first, mut second) = (speakers.join(start), speakers.join(start));
            let mut now = start;
            for pause in pauses {
                now = now + Duration::from_micros(pause);
                for pace in [&mut first, &mut second] {
                    pace.spoke(FRAME_LEN - 1, now);
                    prop_assert_eq!(pace.hushed_until(), None);
                }
            }
        }
    }
}
