//! What the owner wants to be so on each phone beside the agent's version: it is set, kept, set again where it was lost, and told.

use std::time::Duration;

use farmhand::rack::snapshot::{PhoneState, SettingState, SettingView};

use super::yard::{Setup, Yard, said};
use super::{Place, unwritten};
use crate::check::{Miss, miss, until};

/// Its points.
pub(super) const POINTS: &[&str] = &[
    "desired.drift_is_set_again",
    "desired.agent_is_started",
    "desired.service_is_its_health",
    "desired.permissions",
    "desired.settings",
    "desired.battery_exempt",
    "desired.recipe_of_the_rom",
    "desired.kept_over_restart",
    "desired.lost_by_restart",
    "desired.best_effort",
    "desired.nothing_unasked",
];

pub(super) async fn look(point: &str, place: &Place) -> Result<String, Miss> {
    match point {
        "desired.permissions" => permissions(place).await,
        "desired.settings" => settings(place).await,
        "desired.battery_exempt" => battery(place).await,
        "desired.recipe_of_the_rom" => recipe(place).await,
        "desired.agent_is_started" => started(place).await,
        "desired.service_is_its_health" => served(place).await,
        "desired.kept_over_restart" => kept(place).await,
        "desired.lost_by_restart" => lost(place).await,
        "desired.drift_is_set_again" => drift(place).await,
        "desired.best_effort" => best_effort(place).await,
        "desired.nothing_unasked" => unasked(place).await,
        other => unwritten(other),
    }
}

/// Soon after a phone is ready.
const LOOKED_WITHIN: Duration = Duration::from_secs(60);
/// `check_s = 60`, its jitter, and the look itself.
const NEXT_LOOK_WITHIN: Duration = Duration::from_secs(120);
/// A phone that restarts, comes back and is looked at.
const BACK_WITHIN: Duration = Duration::from_secs(120);
/// It asks for the camera, the microphone and the internet.
const TRIAL: &str = "org.example.trial";

/// One phone with that package, and what is wanted of it.
fn trial(wanted: &str) -> Setup {
    let config = format!("[agent]\npackage = \"{TRIAL}\"\n{wanted}");
    Setup::of(1).phone(1, "packages = [\"trial-1.apk\"]").config(&config)
}

/// How one thing stands once it does so.
async fn becomes(yard: &Yard, name: &str, state: SettingState, limit: Duration) -> Result<SettingView, Miss> {
    until(limit, &format!("{name} {}", state.as_str()), async || {
        let found = setting(yard, name).await?;
        if found.state == state { Ok(found) } else { Err(format!("{found:?}")) }
    })
    .await
}

async fn setting(yard: &Yard, name: &str) -> Result<SettingView, String> {
    let phone = yard.phones().await?.remove("A1").ok_or("no A1")?;
    let found = phone.upkeep.settings.iter().find(|setting| setting.name == name).cloned();
    found.ok_or_else(|| format!("{:?}", phone.upkeep))
}

/// What the phone itself says.
async fn asked(yard: &Yard, line: &str, wanted: &str) -> Result<String, Miss> {
    said(&yard.tell(&["phone", "A1", "shell", line]).await?, &[wanted])
}

async fn permissions(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, trial("permissions = [\"CAMERA\", \"READ_SMS\"]\n")).await?;
    becomes(&yard, "permission CAMERA", SettingState::Set, LOOKED_WITHIN).await?;
    asked(&yard, &format!("dumpsys package {TRIAL}"), "android.permission.CAMERA: granted=true").await?;
    let other = becomes(&yard, "permission READ_SMS", SettingState::NotHere, LOOKED_WITHIN).await?;
    yard.stop(format!("CAMERA granted; READ_SMS: {}", other.why)).await
}

