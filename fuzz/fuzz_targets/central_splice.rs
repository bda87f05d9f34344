//! An address and an envelope that is given it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farmhand::central::exercise::splicing(bytes));
