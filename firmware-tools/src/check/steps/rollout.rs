//! The centre's upgrade goes out in waves, stops at a failure, and survives `kill -9`.

use std::collections::BTreeMap;
use std::time::Duration;

use farmhand::rack::snapshot::{RolloutPhoneState, RolloutState, RolloutView};

use super::super::stage::{FirstRollout, Stage, miss};
use super::super::until::{Miss, until};
use super::{line, nothing_left};
use crate::phone::Fault;

const AGENT: &str = "org.example.agent";
const APK: &str = "agent-2.apk";
/// The code of UpgradeDeviceAppNotice.
const UPGRADE: i32 = 1094;
const FIRST: [&str; 4] = ["P1", "P2", "P3", "P4"];
const SECOND: [&str; 4] = ["P5", "P6", "P7", "P8"];
/// Gathering takes 5 s, then the APK is fetched and checked.
const WAITING_WITHIN: Duration = Duration::from_secs(15);
/// Two waves of installs.
const DONE_WITHIN: Duration = Duration::from_secs(30);
/// The same after a new start: phones are found and lines opened anew.
const RESUMED_WITHIN: Duration = Duration::from_secs(60);

/// Four notices become one rollout, which installs nothing before it is approved.
pub(super) async fn waiting(stage: &mut Stage) -> Result<(), Miss> {
    let (rollout, notices, installs_before) = offer(stage, FIRST).await?;
    let sizes: Vec<usize> = rollout.waves.iter().map(|wave| wave.phones.len()).collect();
    if sizes != [1, 3] {
        return Err(miss("waves of 1 and 3", format!("{sizes:?}")));
    }
    if installs(stage, FIRST) != installs_before {
        return Err(miss("no install before the approval", format!("{:?}", installs(stage, FIRST))));
    }
    stage.first_rollout = Some(FirstRollout { id: rollout.id.to_string(), notices, failing: None, installs_before });
    Ok(())
}

/// Approved, it stops at the phone of the second wave that fails; the centre is told.
pub(super) async fn paused(stage: &mut Stage) -> Result<(), Miss> {
    let first = first(stage)?;
    let id = first.id.clone();
    let view = rollout(stage, &id).await.map_err(|why| miss("the first rollout", why))?;
    let names = names(stage).await?;
    let second_wave = view.waves.get(1).and_then(|wave| wave.phones.first()).map(|phone| phone.phone.to_string());
    let failing =
        second_wave.and_then(|id| names.get(&id).cloned()).ok_or_else(|| miss("a second wave", format!("{view:?}")))?;
    set_fault(stage, &failing)?;
    stage.tell(&["rollout", "approve", &id]).await?;
    becomes(stage, &id, RolloutState::Paused, DONE_WITHIN).await?;
    let view = rollout(stage, &id).await.map_err(|why| miss("the paused rollout", why))?;
    let state_of = |wanted: &str| {
        let phones = view.waves.iter().flat_map(|wave| &wave.phones);
        phones
            .clone()
            .find(|phone| names.get(phone.phone.as_str()).map(String::as_str) == Some(wanted))
            .map(|phone| phone.state)
    };
    let first_wave = view.waves.first().and_then(|wave| wave.phones.first()).map(|phone| phone.state);
    if first_wave != Some(RolloutPhoneState::Done) || state_of(&failing) != Some(RolloutPhoneState::Failed) {
        return Err(miss(&format!("the first wave done and {failing} failed"), format!("{:?}", view.waves)));
    }
    let notice = first.notices.get(&failing).copied();
    until(WAITING_WITHIN, &format!("a TaskResultNotice of {failing} for notice {notice:?}"), async || {
        let device = stage.device(&failing)?;
        let told = device.task_results.iter().any(|result| {
            Some(result.ref_message_id) == notice
                && !result.success
                && result.task_type == UPGRADE
                && !result.error.is_empty()
        });
        if told { Ok(()) } else { Err(format!("{:?}, errors {:?}", device.task_results, device.errors)) }
    })
    .await?;
    if let Some(first) = &mut stage.first_rollout {
        first.failing = Some(failing);
    }
    Ok(())
}

/// Resumed without the fault, it finishes; the centre is told the new version of all four; the APK was fetched once.
pub(super) async fn finished(stage: &mut Stage) -> Result<(), Miss> {
    let first = first(stage)?;
    let failing = first.failing.as_deref().ok_or_else(|| miss("a paused rollout", "rollout.paused has failed"))?;
    if let Some(cable) = stage.rack.phone(failing) {
        cable.phone().clear_faults();
    }
    stage.tell(&["rollout", "resume", &first.id]).await?;
    becomes(stage, &first.id, RolloutState::Finished, DONE_WITHIN).await?;
    upgraded(stage, FIRST, &first.installs_before).await?;
    let fetches = stage.rack.files().map(|files| files.fetches().get(APK).copied().unwrap_or(0));
    if fetches == Some(1) { Ok(()) } else { Err(miss("one fetch of the APK", format!("{fetches:?}"))) }
}

/// A second rollout is interrupted by `kill -9` once its first phone has the new version; it ends by itself after a new start.
pub(super) async fn resumed(stage: &mut Stage) -> Result<(), Miss> {
    let (rollout, _, before) = offer(stage, SECOND).await?;
    let id = rollout.id.to_string();
    stage.tell(&["rollout", "approve", &id]).await?;
    let total = |installs: &BTreeMap<&str, u64>| installs.values().sum::<u64>();
    let done = first_install(stage, &before).await?;
    stage.daemon.kill().await.map_err(|error| miss("the daemon to be killed", error))?;
    let at_the_kill = total(&installs(stage, SECOND)) - total(&before);
    stage.daemon.start_again().await.map_err(|error| miss("the daemon to start again", error))?;
    if at_the_kill >= SECOND.len() as u64 {
        return Err(miss("a kill in the middle", format!("{at_the_kill} of 4 were installed after {done}")));
    }
    becomes(stage, &id, RolloutState::Finished, RESUMED_WITHIN).await?;
    upgraded(stage, SECOND, &before).await
}