async fn settings(place: &Place) -> Result<String, Miss> {
    let wanted =
        "[agent.settings.global]\nstay_on_while_plugged_in = 7\n[agent.settings.system]\nscreen_brightness = 10\n";
    let yard = Yard::start(place, Setup::of(1).config(wanted)).await?;
    becomes(&yard, "setting global stay_on_while_plugged_in", SettingState::Set, LOOKED_WITHIN).await?;
    asked(&yard, "settings get global stay_on_while_plugged_in", "7").await?;
    asked(&yard, "settings get system screen_brightness", "10").await?;
    yard.stop("one of global and one of system".to_owned()).await
}

async fn battery(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(1).config("[agent]\nbattery_exempt = true\n")).await?;
    becomes(&yard, "doze whitelist", SettingState::Set, LOOKED_WITHIN).await?;
    asked(&yard, "dumpsys deviceidle whitelist", "user,org.example.agent,").await?;
    let bucket = becomes(&yard, "standby bucket", SettingState::Kept, LOOKED_WITHIN).await?;
    asked(&yard, "appops get org.example.agent AUTO_REVOKE_PERMISSIONS_IF_UNUSED", "ignore").await?;
    yard.stop(format!("on doze's whitelist, hibernation off; {} is as wanted", bucket.name)).await
}

/// A phone by Xiaomi has MIUI's switch for autostart, and one that only a hand finds.
async fn recipe(place: &Place) -> Result<String, Miss> {
    let setup = Setup::of(1).phone(1, "packages = [\"agent-1.apk\"]\nbrand = \"Xiaomi\"");
    let yard = Yard::start(place, setup.config("[agent]\nbattery_exempt = true\n")).await?;
    becomes(&yard, "autostart", SettingState::Set, LOOKED_WITHIN).await?;
    asked(&yard, "appops get org.example.agent 10008", "MIUIOP(10008): allow").await?;
    let shown = yard.tell(&["phone", "A1", "show"]).await?;
    said(&shown, &["any Android, MIUI and HyperOS", "battery saver needs a hand"])?;
    yard.stop("autostart set; the battery saver is told for a hand".to_owned()).await
}

/// Somebody ends the agent: the next look starts it.
async fn started(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(1).config("[agent]\nstart = \"launcher\"\ncheck_s = 60\n")).await?;
    becomes(&yard, "running", SettingState::Kept, LOOKED_WITHIN).await?;
    yard.tell(&["phone", "A1", "shell", "am force-stop org.example.agent"]).await?;
    let running = becomes(&yard, "running", SettingState::Set, NEXT_LOOK_WITHIN).await?;
    asked(&yard, "pidof org.example.agent", "47").await?;
    yard.stop(format!("{}; it was started", running.why)).await
}

/// Its process is there, but not its service: it does not work.
async fn served(place: &Place) -> Result<String, Miss> {
    let wanted = "[agent]\nstart = \"service:.Sync\"\nhealth = \"service:.Sync\"\n";
    let yard = Yard::start(place, Setup::of(1).config(wanted)).await?;
    becomes(&yard, "running", SettingState::Set, LOOKED_WITHIN).await?;
    let service = "dumpsys activity services org.example.agent/.Sync";
    asked(&yard, service, "app=ProcessRecord{").await?;
    yard.stop("its service was not there, and was started".to_owned()).await
}

/// What the phone keeps over a restart is not set again.
async fn kept(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(1).config("[agent]\nbattery_exempt = true\n")).await?;
    becomes(&yard, "doze whitelist", SettingState::Set, LOOKED_WITHIN).await?;
    yard.phone("A1")?.reboot();
    let after = becomes(&yard, "doze whitelist", SettingState::Kept, BACK_WITHIN).await?;
    match (after.drifts, after.restarts_outlived) {
        (0, 1) => yard.stop("still so after a restart, no drift".to_owned()).await,
        _ => Err(miss("no drift, one restart outlived", format!("{after:?}"))),
    }
}

