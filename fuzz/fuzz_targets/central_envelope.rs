//! Bytes of a server as an envelope.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farmhand::central::exercise::envelope(bytes));
