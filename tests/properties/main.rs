//! What holds of the core and the configuration whatever comes in. Each module has a `check` of bytes, which its fuzz
//! target (`fuzz/`, `make fuzz`) calls too, and here random inputs of the right shape: the same in each run, unless
//! PROPTEST_RNG_SEED or PROPTEST_CASES say otherwise.
#![allow(clippy::unwrap_used, reason = "tests")]
mod commands;
mod conditions;
mod configuration;
mod corpus;
mod json;
mod ledger;
mod replies;
mod state;
mod templates;

use proptest::test_runner::{Config, RngSeed};

/// So many random inputs.
fn cases(cases: u32) -> Config {
    let asked = Config::default();
    let rng_seed = if asked.rng_seed == RngSeed::Random { RngSeed::Fixed(1) } else { asked.rng_seed };
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { asked.cases } else { cases };
    Config { cases, rng_seed, failure_persistence: None, ..asked }
}
