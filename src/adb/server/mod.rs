//! The adb server: every ADB tool on this host works through farmhand, unchanged.
//!
//! ```text
//!   adb, scrcpy, Android Studio ──▶ adb.sock, [adb_server] listen
//!                                        │ request (core): 4 hex digits and a text
//!                                        ▼
//!        devices (core) ◀── snapshots    door: one task a connection ──▶ uses (core): leases, audit
//!        who is here, under which name   │ splice: bytes untouched
//!                                        ▼
//!                              the phone's Adb: a stream of its own
//! ```
//!
//! Google's server answers each request as [`request`], [`answer`] and [`devices`] say; where this one differs on purpose
//! docs/adb-server.md says why. Who has a phone to himself, and for whom it stands in the audit, is decided by [`uses`].
//!
//! Invariant: a client holds no more memory than one payload and its stream's window, however slow it is.
//! Invariant: a stream begins only on a phone that nobody else holds, and once that is in the audit; what was used is told when it has
//! ended.

pub mod answer;
#[cfg(feature = "daemon")]
mod client;
pub mod devices;
#[cfg(feature = "daemon")]
mod door;
#[cfg(feature = "daemon")]
mod forward;
#[cfg(feature = "daemon")]
mod forwarder;
#[cfg(feature = "daemon")]
mod keeper;
pub mod portal;
#[cfg(feature = "daemon")]
mod remote;
pub mod request;
#[cfg(feature = "daemon")]
mod reverse;
pub mod roles;
#[cfg(feature = "daemon")]
mod slot;
#[cfg(feature = "daemon")]
mod socket;
#[cfg(feature = "daemon")]
mod splice;
#[cfg(feature = "daemon")]
mod tls;
pub mod tokens;
pub mod uses;

#[cfg(feature = "daemon")]
pub use door::AdbServer;
#[cfg(feature = "daemon")]
pub use forwarder::{Forwarder, ForwarderError};
#[cfg(feature = "daemon")]
pub use keeper::{AuditEntry, Kept};
#[cfg(feature = "daemon")]
pub use remote::{RefusedToken, TokenDoor};
#[cfg(feature = "daemon")]
pub use tls::{Certificate, CertificateError};

/// The server's socket within the daemon's state directory.
pub const SOCKET: &str = "adb.sock";
