//! Frames that are to leave, and how many of their bytes a connection takes at once.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farmhand::central::exercise::outgoing(bytes));
