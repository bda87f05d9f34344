//! The host's USB: which handsets are on it, and a fast way to each of them.
//!
//! ```text
//!     kernel ──▶ hotplug ──kick──▶ scanner ──▶ roster, ports (cores) ──▶ BusEvent: Arrived, Left, OtherMode, NotEnumerated …
//!       │        (libusb)            ▲ 10 s    what changed
//!       └──▶ log (kmsg) ──remark─────┘
//!     phone's actor ── Bus::open ────┴──▶ claim ──▶ UsbTransport = UsbReader + UsbWriter
//!                      (settle: core)                   │ a permit for each transfer
//!                                                       ▼
//!                            budget (core) ◀── allowance ──▶ transfer ──▶ usbfs
//! ```
//!
//! A newcomer reads [`enumerate`] (what a handset is), [`roster`] (what arrived and left), [`ports`] and [`kernel_log`] (what should
//! be there and is not, and why), [`topology`] (controllers and the room on them), [`settle`] (why an arrival may not be
//! opened at once) and [`budget`] (who may have how many bytes in the kernel). These are pure and build without tokio. The rest
//! is their shell: `bus` is what the daemon calls, `transfer` the only file with unsafe code.
//!
//! What is on the bus is read anew from sysfs at each scan, whoever asked for it: an event of the kernel that was lost costs at
//! most one interval of the rescan and never leaves a wrong picture.
//!
//! Invariant: a handle is closed only after the last of its transfers has come back; each transfer in flight owns a share of it.
//! Invariant: the bytes of all transfers in flight stay within [`budget::Budget`]; who gets none waits.
//! Invariant: nothing here blocks an async thread, nor one of those that serve files; libusb's blocking calls run on threads of their own,
//! with a deadline, and an idle rack has none of them (`calls`).

pub mod budget;
pub mod enumerate;
pub mod kernel_log;
pub mod ports;
pub mod roster;
pub mod settle;
pub mod topology;

#[cfg(feature = "daemon")]
mod allowance;
#[cfg(feature = "daemon")]
mod bus;
#[cfg(feature = "daemon")]
mod calls;
#[cfg(feature = "daemon")]
mod claim;
#[cfg(feature = "daemon")]
mod engine;
#[cfg(feature = "daemon")]
mod kmsg;
#[cfg(feature = "daemon")]
mod picture;
#[cfg(feature = "daemon")]
mod scan;
#[cfg(feature = "daemon")]
mod scanner;
#[cfg(feature = "daemon")]
mod transfer;
#[cfg(feature = "daemon")]
mod transport;

#[cfg(feature = "daemon")]
pub use bus::{Bus, BusError, OpenError};
pub use enumerate::{Handset, Speed};
pub use roster::BusEvent;
#[cfg(feature = "daemon")]
pub use transport::{UsbReader, UsbTransport, UsbWriter};
