//! farmhand's ADB against real peers.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "what a test needs and does not find ends it")]

mod adbd;
mod crowds;
mod desk;
mod docs;
mod faults;
mod files;
mod gates;
mod google;
mod installs;
mod one_phone;
mod phone;
mod remote;
mod restarts;
mod server;
mod sessions;
mod shares;
mod slots;
mod tools;
mod turns;
mod twins;
mod upkeep;
