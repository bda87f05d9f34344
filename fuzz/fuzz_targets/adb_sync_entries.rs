//! The entries of a folder.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farmhand::adb::services::sync::fuzz_entries(bytes));
