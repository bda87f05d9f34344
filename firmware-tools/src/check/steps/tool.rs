//! Work on one phone by the command line, `farmhand phone A8 …`, looked at from both ends: what it prints, and what the phone has.

use std::path::PathBuf;
use std::time::Duration;

use farmhand::phone::trace::{Happening, TracePage};
use farmhand::rack::lease::Tool;

use super::super::stage::{Stage, miss};
use super::super::until::{Miss, until};
use crate::phone::PhoneStateView;
use crate::rack::test_apks;

/// The phone that is worked on.
const PHONE: &str = "P8";
/// What is pushed: more than a message carries, and no multiple of one.
const FILE_LEN: usize = (3 << 20) + 17;
/// Where on the phone.
const REMOTE: &str = "/data/local/tmp/demo-check.bin";
/// An app that no other step knows, and its package.
const APP: (&str, &str) = ("other-package-1.apk", "org.example.other");
/// The model hears of a lease at once.
const LEASE_WITHIN: Duration = Duration::from_secs(2);
/// A restart is seen by the phone at once.
const DOWN_WITHIN: Duration = Duration::from_secs(5);

/// `hold`: the phone is shown as held, by whom and why; a rollout would wait.
pub(super) async fn hold(stage: &Stage) -> Result<(), Miss> {
    stage.all_ready(&[PHONE]).await?;
    tell(stage, &["hold", "--for", "2h", "--reason", "the battery is looked at"]).await?;
    until(LEASE_WITHIN, "P8 held for 2 h, with the reason", async || {
        let leases = stage.phone(PHONE).await?.leases;
        let held = leases.iter().any(|lease| {
            let lasts_ms = lease.until.0 - lease.since.0;
            lease.tool == Tool::Hold && lease.reason == "the battery is looked at" && lasts_ms == 7_200_000
        });
        if held { Ok(()) } else { Err(format!("{leases:?}")) }
    })
    .await
}

/// `release`: it is free again.
pub(super) async fn release(stage: &Stage) -> Result<(), Miss> {
    tell(stage, &["release"]).await?;
    until(LEASE_WITHIN, "P8 held by nobody", async || {
        let leases = stage.phone(PHONE).await?.leases;
        if leases.iter().any(|lease| lease.tool == Tool::Hold) { Err(format!("{leases:?}")) } else { Ok(()) }
    })
    .await
}

/// `shell`: output, errors and exit code of a command are its own.
pub(super) async fn shell(stage: &Stage) -> Result<(), Miss> {
    stage.all_ready(&[PHONE]).await?;
    let serial =
        stage.rack.file().phones.iter().find(|phone| phone.name == PHONE).and_then(|phone| phone.serial.clone());
    let output = run(stage, &["shell", "getprop ro.serialno; echo aside >&2; exit 7"]).await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let seen = (Some(text(&output.stdout)), text(&output.stderr), output.status.code());
    let wanted = (serial, "aside".to_owned(), Some(7));
    if seen == wanted { Ok(()) } else { Err(miss(&format!("{wanted:?}"), format!("{seen:?}"))) }
}

/// `push`: the phone has the file, byte for byte.
pub(super) async fn push(stage: &Stage) -> Result<(), Miss> {
    stage.all_ready(&[PHONE]).await?;
    let (path, content) = local(stage)?;
    let told = tell(stage, &["push", &path, REMOTE]).await?;
    said(&told, "pushed 1 file, 3.1 MB")?;
    let there = stage.rack.phone(PHONE).and_then(|cable| cable.phone().file(REMOTE));
    match there {
        Some(there) if there == content => Ok(()),
        other => Err(miss("the same bytes on the phone", format!("{:?} bytes", other.map(|bytes| bytes.len())))),
    }
}

/// `pull`: the same file comes back.
pub(super) async fn pull(stage: &Stage) -> Result<(), Miss> {
    stage.all_ready(&[PHONE]).await?;
    let (path, content) = local(stage)?;
    tell(stage, &["push", &path, REMOTE]).await?;
    let back = in_dir(stage, "pulled.bin");
    let told = tell(stage, &["pull", REMOTE, &back.display().to_string()]).await?;
    said(&told, "pulled 1 file, 3.1 MB")?;
    let came = std::fs::read(&back).map_err(|error| miss("the pulled file", error))?;
    if came == content { Ok(()) } else { Err(miss("the same bytes", format!("{} bytes", came.len()))) }
}

/// `install`: the phone has the app, once.
pub(super) async fn install(stage: &Stage) -> Result<(), Miss> {
    stage.all_ready(&[PHONE]).await?;
    let before = phone(stage)?.installs;
    let (file, package) = APP;
    tell(stage, &["install", &test_apks().join(file).display().to_string()]).await?;
    let now = phone(stage)?;
    let version = now.packages.get(package).map(|(code, _)| *code);
    match (version, now.installs - before) {
        (Some(1), 1) => Ok(()),
        other => Err(miss("version 1 after one install", format!("{other:?}"))),
    }
}

