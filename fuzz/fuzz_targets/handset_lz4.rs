//! The virtual phone: lz4 frames of a host.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| handset::exercise::lz4(bytes));
