#![no_main]
#[path = "../../tests/properties/conditions.rs"]
mod conditions;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| conditions::check(bytes));
