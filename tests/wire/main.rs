//! The central protocol against its document and against a server that misbehaves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod codes;
mod corpus;
mod line;
mod server;
