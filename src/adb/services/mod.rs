//! What is done on a handset, each over a stream of its own: plain async functions on `Adb`, beside pure codecs.
//!
//! The codecs build without I/O and are fuzzed: [`shell`] (packets of shell_v2), [`sync`] (file transfer), [`install`] (what the
//! package manager answers).

#[cfg(feature = "daemon")]
mod batches;
pub mod install;
#[cfg(feature = "daemon")]
mod reboot;
#[cfg(feature = "daemon")]
mod restart;
#[cfg(feature = "daemon")]
pub mod reverse;
pub mod reverse_answer;
#[cfg(feature = "daemon")]
mod screen;
#[cfg(feature = "daemon")]
mod shared;
pub mod shell;
pub mod sync;

#[cfg(feature = "daemon")]
pub use batches::Source;
#[cfg(feature = "daemon")]
pub use reboot::RebootTarget;
#[cfg(feature = "daemon")]
pub use restart::{AdbdMode, Restarted};
#[cfg(feature = "daemon")]
pub use screen::Shown;
#[cfg(feature = "daemon")]
pub use shared::{SharedFile, SharedFiles};
