//! The benchmark: a real Kafka, a real Redis, the release binary as a process. `make bench`; `ONLY=throughput,latency`,
//! `QUICK=1`, `RECORDS=500000`, `ROUNDS=3`, `REDIS_CPUS=0`.
//!
//! | file | concept |
//! |---|---|
//! | `main` | which parts run |
//! | `bed` | Kafka, Redis, how much is measured |
//! | `ticks` | the records |
//! | `variant` | the configurations that are compared |
//! | `pump` | the ceiling: pre-encoded commands, as fast as Redis takes them |
//! | `meter` | how far Redis is, and what that cost: the same for the bridge and the pump |
//! | `drain` | a topic drained by the bridge |
//! | `throughput`, `latency`, `bystander`, `growth`, `network`, `partitions` | the parts |
//! | `replay` | a job: its speed, and what live traffic feels of it |
//! | `serve` | the readers' side |
//! | `far` | a Redis some milliseconds away |
//! | `stats` | medians, spreads, percentiles |
//! | `report` | tables, Markdown, JSON |
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a benchmark")]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "figures")]
mod bed;
mod bystander;
mod drain;
mod far;
mod growth;
mod latency;
mod meter;
mod network;
mod partitions;
mod pump;
mod replay;
mod report;
mod serve;
mod stats;
#[allow(dead_code, reason = "shared with the tests, which use the rest")]
#[path = "../../tests/support/mod.rs"]
mod support;
mod throughput;
mod ticks;
mod variant;

use self::bed::{Bed, Scale};
use self::report::Part;

/// A part: its name, and what measures it.
type Measure = fn(&Bed) -> Part;
const PARTS: [(&str, Measure); 9] = [
    ("throughput", throughput::whole),
    ("single", throughput::single),
    ("latency", latency::measure),
    ("bystander", bystander::measure),
    ("growth", growth::measure),
    ("network", network::measure),
    ("partitions", partitions::measure),
    ("replay", replay::measure),
    ("serve", serve::measure),
];

fn main() {
    let scale = Scale::read();
    for name in &scale.only {
        assert!(PARTS.iter().any(|(n, _)| n == name), "no part is named {name}; there are {}", PARTS.map(|(n, _)| n).join(", "));
    }
    let bed = Bed::make(scale);
    for (name, measure) in PARTS.iter().filter(|(n, _)| bed.scale.only.is_empty() || bed.scale.only.iter().any(|o| o == n)) {
        let part = measure(&bed);
        report::write(name, &part, &bed);
    }
}
