//! The steps, one file for each surface of the rack, and their order.

mod hub;
mod line;
mod mqtt;
mod page;
mod phone;
mod rollout;
mod tool;

use super::UnknownStep;
use super::stage::{Stage, miss};
use super::until::Miss;

/// Every step, in the order in which they are carried out: what starts nothing anew comes first, what kills the daemon last.
pub const STEPS: [&str; 31] = [
    "phone.online",
    "agent.installed",
    "hub.reading",
    "line.registered",
    "line.heartbeat",
    "mqtt.health",
    "mqtt.phone",
    "page.shown",
    "page.cell_changed",
    "phone.gone",
    "line.closed",
    "hub.port_off",
    "hub.stale",
    "line.back",
    "rollout.waiting",
    "rollout.paused",
    "rollout.finished",
    "rollout.resumed",
    "tool.hold",
    "tool.release",
    "tool.shell",
    "tool.push",
    "tool.pull",
    "tool.install",
    "tool.logcat",
    "tool.screenshot",
    "tool.identify",
    "tool.reboot",
    "tool.trace",
    "phone.detached",
    "mqtt.offline",
];

/// The steps to carry out for `--only`: a step, or a family of them. Steps of a rollout build on the ones before them.
pub(super) fn wanted(only: Option<&str>) -> Result<Vec<&'static str>, UnknownStep> {
    let Some(only) = only else { return Ok(STEPS.to_vec()) };
    let wanted: Vec<&str> = match STEPS.iter().position(|step| *step == only) {
        Some(last) if only.starts_with("rollout.") => {
            STEPS.into_iter().take(last + 1).filter(|step| step.starts_with("rollout.")).collect()
        }
        Some(_) => STEPS.into_iter().filter(|step| *step == only).collect(),
        None => STEPS.into_iter().filter(|step| step.split('.').next() == Some(only)).collect(),
    };
    if wanted.is_empty() { Err(UnknownStep { name: only.to_owned() }) } else { Ok(wanted) }
}

pub(super) async fn carry_out(stage: &mut Stage, step: &str) -> Result<(), Miss> {
    match step {
        "phone.online" => phone::online(stage).await,
        "agent.installed" => phone::agent_installed(stage).await,
        "phone.gone" => phone::gone(stage).await,
        "phone.detached" => phone::detached(stage).await,
        "hub.reading" => hub::reading(stage).await,
        "hub.port_off" => hub::port_off(stage).await,
        "hub.stale" => hub::stale(stage).await,
        "line.registered" => line::registered(stage).await,
        "line.heartbeat" => line::heartbeat(stage).await,
        "line.closed" => line::closed(stage).await,
        "line.back" => line::back(stage).await,
        "mqtt.health" => mqtt::health(stage).await,
        "mqtt.phone" => mqtt::phone(stage).await,
        "mqtt.offline" => mqtt::offline(stage).await,
        "page.shown" => page::shown(stage).await,
        "page.cell_changed" => page::cell_changed(stage).await,
        "rollout.waiting" => rollout::waiting(stage).await,
        "rollout.paused" => rollout::paused(stage).await,
        "rollout.finished" => rollout::finished(stage).await,
        "rollout.resumed" => rollout::resumed(stage).await,
        "tool.hold" => tool::hold(stage).await,
        "tool.release" => tool::release(stage).await,
        "tool.shell" => tool::shell(stage).await,
        "tool.push" => tool::push(stage).await,
        "tool.pull" => tool::pull(stage).await,
        "tool.install" => tool::install(stage).await,
        "tool.logcat" => tool::logcat(stage).await,
        "tool.screenshot" => tool::screenshot(stage).await,
        "tool.identify" => tool::identify(stage).await,
        "tool.reboot" => tool::reboot(stage).await,
        "tool.trace" => tool::trace(stage).await,
        other => Err(miss("a step with this name", other)),
    }
}

/// `Ok` if nothing is left that is not as expected, else all of it.
fn nothing_left(left: Vec<String>) -> Result<(), String> {
    if left.is_empty() { Ok(()) } else { Err(left.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_or_a_family_can_be_chosen() {
        assert_eq!(wanted(None).unwrap().len(), STEPS.len());
        assert_eq!(wanted(Some("hub.stale")).unwrap(), ["hub.stale"]);
        assert_eq!(wanted(Some("page")).unwrap(), ["page.shown", "page.cell_changed"]);
        assert_eq!(wanted(Some("rollout.paused")).unwrap(), ["rollout.waiting", "rollout.paused"]);
        assert!(wanted(Some("hub.fly")).unwrap_err().to_string().contains("hub.stale"));
    }
}
