//! The model of the rack: the one owner of its state.
//!
//! Sources and actors tell it what happened ([`Event`]); it says what must be done ([`Command`]) and shows the whole as a
//! [`Snapshot`]. It takes the time as an argument, does no I/O and never waits, so that a whole rack runs in a test, and a
//! failing run replays exactly.

pub mod event;
pub mod ids;
pub mod request;
pub mod snapshot;

pub use event::{Command, Event};
pub use snapshot::Snapshot;
