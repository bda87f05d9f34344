//! `rackbench rack`: a virtual rack until Ctrl-C.

use std::path::PathBuf;
use std::sync::Arc;

use miette::{IntoDiagnostic as _, Result};

use super::{demo_rack, interrupted, log_to_stderr, say};
use crate::control::Control;
use crate::ports::Addresses;
use crate::rack::{Rack, test_apks};
use crate::rack_file::RackFile;

/// Run a virtual rack until Ctrl-C
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The rack file; the demo's by default
    #[arg(long)]
    file: Option<PathBuf>,
    /// Where farmhand.toml, the hubs' devices and the control socket are made
    #[arg(long, default_value = "target/rack")]
    dir: PathBuf,
    /// Where the rack file's APKs are; the test APKs by default
    #[arg(long)]
    apks: Option<PathBuf>,
}

impl Args {
    pub(super) async fn run(self) -> Result<()> {
        log_to_stderr("info,mqtt5=warn");
        let file = RackFile::read(&self.file.unwrap_or_else(demo_rack))?;
        let apks = self.apks.unwrap_or_else(test_apks);
        let rack = Arc::new(Rack::start(file, Addresses::PreferWritten, &apks, &self.dir).await.into_diagnostic()?);
        let _control = Control::start(Arc::clone(&rack), &self.dir).into_diagnostic()?;
        say(format_args!("the rack runs; its daemon: farmhand run --config {}", rack.config_file().display()))?;
        say(format_args!("orders to it: rackbench ctl --dir {} --help", self.dir.display()))?;
        interrupted().await
    }
}
