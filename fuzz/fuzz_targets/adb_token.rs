//! What a client says before it is let in, and what a token's file holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farmhand::adb::server::tokens::fuzz_token(bytes));
