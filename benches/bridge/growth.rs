//! What a record costs as one thing or another grows: it must stay flat, or grow with the bytes alone.
use crate::bed::Bed;
use crate::drain::{Drained, drain};
use crate::meter::Run;
use crate::pump::Pump;
use crate::report::{Part, Table, progress};
use crate::stats::{Spread, median, thousands};
use crate::ticks::{Payload, Workload};
use crate::variant::{PUBLISH, SETEX, Variant, XADD};
use serde_json::{Value, json};

/// One case; the first one of its group is what the others are compared with.
struct Case {
    name: String,
    workload: Workload,
    variant: Variant,
}

/// Cases that differ in one thing.
struct Group {
    title: &'static str,
    cases: Vec<Case>,
}

fn case(name: impl Into<String>, workload: Workload, variant: Variant) -> Case {
    Case { name: name.into(), workload, variant }
}

/// Ten writes: each kind several times, on keys of their own.
fn ten() -> Vec<String> {
    let more = |n: usize| {
        [
            format!(r#"xadd = {{ key = "volatility{n}:{{key}}", fields = "*", maxlen = 1000 }}"#),
            format!(r#"setex = {{ key = "latest{n}:{{key}}", ttl = "1h", value = "{{payload}}" }}"#),
            format!(r#"publish = {{ channel = "updates{n}:{{key}}", message = "{{payload}}" }}"#),
        ]
    };
    let hash = r#"command = ["HSET", "pair:{key}", "price", "{value.price}", "pair", "{value.pair}"]"#.to_owned();
    (0..3).flat_map(more).chain([hash]).collect()
}

fn groups(bed: &Bed) -> Vec<Group> {
    let records = bed.scale.share(4);
    let ticks = Workload::ticks(records);
    let reference = Variant::reference;
    // Enough that the claims, which are part of it, don't count for much.
    let partitions = |n| Workload { partitions: n, ..Workload::ticks(bed.scale.share(2)) };
    let bytes = |n, records| Workload { payload: Payload::Bytes(n), records, ..ticks.clone() };
    let fields = |n, records| Workload { payload: Payload::Fields(n), records, ..ticks.clone() };
    let xadd = || Variant::new(&[XADD]);
    let writes = |writes: Vec<String>| Variant { writes, ..reference() };
    let setex = || Variant::new(&[SETEX, PUBLISH]);
    // As many as there are records at the most.
    let many = Workload { records: bed.scale.share(2), keys: bed.scale.share(2).min(1_000_000), ..ticks.clone() };
    vec![
        Group {
            title: "partitions",
            cases: vec![
                case("8 partitions", partitions(8), reference()),
                case("1 partition", partitions(1), reference()),
                case("16 partitions", partitions(16), reference()),
                case("64 partitions", partitions(64), reference()),
                case("256 partitions", partitions(256), reference()),
            ],
        },
        Group {
            title: "routes, of which one takes the records",
            cases: vec![
                case("1 route", ticks.clone(), reference()),
                case("100 routes", ticks.clone(), reference().idle_routes(99)),
                case("1,000 routes", ticks.clone(), reference().idle_routes(999)),
            ],
        },
        Group {
            title: "bytes of the payload, three writes",
            cases: vec![
                case("100 B", bytes(100, records), reference()),
                case("1 KiB", bytes(1 << 10, records / 4), reference()),
                case("100 KiB", bytes(100 << 10, (records / 160).max(500)), reference()),
            ],
        },
        Group {
            title: "fields of an XADD",
            cases: vec![
                case("1 field", fields(1, records), xadd()),
                case("6 fields", fields(6, records), xadd()),
                case("50 fields", fields(50, records / 4), xadd()),
            ],
        },
        Group {
            title: "writes a record",
            cases: vec![
                case("1 write", ticks.clone(), xadd()),
                case("3 writes", ticks.clone(), reference()),
                case("10 writes", Workload::ticks(records / 2), writes(ten())),
            ],
        },
        Group {
            title: "distinct keys, SETEX and PUBLISH",
            cases: vec![case("100 keys", ticks.clone(), setex()), case(format!("{} keys", many.keys), many, setex())],
        },
    ]
}

/// All turns of each case, of which the topic and the pump are prepared: what the pump reached and what the bridge did.
fn turns(bed: &Bed, group: &Group, prepared: &[(String, Pump)]) -> Vec<Vec<(Run, Drained)>> {
    let mut turns: Vec<Vec<(Run, Drained)>> = group.cases.iter().map(|_| Vec::new()).collect();
    for round in 1..=bed.scale.few_rounds() {
        for ((case, (topic, pump)), turns) in group.cases.iter().zip(prepared).zip(&mut turns) {
            let ceiling = pump.ceiling(&bed.redis, &bed.address(), [&case.variant], case.workload.records);
            let drained = drain(&bed.redis, &case.variant, topic, case.workload.records);
            progress(&format!("round {round}: {}: {:.0} records/s of {:.0}", case.name, drained.run.rate(), ceiling.rate()));
            turns.push((ceiling, drained));
        }
    }
    turns
}

const HEAD: [&str; 9] =
    ["", "records/s", "by the first", "of its ceiling", "bytes a record", "bridge us/record", "Redis us/record", "peak MiB", "claimed after s"];

fn measure_group(bed: &Bed, group: &Group) -> (Table, Value) {
    let prepared: Vec<(String, Pump)> = group.cases.iter().map(|c| (bed.topic(&c.workload), Pump::new(&c.workload, &c.variant))).collect();
    let all = turns(bed, group, &prepared);
    let mut table = Table::new(group.title, &HEAD);
    let mut figures = Vec::new();
    for ((case, (_, pump)), turns) in group.cases.iter().zip(&prepared).zip(&all) {
        let rates: Vec<f64> = turns.iter().map(|(_, d)| d.run.rate()).collect();
        let by_first = Spread::of(turns.iter().zip(&all[0]).map(|((_, d), (_, first))| d.run.rate() / first.run.rate()));
        let of_ceiling = Spread::of(turns.iter().map(|(c, d)| d.run.rate() / c.rate()));
        let bridge = Spread::of(turns.iter().map(|(_, d)| d.run.us(&d.run.cpu)));
        let redis = median(turns.iter().map(|(_, d)| d.run.us(&d.run.redis)));
        let bytes = pump.bytes_a_record();
        let peak = turns.iter().map(|(_, d)| d.peak_kib).max().unwrap() as f64 / 1024.0;
        let claimed = median(turns.iter().map(|(_, d)| d.claimed));
        let cells = [
            thousands(rates.iter().copied()),
            by_first.to_string(),
            of_ceiling.to_string(),
            format!("{bytes:.0}"),
            format!("{:.2}", bridge.median),
            format!("{redis:.2}"),
            format!("{peak:.0}"),
            format!("{claimed:.2}"),
        ];
        table.row(&case.name, cells);
        figures.push(json!({
            "case": case.name, "records": case.workload.records, "rates": rates, "by_first": by_first, "of_ceiling": of_ceiling,
            "bytes": bytes, "bridge_us": bridge, "redis_us": redis, "peak_mib": peak, "claimed_s": claimed,
        }));
    }
    (table, json!({ "group": group.title, "cases": figures }))
}

pub(crate) fn measure(bed: &Bed) -> Part {
    let measured: Vec<(Table, Value)> = groups(bed).iter().map(|group| measure_group(bed, group)).collect();
    let (tables, figures): (Vec<Table>, Vec<Value>) = measured.into_iter().unzip();
    let note = "Exactly-once, the defaults. The time until all partitions are claimed counts from the bridge's start; the rate from the first records, some of whose partitions wait for their claims. Idle routes have patterns that no topic matches. A million streams would take Redis gigabytes, so the keys are those of a SETEX.";
    Part { tables, notes: vec![note.into()], figures: figures.into() }
}
