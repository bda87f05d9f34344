//! The Android Debug Bridge, host side, spoken by farmhand itself.

#[cfg(feature = "daemon")]
pub mod transport;
