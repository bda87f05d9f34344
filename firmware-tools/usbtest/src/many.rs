//! The part with 32 adbd, to all of which a file goes at once: by farmhand, by Google's adb, and with next to no memory for transfers.

use std::collections::{BTreeMap, BTreeSet};
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
/// As the kernel counts for programs.
const TICKS_PER_S: f64 = 100.0;
/// Who used less than this is not worth a word, in seconds.
const PROCESSOR_TOLD_MIN: f64 = 0.3;
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

/// Waits until all phones are ready.
pub(crate) fn wait_for_all(daemon: &Daemon) -> Result<(), Failure> {
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
    rounds_to_all("farmhand", |serial| daemon.command(&["phone", serial, "push", FILE, TARGET]))
}

fn by_adb(name: &'static str) -> Result<f64, Failure> {
    let adb = adb_with_all(name)?;
    rounds_to_all(name, |serial| adb.command(serial, &["push", FILE, TARGET]))
}

/// Google's adb with all phones.
pub(crate) fn adb_with_all(name: &'static str) -> Result<Adb, Failure> {
    let adb = Adb::start(name, Buses::All, &phone::plain_serial(0))?;
    for number in 0..PHONES {
        let serial = phone::plain_serial(number);
        until(&format!("{name} has {serial}"), ALL_FOUND_MAX, || {
            let state = adb.command(&serial, &["get-state"]).output()?;
            if state.stdout.starts_with(b"device") { Ok(()) } else { Err("it has not".into()) }
        })?;
    }
    Ok(adb)
}

/// MB a second to all together, in the median of the rounds.
fn rounds_to_all(who: &str, push: impl Fn(&str) -> Command) -> Result<f64, Failure> {
    let mut seconds = Vec::new();
    let before = processor()?;
    for _ in 0..ROUNDS {
        let (arrived, took) = push_to_all(&push)?;
        if arrived != PHONES {
            return Err(format!("the file has arrived on {arrived} phones of {PHONES}").into());
        }
        seconds.push(took.as_secs_f64());
    }
    let used: Vec<String> = processor()?
        .into_iter()
        .map(|(name, after)| (after - before.get(&name).copied().unwrap_or_default(), name))
        .filter(|(seconds, _)| *seconds >= PROCESSOR_TOLD_MIN)
        .map(|(seconds, name)| format!("{name} {seconds:.1} s"))
        .collect();
    println!("# 32 at once: {who}: the processors of {ROUNDS} rounds: {}", used.join(", "));
    Ok((FILE_LEN * PHONES as u64) as f64 / 1e6 / median(seconds))
}

/// What the processors did so far, in seconds by the names of programs; children that have ended are their parent's, and the processors
/// themselves are idle.
fn processor() -> Result<BTreeMap<String, f64>, Failure> {
    let mut used: BTreeMap<String, f64> = BTreeMap::new();
    let ticks = |words: &[&str]| words.iter().filter_map(|word| word.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_S;
    for entry in fs::read_dir("/proc")? {
        // One that ends meanwhile is its parent's.
        let Ok(stat) = fs::read_to_string(entry?.path().join("stat")) else { continue };
        let Some((name, rest)) = stat.rsplit_once(") ") else { continue };
        let Some((pid, name)) = name.split_once(" (") else { continue };
        if pid.parse::<u32>().is_err() {
            continue;
        }
        // From the third field on: utime, stime and the same of children are the 14th to the 17th.
        let words: Vec<&str> = rest.split_whitespace().collect();
        *used.entry(name.to_owned()).or_default() += ticks(words.get(11..13).unwrap_or_default());
        *used.entry(format!("children of {name}")).or_default() += ticks(words.get(13..15).unwrap_or_default());
    }
    let all = fs::read_to_string("/proc/stat")?;
    let words: Vec<&str> = all.lines().next().unwrap_or_default().split_whitespace().collect();
    used.insert("idle".to_owned(), ticks(words.get(4..6).unwrap_or_default()));
    used.insert("interrupts".to_owned(), ticks(words.get(6..8).unwrap_or_default()));
    Ok(used)
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
