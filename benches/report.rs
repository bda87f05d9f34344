//! How every bench says what it measured: a line for people, a row for programs.

#![allow(clippy::print_stdout, reason = "printing is what a bench is for")]

use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// What a figure should be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// This, or more.
    #[allow(dead_code, reason = "not every bench has both kinds")]
    AtLeast(f64),
    /// This, or less.
    #[allow(dead_code, reason = "not every bench has both kinds")]
    AtMost(f64),
}

/// Prints `RESULT name value unit goal <= n` and puts the row into target/bench/results.tsv, in place of an older one.
///
/// # Errors
/// The table cannot be written.
pub(crate) fn report(name: &str, value: f64, unit: &str, goal: Goal) -> io::Result<()> {
    let (sign, goal) = match goal {
        Goal::AtLeast(goal) => (">=", goal),
        Goal::AtMost(goal) => ("<=", goal),
    };
    let value = number(value);
    println!("RESULT {name} {value} {unit} goal {sign} {goal}");
    let table = target().join("bench/results.tsv");
    let others = fs::read_to_string(&table).unwrap_or_default();
    let mut rows: Vec<&str> = others.lines().filter(|row| row.split('\t').next() != Some(name)).collect();
    let row = format!("{name}\t{value}\t{unit}\t{sign}\t{goal}");
    rows.push(&row);
    rows.sort_unstable();
    fs::create_dir_all(table.parent().unwrap_or(Path::new(".")))?;
    fs::write(&table, rows.join("\n") + "\n")
}

/// The middle one of several runs.
#[allow(dead_code, reason = "not every bench runs several times")]
pub(crate) fn median(mut runs: Vec<f64>) -> f64 {
    runs.sort_by(f64::total_cmp);
    runs.get(runs.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Four digits are all that a bench on a busy machine can promise.
fn number(value: f64) -> String {
    if value.fract() == 0.0 || value.abs() >= 1000.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

/// Where cargo puts what it builds, and benches what they find.
pub(crate) fn target() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    env::var_os("CARGO_TARGET_DIR").map_or_else(default, PathBuf::from)
}
