//! The device side of ADB: what `adbd` does on a phone, over any byte stream.
//!
//! It serves a [`Device`] (commands, files, tunnels, restarts) to one host at a time over TCP, USB or whatever else reads and
//! writes. It is no part of farmhand's daemon and shares no code with it: two implementations of one protocol, written apart,
//! check each other. Google's `adb` is the third, see `firmware-tools/tests/google_adb.rs`.
//!
//! ```text
//!   transport ──▶ Source ──▶ connection (CNXN, AUTH, OPEN, OKAY, WRTE, CLSE) ──▶ Sink ──▶ transport
//!                               │ one per OPEN
//!                               ▼
//!             Stream ◀──▶ services: shell, exec, abb, sync, reverse, reboot ──▶ your Device
//! ```
//!
//! ```no_run
//! # async fn example<D: handset::Device>(device: std::sync::Arc<D>, line: tokio::net::TcpStream) -> Result<(), handset::SessionError> {
//! let phone = handset::Handset::new(device, handset::Profile::modern("caiman", "Pixel 9 Pro"), handset::Authorisation::Off);
//! phone.serve(line).await
//! # }
//! ```
//!
//! All of a session runs inside the future of [`Handset::serve`]: whoever stops polling it has a phone that hangs, and whoever
//! drops it has one that was unplugged.
//!
//! Invariant: whatever a host sends, nothing panics and memory stays below the limits named in [`limits`].

pub mod auth;
mod banner;
mod buffers;
mod connection;
mod console;
mod device;
pub mod exercise;
mod functionfs;
pub mod limits;
mod line;
mod link;
mod memory;
mod reverse;
mod services;
mod session;
mod stream;
pub mod wire;

pub use auth::{AndroidPublicKey, Authorisation, KeyStore, UnknownKey};
pub use banner::{Feature, Mode, Profile};
pub use console::Console;
pub use device::{
    Adbd, AdbdAnswer, AdbdThen, Command, Content, Device, Entry, Errno, FileSystem, NewNode, Output, RebootTarget,
    RefusedPath, Stat, TunnelChange,
};
pub use functionfs::{Carrier, Fastboot, FunctionFs, SourceSink};
pub use link::{Sink, Source};
pub use memory::MemoryFiles;
pub use session::{Handset, SessionError};
pub use stream::Closed;
