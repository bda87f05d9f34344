//! The command line as a person meets it: help texts, tables, diagnostics and exit codes, against a real desk.
//!
//! `INSTA_UPDATE=always cargo test --test cli` renews the snapshots.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod codes;
mod config;
mod desk;
mod exchange;
mod failures;
mod help;
mod keys;
mod orders;
mod rack;
mod tables;
