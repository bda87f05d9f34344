//! How many lives of a whole rack one thread simulates in a second: `tests/sim`, optimised.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench that cannot measure must say so and stop"
)]

#[path = "report.rs"]
mod report;
#[path = "../tests/sim/world/mod.rs"]
mod world;

use std::io;
use std::time::{Duration, Instant};

use report::{Goal, report};
use world::{Telling, live, story};

/// What a seed must at least be worth.
const SIMULATED_MIN: Duration = Duration::from_secs(30 * 60);
const INPUTS_MIN: u64 = 2000;
const SEEDS: u64 = 200;

fn main() -> io::Result<()> {
    let begin = Instant::now();
    for seed in 1..=SEEDS {
        let lived = live(seed, Telling::Hash).unwrap_or_else(|_| panic!("{}", story(seed)));
        assert!(
            lived.simulated >= SIMULATED_MIN && lived.inputs >= INPUTS_MIN,
            "seed {seed} is worth little: {lived:?}"
        );
    }
    report("sim.seeds_per_s", SEEDS as f64 / begin.elapsed().as_secs_f64(), "/s", Goal::AtLeast(50.0))
}
