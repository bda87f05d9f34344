//! The part in which phones go wrong: each fault on a phone of its own, all at once, while another one is worked on all the time.

use std::fs::{self, File};
use std::io::Read as _;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::check::{Failure, check, until};
use crate::daemon::{self, Daemon, User};
use crate::hub::Hub;
use crate::own::Own;
use crate::phone;
use crate::shares;
use crate::work::CONFIG;

const WELL: Own = own(0, "WELL", &[]);
const MAGIC: Own = own(1, "MAGIC", &[]);
const LONG: Own = own(2, "LONG", &[]);
const GARBAGE: Own = own(3, "GARBAGE", &[]);
const SHORT: Own = own(4, "SHORT", &["--fault", "short-packets"]);
const TWICE: Own = own(5, "TWICE", &["--fault", "cnxn-twice"]);
const HANGS: Own = own(6, "HANGS", &[]);
/// Google's phone, whose cable is pulled out: its controller.
const CUT: usize = 7;
/// Each climbs the whole ladder, up to two resets: more than the rack's budget of six a minute.
const SUMS: [Own; 4] = [
    own(8, "SUM8", &["--fault", "wrong-checksum"]),
    own(9, "SUM9", &["--fault", "wrong-checksum"]),
    own(10, "SUM10", &["--fault", "wrong-checksum"]),
    own(11, "SUM11", &["--fault", "wrong-checksum"]),
];
/// Behind one hub.
const NEIGHBOURS: [Own; 2] = [own(12, "LEFT", &[]), own(13, "RIGHT", &[])];

/// From the plug to ready, of fourteen phones at once in emulation on a busy machine.
pub(crate) const READY_MAX: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(20);
/// An answer to OPEN is waited for 15 s, and a probe comes within 35 s.
const HANGS_MAX: Duration = Duration::from_secs(60);
/// Four reopens within seconds, two resets with what they wait for; two of the four phones wait for their turn, up to a minute.
const LADDER_MAX: Duration = Duration::from_secs(120);
/// The daemon's budget: resets of USB devices within a minute.
const RESETS_MAX: usize = 6;
/// The longest that a command on the phone that is well may take beside all this, in emulation.
const WELL_MAX: Duration = Duration::from_secs(15);
/// What is pushed when the cable comes out: seconds at the speed of this bus.
const PUSHED_BYTES: u64 = 96 << 20;

