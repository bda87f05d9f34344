//! The hub is read and switched over its serial line: `farmhand hubs --json`, `farmhand hub H1 port 3 off`.

use std::time::Duration;

use farmhand::rack::snapshot::{HubState, HubView, PortMode};

use super::super::stage::{PHONES, Stage, miss};
use super::super::until::{Miss, until};
use super::{nothing_left, phone};
use crate::hub::{LineFault, Mode};

/// Two rounds of readings and some patience.
const READING_WITHIN: Duration = Duration::from_secs(15);
/// A hub that is silent is shown as stale within this time.
const STALE_WITHIN: Duration = Duration::from_secs(10);
/// A line that is whole again: the daemon reopens it with a backoff.
const LIVE_WITHIN: Duration = Duration::from_secs(30);

/// Every port is read with a current that moves, and belongs to its slot.
pub(super) async fn reading(stage: &Stage) -> Result<(), Miss> {
    stage.all_ready(&PHONES).await?;
    let first = until(READING_WITHIN, "H1 live with eight ports that feed a phone each", async || {
        let hub = stage.hub().await?;
        whole(stage, &hub).map(|()| hub)
    })
    .await?;
    until(READING_WITHIN, "new readings with other currents", async || {
        let hub = stage.hub().await?;
        let currents = |hub: &HubView| hub.ports.iter().map(|port| port.current_milliamps).collect::<Vec<_>>();
        if hub.last_reading > first.last_reading && currents(&hub) != currents(&first) {
            Ok(())
        } else {
            Err(format!("{:?} at {:?}", currents(&hub), hub.last_reading))
        }
    })
    .await
}

fn whole(stage: &Stage, hub: &HubView) -> Result<(), String> {
    let mut left = Vec::new();
    if hub.state != HubState::Live {
        left.push(format!("H1 is stale: {}", hub.why));
    }
    if !hub.identity.as_ref().is_some_and(|identity| identity.contains("cambrionix")) {
        left.push(format!("H1 says of itself {:?}", hub.identity));
    }
    if !hub.temperature_celsius.is_some_and(|celsius| (20.0..60.0).contains(&celsius)) {
        left.push(format!("its temperature is {:?}", hub.temperature_celsius));
    }
    if !hub.supply_volts.is_some_and(|volts| (4.5..5.5).contains(&volts)) {
        left.push(format!("its supply is {:?} V", hub.supply_volts));
    }
    for phone in &stage.rack.file().phones {
        let number = phone.port.as_ref().map(|port| *port.as_ref());
        let Some(port) = hub.ports.iter().find(|port| Some(port.port.0) == number) else {
            left.push(format!("the port of {} is not listed", phone.name));
            continue;
        };
        let slot = port.slot.as_ref().map(|slot| slot.as_str());
        if port.mode != PortMode::Sync || !port.attached || port.current_milliamps == 0 || slot != phone.slot.as_deref()
        {
            left.push(format!("port {}: {port:?}", port.port));
        }
    }
    nothing_left(left)
}

/// `off` takes the phone away, `sync` brings it back.
pub(super) async fn port_off(stage: &Stage) -> Result<(), Miss> {
    stage.all_ready(&["P3"]).await?;
    stage.tell(&["hub", "H1", "port", "3", "off"]).await?;
    let off = async {
        phone::absent(stage, "P3").await?;
        until(READING_WITHIN, "port 3 in off, feeding nothing, by the hub's readings", async || {
            let hub = stage.hub().await?;
            let port = hub.ports.iter().find(|port| port.port.0 == 3).ok_or("port 3 is not listed")?;
            match (port.mode, port.current_milliamps) {
                (PortMode::Off, 0) => Ok(()),
                _ => Err(format!("{port:?}")),
            }
        })
        .await?;
        match board_mode(stage, 3) {
            Some(Mode::Off) => Ok(()),
            other => Err(miss("port 3 of the hub itself in off", format!("{other:?}"))),
        }
    }
    .await;
    stage.tell(&["hub", "H1", "port", "3", "sync"]).await?;
    off?;
    stage.all_ready(&["P3"]).await
}

fn board_mode(stage: &Stage, port: usize) -> Option<Mode> {
    stage.rack.hub("H1")?.modes().get(port.checked_sub(1)?).copied()
}

/// A cut line makes the readings stale in time; they are live again once it is whole.
pub(super) async fn stale(stage: &Stage) -> Result<(), Miss> {
    let state_is = async |limit: Duration, wanted: HubState| {
        until(limit, &format!("H1 {wanted:?}"), async || {
            let hub = stage.hub().await?;
            if hub.state == wanted { Ok(()) } else { Err(format!("{:?} ({})", hub.state, hub.why)) }
        })
        .await
    };
    let hub = stage.rack.hub("H1").ok_or_else(|| miss("hub H1 in the rack file", "none"))?;
    state_is(READING_WITHIN, HubState::Live).await?;
    hub.set_fault(LineFault::Cut);
    let stale = state_is(STALE_WITHIN, HubState::Stale).await;
    hub.set_fault(LineFault::None);
    stale?;
    state_is(LIVE_WITHIN, HubState::Live).await
}
