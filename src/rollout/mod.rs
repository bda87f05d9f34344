//! Rollouts: one version of the agent to many phones, in waves, stopping at the first failure.
//!
//! ```text
//!     notices of the server ─┐                                          ┌─▶ Install ──▶ model ──▶ phone
//!     an APK of the operator ┼─▶ plan: Rollouts ── Commit ──▶ store ────┤
//!     phones come and go     ┘    (core, no I/O)    ▲                   ├─▶ ReportFailure ──▶ central line
//!                                    Fetch ──▶ actor: download, check   └─▶ Views ──▶ everyone
//! ```
//!
//! [`plan`] decides and does no I/O; its shell, `actor`, carries out. A rollout gathers the phones, fetches and checks the APK once, waits for
//! approval, and then goes wave by wave; a crash at any point is a late step.
//!
//! Invariant: nothing goes out before the promise that it belongs to is on the disk.

#[cfg(feature = "daemon")]
pub mod actor;
#[cfg(test)]
mod actor_tests;
#[cfg(feature = "daemon")]
pub mod artefact;
#[cfg(feature = "daemon")]
mod jobs;
pub mod plan;
