//! A replay: how fast it is beside the live path with the same writes, and what it does to the latency of live traffic.
use crate::bed::{Bed, refresh};
use crate::drain::drain;
use crate::latency::{self, Load};
use crate::report::{Part, Table, progress};
use crate::stats::{Spread, Times, spreads, thousands};
use crate::support::daemon::binary;
use crate::ticks::Workload;
use crate::variant::{SETEX, Variant, XADD};
use serde_json::{Value, json};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Live records a second, while a replay runs beside.
const LIVE: f64 = 10_000.0;

/// A job as a process, ended with its value.
pub(crate) struct Job {
    child: Child,
    _dir: TempDir,
}

impl Drop for Job {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(variant: &Variant, topic: &str, redis: &str, arguments: &[&str]) -> (Command, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bridge.toml");
    std::fs::write(&file, variant.setup(topic, redis).toml(1)).unwrap();
    let mut command = Command::new(binary());
    command.arg("--config").arg(file).args(["--output", "json", "replay", "--yes", "--from-offset", "earliest"]).args(arguments);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    (command, dir)
}

/// Starts a job that lasts.
fn start(variant: &Variant, topic: &str, redis: &str, arguments: &[&str]) -> Job {
    let (mut command, dir) = command(variant, topic, redis, arguments);
    Job { child: command.stdout(Stdio::null()).spawn().unwrap(), _dir: dir }
}

/// Runs a job to its end; records a second.
fn complete(bed: &Bed, variant: &Variant, topic: &str, arguments: &[&str]) -> f64 {
    refresh(&bed.redis);
    let (mut command, _dir) = command(variant, topic, &bed.redis.url(), arguments);
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}");
    let report: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    report["progress"]["counts"]["records"].as_f64().unwrap() / report["progress"]["elapsed_seconds"].as_f64().unwrap()
}

/// In turns: the live path drains a topic, and two jobs apply it again: one compares first, one does not.
fn speed(bed: &Bed) -> (Table, Value) {
    let workload = Workload::ticks(bed.scale.records);
    let topic = bed.topic(&workload);
    let live = Variant::new(&[XADD, SETEX]);
    let plain = Variant::new(&[XADD, &format!("{SETEX}\nreplay = \"apply\"")]);
    let mut rates: [Vec<f64>; 3] = Default::default();
    for round in 1..=bed.scale.rounds {
        rates[0].push(drain(&bed.redis, &live, &topic, workload.records).run.rate());
        rates[1].push(complete(bed, &live, &topic, &[]));
        rates[2].push(complete(bed, &plain, &topic, &["--append"]));
        progress(&format!(
            "round {round}: live {:.0} records/s, replay {:.0}, without comparing {:.0}",
            rates[0][round - 1],
            rates[1][round - 1],
            rates[2][round - 1]
        ));
    }
    let title = format!("{} ticks, XADD and SETEX, {} turns", workload.records, bed.scale.rounds);
    let mut table = Table::new(title, &["", "records/s", "of the live path"]);
    for (name, rates_of) in ["the live path", "replay, compared first", "replay, applied as it is"].into_iter().zip(&rates) {
        let ratio = Spread::of(rates_of.iter().zip(&rates[0]).map(|(rate, live)| rate / live));
        table.row(name, [thousands(rates_of.iter().copied()), ratio.to_string()]);
    }
    (table, json!({"live": rates[0], "compared": rates[1], "applied": rates[2]}))
}

/// What live traffic feels of a job beside it.
fn beside(bed: &Bed) -> (Table, Value) {
    let workload = Workload::ticks(bed.scale.records.max(bed.scale.seconds * 400_000));
    let (topic, variant, redis) = (bed.topic(&workload), Variant::new(&[XADD, SETEX]), bed.redis.url());
    let prefixed = |more: &[&'static str]| Some([&["--target-prefix", "replay:"], more].concat());
    let mut cases = [
        ("nothing", None, Vec::new()),
        ("a replay at full speed", prefixed(&[]), Vec::new()),
        ("a replay at 20,000 records/s", prefixed(&["--rate", "20000/s"]), Vec::new()),
    ];
    for round in 1..=bed.scale.rounds {
        for (name, arguments, turns) in &mut cases {
            let neighbour = || arguments.as_ref().map(|arguments| start(&variant, &topic, &redis, arguments));
            let felt = latency::to_the_subscriber(bed, Load::of(LIVE), neighbour);
            progress(&format!("round {round}: beside {name}: p99 {:.2} ms", felt.p99));
            turns.push(felt);
        }
    }
    let title = format!("Latency of {LIVE:.0} live records/s, to the subscriber, {} turns of {} s", bed.scale.rounds, bed.scale.seconds);
    let mut table = Table::new(title, &[&["beside"], &Times::HEAD[..]].concat());
    for (name, _, turns) in &cases {
        table.row(*name, spreads(turns.iter().map(Times::figures)));
    }
    let figures: Vec<Value> = cases.iter().map(|(name, _, turns)| json!({"beside": name, "turns": turns})).collect();
    (table, figures.into())
}

pub(crate) fn measure(bed: &Bed) -> Part {
    let ((fast, rates), (felt, times)) = (speed(bed), beside(bed));
    let note = "A replay's rate is that of its whole run, from its claim to its report; the live path's is that of its drain alone.";
    Part { tables: vec![fast, felt], notes: vec![note.into()], figures: json!({"speed": rates, "beside": times}) }
}
