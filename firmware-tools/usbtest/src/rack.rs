//! The part on dummy_hcd: 32 phones, each with Google's adbd behind a bus of its own.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::check::{Failure, check, result, until};
use crate::daemon::{self, CAREFUL, Daemon, MAY_RESET, Phone, User};
use crate::permission::while_permitting;
use crate::phone::{self, MISLABELLED, PHONES, TWINS};
use crate::quiet::quiet;

/// From the plug of 32 phones to the last one ready, in emulation on a busy machine.
const ALL_READY_MAX: Duration = Duration::from_secs(120);
/// From the start after a kill in mid-push: four tries to open a phone come before its reset.
const ALL_BACK_MAX: Duration = Duration::from_secs(150);
/// The same for one phone.
const READY_MAX: Duration = Duration::from_secs(60);
/// From the unplug until it is shown; the look itself takes a while in emulation.
const ABSENT_MAX: Duration = Duration::from_secs(10);
/// After the start: the threads that opened the store and the keys have ended.
const QUIET_AFTER: Duration = Duration::from_secs(12);
/// How many of the phones must be in the middle of a push.
const PUSHING_MIN: usize = 28;
/// How late a node's permission is set.
const LATE: Duration = Duration::from_millis(500);

pub(crate) fn run() -> Result<(), Failure> {
    phone::make_all()?;
    let mut daemon = Daemon::start("/state", CAREFUL, User::Root)?;
    sleep(QUIET_AFTER);
    let threads_before = daemon.threads()?;

    phone::plug_all()?;
    check("enumeration", || all_ready(&daemon, ALL_READY_MAX));
    check("32_phones", || quiet(&mut daemon, threads_before, |daemon| all_ready(daemon, READY_MAX).map(drop)));
    check("topology", || topology(&daemon));
    check("twins", || twins(&daemon));
    check("descriptor_serial", || descriptor_serial(&daemon));
    check("hotplug", || hotplug(&daemon));
    check("unplug_ready", || unplug_ready(&daemon));
    check("unplug_online", || unplug_online(&daemon));
    check("unplug_claiming", || unplug_claiming(&daemon));

    daemon.kill()?;
    check("killed_in_push", killed_in_push);
    phone::unplug_all()?;
    check("late_permission", late_permission);
    println!("the daemons' log:\n{}", daemon::log());
    Ok(())
}

/// The phones that are ready, by path.
fn ready(daemon: &Daemon) -> Result<BTreeSet<String>, Failure> {
    let phones = daemon.phones()?.into_iter().filter(|phone| phone.state == "ready");
    Ok(phones.map(|phone| phone.path).collect())
}

fn all_ready(daemon: &Daemon, most: Duration) -> Result<String, Failure> {
    let (ready, took) = until("32 phones are ready", most, || {
        let ready = ready(daemon)?;
        if ready.len() == PHONES { Ok(ready) } else { Err(missing(daemon, &ready)?.into()) }
    })?;
    Ok(format!("{} phones ready after {:.1} s", ready.len(), took.as_secs_f64()))
}

fn missing(daemon: &Daemon, ready: &BTreeSet<String>) -> Result<String, Failure> {
    let others: Vec<String> = daemon
        .phones()?
        .into_iter()
        .filter(|phone| !ready.contains(&phone.path))
        .map(|phone| format!("{} at {} {}: {}", phone.id, phone.path, phone.state, phone.why))
        .collect();
    Ok(format!("{} are ready; {}", ready.len(), others.join(" | ")))
}

/// Each phone with path, speed, claimed current and controller, and each controller with what is on it.
fn topology(daemon: &Daemon) -> Result<String, Failure> {
    let snapshot = daemon.read("/api/snapshot")?;
    let phones = snapshot["phones"].as_array().ok_or("no phones")?;
    for phone in phones.iter().filter(|phone| phone["state"] == "ready") {
        let usb = &phone["usb"];
        let fits = usb["speed"] == "high"
            && usb["claimed_milliamps"] == 250
            && usb["hubs"].as_array().is_some_and(Vec::is_empty)
            && usb["controller"].as_str().is_some_and(|name| name.starts_with("dummy_hcd"));
        if !fits {
            return Err(format!("{}: {usb}", phone["id"]).into());
        }
    }
    let controllers = snapshot["controllers"].as_array().ok_or("no controllers")?;
    let with_one = controllers.iter().filter(|controller| controller["devices"] == 1).count();
    if with_one != PHONES {
        return Err(format!("{with_one} controllers with one device, not {PHONES}: {controllers:?}").into());
    }
    Ok(format!("{} phones at high speed with 250 mA, one on each of {with_one} controllers", phones.len()))
}

fn at(daemon: &Daemon, number: usize) -> Result<Phone, Failure> {
    let path = format!("{}-1", number + 1);
    let phone = daemon.phones()?.into_iter().find(|phone| phone.path == path);
    Ok(phone.ok_or_else(|| format!("nobody is shown at {path}"))?)
}

/// Two phones with one serial have names of their own.
fn twins(daemon: &Daemon) -> Result<String, Failure> {
    let [one, other] = [at(daemon, TWINS[0])?, at(daemon, TWINS[1])?];
    let fits = one.id != other.id && [&one, &other].iter().all(|phone| phone.id.starts_with("TWIN~"));
    let said = format!("{} at {} and {} at {}", one.id, one.path, other.id, other.path);
    if fits { Ok(said) } else { Err(said.into()) }
}

