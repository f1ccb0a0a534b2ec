//! The real core (poller, lanes, claimer) against models of Kafka and Redis, with virtual time, driven by one seed.
//!
//! | file | concept |
//! |---|---|
//! | `main` | runs seeds; a seed that fails is shrunk and told |
//! | `faults` | which faults a run has |
//! | `world` | all of them, and the run |
//! | `events` | what may befall whom |
//! | `bridge` | the threads around the core |
//! | `lane` | those of a lane, a bridge's or a job's |
//! | `job` | a job beside the bridges, and its processes |
//! | `net` | the wires to Redis, and which server is the master |
//! | `server` | a model of one Redis; `tests/model.rs` compares it with the real ones |
//! | `kafka` | a model of Kafka and of its client |
//! | `oracle` | what Redis must hold in the end |
//! | `job_oracle` | what it must hold of a job, and of what both write |
//!
//! `make simulate SEEDS=10000 FROM=0` runs as many.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]
mod bridge;
mod events;
mod faults;
mod job;
mod job_oracle;
mod kafka;
mod lane;
mod net;
mod oracle;
mod random;
mod server;
mod world;

use self::faults::Faults;
use self::world::World;
use kafka_redis_bridge::core;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Seeds by which the simulation finds the bugs again that it once found, as `make mutants` shows.
const FOUND: [u64; 8] = [1, 5, 9, 24, 302, 308, 337, 914];

/// What is wrong with a run, if anything is, and what happened.
fn run(seed: u64, faults: Faults) -> Result<(), (String, Vec<String>)> {
    let mut world = World::new(seed, faults);
    catch_unwind(AssertUnwindSafe(|| world.run())).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned()));
        (text.unwrap_or_default(), world.take_trace())
    })
}

/// Finds a small way to fail, and tells it.
fn report(seed: u64) -> String {
    let faults = Faults::of(seed).shrunk(|f| run(seed, f).is_err());
    let Err((why, trace)) = run(seed, Faults { traced: true, ..faults }) else { return "it does not fail again".into() };
    format!(
        "seed {seed} fails: {why}\n  with {} ({} without shrinking); again: make simulate FROM={seed} SEEDS=1\n  {}",
        faults.names(),
        Faults::of(seed).names(),
        trace.join("\n  ")
    )
}

/// Runs seeds on all cores until one fails.
fn simulate(seeds: &[u64]) -> Option<u64> {
    let (next, failed) = (AtomicU64::new(0), Mutex::new(None));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while failed.lock().unwrap().is_none() {
                    let n = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap();
                    let Some(&seed) = seeds.get(n) else { break };
                    if run(seed, Faults::of(seed)).is_err() {
                        failed.lock().unwrap().get_or_insert(seed);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap()
}

fn main() {
    let number = |name: &str, otherwise| std::env::var(name).ok().and_then(|t| t.parse().ok()).unwrap_or(otherwise);
    let (from, count) = (number("FROM", 0), number("SEEDS", 500));
    // A broken promise is a panic, which is told once, below.
    set_hook(Box::new(|_| {}));
    let seeds: Vec<u64> = FOUND.into_iter().chain(from..from + count).collect();
    match simulate(&seeds) {
        None => println!("{} seeds, from {from} on and those that once found a bug: each record once, in order, none lost", seeds.len()),
        Some(seed) => {
            eprintln!("{}", report(seed));
            std::process::exit(1);
        }
    }
}
