//! `farmhand config`: look at a configuration without running it.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::failure::Failure;
use crate::agent::apk::{self, Expectation};
use crate::central::line::Server;
use crate::config::{Agent, EXAMPLE, read};

#[derive(Debug, Args)]
pub(super) struct Config {
    #[command(flatten)]
    _daemonless: super::Daemonless,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say everything that is wrong with a file
    Check {
        /// The file
        #[arg(default_value = super::CONFIG_FILE)]
        file: PathBuf,
    },
    /// Print what a file means, with each default marked
    Show {
        /// The file
        #[arg(default_value = super::CONFIG_FILE)]
        file: PathBuf,
    },
    /// Print a commented file to begin with
    Example,
}

impl Config {
    pub(super) fn carry_out(self) -> Result<String, Failure> {
        match self.action {
            Action::Check { file } => {
                let config = read(&file)?.config;
                let (slots, hubs) = (count(config.slots.len(), "slot"), count(config.hubs.len(), "hub"));
                let _servers = config.central.as_ref().map(Server::all_of).transpose()?;
                let agent = config.agent.as_ref().map(agent).transpose()?.unwrap_or_default();
                Ok(format!("{} is right: {slots}, {hubs}.\n{agent}", file.display()))
            }
            Action::Show { file } => Ok(read(&file)?.show()),
            Action::Example => Ok(EXAMPLE.to_owned()),
        }
    }
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// What the daemon would make of the agent's APK: the same check, on the same file.
fn agent(configured: &Agent) -> Result<String, Failure> {
    let Some(file) = &configured.apk else {
        return Ok(format!("[agent] names no apk: {} is watched and not installed.\n", configured.package));
    };
    let expected = Expectation {
        package: configured.package.clone(),
        signers: configured.signers.clone(),
        version_code: None,
        version_name: None,
        installed: None,
    };
    let apk = apk::check(file, &expected)?;
    let (package, version, code) = (&apk.package, &apk.version_name, apk.version_code);
    let trust = if configured.signers.is_empty() {
        format!(
            "[agent] signers is empty, so an APK by any signer would do. To take this one's only:\n  signers = [\"{}\"]\n",
            apk.signer_sha256
        )
    } else {
        "Its signer is among [agent] signers.\n".to_owned()
    };
    Ok(format!(
        "{}: {package} {version} ({code}), signed by {}: every phone shall have it.\n{trust}",
        file.display(),
        apk.signer_sha256
    ))
}
