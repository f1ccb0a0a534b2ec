//! The fault campaign: a real Kafka, a real Redis, two bridges, a producer that does not stop, and everything that can
//! befall them. `make campaign`; `ONLY=redis-oom,rst`, `FAULTS=200`, `SEED=7`, `SHORT=1`, `LONG=1`, `LIST=1`.
//!
//! | file | concept |
//! |---|---|
//! | `main` | which cases run; the report; the exit code |
//! | `table` | every case: what it does, and what must follow |
//! | `bed` | what a storm blows over |
//! | `feed` | the producer that does not stop |
//! | `watch` | looks at the bridges' conditions, as monitoring would |
//! | `storm/` | faults one after the other against one bed |
//! | `alone/` | faults that end in a named halt, or need a bed of their own |
//! | `report` | times to detect and to recover; lost, doubled, out of order |
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]
mod alone;
mod bed;
mod feed;
mod report;
mod storm;
#[allow(dead_code, reason = "shared with the promises, which use the rest")]
#[path = "../support/mod.rs"]
mod support;
mod table;
mod watch;

use self::bed::Broker;
use self::report::Report;
use self::table::{CASES, Case, Kind};
use std::any::Any;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Where the report, the trace and the bridges' logs go.
fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/campaign")
}

/// A line of the trace: shown and kept.
fn told(line: &str) {
    println!("{line}");
    let mut file = std::fs::File::options().create(true).append(true).open(folder().join("trace.log")).unwrap();
    writeln!(file, "{line}").unwrap();
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> String {
    panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned())).unwrap_or_default()
}

fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|t| !t.is_empty())
}

/// What the environment asks for.
struct Asked {
    only: Vec<String>,
    faults: usize,
    seed: u64,
    short: bool,
    long: bool,
}

impl Asked {
    fn read() -> Self {
        let only: Vec<String> = text("ONLY").iter().flat_map(|t| t.split(',')).map(|n| n.trim().to_owned()).collect();
        for name in &only {
            assert!(CASES.iter().any(|c| c.name == name), "no case is named {name}; there are:\n{}", report::list(CASES));
        }
        let short = text("SHORT").is_some();
        let faults = match (text("FAULTS"), only.is_empty(), short) {
            (Some(n), ..) => n.parse().expect("FAULTS is a number"),
            (_, false, _) => 5,
            (.., true) => 20,
            _ => 200,
        };
        let seed = text("SEED").map_or_else(|| rand::random_range(0..100_000), |s| s.parse().expect("SEED is a number"));
        Self { only, faults, seed, short, long: text("LONG").is_some() }
    }

    fn wants(&self, case: &Case) -> bool {
        if !self.only.is_empty() {
            return self.only.iter().any(|n| n == case.name);
        }
        match case.kind {
            // `make test` runs these anyway.
            Kind::Promise(_) => !self.short,
            Kind::Alone { slow, .. } => !(slow && self.short),
            Kind::Storm { weight, .. } => weight > 0 || if case.name == "redis-stop-300s" { self.long } else { !self.short },
        }
    }

    fn command(&self) -> String {
        let flag = |on, name| if on { format!(" {name}=1") } else { String::new() };
        let only = if self.only.is_empty() { String::new() } else { format!(" ONLY={}", self.only.join(",")) };
        format!("make campaign FAULTS={} SEED={}{only}{}{}", self.faults, self.seed, flag(self.short, "SHORT"), flag(self.long, "LONG"))
    }
}

fn main() -> ExitCode {
    if text("LIST").is_some() {
        print!("{}", report::list(CASES));
        return ExitCode::SUCCESS;
    }
    let _ = std::fs::remove_dir_all(folder());
    std::fs::create_dir_all(folder()).unwrap();
    let asked = Asked::read();
    told(&asked.command());
    let wanted: Vec<&Case> = CASES.iter().filter(|c| asked.wants(c)).collect();
    let mut broker = Broker::start();
    let alone = alone::run(&mut broker, &wanted);
    let blows: Vec<&Case> = wanted.iter().filter(|c| matches!(c.kind, Kind::Storm { .. })).copied().collect();
    let storm = (!blows.is_empty() && asked.faults > 0).then(|| storm::run(&mut broker, &blows, asked.faults, asked.seed, &folder()));
    let report = Report { machine: report::machine(), versions: report::versions(), command: asked.command(), seed: asked.seed, storm, alone };
    let markdown = report.markdown(CASES);
    std::fs::write(folder().join("report.md"), &markdown).unwrap();
    std::fs::write(folder().join("report.json"), serde_json::to_string_pretty(&report).unwrap()).unwrap();
    told(&format!("\n{markdown}"));
    let failures = report.failures();
    if failures.is_empty() {
        return ExitCode::SUCCESS;
    }
    told(&format!("FAILED, with seed {}; the bridges' logs stand in {}:\n{}", asked.seed, folder().display(), failures.join("\n")));
    ExitCode::FAILURE
}
