//! Several partitions of one topic, each from an offset on, read without a group.
use super::client::{self, Reader};
use super::range::records;
use super::trouble::Trouble;
use crate::config::Kafka;
use crate::core::record::{Record, TopicPartition};
use crate::core::replay::end::{End, Shown};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// See the module's documentation.
pub struct Ranges {
    consumer: Reader,
    topic: String,
}

/// What came of a look.
pub enum Read<'r> {
    Record(BorrowedMessage<'r>),
    /// The log of this partition was read to its end.
    End(i32),
    /// Kafka no longer has what one of the partitions is to read next.
    OutOfRange,
    Nothing,
    /// What Kafka says, and what a person can do about it; without that it may pass.
    Trouble(String, Option<Trouble>),
}

impl Ranges {
    pub fn new(kafka: &Kafka, topic: &str, places: impl IntoIterator<Item = (i32, i64)>) -> Result<Self, String> {
        let consumer = client::read(kafka).map_err(|e| e.to_string())?;
        let mut list = TopicPartitionList::new();
        for (partition, offset) in places {
            list.add_partition_offset(topic, partition, Offset::Offset(offset)).map_err(|e| e.to_string())?;
        }
        consumer.assign(&list).map_err(|e| e.to_string())?;
        Ok(Self { consumer, topic: topic.to_owned() })
    }

    pub fn next(&self, timeout: Duration) -> Read<'_> {
        match self.consumer.poll(timeout) {
            Some(Ok(message)) => Read::Record(message),
            Some(Err(KafkaError::PartitionEOF(partition))) => Read::End(partition),
            Some(Err(e)) => match e.rdkafka_error_code() {
                Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => Read::OutOfRange,
                code => Read::Trouble(e.to_string(), code.and_then(Trouble::of)),
            },
            None => Read::Nothing,
        }
    }

    /// Reads a partition no further, for now or for good. What was fetched of it is thrown away.
    pub fn leave(&self, partition: i32) {
        if let Err(e) = self.consumer.pause(&self.list(partition)) {
            tracing::debug!("{}[{partition}]: pause: {e}", self.topic);
        }
    }

    /// Goes on with a partition that was left, at this offset, which is behind what was last read of it. It is sought there, since
    /// a resume alone does not wake librdkafka's fetching thread ([`super::driver`] says more).
    pub fn resume(&self, partition: i32, next: i64) {
        let resumed = self.consumer.resume(&self.list(partition)).map_err(|e| e.to_string());
        if let Err(e) = resumed.and_then(|()| self.read_again(partition, next)) {
            tracing::debug!("{}[{partition}]: resume: {e}", self.topic);
        }
    }

    /// Reads a partition from this offset, and says once more where its log ends.
    ///
    /// # Errors
    /// What librdkafka says.
    pub fn read_again(&self, partition: i32, offset: i64) -> Result<(), String> {
        self.consumer.seek(&self.topic, partition, Offset::Offset(offset), Duration::ZERO).map_err(|e| e.to_string())
    }

    /// Before which offset Kafka holds all of a partition that can be read.
    fn high(&self, partition: i32, patience: Duration) -> Result<i64, String> {
        self.consumer.fetch_watermarks(&self.topic, partition, patience).map(|(_, high)| high).map_err(|e| e.to_string())
    }

    fn list(&self, partition: i32) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, partition);
        list
    }
}

/// What is to come after a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    On,
    /// No more of this partition.
    Enough,
    Stop,
}

/// A range that is walked.
struct Open {
    next: i64,
    to: i64,
    end: End,
}

