//! What a power hub prints, through every parser of its replies.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farmhand::power::cambrionix::fuzz_hub_lines(bytes));
