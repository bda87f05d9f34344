//! The command line of farmhand.

use std::process::ExitCode;

fn main() -> ExitCode {
    farmhand::cli::main()
}
