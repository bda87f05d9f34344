//! What package managers say about an install.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farmhand::adb::services::install::fuzz_install_answer(bytes));
