//! `farmhand man`: the manual page, made from the same definition as `--help`.

use std::path::PathBuf;

use clap::{Args, Command};

use super::failure::Failure;

#[derive(Debug, Args)]
pub(super) struct Man {
    #[command(flatten)]
    _daemonless: super::Daemonless,
    /// Write the page of every command into this directory instead of printing the main one
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Man {
    pub(super) fn carry_out(self, command: Command) -> Result<String, Failure> {
        let mut page = Vec::new();
        match self.dir {
            Some(dir) => std::fs::create_dir_all(&dir).and_then(|()| clap_mangen::generate_to(command, &dir)),
            None => clap_mangen::Man::new(command).render(&mut page),
        }
        .map_err(Failure::Runtime)?;
        Ok(String::from_utf8_lossy(&page).into_owned())
    }
}
