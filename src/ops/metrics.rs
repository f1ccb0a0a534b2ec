//! /metrics, from the same snapshot as /status, in the OpenMetrics text format.
use super::status::{RedisStatus, RouteStatus, Status, StreamStatus};
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::fmt;

type Labels = Vec<(String, String)>;

/// Renders a snapshot. Every figure has its unit in its help text.
pub fn render(status: &Status) -> String {
    let mut registry = Registry::with_prefix("bridge");
    let counters = [
        ("records", "Records settled through a route", (|r| r.records) as fn(&RouteStatus) -> u64),
        ("commands", "Commands applied by a route's writes", |r| r.commands),
        ("dead_letters", "Records, or some of their writes, kept as dead letters", |r| r.dead),
        ("expired", "Writes whose TTL had run out before they were made", |r| r.expired),
        ("tombstones", "Records without a value", |r| r.tombstones),
        ("dropped", "Records dropped by a rule: tombstones that the route skips, records that its condition does not let through", |r| r.dropped),
        ("condition_errors", "Conditions that could not be applied to a record, and were taken as not holding", |r| r.condition_errors),
    ];
    for (name, help, value) in counters {
        let family = Family::<Labels, Counter>::default();
        for route in &status.routes {
            family.get_or_create(&vec![("route".into(), route.name.clone())]).inc_by(value(route));
        }
        registry.register(name, help, family);
    }
    registry.register("latency_seconds", "Seconds from a record's timestamp to Redis' answer, records of a route", Latencies(status.routes.clone()));
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
