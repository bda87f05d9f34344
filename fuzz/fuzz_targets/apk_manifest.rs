//! What an APK says of itself: binary XML, and the table of resources beside it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farmhand::agent::manifest::fuzz_apk_manifest(bytes));
