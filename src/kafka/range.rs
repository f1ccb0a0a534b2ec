//! A bounded range of a partition, read without a group.
use super::client::{self, Reader};
use crate::config::Kafka;
use crate::core::record::{Copier, Record, TopicPartition};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use std::time::{Duration, Instant};

/// Copies messages of one partition out of librdkafka's buffers.
pub fn records(at: TopicPartition, messages: &[BorrowedMessage<'_>]) -> Vec<Record> {
    let mut copier = Copier::new(at, messages.len(), messages.iter().map(size).sum());
    for message in messages {
        let headers = message.headers();
        let headers = headers.iter().flat_map(|h| h.iter()).map(|h| (h.key, h.value));
        copier.copy(message.offset(), message.timestamp().to_millis(), message.key(), message.payload(), headers);
    }
    copier.records()
}

/// Bytes of key and value.
pub fn size(message: &BorrowedMessage<'_>) -> usize {
    message.key_len() + message.payload_len()
}

/// Reads one partition from an offset on, to the end of its log.
pub struct Range {
    consumer: Reader,
    at: TopicPartition,
}

impl Range {
    pub fn new(kafka: &Kafka, at: TopicPartition, from: i64) -> Result<Self, KafkaError> {
        let consumer = client::read(kafka)?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&at.topic, at.partition, Offset::Offset(from))?;
        consumer.assign(&list)?;
        Ok(Self { consumer, at })
    }

    /// The next record; `None` at the end of the log.
    ///
    /// # Errors
    /// What Kafka says, or that nothing came for so long.
    pub fn next(&mut self, patience: Duration) -> Result<Option<Record>, String> {
        let until = Instant::now() + patience;
        loop {
            match self.consumer.poll(until.saturating_duration_since(Instant::now())) {
                Some(Ok(message)) => return Ok(records(self.at.clone(), &[message]).pop()),
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(None),
                Some(Err(e)) if e.rdkafka_error_code() == Some(rdkafka::types::RDKafkaErrorCode::AutoOffsetReset) => return Err(e.to_string()),
                Some(Err(e)) => tracing::debug!("{}: {e}", self.at),
                None if Instant::now() >= until => return Err(format!("{} answered nothing for {patience:?}", self.at)),
                None => {}
            }
        }
    }
}
