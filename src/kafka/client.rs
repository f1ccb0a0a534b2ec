//! librdkafka's settings. What the configuration's `kafka.properties` names wins over the defaults here; what the
//! bridge owns is refused there by name.
use super::token::Tokens;
use crate::config::Kafka;
use crate::core::membership::Terms;
use rdkafka::ClientConfig;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Patterns of topics that a client takes for missing.
const IGNORED: &str = "topic.blacklist";

/// What every client of the bridge shares: brokers and the user's properties (security among them).
pub fn common(kafka: &Kafka) -> ClientConfig {
    // That is about members of the group, and librdkafka holds it against a session that these clients do not have.
    over(ClientConfig::new(), kafka, |name| name != "max.poll.interval.ms")
}

/// Lays those of the user's properties over some defaults that `takes`, and the brokers.
fn over(mut c: ClientConfig, kafka: &Kafka, takes: impl Fn(&str) -> bool) -> ClientConfig {
    c.set("client.id", "kafka-redis-bridge");
    for (name, value) in kafka.properties.iter().filter(|(name, _)| takes(name)) {
        c.set(name, &value.0);
    }
    c.set("bootstrap.servers", kafka.brokers.join(","));
    c
}

/// Of a consumer's `message.max.bytes` librdkafka asks only that it is no more than `fetch.max.bytes` (and it begins to unpack
/// into as much); what the user says of it is about producers.
fn fetching(mut c: ClientConfig) -> ClientConfig {
    match c.get("fetch.max.bytes").map(str::parse::<u64>) {
        Some(Ok(bytes)) => c.set("message.max.bytes", bytes.clamp(1000, 1_000_000_000).to_string()),
        _ => c.remove("message.max.bytes"),
    };
    c
}

/// A member of the group.
pub fn consumer(kafka: &Kafka) -> ClientConfig {
    let mut c = ClientConfig::new();
    // Full queues are polled again at once: the default of a second stalls a fast consumer (measured: 90k records/s
    // against 1.7M).
    c.set("fetch.queue.backoff.ms", "1");
    // The prefetch, for all partitions together: memory stays flat whatever the lag. Each fetch comes on top of it, and may
    // hold several times its bytes when it is unpacked. Small ones from each partition also keep all lanes busy: a large
    // one is thousands of records of one partition. But a producer's batch comes as a whole, and where it is larger than
    // this, a fetch brings one partition's alone (measured with batches of 1 MB, lz4: 226k records/s with 64 KiB a
    // partition, 253k with 256, of 270k that Redis takes; with 256 KiB in all 0.87 of what 512 KiB give).
    c.set("queued.max.messages.kbytes", "1024");
    c.set("fetch.message.max.bytes", "262144");
    c.set("fetch.max.bytes", "524288");
    // A broker has one fetch at a time on its way, so what is claimed or resumed waits for one that found nothing until now.
    c.set("fetch.wait.max.ms", "100");
    c.set("check.crcs", "true");
    // New topics and partitions are noticed within this time, and claimed a few seconds later.
    c.set("topic.metadata.refresh.interval.ms", "5000");
    c.set("statistics.interval.ms", "1000");
    if is_classic(kafka) {
        c.set("partition.assignment.strategy", "cooperative-sticky");
        // Who was killed is waited for until its session ends, also by its successor. The least that brokers allow by default: a
        // member that is expelled though it lives costs a rebalance and no record, since the state fences it. Not static membership:
        // its ids must differ and survive a restart, which host names do not in containers, and who has another's ends it for good.
        c.set("session.timeout.ms", "6000");
        c.set("heartbeat.interval.ms", "2000");
    }
    let mut c = fetching(over(c, kafka, |_| true));
    c.set("group.id", &kafka.group);
    c.set("enable.auto.commit", "false");
    c.set("enable.auto.offset.store", "false");
    // Every partition is sought explicitly after its claim; an offset out of range must never be skipped in silence.
    c.set("auto.offset.reset", "error");
    c.set("isolation.level", "read_committed");
    c.set("enable.partition.eof", "false");
    c
}

