//! The virtual phone: requests for files.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| handset::exercise::sync(bytes));
