//! farmhand's ADB beside Google's, whole process against whole process: `farmhand phone A1 push f d` with the daemon running, `adb
//! push f d` with its server running, in turns, on the same adbd.
//!
//! Without arguments it makes its own stage ([`stage`]): Google's adbd on TCP, in a network namespace of its own. On another stage,
//! such as a USB bus, it is told who runs where:
//!
//! ```text
//!     adb race usb --farmhand PATH --state DIR --phone A1 --daemon PID --dir DIR \
//!         --adb adb29=/usr/bin/adb,5037,SERIAL,PID …
//! ```
//!
//! `usb` is how its figures are called (`adb.push_usb_vs_adb`), and `--dir` a folder that both this process and the phone see.

#![allow(clippy::expect_used, clippy::panic, reason = "a bench that cannot measure must say so and stop")]

#[path = "adb/heap.rs"]
mod heap;
#[path = "adb/inside.rs"]
mod inside;
#[path = "adb/race.rs"]
mod race;
#[path = "report.rs"]
mod report;
#[path = "adb/stage.rs"]
mod stage;

use std::alloc::System;
use std::path::PathBuf;
use std::{env, io};

use race::{Contender, Race, Sizes};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> io::Result<()> {
    let mut arguments = env::args().skip_while(|argument| argument != "race").skip(1);
    match arguments.next() {
        Some(bus) => given(&bus, &arguments.collect::<Vec<_>>())?.run(),
        None => tcp(),
    }
}

/// All figures over TCP, on a stage of its own.
fn tcp() -> io::Result<()> {
    stage::leave_the_network()?;
    let stage = stage::Stage::set()?;
    stage.race().run()?;
    inside::measure(stage::ADBD)?;
    heap::measure(stage::ADBD, ALLOCATOR)
}

/// The race on a stage that others have set.
fn given(bus: &str, arguments: &[String]) -> io::Result<Race> {
    let values = |name: &str| {
        let pairs = arguments.windows(2).filter(move |pair| pair[0] == name);
        pairs.map(|pair| pair[1].clone()).collect::<Vec<_>>()
    };
    let value = |name: &str| values(name).pop().ok_or_else(|| io::Error::other(format!("{name} is missing")));
    let (phone, state) = (value("--phone")?, PathBuf::from(value("--state")?));
    let mut contenders =
        vec![Contender::farmhand(&PathBuf::from(value("--farmhand")?), &state, &phone, number(&value("--daemon")?)?)];
    for adb in values("--adb") {
        let (name, rest) = adb.split_once('=').unwrap_or(("adb", &adb));
        let [program, port, serial, pid] = rest.split(',').collect::<Vec<_>>()[..] else {
            return Err(io::Error::other(format!("--adb NAME=PROGRAM,PORT,SERIAL,PID, not {adb}")));
        };
        contenders.push(Contender::adb(name, &PathBuf::from(program), number(port)?, serial, number(pid)?));
    }
    Ok(Race { bus: bus.to_owned(), contenders, dir: value("--dir")?.into(), sizes: Sizes::USB })
}

fn number<T: std::str::FromStr>(text: &str) -> io::Result<T> {
    text.parse().map_err(|_| io::Error::other(format!("{text} is no number")))
}
