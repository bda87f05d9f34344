//! How long a line waits before it tries again.
//!
//! After each failure the bound doubles and the pause is drawn from the whole span below it ("full jitter"): when a server
//! restarts, the lines of a big rack spread over the span instead of filling its listen queue all at once.

use std::time::Duration;

use crate::clock::Moment;

const FIRST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(60);
/// A server that hangs up at once must not be called in a hot loop.
const SHORTEST: Duration = Duration::from_millis(50);
/// A registration that lasted this long proves that the server is well: the next failure is a first one again.
const PROVEN: Duration = Duration::from_secs(10);
/// A server that refuses a device will not change its mind within seconds; somebody must register it there.
const REFUSED: Duration = Duration::from_secs(300);
/// Two racks must never fight over one identity.
const REPLACED_FIRST: Duration = Duration::from_secs(300);
const REPLACED_LONGEST: Duration = Duration::from_secs(4 * 3600);
/// A registration that lasted this long proves that nobody else holds the credential.
const UNCONTESTED: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub(super) struct Backoff {
    random: u64,
    failures: u32,
    replacements: u32,
    barred_until: Moment,
}

impl Backoff {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: seed, failures: 0, replacements: 0, barred_until: Moment::START }
    }

    /// What was learnt of one credential says nothing of another.
    pub(super) fn another_credential(&mut self) {
        *self = Self::new(self.random);
    }

    /// A registration ended after `time`.
    pub(super) fn lasted(&mut self, time: Duration) {
        if time >= PROVEN {
            self.failures = 0;
        }
        if time >= UNCONTESTED {
            self.replacements = 0;
        }
    }

    /// The pause after one more failure.
    pub(super) fn next_pause(&mut self) -> Duration {
        let bound = doubled(FIRST, self.failures, LONGEST);
        self.failures = self.failures.saturating_add(1);
        self.below(bound).max(SHORTEST)
    }

    /// The pause after the server refused the device.
    pub(super) fn refused_pause(&mut self) -> Duration {
        REFUSED + self.below(REFUSED)
    }

    /// The pause after another holder of the credential took the line's place. It outlives a replugged phone.
    pub(super) fn replaced_pause(&mut self, now: Moment) -> Duration {
        let pause = doubled(REPLACED_FIRST, self.replacements, REPLACED_LONGEST);
        self.replacements = self.replacements.saturating_add(1);
        self.barred_until = now + pause;
        pause
    }

    /// Until when no attempt may be made, if that lies ahead.
    pub(super) fn barred_until(&self, now: Moment) -> Option<Moment> {
        (self.barred_until > now).then_some(self.barred_until)
    }

    /// A time in `0..bound`, by splitmix64.
    fn below(&mut self, bound: Duration) -> Duration {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let milliseconds = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX).max(1);
        Duration::from_millis(z % milliseconds)
    }
}

fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(1_u32.checked_shl(times).filter(|_| times < 31).unwrap_or(u32::MAX)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_and_are_spread() {
        for failures in [0, 1, 4, 50] {
            let bound = doubled(FIRST, failures, LONGEST);
            let mut pauses: Vec<Duration> = (0..1000)
                .map(|seed| {
                    let mut backoff = Backoff { failures, ..Backoff::new(seed) };
                    backoff.next_pause()
                })
                .collect();
            pauses.sort();
            assert!(pauses[0] >= SHORTEST && pauses[999] < bound, "{bound:?}");
            assert!(pauses[250] < bound * 3 / 10 && pauses[750] > bound * 7 / 10, "a quarter each, {bound:?}");
        }
        assert_eq!(doubled(FIRST, 4000, LONGEST), LONGEST);
    }

    #[test]
    fn a_lasting_registration_makes_the_next_failure_a_first_one() {
        let mut backoff = Backoff { failures: 9, replacements: 3, ..Backoff::new(1) };
        backoff.lasted(Duration::from_secs(9));
        assert_eq!(backoff.failures, 9);
        backoff.lasted(PROVEN);
        assert_eq!((backoff.failures, backoff.replacements), (0, 3));
        backoff.lasted(UNCONTESTED);
        assert_eq!(backoff.replacements, 0);
    }

    #[test]
    fn each_replacement_bars_the_credential_for_twice_as_long() {
        let (mut backoff, now) = (Backoff::new(1), Moment::START);
        let minutes: Vec<u64> = (0..8).map(|_| backoff.replaced_pause(now).as_secs() / 60).collect();
        assert_eq!(minutes, [5, 10, 20, 40, 80, 160, 240, 240]);
        assert_eq!(backoff.barred_until(now), Some(now + REPLACED_LONGEST));
        assert_eq!(backoff.barred_until(now + REPLACED_LONGEST), None);
    }
}
