//! Topics and records on the Kafka that `scripts/with-kafka` started, or that was given.
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::{Message as _, OwnedHeaders, OwnedMessage};
use rdkafka::metadata::MetadataTopic;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long the broker may take for what was produced.
const FLUSH: Duration = Duration::from_secs(60);

/// A broker in place of the shared one, for a whole process.
static OWN: OnceLock<String> = OnceLock::new();

/// From now on all of this goes to a broker of the process' own.
pub(crate) fn use_broker(bootstrap: String) {
    OWN.set(bootstrap).unwrap();
}

/// The broker that the tests share.
pub(crate) fn bootstrap() -> String {
    OWN.get()
        .cloned()
        .or_else(|| std::env::var("KAFKA_BOOTSTRAP").ok())
        .expect("KAFKA_BOOTSTRAP is not set: run `make test`, or `scripts/with-kafka cargo test`")
}

fn config() -> ClientConfig {
    let mut c = ClientConfig::new();
    c.set("bootstrap.servers", bootstrap());
    c
}

fn admin<T>(ask: impl AsyncFnOnce(&AdminClient<DefaultClientContext>, &AdminOptions) -> T) -> T {
    admin_of(&config(), ask)
}

fn admin_of<T>(config: &ClientConfig, ask: impl AsyncFnOnce(&AdminClient<DefaultClientContext>, &AdminOptions) -> T) -> T {
    let admin = config.create().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(ask(&admin, &AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)))))
}

/// Creates a topic of its own for a test.
pub(crate) fn topic(base: &str, partitions: i32) -> String {
    let name = super::unique(base);
    create(&name, partitions, &[]);
    name
}

pub(crate) fn create(name: &str, partitions: i32, settings: &[(&str, &str)]) {
    create_on(&config(), name, partitions, settings);
}

/// Creates a topic, or says why not: one of that name may still be on its way out.
pub(crate) fn try_create(name: &str, partitions: i32) -> Result<(), String> {
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    admin(async |a, o| a.create_topics(&[topic], o).await).unwrap().pop().unwrap().map(drop).map_err(|(_, e)| e.to_string())
}

/// Creates many topics of one partition.
pub(crate) fn create_many(names: &[String]) {
    for some in names.chunks(250) {
        let topics: Vec<_> = some.iter().map(|name| NewTopic::new(name, 1, TopicReplication::Fixed(1))).collect();
        let created = admin(async |a, o| a.create_topics(&topics, o).await).unwrap();
        created.into_iter().for_each(|topic| drop(topic.unwrap()));
    }
    let consumer: BaseConsumer = config().create().unwrap();
    super::eventually("the broker leads all of them", 60, || {
        let known = consumer.fetch_metadata(None, Duration::from_secs(10));
        let led = |t: &MetadataTopic| t.partitions().iter().all(|p| p.leader() >= 0);
        known.is_ok_and(|m| m.topics().iter().filter(|t| led(t) && names.iter().any(|n| n == t.name())).count() == names.len())
    });
}

/// How many members a group has.
pub(crate) fn members(group: &str) -> usize {
    let consumer: BaseConsumer = config().create().unwrap();
    let list = consumer.fetch_group_list(Some(group), Duration::from_secs(10)).unwrap();
    list.groups().iter().map(|g| g.members().len()).sum()
}

/// On another broker than the shared one.
pub(crate) fn create_on(client: &ClientConfig, name: &str, partitions: i32, settings: &[(&str, &str)]) {
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for (k, v) in settings {
        topic = topic.set(k, v);
    }
    // A broker that has just started may answer late, and have done it.
    super::eventually("the topic is created", 60, || match admin_of(client, async |a, o| a.create_topics([&topic], o).await) {
        Ok(mut created) => match created.pop().unwrap() {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => true,
            Err((_, RDKafkaErrorCode::RequestTimedOut)) => false,
            Err((name, why)) => panic!("{name}: {why}"),
        },
        Err(_) => false,
    });
    wait_led(client, name, partitions.unsigned_abs() as usize);
}

/// The controller acknowledges what it has committed; that the broker knows it as well comes after it.
fn wait_led(client: &ClientConfig, name: &str, partitions: usize) {
    let consumer: BaseConsumer = client.create().unwrap();
    super::eventually("the broker leads all partitions", 60, || {
        let known = consumer.fetch_metadata(Some(name), Duration::from_secs(10));
        known.is_ok_and(|m| m.topics().iter().all(|t| t.partitions().len() == partitions && t.partitions().iter().all(|p| p.leader() >= 0)))
    });
}

pub(crate) fn add_partitions(name: &str, to: usize) {
    admin(async |a, o| a.create_partitions(&[NewPartitions::new(name, to)], o).await).unwrap().pop().unwrap().unwrap();
    wait_led(&config(), name, to);
}

pub(crate) fn delete(name: &str) {
    admin(async |a, o| a.delete_topics(&[name], o).await).unwrap().pop().unwrap().unwrap();
}

/// Deletes the records below an offset.
pub(crate) fn delete_records(name: &str, partitions: std::ops::Range<i32>, before: i64) {
    let mut list = TopicPartitionList::new();
    partitions.for_each(|p| list.add_partition_offset(name, p, Offset::Offset(before)).unwrap());
    let deleted = admin(async |a, o| a.delete_records(&list, o).await).unwrap();
    deleted.elements().iter().for_each(|e| e.error().unwrap());
}

