//! Answers about reverse tunnels.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farmhand::adb::services::reverse_answer::fuzz_reverse_answer(bytes));
