//! Packets of shell_v2.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farmhand::adb::services::shell::fuzz_packets(bytes));
