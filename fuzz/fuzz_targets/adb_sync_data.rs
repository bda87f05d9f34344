//! The bytes of a file that is pulled.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farmhand::adb::services::sync::fuzz_data(bytes));
