//! The part with 32 adbd, to all of which a file goes at once: by farmhand, by Google's adb, and with next to no memory for transfers.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::adb::{Adb, Buses};
use crate::check::{Failure, measure, result, until};
use crate::daemon::{self, CAREFUL, Daemon, User};
use crate::phone::{self, PHONES};
use crate::race::median;

/// What each phone is sent.
const FILE: &str = "/tmp/many";
const FILE_LEN: u64 = 8 << 20;
/// Where the phone has it, in its own /tmp.
const TARGET: &str = "/tmp/pushed";
/// How often to all.
const ROUNDS: usize = 3;
/// From the plug of 32 phones to the last one ready, and from the start of a daemon.
const ALL_READY_MAX: Duration = Duration::from_secs(120);
/// Until a server has found all of them.
const ALL_FOUND_MAX: Duration = Duration::from_secs(60);

pub(crate) fn run() -> Result<(), Failure> {
    let file = fs::File::create(FILE)?;
    std::io::copy(&mut std::io::Read::take(fs::File::open("/dev/urandom")?, FILE_LEN), &mut &file)?;
    phone::each(phone::make_plain)?;
    measure("32 pushes at once", at_once);
    measure("32 pushes with 1 MiB", with_little_memory);
    println!("the daemons' log:\n{}", daemon::log());
    Ok(())
}

fn at_once() -> Result<(), Failure> {
    let daemon = Daemon::start("/state", CAREFUL, User::Root)?;
    phone::plug_all()?;
    let own = by_farmhand(&daemon)?;
    daemon.kill()?;
    let mut best: f64 = 0.0;
    for name in ["adb29", "adb34"] {
        let theirs = by_adb(name)?;
        println!("# 32 at once: {name} {theirs:.2} MB/s");
        best = best.max(theirs);
    }
    println!("# 32 at once: farmhand {own:.2} MB/s");
    result("adb.push_32_at_once_vs_adb", format!("{:.3}", own / best), "ratio", ">= 1.05");
    Ok(())
}

/// All transfers of the host may hold no more than 1 MiB together.
fn with_little_memory() -> Result<(), Failure> {
    fs::write("/sys/module/usbcore/parameters/usbfs_memory_mb", "1")?;
    let daemon = Daemon::start("/state", CAREFUL, User::Root)?;
    wait_for_all(&daemon)?;
    let (arrived, took) = push_to_all(|serial| daemon.command(&["phone", serial, "push", FILE, TARGET]))?;
    println!("# 32 at once with usbfs_memory_mb=1: all ended after {:.1} s", took.as_secs_f64());
    result("usb.push_32_phones_1MB_usbfs_ok", arrived, "phones", ">= 32");
    Ok(())
}

fn wait_for_all(daemon: &Daemon) -> Result<(), Failure> {
    until("32 phones are ready", ALL_READY_MAX, || {
        let phones = daemon.phones()?;
        let ready: BTreeSet<&str> =
            phones.iter().filter(|phone| phone.state == "ready").map(|phone| phone.id.as_str()).collect();
        if ready.len() == PHONES { Ok(()) } else { Err(format!("{} are: {ready:?}", ready.len()).into()) }
    })?;
    Ok(())
}

fn by_farmhand(daemon: &Daemon) -> Result<f64, Failure> {
    wait_for_all(daemon)?;
    rounds_to_all(|serial| daemon.command(&["phone", serial, "push", FILE, TARGET]))
}

fn by_adb(name: &'static str) -> Result<f64, Failure> {
    let adb = Adb::start(name, Buses::All, &phone::plain_serial(0))?;
    for number in 0..PHONES {
        let serial = phone::plain_serial(number);
        until(&format!("{name} has {serial}"), ALL_FOUND_MAX, || {
            let state = adb.command(&serial, &["get-state"]).output()?;
            if state.stdout.starts_with(b"device") { Ok(()) } else { Err("it has not".into()) }
        })?;
    }
    rounds_to_all(|serial| adb.command(serial, &["push", FILE, TARGET]))
}

/// MB a second to all together, in the median of the rounds.
fn rounds_to_all(push: impl Fn(&str) -> Command) -> Result<f64, Failure> {
    let mut seconds = Vec::new();
    for _ in 0..ROUNDS {
        let (arrived, took) = push_to_all(&push)?;
        if arrived != PHONES {
            return Err(format!("the file has arrived on {arrived} phones of {PHONES}").into());
        }
        seconds.push(took.as_secs_f64());
    }
    Ok((FILE_LEN * PHONES as u64) as f64 / 1e6 / median(seconds))
}

/// Sends the file to all at once; gives on how many it has arrived whole, and how long all took.
fn push_to_all(push: impl Fn(&str) -> Command) -> Result<(usize, Duration), Failure> {
    let begun = Instant::now();
    let mut pushes = Vec::new();
    for number in 0..PHONES {
        let mut push = push(&phone::plain_serial(number));
        push.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        pushes.push(push.spawn()?);
    }
    let mut arrived = 0;
    let mut outputs = Vec::new();
    for push in pushes {
        outputs.push(push.wait_with_output()?);
    }
    let took = begun.elapsed();
    let content = fs::read(FILE)?;
    for (number, output) in outputs.iter().enumerate() {
        let there = format!("/tmp/phone.{number}/pushed");
        if output.status.success() && fs::read(&there).is_ok_and(|pushed| pushed == content) {
            arrived += 1;
        } else {
            println!("# phone {number}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
        }
        let _ = fs::remove_file(&there);
    }
    Ok((arrived, took))
}
