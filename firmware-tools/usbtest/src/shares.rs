//! Two people push to phones of one bus at once: each has a share of it, and a phone that takes nothing any more holds nobody back.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::check::{Failure, until};
use crate::daemon::Daemon;
use crate::hub::{Hub, PORTS};
use crate::own::Own;
use crate::wrong::{READY_MAX, own, set_faults};

/// Beside the two neighbours, behind the same hub.
const MORE: [Own; 2] = [own(14, "THIRD", &[]), own(15, "FOURTH", &[])];
/// Which of the hub's phones mara pushes to; root pushes to all others.
const MARAS: usize = 1;
/// Which of root's phones takes nothing any more.
const STUCK: usize = 2;

/// What root pushes to each of his phones: for longer than all of this takes.
const BIG: (&str, u64) = ("/tmp/big", 1000 << 20);
/// What mara pushes.
const SMALL: (&str, u64) = ("/tmp/small", 24 << 20);
/// What the bus moves in a second, in bytes: less than this machine does, so that the bus is what they share.
const SPEED_PER_S: u64 = 12_000_000;
/// From here on a push is seen to go on, in bytes.
const BEGUN: u64 = 2 << 20;
/// Two alike have half of the bus each. By her phones alone mara would have a quarter, as one of four.
const SHARE: std::ops::RangeInclusive<f64> = 1.0 / 3.0..=2.0 / 3.0;
/// Until a push has begun, and until it does not go on.
const SOON: Duration = Duration::from_secs(20);

/// A push; it is killed when this is dropped.
struct Push(Child);

impl Drop for Push {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn bus_shares(daemon: &Daemon, hub: &Hub, neighbours: &[Own; 2]) -> Result<String, Failure> {
    for (own, port) in MORE.iter().zip(neighbours.len()..) {
        hub.plug_own(own, port)?;
    }
    let phones: Vec<&Own> = neighbours.iter().chain(&MORE).collect();
    for own in &phones {
        daemon.wait_for(own.serial, &["ready"], READY_MAX)?;
    }
    for (file, len) in [BIG, SMALL] {
        File::create(file)?.set_len(len)?;
    }
    // What the group farmhand is for on a rack.
    for (path, mode) in [("/state", 0o711), ("/state/phones.sock", 0o666)] {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    hub.set_speed(SPEED_PER_S);
    let mut pushes = Vec::new();
    for (_, own) in phones.iter().enumerate().filter(|(port, _)| *port != MARAS) {
        pushes.push(Push(push(daemon, own, BIG.0).spawn()?));
    }
    let start = hub.moved();
    let roots = || (0..PORTS).filter(|port| *port != MARAS);
    until("root pushes to all of his phones", SOON, || {
        let begun = grown(start, hub.moved());
        if roots().all(|port| begun[port] > BEGUN) { Ok(()) } else { Err(format!("{begun:?}").into()) }
    })?;
    let all_well = maras_share(daemon, hub, phones[MARAS])?;
    set_faults(phones[STUCK], &["stalls"])?;
    let mut before = hub.moved();
    until("a phone takes nothing any more", SOON, || {
        let now = hub.moved();
        let grown = grown(std::mem::replace(&mut before, now), now)[STUCK];
        if grown == 0 { Ok(()) } else { Err(format!("{grown} bytes more").into()) }
    })?;
    let one_stuck = maras_share(daemon, hub, phones[MARAS])?;
    set_faults(phones[STUCK], &[])?;
    Ok(format!("mara beside root with three phones: {all_well}; with one of these stuck: {one_stuck}"))
}

/// Mara pushes; gives what of the bus she had meanwhile.
fn maras_share(daemon: &Daemon, hub: &Hub, own: &Own) -> Result<String, Failure> {
    let start = hub.moved();
    let mut command = push(daemon, own, SMALL.0);
    let mut hers = Push(command.uid(1000).gid(1000).spawn()?);
    until("mara's push has begun", SOON, || {
        let status = hers.0.try_wait()?;
        let begun = grown(start, hub.moved())[MARAS];
        if begun > BEGUN { Ok(()) } else { Err(format!("{begun} bytes, {status:?}").into()) }
    })?;
    let (begun, at) = (hub.moved(), Instant::now());
    let status = hers.0.wait()?;
    let (moved, took) = (grown(begun, hub.moved()), at.elapsed());
    let all: u64 = moved.iter().sum();
    let share = moved[MARAS] as f64 / all as f64;
    let speed = all as f64 / 1e6 / took.as_secs_f64();
    let said = format!("{:.0} % of {speed:.1} MB/s in {:.1} s ({moved:?} bytes)", share * 100.0, took.as_secs_f64());
    if status.success() && SHARE.contains(&share) { Ok(said) } else { Err(format!("{status}: {said}").into()) }
}

fn push(daemon: &Daemon, own: &Own, file: &str) -> Command {
    daemon.command(&["phone", own.serial, "push", "-z", "none", file, "/data/local/tmp/pushed"])
}

fn grown(from: [u64; PORTS], to: [u64; PORTS]) -> [u64; PORTS] {
    std::array::from_fn(|port| to[port] - from[port])
}
