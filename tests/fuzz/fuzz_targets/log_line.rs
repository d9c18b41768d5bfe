//! See `properties::log_line`.
#![no_main]

#[path = "../properties.rs"]
#[allow(dead_code, reason = "every target uses its own part of it")]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::log_line(bytes));