/// Reads the ranges `(partition, from, to)` of a topic to their ends.
///
/// # Errors
/// What Kafka says, that it deleted what was about to be read, that the log was cut, or that nothing came for so long.
pub fn walk(kafka: &Kafka, topic: &str, ranges: &[(i32, i64, i64)], silence_max: Duration, mut on: impl FnMut(Record) -> Walk) -> Result<(), String> {
    let begun = |(p, from, to): &(i32, i64, i64)| (*p, Open { next: *from, to: *to, end: End::default() });
    let mut open: BTreeMap<i32, Open> = ranges.iter().filter(|(_, from, to)| from < to).map(begun).collect();
    if open.is_empty() {
        return Ok(());
    }
    let places = ranges.iter().filter(|(p, ..)| open.contains_key(p)).map(|(p, from, _)| (*p, *from));
    let reader = Ranges::new(kafka, topic, places).map_err(|e| format!("Kafka: {e}"))?;
    let topic: Arc<str> = topic.into();
    let mut heard = Instant::now();
    while !open.is_empty() {
        match reader.next(Duration::from_millis(100)) {
            Read::Record(message) => {
                heard = Instant::now();
                let (partition, offset) = (message.partition(), message.offset());
                let Some(range) = open.get_mut(&partition) else { continue };
                range.next = offset + 1;
                range.end.record();
                let (to, at) = (range.to, TopicPartition { topic: topic.clone(), partition });
                let record = if offset < to { records(at, &[message]).pop() } else { None };
                let more = record.map_or(Walk::Enough, &mut on);
                if more == Walk::Stop {
                    return Ok(());
                }
                if offset + 1 >= to || more == Walk::Enough {
                    open.remove(&partition);
                    reader.leave(partition);
                }
            }
            Read::End(partition) => {
                let Some(range) = open.get_mut(&partition) else { continue };
                let high = reader.high(partition, silence_max).map_err(|e| format!("Kafka: {topic}[{partition}]: {e}"))?;
                match range.end.shown(range.next, range.to, high) {
                    Shown::Over => _ = open.remove(&partition),
                    Shown::Again => reader.read_again(partition, range.next).map_err(|e| format!("Kafka: {topic}[{partition}]: {e}"))?,
                    Shown::Cut => {
                        let to = range.to;
                        return Err(format!("{topic}[{partition}] ends at {high}, before the end of the range, {to}: the topic was recreated or truncated"));
                    }
                }
            }
            Read::OutOfRange => return Err(format!("Kafka deleted records of {topic} that were about to be read")),
            Read::Nothing | Read::Trouble(..) if heard.elapsed() > silence_max => return Err(format!("Kafka: {topic}: nothing came for {silence_max:?}")),
            Read::Nothing | Read::Trouble(..) => {}
        }
    }
    Ok(())
}

/// The times of the first and of the last record of a range, in milliseconds since the epoch.
pub type Times = (Option<i64>, Option<i64>);

/// The times of the first and of the last record of each range `(partition, from, to)`, in milliseconds since the epoch, as
/// far as they have some and Kafka tells in time.
pub fn times(kafka: &Kafka, topic: &str, ranges: &[(i32, i64, i64)], patience: Duration) -> Result<BTreeMap<i32, Times>, String> {
    /// Behind the last record there may be a few markers of transactions.
    const TAIL: i64 = 20;
    let first = ends(kafka, topic, ranges, |(_, from, _)| *from, patience)?;
    let last = ends(kafka, topic, ranges, |(_, from, to)| (*to - TAIL).max(*from), patience)?;
    let of = |p: &i32| (first.get(p).and_then(|(first, _)| *first), last.get(p).and_then(|(_, last)| *last));
    Ok(ranges.iter().map(|(p, ..)| (*p, of(p))).collect())
}

/// Reads some records of each range from a place on; the times of the first and the last of these.
fn ends(
    kafka: &Kafka,
    topic: &str,
    ranges: &[(i32, i64, i64)],
    place: impl Fn(&(i32, i64, i64)) -> i64,
    patience: Duration,
) -> Result<BTreeMap<i32, Times>, String> {
    const RECORDS_MAX: i64 = 20;
    let mut open: BTreeMap<i32, (i64, i64)> = ranges.iter().filter(|r| place(r) < r.2).map(|r| (r.0, (place(r), r.2))).collect();
    let (mut times, until) = (BTreeMap::new(), Instant::now() + patience);
    if open.is_empty() {
        return Ok(times);
    }
    let reader = Ranges::new(kafka, topic, open.iter().map(|(p, (from, _))| (*p, *from)))?;
    while !open.is_empty() && Instant::now() < until {
        match reader.next(Duration::from_millis(100)) {
            Read::Record(message) => {
                let (partition, offset) = (message.partition(), message.offset());
                let Some((from, to)) = open.get(&partition).copied() else { continue };
                if offset < to {
                    let time = message.timestamp().to_millis();
                    let (first, last) = times.entry(partition).or_insert((time, time));
                    (*first, *last) = (first.or(time), time.or(*last));
                }
                if offset + 1 >= to || offset + 1 >= from + RECORDS_MAX {
                    open.remove(&partition);
                    reader.leave(partition);
                }
            }
            Read::End(partition) => _ = open.remove(&partition),
            Read::OutOfRange | Read::Nothing | Read::Trouble(..) => {}
        }
    }
    Ok(times)
}
