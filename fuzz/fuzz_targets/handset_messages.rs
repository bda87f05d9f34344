//! The virtual phone: bytes of a host as messages.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| handset::exercise::messages(bytes));
