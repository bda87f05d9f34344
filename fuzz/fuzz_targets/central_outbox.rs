//! A list of things that happen to a line that stores notices while the central server is away, and to its disk.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farmhand::central::exercise::outbox(bytes));
