//! `farmhand config`: look at a configuration without running it.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::failure::Failure;
use crate::config::{EXAMPLE, read};

#[derive(Debug, Args)]
pub(super) struct Config {
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
                let (slots, hubs) = (config.slots.len(), config.hubs.len());
                Ok(format!("{} is right: {slots} slots, {hubs} hubs.\n", file.display()))
            }
            Action::Show { file } => Ok(read(&file)?.show()),
            Action::Example => Ok(EXAMPLE.to_owned()),
        }
    }
}
