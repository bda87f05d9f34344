//! The virtual phone: names of services, requests for tunnels, public keys.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| handset::exercise::names(bytes));
