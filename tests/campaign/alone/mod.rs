//! Faults that end in a named halt, or need a bed of their own: one after the other, each with its topic and its Redis.
pub(crate) mod bridge;
pub(crate) mod kafka;
pub(crate) mod redis;

use crate::bed::Broker;
use crate::report::Alone;
use crate::support::kafka::bootstrap;
use crate::table::{Case, Kind};
use crate::{said, told};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::Instant;

/// Panics where what must follow did not; why it can't be shown here, if it can't.
pub(crate) type Show = fn(&mut Broker) -> Option<String>;

/// Runs all that stand alone.
pub(crate) fn run(broker: &mut Broker, wanted: &[&Case]) -> Vec<Alone> {
    let mut ended = Vec::new();
    for case in wanted {
        let since = Instant::now();
        let result = match case.kind {
            Kind::Storm { .. } => continue,
            Kind::Alone { show, .. } => catch_unwind(AssertUnwindSafe(|| show(broker))).map_err(|panic| said(&*panic)),
            Kind::Promise(tests) => promises(tests).map(|()| None),
        };
        let seconds = since.elapsed().as_secs_f64();
        let (skipped, failed) = match result {
            Ok(skipped) => (skipped, None),
            Err(why) => (None, Some(why)),
        };
        let how = failed.as_ref().map(|_| "FAILED").or(skipped.as_deref()).unwrap_or("as it must");
        told(&format!("alone: {:<26} {seconds:5.1} s  {how}", case.name));
        ended.push(Alone { name: case.name.into(), seconds, skipped, failed });
    }
    ended
}

/// Runs tests of `tests/main.rs`, which show just this, on the campaign's own Kafka.
fn promises(tests: &[&str]) -> Result<(), String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "-q", "--test", "promises", "--", "--exact"]).args(tests);
    let output = cargo.env("KAFKA_BOOTSTRAP", bootstrap()).output().map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    // A name that no test has would pass, too.
    let ran = text.contains(&format!("{} passed", tests.len()));
    if output.status.success() && ran { Ok(()) } else { Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr))) }
}
