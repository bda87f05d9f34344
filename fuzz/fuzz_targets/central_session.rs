//! Bytes as a list of things that happen to a line.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farmhand::central::exercise::session(bytes));
