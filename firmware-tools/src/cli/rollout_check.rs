//! `rackbench rollout-check`: every point of a rollout, seen from outside, one line each.

use miette::{IntoDiagnostic as _, Result};

use super::checks::{Common, Tally};
use super::log_to_stderr;
use crate::rollout_check;

/// Drive the real daemon through every point of a rollout on virtual racks, and say of each what was seen
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,
    /// The command that proves crash safety, such as `make proof-rollout KILLS=10`
    #[arg(long)]
    proof: Option<String>,
}

impl Args {
    pub(super) async fn run(self) -> Result<()> {
        log_to_stderr("error");
        let plan = self.common.plan("rollout-check", self.proof);
        let mut tally = Tally::new("rollout");
        rollout_check::run(&plan, |outcome| tally.take(outcome)).await.into_diagnostic()?;
        tally.end(&plan.dir)
    }
}
