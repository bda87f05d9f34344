//! `rackbench ctl`: one order to a running rack.

use std::path::PathBuf;

use miette::{IntoDiagnostic as _, Result, WrapErr as _};

use super::say;
use crate::control;
use crate::order::Order;

/// Give an order to a running rack
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The directory of the rack
    #[arg(long, default_value = "target/demo/rack")]
    dir: PathBuf,
    #[command(subcommand)]
    order: Order,
}

impl Args {
    pub(super) async fn run(self) -> Result<()> {
        let done = control::give(&self.dir, &self.order)
            .await
            .into_diagnostic()
            .wrap_err_with(|| format!("the rack in {} did not do it", self.dir.display()))?;
        say(format_args!("{}", serde_json::to_string_pretty(&done).into_diagnostic()?))?;
        Ok(())
    }
}
