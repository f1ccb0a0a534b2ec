//! A Kafka record, copied out of librdkafka's buffers: one allocation for its bytes.
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    pub partition: i32,
}

impl TopicPartition {
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.topic, self.partition)
    }
}

/// One record. Keys, values and header values are bytes and pass through unharmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub at: TopicPartition,
    pub offset: i64,
    /// Milliseconds since the epoch; `None` where the record carries none.
    pub timestamp_ms: Option<i64>,
    bytes: Vec<u8>,
    key: Option<Range<usize>>,
    payload: Option<Range<usize>>,
    headers: Vec<(String, Option<Range<usize>>)>,
}

impl Record {
    /// Copies the parts of a record into one buffer.
    pub fn copy<'h>(
        at: TopicPartition,
        offset: i64,
        timestamp_ms: Option<i64>,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
        headers: impl IntoIterator<Item = (&'h str, Option<&'h [u8]>)>,
    ) -> Self {
        let mut bytes = Vec::with_capacity(key.map_or(0, <[u8]>::len) + payload.map_or(0, <[u8]>::len));
        let mut keep = |part: Option<&[u8]>| {
            part.map(|p| {
                let from = bytes.len();
                bytes.extend_from_slice(p);
                from..bytes.len()
            })
        };
        let key = keep(key);
        let payload = keep(payload);
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), keep(value))).collect();
        Self { at, offset, timestamp_ms, bytes, key, payload, headers }
    }

    pub fn key(&self) -> Option<&[u8]> {
        self.key.clone().map(|r| &self.bytes[r])
    }

    /// The record's value; `None` is a tombstone.
    pub fn payload(&self) -> Option<&[u8]> {
        self.payload.clone().map(|r| &self.bytes[r])
    }

    pub fn headers(&self) -> impl DoubleEndedIterator<Item = (&str, Option<&[u8]>)> {
        self.headers.iter().map(|(n, v)| (n.as_str(), v.clone().map(|r| &self.bytes[r])))
    }

    /// The last header of that name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers().rev().find(|(n, _)| *n == name).and_then(|(_, v)| v)
    }

    /// What the record holds in memory, in bytes, by which queues are bounded.
    pub fn weight(&self) -> usize {
        self.bytes.len() + self.headers.iter().map(|(n, _)| n.len() + 40).sum::<usize>() + 160
    }

    /// A hash of key and value that tells this record from another one at the same offset of a recreated topic.
    pub fn fingerprint(&self) -> u64 {
        let key_len = self.key.as_ref().map_or(0, |r| r.len());
        xxhash_rust::xxh3::xxh3_64_with_seed(&self.bytes, key_len as u64)
    }
}
