//! What all checks of the real daemon have in common: how they are told, and how they tell what they saw.

use std::path::{Path, PathBuf};
use std::time::Duration;

use miette::{Result, miette};

use super::say;
use crate::check::{Miss, PointOutcome, PointPlan};

/// What every check is told.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Common {
    /// The daemon's binary
    #[arg(long)]
    pub(super) farmhand: PathBuf,
    /// Only what begins so, or belongs to this family
    #[arg(long)]
    pub(super) only: Option<String>,
    /// Where racks, states and logs are made anew; by default a folder in target that is called as the check is
    #[arg(long)]
    dir: Option<PathBuf>,
}

impl Common {
    /// Where the check of this name works.
    pub(super) fn dir(&self, check: &str) -> PathBuf {
        self.dir.clone().unwrap_or_else(|| Path::new("target").join(check))
    }

    pub(super) fn plan(self, check: &str, proof: Option<String>) -> PointPlan {
        let dir = self.dir(check);
        PointPlan { farmhand: self.farmhand, dir, proof, only: self.only }
    }
}

/// What has become of the points so far.
pub(super) struct Tally {
    /// What their names begin with, such as `rollout`.
    of: &'static str,
    ok: usize,
    failed: Vec<&'static str>,
}

impl Tally {
    pub(super) fn new(of: &'static str) -> Self {
        Self { of, ok: 0, failed: Vec::new() }
    }

    /// Prints a point, then its figures.
    pub(super) fn take(&mut self, outcome: &PointOutcome) {
        let name = format!("{}.{}", self.of, outcome.point);
        match &outcome.result {
            Ok(seen) => {
                let (seen, figures) = seen.split_once('\n').unwrap_or((seen, ""));
                print("CHECK", &name, outcome.took, Ok(seen));
                figures.lines().for_each(tell);
                self.ok += 1;
            }
            Err(miss) => {
                print("CHECK", &name, outcome.took, Err(miss));
                self.failed.push(outcome.point);
            }
        }
    }

    /// The exit: an error unless every point was ok.
    pub(super) fn end(self, dir: &Path) -> Result<()> {
        let Self { ok, failed, .. } = self;
        if failed.is_empty() {
            return say(format_args!("{ok} points ok"));
        }
        let help = format!("each has its rack and its daemon's log below {}", dir.display());
        Err(miette!(help = help, "{ok} points are ok, {} are not: {}", failed.len(), failed.join(", ")))
    }
}

/// One line for one thing that was looked at: `CHECK rollout.waves ok 12.1 what was seen`.
pub(super) fn print(word: &str, name: &str, took: Duration, result: std::result::Result<&str, &Miss>) {
    let (verdict, seen) = match result {
        Ok(seen) => ("ok", one_line(seen)),
        Err(miss) => ("FAIL", one_line(&miss.to_string())),
    };
    tell(format!("{word} {name} {verdict} {:.1} {seen}", took.as_secs_f64()).trim_end());
}

fn tell(line: &str) {
    // Whoever reads may have gone; the exit status still tells.
    let _ = say(format_args!("{line}"));
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