/// `logcat`: what the phone's parts said.
pub(super) async fn logcat(stage: &Stage) -> Result<(), Miss> {
    stage.all_ready(&[PHONE]).await?;
    let log = tell(stage, &["logcat", "-d"]).await?;
    said(&log, "--------- beginning of main")?;
    said(&log, "I ActivityManager: ")
}

/// `screenshot`: a picture as large as the phone's screen.
pub(super) async fn screenshot(stage: &Stage) -> Result<(), Miss> {
    stage.all_ready(&[PHONE]).await?;
    let path = in_dir(stage, "screen.png");
    tell(stage, &["screenshot", &path.display().to_string()]).await?;
    let file = std::fs::File::open(&path).map_err(|error| miss("the picture", error))?;
    let picture = png::Decoder::new(std::io::BufReader::new(file)).read_info();
    let picture = picture.map_err(|error| miss("a PNG", error))?;
    let size = format!("Physical size: {}x{}", picture.info().width, picture.info().height);
    said(&tell(stage, &["shell", "wm size"]).await?, &size)
}

/// `identify`: a dark screen is lit, and the phone vibrates.
pub(super) async fn identify(stage: &Stage) -> Result<(), Miss> {
    stage.all_ready(&[PHONE]).await?;
    tell(stage, &["shell", "input keyevent KEYCODE_SLEEP"]).await?;
    let before = phone(stage)?;
    if before.screen_on {
        return Err(miss("a dark screen first", "a lit one"));
    }
    said(&tell(stage, &["identify"]).await?, "has lit its screen and vibrated")?;
    let after = phone(stage)?;
    match (after.screen_on, after.vibrations - before.vibrations) {
        (true, 3) => Ok(()),
        other => Err(miss("a lit screen and three vibrations", format!("{other:?}"))),
    }
}

/// `reboot`: the phone restarts once, and is ready again.
pub(super) async fn reboot(stage: &Stage) -> Result<(), Miss> {
    stage.all_ready(&[PHONE]).await?;
    let before = phone(stage)?.reboots;
    tell(stage, &["reboot"]).await?;
    until(DOWN_WITHIN, "one restart", async || {
        let reboots = stage.rack.phone(PHONE).map(|cable| cable.phone().state().reboots);
        if reboots == Some(before + 1) { Ok(()) } else { Err(format!("{reboots:?} after {before}")) }
    })
    .await?;
    stage.all_ready(&[PHONE]).await
}

/// `trace`: the story tells of a hold and of the phone being ready.
pub(super) async fn trace(stage: &Stage) -> Result<(), Miss> {
    tell(stage, &["hold", "--for", "10m", "--reason", "to be told later"]).await?;
    tell(stage, &["release"]).await?;
    until(LEASE_WITHIN, "a story with a lease and with `ready`", async || {
        let slot = slot(stage).map_err(|miss| miss.to_string())?;
        let words = ["phone", &slot, "trace", "--json"];
        let page: TracePage = stage.daemon.ask(&words).await.map_err(|error| error.to_string())?;
        let held = |what: &Happening| matches!(what, Happening::Lease { what } if what.contains("to be told later"));
        let ready = |what: &Happening| matches!(what, Happening::State { to, .. } if to.as_str() == "ready");
        let any = |wanted: &dyn Fn(&Happening) -> bool| page.events.iter().any(|event| wanted(&event.what));
        if any(&held) && any(&ready) { Ok(()) } else { Err(format!("{:?}", page.events)) }
    })
    .await
}

/// What it prints, if it succeeds.
async fn tell(stage: &Stage, words: &[&str]) -> Result<String, Miss> {
    let output = run(stage, words).await?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(miss(&format!("`farmhand phone A8 {}` to succeed", words.join(" ")), why))
}

async fn run(stage: &Stage, words: &[&str]) -> Result<std::process::Output, Miss> {
    let slot = slot(stage)?;
    let all = [&["phone", slot.as_str()], words].concat();
    stage.daemon.run(&all).await.map_err(|error| miss("an end of the command", error))
}

fn slot(stage: &Stage) -> Result<String, Miss> {
    let phone = stage.rack.file().phones.iter().find(|phone| phone.name == PHONE);
    phone.and_then(|phone| phone.slot.clone()).ok_or_else(|| miss("a slot of P8", "none"))
}

fn phone(stage: &Stage) -> Result<PhoneStateView, Miss> {
    let cable = stage.rack.phone(PHONE).ok_or_else(|| miss("a phone in the rack file", PHONE))?;
    Ok(cable.phone().state())
}

fn said(text: &str, wanted: &str) -> Result<(), Miss> {
    if text.contains(wanted) { Ok(()) } else { Err(miss(&format!("`{wanted}`"), text)) }
}

/// A file to be pushed, and what is in it.
fn local(stage: &Stage) -> Result<(String, Vec<u8>), Miss> {
    let content: Vec<u8> = (0..FILE_LEN as u64).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 13) as u8).collect();
    let path = in_dir(stage, "pushed.bin");
    std::fs::write(&path, &content).map_err(|error| miss("a file to push", error))?;
    Ok((path.display().to_string(), content))
}

/// A path beside the daemon's log.
fn in_dir(stage: &Stage, name: &str) -> PathBuf {
    stage.daemon.log().with_file_name(name)
}
