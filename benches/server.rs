//! farmhand's adb server beside Google's server 34: the same unmodified client, the same adbd, in turns.
//!
//! The stage is that of the bench `adb` ([`stage`]), in a network namespace of its own; for many phones there is a virtual rack.

#![allow(clippy::expect_used, clippy::panic, reason = "a bench that cannot measure must say so and stop")]

#[path = "server/crowd.rs"]
mod crowd;
#[path = "server/inside.rs"]
mod inside;
#[path = "adb/race.rs"]
mod race;
#[path = "report.rs"]
mod report;
#[path = "adb/stage.rs"]
mod stage;
#[path = "server/talk.rs"]
mod talk;
#[path = "server/track.rs"]
mod track;

use std::alloc::System;
use std::io;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use race::{Race, Run};
use report::{Goal, median, report};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> io::Result<()> {
    stage::leave_the_network()?;
    let stage = stage::Stage::set()?;
    let race = stage.servers_race()?;
    files(&race)?;
    race.small_files("server.push_1000_files")?;
    let (google, google_port) = stage.google()?;
    talk::shells(google_port)?;
    track::measure(google)?;
    inside::measure(ALLOCATOR)?;
    crowd::measure(google)
}

/// One large file, there and back; what the server itself costs meanwhile.
fn files(race: &Race) -> io::Result<()> {
    let file = race.random_file()?;
    let pushes = race.pushes(&file)?;
    race.ratio("server.push_tcp", &pushes, 0.9)?;
    race.tell_processors("push", &pushes);
    let gigabytes = race.sizes.file_len as f64 / 1e9;
    let cpu = |runs: &Vec<Run>| median(runs.iter().map(|run| run.server_s / gigabytes).collect());
    let cpu: Vec<f64> = pushes.iter().map(cpu).collect();
    race.tell("the server's own processor time while a file is pushed, s a GB", &cpu);
    // The kernel counts hundredths: less than that is nothing that could be divided by.
    report("server.cpu_s_per_gb", cpu[0] / cpu[1].max(0.01), "ratio", Goal::AtMost(0.8))?;

    let pulls = race.pulls(&file)?;
    race.ratio("server.pull_tcp", &pulls, 0.9)?;
    race.tell_processors("pull", &pulls);
    Ok(())
}