/// Waits for the first install of the four, looking much more often than [`until`] does: the kill must come in the middle.
async fn first_install(stage: &Stage, before: &BTreeMap<&'static str, u64>) -> Result<&'static str, Miss> {
    let deadline = tokio::time::Instant::now() + DONE_WITHIN;
    while tokio::time::Instant::now() < deadline {
        let now = installs(stage, SECOND);
        if let Some((name, _)) =
            now.iter().find(|(name, count)| before.get(*name).is_some_and(|before| *count > before))
        {
            return Ok(name);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Err(miss("a first install", format!("{:?}", installs(stage, SECOND))))
}

/// The centre offers the upgrade to four phones; gives the one rollout that came of it.
async fn offer(
    stage: &Stage,
    phones: [&'static str; 4],
) -> Result<(RolloutView, BTreeMap<String, i64>, BTreeMap<&'static str, u64>), Miss> {
    stage.all_ready(&phones).await?;
    for name in phones {
        line::connected(stage, name, RESUMED_WITHIN).await?;
    }
    let installs_before = installs(stage, phones);
    let known = stage.rollouts().await.map_err(|why| miss("the list of rollouts", why))?;
    let targets = phones.map(str::to_owned);
    let notices = stage.rack.upgrade(APK, &targets).await.map_err(|why| miss("four notices sent", why))?;
    let rollout = until(WAITING_WITHIN, "one new rollout of four phones, waiting for approval", async || {
        let rollouts = stage.rollouts().await?;
        let new: Vec<&RolloutView> =
            rollouts.iter().filter(|rollout| known.iter().all(|old| old.id != rollout.id)).collect();
        match new.as_slice() {
            [one] if one.state == RolloutState::WaitingApproval => {
                let count: usize = one.waves.iter().map(|wave| wave.phones.len()).sum();
                if count == 4 { Ok((*one).clone()) } else { Err(format!("{count} phones: {:?}", one.waves)) }
            }
            other => Err(format!("{:?}", other.iter().map(|one| (&one.id, one.state, &one.why)).collect::<Vec<_>>())),
        }
    });
    Ok((rollout.await?, notices, installs_before))
}

/// Each phone has version 2 after exactly one install, and the centre was told.
async fn upgraded(stage: &Stage, phones: [&'static str; 4], before: &BTreeMap<&str, u64>) -> Result<(), Miss> {
    until(WAITING_WITHIN, "version 2 on four phones after one install each, reported to the centre", async || {
        let mut left = Vec::new();
        for name in phones {
            let state = stage.rack.phone(name).map(|cable| cable.phone().state()).ok_or("no such phone")?;
            let version = state.packages.get(AGENT).map(|(version, _)| *version);
            let installs = state.installs - before.get(name).copied().unwrap_or_default();
            if (version, installs) != (Some(2), 1) {
                left.push(format!("{name} has version {version:?} after {installs} installs"));
            }
            let told = stage.device(name)?.device_info.unwrap_or_default();
            if told.apps.first().map(|app| app.version_code) != Some(2) {
                left.push(format!("the centre was told of {name}: {:?}", told.apps));
            }
        }
        nothing_left(left)
    })
    .await
}

async fn rollout(stage: &Stage, id: &str) -> Result<RolloutView, String> {
    let rollouts = stage.rollouts().await?;
    rollouts.into_iter().find(|rollout| rollout.id.as_str() == id).ok_or_else(|| format!("no rollout {id}"))
}

async fn becomes(stage: &Stage, id: &str, wanted: RolloutState, limit: Duration) -> Result<(), Miss> {
    until(limit, &format!("rollout {id} {}", wanted.as_str()), async || {
        let rollout = rollout(stage, id).await?;
        if rollout.state == wanted {
            Ok(())
        } else {
            Err(format!("{} ({}): {:?}", rollout.state.as_str(), rollout.why, rollout.waves))
        }
    })
    .await
}

fn first(stage: &Stage) -> Result<&FirstRollout, Miss> {
    stage.first_rollout.as_ref().ok_or_else(|| miss("a rollout that waits", "rollout.waiting has failed"))
}

fn set_fault(stage: &Stage, name: &str) -> Result<(), Miss> {
    let cable = stage.rack.phone(name).ok_or_else(|| miss("a phone in the rack file", name))?;
    cable.phone().set_fault(Fault::InstallFails { reason: "INSTALL_FAILED_NO_MATCHING_ABIS".to_owned() });
    Ok(())
}

/// The phones' names in the rack file, by the daemon's ids.
async fn names(stage: &Stage) -> Result<BTreeMap<String, String>, Miss> {
    let phones = stage.phones().await.map_err(|why| miss("the phones' ids", why))?;
    Ok(phones.into_iter().map(|(name, view)| (view.id.to_string(), name)).collect())
}

/// How often each phone has installed something.
fn installs(stage: &Stage, phones: [&'static str; 4]) -> BTreeMap<&'static str, u64> {
    let count = |name| stage.rack.phone(name).map_or(0, |cable| cable.phone().state().installs);
    phones.into_iter().map(|name| (name, count(name))).collect()
}
