//! The central protocol: how a phone of the rack is kept registered with the central server.
//!
//! ```text
//!     line (one task a phone: TCP, timers)
//!        │ bytes            ▲ Connect, Transmit, Disconnect, events for the model
//!        ▼                  │
//!     frame ──▶ envelope ──▶ relay (core: the agent's side) ──▶ session (core: states, heartbeat, answers) ──▶ policy ──▶ catalogue
//!     length    view without                                      │
//!     prefix    a decode                                          └── decodes only the bodies that the rack answers, by proto
//! ```
//!
//! All lines share one `resolver`. Everything but these two is pure: no socket, no clock, no random source.
//!
//! Invariant: a heartbeat goes out only after the model said that the phone is really there (`session`).
//! Invariant: what is refused gets Error alone, with RefMessageId and a sentence, and no acknowledgement.
//! Invariant: no byte sequence from the server panics or stalls a line: every wait has a deadline (`session::tests`).

pub mod catalogue;
pub mod envelope;
pub mod exercise;
pub mod frame;
pub mod outbox;
pub mod outgoing;
pub mod pace;
pub mod policy;
pub mod relay;
pub mod session;
mod wire;

#[cfg(feature = "daemon")]
pub mod line;
#[cfg(feature = "daemon")]
pub mod resolver;

/// The messages of proto/, as prost made them.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated")]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/jubo.ju_liao.im.wx.proto.rs"));
}
