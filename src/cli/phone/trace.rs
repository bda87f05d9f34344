//! `farmhand phone A1 trace`: what happened to one phone, as a story.

use std::time::{Duration, UNIX_EPOCH};

use clap::Args;

use crate::cli::client::{Client, segment};
use crate::cli::failure::Failure;
use crate::cli::paper::{Cell, Paper, Tone, json};
use crate::cli::{Heard, tell};
use crate::clock::UnixMillis;
use crate::phone::trace::{Happening, TraceEvent, TracePage};
use crate::rack::snapshot::PhoneState;

/// How many seconds the daemon may hold an answer back while nothing happens.
const WAIT_S: u64 = 20;

#[derive(Debug, Args)]
pub(super) struct Trace {
    /// Go on telling what happens, until interrupted
    #[arg(long, short)]
    follow: bool,
    /// Print the API's answer as JSON; with --follow one event a line
    #[arg(long)]
    json: bool,
}

impl Trace {
    pub(super) async fn carry_out(self, name: &str, client: &Client, paper: &Paper) -> Result<String, Failure> {
        let page = read(client, name, 0, 0).await?;
        if !self.follow {
            return Ok(if self.json { json(&page) } else { story(&page, paper) });
        }
        let mut next = page.next;
        let mut text = if self.json { lines(&page) } else { story(&page, paper) };
        while tell(&text) == Heard::Yes {
            let page = read(client, name, next, WAIT_S).await?;
            next = page.next;
            text = if self.json { lines(&page) } else { sheet(&page.events, paper) };
        }
        Ok(String::new())
    }
}

async fn read(client: &Client, name: &str, from: u64, wait: u64) -> Result<TracePage, Failure> {
    client.read(&format!("/api/phones/{}/trace?from={from}&wait={wait}", segment(name))).await
}

/// One event a line, for programs.
fn lines(page: &TracePage) -> String {
    // Our own types always can be written: their keys are texts.
    page.events.iter().map(|event| serde_json::to_string(event).unwrap_or_default() + "\n").collect()
}

fn story(page: &TracePage, paper: &Paper) -> String {
    let phone = page.slot.as_ref().map_or_else(|| page.phone.to_string(), |slot| format!("{slot} ({})", page.phone));
    if page.events.is_empty() {
        return format!("nothing has happened to {phone} since the daemon started\n");
    }
    let heading = match page.events.first().map_or(0, |event| event.number) {
        0 => format!("{phone}, since the daemon started\n"),
        forgotten => format!("{phone}; {forgotten} earlier events are forgotten\n"),
    };
    heading + &sheet(&page.events, paper)
}

fn sheet(events: &[TraceEvent], paper: &Paper) -> String {
    let row = |event: &TraceEvent| {
        let lasted = Duration::from_millis(u64::try_from(event.until.0 - event.at.0).unwrap_or_default());
        let lasted = Duration::from_secs(lasted.as_secs());
        let what = match lasted {
            Duration::ZERO => event.what.to_string(),
            lasted => format!("{} in {}", event.what, humantime::format_duration(lasted)),
        };
        vec![Cell::toned(Tone::Quiet, clock(event.at)), Cell::toned(tone(&event.what), what)]
    };
    paper.sheet(events.iter().map(row).collect())
}

/// As in the daemon's log.
fn clock(at: UnixMillis) -> String {
    let since = Duration::from_millis(u64::try_from(at.0).unwrap_or_default());
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}

fn tone(what: &Happening) -> Tone {
    match what {
        Happening::State { to: PhoneState::Recovering | PhoneState::Quarantined, .. }
        | Happening::OpenFailed { .. }
        | Happening::Lost { .. }
        | Happening::Silent { .. }
        | Happening::RungRefused { .. }
        | Happening::InstallFailed { .. } => Tone::Bad,
        Happening::State { to: PhoneState::Ready, .. } | Happening::Installed { .. } => Tone::Good,
        Happening::Alive { .. } => Tone::Quiet,
        _ => Tone::Plain,
    }
}
