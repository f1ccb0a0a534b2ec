//! A Kafka record, copied out of librdkafka's buffers.
use std::fmt;
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
#[derive(Clone, Debug)]
pub struct Record {
    run: Arc<Run>,
    pub offset: i64,
    /// Milliseconds since the epoch; `None` where the record carries none.
    pub timestamp_ms: Option<i64>,
    place: Place,
}

/// Where a record's bytes stand in its run's: key, value and the headers' values, one after the other. Of these there are
/// thousands in a queue, so their numbers are small ones: Kafka's lengths are 32 bits, and no run has 4 GiB.
#[derive(Clone, Debug)]
struct Place {
    from: u32,
    key: Option<u32>,
    payload: Option<u32>,
    headers: Box<[(String, Option<u32>)]>,
}

/// Records of one partition that were copied together.
#[derive(Debug)]
struct Run {
    at: TopicPartition,
    bytes: Vec<u8>,
}

/// Copies records of one partition out of librdkafka's buffers. Those that one copier makes share an allocation, which
/// goes with the last of them: a record costs none of its own, and no thread frees what another one has allocated, but
/// once a run.
#[derive(Debug)]
pub struct Copier {
    run: Run,
    copied: Vec<(i64, Option<i64>, Place)>,
}

impl Copier {
    /// For so many records of so many bytes, if that is known.
    pub fn new(at: TopicPartition, records: usize, bytes: usize) -> Self {
        Self { run: Run { at, bytes: Vec::with_capacity(bytes) }, copied: Vec::with_capacity(records) }
    }

    pub fn copy<'h>(
        &mut self,
        offset: i64,
        timestamp_ms: Option<i64>,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
        headers: impl IntoIterator<Item = (&'h str, Option<&'h [u8]>)>,
    ) {
        let bytes = &mut self.run.bytes;
        let small = |n: usize| u32::try_from(n).expect("less than 4 GiB");
        let from = small(bytes.len());
        let mut keep = |part: Option<&[u8]>| {
            part.map(|p| {
                bytes.extend_from_slice(p);
                small(p.len())
            })
        };
        let (key, payload) = (keep(key), keep(payload));
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), keep(value))).collect();
        self.copied.push((offset, timestamp_ms, Place { from, key, payload, headers }));
    }

    pub fn records(self) -> Vec<Record> {
        let run = Arc::new(self.run);
        let record = |(offset, timestamp_ms, place)| Record { run: run.clone(), offset, timestamp_ms, place };
        self.copied.into_iter().map(record).collect()
    }
}

impl Place {
    fn payload_from(&self) -> u32 {
        self.from + self.key.unwrap_or(0)
    }

    fn headers_from(&self) -> u32 {
        self.payload_from() + self.payload.unwrap_or(0)
    }

    fn end(&self) -> u32 {
        self.headers_from() + self.headers.iter().filter_map(|(_, len)| *len).sum::<u32>()
    }
}

/// With whom a record was copied says nothing about it.
impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        let facts = |r: &Self| (r.offset, r.timestamp_ms);
        self.at() == other.at()
            && facts(self) == facts(other)
            && (self.key(), self.payload()) == (other.key(), other.payload())
            && self.headers().eq(other.headers())
    }
}

impl Eq for Record {}

impl Record {
    /// A record alone.
    pub fn copy<'h>(
        at: TopicPartition,
        offset: i64,
        timestamp_ms: Option<i64>,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
        headers: impl IntoIterator<Item = (&'h str, Option<&'h [u8]>)>,
    ) -> Self {
        let mut copier = Copier::new(at, 1, key.map_or(0, <[u8]>::len) + payload.map_or(0, <[u8]>::len));
        copier.copy(offset, timestamp_ms, key, payload, headers);
        copier.records().remove(0)
    }

    /// The partition that it stands in.
    pub fn at(&self) -> &TopicPartition {
        &self.run.at
    }

    fn slice(&self, from: u32, len: u32) -> &[u8] {
        &self.run.bytes[from as usize..(from + len) as usize]
    }

    pub fn key(&self) -> Option<&[u8]> {
        self.place.key.map(|len| self.slice(self.place.from, len))
    }

    /// The record's value; `None` is a tombstone.
    pub fn payload(&self) -> Option<&[u8]> {
        self.place.payload.map(|len| self.slice(self.place.payload_from(), len))
    }

    /// In the record's order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        let mut from = self.place.headers_from();
        self.place.headers.iter().map(move |(name, len)| {
            let at = from;
            from += len.unwrap_or(0);
            (name.as_str(), len.map(|len| self.slice(at, len)))
        })
    }

    /// The last header of that name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers().filter(|(n, _)| *n == name).last().and_then(|(_, v)| v)
    }

    /// What the record holds in memory, in bytes, by which queues are bounded.
    pub fn weight(&self) -> usize {
        let place = &self.place;
        (place.end() - place.from) as usize + place.headers.iter().map(|(n, _)| n.len() + 40).sum::<usize>() + 160
    }

    /// A hash of key and value that tells this record from another one at the same offset of a recreated topic.
    pub fn fingerprint(&self) -> u64 {
        let Place { from, key, .. } = self.place;
        xxhash_rust::xxh3::xxh3_64_with_seed(self.slice(from, self.place.end() - from), key.unwrap_or(0).into())
    }
}