/// What the group has committed, by partition.
pub(crate) fn committed(group: &str, topic: &str, partitions: i32) -> Vec<Option<i64>> {
    let consumer: BaseConsumer = config().set("group.id", group).create().unwrap();
    let mut asked = TopicPartitionList::new();
    asked.add_partition_range(topic, 0, partitions - 1);
    let found = consumer.committed_offsets(asked, Duration::from_secs(10)).unwrap();
    found.elements().iter().map(|e| if let Offset::Offset(o) = e.offset() { Some(o) } else { None }).collect()
}

/// Commits for a group of another kind of consumer, without our mark.
pub(crate) fn commit(group: &str, topic: &str, partition: i32, offset: i64) {
    let consumer: BaseConsumer = config().set("group.id", group).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset)).unwrap();
    super::eventually("the group's coordinator takes a commit", 30, || consumer.commit(&list, CommitMode::Sync).is_ok());
}

/// Where each partition's log ends.
pub(crate) fn ends(topic: &str, partitions: i32) -> Vec<i64> {
    let consumer: BaseConsumer = config().create().unwrap();
    (0..partitions).map(|p| consumer.fetch_watermarks(topic, p, Duration::from_secs(10)).unwrap().1).collect()
}

/// A producer of transactions.
pub(crate) struct Transactions(Producer, String);

impl Transactions {
    pub(crate) fn new(topic: &str) -> Self {
        let mut c = config();
        let producer = Producer::on(c.set("transactional.id", super::unique("transactions")).clone());
        producer.0.init_transactions(Duration::from_secs(30)).unwrap();
        Self(producer, topic.to_owned())
    }

    /// One transaction of so many records, committed or aborted.
    pub(crate) fn produce(&self, records: i32, commit: bool) {
        self.begin(records);
        self.end(commit);
    }

    /// Of so many records, and open.
    pub(crate) fn begin(&self, records: i32) {
        let Self(producer, topic) = self;
        producer.0.begin_transaction().unwrap();
        for n in 0..records {
            producer.send(topic, Produce { partition: Some(n % 2), ..Produce::new("K", r#"{"a":1}"#) });
        }
        producer.flush();
    }

    /// Ends the one that is open.
    pub(crate) fn end(&self, commit: bool) {
        let (Self(producer, _), end) = (self, Duration::from_secs(30));
        if commit { producer.0.commit_transaction(end) } else { producer.0.abort_transaction(end) }.unwrap();
    }
}

/// The first `count` records of a topic's first partition.
pub(crate) fn read_all(topic: &str, count: usize) -> Vec<OwnedMessage> {
    read(topic, |found| found.len() >= count)
}

/// The records that the log still has of a topic's first partition, up to this end.
pub(crate) fn read_until(topic: &str, end: i64) -> Vec<OwnedMessage> {
    read(topic, |found| found.last().is_some_and(|m| m.offset() + 1 >= end))
}

fn read(topic: &str, done: impl Fn(&[OwnedMessage]) -> bool) -> Vec<OwnedMessage> {
    let consumer: BaseConsumer = config().set("group.id", super::unique("reader")).create().unwrap();
    let mut all = TopicPartitionList::new();
    all.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&all).unwrap();
    let mut found = Vec::new();
    super::eventually("records in the topic", 30, || {
        while let Some(Ok(m)) = consumer.poll(Duration::from_millis(50)) {
            found.push(m.detach());
        }
        done(&found)
    });
    found
}

/// A record to produce.
#[derive(Clone, Debug, Default)]
pub(crate) struct Produce<'a> {
    pub(crate) partition: Option<i32>,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) payload: Option<&'a [u8]>,
    pub(crate) headers: Option<OwnedHeaders>,
    /// -1: none.
    pub(crate) timestamp: Option<i64>,
}

impl<'a> Produce<'a> {
    pub(crate) fn new(key: &'a str, payload: &'a str) -> Self {
        Self { key: Some(key.as_bytes()), payload: Some(payload.as_bytes()), ..Self::default() }
    }
}

pub(crate) struct Producer(BaseProducer);

impl Producer {
    pub(crate) fn new() -> Self {
        Self::on(config())
    }

    /// On another broker than the shared one.
    pub(crate) fn on(mut c: ClientConfig) -> Self {
        c.set("linger.ms", "5").set("message.max.bytes", "33554432").set("queue.buffering.max.messages", "1000000");
        // One idempotent producer keeps each partition's order.
        c.set("enable.idempotence", "true");
        Self(c.create().unwrap())
    }

    pub(crate) fn send(&self, topic: &str, p: Produce<'_>) {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
        record.key = p.key;
        record.payload = p.payload;
        record.partition = p.partition;
        record.headers = p.headers;
        record.timestamp = p.timestamp;
        let begun = Instant::now();
        while let Err((e, again)) = self.0.send(record) {
            assert!(e.to_string().contains("Queue full") && begun.elapsed() < FLUSH, "{e}");
            self.0.poll(Duration::from_millis(5));
            record = again;
        }
    }

    pub(crate) fn flush(&self) {
        self.0.flush(FLUSH).unwrap();
    }
}

/// Produces records and waits for them.
pub(crate) fn produce<'a>(topic: &str, records: impl IntoIterator<Item = Produce<'a>>) {
    let producer = Producer::new();
    records.into_iter().for_each(|r| producer.send(topic, r));
    producer.flush();
}
