//! Throughput: a preloaded topic drained to its end, in turns with the pump.
use crate::bed::Bed;
use crate::drain::{Drained, drain};
use crate::meter::Run;
use crate::pump::Pump;
use crate::report::{Part, Table, progress};
use crate::stats::{Spread, median, thousands};
use crate::ticks::Workload;
use crate::variant::{COLLAPSED, PUBLISH, SETEX, Variant, XADD};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A variant and what its turns came to.
struct Contender {
    name: String,
    variant: Variant,
    turns: Vec<Drained>,
}

/// What contenders are compared with, and its turns.
struct Ceiling {
    pump: Pump,
    turns: Vec<Run>,
}

fn contender(name: &str, variant: Variant) -> Contender {
    Contender { name: name.into(), variant, turns: Vec::new() }
}

/// Measures all in turns, round after round.
fn compete(bed: &Bed, topic: &str, records: u64, ceiling: &mut Ceiling, contenders: &mut [Contender]) {
    for round in 1..=bed.scale.rounds {
        let best = ceiling.pump.ceiling(&bed.redis, &bed.address(), contenders.iter().map(|c| &c.variant), records);
        progress(&format!("round {round}: the ceiling is {:.0} records/s", best.rate()));
        ceiling.turns.push(best);
        // They take turns at coming first: who follows the pump has been slower.
        let first = (round - 1) % contenders.len();
        let (before, after) = contenders.split_at_mut(first);
        for c in after.iter_mut().chain(before) {
            let drained = drain(&bed.redis, &c.variant, topic, records);
            progress(&format!("round {round}: {}: {:.0} records/s", c.name, drained.run.rate()));
            c.turns.push(drained);
        }
    }
}

/// What the columns of Redis add up to.
const THREE_WAYS: &str = "Redis runs, or its main thread waits for a core that others have, or it sleeps: nothing has come.";

const HEAD: [&str; 8] = ["", "records/s", "of the ceiling", "bridge us/record", "Redis us/record", "waits for a core, us", "sleeps, us", "peak MiB"];

fn table(title: &str, ceiling: &Ceiling, contenders: &[Contender]) -> Table {
    let mut table = Table::new(title, &HEAD);
    let us = |runs: &[&Run], of: fn(&Run) -> f64| format!("{:.2}", median(runs.iter().map(|r| of(r))));
    let redis = |runs: &[&Run]| [us(runs, |r| r.us(&r.redis)), us(runs, Run::redis_waited_us), us(runs, Run::redis_slept_us)];
    let bytes = format!("ceiling ({:.0} bytes a record)", ceiling.pump.bytes_a_record());
    let [ran, waited, slept] = redis(&ceiling.turns.iter().collect::<Vec<_>>());
    table.row(bytes, [thousands(ceiling.turns.iter().map(Run::rate)), "1".into(), "-".into(), ran, waited, slept, "-".into()]);
    for c in contenders {
        let runs: Vec<&Run> = c.turns.iter().map(|d| &d.run).collect();
        let [ran, waited, slept] = redis(&runs);
        let cells = [
            thousands(runs.iter().map(|r| r.rate())),
            ratios(ceiling, c).to_string(),
            us(&runs, |r| r.us(&r.cpu)),
            ran,
            waited,
            slept,
            format!("{:.0}", c.turns.iter().map(|d| d.peak_kib).max().unwrap() as f64 / 1024.0),
        ];
        table.row(&c.name, cells);
    }
    table
}

/// Each turn by the ceiling of its round.
fn ratios(ceiling: &Ceiling, contender: &Contender) -> Spread {
    Spread::of(contender.turns.iter().zip(&ceiling.turns).map(|(d, c)| d.run.rate() / c.rate()))
}

/// Where the bridge's time goes, in microseconds a record.
fn threads(contenders: &[Contender]) -> Table {
    let mut table = Table::new("CPU time of the bridge by its threads, us/record", &["", "thread", "us/record"]);
    for c in contenders {
        let names: BTreeSet<&String> = c.turns.iter().flat_map(|d| d.run.cpu.keys()).collect();
        for name in names {
            let us = median(c.turns.iter().map(|d| d.run.a_record(d.run.cpu.get(name).map_or(0, |t| t.ran))));
            if us >= 0.005 {
                table.row(&c.name, [name, &format!("{us:.3}")]);
            }
        }
    }
    table
}

