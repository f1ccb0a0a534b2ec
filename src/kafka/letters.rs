//! The dead-letter topic: at least once, identified by topic, partition, offset, route and write in the headers. A thread
//! a lane produces, beside the lane: while Kafka is away only those partitions wait that owe letters.
use super::client;
use crate::config::Kafka;
use crate::core::letter::Letter;
use crate::core::retry::Backoff;
use crate::ops::conditions::Conditions;
use crossbeam_channel::{Receiver, Sender};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord};
use rdkafka::types::RDKafkaErrorCode;
use std::time::Duration;

/// What passes only when a person acts: the letter is too large for the topic, or may not be written there.
const PERMANENT: [RDKafkaErrorCode; 7] = [
    RDKafkaErrorCode::MessageSizeTooLarge,
    RDKafkaErrorCode::InvalidMessageSize,
    RDKafkaErrorCode::InvalidRecord,
    RDKafkaErrorCode::InvalidTopic,
    RDKafkaErrorCode::TopicAuthorizationFailed,
    RDKafkaErrorCode::ClusterAuthorizationFailed,
    RDKafkaErrorCode::PolicyViolation,
];

/// Produces letters and waits for their acknowledgement.
pub struct LetterTopic {
    producer: FutureProducer,
    topic: String,
    runtime: tokio::runtime::Runtime,
    conditions: Conditions,
    /// Whose letters these are.
    lane: String,
}

impl LetterTopic {
    pub fn new(kafka: &Kafka, topic: &str, conditions: Conditions, lane: String) -> Result<Self, KafkaError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|e| KafkaError::ClientCreation(e.to_string()))?;
        Ok(Self { producer: client::producer(kafka).create()?, topic: topic.to_owned(), runtime, conditions, lane })
    }

    /// Buries what comes in, until its lane is gone.
    pub fn run(&self, letters: &Receiver<Vec<Letter>>, buried: &Sender<Result<(), String>>) {
        while let Ok(letters) = letters.recv() {
            if buried.send(self.bury(letters)).is_err() {
                return;
            }
        }
    }

    /// Returns when all are acknowledged, however long the brokers are away; or why one never will be.
    fn bury(&self, mut letters: Vec<Letter>) -> Result<(), String> {
        let mut backoff = Backoff::default();
        loop {
            let outcomes = self.runtime.block_on(self.produce(&letters));
            let mut failed = outcomes.iter().zip(&letters).filter_map(|(outcome, letter)| Some((letter, outcome.as_ref().err()?)));
            let Some((letter, first)) = failed.next() else {
                self.conditions.clear("dead-letter-waits", &self.lane);
                return Ok(());
            };
            let permanent = |e: &KafkaError| e.rdkafka_error_code().is_some_and(|code| PERMANENT.contains(&code));
            if let Some((letter, error)) = std::iter::once((letter, first)).chain(failed).find(|(_, e)| permanent(e)) {
                self.conditions.clear("dead-letter-waits", &self.lane);
                return Err(format!("{}, offset {}: {error}", letter.record.at, letter.record.offset));
            }
            let remedy = "it is tried again by itself; see whether the topic exists and its brokers answer";
            self.conditions.raise("dead-letter-waits", &self.lane, &format!("dead letters can't be produced to {}: {first}", self.topic), remedy);
            let mut outcomes = outcomes.iter();
            letters.retain(|_| outcomes.next().is_some_and(Result::is_err));
            let wait = backoff.next(rand::random());
            self.runtime.block_on(async { tokio::time::sleep(wait).await });
        }
    }

    async fn produce(&self, letters: &[Letter]) -> Vec<Result<(), KafkaError>> {
        let mut sent = Vec::with_capacity(letters.len());
        for letter in letters {
            sent.push(self.send(letter).await);
        }
        let mut outcomes = Vec::with_capacity(sent.len());
        for delivery in sent {
            outcomes.push(match delivery {
                Ok(delivery) => match delivery.await {
                    Ok(acknowledged) => acknowledged.map(drop).map_err(|(e, _)| e),
                    Err(_) => Err(KafkaError::Canceled),
                },
                Err(e) => Err(e),
            });
        }
        outcomes
    }

    async fn send(&self, letter: &Letter) -> Result<DeliveryFuture, KafkaError> {
        let mut headers = OwnedHeaders::new();
        for (name, text) in &letter.facts() {
            headers = headers.insert(Header { key: &format!("dead.{name}"), value: Some(text) });
        }
        for (name, value) in letter.record.headers() {
            headers = headers.insert(Header { key: name, value });
        }
        let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(&self.topic).headers(headers);
        record.key = letter.record.key();
        record.payload = letter.record.payload();
        loop {
            match self.producer.send_result(record) {
                Ok(delivery) => return Ok(delivery),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                    record = again;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err((e, _)) => return Err(e),
            }
        }
    }
}
