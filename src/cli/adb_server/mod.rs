//! `farmhand adb-server`: where this rack's is, and how adb on this machine reaches one elsewhere.

mod connect;

use clap::{Args, Subcommand};

use super::client::Client;
use super::failure::Failure;
use super::paper::{Cell, Form, Paper};
use crate::rack::access::AdbDoors;

/// The adb server: where it is; how adb on this machine reaches one elsewhere
#[derive(Debug, Args)]
pub(super) struct AdbServer {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Where adb finds this rack's phones, and the certificate by which other machines know it
    Show(Form),
    /// Have adb on this machine work on the phones of a rack elsewhere, by a token
    Connect(connect::Connect),
}

impl AdbServer {
    pub(super) async fn carry_out(self, client: &Client, paper: &Paper) -> Result<String, Failure> {
        match self.action {
            Action::Show(form) => {
                let doors: AdbDoors = client.read("/api/adb-server").await?;
                Ok(form.of(&doors, |doors| sheet(doors, paper)))
            }
            Action::Connect(connect) => connect.carry_out().await,
        }
    }
}

fn sheet(doors: &AdbDoors, paper: &Paper) -> String {
    let row = |key: &str, value: String| -> Vec<Cell> { vec![key.into(), value.into()] };
    let mut rows = vec![row("socket", doors.socket.display().to_string())];
    rows.push(row("address", listen(doors)));
    rows.extend(doors.fingerprint.iter().map(|fingerprint| row("certificate", format!("sha256 {fingerprint}"))));
    rows.extend(doors.slots.iter().map(|(slot, address)| row("slot", format!("{slot} at {address}"))));
    paper.sheet(rows)
}

/// Where the server listens, and for whom.
pub(super) fn listen(doors: &AdbDoors) -> String {
    match (doors.listen, &doors.fingerprint) {
        (None, _) => "none: [adb_server] listen is off".to_owned(),
        (Some(address), None) => format!("{address}, for this host"),
        (Some(address), Some(_)) => format!("{address}, by TLS for the owners of tokens"),
    }
}
