//! `farmhand phone A1 …`: one phone. What is known of it stands here; each further verb has a file of its own.

mod trace;

use clap::{Args, Subcommand};

use super::client::{Client, segment};
use super::failure::Failure;
use super::paper::{Cell, Paper, Tone, json, or_dash};
use super::phones::{tone_of, tone_of_line};
use crate::rack::snapshot::PhoneView;

#[derive(Debug, Args)]
pub(super) struct Phone {
    /// The slot in which it sits, or its id
    #[arg(value_name = "SLOT|ID")]
    name: String,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Everything that is known of it
    Show {
        /// Print the API's answer as JSON
        #[arg(long)]
        json: bool,
    },
    /// What happened to it, the oldest first: the last 256 events
    Trace(trace::Trace),
}

impl Phone {
    pub(super) async fn carry_out(self, client: &Client, paper: &Paper) -> Result<String, Failure> {
        match self.action {
            Action::Show { json } => show(&self.name, json, client, paper).await,
            Action::Trace(trace) => trace.carry_out(&self.name, client, paper).await,
        }
    }
}

async fn show(name: &str, as_json: bool, client: &Client, paper: &Paper) -> Result<String, Failure> {
    let phone: PhoneView = client.read(&format!("/api/phones/{}", segment(name))).await?;
    Ok(if as_json { json(&phone) } else { sheet(&phone, paper) })
}

fn sheet(phone: &PhoneView, paper: &Paper) -> String {
    let state = format!("{} for {}", phone.state.as_str(), paper.age(phone.since));
    let word = phone.line.state.as_str();
    let line = super::line::begun(&phone.line)
        .map_or_else(|| word.to_owned(), |since| format!("{word} for {}", paper.age(since)));
    let battery = phone.battery.map(|battery| {
        let mut parts = vec![format!("{} %", battery.level_percent)];
        parts.extend(battery.temperature_celsius.map(|celsius| format!("{celsius:.1} °C")));
        parts.extend(battery.voltage_millivolts.map(|millivolts| format!("{millivolts} mV")));
        parts.push(if battery.charging { "charging" } else { "not charging" }.to_owned());
        parts.join(", ")
    });
    let agent =
        phone.agent.as_ref().map(|agent| format!("{} {} ({})", agent.package, agent.version_name, agent.version_code));
    let model = [&phone.brand, &phone.model].into_iter().flatten().cloned().collect::<Vec<_>>().join(" ");
    let power = phone.power.as_ref().map(|power| format!("hub {} port {}", power.hub, power.port));
    let rows: Vec<(&str, Cell)> = vec![
        ("phone", (&phone.id).into()),
        ("slot", or_dash(phone.slot.as_ref()).into()),
        ("place", or_dash(phone.endpoint.as_ref()).into()),
        ("state", Cell::toned(tone_of(phone.state), state)),
        ("", (&phone.why).into()),
        ("waits for", paper.wait_or_dash(phone.deadline.as_ref()).into()),
        ("model", or_dash((!model.is_empty()).then_some(model)).into()),
        ("Android SDK", or_dash(phone.sdk).into()),
        ("serial", or_dash(phone.serial.as_ref()).into()),
        ("battery", or_dash(battery).into()),
        ("power", or_dash(power).into()),
        ("agent", or_dash(agent).into()),
        ("last alive", paper.ago_or_dash(phone.last_alive).into()),
        ("line", Cell::toned(tone_of_line(phone.line.state), line)),
        ("", (&phone.line.why).into()),
        ("waits for", paper.wait_or_dash(phone.line.deadline.as_ref()).into()),
        ("heartbeat", paper.ago_or_dash(phone.line.last_heartbeat).into()),
    ];
    paper.sheet(rows.into_iter().map(|(key, cell)| vec![Cell::toned(Tone::Quiet, key), cell]).collect())
}
