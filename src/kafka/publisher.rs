//! Publishing for others: a record is acknowledged by all replicas before it is answered for.
use super::client::{self, Returned};
use super::producer::{Renewed, UNAUTHORIZED, Unproduced};
use crate::config::Kafka;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureRecord, Producer as _};
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

impl From<Unproduced> for Unpublished {
    fn from(Unproduced { code, reason }: Unproduced) -> Self {
        match code {
            Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => Self::TooLarge(reason),
            Some(RDKafkaErrorCode::InvalidRecord | RDKafkaErrorCode::InvalidTopic | RDKafkaErrorCode::PolicyViolation) => Self::Refused(reason),
            Some(code) if UNAUTHORIZED.contains(&code) => Self::Refused(reason),
            _ => Self::Away(reason),
        }
    }
}

/// A producer without doubles of its own.
pub struct Publisher {
    producer: Renewed,
    /// How long a record may wait for its acknowledgement.
    patience: Duration,
}

/// librdkafka looks once a second which records have waited for too long: so much later they are given up here.
const GRACE: Duration = Duration::from_millis(300);

impl Publisher {
    /// `patience`: how long a record may wait for its acknowledgement.
    pub fn new(kafka: &Kafka, patience: Duration) -> Result<Self, KafkaError> {
        let mut config = client::producer(kafka);
        config.set("message.timeout.ms", patience.as_millis().max(1000).to_string());
        // While Kafka is away, what waits is bounded, too.
        config.set("queue.buffering.max.messages", "10000");
        config.set("linger.ms", "0");
        Ok(Self { producer: Renewed::new(config, Returned::of(kafka))?, patience })
    }

    /// Publishes a record; its partition and offset.
    pub async fn publish(&self, topic: &str, key: &[u8], payload: &[u8], headers: &[(&str, &str)]) -> Result<(i32, i64), Unpublished> {
        let headers = headers.iter().fold(OwnedHeaders::new(), |all, (name, text)| all.insert(Header { key: name, value: Some(*text) }));
        let record = FutureRecord::to(topic).key(key).payload(payload).headers(headers);
        let producer = self.producer.get();
        let unproduced = |e: &KafkaError| Unpublished::from(Unproduced::new(&producer, e));
        let delivery = producer.send_result(record).map_err(|(e, _)| unproduced(&e))?;
        match tokio::time::timeout(self.patience + GRACE, delivery).await {
            Ok(Ok(Ok(delivered))) => Ok((delivered.partition, delivered.offset)),
            Ok(Ok(Err((e, _)))) => Err(unproduced(&e)),
            Ok(Err(_)) => Err(Unpublished::Away("the producer was closed".into())),
            Err(_) => Err(Unpublished::Away(format!("no broker has acknowledged it within {} s", self.patience.as_secs_f64()))),
        }
    }

    /// Waits for what is on its way.
    pub fn flush(&self, patience: Duration) {
        let _ = self.producer.get().flush(patience);
    }
}
