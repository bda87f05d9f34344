//! `farmhand hub H1`: show one hub, switch one of its ports.

use clap::{Args, Subcommand, ValueEnum};

use super::client::{Client, segment};
use super::failure::Failure;
use super::paper::{Form, Paper, json};
use crate::rack::ids::{HubName, HubPort};
use crate::rack::request::Request;
use crate::rack::snapshot::{HubView, PortMode};

#[derive(Debug, Args)]
pub(super) struct Hub {
    /// The hub's name in the configuration
    name: String,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// The hub and its ports
    Show(Form),
    /// Switch a port
    Port {
        /// The port, as printed on the hub
        #[arg(value_parser = clap::value_parser!(u8).range(1..))]
        port: u8,
        /// What the port shall do
        mode: Mode,
        /// Print what was done as JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    /// No power, no data
    Off,
    /// Power and data
    Sync,
    /// Power without data
    Charge,
}

impl Hub {
    pub(super) async fn carry_out(self, client: &Client, paper: &Paper) -> Result<String, Failure> {
        match self.action {
            Action::Show(form) => {
                let hub: HubView = client.read(&format!("/api/hubs/{}", segment(&self.name))).await?;
                Ok(form.of(&hub, |hub| super::hubs::sheet(hub, paper)))
            }
            Action::Port { port, mode, json: as_json } => {
                let mode = match mode {
                    Mode::Off => PortMode::Off,
                    Mode::Sync => PortMode::Sync,
                    Mode::Charge => PortMode::Charge,
                };
                let order = Request::SetPort { hub: HubName::new(self.name), port: HubPort(port), mode };
                let done = client.order(&order).await?;
                Ok(if as_json { json(&done) } else { done.what + "\n" })
            }
        }
    }
}
