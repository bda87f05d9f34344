//! Replies of the file service.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farmhand::adb::services::sync::fuzz_replies(bytes));
