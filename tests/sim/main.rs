//! The whole rack in simulation: the real cores of farmhand, and a world that troubles them.
//!
//! `cargo test --test sim` lives 300 seeds, each twice. A seed that fails is printed with the command that replays it, and with
//! what happened last. `SEEDS` says how many, `SEED` where to begin; with `SEEDS=1` the whole trace is printed.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and tells what it saw"
)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod moved;
mod world;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use world::{Lived, Telling, live, story};

/// What a seed must at least be worth.
const SIMULATED_MIN: Duration = Duration::from_secs(30 * 60);
const INPUTS_MIN: u64 = 2000;

#[test]
fn three_hundred_seeds() {
    let (first, count) = (number("SEED", 1), number("SEEDS", 300));
    let (next, inputs) = (AtomicU64::new(first), AtomicU64::new(0));
    let failed = std::thread::scope(|scope| {
        let worker = || {
            let mut failed = BTreeSet::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first + count || !failed.is_empty() {
                    return failed;
                }
                match twice(seed, count) {
                    Ok(lived) => drop(inputs.fetch_add(lived.inputs, Ordering::Relaxed)),
                    Err(()) => drop(failed.insert(seed)),
                }
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker panicked")).collect::<BTreeSet<u64>>()
    });
    if let Some(seed) = failed.first() {
        panic!("{}", story(*seed));
    }
    println!("{count} seeds from {first}: {} inputs", inputs.into_inner());
}

/// Lives a seed twice: what happens must be the same.
fn twice(seed: u64, count: u64) -> Result<Lived, ()> {
    let telling = if count == 1 { Telling::Watched } else { Telling::Hash };
    let once = live(seed, telling).map_err(drop)?;
    let again = live(seed, Telling::Hash).map_err(drop)?;
    let worth = once.simulated >= SIMULATED_MIN && once.inputs >= INPUTS_MIN;
    if once == again && worth { Ok(once) } else { Err(()) }
}

fn number(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`, expected a number")),
        Err(_) => otherwise,
    }
}
