//! The device's side of ADB, by lists of operations.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farmhand::adb::server::portal::fuzz_portal(bytes));
