//! The reference central server: what a centre says by the protocol document, for tests and the demo.
//!
//! ```text
//!     TCP or TLS ── server (frames, timers, sessions by IMEI) ── session (core: one device's conversation) ── record (what was seen)
//!                └── capture (every frame of both directions)
//! ```
//!
//! It frames with `tokio-util` instead of farmhand's own codec, so that two implementations check each other.
//!
//! Invariant: it sends no task that acts on people unless it was started with that permission (`session::may_send`).

mod acknowledge;
mod faults;
mod record;
mod server;
mod session;
mod tls;

pub use record::{AppRecord, DeviceInfoRecord, DeviceRecord, ErrorRecord, Record, TaskResultRecord};
pub use server::{CentralServer, CentralSpec, SendError};
pub use session::Upgrade;
pub(crate) use tls::shake_hands;
pub use tls::{Authority, Issued, ServerTls};
