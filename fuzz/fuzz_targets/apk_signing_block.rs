//! The end of an APK and its signing block.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farmhand::agent::signing_block::fuzz_apk_signing_block(bytes));
