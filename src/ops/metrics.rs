//! /metrics, from the same snapshot as /status: as OpenMetrics to who accepts that, as Prometheus does, and else in the older text
//! format, which promtool reads.
use super::status::{RedisStatus, RouteStatus, Status, StreamStatus};
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::collections::HashSet;
use std::fmt;

type Labels = Vec<(String, String)>;

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    OpenMetrics,
    Text,
}

impl Format {
    /// By a request's `Accept`.
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Text }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Renders a snapshot. Every figure has its unit in its help text.
pub fn render(status: &Status, format: Format) -> String {
    let rendered = open_metrics(status);
    match format {
        Format::OpenMetrics => rendered,
        Format::Text => as_text(&rendered),
    }
}

/// The older format knows a counter by the name of its samples, which ends with `_total`; and no end.
fn as_text(rendered: &str) -> String {
    let counters: HashSet<&str> = rendered.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let line = |line: &str| {
        let mut words = line.splitn(4, ' ');
        match [words.next(), words.next(), words.next(), words.next()] {
            [Some("#"), Some("EOF"), ..] => String::new(),
            [Some("#"), Some(what @ ("HELP" | "TYPE")), Some(name), Some(rest)] if counters.contains(name) => format!("# {what} {name}_total {rest}\n"),
            _ => format!("{line}\n"),
        }
    };
    rendered.lines().map(line).collect()
}

fn open_metrics(status: &Status) -> String {
    let mut registry = Registry::with_prefix("bridge");
    let counters = [
        ("records", "Records settled through a route", (|r| r.records) as fn(&RouteStatus) -> u64),
        ("commands", "Commands applied by a route's writes", |r| r.commands),
        ("dead_letters", "Records, or some of their writes, kept as dead letters", |r| r.dead),
        ("expired", "Writes whose TTL had run out before they were made", |r| r.expired),
        ("tombstones", "Records without a value", |r| r.tombstones),
        ("dropped", "Records dropped by a rule: tombstones that the route skips, records that its condition does not let through", |r| r.dropped),
        ("condition_errors", "Conditions that could not be applied to a record, and were taken as not holding", |r| r.condition_errors),
        ("latency_implausible", "Records whose timestamps are before 2000 or more than a day ahead, which are not in the latency", |r| r.latency.implausible),
    ];
    for (name, help, value) in counters {
        let family = Family::<Labels, Counter>::default();
        for route in &status.routes {
            family.get_or_create(&vec![("route".into(), route.name.clone())]).inc_by(value(route));
        }
        registry.register(name, help, family);
    }
    registry.register(
        "latency_seconds",
        "Seconds from a record's timestamp to Redis' answer, records of a route whose timestamps are plausible",
        Latencies(status.routes.clone()),
    );
    let gauges = [
        ("position", "The next offset to be settled", (|p| p.position) as fn(&super::status::PartitionStatus) -> Option<i64>),
        ("lag_records", "Records between the position and the end", |p| p.lag),
        ("epoch", "The owner's fencing number", |p| Some(p.epoch)),
        ("partition_open", "1 while the partition's records flow", |p| Some((p.phase == "open").into())),
    ];
    for (name, help, value) in gauges {
        let family = Family::<Labels, Gauge>::default();
        for p in &status.partitions {
            if let Some(v) = value(p) {
                family.get_or_create(&vec![("topic".into(), p.topic.clone()), ("partition".into(), p.partition.to_string())]).set(v);
            }
        }
        registry.register(name, help, family);
    }
    let conditions = Family::<Labels, Gauge>::default();
    for c in &status.conditions {
        conditions.get_or_create(&vec![("code".into(), c.code.clone()), ("subject".into(), c.subject.clone())]).set(1);
    }
    registry.register("condition", "1 for each condition that holds", conditions);
    let ready = Gauge::<i64>::default();
    ready.set(status.ready.into());
    registry.register("ready", "1 while the bridge is ready", ready);
    status.redis.iter().for_each(|redis| tell_redis(redis, &mut registry));
    let mut out = String::new();
    let _ = encode(&mut out, &registry);
    out
}

/// Histograms that the lanes have counted, by route.
#[derive(Debug)]
struct Latencies(Vec<RouteStatus>);

