//! The Android Debug Bridge, host side, spoken by farmhand itself.
//!
//! ```text
//!     services/ shell, sync, install      plain async functions over `Adb`, codecs beside them
//!          │
//!     driver: Adb, Stream                 one task a handset: owns core and transport; on USB, bytes wait for their `turns`
//!          │
//!     connection (core) ── message, banner, auth
//!          │
//!     transport: tcp, or USB from `crate::usb`
//! ```
//!
//! To talk to a handset: make a transport (`tcp::TcpTransport::connect`), hand it to `driver::connect` with the host's keys, and
//! use the [`driver::Adb`] that comes back: `adb.shell("getprop")`, `adb.push(…)`, `adb.install(…)`. It can be cloned and used from
//! everywhere; each call is a stream of its own. Whoever changes the protocol starts at [`connection`], which does no I/O.
//!
//! Programs that want an adb server find one in [`server`]: farmhand itself.
//!
//! No adb server of Google's is involved, and none may run beside: only one program can claim a handset's interface.
//!
//! Invariant: whatever a handset sends, neither parser nor core panics or grows beyond its named limits (fuzz targets `adb_*`).
//! Invariant: every await on a handset has a deadline with a reason.

#[cfg(feature = "daemon")]
pub mod auth;
pub mod banner;
pub mod connection;
#[cfg(feature = "daemon")]
pub mod driver;
pub mod failure;
pub mod message;
#[cfg(feature = "daemon")]
pub mod online;
pub mod server;
pub mod services;
#[cfg(feature = "daemon")]
pub mod tcp;
#[cfg(feature = "daemon")]
pub mod transport;
#[cfg(feature = "daemon")]
pub mod turns;
