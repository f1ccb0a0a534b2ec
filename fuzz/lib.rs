//! What is fuzzed: the files of the bridge that do no I/O. The checks are those of `tests/properties/`.
#![allow(unreachable_pub, reason = "it is its own crate there")]
#[path = "../src/config/mod.rs"]
pub mod config;
#[path = "../src/core/mod.rs"]
pub mod core;
