//! `farmhand keys`: with which keys phones let this host in. Works on the state directory itself, also without a daemon.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::paper::{Paper, json};
use crate::adb::auth::{KeyRing, google_key};

/// The keys with which phones let this host in
#[derive(Debug, Args)]
pub(super) struct Keys {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// All keys, in the order in which they are tried
    List {
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// Keep a copy of a key in Google's format, such as ~/.android/adbkey, and try it from the daemon's next start on
    Import {
        /// The private key, as PEM
        file: PathBuf,
        /// What to call it; by default as the file
        #[arg(long)]
        name: Option<String>,
    },
    /// Print the public half of this host's own key, as a line of a phone's adb_keys
    Export {
        /// Write the private half into this new file instead: whoever has it can be this host to every phone
        #[arg(long, value_name = "FILE")]
        private: Option<PathBuf>,
    },
}

impl Keys {
    pub(super) fn carry_out(self, state: &Path, paper: &Paper) -> Result<String, Failure> {
        match self.action {
            Action::List { json: as_json } => {
                let keys = KeyRing::of_host(state)?.infos();
                if as_json {
                    return Ok(json(&keys));
                }
                let row = |key: &crate::adb::auth::KeyInfo| vec![(&key.fingerprint).into(), key.path.display().into()];
                Ok(paper.table(&["FINGERPRINT", "FILE"], keys.iter().map(row).collect()))
            }
            Action::Import { file, name } => {
                let key = KeyRing::import(state, &file, name.as_deref())?;
                let known = google_key().is_some_and(|google| google == file);
                let hint = if known { ", whoever runs it" } else { "" };
                Ok(format!(
                    "{} is kept in {}\nThe daemon tries it from its next start on{hint}.\n",
                    key.fingerprint,
                    key.path.display()
                ))
            }
            Action::Export { private: None } => {
                let ring = KeyRing::load_or_create(state)?;
                Ok(ring.public_key_text().map(|text| text + "\n").unwrap_or_default())
            }
            Action::Export { private: Some(to) } => {
                let ring = KeyRing::load_or_create(state)?;
                let own = ring.files().next().map(Path::to_owned).unwrap_or_default();
                copy_private(&own, &to)
                    .map_err(|error| Failure::File { path: to.clone(), reason: error.to_string() })?;
                Ok(format!("the private key is in {}\n", to.display()))
            }
        }
    }
}

/// Into a new file that only its owner reads.
fn copy_private(from: &Path, to: &Path) -> std::io::Result<()> {
    let pem = std::fs::read(from)?;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    file.write_all(&pem)?;
    file.sync_all()
}
