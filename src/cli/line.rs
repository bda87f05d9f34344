//! `farmhand line`: the lines of phones to the central server.

use clap::Args;
use serde::Serialize;

use super::client::{Client, segment};
use super::failure::Failure;
use super::paper::{Cell, Paper, json, or_dash};
use super::phones::tone_of_line;
use crate::clock::UnixMillis;
use crate::rack::ids::{PhoneId, SlotName};
use crate::rack::snapshot::{LineView, PhoneView};

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
        Ok(paper.table(&heading, phones.iter().map(|phone| row(phone, paper)).collect()))
    }
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
