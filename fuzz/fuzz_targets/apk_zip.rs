//! The archive that an APK is: end record, central directory, local headers.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farmhand::agent::zip::fuzz_apk_zip(bytes));
