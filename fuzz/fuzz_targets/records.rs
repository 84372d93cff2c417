#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lowkey_fuzz::run("records", bytes));
