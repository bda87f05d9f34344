//! `rackbench demo-check`: every step of the demo, seen from outside, one line each.

use std::path::PathBuf;

use miette::{IntoDiagnostic as _, Result, miette};

use super::{log_to_stderr, say};
use crate::check::{self, Outcome, Plan};

/// Drive the real daemon on the demo's rack without a person, and say of each step whether it was seen
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The daemon's binary
    #[arg(long)]
    farmhand: PathBuf,
    /// Only this step, or this family of steps, such as `rollout`
    #[arg(long)]
    only: Option<String>,
    /// Where the rack, the daemon's state and its log are made anew
    #[arg(long, default_value = "target/demo-check")]
    dir: PathBuf,
    /// Where the picture of the page is kept
    #[arg(long, default_value = "target/demo/page.png")]
    screenshot: PathBuf,
}

impl Args {
    pub(super) async fn run(self) -> Result<()> {
        log_to_stderr("warn");
        let log = self.dir.join("farmhand.log");
        let plan = Plan { farmhand: self.farmhand, dir: self.dir, screenshot: self.screenshot, only: self.only };
        let all_ok = check::run(&plan, print).await.into_diagnostic()?;
        if all_ok {
            Ok(())
        } else {
            Err(miette!(help = "the daemon's log tells its side", "not all steps are ok; log: {}", log.display()))
        }
    }
}

fn print(outcome: &Outcome) {
    let seconds = outcome.took.as_secs_f64();
    let line = match &outcome.result {
        Ok(()) => format!("STEP {} ok {seconds:.1}", outcome.step),
        Err(miss) => {
            let (step, expected, seen) = (outcome.step, &miss.expected, &miss.seen);
            format!("STEP {step} FAIL {seconds:.1}\n  expected  {expected}\n  seen      {seen}")
        }
    };
    // Whoever reads may have gone; the exit status still tells.
    let _ = say(format_args!("{line}"));
}
