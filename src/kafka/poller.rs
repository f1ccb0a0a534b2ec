//! The thread that owns the consumer. It polls, copies each record out and hands it on, and never waits on anything
//! downstream for longer than [`ROOM_WAIT_MAX`] (and the bounded wait in a revoke).
use super::client::{self, Login, Size};
use super::driver::{Drained, Driver};
use super::range::size;
use super::statistics::Statistics;
use crate::config::Kafka;
use crate::core::poller::Note;
use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

/// How long the poller waits for room on a full lane before it pauses the lane's partitions. A pause throws the
/// prefetched records away, so a lane that is merely busy must not cause one: its next batch makes room sooner.
pub const ROOM_WAIT_MAX: Duration = Duration::from_millis(20);
/// How long the end waits for a commit that is on its way.
const COMMITTER_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long one poll may wait: what an event from a lane may wait while no record comes.
const POLL_MAX: Duration = Duration::from_millis(10);
/// Records taken between two looks at everything else, and their bytes: with as many as fit they go on together.
pub const BURST: usize = 256;
pub const BURST_BYTES: usize = 256 << 10;

/// librdkafka's callbacks; they run inside poll, on the poller's thread.
pub struct Context {
    driver: Arc<Mutex<Driver>>,
    login: Login,
}

pub type Consumer = BaseConsumer<Context>;

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.login.token()
    }

    fn stats_raw(&self, statistics: &[u8]) {
        match serde_json::from_slice::<Statistics>(statistics) {
            Ok(statistics) => self.driver.lock().statistics = Some(statistics),
            Err(e) => tracing::debug!("librdkafka's statistics: {e}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.driver.lock().client_error(&error, reason);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // What matters comes by `error` with a condition of its own; these lines are for developers.
        tracing::debug!(?level, facility, "librdkafka: {message}");
    }
}

impl ConsumerContext for Context {
    /// Assigns each partition at a concrete offset ([`Poller::place`](crate::core::poller::Poller::place)), paused:
    /// before, for those that librdkafka knows already, and after. It is sought to where its claim says.
    fn rebalance(&self, consumer: &Consumer, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let incremental = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let done = match error {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                let mut driver = self.driver.lock();
                for mut element in list.elements() {
                    let _ = element.set_offset(Offset::Offset(driver.poller.place(element.topic(), element.partition())));
                }
                let _ = consumer.pause(list);
                let done = if incremental { consumer.incremental_assign(list) } else { consumer.assign(list) };
                let _ = consumer.pause(list);
                driver.assigned(list);
                done
            }
            _ => {
                self.driver.lock().revoke(consumer, list);
                if incremental { consumer.incremental_unassign(list) } else { consumer.unassign() }
            }
        };
        if let Err(e) = done {
            tracing::warn!(code = "rebalance-failed", "{e}");
        }
    }
}

/// What a consumer subscribes to.
pub struct Subscription<'s> {
    /// Names and patterns.
    pub topics: &'s [String],
    /// Patterns of what no pattern of `topics` lets in.
    pub ignored: &'s [String],
    /// How much that is, by what Kafka has.
    pub size: Size,
}

/// Makes the consumer and subscribes.
pub fn subscribe(kafka: &Kafka, wanted: &Subscription<'_>, driver: Arc<Mutex<Driver>>) -> KafkaResult<Consumer> {
    let mut config: ClientConfig = client::member(kafka, wanted.ignored);
    client::pace(&mut config, kafka, wanted.size);
    let consumer: Consumer = config.create_with_context(Context { driver, login: Login::of(kafka) })?;
    consumer.subscribe(&wanted.topics.iter().map(String::as_str).collect::<Vec<_>>())?;
    Ok(consumer)
}

/// Commits what comes in and reports how each commit ended: only a commit that is waited for tells. That may take long
/// where the coordinator is away (librdkafka holds it back for a session's timeout), so it has a thread of its own.
pub fn commit(consumer: &Consumer, driver: &Mutex<Driver>, lists: &Receiver<TopicPartitionList>, notes: &Sender<Note>) {
    while let Ok(list) = lists.recv() {
        let result = consumer.commit(&list, CommitMode::Sync);
        if let Err(e) = &result {
            driver.lock().commit_error(e);
        }
        let result = result.map_err(|e| e.to_string());
        if notes.send(Note::Committed(result)).is_err() {
            return;
        }
    }
}

/// What can be polled at once, or comes within [`POLL_MAX`].
fn burst<'c>(consumer: &'c Consumer, driver: &Mutex<Driver>) -> Vec<BorrowedMessage<'c>> {
    let (mut burst, mut bytes, mut timeout) = (Vec::with_capacity(BURST), 0, POLL_MAX);
    for _ in 0..BURST {
        if bytes >= BURST_BYTES {
            break;
        }
        match consumer.poll(timeout) {
            Some(Ok(message)) => {
                bytes += size(&message);
                burst.push(message);
            }
            Some(Err(error)) => driver.lock().poll_error(consumer, &error),
            None => break,
        }
        timeout = Duration::ZERO;
    }
    burst
}

/// Polls until the machine is told to stop, then drains. The consumer is closed when this returns, unless `committer`,
/// which is disconnected when the thread of [`commit`] ends, does not end in time.
pub fn run(consumer: Arc<Consumer>, driver: &Mutex<Driver>, committer: &Receiver<()>) -> Drained {
    loop {
        // The callbacks, which run inside poll, need the driver.
        let burst = burst(&consumer, driver);
        let mut driver = driver.lock();
        driver.messages(&burst);
        drop(burst);
        driver.tick(&consumer);
        if driver.poller.stopping() {
            break;
        }
    }
    driver.lock().begin_drain(&consumer);
    loop {
        let _ = consumer.poll(POLL_MAX);
        let mut driver = driver.lock();
        driver.tick(&consumer);
        if driver.drained(&consumer) {
            break;
        }
    }
    let report = driver.lock().finish(&consumer);
    let _ = committer.recv_timeout(COMMITTER_WAIT_MAX);
    if consumer.client().fatal_error().is_some() {
        // A dead client is refused its close, and to drop it can wait for ever (librdkafka 2.12, measured). The process ends with it.
        std::mem::forget(consumer);
    }
    report
}
