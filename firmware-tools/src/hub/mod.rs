//! A Cambrionix-style power hub whose ports carry the rack's virtual phones.
//!
//! ```text
//!     the daemon ── pty ── line (bytes, echo, prompt, faults) ── board (commands, replies) ── cables ── phones
//! ```
//!
//! Invariant: a phone is reachable only while its cable is in and its port is in `sync`; the cable decides, never the board.

mod board;
mod line;

pub use board::{Board, Load, Mode};
pub use line::{Hub, HubSpec, LineFault};
