//! ADB messages, with and without stale bytes before the first one.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farmhand::adb::message::fuzz_messages(bytes));
