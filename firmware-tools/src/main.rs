//! rackbench: the bench tools of farmhand.

use clap::Parser;
use firmware_tools::cli::Cli;

fn main() -> miette::Result<()> {
    Cli::parse().run()
}
