//! `farmhand phone A1 identity`: what one phone registers as with the central server.

use clap::{Args, Subcommand};

use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::rack::request::Request;

#[derive(Debug, Args)]
pub(super) struct Identity {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// It registers as this from now on, whatever [central.identity] says
    Set {
        /// What the central server knows it as
        credential: String,
    },
    /// What was set no longer counts: [central.identity] does
    Forget,
}

impl Identity {
    pub(super) async fn carry_out(self, phone: String, client: &Client) -> Result<String, Failure> {
        let who = String::new();
        let order = match self.action {
            Action::Set { credential } => Request::IdentitySet { phone, credential, who },
            Action::Forget => Request::IdentityForget { phone, who },
        };
        Ok(client.order(&order).await?.what + "\n")
    }
}
