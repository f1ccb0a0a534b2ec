#![no_main]
#[path = "../../tests/properties/templates.rs"]
mod templates;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| templates::check(bytes));
