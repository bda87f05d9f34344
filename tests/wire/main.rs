//! Formats on the wire: the central protocol against its document and a server that misbehaves, every parser against its fuzz corpus.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod codes;
mod corpus;
mod line;
mod relay;
mod server;
mod table;
mod tls;
mod upgrades;
