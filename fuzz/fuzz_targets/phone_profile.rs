//! Any bytes as a phone's answer to each question about itself.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farmhand::phone::profile::fuzz_profile(bytes));
