//! A list of things that happen to a line with an agent behind it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farmhand::central::exercise::relay(bytes));
