//! The rack on MQTT: its health, one topic a phone, and one device for Home Assistant.
//!
//! ```text
//!     watch<Snapshot> ──▶ publisher ──▶ board (which topic shall show what) ──▶ outbox (one value a topic)     (pure)
//!                            │ ▲                                                    │ next
//!                  publish   ▼ │ delivered, lost, connected, Home Assistant born    ▼
//!                          client: one task that only polls rumqttc ◀──▶ broker
//! ```
//!
//! The contract with other programs is `docs/mqtt.md`: topics, payloads, retained or not; its bytes are frozen by tests.
//! It holds in MQTT 3.1.1, since that is all that some brokers speak.
//!
//! Invariant: a broker that is away, slow or hung delays nothing but itself: what waits for it is one value a topic, and
//! after each connection without a session everything is published anew (`tests/mqtt`).
//! Invariant: of one topic at most one message is under way, so an older value never arrives after a newer one.

pub mod board;
mod discovery;
pub mod outbox;
pub mod payload;
pub mod topics;

#[cfg(feature = "daemon")]
mod client;
#[cfg(feature = "daemon")]
mod publisher;

#[cfg(feature = "daemon")]
pub use publisher::spawn;
