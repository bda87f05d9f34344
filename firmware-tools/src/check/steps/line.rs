//! Each phone has its line to the centre: the reference server's own record.

use std::collections::BTreeMap;
use std::time::Duration;

use farmhand::rack::snapshot::LineState;

use super::super::stage::{PHONES, READY_WITHIN, Stage, miss};
use super::super::until::{Miss, until};
use super::nothing_left;
use crate::cable::Hand;
use crate::rack_file;

/// Three of the demo's intervals, and some patience.
const HEARTBEATS_WITHIN: Duration = Duration::from_secs(12);
/// From the unplugging to the end of the session.
const CLOSED_WITHIN: Duration = Duration::from_secs(5);
/// The daemon tries again with a backoff and jitter.
const BACK_WITHIN: Duration = Duration::from_secs(60);

/// The centre knows eight devices by their IMEI, and what it was told of each is true.
pub(super) async fn registered(stage: &Stage) -> Result<(), Miss> {
    stage.all_ready(&PHONES).await?;
    until(READY_WITHIN, "eight devices registered, each described by PostDeviceInfoNotice with agent 1", async || {
        let mut left = Vec::new();
        for phone in &stage.rack.file().phones {
            match as_told(stage, phone) {
                Ok(()) => {}
                Err(why) => left.push(format!("{}: {why}", phone.name)),
            }
        }
        for (name, view) in stage.phones().await? {
            if view.line.state != LineState::Registered {
                left.push(format!("farmhand says of the line of {name}: {:?} ({})", view.line.state, view.line.why));
            }
        }
        nothing_left(left)
    })
    .await
}

fn as_told(stage: &Stage, phone: &rack_file::Phone) -> Result<(), String> {
    let device = stage.device(&phone.name)?;
    if !device.connected {
        return Err(format!("not connected: {:?}", device.ended_why));
    }
    let info = device.device_info.ok_or("no PostDeviceInfoNotice has come")?;
    let sdk = i32::try_from(phone.sdk).unwrap_or(0);
    if (info.brand.as_str(), info.model.as_str(), info.sdk) != (phone.brand.as_str(), phone.model.as_str(), sdk) {
        return Err(format!("described as {info:?}"));
    }
    let apps: Vec<(&str, bool)> = info.apps.iter().map(|app| (app.package.as_str(), app.version_code >= 1)).collect();
    if apps != [("org.example.agent", true)] || Some(info.imei.as_str()) != stage.rack.imei(&phone.name) {
        return Err(format!("described as {info:?}"));
    }
    Ok(())
}

/// Each device sends heartbeats, on the session that it had.
pub(super) async fn heartbeat(stage: &Stage) -> Result<(), Miss> {
    let before = beats(stage)?;
    until(HEARTBEATS_WITHIN, "two more heartbeats of each device on the same session", async || {
        let now = beats(stage).map_err(|miss| miss.seen)?;
        let late = now.iter().filter(|(name, (sessions, beats))| {
            let (sessions_before, beats_before) = before.get(*name).copied().unwrap_or_default();
            *sessions != sessions_before || *beats < beats_before + 2
        });
        nothing_left(late.map(|(name, seen)| format!("{name}: (sessions, heartbeats) {seen:?}")).collect())
    })
    .await?;
    until(HEARTBEATS_WITHIN, "an acknowledged heartbeat of each phone in `farmhand phones --json`", async || {
        let phones = stage.phones().await?;
        nothing_left(
            phones
                .iter()
                .filter(|(_, view)| view.line.last_heartbeat.is_none())
                .map(|(name, _)| name.clone())
                .collect(),
        )
    })
    .await
}

/// Sessions and heartbeats of each phone.
fn beats(stage: &Stage) -> Result<BTreeMap<&'static str, (u32, u32)>, Miss> {
    let device = |name| {
        let device = stage.device(name).map_err(|why| miss("a record of each device", why))?;
        Ok((name, (device.sessions, device.heartbeats)))
    };
    PHONES.into_iter().map(device).collect()
}

/// The session of a phone that is unplugged ends; it comes back with the phone.
pub(super) async fn closed(stage: &Stage) -> Result<(), Miss> {
    stage.all_ready(&["P4"]).await?;
    connected(stage, "P4", READY_WITHIN).await?;
    stage.hold("P4", Hand::Out).await?;
    let closed = until(CLOSED_WITHIN, "the session of P4 ended", async || match stage.device("P4")? {
        device if device.connected => Err("it is still open".to_owned()),
        _ => Ok(()),
    })
    .await;
    stage.hold("P4", Hand::In).await?;
    closed?;
    connected(stage, "P4", BACK_WITHIN).await
}

/// Every device registers anew after the server was killed and started again.
pub(super) async fn back(stage: &Stage) -> Result<(), Miss> {
    let central = stage.rack.central().ok_or_else(|| miss("[central] in the rack file", "none"))?;
    for name in PHONES {
        connected(stage, name, READY_WITHIN).await?;
    }
    let before = beats(stage)?;
    central.stop().await;
    let away = until(HEARTBEATS_WITHIN, "no line registered while the server is away", async || {
        let phones = stage.phones().await?;
        let open = phones.iter().filter(|(_, view)| view.line.state == LineState::Registered);
        nothing_left(open.map(|(name, _)| format!("{name} is still registered")).collect())
    })
    .await;
    central.resume().await.map_err(|error| miss("the server to listen again", error))?;
    away?;
    until(BACK_WITHIN, "eight new sessions", async || {
        let now = beats(stage).map_err(|miss| miss.seen)?;
        let same = |name: &str, sessions: u32| before.get(name).is_some_and(|(before, _)| *before == sessions);
        let away = now.iter().filter(|(name, (sessions, _))| {
            same(name, *sessions) || !stage.device(name).is_ok_and(|device| device.connected)
        });
        nothing_left(away.map(|(name, _)| (*name).to_owned()).collect())
    })
    .await
}

/// The phone's session is open.
pub(super) async fn connected(stage: &Stage, name: &str, limit: Duration) -> Result<(), Miss> {
    until(limit, &format!("a session of {name}"), async || match stage.device(name)? {
        device if device.connected => Ok(()),
        device => Err(format!("none: {:?}", device.ended_why)),
    })
    .await
}
