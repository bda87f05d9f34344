//! `farmhand phones`: every phone, one a line; and what many of them register as.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::client::Client;
use super::failure::Failure;
use super::paper::{Cell, Paper, Tone, json, or_dash};
use crate::config::parse_phones;
use crate::rack::request::Request;
use crate::rack::snapshot::{LineState, PhoneState, PhoneView};
use crate::reason;

/// More than any table of phones has.
const FILE_MAX: u64 = 64 << 20;

#[derive(Debug, Args)]
pub(super) struct Phones {
    /// Print the API's answer as JSON
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Set what phones register as with the central server
    ///
    /// The file is CSV: a line `phone,credential`, then for each phone its id, serial or slot, a comma and what the
    /// central server knows it as. Phones that it does not name keep what they have.
    Import {
        /// The file; `-` is standard input
        file: PathBuf,
    },
}

impl Phones {
    pub(super) async fn carry_out(self, client: &Client, paper: &Paper) -> Result<String, Failure> {
        if let Some(Action::Import { file }) = self.action {
            let phones = read(&file)?;
            return Ok(client.order(&Request::IdentitiesImport { phones, who: String::new() }).await?.what + "\n");
        }
        let phones: Vec<PhoneView> = client.read("/api/phones").await?;
        if self.json {
            return Ok(json(&phones));
        }
        if phones.is_empty() {
            return Ok("No phone was found yet. Plug one in, with USB debugging switched on.\n".to_owned());
        }
        let heading = ["SLOT", "PHONE", "MODEL", "PLACE", "STATE", "BATTERY", "AGENT", "LINE", "ALIVE", "HELD", "WHY"];
        Ok(paper.table(&heading, phones.iter().map(|phone| row(phone, paper)).collect()))
    }
}

fn read(file: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let text = if file == Path::new("-") {
        let mut text = Vec::new();
        std::io::stdin().lock().take(FILE_MAX).read_to_end(&mut text).map(|_| text)
    } else {
        std::fs::read(file)
    };
    let text = text.map_err(|why| Failure::File { path: file.to_owned(), reason: reason::of(&why) })?;
    parse_phones(&text).map_err(|bad| Failure::Phones { path: file.to_owned(), bad })
}

fn row(phone: &PhoneView, paper: &Paper) -> Vec<Cell> {
    // What an absent phone had is no news; `phone show` has it.
    let here = phone.state != PhoneState::Absent;
    let battery = phone.battery.filter(|_| here).map(|battery| {
        let charging = if battery.charging { "+" } else { "" };
        format!("{} %{charging}", battery.level_percent)
    });
    vec![
        or_dash(phone.slot.as_ref()).into(),
        (&phone.id).into(),
        or_dash(phone.model.as_ref()).into(),
        or_dash(phone.endpoint.as_ref()).into(),
        Cell::toned(tone_of(phone.state), phone.state.as_str()),
        or_dash(battery).into(),
        or_dash(phone.agent.as_ref().map(|agent| &agent.version_name)).into(),
        Cell::toned(tone_of_line(phone.line.state), phone.line.state.as_str()),
        paper.ago_or_dash(phone.last_alive).into(),
        or_dash(phone.leases.first().map(|lease| &lease.who)).into(),
        (&phone.why).into(),
    ]
}

/// What a state means to the reader.
pub(super) fn tone_of(state: PhoneState) -> Tone {
    match state {
        PhoneState::Ready => Tone::Good,
        PhoneState::Absent | PhoneState::Detached => Tone::Quiet,
        PhoneState::Recovering | PhoneState::Quarantined | PhoneState::NotEnumerated | PhoneState::OtherMode => {
            Tone::Bad
        }
        PhoneState::Detected
        | PhoneState::Claiming
        | PhoneState::Authorising
        | PhoneState::Online
        | PhoneState::Provisioning => Tone::Busy,
    }
}

/// What a line's state means to the reader.
pub(super) fn tone_of_line(state: LineState) -> Tone {
    match state {
        LineState::Registered => Tone::Good,
        LineState::Closed => Tone::Quiet,
        LineState::Connecting => Tone::Busy,
        LineState::NeedsIdentity | LineState::Waiting => Tone::Bad,
    }
}
