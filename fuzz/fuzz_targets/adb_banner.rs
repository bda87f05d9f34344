//! The banner of CNXN.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farmhand::adb::banner::fuzz_banner(bytes));
