//! `farmhand line`: the lines of phones to the central server.

use clap::Args;
use serde::Serialize;

use super::client::{Client, segment};
use super::failure::Failure;
use super::paper::{Cell, Paper, json, or_dash};
use super::phones::tone_of_line;
use crate::clock::UnixMillis;
use crate::rack::ids::{PhoneId, SlotName};
use crate::rack::snapshot::{LineView, OutboxView, PhoneView};

#[derive(Debug, Args)]
pub(super) struct Line {
    /// Only the line of this phone, by slot or id
    #[arg(value_name = "SLOT|ID")]
    name: Option<String>,
    /// Print the lines as JSON
    #[arg(long)]
    json: bool,
}

/// A line with its phone, for JSON.
#[derive(Serialize)]
struct PhoneLine<'p> {
    phone: &'p PhoneId,
    slot: Option<&'p SlotName>,
    #[serde(flatten)]
    line: &'p LineView,
}

impl Line {
    pub(super) async fn carry_out(self, client: &Client, paper: &Paper) -> Result<String, Failure> {
        let phones: Vec<PhoneView> = match &self.name {
            Some(name) => vec![client.read(&format!("/api/phones/{}", segment(name))).await?],
            None => client.read("/api/phones").await?,
        };
        if self.json {
            let lines =
                phones.iter().map(|phone| PhoneLine { phone: &phone.id, slot: phone.slot.as_ref(), line: &phone.line });
            return Ok(json(&lines.collect::<Vec<_>>()));
        }
        if phones.is_empty() {
            return Ok("No line yet: no phone was found, and lines are those of phones.\n".to_owned());
        }
        let heading = ["SLOT", "PHONE", "LINE", "FOR", "HEARTBEAT", "WAITS FOR", "WHY"];
        let table = paper.table(&heading, phones.iter().map(|phone| row(phone, paper)).collect());
        let notes: Vec<String> = phones.iter().filter_map(note).collect();
        Ok(if notes.is_empty() { table } else { format!("{table}\n{}\n", notes.join("\n")) })
    }
}

/// What is to be said of a phone's stored notices; nothing where all is well.
fn note(phone: &PhoneView) -> Option<String> {
    let OutboxView { waiting, bytes, refused, expired, unreadable, maybe_twice, trouble } = &phone.line.outbox;
    let counted = [
        (*waiting, format!("stored for the central server ({} kB)", bytes.div_ceil(1000))),
        (*refused, "refused by it and kept".to_owned()),
        (*expired, "removed unsent, since they were too old".to_owned()),
        (*unreadable, "not readable any more and put aside".to_owned()),
        (*maybe_twice, "sent again, since a connection ended before it was known whether they had come".to_owned()),
    ];
    let mut parts: Vec<String> =
        counted.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    parts.extend(trouble.as_ref().map(|why| format!("NOTHING MORE IS STORED: {why}")));
    let name = phone.slot.as_ref().map_or_else(|| phone.id.to_string(), ToString::to_string);
    (!parts.is_empty()).then(|| format!("{name}, notices of its agent: {}", parts.join("; ")))
}

fn row(phone: &PhoneView, paper: &Paper) -> Vec<Cell> {
    let line = &phone.line;
    vec![
        or_dash(phone.slot.as_ref()).into(),
        (&phone.id).into(),
        Cell::toned(tone_of_line(line.state), line.state.as_str()),
        or_dash(begun(line).map(|since| paper.age(since))).into(),
        paper.ago_or_dash(line.last_heartbeat).into(),
        paper.wait_or_dash(line.deadline.as_ref()).into(),
        (&line.why).into(),
    ]
}

/// Since when the line is in its state; nothing for a phone that was never here, whose line never was in any.
pub(super) fn begun(line: &LineView) -> Option<UnixMillis> {
    Some(line.since).filter(|since| *since != UnixMillis::default())
}
