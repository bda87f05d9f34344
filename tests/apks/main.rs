//! farmhand's verdict on APKs: what it says of each defect, and beside that of Google's own `apksigner` (35.0.2, Debian trixie's).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod corpus;
mod forge;
mod judge;
mod stories;
