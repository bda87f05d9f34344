//! Bytes of a server as a stream of frames.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farmhand::central::exercise::frames(bytes));
