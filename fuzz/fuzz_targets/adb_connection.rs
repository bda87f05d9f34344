//! Lists of operations for ADB's connection; its invariants are asserted after each.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farmhand::adb::connection::operations::replay(bytes));
