//! One phone's gate: what the policy allows, so often and at such times.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use super::{Policy, Refusal, Verdict, group_for, owners_group};
use crate::central::catalogue::Group;
use crate::clock::Moment;
use crate::config::{self, MinuteOfDay, PolicyGroup, Rate};

/// When something is judged.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// By the clock that is never set: for rates.
    pub moment: Moment,
    /// By the clock on the wall: for quiet hours.
    pub minute: MinuteOfDay,
}

/// Judges what the centre sends to one phone.
#[derive(Debug, Default)]
pub struct Gate {
    policy: Policy,
    clock: HandMoved,
    /// Of the groups of which anything has come: most lines never see one.
    limits: BTreeMap<PolicyGroup, Limit>,
}

#[derive(Debug)]
struct Limit {
    rate: Rate,
    limiter: RateLimiter<NotKeyed, InMemoryState, HandMoved, NoOpMiddleware<Duration>>,
}

/// A clock that says what it was told last, in nanoseconds.
#[derive(Clone, Debug, Default)]
pub(in crate::central) struct HandMoved(Arc<AtomicU64>);

impl HandMoved {
    /// Says from now on that so much has passed since its start.
    pub(in crate::central) fn set(&self, passed: Duration) {
        self.0.store(u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Clock for HandMoved {
    type Instant = Duration;

    fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

impl Gate {
    /// A gate through which nothing has passed yet.
    #[must_use]
    pub fn new(policy: config::Policy) -> Self {
        Self { policy: policy.into(), ..Self::default() }
    }

    /// The owner has another mind. What has passed in a group whose rate stays is not forgotten.
    pub fn change(&mut self, policy: config::Policy) {
        self.limits.retain(|group, limit| policy.allowed.get(group).is_some_and(|kept| kept.rate == limit.rate));
        self.policy = policy.into();
    }

    /// Judges a message of the centre, and counts it if it passes.
    pub fn judge(&mut self, code: i32, content: &[u8], now: Now) -> Verdict {
        let verdict = self.policy.judge(code, content);
        let group = group_for(code, content);
        let Some((group, owners)) = group.and_then(|group| Some((group, owners_group(group)?))) else { return verdict };
        if verdict != Verdict::Pass {
            return verdict;
        }
        if let Some(hours) = self.policy.rules.quiet_hours_of(owners).find(|hours| hours.contain(now.minute)) {
            return Verdict::Refuse(Refusal::Quiet(group, hours));
        }
        self.count(group, owners, now.moment)
    }

    fn count(&mut self, group: Group, owners: PolicyGroup, now: Moment) -> Verdict {
        let Some(allowance) = self.policy.rules.allowed.get(&owners) else {
            return Verdict::Refuse(Refusal::Group(group));
        };
        let rate = allowance.rate;
        self.clock.set(now.since_start());
        let limit = self.limits.entry(owners).or_insert_with(|| {
            let quota = Quota::per_minute(rate.per_minute).allow_burst(rate.burst);
            Limit { rate, limiter: RateLimiter::direct_with_clock(quota, self.clock.clone()) }
        });
        match limit.limiter.check() {
            Ok(()) => Verdict::Pass,
            Err(_) => Verdict::Refuse(Refusal::TooMany(group, rate)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::central::catalogue::PeopleGroup;
    use crate::config::Allowance;
    use proptest::prelude::*;

    const TALK: i32 = 1070;
    const MESSAGES: PolicyGroup = PolicyGroup::People(PeopleGroup::Messages);

    fn allowing(per_minute: u32, burst: u32, quiet: Option<&str>) -> config::Policy {
        let rate = Rate { per_minute: NonZeroU32::new(per_minute).unwrap(), burst: NonZeroU32::new(burst).unwrap() };
        let mut policy = config::Policy::default();
        policy.allowed.insert(MESSAGES, Allowance { rate, quiet_hours: quiet.map(|hours| hours.parse().unwrap()) });
        policy
    }

    fn at(seconds: u64) -> Now {
        let minute = MinuteOfDay::new(12, 0).unwrap();
        Now { moment: Moment::from_start(Duration::from_secs(seconds)), minute }
    }

    fn passes(gate: &mut Gate, now: Now) -> bool {
        gate.judge(TALK, &[], now) == Verdict::Pass
    }

    #[test]
    fn a_burst_passes_and_then_as_many_as_its_rate_says() {
        let mut gate = Gate::new(allowing(6, 3, None));
        let passed = |gate: &mut Gate, now: Now| (0..10).filter(|_| passes(gate, now)).count();
        assert_eq!(passed(&mut gate, at(0)), 3);
        assert_eq!(passed(&mut gate, at(9)), 0);
        assert_eq!(passed(&mut gate, at(10)), 1, "six a minute are one in ten seconds");
        assert_eq!(passed(&mut gate, at(1000)), 3, "never more than the burst");
        assert!(matches!(gate.judge(TALK, &[], at(1000)), Verdict::Refuse(Refusal::TooMany(Group::People(_), _))));
        assert_eq!(gate.judge(1256, &[], at(1000)), Verdict::Pass, "other groups count for themselves");
    }

    #[test]
    fn quiet_hours_are_those_of_the_group_and_those_of_all() {
        let mut policy = allowing(60, 60, Some("20:00-09:00"));
        policy.quiet_hours = Some("12:00-13:00".parse().unwrap());
        let mut gate = Gate::new(policy);
        let at = |hour| Now { minute: MinuteOfDay::new(hour, 30).unwrap(), ..at(0) };
        assert!(passes(&mut gate, at(11)) && !passes(&mut gate, at(12)) && passes(&mut gate, at(13)));
        assert!(!passes(&mut gate, at(8)) && !passes(&mut gate, at(22)));
        assert_eq!(gate.judge(1256, &[], at(12)), Verdict::Pass, "the handset itself is no person");
        assert_eq!(gate.judge(1096, &[], at(12)), Verdict::Pass, "stopping an act is never refused");
    }

    #[test]
    fn another_mind_of_the_owner_counts_at_once_and_forgets_nothing_that_passed() {
        let mut gate = Gate::new(allowing(1, 1, None));
        assert!(passes(&mut gate, at(0)));
        gate.change(allowing(1, 1, Some("01:00-02:00")));
        assert!(!passes(&mut gate, at(1)), "the one of this minute has passed");
        gate.change(allowing(60, 60, None));
        assert!(passes(&mut gate, at(1)));
        gate.change(config::Policy::default());
        assert!(!passes(&mut gate, at(2)));
    }

    proptest! {
        #[test]
        fn no_more_pass_than_burst_and_rate_allow(
            per_minute in 1..120u32, burst in 1..20u32, steps in prop::collection::vec(0..5000u64, 1..200),
        ) {
            let mut gate = Gate::new(allowing(per_minute, burst, None));
            let (mut now, mut passed) = (Moment::START, 0);
            for step in steps {
                now = now + Duration::from_millis(step);
                passed += u32::from(passes(&mut gate, Now { moment: now, ..at(0) }));
            }
            let by_rate = now.since_start().as_secs_f64() / 60.0 * f64::from(per_minute);
            prop_assert!(f64::from(passed) <= f64::from(burst) + by_rate + 1.0);
        }
    }
}
