//! Frames between the command line and the tool server.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farmhand::phone::tools::wire::fuzz_frames(bytes));
