//! The part that races: farmhand and Google's adb 29 and 34, each with an adbd of its own, and a floor on one more; the crate
//! adb_client beside them. In the race of the servers one client of Google's goes to farmhand's adb server and to Google's own.

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::adb::{Adb, Buses};
use crate::check::{Failure, measure, result, until};
use crate::daemon::{self, Daemon, User};
use crate::phone;

/// Whose phone is which: farmhand's, adb 29's, adb 34's, that of the floor, and adb_client's, which finds it by its product id.
const FARMHAND: usize = 0;
const ADBS: [(&str, usize); 2] = [("adb29", 1), ("adb34", 2)];
const FLOOR: usize = 3;
const ADB_CLIENT: usize = 4;
const VENDOR: &str = "18d1";
const PRODUCT: &str = "4ee2";
/// The configuration that has the daemon's adb server listen, and where.
const WITH_SERVER: &str = "/etc/race.toml";
const SERVER_PORT: &str = "5040";
/// A folder that this host and the phones have at the same path.
const SHARED: &str = "/shared";
/// From the plug to ready, in emulation.
const READY_MAX: Duration = Duration::from_secs(60);
/// From the unplug until a server has noticed.
const NOTICED: Duration = Duration::from_secs(2);
/// How often each is plugged in.
const PLUGS: usize = 7;

pub(crate) fn run() -> Result<(), Failure> {
    fs::create_dir_all(SHARED)?;
    let daemon = Daemon::start("/state", WITH_SERVER, User::Root)?;
    phone::make_product(ADB_CLIENT, PRODUCT)?;
    for number in [FARMHAND, ADBS[0].1, ADBS[1].1, FLOOR] {
        phone::make(number)?;
    }
    for number in [FARMHAND, ADBS[0].1, ADBS[1].1, FLOOR, ADB_CLIENT] {
        phone::plug(number)?;
        daemon.wait_for(&phone::serial(number), &["ready"], READY_MAX)?;
    }
    for number in [ADBS[0].1, ADBS[1].1, FLOOR, ADB_CLIENT] {
        let serial = phone::serial(number);
        daemon.order(&["phone", &serial, "detach"])?;
        daemon.wait_for(&serial, &["detached"], READY_MAX)?;
    }
    let mut adbs = Vec::new();
    for (name, number) in ADBS {
        adbs.push((Adb::start(name, Buses::One(number + 1), &phone::serial(number))?, number));
    }
    measure("the race", || usb_bench(&daemon, &adbs, &["race"]));
    let own = phone::serial(FARMHAND);
    measure("the servers", || usb_bench(&daemon, &adbs, &["servers", SERVER_PORT, &own]));
    measure("the floor", || usb_bench(&daemon, &adbs, &["floor", &phone::serial(FLOOR)]));
    measure("adb_client", adb_client);
    measure("the first shell", || first_shell(&daemon, &adbs));
    println!("the daemon's log:\n{}", daemon::log());
    Ok(())
}

/// The bench's own program, which prints its figures.
fn usb_bench(daemon: &Daemon, adbs: &[(Adb, usize)], words: &[&str]) -> Result<(), Failure> {
    let (own, pid) = (phone::serial(FARMHAND), daemon.pid().to_string());
    let mut stage =
        ["--farmhand", "/bin/farmhand", "--state", "/state", "--phone", &own, "--daemon", &pid, "--dir", SHARED]
            .map(str::to_owned)
            .to_vec();
    for (adb, number) in adbs {
        stage.extend(["--adb".to_owned(), adb.contender(&phone::serial(*number))]);
    }
    run_bench(&[words, &stage.iter().map(String::as_str).collect::<Vec<_>>()].concat())
}

/// The crate adb_client, with a key that its phone never asks for.
fn adb_client() -> Result<(), Failure> {
    run_bench(&["adb-client", "/bin/adb_cli", "/state/home/.android/adbkey", VENDOR, PRODUCT, SHARED])
}

fn run_bench(words: &[&str]) -> Result<(), Failure> {
    // Each figure goes to the console as soon as it is there: what ends the part early does not take it along.
    let mut bench = Command::new("usb-bench");
    let bench = bench.args(words).env("HOME", "/state/home").stdout(Stdio::inherit()).output()?;
    if bench.status.success() {
        return Ok(());
    }
    Err(format!("usb-bench {}: {}: {}", words.join(" "), bench.status, String::from_utf8_lossy(&bench.stderr)).into())
}

/// From the plug until a command has run on the phone, asked for again and again.
fn first_shell(daemon: &Daemon, adbs: &[(Adb, usize)]) -> Result<(), Failure> {
    let own = || daemon.command(&["phone", &phone::serial(FARMHAND), "shell", "true"]);
    let mut took: Vec<Vec<f64>> = vec![Vec::new(); adbs.len()];
    let mut own_took = Vec::new();
    for _ in 0..PLUGS {
        for ((adb, number), took) in adbs.iter().zip(&mut took) {
            let serial = phone::serial(*number);
            took.push(plug_to_shell(*number, || adb.command(&serial, &["shell", "true"]))?);
        }
        own_took.push(plug_to_shell(FARMHAND, own)?);
    }
    let (own, theirs) = (median(own_took), took.into_iter().map(median).collect::<Vec<_>>());
    for ((adb, _), milliseconds) in adbs.iter().zip(&theirs) {
        println!("# first shell after the plug: {} {milliseconds:.0} ms", adb.name);
    }
    let best = theirs.into_iter().fold(f64::INFINITY, f64::min);
    result("adb.first_shell_ms_after_plug", format!("{own:.0}"), "ms", &format!("<= {best:.0}"));
    Ok(())
}

/// In milliseconds.
fn plug_to_shell(number: usize, shell: impl Fn() -> Command) -> Result<f64, Failure> {
    phone::unplug(number)?;
    until("its adbd is ready for the next plug", READY_MAX, || {
        fs::metadata(format!("/tmp/adbd.{number}.served")).map(drop).map_err(Into::into)
    })?;
    sleep(NOTICED);
    let plugged = Instant::now();
    phone::plug(number)?;
    while !shell().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?.success() {
        if plugged.elapsed() > READY_MAX {
            return Err(format!("phone {number} has no shell").into());
        }
    }
    Ok(plugged.elapsed().as_secs_f64() * 1e3)
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
