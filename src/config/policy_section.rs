//! Reads `[policy]` and each `[[policy.allow]]`.

use std::num::NonZeroU32;

use super::problem::Problem;
use super::section::Section;
use super::value::{made, parsed, whole_as, word};
use super::{Allowance, Policy, PolicyGroup, QuietHours, Rate};

/// Nothing comes so often that more would mean anything.
const RATE_MAX: i64 = 60_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Judgement {
    Allow,
    Refuse,
}

/// What the section says; where it is silent, the default counts.
pub(super) fn policy(table: Option<Section<'_, '_>>) -> Policy {
    let mut policy = Policy::default();
    let Some(mut table) = table else { return policy };
    let words = [("allow", Judgement::Allow), ("refuse", Judgement::Refuse)];
    for (key, group) in [("device", PolicyGroup::Device), ("unknown", PolicyGroup::Unknown)] {
        match table.optional(key, word(&words)).map(|typed| typed.value) {
            Some(Judgement::Allow) => drop(policy.allowed.entry(group).or_default()),
            Some(Judgement::Refuse) => drop(policy.allowed.remove(&group)),
            None => {}
        }
    }
    policy.quiet_hours = table.optional("quiet_hours", parsed::<QuietHours>(HOURS)).map(|typed| typed.value);
    let mut seen = Vec::new();
    for mut allow in table.children("allow") {
        let group = allow.required(
            "group",
            "\"people.messages\"",
            made(&groups(), |name| PolicyGroup::try_from(name.to_owned()).ok()),
        );
        let allowance = allowance(&mut allow);
        if let Some(group) = group {
            if let Some(first) =
                seen.iter().find(|(known, _)| *known == group.value).map(|(_, at)| std::ops::Range::clone(at))
            {
                let what = format!("the group `{}` is allowed twice", group.value.name());
                let problem = Problem::new("config.duplicate", group.at.clone(), what, "keep one of them");
                allow.complain(problem.after(first));
            }
            seen.push((group.value, group.at));
            policy.allowed.insert(group.value, allowance);
        }
        allow.finish();
    }
    if let Some((_, at)) = seen.iter().find(|(group, _)| *group == PolicyGroup::Device)
        && table.typed("device").is_some()
    {
        let what = "what becomes of the group `device` is said twice";
        table.complain(Problem::new("config.contradiction", at.clone(), what, "leave `device` in [policy] out"));
    }
    table.finish();
    policy
}

const HOURS: &str = "hours of the day in quotes such as \"22:00-07:00\"";

fn groups() -> String {
    let names = PolicyGroup::ALL.map(|group| format!("\"{}\"", group.name()));
    names.join(" or ")
}

fn allowance(table: &mut Section<'_, '_>) -> Allowance {
    let number = || whole_as::<u32>(1..=RATE_MAX);
    let per_minute = table.optional("per_minute", number()).and_then(|typed| NonZeroU32::new(typed.value));
    let burst = table.optional("burst", number()).and_then(|typed| NonZeroU32::new(typed.value));
    let quiet_hours = table.optional("quiet_hours", parsed::<QuietHours>(HOURS)).map(|typed| typed.value);
    let usual = Rate::default();
    let per_minute = per_minute.unwrap_or(usual.per_minute);
    Allowance { rate: Rate { per_minute, burst: burst.unwrap_or(per_minute.min(usual.burst)) }, quiet_hours }
}
