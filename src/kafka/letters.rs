//! The dead-letter topic: at least once, identified by topic, partition, offset and write in the headers.
use super::client;
use crate::config::Kafka;
use crate::core::letter::Letter;
use crate::sink::lane::Undertaker;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use std::time::Duration;

/// Produces letters and waits for their acknowledgement.
pub struct LetterTopic {
    producer: FutureProducer,
    topic: String,
    runtime: tokio::runtime::Runtime,
}

impl LetterTopic {
    pub fn new(kafka: &Kafka, topic: &str) -> Result<Self, KafkaError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|e| KafkaError::ClientCreation(e.to_string()))?;
        Ok(Self { producer: client::producer(kafka).create()?, topic: topic.to_owned(), runtime })
    }
}

impl Undertaker for LetterTopic {
    fn bury(&self, letters: &[Letter]) -> Result<(), String> {
        self.runtime.block_on(async {
            let mut sent = Vec::with_capacity(letters.len());
            for letter in letters {
                let facts = letter.facts();
                let mut headers = OwnedHeaders::new();
                for (name, text) in &facts {
                    headers = headers.insert(Header { key: &format!("dead.{name}"), value: Some(text) });
                }
                for (name, value) in letter.record.headers() {
                    headers = headers.insert(Header { key: name, value });
                }
                let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(&self.topic).headers(headers);
                record.key = letter.record.key();
                record.payload = letter.record.payload();
                let delivery = loop {
                    match self.producer.send_result(record) {
                        Ok(delivery) => break delivery,
                        Err((KafkaError::MessageProduction(rdkafka::types::RDKafkaErrorCode::QueueFull), again)) => {
                            record = again;
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                        Err((e, _)) => return Err(e.to_string()),
                    }
                };
                sent.push(delivery);
            }
            for delivery in sent {
                delivery.await.map_err(|_| "the producer was stopped".to_owned())?.map_err(|(e, _)| e.to_string())?;
            }
            Ok(())
        })
    }
}
