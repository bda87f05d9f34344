//! `farmhand phone A1 hold`: have one phone to yourself for a while.

use std::time::Duration;

use clap::Args;

use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::rack::request::Request;

#[derive(Debug, Args)]
pub(super) struct Hold {
    /// For how long, such as 30m, 2h or 1day; 7 days at most
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    lasts: Duration,
    /// Why, for others who would like to have it
    #[arg(long)]
    reason: String,
}

impl Hold {
    pub(super) async fn carry_out(self, name: String, client: &Client) -> Result<String, Failure> {
        let seconds = self.lasts.as_secs();
        let order = Request::Hold { phone: name, seconds, reason: self.reason, who: String::new() };
        Ok(client.order(&order).await?.what + "\n")
    }
}
