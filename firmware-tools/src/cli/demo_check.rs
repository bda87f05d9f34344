//! `rackbench demo-check`: every step of the demo, seen from outside, one line each.

use std::path::PathBuf;

use miette::{IntoDiagnostic as _, Result, miette};

use super::checks::{Common, print};
use super::log_to_stderr;
use crate::check::{self, Outcome, Plan};

/// Drive the real daemon on the demo's rack without a person, and say of each step whether it was seen
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,
    /// Where the picture of the page is kept
    #[arg(long, default_value = "target/demo/page.png")]
    screenshot: PathBuf,
}

impl Args {
    pub(super) async fn run(self) -> Result<()> {
        log_to_stderr("warn");
        let dir = self.common.dir("demo-check");
        let log = dir.join("farmhand.log");
        let Common { farmhand, only, .. } = self.common;
        let plan = Plan { farmhand, dir, screenshot: self.screenshot, only };
        let tell = |Outcome { step, took, result }: &Outcome| print("STEP", step, *took, result.as_ref().map(|()| ""));
        let all_ok = check::run(&plan, tell).await.into_diagnostic()?;
        if all_ok {
            Ok(())
        } else {
            Err(miette!(help = "the daemon's log tells its side", "not all steps are ok; log: {}", log.display()))
        }
    }
}
