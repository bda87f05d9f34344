//! Handsets are found, provisioned, and missed when they leave: `farmhand phones --json`.

use std::time::Duration;

use farmhand::rack::snapshot::PhoneState;

use super::super::stage::{PHONES, READY_WITHIN, Stage, miss};
use super::super::until::{Miss, until};
use super::nothing_left;
use crate::cable::Hand;

const AGENT: &str = "org.example.agent";
/// An unplugged phone is shown as absent within this time.
const GONE_WITHIN: Duration = Duration::from_secs(2);

/// Each phone of the rack file is in its slot with its own serial, and ADB works.
pub(super) async fn online(stage: &Stage) -> Result<(), Miss> {
    until(READY_WITHIN, "eight phones online or further, each with its serial", async || {
        let seen = stage.phones().await?;
        let mut left = Vec::new();
        for phone in &stage.rack.file().phones {
            match seen.get(&phone.name) {
                None => left.push(format!("{} is not listed", phone.name)),
                Some(view)
                    if !matches!(view.state, PhoneState::Online | PhoneState::Provisioning | PhoneState::Ready) =>
                {
                    left.push(format!("{} is {} ({})", phone.name, view.state.as_str(), view.why));
                }
                Some(view) if view.serial.as_ref().map(|serial| serial.as_str()) != phone.serial.as_deref() => {
                    left.push(format!("{} has serial {:?}", phone.name, view.serial));
                }
                Some(_) => {}
            }
        }
        nothing_left(left)
    })
    .await
}

/// Each phone reports the agent in version 1, and the phone itself says the same; who had it was left alone.
pub(super) async fn agent_installed(stage: &Stage) -> Result<(), Miss> {
    stage.all_ready(&PHONES).await?;
    until(READY_WITHIN, "version 1 of the agent on eight phones, installed once where it was missing", async || {
        let seen = stage.phones().await?;
        let mut left = Vec::new();
        for spec in &stage.rack.file().phones {
            let reported = seen.get(&spec.name).and_then(|view| view.agent.as_ref()).map(|agent| agent.version_code.0);
            if reported != Some(1) {
                left.push(format!("farmhand reports version {reported:?} on {}", spec.name));
            }
            let Some(cable) = stage.rack.phone(&spec.name) else { continue };
            let state = cable.phone().state();
            let installed = state.packages.get(AGENT).map(|(version, _)| *version);
            let installs = if spec.packages.is_empty() { 1 } else { 0 };
            if (installed, state.installs) != (Some(1), installs) {
                left.push(format!("{} itself has version {installed:?} after {} installs", spec.name, state.installs));
            }
        }
        nothing_left(left)
    })
    .await
}

/// A phone that is unplugged is absent within two seconds, and ready again once it is back.
pub(super) async fn gone(stage: &Stage) -> Result<(), Miss> {
    stage.all_ready(&["P2"]).await?;
    stage.hold("P2", Hand::Out).await?;
    let absent = absent(stage, "P2").await;
    stage.hold("P2", Hand::In).await?;
    absent?;
    stage.all_ready(&["P2"]).await
}

/// The phone is shown as absent in time.
pub(super) async fn absent(stage: &Stage, name: &str) -> Result<(), Miss> {
    until(GONE_WITHIN, &format!("{name} absent"), async || {
        let phone = stage.phone(name).await?;
        match phone.state {
            PhoneState::Absent => Ok(()),
            other => Err(format!("{} ({})", other.as_str(), phone.why)),
        }
    })
    .await
}

/// A phone that was given to another program has no connection of the daemon's, also after a kill of it, until it is taken back.
pub(super) async fn detached(stage: &mut Stage) -> Result<(), Miss> {
    stage.all_ready(&["P2", "P3"]).await?;
    let slot = stage.rack.file().phones.iter().find(|phone| phone.name == "P2").and_then(|phone| phone.slot.clone());
    let slot = slot.ok_or_else(|| miss("a slot of P2", "none"))?;
    stage.tell(&["phone", &slot, "detach"]).await?;
    left_alone(stage).await?;
    stage.daemon.kill().await.map_err(|error| miss("the daemon to be killed", error))?;
    stage.daemon.start_again().await.map_err(|error| miss("the daemon to start again", error))?;
    stage.all_ready(&["P3"]).await?;
    left_alone(stage).await?;
    stage.tell(&["phone", &slot, "attach"]).await?;
    stage.all_ready(&["P2"]).await
}

async fn left_alone(stage: &Stage) -> Result<(), Miss> {
    until(GONE_WITHIN, "P2 detached, without a connection", async || {
        let phone = stage.phone("P2").await?;
        let connections = stage.rack.phone("P2").map(|cable| cable.phone().state().connections);
        match (phone.state, connections) {
            (PhoneState::Detached, Some(0)) => Ok(()),
            (state, connections) => Err(format!("{} ({}), {connections:?}", state.as_str(), phone.why)),
        }
    })
    .await
}
