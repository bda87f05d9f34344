//! The virtual phone on USB: bulk transfers of a host.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| handset::exercise::transfers(bytes));
