//! Files with private and public keys of adb.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farmhand::adb::auth::fuzz_key_files(bytes));
