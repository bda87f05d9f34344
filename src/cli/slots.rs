//! `farmhand slots`: every place on USB, and the names for their ports, learnt by plugging one phone at a time.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};

use super::client::Client;
use super::failure::Failure;
use super::paper::{Cell, Form, Paper, or_dash};
use crate::config::{self, ConfigError};
use crate::rack::ids::{Endpoint, PortPath};
use crate::rack::snapshot::{ControllerView, PhoneState, PhoneView, Snapshot};

/// Between two looks while a phone is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(300);

#[derive(Debug, Args)]
pub(super) struct Slots {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Every place on USB with its hub, speed and current, and the room on each controller
    Show(Form),
    /// Name ports by plugging one phone at a time; prints the [[slot]] sections
    Learn {
        /// The names, in the order in which the phones will be plugged in; asked for one by one if there is none
        names: Vec<String>,
        /// Append the sections to this configuration instead of printing them; what it says already stays
        #[arg(long, value_name = "FILE")]
        append: Option<PathBuf>,
    },
}

impl Slots {
    pub(super) async fn carry_out(self, client: &Client, paper: &Paper) -> Result<String, Failure> {
        match self.action {
            Action::Show(form) => {
                let snapshot: Snapshot = client.read("/api/snapshot").await?;
                let places: Vec<&PhoneView> = snapshot.phones.iter().filter(|phone| path(phone).is_some()).collect();
                Ok(form.of(&places, |places| sheet(places, &snapshot.controllers, paper)))
            }
            Action::Learn { names, append } => {
                let learnt = learn(client, names).await?;
                match append {
                    Some(file) => add_to(&file, &learnt),
                    None => Ok(sections(&learnt)),
                }
            }
        }
    }
}

/// A name and the port that it was learnt for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Learnt {
    name: String,
    path: PortPath,
}

fn path(phone: &PhoneView) -> Option<&PortPath> {
    match phone.endpoint.as_ref()? {
        Endpoint::Usb(path) => Some(path),
        Endpoint::Tcp(_) => None,
    }
}

fn sheet(places: &[&PhoneView], controllers: &[ControllerView], paper: &Paper) -> String {
    let row = |phone: &&PhoneView| {
        let usb = phone.usb.as_ref();
        vec![
            or_dash(phone.slot.as_ref()).into(),
            or_dash(path(phone)).into(),
            (&phone.id).into(),
            Cell::toned(super::phones::tone_of(phone.state), phone.state.as_str()),
            or_dash(path(phone).map(PortPath::hub_name)).into(),
            or_dash(usb.map(|usb| usb.speed.as_str())).into(),
            or_dash(usb.map(|usb| format!("{} mA", usb.claimed_milliamps))).into(),
        ]
    };
    let heading = ["SLOT", "PORT", "PHONE", "STATE", "HUB", "SPEED", "CLAIMS"];
    let mut text = match places {
        [] => "no handset was seen on USB\n".to_owned(),
        _ => paper.table(&heading, places.iter().map(row).collect()),
    };
    for controller in controllers {
        let ControllerView { name, devices, devices_max, endpoints, .. } = controller;
        let room = format!("controller {name}: {devices} of {devices_max} devices, {endpoints} endpoints in use");
        let full = controller.full.as_ref().map(|why| format!("; full: {why}")).unwrap_or_default();
        text += &format!("{room}{full}\n");
    }
    text
}

/// Learns a port for each name; without names it asks until nothing is answered.
async fn learn(client: &Client, names: Vec<String>) -> Result<Vec<Learnt>, Failure> {
    let ask = names.is_empty();
    let mut names = names.into_iter();
    let mut learnt: Vec<Learnt> = Vec::new();
    let mut before = plugged(client).await?;
    loop {
        let name = if ask { asked(&learnt) } else { names.next() };
        let Some(name) = name else { return Ok(learnt) };
        say(&format!("plug a phone into {name} (one that is plugged in already: unplug it and plug it in again) … "));
        let path = loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = plugged(client).await?;
            let new = now.iter().find(|path| !before.contains(path)).cloned();
            before = now;
            match new {
                Some(path) if learnt.iter().any(|known| known.path == path) => {
                    say(&format!("{path} has a name already … "));
                }
                Some(path) => break path,
                None => {}
            }
        };
        say(&format!("{path}\n"));
        learnt.push(Learnt { name, path });
    }
}

