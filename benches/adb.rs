//! farmhand's ADB beside Google's, whole process against whole process: `farmhand phone A1 push f d` with the daemon running, `adb
//! push f d` with its server running, in turns, on the same adbd.
//!
//! It makes its own stage ([`stage`]): Google's adbd on TCP, in a network namespace of its own. On USB the same race is run by the bench
//! `usb`.

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
use std::io;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// All figures over TCP, on a stage of its own.
fn main() -> io::Result<()> {
    // Fetching needs the network that is left.
    let adb_client = stage::adb_client()?;
    stage::leave_the_network()?;
    let mut stage = stage::Stage::set()?;
    stage.adb_client = Some(adb_client);
    stage.race().run()?;
    inside::measure(stage::ADBD)?;
    heap::measure(stage::ADBD, ALLOCATOR)
}
