//! `rackbench line-check`: every point of the line to the central server, seen from outside, one line each.

use miette::{IntoDiagnostic as _, Result};

use super::checks::{Common, Tally};
use super::log_to_stderr;
use crate::line_check;

/// Drive the real daemon through every point of the central line on virtual racks, and say of each what was seen
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,
    /// The command that runs the tests of points that no rack can show, such as `cargo test`
    #[arg(long, default_value = "cargo test")]
    proof: String,
}

impl Args {
    pub(super) async fn run(self) -> Result<()> {
        log_to_stderr("error");
        let plan = self.common.plan("line-check", Some(self.proof));
        let mut tally = Tally::new("line");
        line_check::run(&plan, |outcome| tally.take(outcome)).await.into_diagnostic()?;
        tally.end(&plan.dir)
    }
}
