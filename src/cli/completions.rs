//! `farmhand completions bash`: what a shell completes after `farmhand`.

use clap::{Args, Command};
use clap_complete::Shell;

use super::failure::Failure;

#[derive(Debug, Args)]
pub(super) struct Completions {
    #[command(flatten)]
    _daemonless: super::Daemonless,
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn carry_out(self, mut command: Command) -> Result<String, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "farmhand", &mut script);
        Ok(String::from_utf8_lossy(&script).into_owned())
    }
}