impl EncodeMetric for Latencies {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for RouteStatus { name, latency, .. } in &self.0 {
            let seconds = |ms: u64| ms as f64 / 1000.0;
            let bounds = latency.bounds_ms.iter().map(|ms| seconds(*ms)).chain([f64::MAX]);
            let buckets: Vec<(f64, u64)> = bounds.zip(latency.counts.iter().copied()).collect();
            encoder.encode_family(&[("route", name.as_str())])?.encode_histogram::<NoLabelSet>(
                seconds(latency.sum_ms),
                latency.counts.iter().sum(),
                &buckets,
                None,
            )?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// What Redis held when it was looked at last.
fn tell_redis(redis: &RedisStatus, registry: &mut Registry) {
    let memory = [
        ("redis_used_memory_bytes", "Bytes that Redis' data and buffers take", redis.used_memory_bytes),
        ("redis_maxmemory_bytes", "Bytes that they may take; 0: as many as there are", redis.maxmemory_bytes),
    ];
    for (name, help, bytes) in memory.into_iter().filter_map(|(name, help, bytes)| Some((name, help, bytes?))) {
        let gauge = Gauge::<i64>::default();
        gauge.set(bytes.try_into().unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    }
    let gauges = [
        ("streams", "Streams of a write", (|s| s.count) as fn(&StreamStatus) -> u64),
        ("stream_entries", "Entries of all streams of a write", |s| s.entries),
        ("stream_entries_longest", "Entries of the longest stream of a write", |s| s.longest),
    ];
    for (name, help, value) in gauges {
        let family = Family::<Labels, Gauge>::default();
        for streams in &redis.streams {
            let labels = vec![("route".into(), streams.route.clone()), ("key".into(), streams.key.clone())];
            family.get_or_create(&labels).set(value(streams).try_into().unwrap_or(i64::MAX));
        }
        registry.register(name, help, family);
    }
}

#[cfg(test)]
mod tests {
    use super::super::conditions::Condition;
    use super::super::status::{LatencyStatus, PartitionStatus};
    use super::*;
    use std::collections::HashMap;

    /// With something of everything.
    fn status() -> Status {
        let latency = LatencyStatus { bounds_ms: vec![1, 1000], counts: vec![3, 2, 1], sum_ms: 7_500, implausible: 4 };
        let route = RouteStatus { name: "r".into(), records: 6, commands: 12, dead: 1, expired: 0, tombstones: 0, dropped: 2, condition_errors: 0, latency };
        let partition = PartitionStatus {
            topic: "t".into(),
            partition: 0,
            position: Some(6),
            end: Some(9),
            lag: Some(3),
            epoch: 1,
            lane: 0,
            phase: "open".into(),
            held_by: None,
        };
        let streams = StreamStatus { route: "r".into(), key: "s:{key}".into(), count: 2, entries: 5, longest: 4 };
        let text = String::new;
        let condition = Condition { code: "poison".into(), subject: "t:0".into(), message: text(), remedy: text(), since: text(), needs_person: true };
        Status {
            version: "1".into(),
            ready: true,
            guarantee: text(),
            uptime_seconds: 1,
            partitions_assigned: 2,
            partitions_open: 1,
            partitions: vec![partition],
            routes: vec![route],
            redis: Some(RedisStatus { looked_at_ms: 1, used_memory_bytes: Some(1), maxmemory_bytes: Some(0), streams: vec![streams] }),
            conditions: vec![condition],
        }
    }

    /// What `promtool check metrics` looks at, for the text format.
    fn lint(rendered: &str) -> Vec<String> {
        let told = |what: &str| -> HashMap<&str, &str> { rendered.lines().filter_map(|l| l.strip_prefix(what)?.split_once(' ')).collect() };
        let (helps, types) = (told("# HELP "), told("# TYPE "));
        let mut wrong = Vec::new();
        for sample in rendered.lines().filter(|l| !l.starts_with('#')) {
            let name = sample.split(['{', ' ']).next().unwrap();
            let family = ["_bucket", "_count", "_sum"].iter().find_map(|part| name.strip_suffix(part)).filter(|f| types.contains_key(f)).unwrap_or(name);
            let (help, kind) = (helps.get(family).copied().unwrap_or_default(), types.get(family).copied().unwrap_or_default());
            let mut must = |holds: bool, what: &str| {
                if !holds {
                    wrong.push(format!("{family}: {what}"));
                }
            };
            must(help.len() > 10, "a help text");
            must(["counter", "gauge", "histogram"].contains(&kind), "a type");
            must((kind == "counter") == family.ends_with("_total"), "a counter, and nothing else, ends with _total");
            let bare = family.trim_end_matches("_total");
            must(!["_count", "_sum", "_bucket", "_gauge", "_counter", "_histogram"].iter().any(|end| bare.ends_with(end)), "no name of a type, or of a part");
            let parts: Vec<&str> = bare.split('_').collect();
            let others = ["ms", "milliseconds", "minutes", "hours", "days", "kb", "mb", "kib", "mib", "kilobytes", "percent"];
            must(!parts.iter().any(|part| others.contains(part)), "seconds and bytes, and no other unit of those");
            for (unit, word) in [("seconds", "Seconds"), ("bytes", "Bytes")] {
                must(!parts.contains(&unit) || bare.ends_with(unit) && help.starts_with(word), "its unit at the end, and in the help text");
            }
        }
        wrong
    }

    #[test]
    fn every_metric_has_a_help_text_a_type_and_a_base_unit() {
        let text = render(&status(), Format::Text);
        assert_eq!(lint(&text), Vec::<String>::new(), "{text}");
        assert!(text.lines().filter(|l| l.starts_with("# TYPE ")).count() >= 20, "all are looked at: {text}");
        for line in [
            "# HELP bridge_records_total Records settled through a route.",
            "# TYPE bridge_records_total counter",
            "bridge_records_total{route=\"r\"} 6",
            "bridge_latency_implausible_total{route=\"r\"} 4",
            "bridge_latency_seconds_sum{route=\"r\"} 7.5",
            "bridge_latency_seconds_bucket{le=\"+Inf\",route=\"r\"} 6",
        ] {
            assert!(text.lines().any(|l| l == line), "missing: {line}\nin:\n{text}");
        }
        // What the rules are for: they find what is wrong.
        let wrong = "# TYPE bridge_lag_ms counter\nbridge_lag_ms 1\n";
        assert_eq!(lint(wrong).len(), 3, "{:?}", lint(wrong));
    }

    #[test]
    fn who_accepts_openmetrics_gets_it_and_all_others_the_text_format() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.2";
        assert_eq!([prometheus, "", "*/*", "text/plain"].map(Format::accepted), [Format::OpenMetrics, Format::Text, Format::Text, Format::Text]);
        let (open, text) = (render(&status(), Format::OpenMetrics), render(&status(), Format::Text));
        assert!(open.ends_with("# EOF\n") && open.contains("# TYPE bridge_records counter\n"), "{open}");
        let samples = |rendered: &str| rendered.lines().filter(|l| !l.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
        assert!(!text.contains("# EOF") && samples(&text) == samples(&open), "{text}");
    }
}
