//! Publishing for others: a record is acknowledged by all replicas before it is answered for.
use super::client::{self, Returned};
use crate::config::Kafka;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::types::RDKafkaErrorCode;
use std::time::Duration;

/// Why a record was not acknowledged.
#[derive(Clone, Debug)]
pub enum Unpublished {
    /// No broker took it in time. It may have been taken all the same: what Kafka answered is lost then.
    Away(String),
    /// It is larger than the topic allows.
    TooLarge(String),
    /// It is refused.
    Refused(String),
}

impl From<KafkaError> for Unpublished {
    fn from(e: KafkaError) -> Self {
        match e.rdkafka_error_code() {
            Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => Self::TooLarge(e.to_string()),
            Some(
                RDKafkaErrorCode::InvalidRecord
                | RDKafkaErrorCode::InvalidTopic
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
                | RDKafkaErrorCode::PolicyViolation,
            ) => Self::Refused(e.to_string()),
            _ => Self::Away(e.to_string()),
        }
    }
}

/// A producer without doubles of its own.
#[derive(Clone)]
pub struct Publisher(FutureProducer<Returned>);

impl Publisher {
    /// `patience`: how long a record may wait for its acknowledgement.
    pub fn new(kafka: &Kafka, patience: Duration) -> Result<Self, KafkaError> {
        let mut config = client::producer(kafka);
        config.set("message.timeout.ms", patience.as_millis().max(1000).to_string());
        // While Kafka is away, what waits is bounded, too.
        config.set("queue.buffering.max.messages", "10000");
        config.set("linger.ms", "0");
        Ok(Self(config.create_with_context(Returned)?))
    }

    /// Publishes a record; its partition and offset.
    pub async fn publish(&self, topic: &str, key: &[u8], payload: &[u8], headers: &[(&str, &str)]) -> Result<(i32, i64), Unpublished> {
        let headers = headers.iter().fold(OwnedHeaders::new(), |all, (name, text)| all.insert(Header { key: name, value: Some(*text) }));
        let record = FutureRecord::to(topic).key(key).payload(payload).headers(headers);
        let delivery = self.0.send_result(record).map_err(|(e, _)| Unpublished::from(e))?;
        match delivery.await {
            Ok(Ok(delivered)) => Ok((delivered.partition, delivered.offset)),
            Ok(Err((e, _))) => Err(e.into()),
            Err(_) => Err(Unpublished::Away("the producer was closed".into())),
        }
    }

    /// Waits for what is on its way.
    pub fn flush(&self, patience: Duration) {
        let _ = self.0.flush(patience);
    }
}
