//! `farmhand hubs`: every power hub with its ports.

use std::fmt::Write as _;

use clap::Args;

use super::client::Client;
use super::failure::Failure;
use super::paper::{Cell, Paper, Tone, json, or_dash};
use crate::rack::snapshot::{HubState, HubView};

#[derive(Debug, Args)]
pub(super) struct Hubs {
    /// Print the API's answer as JSON
    #[arg(long)]
    json: bool,
}

impl Hubs {
    pub(super) async fn carry_out(self, client: &Client, paper: &Paper) -> Result<String, Failure> {
        let hubs: Vec<HubView> = client.read("/api/hubs").await?;
        if self.json {
            return Ok(json(&hubs));
        }
        if hubs.is_empty() {
            return Ok("No hub is configured. Add [[hub]] with its name and serial device.\n".to_owned());
        }
        Ok(hubs.iter().map(|hub| sheet(hub, paper)).collect::<Vec<_>>().join("\n"))
    }
}

/// One hub with its ports.
pub(super) fn sheet(hub: &HubView, paper: &Paper) -> String {
    let (tone, seen) = match hub.state {
        HubState::Live => (Tone::Good, "live".to_owned()),
        HubState::Stale => (Tone::Bad, format!("stale: {}", hub.why)),
    };
    let mut text = format!("{} on {}  {}\n", hub.name, hub.device, paper.paint(tone, &seen));
    let mut facts =
        vec![hub.last_reading.map_or_else(|| "not read yet".to_owned(), |at| format!("read {} ago", paper.age(at)))];
    facts.extend(hub.supply_volts.map(|volts| format!("{volts:.2} V")));
    facts.extend(hub.temperature_celsius.map(|celsius| format!("{celsius:.1} °C")));
    facts.extend(hub.identity.clone());
    let _ = writeln!(text, "{}", paper.paint(Tone::Quiet, &facts.join(", ")));
    let row = |port: &crate::rack::snapshot::HubPortView| -> Vec<Cell> {
        vec![
            port.port.into(),
            or_dash(port.slot.as_ref()).into(),
            port.mode.as_str().into(),
            format!("{} mA", port.current_milliamps).into(),
            if port.attached { "attached" } else { "empty" }.into(),
        ]
    };
    text + &paper.table(&["PORT", "SLOT", "MODE", "CURRENT", "DEVICE"], hub.ports.iter().map(row).collect())
}