/// A descriptor that says another serial than Android leaves one phone, under Android's.
fn descriptor_serial(daemon: &Daemon) -> Result<String, Failure> {
    let here = at(daemon, MISLABELLED)?;
    let label = phone::descriptor_serial(MISLABELLED);
    let ghosts = daemon.phones()?.into_iter().filter(|phone| phone.id.contains(&label)).count();
    let said = format!("{} at {}, {ghosts} ghosts", here.id, here.path);
    if here.id == phone::serial(MISLABELLED) && ghosts == 0 { Ok(said) } else { Err(said.into()) }
}

/// Out and in again.
fn hotplug(daemon: &Daemon) -> Result<String, Failure> {
    let id = phone::serial(0);
    phone::unplug(0)?;
    let (_, gone) = daemon.wait_for(&id, &["absent"], ABSENT_MAX)?;
    phone::plug(0)?;
    let (_, back) = daemon.wait_for(&id, &["ready"], READY_MAX)?;
    Ok(format!("absent after {:.1} s, ready again after {:.1} s", gone.as_secs_f64(), back.as_secs_f64()))
}

fn unplug_ready(daemon: &Daemon) -> Result<String, Failure> {
    leaves(daemon, 1, &["ready"])
}

/// Android never finishes starting: the phone stays online.
fn unplug_online(daemon: &Daemon) -> Result<String, Failure> {
    phone::unplug(2)?;
    daemon.wait_for(&phone::serial(2), &["absent"], ABSENT_MAX)?;
    phone::booted(2, "0")?;
    phone::plug(2)?;
    leaves(daemon, 2, &["online"])
}

/// adbd does not answer CNXN: the phone stays claiming until the deadline.
fn unplug_claiming(daemon: &Daemon) -> Result<String, Failure> {
    phone::unplug(3)?;
    daemon.wait_for(&phone::serial(3), &["absent"], ABSENT_MAX)?;
    phone::plug(3)?;
    phone::freeze(3)?;
    leaves(daemon, 3, &["claiming", "detected", "recovering"])
}

/// Waits for the state, unplugs, and waits for `absent`.
fn leaves(daemon: &Daemon, number: usize, states: &[&str]) -> Result<String, Failure> {
    let id = phone::serial(number);
    let (before, _) = daemon.wait_for(&id, states, READY_MAX)?;
    phone::unplug(number)?;
    let (_, took) = daemon.wait_for(&id, &["absent"], ABSENT_MAX)?;
    phone::booted(number, "1")?;
    phone::plug(number)?;
    daemon.wait_for(&id, &["ready"], READY_MAX)?;
    Ok(format!("{} to absent after {:.1} s, ready after the next plug", before.state, took.as_secs_f64()))
}

/// Every phone is pushed to over farmhand's own USB and ADB; all of that is killed in the middle, and a daemon is started: it finds
/// every phone, whatever has been left in the pipes. Who waits for the rest of a message takes the new greeting for it, and is reset.
fn killed_in_push() -> Result<String, Failure> {
    fs::write("/tmp/blob", vec![0x5a; 16 << 20])?;
    let mut pushes = Vec::new();
    for number in 0..PHONES {
        let mut push = Command::new("usb_push");
        push.args([&phone::descriptor_serial(number), "/tmp/blob", "/tmp/pushed", "1000"]).env("HOME", "/state/home");
        pushes.push(push.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    }
    // Named checkpoint: a file of nearly each push has begun to grow. The twins are one serial to the example, and the daemon's own
    // end may have left a phone that waits for the rest of a message.
    let grown = until("the pushes have begun", READY_MAX, || {
        let begun = (0..PHONES).filter(|number| fs::metadata(format!("/tmp/phone.{number}/pushed")).is_ok()).count();
        if begun >= PUSHING_MIN { Ok(begun) } else { Err(format!("{begun} have").into()) }
    });
    for push in &mut pushes {
        push.kill()?;
        push.wait()?;
    }
    let (begun, _) = grown?;
    let daemon = Daemon::start("/state", MAY_RESET, User::Root)?;
    let said = all_ready(&daemon, ALL_BACK_MAX)?;
    Ok(format!("{begun} pushes killed in the middle; {said}"))
}

/// The daemon is not root, and each node may be opened only half a second after its arrival.
fn late_permission() -> Result<String, Failure> {
    while_permitting(LATE, || {
        let daemon = Daemon::start("/state.nobody", CAREFUL, User::Nobody)?;
        let marker = daemon::log().len();
        phone::plug_all()?;
        let said = all_ready(&daemon, ALL_READY_MAX)?;
        let log = daemon::log();
        let troubled: BTreeSet<&str> = log[marker..]
            .lines()
            .filter(|line| line.contains("recovering") || line.contains("quarantined"))
            .filter_map(|line| line.split("usb:").nth(1)?.split([' ', ':']).next())
            .collect();
        result("usb.opens_after_late_permission", PHONES - troubled.len(), "phones", ">= 32");
        if troubled.is_empty() { Ok(said) } else { Err(format!("{said}, but in trouble: {troubled:?}").into()) }
    })
}
