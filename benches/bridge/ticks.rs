//! The records: volatility ticks, and what the growth of one thing or another makes of them. The topic and the pump have
//! the same ones.
use crate::support::kafka::{self, Produce, Producer};
use kafka_redis_bridge::core::record::{Record, TopicPartition};
use rdkafka::ClientConfig;
use std::fmt::Write as _;

/// What a payload looks like.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Payload {
    /// Seven fields, some 170 bytes.
    Tick,
    /// So many small fields.
    Fields(usize),
    /// Three fields, so many bytes.
    Bytes(usize),
}

#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) partitions: i32,
    pub(crate) keys: u64,
    pub(crate) records: u64,
    pub(crate) payload: Payload,
}

/// One record.
pub(crate) struct Tick {
    partition: i32,
    key: String,
    payload: String,
}

/// The pair of a number.
pub(crate) fn pair(n: u64) -> String {
    format!("P{n:03}/USD")
}

/// When the records in a text were sent: the numbers behind each `"sent":`.
pub(crate) fn sent(text: &[u8]) -> impl Iterator<Item = u64> {
    const HEAD: &[u8] = br#""sent":"#;
    let places = text.windows(HEAD.len()).enumerate().filter(|(_, w)| *w == HEAD).map(|(at, _)| at + HEAD.len());
    places.map(|at| text[at..].iter().take_while(|b| b.is_ascii_digit()).fold(0, |n, d| n * 10 + u64::from(d - b'0')))
}

impl Workload {
    /// The reference: 100 pairs in 8 partitions.
    pub(crate) fn ticks(records: u64) -> Self {
        Self { partitions: 8, keys: 100, records, payload: Payload::Tick }
    }

    /// The record of this number. A pair stays in its partition, unless there are more partitions than pairs.
    pub(crate) fn record(&self, n: u64) -> Tick {
        let key = n % self.keys;
        let partitions = u64::from(self.partitions.unsigned_abs());
        let partition = i32::try_from(if self.keys < partitions { n } else { key } % partitions).unwrap();
        let pair = pair(key);
        let payload = match self.payload {
            Payload::Tick => {
                let (seconds, ms, cents) = (n / 1000 % 60, n % 1000, n * 7919 % 10_000_000);
                format!(
                    r#"{{"timestamp":"2025-12-06T14:00:{seconds:02}.{ms:03}","pair":"{pair}","price":{}.{:02},"realized_vol":0.{:04},"implied_vol":0.{:04},"garch_forecast":0.{:04},"spread":0.05}}"#,
                    cents / 100,
                    cents % 100,
                    n % 9000 + 1000,
                    n % 8000 + 1000,
                    n % 7000 + 1000
                )
            }
            Payload::Fields(fields) => {
                let mut text = String::from("{");
                for field in 0..fields {
                    let comma = if field == 0 { "" } else { "," };
                    let _ = write!(text, r#"{comma}"field_{field}":{}"#, 100_000 + (n + field as u64) % 900_000);
                }
                text + "}"
            }
            Payload::Bytes(bytes) => {
                let head = format!(r#"{{"pair":"{pair}","price":{}.25,"text":""#, 10_000 + n % 90_000);
                let rest = bytes.saturating_sub(head.len() + 2);
                format!(r#"{head}{}"}}"#, "x".repeat(rest))
            }
        };
        Tick { partition, key: pair, payload }
    }

    /// Produces all records, in order, lz4.
    pub(crate) fn produce(&self, topic: &str) {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", kafka::bootstrap()).set("compression.type", "lz4");
        let producer = Producer::on(config);
        for tick in (0..self.records).map(|n| self.record(n)) {
            producer.send(topic, Produce { partition: Some(tick.partition), ..Produce::new(&tick.key, &tick.payload) });
        }
        producer.flush();
    }
}

impl Tick {
    /// As the poller would hand it on.
    pub(crate) fn into_record(self, topic: &str, offset: i64) -> Record {
        let at = TopicPartition::new(topic, self.partition);
        Record::copy(at, offset, Some(1_765_029_600_000), Some(self.key.as_bytes()), Some(self.payload.as_bytes()), [])
    }
}
