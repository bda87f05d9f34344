//! Promises: what must survive a power cut, in one SQLite file that one thread owns.
//!
//! ```text
//!     rollout ─┐                          ┌───────────────────────────┐
//!     outbox  ─┼─ commit(batch).await ──▶ │ thread `promises`: groups │──▶ promises.db (WAL, synchronous=FULL)
//!     tokens  ─┘   bounded: callers wait  │ of ≤ 64 operations, 5 ms  │
//!                                         └───────────────────────────┘
//! ```
//!
//! A [`Promise`] counts once [`Store::commit`] has returned: then it is on the disk. A store that is full or failing makes
//! its callers wait, so that they stop reading their peers. History (plots, timelines) is another file and no promise.
//!
//! Invariant: a batch is committed whole or not at all, and in the order of the calls (`a_batch_is_whole_or_not_at_all`,
//! `a_promise_survives_a_kill_right_after_its_commit`).
//! Invariant: one daemon a state directory ([`StateDir`]; `a_second_daemon_is_told_who_holds_the_directory`).

pub mod outbox;
pub mod promise;
#[cfg(feature = "daemon")]
mod rows;
#[cfg(feature = "daemon")]
mod schema;
#[cfg(feature = "daemon")]
mod state_dir;
#[cfg(test)]
mod tests;
#[cfg(feature = "daemon")]
mod writer;

pub use promise::{Promise, RolloutNumber};
#[cfg(feature = "daemon")]
pub use state_dir::{StateDir, StateDirError};
#[cfg(feature = "daemon")]
pub use writer::{Store, StoreError};
