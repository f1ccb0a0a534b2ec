//! Ticks with a sequence number a key, and the comparison of what stands in Redis with what was produced.
use super::eventually;
use super::kafka::{Produce, Producer};
use super::redis_server::RedisServer;
use std::collections::BTreeMap;

/// What was produced, by key.
#[derive(Debug, Default)]
pub(crate) struct Ticks {
    next: BTreeMap<String, u64>,
    pub(crate) total: u64,
}

impl Ticks {
    /// Produces `count` more ticks of `keys` pairs, in turn.
    pub(crate) fn produce(&mut self, topic: &str, count: u64, keys: u64) {
        let producer = Producer::new();
        self.produce_with(&producer, topic, count, keys);
        producer.flush();
    }

    pub(crate) fn produce_with(&mut self, producer: &Producer, topic: &str, count: u64, keys: u64) {
        for _ in 0..count {
            let key = format!("P{}/USD", self.total % keys);
            let seq = self.next.entry(key.clone()).or_default();
            let payload = tick(*seq);
            *seq += 1;
            self.total += 1;
            producer.send(topic, Produce { key: Some(key.as_bytes()), payload: Some(payload.as_bytes()), ..Produce::default() });
        }
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

    pub(crate) fn expect_exactly(&self, redis: &RedisServer) {
        let mut c = redis.connect();
        for (key, count) in &self.next {
            let entries: Vec<(String, Vec<(String, String)>)> = redis::cmd("XRANGE").arg(format!("volatility:{key}")).arg("-").arg("+").query(&mut c).unwrap();
            let found: Vec<u64> = entries.iter().map(|(_, fields)| fields.iter().find(|(n, _)| n == "seq").unwrap().1.parse().unwrap()).collect();
            let expected: Vec<u64> = (0..*count).collect();
            if found != expected {
                let first = found.iter().zip(&expected).position(|(a, b)| a != b).unwrap_or(found.len().min(expected.len()));
                panic!(
                    "{key}: {} found, {} expected; they part at {first}: {:?}",
                    found.len(),
                    expected.len(),
                    &found[first.saturating_sub(3)..(first + 6).min(found.len())]
                );
            }
            let last: String = redis::cmd("GET").arg(format!("latest:{key}")).query(&mut c).unwrap();
            assert_eq!(last, tick(count - 1), "the last value of {key}");
        }
    }
}

pub(crate) fn tick(seq: u64) -> String {
    format!(r#"{{"timestamp":"2025-12-06T14:00:00","price":42000.0,"realized_vol":0.35,"implied_vol":0.40,"garch_forecast":0.38,"spread":0.05,"seq":{seq}}}"#)
}
