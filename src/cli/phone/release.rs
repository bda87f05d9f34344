//! `farmhand phone A1 release`: give one phone back to the rack.

use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::rack::request::Request;

pub(super) async fn carry_out(name: String, client: &Client) -> Result<String, Failure> {
    let order = Request::Release { phone: name, who: String::new() };
    Ok(client.order(&order).await?.what + "\n")
}
