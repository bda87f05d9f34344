//! A list of what agents on three lines say, and when.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farmhand::central::exercise::pace(bytes));
