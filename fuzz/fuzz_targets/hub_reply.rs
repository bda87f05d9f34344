//! Any bytes from a power hub's serial port, as the reply to one request.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farmhand::power::dialogue::fuzz_hub_reply(bytes));
