//! What a slow network does, and how lanes and batch sizes make up for it.
use crate::bed::Bed;
use crate::drain::drain_to;
use crate::far::Far;
use crate::pump::Pump;
use crate::report::{Part, Table, progress};
use crate::stats::{Spread, median, thousands};
use crate::ticks::Workload;
use crate::variant::Variant;
use serde_json::json;
use std::time::Duration;

const LANES: [usize; 3] = [2, 4, 8];
/// Records; `None`: the defaults.
const BATCHES: [Option<usize>; 3] = [None, Some(500), Some(2000)];

/// Lanes of some batch size, and their turns.
struct Case {
    lanes: usize,
    batch: String,
    variant: Variant,
    turns: Vec<Turn>,
}

struct Turn {
    rate: f64,
    /// By the ceiling of a Redis nearby, in the same round.
    ratio: f64,
    bridge_us: f64,
}

fn cases() -> Vec<Case> {
    let case = |lanes, batch: Option<usize>| {
        let variant = Variant::reference().lanes(lanes);
        let (batch, variant) = match batch {
            None => (format!("{}, the defaults", variant.records_a_batch()), variant),
            Some(records) => (records.to_string(), variant.batch(records)),
        };
        Case { lanes, batch, variant, turns: Vec::new() }
    };
    LANES.iter().flat_map(|&lanes| BATCHES.map(|batch| case(lanes, batch))).collect()
}

pub(crate) fn measure(bed: &Bed) -> Part {
    let workload = Workload { partitions: 16, ..Workload::ticks(bed.scale.share(4)) };
    let topic = bed.topic(&workload);
    let pump = Pump::new(&workload, &Variant::reference());
    let (mut tables, mut notes, mut figures) = (Vec::new(), Vec::new(), Vec::new());
    for ms in [1, 10] {
        let far = Far::make(Duration::from_millis(ms));
        let mut cases = cases();
        let mut far_ceilings = Vec::new();
        for round in 1..=bed.scale.few_rounds() {
            let ceiling = |redis, address| pump.ceiling(redis, address, cases.iter().map(|c| &c.variant), workload.records).rate();
            let (ceiling, far_ceiling) = (ceiling(&bed.redis, &bed.address()), ceiling(&far.redis, &far.address));
            far_ceilings.push(far_ceiling / ceiling);
            for Case { lanes, batch, variant, turns } in &mut cases {
                let drained = drain_to(&far.redis, &far.url(), variant, &topic, workload.records);
                let rate = drained.run.rate();
                progress(&format!("{ms} ms, round {round}: {lanes} lanes of {batch}: {rate:.0} records/s"));
                turns.push(Turn { rate, ratio: rate / ceiling, bridge_us: drained.run.us(&drained.run.cpu) });
            }
        }
        let mut table = Table::new(
            format!("{ms} ms round trip, {} ticks in 16 partitions, exactly-once", workload.records),
            &["lanes", "records a batch", "records/s", "of the ceiling nearby", "bridge us/record"],
        );
        for Case { lanes, batch, turns, .. } in &cases {
            let cells = [
                batch.clone(),
                thousands(turns.iter().map(|t| t.rate)),
                Spread::of(turns.iter().map(|t| t.ratio)).to_string(),
                format!("{:.2}", median(turns.iter().map(|t| t.bridge_us))),
            ];
            table.row(lanes, cells);
            figures.push(json!({ "ms": ms, "lanes": lanes, "batch": batch, "ratio": Spread::of(turns.iter().map(|t| t.ratio)) }));
        }
        table.row("pump", ["pipelined", "-", &Spread::of(far_ceilings).to_string(), "-"]);
        tables.push(table);
        if let Some(why) = &far.without_netem {
            notes.push(format!(
                "{ms} ms: tc netem can't be had here ({why}). A line of the benchmark's own lets bytes through as late; it takes CPU time of the same cores, and has no TCP window that must open."
            ));
        }
    }
    Part { tables, notes, figures: figures.into() }
}
