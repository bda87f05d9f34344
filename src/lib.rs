//! farmhand runs a rack of USB-tethered Android handsets.
//!
//! One process on the rack's host finds the phones, keeps the agent app on each of them at the wanted version, speaks the
//! central protocol for each of them, watches their power, and tells everyone how the rack is doing.
//!
//! ```text
//!     sources                      model                     sinks
//!     usb hotplug  ──┐                                    ┌─ mqtt
//!     serial boards ─┤  Event   ┌───────────────────┐     ├─ web dashboard and JSON API
//!     host sensors  ─┼────────▶ │ rack: the one      │ ───┤
//!     central server ┤          │ owner of state     │     └─ tracing log
//!     operator ──────┘          └───────┬───────────┘
//!                                       │ Command
//!                                       ▼
//!            actors: one task per phone, line, board, rollout ──▶ store: promises, fsynced before they count
//! ```
//!
//! Whoever adds a feature finds its place by asking: is it a source, the model, an actor or a sink? What has many states,
//! timers or a peer that may lie is a *core*: it takes inputs and the time, gives back outputs and its next [`clock::Deadline`],
//! and does no I/O. Without the feature `daemon` the library is these cores and the parsers, and builds without tokio.
//!
//! Read [`rack`] first: everything else feeds it or serves it.

#[cfg(feature = "daemon")]
mod accept;
pub mod adb;
pub mod agent;
#[cfg(feature = "daemon")]
pub mod announce;
pub mod central;
pub mod checkpoint;
#[cfg(feature = "daemon")]
pub mod cli;
pub mod clock;
pub mod config;
#[cfg(feature = "daemon")]
pub mod daemon;
#[cfg(feature = "daemon")]
pub mod doctor;
#[cfg(feature = "daemon")]
pub mod host;
pub mod mqtt;
#[cfg(feature = "daemon")]
pub mod peer;
pub mod phone;
pub mod power;
pub mod rack;
pub mod reason;
pub mod rollout;
#[cfg(feature = "daemon")]
pub mod spelling;
pub mod store;
#[cfg(feature = "daemon")]
pub mod tls;
pub mod usb;
#[cfg(feature = "daemon")]
pub mod web;