/// The ports in which a handset is, whatever mode it is in: what did not enumerate may be anything.
async fn plugged(client: &Client) -> Result<BTreeSet<PortPath>, Failure> {
    let phones: Vec<PhoneView> = client.read("/api/phones").await?;
    let is_here = |phone: &&PhoneView| !matches!(phone.state, PhoneState::Absent | PhoneState::NotEnumerated);
    let here = phones.iter().filter(is_here);
    Ok(here.filter_map(path).cloned().collect())
}

/// The next name from standard input; none at its end, or for an empty line.
fn asked(learnt: &[Learnt]) -> Option<String> {
    say(&format!("name of slot {} (nothing: done): ", learnt.len() + 1));
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).ok()?;
    Some(line.trim().to_owned()).filter(|name| !name.is_empty())
}

/// To the person, beside what is printed in the end. A terminal that is gone hears nothing.
fn say(text: &str) {
    let mut terminal = io::stderr().lock();
    let _ = terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush());
}

fn sections(learnt: &[Learnt]) -> String {
    let section = |slot: &Learnt| {
        let name = serde_json::Value::from(slot.name.as_str());
        format!("[[slot]]\nname = {name}\npath = \"{}\"\n\n", slot.path)
    };
    learnt.iter().map(section).collect()
}

/// Appends the sections, if the whole is a configuration afterwards.
fn add_to(file: &Path, learnt: &[Learnt]) -> Result<String, Failure> {
    let unwritable = |reason: io::Error| Failure::Unwritable { file: file.to_owned(), reason };
    let before = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(unwritable(error)),
    };
    let gap = if before.is_empty() || before.ends_with("\n\n") { "" } else { "\n" };
    let added = format!("{gap}{}", sections(learnt));
    let base = std::path::absolute(file).ok().and_then(|path| path.parent().map(Path::to_owned)).unwrap_or_default();
    config::parse(&file.display().to_string(), &format!("{before}{added}"), &base, "rack")
        .map_err(ConfigError::from)?;
    let mut open = OpenOptions::new().create(true).append(true).open(file).map_err(unwritable)?;
    open.write_all(added.as_bytes()).and_then(|()| open.sync_all()).map_err(unwritable)?;
    Ok(format!("{} slots were added to {}; they count from the next start on\n", learnt.len(), file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learnt(name: &str, path: &str) -> Learnt {
        Learnt { name: name.to_owned(), path: path.parse().unwrap() }
    }

    #[test]
    fn what_was_learnt_is_appended_to_the_owners_file_which_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("farmhand.toml");
        std::fs::write(&file, "# mine\n[rack]\nname = \"r\"").unwrap();
        add_to(&file, &[learnt("A1", "1-2.3"), learnt("A2", "1-2.4")]).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let expected = "# mine\n[rack]\nname = \"r\"\n[[slot]]\nname = \"A1\"\npath = \"1-2.3\"\n\n[[slot]]\nname = \"A2\"\npath = \"1-2.4\"\n\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_name_or_port_that_is_taken_leaves_the_file_untouched() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("farmhand.toml");
        let mine = "[[slot]]\nname = \"A1\"\npath = \"1-2.3\"\n";
        std::fs::write(&file, mine).unwrap();
        assert!(add_to(&file, &[learnt("A1", "1-2.4")]).is_err());
        assert!(add_to(&file, &[learnt("A2", "1-2.3")]).is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), mine);
    }
}
