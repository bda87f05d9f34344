//! `farmhand phone A1 detach|attach`: lets another program have the USB interface for a while.

use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::rack::request::Request;

pub(super) async fn detach(phone: String, client: &Client) -> Result<String, Failure> {
    let order = Request::Detach { phone, who: String::new() };
    Ok(client.order(&order).await?.what + "\n")
}

pub(super) async fn attach(phone: String, client: &Client) -> Result<String, Failure> {
    let order = Request::Attach { phone, who: String::new() };
    Ok(client.order(&order).await?.what + "\n")
}
