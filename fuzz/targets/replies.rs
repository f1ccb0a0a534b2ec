#![no_main]
#[path = "../../tests/properties/replies.rs"]
mod replies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| replies::check(bytes));
