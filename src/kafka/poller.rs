//! The thread that owns the consumer. It polls, copies each record out and hands it on, and never waits on anything
//! downstream for longer than [`ROOM_WAIT_MAX`] (and the bounded wait in a revoke).
use super::brain::{Brain, Drained};
use super::client;
use crate::config::Kafka;
use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::sync::Arc;
use std::time::Duration;

/// How long the poller waits for room on a full lane before it pauses the lane's partitions. A pause throws the
/// prefetched records away, so a lane that is merely busy must not cause one: its next batch makes room sooner.
pub const ROOM_WAIT_MAX: Duration = Duration::from_millis(20);
/// How long one poll may wait: what an event from a lane may wait while no record comes.
const POLL_MAX: Duration = Duration::from_millis(10);
/// Records taken between two looks at everything else.
const BURST: usize = 256;

/// librdkafka's callbacks; they run inside poll, on the poller's thread.
pub struct Context {
    brain: Arc<Mutex<Brain>>,
}

pub type Consumer = BaseConsumer<Context>;

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        self.brain.lock().statistics(&statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.brain.lock().client_error(&error, reason);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // What matters comes by `error` with a condition of its own; these lines are for developers.
        tracing::debug!(?level, facility, "librdkafka: {message}");
    }
}

impl ConsumerContext for Context {
    /// Assigns each partition at a concrete offset ([`Brain::place`]), paused: before, for those that librdkafka knows
    /// already, and after. It is sought to where its claim says.
    fn rebalance(&self, consumer: &Consumer, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let incremental = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let done = match error {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                let mut brain = self.brain.lock();
                for mut element in list.elements() {
                    let _ = element.set_offset(Offset::Offset(brain.place(element.topic(), element.partition())));
                }
                let _ = consumer.pause(list);
                let done = if incremental { consumer.incremental_assign(list) } else { consumer.assign(list) };
                let _ = consumer.pause(list);
                brain.assign(list);
                done
            }
            _ => {
                self.brain.lock().revoke(consumer, list);
                if incremental { consumer.incremental_unassign(list) } else { consumer.unassign() }
            }
        };
        if let Err(e) = done {
            tracing::warn!(code = "rebalance-failed", "{e}");
        }
    }
}

/// Makes the consumer and subscribes.
pub fn subscribe(kafka: &Kafka, topics: &[String], brain: Arc<Mutex<Brain>>) -> KafkaResult<Consumer> {
    let config: ClientConfig = client::consumer(kafka);
    let consumer: Consumer = config.create_with_context(Context { brain })?;
    consumer.subscribe(&topics.iter().map(String::as_str).collect::<Vec<_>>())?;
    Ok(consumer)
}

/// Polls until the brain is told to stop, then drains. The consumer is closed when this returns.
pub fn run(consumer: Consumer, brain: &Mutex<Brain>) -> Drained {
    loop {
        let mut timeout = POLL_MAX;
        for _ in 0..BURST {
            match consumer.poll(timeout) {
                Some(Ok(message)) => brain.lock().record(&message),
                Some(Err(error)) => brain.lock().poll_error(&error),
                None => break,
            }
            timeout = Duration::ZERO;
        }
        let mut brain = brain.lock();
        brain.tick(&consumer);
        if brain.stopping() {
            break;
        }
    }
    brain.lock().begin_drain(&consumer);
    loop {
        let _ = consumer.poll(POLL_MAX);
        let mut brain = brain.lock();
        brain.tick(&consumer);
        if brain.drained(&consumer) {
            break;
        }
    }
    let report = brain.lock().finish();
    drop(consumer);
    report
}