fn figures(ceiling: &Ceiling, contenders: &[Contender]) -> Value {
    let of = |c: &Contender| {
        json!({
            "name": c.name, "guarantee": c.variant.guarantee, "lanes": c.variant.lanes,
            "ratio": ratios(ceiling, c), "rates": c.turns.iter().map(|d| d.run.rate()).collect::<Vec<_>>(),
            "bridge_us": c.turns.iter().map(|d| d.run.us(&d.run.cpu)).collect::<Vec<_>>(),
            "redis_us": c.turns.iter().map(|d| d.run.us(&d.run.redis)).collect::<Vec<_>>(),
            "redis_waited_us": c.turns.iter().map(|d| d.run.redis_waited_us()).collect::<Vec<_>>(),
            "redis_slept_us": c.turns.iter().map(|d| d.run.redis_slept_us()).collect::<Vec<_>>(),
            "peak_kib": c.turns.iter().map(|d| d.peak_kib).collect::<Vec<_>>(),
        })
    };
    json!({ "ceiling": ceiling.turns.iter().map(Run::rate).collect::<Vec<_>>(), "contenders": contenders.iter().map(of).collect::<Vec<_>>() })
}

/// Three writes a record, by guarantee and lanes; with a collapsed SETEX, where the bridge has that.
pub(crate) fn whole(bed: &Bed) -> Part {
    let workload = Workload::ticks(bed.scale.records);
    let topic = bed.topic(&workload);
    let mut contenders = vec![contender("exactly-once, the defaults", Variant::reference())];
    for guarantee in ["exactly-once", "at-least-once"] {
        for lanes in [1, 2, 4] {
            contenders.push(contender(&format!("{guarantee}, lanes = {lanes}"), Variant::reference().guarantee(guarantee).lanes(lanes)));
        }
    }
    let mut notes = vec!["Nobody subscribes: PUBLISH reaches no one.".to_owned(), THREE_WAYS.to_owned()];
    let collapsed = Variant::new(&[XADD, COLLAPSED, PUBLISH]);
    match collapsed.valid() {
        Ok(_) => contenders.push(contender("exactly-once, SETEX with collapse = true", collapsed)),
        Err(why) => notes.push(format!("Left out: `collapse = true`, which this version refuses: {}.", why.replace('\n', " "))),
    }
    let mut ceiling = Ceiling { pump: Pump::new(&workload, &Variant::reference()), turns: Vec::new() };
    compete(bed, &topic, workload.records, &mut ceiling, &mut contenders);
    let title = format!("{} ticks in 8 partitions, three writes a record, {} turns", workload.records, bed.scale.rounds);
    Part { tables: vec![table(&title, &ceiling, &contenders), threads(&contenders)], notes, figures: figures(&ceiling, &contenders) }
}

/// One write a record, each by its own ceiling.
pub(crate) fn single(bed: &Bed) -> Part {
    let workload = Workload::ticks(bed.scale.records);
    let topic = bed.topic(&workload);
    let (mut tables, mut all) = (Vec::new(), Vec::new());
    for (name, write) in [("XADD", XADD), ("SETEX", SETEX), ("PUBLISH", PUBLISH)] {
        let variant = Variant::new(&[write]);
        let mut ceiling = Ceiling { pump: Pump::new(&workload, &variant), turns: Vec::new() };
        let mut contenders = vec![
            contender("exactly-once, the defaults", variant.clone()),
            contender("exactly-once, lanes = 4", variant.clone().lanes(4)),
            contender("at-least-once", variant.guarantee("at-least-once")),
        ];
        compete(bed, &topic, workload.records, &mut ceiling, &mut contenders);
        tables.push(table(&format!("{name} alone"), &ceiling, &contenders));
        tables.push(threads(&contenders[..1]));
        all.push(json!({ "write": name, "measured": figures(&ceiling, &contenders) }));
    }
    Part { tables, notes: vec![THREE_WAYS.into()], figures: Value::Array(all) }
}