/// What its ROM forgets over a restart is set again, and counted.
async fn lost(place: &Place) -> Result<String, Miss> {
    let yard =
        Yard::start(place, Setup::of(1).config("[agent]\nbattery_exempt = true\nstart = \"launcher\"\n")).await?;
    becomes(&yard, "doze whitelist", SettingState::Set, LOOKED_WITHIN).await?;
    let phone = yard.phone("A1")?;
    phone.set_fault(crate::phone::Fault::ForgetsExemptions);
    phone.reboot();
    let after = until(BACK_WITHIN, "doze whitelist set again", async || {
        let found = setting(&yard, "doze whitelist").await?;
        if found.drifts == 1 { Ok(found) } else { Err(format!("{found:?}")) }
    })
    .await?;
    asked(&yard, "dumpsys deviceidle whitelist", "user,org.example.agent,").await?;
    asked(&yard, "pidof org.example.agent", "47").await?;
    if (after.state, after.lost_by_restart) != (SettingState::Set, 1) {
        return Err(miss("set again, lost by a restart", format!("{after:?}")));
    }
    said(&yard.tell(&["phone", "A1", "show"]).await?, &["lost once by a restart"])?;
    said(&yard.tell(&["phone", "A1", "trace"]).await?, &["doze whitelist"])?;
    yard.stop("set again, the agent started; show and trace tell it".to_owned()).await
}

/// Somebody changes a setting: the next look finds it.
async fn drift(place: &Place) -> Result<String, Miss> {
    let wanted = "[agent]\ncheck_s = 60\n[agent.settings.global]\nadb_enabled_timeout = 7\n";
    let yard = Yard::start(place, Setup::of(1).config(wanted)).await?;
    let name = "setting global adb_enabled_timeout";
    becomes(&yard, name, SettingState::Set, LOOKED_WITHIN).await?;
    yard.tell(&["phone", "A1", "shell", "settings put global adb_enabled_timeout 3"]).await?;
    let after = until(NEXT_LOOK_WITHIN, "it is set again", async || {
        let found = setting(&yard, name).await?;
        if found.drifts == 1 { Ok(found) } else { Err(format!("{found:?}")) }
    })
    .await?;
    asked(&yard, "settings get global adb_enabled_timeout", "7").await?;
    said(&yard.tell(&["phone", "A1", "show"]).await?, &[name, "lost once"])?;
    yard.stop(format!("{}; set again, and told as lost once", after.why)).await
}

/// What can't be set keeps neither the phone from being ready nor the rest from being set.
async fn best_effort(place: &Place) -> Result<String, Miss> {
    let wanted = "start = \"activity:.Main\"\nhealth = \"service:.Sync\"\npermissions = [\"CAMERA\"]\n";
    let yard = Yard::start(place, trial(wanted)).await?;
    let running = becomes(&yard, "running", SettingState::Refused, LOOKED_WITHIN).await?;
    becomes(&yard, "permission CAMERA", SettingState::Set, LOOKED_WITHIN).await?;
    let state = yard.phones().await.map_err(|why| miss("phones", why))?.remove("A1").map(|phone| phone.state);
    match state {
        Some(PhoneState::Ready) => yard.stop(format!("ready; running: {}; CAMERA granted", running.why)).await,
        other => Err(miss("A1 ready", format!("{other:?}"))),
    }
}

/// Without a word of the owner nothing is asked or changed.
async fn unasked(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(1)).await?;
    let whitelist = yard.tell(&["phone", "A1", "shell", "dumpsys deviceidle whitelist"]).await?;
    let phone = yard.phones().await.map_err(|why| miss("phones", why))?.remove("A1");
    let upkeep = phone.map(|phone| phone.upkeep).unwrap_or_default();
    if whitelist.contains("org.example.agent") || !upkeep.is_empty() {
        return Err(miss("nothing changed", format!("{whitelist} {upkeep:?}")));
    }
    said(&yard.tell(&["status"]).await?, &["[agent] permissions"])?;
    yard.stop("nothing was changed; status says that it is off, and how it is switched on".to_owned()).await
}
