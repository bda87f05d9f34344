//! `rackbench rack`: a virtual rack until Ctrl-C.

use std::path::PathBuf;
use std::sync::Arc;

use miette::{IntoDiagnostic as _, Result};

use super::{demo_rack, interrupted, log_to_stderr};
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
    #[expect(clippy::print_stdout, reason = "a command's output")]
    pub(super) async fn run(self) -> Result<()> {
        log_to_stderr("info");
        let file = RackFile::read(&self.file.unwrap_or_else(demo_rack))?;
        let apks = self.apks.unwrap_or_else(test_apks);
        let rack = Arc::new(Rack::start(file, Addresses::AsWritten, &apks, &self.dir).await.into_diagnostic()?);
        let _control = Control::start(Arc::clone(&rack), &self.dir).into_diagnostic()?;
        println!("the rack runs; its daemon: farmhand run --config {}", rack.config_file().display());
        println!("orders to it: rackbench ctl --dir {} --help", self.dir.display());
        interrupted().await
    }
}
