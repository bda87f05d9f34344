//! `rackbench rollout-check`: every point of a rollout, seen from outside, one line each.

use std::path::PathBuf;

use miette::{IntoDiagnostic as _, Result, miette};

use super::{log_to_stderr, say};
use crate::rollout_check::{self, Outcome, Plan};

/// Drive the real daemon through every point of a rollout on virtual racks, and say of each what was seen
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The daemon's binary
    #[arg(long)]
    farmhand: PathBuf,
    /// Only points that begin so, such as `refused`
    #[arg(long)]
    only: Option<String>,
    /// Where racks, states and logs are made anew
    #[arg(long, default_value = "target/rollout-check")]
    dir: PathBuf,
    /// The command that proves crash safety, such as `make proof-rollout KILLS=10`
    #[arg(long)]
    proof: Option<String>,
}

impl Args {
    pub(super) async fn run(self) -> Result<()> {
        log_to_stderr("error");
        let dir = self.dir.clone();
        let plan = Plan { farmhand: self.farmhand, dir: self.dir, proof: self.proof, only: self.only };
        let (mut ok, mut failed) = (0_usize, Vec::new());
        let all_ok = rollout_check::run(&plan, |outcome| {
            print(outcome);
            match outcome.result {
                Ok(_) => ok += 1,
                Err(_) => failed.push(outcome.point),
            }
        });
        if all_ok.await.into_diagnostic()? {
            say(format_args!("{ok} points ok"))
        } else {
            let help = format!("each has its rack and its daemon's log below {}", dir.display());
            Err(miette!(help = help, "{ok} points are ok, {} are not: {}", failed.len(), failed.join(", ")))
        }
    }
}

fn print(outcome: &Outcome) {
    let (point, seconds) = (outcome.point, outcome.took.as_secs_f64());
    let line = match &outcome.result {
        Ok(seen) => format!("CHECK rollout.{point} ok {seconds:.1} {}", one_line(seen)),
        Err(miss) => format!("CHECK rollout.{point} FAIL {seconds:.1} {}", one_line(&miss.to_string())),
    };
    // Whoever reads may have gone; the exit status still tells.
    let _ = say(format_args!("{line}"));
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
