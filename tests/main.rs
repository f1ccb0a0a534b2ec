//! Every promise against the real servers: one file a promise. `make test` starts Kafka and runs these.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
#[allow(dead_code, reason = "shared with the campaign, which uses the rest")]
mod support;

use kafka_redis_bridge::core;

mod bad_input;
mod command_line;
mod conditions;
mod configuration;
mod connecting;
mod dead_letters;
mod demo;
mod exactly_once;
mod examples;
mod failures;
mod group;
mod group_errors;
mod hidden;
mod life_cycle;
mod misreadings;
mod model;
mod oversized;
mod own_topics;
mod preflight;
mod rate_limit;
mod rebalance;
mod rebuild;
mod refused;
mod replay;
mod replay_beside;
mod replay_bounds;
mod replay_letters;
mod replay_ranges;
mod replay_terminal;
mod replay_troubles;
mod rewind;
mod rights;
mod secured;
mod serve;
mod serve_contract;
mod serve_fixed;
mod serve_hostile;
mod serve_live;
mod serve_publish;
mod settings;
mod structure;
mod times;
mod tokens;
mod transactions;
mod verify;
mod verify_commands;
mod watchdog;
mod writes;