/// A member of the group that ignores what matches one of these patterns, so that none of its own subscribes to it.
pub fn member(kafka: &Kafka, ignored: &[String]) -> ClientConfig {
    let mut c = consumer(kafka);
    let all: Vec<&str> = c.get(IGNORED).into_iter().chain(ignored.iter().map(String::as_str)).filter(|p| !p.is_empty()).collect();
    if !all.is_empty() {
        let all = all.join(",");
        c.set(IGNORED, all);
    }
    c
}

/// How much a consumer subscribes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    pub topics: usize,
    pub partitions: usize,
}

/// Where there are many topics or partitions, a consumer does less often what it does even while nothing comes. librdkafka 2.12
/// looks topics and timers up in lists: what is about all of them costs the square of their number, so as they grow the
/// time between grows with them. A record is fetched at once however long a fetch that finds nothing may take; what is claimed
/// or resumed meanwhile waits for it.
pub fn pace(c: &mut ClientConfig, kafka: &Kafka, size: Size) {
    let paces = [
        // The answer to a fetch names all topics: 0.12 s of CPU for 5,000 and more on a busy machine. A second at most: so long a
        // partition stands still that is resumed while nothing comes from the others.
        ("fetch.wait.max.ms", (size.topics.saturating_mul(size.topics) / 5000).clamp(100, 1000)),
        // 1.5 kB of text for each partition, and a timer.
        ("statistics.interval.ms", (size.partitions * 4).clamp(1000, 20_000)),
        // 0.27 s of CPU for 5,000.
        ("topic.metadata.refresh.interval.ms", (size.topics * 2).clamp(5000, 10_000)),
    ];
    for (name, ms) in paces.iter().filter(|(name, _)| !kafka.properties.contains_key(*name)) {
        c.set(*name, ms.to_string());
    }
}

/// Whether the group shares its partitions by the classic protocol, whose timeouts are the members' own.
fn is_classic(kafka: &Kafka) -> bool {
    kafka.properties.get("group.protocol").is_none_or(|p| p.0 == "classic")
}

/// What bounds a wait for other members of the group.
pub fn terms(kafka: &Kafka) -> Terms {
    let consumer = consumer(kafka);
    let ms = |name, default| Duration::from_millis(consumer.get(name).and_then(|ms| ms.parse().ok()).unwrap_or(default));
    let waits = is_classic(kafka).then(|| (ms("session.timeout.ms", 45_000), ms("max.poll.interval.ms", 300_000)));
    Terms { group: kafka.group.clone(), waits, heartbeat: ms("heartbeat.interval.ms", 5_000) }
}

/// A client that asks about the group without being a member.
pub fn observer(kafka: &Kafka) -> ClientConfig {
    let mut c = fetching(common(kafka));
    c.set("group.id", &kafka.group);
    c.set("enable.auto.commit", "false");
    c
}

/// What a client shows to a broker that asks for a token.
#[derive(Clone)]
pub struct Login {
    tokens: Option<Arc<Tokens>>,
    /// Set when the client has asked for its first token.
    asked: Arc<AtomicBool>,
}

impl Login {
    pub fn of(kafka: &Kafka) -> Self {
        let tokens = (!kafka.token_command.is_empty()).then(|| Tokens::of(&kafka.token_command));
        Self { tokens, asked: Arc::default() }
    }

    /// What [`ClientContext::generate_oauth_token`] answers.
    ///
    /// # Errors
    /// Why there is no token.
    pub fn token(&self) -> Result<OAuthToken, Box<dyn Error>> {
        self.asked.store(true, Ordering::Relaxed);
        let tokens = self.tokens.as_ref().ok_or("no kafka.token_command is set")?;
        tokens.get().map_err(Into::into)
    }
}

/// How long a client that nobody polls is polled for its first token.
const LOGIN_MAX: Duration = Duration::from_secs(20);

