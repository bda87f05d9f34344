//! `farmhand keys`: with which keys phones let this host in. Works on the state directory itself, also without a daemon.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::paper::{Paper, Tone, json, or_dash};
use crate::adb::auth::{Candidate, KeyRing, google_key, google_key_of};

/// The keys with which phones let this host in
#[derive(Debug, Args)]
pub(super) struct Keys {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// The keys that the daemon tries, in their order, and why it leaves one out
    List {
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// Keep a copy of a key in Google's format for the daemon, which tries it from its next start on
    Import {
        /// The private key, as PEM; by default ~/.android/adbkey, under sudo that of who called it
        file: Option<PathBuf>,
        /// What to call it; by default as the file is called
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
                let keys = KeyRing::candidates(state)?;
                Ok(if as_json { json(&keys.iter().map(as_value).collect::<Vec<_>>()) } else { table(&keys, paper) })
            }
            Action::Import { file, name } => {
                let file = file.map_or_else(own_google_key, Ok)?;
                let key = KeyRing::import(state, &file, name.as_deref())?;
                Ok(format!(
                    "{} of {} is kept in {}\nThe daemon tries it from its next start on.\n",
                    key.fingerprint,
                    file.display(),
                    key.path.display()
                ))
            }
            Action::Export { private: None } => {
                let ring = KeyRing::load(state)?;
                Ok(ring.public_key_text().map(|text| text + "\n").unwrap_or_default())
            }
            Action::Export { private: Some(to) } => {
                let ring = KeyRing::load(state)?;
                let own = ring.files().next().map(Path::to_owned).unwrap_or_default();
                copy_private(&own, &to)
                    .map_err(|error| Failure::File { path: to.clone(), reason: error.to_string() })?;
                Ok(format!("the private key is in {}\n", to.display()))
            }
        }
    }
}

/// The key of Google's adb of the person at the keyboard.
fn own_google_key() -> Result<PathBuf, Failure> {
    let behind_sudo = std::env::var("SUDO_USER").ok();
    behind_sudo.and_then(|user| google_key_of(&user)).or_else(google_key).ok_or_else(|| Failure::Usage {
        what: "there is no ~/.android/adbkey to import".to_owned(),
        help: "give the file: farmhand keys import FILE",
    })
}

fn as_value(candidate: &Candidate) -> serde_json::Value {
    let key = candidate.key.as_ref().ok();
    serde_json::json!({
        "path": candidate.path,
        "fingerprint": key.map(|key| &key.fingerprint),
        "public": key.map(|key| &key.public),
        "left_out": candidate.key.as_ref().err().map(ToString::to_string),
    })
}

fn table(keys: &[Candidate], paper: &Paper) -> String {
    if keys.is_empty() {
        return "no key yet: the daemon makes one at its first start\n".to_owned();
    }
    let row = |candidate: &Candidate| {
        let fingerprint = or_dash(candidate.key.as_ref().ok().map(|key| &key.fingerprint));
        vec![fingerprint.into(), candidate.path.display().into()]
    };
    let mut text = paper.table(&["FINGERPRINT", "FILE"], keys.iter().map(row).collect());
    for error in keys.iter().filter_map(|candidate| candidate.key.as_ref().err()) {
        text += &paper.paint(Tone::Bad, &format!("left out: {error}"));
        text.push('\n');
    }
    text
}

/// Into a new file that only its owner reads.
fn copy_private(from: &Path, to: &Path) -> std::io::Result<()> {
    let pem = std::fs::read(from)?;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    file.write_all(&pem)?;
    file.sync_all()
}
