//! The bench tools of farmhand: a virtual rack, a reference central server and the driver that checks the real daemon on them.
//!
//! ```text
//!     rack file (TOML) ──▶ rack ──┬─ phone     handsets over TCP
//!                          ▲      ├─ hub       power hubs on a pty, whose ports carry those handsets by a cable
//!        orders (control) ─┘      ├─ central   the reference central server
//!                                 ├─ agent     the agent on a phone, as far as its line goes
//!                                 ├─ broker    an MQTT broker
//!                                 └─ files     an HTTP server for APKs
//! ```
//!
//! Nothing here is a product. The daemon under test is the one that ships; it meets this rack only over real boundaries (TCP, a
//! pty, MQTT, HTTP), so tests of the main package start one in their own process and still test the real thing.

pub mod agent;
pub mod broker;
pub mod cable;
pub mod central;
pub mod check;
pub mod cli;
pub mod control;
mod daemon_config;
pub mod files;
pub mod hub;
pub mod line_check;
pub mod order;
pub mod phone;
pub mod ports;
pub mod rack;
pub mod rack_file;
pub mod rollout_check;
mod yard;
