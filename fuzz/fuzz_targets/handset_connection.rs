//! The virtual phone: a host and services that do anything in any order.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| handset::exercise::connection(bytes));
