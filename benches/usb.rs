//! farmhand on a real USB stack: `make bench ONLY=usb`.
//!
//! Without arguments it has the testbed (`firmware-tools/usbtest/run.sh --bench`) boot its guests and keeps their figures
//! (`USB_PARTS="many rollout"`: of those parts only). In a guest
//! the story calls it for what is measured in a process:
//!
//! ```text
//!     usb-bench race …                      Google's adb beside farmhand, each on an adbd of its own (race.rs)
//!     usb-bench servers …                   one client of Google's before farmhand's adb server and before Google's own
//!     usb-bench adb-client PROGRAM KEY VENDOR PRODUCT DIR   the crate adb_client on one more adbd
//!     usb-bench floor SERIAL …              ready-made frames into one more adbd, beside farmhand (floor.rs)
//!     usb-bench bare OWN BARE DIR           our phone beside a function that only takes and gives bytes (bare.rs)
//!     usb-bench at-once own|bare DIR SERIAL…   the same with many at once
//!     usb-bench pushes FILE TARGET SERIAL…  a file to many phones at once, by farmhand's engine
//! ```

#![allow(clippy::expect_used, reason = "a bench that cannot measure must say so and stop")]

#[path = "usb/bare.rs"]
mod bare;
#[path = "usb/floor.rs"]
mod floor;
#[path = "apk/large.rs"]
mod large;
#[path = "usb/line.rs"]
mod line;
#[path = "adb/race.rs"]
mod race;
#[path = "report.rs"]
mod report;

use std::io::{self, BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use race::{Contender, Race, Sizes};
use report::{Goal, report};

/// What phones are sent by a rollout.
const APK_LEN: usize = 16 << 20;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [] => boot_guests(),
        ["race", ref rest @ ..] => given(rest)?.run(),
        ["servers", port, serial, ref rest @ ..] => servers(number(port)?, serial, given(rest)?),
        ["adb-client", program, key, vendor, product, dir] => adb_client(program, key, [vendor, product], dir),
        ["floor", serial, ref rest @ ..] => floor::measure(serial, &given(rest)?),
        ["bare", own, bare, dir] => bare::measure(own, bare, Path::new(dir)),
        ["at-once", what, dir, ref serials @ ..] => bare::at_once(what, Path::new(dir), serials),
        ["pushes", file, to, ref serials @ ..] => bare::pushes(Path::new(file), to, serials),
        _ => Err(io::Error::other(format!("what is {words:?}?"))),
    }
}

/// The same client, Google's adb 34, before farmhand's adb server at `port`, whose phone is `serial`, and before Google's server 34.
fn servers(port: u16, serial: &str, mut race: Race) -> io::Result<()> {
    let (program, daemon) = (race.adb34()?.program().to_owned(), race.contenders[0].server());
    let daemon = daemon.ok_or_else(|| io::Error::other("farmhand has no daemon"))?;
    let ours = Contender::adb("farmhand's server", Path::new(&program), port, serial, daemon);
    race.contenders.retain(|contender| contender.name == "adb34");
    race.contenders.insert(0, ours);
    let file = race.random_file()?;
    race.ratio("server.push_usb", &race.pushes(&file)?, 1.0)?;
    race.ratio("server.pull_usb", &race.pulls(&file)?, 0.9)
}

/// The crate adb_client by its own command line, which has no server: told beside the others, and no measure.
fn adb_client(program: &str, key: &str, [vendor, product]: [&str; 2], dir: &str) -> io::Result<()> {
    let contenders = vec![Contender::adb_client_usb(program, key, vendor, product)];
    Race { bus: "usb".to_owned(), contenders, dir: dir.into(), sizes: Sizes::SLOW }.tell_speeds()
}

/// Runs the parts of the testbed that measure; each figure that they print is kept.
#[allow(clippy::print_stdout, reason = "printing is what a bench is for")]
fn boot_guests() -> io::Result<()> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/firmware-tools/usbtest/run.sh");
    let dir = tempfile::tempdir()?;
    let apk = large::signed(dir.path(), APK_LEN)?;
    let mut testbed = Command::new(script)
        .arg("--bench")
        .args(std::env::var("USB_PARTS").unwrap_or_default().split_whitespace())
        .env("USB_BENCH", std::env::current_exe()?)
        .env("USB_BENCH_APK", &apk.path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let said = testbed.stdout.take().ok_or_else(|| io::Error::other("no standard output"))?;
    for line in BufReader::new(said).lines() {
        let line = line?;
        match figure(&line) {
            Some((name, value, unit, goal)) => report(name, value, unit, goal)?,
            None => println!("{line}"),
        }
    }
    let ended = testbed.wait()?;
    if ended.success() { Ok(()) } else { Err(io::Error::other(format!("{script}: {ended}"))) }
}

/// A figure with its goal: `RESULT usb.wakeups_per_probe 6.2 wakeups goal <= 8`.
fn figure(line: &str) -> Option<(&str, f64, &str, Goal)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let ["RESULT", name, value, unit, "goal", sign, goal] = words[..] else { return None };
    let goal = goal.parse().ok()?;
    let goal = if sign == ">=" { Goal::AtLeast(goal) } else { Goal::AtMost(goal) };
    Some((name, value.parse().ok()?, unit, goal))
}

/// The race on a stage that others have set: `--farmhand PATH --state DIR --phone A1 --daemon PID --dir DIR --adb
/// adb29=/usr/bin/adb,5037,SERIAL,PID …`. `--dir` is a folder that both this process and the phones see.
fn given(arguments: &[&str]) -> io::Result<Race> {
    let values =
        |name: &str| -> Vec<&str> { arguments.windows(2).filter(|pair| pair[0] == name).map(|pair| pair[1]).collect() };
    let value = |name: &str| values(name).pop().ok_or_else(|| io::Error::other(format!("{name} is missing")));
    let (program, state, daemon) = (value("--farmhand")?, value("--state")?, number(value("--daemon")?)?);
    let mut contenders = vec![Contender::farmhand(Path::new(program), Path::new(state), value("--phone")?, daemon)];
    for adb in values("--adb") {
        let (name, rest) = adb.split_once('=').unwrap_or(("adb", adb));
        let [program, port, serial, pid] = rest.split(',').collect::<Vec<_>>()[..] else {
            return Err(io::Error::other(format!("--adb NAME=PROGRAM,PORT,SERIAL,PID, not {adb}")));
        };
        let adb = Contender::adb(name, Path::new(program), number(port)?, serial, number(pid)?);
        // The older one has no such flag, and never compresses.
        let uncompressed = (name == "adb34").then(|| adb.uncompressed());
        contenders.push(adb);
        contenders.extend(uncompressed);
    }
    Ok(Race { bus: "usb".to_owned(), contenders, dir: value("--dir")?.into(), sizes: Sizes::USB })
}

fn number<T: std::str::FromStr>(text: &str) -> io::Result<T> {
    text.parse().map_err(|_| io::Error::other(format!("{text} is no number")))
}
