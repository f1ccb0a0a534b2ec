//! The dead-letter topic: at least once, identified by topic, partition, offset, route and write in the headers. A thread
//! a lane produces, beside the lane: while Kafka is away only those partitions wait that owe letters.
use super::client::{self, Returned};
use super::producer::{Renewed, UNAUTHORIZED, Unproduced};
use crate::config::Kafka;
use crate::core::lane::Unburied;
use crate::core::letter::{HEADER, Letter};
use crate::core::retry::Backoff;
use crate::ops::conditions::Conditions;
use crossbeam_channel::{Receiver, Sender};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord};
use rdkafka::types::RDKafkaErrorCode;
use std::time::Duration;

/// What is wrong with the letter itself: it is not tried again before a restart. What may not be written at all is tried until it may.
const PERMANENT: [RDKafkaErrorCode; 5] = [
    RDKafkaErrorCode::MessageSizeTooLarge,
    RDKafkaErrorCode::InvalidMessageSize,
    RDKafkaErrorCode::InvalidRecord,
    RDKafkaErrorCode::InvalidTopic,
    RDKafkaErrorCode::PolicyViolation,
];

/// Produces letters and waits for their acknowledgement.
pub struct LetterTopic {
    producer: Renewed,
    topic: String,
    runtime: tokio::runtime::Runtime,
    conditions: Conditions,
    /// Whose letters these are.
    lane: String,
    /// The replay that they are of.
    job: Option<String>,
}

impl LetterTopic {
    pub fn new(kafka: &Kafka, topic: &str, conditions: Conditions, lane: String, job: Option<String>) -> Result<Self, KafkaError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|e| KafkaError::ClientCreation(e.to_string()))?;
        Ok(Self { producer: Renewed::new(client::producer(kafka), Returned::of(kafka))?, topic: topic.to_owned(), runtime, conditions, lane, job })
    }

    /// Buries what comes in, until its lane is gone.
    pub fn run(&self, letters: &Receiver<Vec<Letter>>, buried: &Sender<Result<(), Vec<Unburied>>>) {
        while let Ok(letters) = letters.recv() {
            if buried.send(self.bury(letters)).is_err() {
                return;
            }
        }
    }

    /// Returns when all are acknowledged that ever can be, however long the brokers are away; with the partitions of the others.
    fn bury(&self, mut letters: Vec<Letter>) -> Result<(), Vec<Unburied>> {
        let (mut backoff, mut never) = (Backoff::default(), Vec::new());
        loop {
            let outcomes = self.runtime.block_on(self.produce(&letters));
            let permanent = |e: &Unproduced| e.code.is_some_and(|code| PERMANENT.contains(&code));
            let (mut again, mut first) = (Vec::new(), None);
            for (letter, outcome) in letters.into_iter().zip(outcomes) {
                match outcome {
                    Ok(()) => {}
                    Err(e) if permanent(&e) => never.push((letter.record.at().clone(), format!("offset {}: {}", letter.record.offset, e.reason))),
                    Err(e) => {
                        first.get_or_insert(e);
                        again.push(letter);
                    }
                }
            }
            let Some(first) = first else {
                self.conditions.clear("dead-letter-waits", &self.lane);
                return if never.is_empty() { Ok(()) } else { Err(never) };
            };
            self.tell(&first);
            letters = again;
            let wait = backoff.next(rand::random());
            self.runtime.block_on(async { tokio::time::sleep(wait).await });
        }
    }

    /// Says why letters wait.
    fn tell(&self, why: &Unproduced) {
        let (topic, reason) = (&self.topic, &why.reason);
        let message = format!("dead letters can't be produced to {topic}: {reason}");
        if why.code.is_some_and(|code| UNAUTHORIZED.contains(&code)) {
            let remedy = "allow Write and Describe on the dead-letter topic to this client (before Kafka 2.8 IdempotentWrite on the cluster, too); it is tried again by itself";
            self.conditions.alert("dead-letter-waits", &self.lane, &message, remedy);
        } else {
            self.conditions.raise(
                "dead-letter-waits",
                &self.lane,
                &message,
                "it is tried again by itself; see whether the topic exists and its brokers answer",
            );
        }
    }

    async fn produce(&self, letters: &[Letter]) -> Vec<Result<(), Unproduced>> {
        let producer = self.producer.get();
        let mut sent = Vec::with_capacity(letters.len());
        for letter in letters {
            sent.push(self.send(&producer, letter).await);
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
        outcomes.into_iter().map(|outcome| outcome.map_err(|e| Unproduced::new(&producer, &e))).collect()
    }

    async fn send(&self, producer: &FutureProducer<Returned>, letter: &Letter) -> Result<DeliveryFuture, KafkaError> {
        let mut headers = OwnedHeaders::new();
        for (name, text) in &letter.facts(self.job.as_deref()) {
            headers = headers.insert(Header { key: &format!("{HEADER}{name}"), value: Some(text) });
        }
        for (name, value) in letter.headers() {
            headers = headers.insert(Header { key: name, value });
        }
        let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(&self.topic).headers(headers);
        record.key = letter.record.key();
        record.payload = letter.record.payload();
        loop {
            match producer.send_result(record) {
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
