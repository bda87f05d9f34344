//! What is done on a handset, each over a stream of its own: plain async functions on `Adb`, beside pure codecs.
//!
//! The codecs build without I/O and are fuzzed: [`shell`] (packets of shell_v2), [`sync`] (file transfer), [`install`] (what the
//! package manager answers).

pub mod install;
#[cfg(feature = "daemon")]
mod reboot;
pub mod shell;
pub mod sync;

#[cfg(feature = "daemon")]
pub use reboot::RebootTarget;
