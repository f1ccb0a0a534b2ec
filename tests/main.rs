//! Every promise against the real servers: one file a promise. `make test` starts Kafka and runs these.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
#[allow(dead_code, reason = "shared with the campaign, which uses the rest")]
mod support;

use kafka_redis_bridge::core;

mod bad_input;
mod command_line;
mod conditions;
mod configuration;
mod dead_letters;
mod exactly_once;
mod examples;
mod failures;
mod life_cycle;
mod model;
mod preflight;
mod rate_limit;
mod rebalance;
mod rebuild;
mod replay;
mod replay_beside;
mod replay_bounds;
mod replay_letters;
mod replay_ranges;
mod replay_terminal;
mod replay_troubles;
mod rewind;
mod secured;
mod serve;
mod serve_contract;
mod serve_fixed;
mod serve_hostile;
mod serve_live;
mod serve_publish;
mod structure;
mod transactions;
mod verify;
mod verify_commands;
mod writes;