/// Makes a client that is only asked, and polled by whoever asks. What asks it for a token comes by a poll, so it is logged in here.
pub fn asking(kafka: &Kafka, config: &ClientConfig) -> KafkaResult<Reader> {
    let client: Reader = config.create_with_context(Returned::of(kafka))?;
    if !kafka.token_command.is_empty() {
        // librdkafka asks as soon as it is made. The poll that hears of it ends with nothing.
        let until = Instant::now() + LOGIN_MAX;
        while !client.context().0.asked.load(Ordering::Relaxed) && Instant::now() < until {
            let _ = client.poll(Duration::from_millis(10));
        }
    }
    Ok(client)
}

/// A client that reads where it is told to, and is no member of any group.
pub type Reader = BaseConsumer<Returned>;

/// Callbacks of a client whose calls return what goes wrong: who called tells it, by a condition or an error. What librdkafka says
/// beside that, and the ends of logs, which it takes for errors, are for developers.
#[derive(Clone)]
pub struct Returned(Login);

impl Returned {
    pub fn of(kafka: &Kafka) -> Self {
        Self(Login::of(kafka))
    }
}

impl ClientContext for Returned {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.0.token()
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!("librdkafka: {error}: {reason}");
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, "librdkafka: {message}");
    }
}

impl ConsumerContext for Returned {}

/// Makes a reader.
pub fn read(kafka: &Kafka) -> KafkaResult<Reader> {
    asking(kafka, &reader(kafka))
}

/// The settings of a reader.
pub fn reader(kafka: &Kafka) -> ClientConfig {
    let mut c = consumer(kafka);
    for name in ["group.protocol", "partition.assignment.strategy", "group.instance.id"] {
        c.remove(name);
    }
    c.set("enable.partition.eof", "true");
    c.set("statistics.interval.ms", "0");
    c
}

/// The dead-letter topic's producer: acknowledged by all replicas, in order, without doubles of its own.
pub fn producer(kafka: &Kafka) -> ClientConfig {
    let mut c = ClientConfig::new();
    // What Kafka has delivered is not too large to be kept, unless the dead-letter topic says so.
    c.set("message.max.bytes", "1000000000");
    c.set("linger.ms", "1");
    // librdkafka passes over the properties of a consumer here.
    let mut c = over(c, kafka, |_| true);
    // What is not to be read may be written: the dead-letter topic, above all.
    c.remove(IGNORED);
    c.set("enable.idempotence", "true");
    // How long until it is told that letters can't be produced, and they are tried again.
    c.set("message.timeout.ms", "10000");
    c
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_user_has_ignored_stays_ignored_beside_what_no_route_reads_and_is_written_all_the_same() {
        let mut kafka = Kafka::default();
        let ours = ["^__".to_owned(), "^p[.]dead$".to_owned()];
        assert_eq!(member(&kafka, &[]).get(IGNORED), None);
        assert_eq!(member(&kafka, &ours).get(IGNORED), Some("^__,^p[.]dead$"));
        kafka.properties.insert(IGNORED.into(), crate::config::Property("^secret".into()));
        assert_eq!(member(&kafka, &ours).get(IGNORED), Some("^secret,^__,^p[.]dead$"));
        assert_eq!((reader(&kafka).get(IGNORED), producer(&kafka).get(IGNORED)), (Some("^secret"), None));
        assert!(member(&kafka, &ours).create_native_config().is_ok());
    }

    #[test]
    fn what_a_user_says_of_fetches_or_of_produced_messages_does_not_clash_with_a_default() {
        for (name, value) in
            [("message.max.bytes", "10000000"), ("fetch.max.bytes", "65536"), ("fetch.max.bytes", "2000000000"), ("max.poll.interval.ms", "6000")]
        {
            let mut kafka = Kafka { brokers: Vec::new(), ..Kafka::default() };
            kafka.properties.insert(name.into(), crate::config::Property(value.into()));
            for mut client in [consumer(&kafka), observer(&kafka), reader(&kafka)] {
                client.remove("bootstrap.servers");
                let made = client.create::<BaseConsumer>().map(drop);
                assert!(made.is_ok(), "{name} = {value}: {made:?}");
            }
        }
    }
}
