//! Power hubs over serial: what they measure, and the switching of their ports.
//!
//! ```text
//!     hub::spawn ── one OS thread a serial port ──▶ HubEvent (Reading, Stale, PortSet, PortRefused)
//!         ▲ PortOrder        │
//!                            ├─ serial      opens the port, moves bytes, says when it is gone
//!                            ├─ dialogue    one request and its reply: bytes in until the prompt        (pure)
//!                            └─ cambrionix  what the lines of a reply mean                              (pure)
//! ```
//!
//! Invariant: a reading is what the hub said, whole, or it is not reported: one line that can't be read fails the set.
//! Invariant: a port counts as switched only after its own line was read back in the wanted mode.

pub mod cambrionix;
pub mod dialogue;
#[cfg(feature = "daemon")]
pub mod hub;
#[cfg(feature = "daemon")]
mod serial;
