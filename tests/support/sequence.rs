//! Ticks with a sequence number a key, and the comparison of what stands in Redis with what was produced.
use super::eventually;
use super::kafka::{Produce, Producer};
use super::redis_server::RedisServer;
use std::collections::BTreeMap;

/// What was produced, by key.
#[derive(Debug)]
pub(crate) struct Ticks {
    name: &'static str,
    next: BTreeMap<String, u64>,
    pub(crate) total: u64,
}

impl Default for Ticks {
    fn default() -> Self {
        Self::named("P")
    }
}

impl Ticks {
    /// Whose pairs begin with this name.
    pub(crate) fn named(name: &'static str) -> Self {
        Self { name, next: BTreeMap::new(), total: 0 }
    }

    /// Produces `count` more ticks of `keys` pairs, each pair on one of these partitions.
    pub(crate) fn produce_on(&mut self, topic: &str, count: u64, keys: u64, partitions: std::ops::Range<i32>) {
        let producer = Producer::new();
        let spread = u64::try_from(partitions.len()).unwrap();
        for _ in 0..count {
            let partition = partitions.start + i32::try_from(self.total % keys % spread).unwrap();
            self.send(&producer, topic, keys, Some(partition));
        }
        producer.flush();
    }

    /// Produces `count` more ticks of `keys` pairs, in turn.
    pub(crate) fn produce(&mut self, topic: &str, count: u64, keys: u64) {
        let producer = Producer::new();
        self.produce_with(&producer, topic, count, keys);
        producer.flush();
    }

    pub(crate) fn produce_with(&mut self, producer: &Producer, topic: &str, count: u64, keys: u64) {
        for _ in 0..count {
            self.send(producer, topic, keys, None);
        }
    }

    fn send(&mut self, producer: &Producer, topic: &str, keys: u64, partition: Option<i32>) {
        let key = format!("{}{}/USD", self.name, self.total % keys);
        let seq = self.next.entry(key.clone()).or_default();
        let payload = tick(*seq);
        *seq += 1;
        self.total += 1;
        producer.send(topic, Produce { partition, ..Produce::new(&key, &payload) });
    }

    /// Waits until as many entries stand in the streams as were produced, then compares each stream's exact sequence
    /// and each last value.
    pub(crate) fn expect_in(&self, redis: &RedisServer, secs: u64) {
        let count = || {
            let Ok(mut c) = redis::Client::open(redis.url()).and_then(|c| c.get_connection()) else { return 0 };
            self.next.keys().map(|k| redis::cmd("XLEN").arg(format!("volatility:{k}")).query::<u64>(&mut c).unwrap_or(0)).sum()
        };
        eventually("all entries are in Redis", secs, || count() >= self.total);
        self.expect_exactly(redis);
    }

    /// Every sequence number stands there, in order but for what was applied again.
    pub(crate) fn expect_all_at_least_once(&self, redis: &RedisServer) {
        for (key, count) in &self.next {
            let mut next = 0;
            for seq in sequence(redis, key) {
                assert!(seq <= next, "{key}: {seq} came where {next} was missing");
                next = next.max(seq + 1);
            }
            assert_eq!(next, *count, "{key}");
        }
    }

    pub(crate) fn expect_exactly(&self, redis: &RedisServer) {
        let found = self.compare(redis);
        assert!(found.differences.is_empty(), "{}", found.differences.join("\n"));
    }

    /// Compares each stream's exact sequence, and each last value.
    pub(crate) fn compare(&self, redis: &RedisServer) -> Comparison {
        let mut all = Comparison::default();
        let mut c = redis.connect();
        for (key, count) in &self.next {
            let found = sequence(redis, key);
            all.streams(key, &found, *count);
            let last: Option<String> = redis::cmd("GET").arg(format!("latest:{key}")).query(&mut c).unwrap();
            if last != Some(tick(count - 1)) {
                all.stale += 1;
                all.differences.push(format!("the last value of {key} is {last:?}, not that of {}", count - 1));
            }
        }
        all
    }
}

/// How what stands in Redis differs from what was produced.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) disordered: u64,
    /// Keys whose last value is not the last one produced.
    pub(crate) stale: u64,
    /// One line a difference.
    pub(crate) differences: Vec<String>,
}

impl Comparison {
    fn streams(&mut self, key: &str, found: &[u64], count: u64) {
        let mut seen = vec![0u64; usize::try_from(count).unwrap()];
        let mut highest = None;
        for seq in found {
            // One that was never produced counts as doubled: it stands there once too often.
            match seen.get_mut(usize::try_from(*seq).unwrap()) {
                Some(times) if *times == 0 => self.disordered += u64::from(highest > Some(*seq)),
                _ => self.doubled += 1,
            }
            if let Some(times) = seen.get_mut(usize::try_from(*seq).unwrap()) {
                *times += 1;
            }
            highest = highest.max(Some(*seq));
        }
        self.lost += u64::try_from(seen.iter().filter(|times| **times == 0).count()).unwrap();
        if let Some(first) = (0..found.len().max(seen.len())).find(|n| found.get(*n).copied() != u64::try_from(*n).ok().filter(|n| *n < count)) {
            let around = &found[first.saturating_sub(3)..(first + 6).min(found.len())];
            self.differences.push(format!("{key}: {} found, {count} expected; they part at {first}: {around:?}", found.len()));
        }
    }
}

/// The sequence numbers in a pair's stream.
pub(crate) fn sequence(redis: &RedisServer, key: &str) -> Vec<u64> {
    let number = |fields: Vec<(String, String)>| fields.iter().find(|(n, _)| n == "seq").unwrap().1.parse().unwrap();
    redis.entries::<String>(&format!("volatility:{key}")).into_iter().map(|(_, fields)| number(fields)).collect()
}

pub(crate) fn tick(seq: u64) -> String {
    format!(r#"{{"timestamp":"2025-12-06T14:00:00","price":42000.0,"realized_vol":0.35,"implied_vol":0.40,"garch_forecast":0.38,"spread":0.05,"seq":{seq}}}"#)
}
