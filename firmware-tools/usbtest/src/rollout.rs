//! The part with 32 adbd that all get a new version of the agent: by a rollout, as bare pushes by farmhand's own engine, and by Google's adb,
//! 32 of it at once. What each phone has then is looked at.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::adb::Adb;
use crate::check::{Failure, measure, result};
use crate::daemon::{self, Daemon, User};
use crate::many::{adb_with_all, wait_for_all};
use crate::phone::{self, PHONES};
use crate::race::median;

/// The new version, which is large, and the one that each phone has before.
const APK: &str = "/apks/large.apk";
const APK_BEFORE: &str = "/apks/agent-1.apk";
const PACKAGE: &str = "org.example.agent";
/// The daemon that may install it.
const WITH_AGENT: &str = "/etc/rollout.toml";
/// Where a bare push goes, on the phone.
const TARGET: &str = "/tmp/pushed";
/// How often each goes to all.
const ROUNDS: usize = 3;
const ADBS: [&str; 2] = ["adb29", "adb34"];

pub(crate) fn run() -> Result<(), Failure> {
    phone::each(phone::make_plain)?;
    measure("32 installs at once", installs);
    println!("the daemons' log:\n{}", daemon::log());
    Ok(())
}

fn installs() -> Result<(), Failure> {
    let (mut ours, mut pushes, mut theirs) = (Vec::new(), Vec::new(), [const { Vec::new() }; 2]);
    for round in 0..ROUNDS {
        ours.push(by_rollout(round)?);
        pushes.push(by_pushes()?);
        for (name, took) in ADBS.into_iter().zip(&mut theirs) {
            took.push(by_adb(name)?);
        }
        println!("# 32 installs, round {round}: rollouts {ours:.1?} s, bare pushes {pushes:.1?} s, adb {theirs:.1?} s");
    }
    let (ours, pushes) = (median(ours), median(pushes));
    let theirs = theirs.map(median).into_iter().fold(f64::INFINITY, f64::min);
    result("rollout.32_usb_vs_push", format!("{:.3}", ours / pushes), "ratio", "<= 1.25");
    result("rollout.32_usb_vs_adb_parallel", format!("{:.3}", ours / theirs), "ratio", "<= 1");
    Ok(())
}

/// From the order to the end of the rollout, by the whole process of the command.
fn by_rollout(round: usize) -> Result<f64, Failure> {
    go_back()?;
    let state = format!("/state.rollout{round}");
    fs::create_dir(&state)?;
    Command::new("cp").args(["/state/adbkey", &state]).status()?;
    let daemon = Daemon::start(&state, WITH_AGENT, User::Root)?;
    // 32 that are there at its start and every wait runs out: they come one after the other.
    phone::plug_all()?;
    wait_for_all(&daemon)?;
    let begun = Instant::now();
    daemon.order(&["rollout", "start", APK, "--waves", "100%", "--wait"])?;
    let took = begun.elapsed().as_secs_f64();
    daemon.kill()?;
    phone::unplug_all()?;
    expect_installed()?;
    Ok(took)
}

/// The same bytes by the same engine, in a process that has all connections before it begins.
fn by_pushes() -> Result<f64, Failure> {
    phone::plug_all()?;
    let mut bench = Command::new("usb-bench");
    bench.args(["pushes", APK, TARGET]).args((0..PHONES).map(phone::plain_serial)).env("HOME", "/state/home");
    let output = bench.output()?;
    phone::unplug_all()?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(format!("usb-bench pushes: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into());
    }
    let content = fs::read(APK)?;
    for number in 0..PHONES {
        let there = format!("/tmp/phone.{number}/pushed");
        if fs::read(&there)? != content {
            return Err(format!("{there} is not what was pushed").into());
        }
        fs::remove_file(there)?;
    }
    let took = said.lines().find_map(|line| line.strip_prefix(&format!("# pushes to {PHONES}: "))?.strip_suffix(" s"));
    Ok(took.ok_or("it said no figure")?.parse()?)
}

fn by_adb(name: &'static str) -> Result<f64, Failure> {
    go_back()?;
    phone::plug_all()?;
    let adb = adb_with_all(name)?;
    let took = install_by(&adb)?;
    drop(adb);
    phone::unplug_all()?;
    expect_installed()?;
    Ok(took)
}

fn install_by(adb: &Adb) -> Result<f64, Failure> {
    let serials: String = (0..PHONES).map(|number| phone::plain_serial(number) + "\n").collect();
    fs::write("/tmp/serials", serials)?;
    let script = format!("xargs -P32 -I{{}} {} -s {{}} install -r {APK} </tmp/serials", adb.words());
    let begun = Instant::now();
    let ended = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).output()?;
    let took = begun.elapsed().as_secs_f64();
    if ended.status.success() {
        return Ok(took);
    }
    let [out, err] = [&ended.stdout, &ended.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    Err(format!("{script}: {}: {out} {err}", ended.status).into())
}

fn app_of(number: usize) -> PathBuf {
    format!("/tmp/phone.{number}/.d/apps/{PACKAGE}").into()
}

/// Each phone has version 1.
fn go_back() -> Result<(), Failure> {
    let facts = Command::new("rackbench").args(["apk", APK_BEFORE]).output()?;
    if !facts.status.success() {
        return Err(format!("rackbench apk: {}", String::from_utf8_lossy(&facts.stdout)).into());
    }
    for number in 0..PHONES {
        let app = app_of(number);
        if app.exists() {
            fs::remove_dir_all(&app)?;
        }
        fs::create_dir_all(&app)?;
        fs::copy(APK_BEFORE, app.join("base.apk"))?;
        fs::write(app.join("base.apk.facts"), &facts.stdout)?;
    }
    Ok(())
}

/// Each phone has the new version, byte by byte.
fn expect_installed() -> Result<(), Failure> {
    let content = fs::read(APK)?;
    for number in 0..PHONES {
        let app = app_of(number);
        let facts = fs::read_to_string(app.join("base.apk.facts"))?;
        if !facts.contains("versionCode=2\n") || fs::read(app.join("base.apk"))? != content {
            return Err(format!("phone {number} has {facts:?}").into());
        }
    }
    Ok(())
}
