//! Many topics of one partition by a pattern: how long until all are open, what that costs, and what they cost while nothing comes.
use crate::bed::{Bed, refresh};
use crate::meter;
use crate::report::{Part, Table, progress};
use crate::support::{eventually, kafka, pass, unique};
use crate::variant::Variant;
use serde_json::json;
use std::time::{Duration, Instant};

/// How many topics there are, one case after the other.
const TOPICS: [usize; 3] = [1000, 2000, 5000];
/// How long a bridge is left alone after its partitions are open, so that its first commits are not counted as idle.
const REST: Duration = Duration::from_secs(5);

/// CPU time that a process has had, in seconds.
fn cpu(pid: u32) -> f64 {
    meter::cpu(pid).values().map(|t| t.ran).sum::<u64>() as f64 / 1e9
}

pub(crate) fn measure(bed: &Bed) -> Part {
    let head = ["topics", "all open after s", "CPU s until then", "a topic ms", "idle core", "RSS MiB"];
    let mut table = Table::new("topics of one partition, all by one pattern; the default properties", &head);
    let mut figures = Vec::new();
    let base = unique("many");
    let mut there = 0;
    for topics in TOPICS {
        kafka::create_many(&(there..topics).map(|n| format!("{base}.{n}")).collect::<Vec<_>>());
        there = topics;
        refresh(&bed.redis);
        let since = Instant::now();
        let bridge = Variant::reference().setup(&format!("^{base}[.].*"), &bed.redis.url()).start();
        let ready = || bridge.get("/readyz").is_some_and(|answer| answer == "ok\n");
        eventually("all partitions are open", 300, || ready() && bridge.status().is_some_and(|s| s.partitions_open == topics));
        let (opened, spent) = (since.elapsed().as_secs_f64(), cpu(bridge.pid()));
        pass(REST);
        let (before, since) = (cpu(bridge.pid()), Instant::now());
        // Longer than what is done at long intervals.
        pass(Duration::from_secs(bed.scale.seconds.max(20) * 2));
        let idle = (cpu(bridge.pid()) - before) / since.elapsed().as_secs_f64();
        let mib = meter::resident_kib(bridge.pid()) >> 10;
        progress(&format!("{topics} topics: open after {opened:.1} s, {spent:.1} s of CPU, idle {idle:.3}"));
        let a_topic = spent * 1000.0 / topics as f64;
        table.row(topics, [format!("{opened:.1}"), format!("{spent:.1}"), format!("{a_topic:.2}"), format!("{idle:.3}"), mib.to_string()]);
        figures.push(json!({ "topics": topics, "opened_s": opened, "cpu_s": spent, "idle_core": idle, "rss_mib": mib }));
    }
    Part { tables: vec![table], notes: Vec::new(), figures: json!(figures) }
}
