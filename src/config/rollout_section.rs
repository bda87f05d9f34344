//! Reads `[rollout]`.

use std::time::Duration;

use super::problem::Problem;
use super::read::{HOUR_S, value, values};
use super::section::Section;
use super::value::{count_or_share, list, made, parsed, seconds, whole_as, word};
use super::{Delivery, FromCentral, Rollout, Window, Windows, Zone};
use crate::rack::gates::{Gates, Least};
use crate::rack::limits::Limits;
use crate::rack::strategy::{Approve, Join, OnFailure, Strategy};

const SOAK_MAX_S: i64 = 7 * 86_400;
const RETRIES_MAX: i64 = 10;
const CLOSE_MAX_S: i64 = 90 * 86_400;
const FIT_MAX_S: i64 = 7 * 86_400;
/// More phones than any host can carry: a larger number is a slip of the keyboard.
const PHONES_MAX: i64 = 10_000;

/// What the section says; where it is silent, the default counts.
pub(super) fn rollout(table: Option<Section<'_, '_>>) -> Rollout {
    let mut rollout = Rollout {
        strategy: Strategy::default(),
        gather: Duration::from_secs(5),
        install_timeout: Duration::from_secs(300),
        windows: Windows { each: Vec::new(), zone: Zone::of_host() },
        sources: Vec::new(),
        from_central: FromCentral::default(),
        delivery: Delivery::default(),
    };
    let Some(mut table) = table else { return rollout };
    let waves =
        table.optional("waves", list(count_or_share("a number of phones from 1 to 10000 or a share such as \"5%\"")));
    if let Some(waves) = &waves
        && waves.value.is_empty()
    {
        let what = "`waves` in [rollout] must name at least one wave";
        table.complain(Problem::new("config.bad_value", waves.at.clone(), what, "write waves = [1, 10, 50]"));
    }
    let words = [("each", Approve::Each), ("first", Approve::First), ("none", Approve::None)];
    let approve = table.optional("approve", word(&words));
    let soak = table.optional("soak_s", whole_as::<u64>(0..=SOAK_MAX_S));
    let max_failures =
        table.optional("max_failures", count_or_share("a number of phones from 0 to 10000 or a share such as \"5%\""));
    let words = [("pause", OnFailure::Pause), ("roll_back", OnFailure::RollBack)];
    let on_failure = table.optional("on_failure", word(&words));
    let retries = table.optional("retries", whole_as::<u32>(0..=RETRIES_MAX));
    let join = table.optional("join", word(&[("dynamic", Join::Dynamic), ("static", Join::Static)]));
    let close_after = table.optional("close_after_s", whole_as::<u64>(60..=CLOSE_MAX_S));
    let limits = limits(&mut table, rollout.strategy.limits);
    let gates = table.child("gates").map(gates).unwrap_or_default();
    let gather = table.optional("gather_s", seconds(0..=HOUR_S));
    let install_timeout = table.optional("install_timeout_s", seconds(1..=HOUR_S));
    let window = parsed::<Window>("hours in quotes such as \"22:00-05:00\", \"Mon-Fri 22:00-05:00\" or \"Sat,Sun\"");
    let windows = table.optional("windows", list(window));
    let zone = "a time zone in quotes that this host knows such as \"Europe/Berlin\", or \"system\"";
    let time_zone = table.optional("time_zone", made(zone, Zone::named));
    let host = made("a host's name in quotes such as \"apk.example\"", |text| {
        (!text.is_empty() && !text.contains(['/', ' '])).then(|| text.to_lowercase())
    });
    let sources = table.optional("sources", list(host));
    let from_central = table.optional("from_central", word(&FromCentral::ALL.map(|from| (from.as_str(), from))));
    let delivery = table.optional("delivery", word(&Delivery::ALL.map(|delivery| (delivery.as_str(), delivery))));
    table.finish();
    let strategy = &mut rollout.strategy;
    strategy.waves = values(waves).unwrap_or_else(|| std::mem::take(&mut strategy.waves));
    strategy.approve = value(approve).unwrap_or(strategy.approve);
    strategy.soak_s = value(soak).unwrap_or(strategy.soak_s);
    strategy.max_failures = value(max_failures).unwrap_or(strategy.max_failures);
    strategy.on_failure = value(on_failure).unwrap_or(strategy.on_failure);
    strategy.retries = value(retries).unwrap_or(strategy.retries);
    strategy.join = value(join).unwrap_or(strategy.join);
    strategy.close_after_s = value(close_after).unwrap_or(strategy.close_after_s);
    (strategy.limits, strategy.gates) = (limits, gates);
    rollout.gather = value(gather).unwrap_or(rollout.gather);
    rollout.install_timeout = value(install_timeout).unwrap_or(rollout.install_timeout);
    rollout.windows.each = values(windows).unwrap_or_default();
    rollout.windows.zone = value(time_zone).unwrap_or(rollout.windows.zone);
    rollout.sources = values(sources).unwrap_or(rollout.sources);
    rollout.from_central = value(from_central).unwrap_or_default();
    rollout.delivery = value(delivery).unwrap_or_default();
    rollout
}

fn gates(mut table: Section<'_, '_>) -> Gates {
    let expected = "a share of a wave's phones in quotes such as \"95%\", or \"off\"";
    let mut least = |key| {
        let read = made(expected, |text| if text == "off" { Some(None) } else { text.parse::<Least>().ok().map(Some) });
        value(table.optional(key, read)).flatten()
    };
    let gates = Gates {
        agent: least("agent"),
        line: least("line"),
        crashes: least("crashes"),
        heartbeats: least("heartbeats"),
    };
    table.finish();
    gates
}

fn limits(table: &mut Section<'_, '_>, usual: Limits) -> Limits {
    let at_once = table.optional("at_once", whole_as::<u32>(1..=PHONES_MAX));
    let at_once_per_hub = table.optional("at_once_per_hub", whole_as::<u32>(1..=PHONES_MAX));
    let battery_min = table.optional("battery_min", whole_as::<u8>(0..=100));
    let temperature_max = table.optional("temperature_max", whole_as::<u8>(1..=100));
    let fit_within = table.optional("fit_within_s", whole_as::<u64>(60..=FIT_MAX_S));
    Limits {
        at_once: value(at_once).unwrap_or(usual.at_once),
        at_once_per_hub: value(at_once_per_hub).unwrap_or(usual.at_once_per_hub),
        battery_min_percent: value(battery_min).unwrap_or(usual.battery_min_percent),
        temperature_max_celsius: value(temperature_max).unwrap_or(usual.temperature_max_celsius),
        fit_within_s: value(fit_within).unwrap_or(usual.fit_within_s),
        ..usual
    }
}
