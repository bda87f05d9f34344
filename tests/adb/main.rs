//! farmhand's ADB against real peers.

mod adbd;
mod google;
