//! Any bytes as a record of the kernel's log.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farmhand::usb::kernel_log::fuzz_kernel_log(bytes));
