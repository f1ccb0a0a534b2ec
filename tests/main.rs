//! Every promise against the real servers: one file a promise. `make test` starts Kafka and runs these.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
mod support;

mod bad_input;
mod configuration;
mod dead_letters;
mod exactly_once;
mod failures;
mod life_cycle;
mod rate_limit;
mod rebalance;
mod secured;
mod structure;
mod writes;
