//! Requests to the adb server.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farmhand::adb::server::request::fuzz_request(bytes));