pub(crate) const fn own(number: usize, serial: &'static str, options: &'static [&'static str]) -> Own {
    Own { number, serial, options }
}

pub(crate) fn run() -> Result<(), Failure> {
    phone::make(CUT)?;
    let daemon = Daemon::start("/state", CONFIG, User::Root)?;
    for own in &SUMS {
        own.plug()?;
    }
    phone::plug(CUT)?;
    let hub = Hub::new();
    for own in [&WELL, &MAGIC, &LONG, &GARBAGE, &HANGS, &SHORT, &TWICE] {
        own.plug()?;
    }
    for (neighbour, port) in NEIGHBOURS.iter().zip(0..) {
        hub.plug_own(neighbour, port)?;
    }
    for own in [&WELL, &MAGIC, &LONG, &GARBAGE, &HANGS, &NEIGHBOURS[0], &NEIGHBOURS[1]] {
        daemon.wait_for(own.serial, &["ready"], READY_MAX)?;
    }
    daemon.wait_for(&phone::serial(CUT), &["ready"], READY_MAX)?;

    let (daemon, over) = (&daemon, &AtomicBool::new(false));
    thread::scope(|scope| {
        let well = scope.spawn(|| works_on(daemon, over).map_err(|why| why.to_string()));
        thread::scope(|scope| {
            scope.spawn(|| check("stall", || stall(daemon)));
            scope.spawn(|| check("wrong_magic", || spoilt(daemon, &MAGIC, "wrong-magic", "the magic of")));
            scope.spawn(|| check("payload_too_long", || spoilt(daemon, &LONG, "long-payload", "agreed were at most")));
            scope.spawn(|| check("garbage", || spoilt(daemon, &GARBAGE, "garbage", "none of ADB's")));
            scope.spawn(|| climb(daemon));
            check("short_packets", || endures(daemon, &SHORT));
            check("cnxn_twice", || endures(daemon, &TWICE));
            check("unplug_in_transfer", || unplug_in_transfer(daemon));
            check("hub_incident", || hub_incident(daemon, &hub));
        });
        over.store(true, Ordering::SeqCst);
        check("others_go_on", || Ok(well.join().map_err(|_| "it panicked")??));
    });
    check("bus_shares", || shares::bus_shares(daemon, &hub, &NEIGHBOURS));
    println!("the daemon's log:\n{}", daemon::log());
    Ok(())
}

/// Works on the phone that is well until it is told to end: each command succeeds, and soon.
fn works_on(daemon: &Daemon, over: &AtomicBool) -> Result<String, Failure> {
    let (mut count, mut slowest) = (0, Duration::ZERO);
    while !over.load(Ordering::SeqCst) {
        let start = Instant::now();
        let said = daemon.order(&["phone", WELL.serial, "shell", "echo", "well"])?;
        if said != "well\n" {
            return Err(format!("{said:?} after {count} that were well").into());
        }
        (count, slowest) = (count + 1, slowest.max(start.elapsed()));
    }
    let said = format!("{count} commands on the phone that is well, the slowest in {:.1} s", slowest.as_secs_f64());
    if slowest < WELL_MAX && count > 0 { Ok(said) } else { Err(said.into()) }
}

/// What is wrong with the phone from now on.
pub(crate) fn set_faults(own: &Own, faults: &[&str]) -> Result<(), Failure> {
    own.order("faults", faults)
}

/// Runs a command that must end with the daemon's refusal; gives what it said, and in what time.
fn refused(daemon: &Daemon, words: &[&str], wanted: &[&str]) -> Result<String, Failure> {
    let start = Instant::now();
    let said = daemon.refuses(words, 4, wanted)?;
    Ok(format!("{said} ({:.1} s)", start.elapsed().as_secs_f64()))
}

/// A phone that spoils what it says from now on: the command in work ends with the reason, recovery says it too, and it is back when it
/// speaks well again.
fn spoilt(daemon: &Daemon, own: &Own, fault: &str, sentence: &str) -> Result<String, Failure> {
    set_faults(own, &[fault])?;
    let said = refused(daemon, &["phone", own.serial, "shell", "true"], &["phone.shell", sentence])?;
    set_faults(own, &[])?;
    let (_, took) = daemon.wait_for(own.serial, &["ready"], READY_MAX)?;
    let story = daemon.order(&["phone", own.serial, "trace"])?;
    if !story.contains(sentence) {
        return Err(format!("its trace does not tell why: {story}").into());
    }
    daemon.order(&["phone", own.serial, "shell", "true"])?;
    Ok(format!("{said}; ready again {:.1} s later", took.as_secs_f64()))
}

/// A phone that is odd, and can be worked with.
fn endures(daemon: &Daemon, own: &Own) -> Result<String, Failure> {
    daemon.wait_for(own.serial, &["ready"], READY_MAX)?;
    let said = daemon.order(&["phone", own.serial, "shell", "getprop", "ro.serialno"])?;
    let said = format!("it is ready, and says {said}");
    let trace = daemon.read(&format!("/api/phones/{}/trace", own.serial))?;
    let lost = trace["events"].as_array().into_iter().flatten().any(|event| event["event"] == "lost");
    if said.contains(own.serial) && !lost { Ok(said) } else { Err(format!("{said} {trace}").into()) }
}

/// A phone that neither reads nor answers: what is asked of it ends by a deadline, it is opened again, and back when it goes on.
fn stall(daemon: &Daemon) -> Result<String, Failure> {
    set_faults(&HANGS, &["stalls"])?;
    let said = refused(daemon, &["phone", HANGS.serial, "shell", "true"], &["phone.shell", "waited too long for"])?;
    let (troubled, _) = daemon.wait_for(HANGS.serial, &["recovering", "claiming"], HANGS_MAX)?;
    set_faults(&HANGS, &[])?;
    let (_, took) = daemon.wait_for(HANGS.serial, &["ready"], READY_MAX)?;
    daemon.order(&["phone", HANGS.serial, "shell", "true"])?;
    Ok(format!("{said}; {} ({}); ready again {:.1} s later", troubled.state, troubled.why, took.as_secs_f64()))
}

/// The cable comes out in the middle of a push.
fn unplug_in_transfer(daemon: &Daemon) -> Result<String, Failure> {
    std::io::copy(&mut File::open("/dev/urandom")?.take(PUSHED_BYTES), &mut File::create("/tmp/large")?)?;
    let id = phone::serial(CUT);
    let push = daemon.command(&["phone", &id, "push", "-z", "none", "/tmp/large", "/tmp/large"]).spawn()?;
    // Named checkpoint: some of it has arrived.
    let begun = until("the push has begun", SOON, || {
        let arrived = fs::metadata(format!("/tmp/phone.{CUT}/large"))?.len();
        if arrived > 0 { Ok(arrived) } else { Err("nothing has arrived".into()) }
    });
    phone::unplug(CUT)?;
    let start = Instant::now();
    let Output { status, stderr, .. } = push.wait_with_output()?;
    let ended = start.elapsed();
    fs::remove_file("/tmp/large")?;
    let (arrived, _) = begun?;
    let said = String::from_utf8_lossy(&stderr).into_owned();
    if status.code() != Some(4) || !said.contains("phone.push") || ended > SOON {
        return Err(format!("{status} after {:.1} s: {said}", ended.as_secs_f64()).into());
    }
    daemon.wait_for(&id, &["absent"], SOON)?;
    phone::plug(CUT)?;
    let (_, back) = daemon.wait_for(&id, &["ready"], READY_MAX)?;
    daemon.order(&["phone", &id, "shell", "true"])?;
    Ok(format!(
        "after {arrived} bytes; the command ended {:.1} s later: {said}; ready {:.1} s after the plug",
        ended.as_secs_f64(),
        back.as_secs_f64()
    ))
}

/// Two phones behind one hub lose their connection at once: that is one incident of the hub, and nobody climbs for it.
fn hub_incident(daemon: &Daemon, hub: &Hub) -> Result<String, Failure> {
    hub.set_broken(true);
    let commands: Vec<_> = NEIGHBOURS
        .iter()
        .map(|own| daemon.command(&["phone", own.serial, "shell", "true"]).spawn())
        .collect::<Result<_, _>>()?;
    for mut command in commands {
        command.wait()?;
    }
    let told = until("the incident is told", SOON, || {
        let snapshot = daemon.read("/api/snapshot")?;
        let incidents = snapshot["incidents"].as_array().ok_or("no list of incidents")?;
        let [incident] = &incidents[..] else { return Err(format!("{incidents:?}").into()) };
        let phones: Vec<&str> =
            incident["phones"].as_array().into_iter().flatten().filter_map(|phone| phone["phone"].as_str()).collect();
        let alerts =
            snapshot["alerts"].as_array().into_iter().flatten().filter(|alert| alert["code"] == "incident").count();
        let fits = phones.len() == 2 && NEIGHBOURS.iter().all(|own| phones.contains(&own.serial));
        let one = incident["ancestor"].as_str().is_some_and(|name| name.contains("vhci_hcd")) && alerts == 1;
        if fits && one { Ok(incident["what"].to_string()) } else { Err(format!("{incident} {alerts} alerts").into()) }
    });
    let status = daemon.order(&["status"]);
    hub.set_broken(false);
    let (what, _) = told?;
    for own in &NEIGHBOURS {
        daemon.wait_for(own.serial, &["ready"], READY_MAX)?;
    }
    let (_, over) = until("the incident is over", SOON, || match daemon.read("/api/snapshot")?["incidents"].take() {
        Value::Array(incidents) if incidents.is_empty() => Ok(()),
        other => Err(other.to_string().into()),
    })?;
    let status = status?;
    if !status.contains("failed within 5 s of each other") {
        return Err(format!("`farmhand status` does not tell it: {status}").into());
    }
    Ok(format!("{what}; over {:.1} s after both were ready", over.as_secs_f64()))
}

/// Four phones that can't be spoken with climb as far as they may: four reopens each, and resets within the rack's budget.
fn climb(daemon: &Daemon) {
    check("wrong_checksum", || {
        let first = SUMS[0].serial;
        let (why, _) = until("it is told why it can't be opened", READY_MAX, || {
            let trace = daemon.read(&format!("/api/phones/{first}/trace"))?;
            let events = trace["events"].as_array().ok_or("no trace")?;
            let failed = events.iter().find(|event| event["event"] == "open_failed").ok_or("it has not failed")?;
            Ok(failed["why"].to_string())
        })?;
        if why.contains("the checksum of Connect") { Ok(why) } else { Err(why.into()) }
    });
    check("reset_budget", || {
        let (line, _) = until("somebody waits for its turn", LADDER_MAX, || {
            let waits = |phone: &daemon::Phone| phone.why.contains("resets at most");
            Ok(daemon.phones()?.into_iter().find(waits).ok_or("nobody does")?)
        })?;
        let mut resets = 0;
        for own in &SUMS {
            resets += happened(daemon, own, "rung")?;
        }
        let said = format!("{resets} resets, then {} waits: {}", line.id, line.why);
        if resets == RESETS_MAX { Ok(said) } else { Err(said.into()) }
    });
    check("quarantine", || {
        let mut said = String::new();
        for own in &SUMS {
            let (phone, _) = daemon.wait_for(own.serial, &["quarantined"], LADDER_MAX)?;
            let words =
                ["the checksum of", "max_rung = \"reset-usb\"", "opened again 4 times", "reset twice", "\"reboot\""];
            if let Some(missing) = words.iter().find(|word| !phone.why.contains(**word)) {
                return Err(format!("{missing} is not in: {}", phone.why).into());
            }
            said = phone.why;
        }
        Ok(format!("all {}: {said}", SUMS.len()))
    });
    check("ladder", || {
        for own in &SUMS {
            // At its plug, four times again, and after each of two resets, after which one may enumerate twice.
            let (failed, resets) = (happened(daemon, own, "open_failed")?, happened(daemon, own, "rung")?);
            if !(7..=9).contains(&failed) || resets != 2 {
                return Err(format!("{}: opened {failed} times, reset {resets} times", own.serial).into());
            }
        }
        Ok(format!("each of {} was opened again four times, then reset twice and opened after it", SUMS.len()))
    });
}

/// How often something happened to a phone.
fn happened(daemon: &Daemon, own: &Own, what: &str) -> Result<usize, Failure> {
    let trace = daemon.read(&format!("/api/phones/{}/trace", own.serial))?;
    let events = trace["events"].as_array().ok_or("no trace")?;
    Ok(events.iter().filter(|event| event["event"] == what).count())
}
