//! The command line of rackbench, one file a subcommand. Only these files print.

mod agent;
mod apk;
mod central;
mod checks;
mod ctl;
mod demo;
mod demo_check;
mod handset;
mod line_check;
mod rack;
mod rollout_check;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use miette::{IntoDiagnostic as _, Result};

/// Bench tools of farmhand: a virtual rack, a reference central server, and the check of the real daemon on them
#[derive(Debug, Parser)]
#[command(name = "rackbench", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Rack(rack::Args),
    Ctl(ctl::Args),
    Central(central::Args),
    Agent(agent::Args),
    Apk(apk::Args),
    Handset(handset::Args),
    Demo(demo::Args),
    DemoCheck(demo_check::Args),
    RolloutCheck(rollout_check::Args),
    LineCheck(line_check::Args),
}

impl Cli {
    /// Carries out the command until it is done or interrupted.
    ///
    /// # Errors
    ///
    /// It could not be carried out; the error says why and what to do.
    pub fn run(self) -> Result<()> {
        let runtime = tokio::runtime::Runtime::new().into_diagnostic()?;
        runtime.block_on(async {
            match self.command {
                Command::Rack(args) => args.run().await,
                Command::Ctl(args) => args.run().await,
                Command::Central(args) => args.run().await,
                Command::Agent(args) => args.run().await,
                Command::Apk(args) => args.run(),
                Command::Handset(args) => args.run().await,
                Command::Demo(args) => args.run().await,
                Command::DemoCheck(args) => args.run().await,
                Command::RolloutCheck(args) => args.run().await,
                Command::LineCheck(args) => args.run().await,
            }
        })
    }
}

/// Logs to stderr as RUST_LOG says, else what is worth a person's attention.
fn log_to_stderr(default: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| default.into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

/// Prints a line; whoever reads may have gone.
fn say(line: std::fmt::Arguments<'_>) -> Result<()> {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{line}").into_diagnostic()
}

/// Waits until a person or a service manager wants it to end.
async fn interrupted() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminated = signal(SignalKind::terminate()).into_diagnostic()?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.into_diagnostic(),
        _ = terminated.recv() => Ok(()),
    }
}

/// The rack of the demo.
fn demo_rack() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("racks/demo.toml")
}
