//! What `check --connect` asks Kafka: whether this client may do what `run` will do. Nothing is written, no group is joined, and
//! a bridge that runs does not notice.
use super::client::{self, Returned};
use crate::config::Kafka;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::time::{Duration, Instant};

/// How long one question may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long one look at a client's events takes.
const LOOK: Duration = Duration::from_millis(100);
/// No topic can have this name: a commit for it is refused after the group was asked about, and writes nothing.
const NO_TOPIC: &str = "no topic";

/// What Kafka says of one right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Right {
    Granted,
    /// Kafka refuses it.
    Lacking,
    /// What it is about does not exist.
    Missing,
    /// Why it could not be asked.
    Unknown(String),
}

impl Right {
    fn of(error: &KafkaError) -> Self {
        match error.rdkafka_error_code() {
            Some(Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::ClusterAuthorizationFailed) => Self::Lacking,
            Some(Code::UnknownTopic | Code::UnknownTopicOrPartition) => Self::Missing,
            _ => Self::Unknown(error.to_string()),
        }
    }
}

/// Whether a topic may be described: how many partitions it has, what is lacking else.
pub fn describe(client: &BaseConsumer<Returned>, topic: &str) -> Result<usize, Right> {
    let metadata = client.fetch_metadata(Some(topic), ANSWER_MAX).map_err(|e| Right::of(&e))?;
    let Some(found) = metadata.topics().first() else { return Err(Right::Missing) };
    match found.error() {
        Some(error) => Err(Right::of(&KafkaError::MetadataFetch(error.into()))),
        None if found.partitions().is_empty() => Err(Right::Missing),
        None => Ok(found.partitions().len()),
    }
}

/// Whether a topic may be read: a fetch at the end of its first partition is answered.
pub fn read(kafka: &Kafka, topic: &str) -> Right {
    let fetched = || -> KafkaResult<Right> {
        let mut config = client::reader(kafka);
        // The end is then what can be fetched, whatever transaction is open.
        config.set("isolation.level", "read_uncommitted");
        let reader = client::asking(kafka, &config)?;
        let (_, end) = reader.fetch_watermarks(topic, 0, ANSWER_MAX)?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Offset(end))?;
        reader.assign(&list)?;
        let until = Instant::now() + ANSWER_MAX;
        while Instant::now() < until {
            match reader.poll(LOOK) {
                Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => return Ok(Right::Granted),
                Some(Err(e)) if e.rdkafka_error_code() == Some(Code::TopicAuthorizationFailed) => return Ok(Right::Lacking),
                _ => {}
            }
        }
        Ok(Right::Unknown("no answer to a fetch".into()))
    };
    fetched().unwrap_or_else(|e| Right::of(&e))
}

/// Whether a group may be read, which joining it and committing need. Kafka looks at that right before it looks at the topic of a
/// commit, which here can't exist.
pub fn group(kafka: &Kafka) -> Right {
    let client = match client::asking(kafka, &client::observer(kafka)) {
        Ok(client) => client,
        Err(e) => return Right::of(&e),
    };
    let mut list = TopicPartitionList::new();
    let made = list.add_partition_offset(NO_TOPIC, 0, Offset::Offset(0));
    let until = Instant::now() + ANSWER_MAX;
    let mut why = String::from("no answer");
    // A commit waits for the coordinator for as long as a session: it must be found first.
    while made.is_ok() && Instant::now() < until {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(NO_TOPIC, 0);
        match client.committed_offsets(asked, 10 * LOOK) {
            Ok(_) => {
                return match client.commit(&list, CommitMode::Sync) {
                    Err(e) if Right::of(&e) == Right::Lacking && e.rdkafka_error_code() == Some(Code::GroupAuthorizationFailed) => Right::Lacking,
                    Err(e) if matches!(Right::of(&e), Right::Unknown(_)) => Right::Unknown(e.to_string()),
                    // That topic is refused, so the group is not.
                    _ => Right::Granted,
                };
            }
            Err(e) if Right::of(&e) == Right::Lacking => return Right::Lacking,
            Err(e) => why = e.to_string(),
        }
        // That the coordinator may not be asked for comes as an event.
        if let Some(Err(e)) = client.poll(LOOK)
            && e.rdkafka_error_code() == Some(Code::GroupAuthorizationFailed)
        {
            return Right::Lacking;
        }
    }
    Right::Unknown(why)
}

/// Whether a topic may be produced to: a record is sent with a number of acknowledgements that there is not. Kafka refuses that
/// once it has looked at the right, and writes nothing.
pub fn write(kafka: &Kafka, topic: &str) -> Right {
    const NO_ACKS: &str = "2";
    let sent = || -> Result<Right, String> {
        let mut config: ClientConfig = client::producer(kafka);
        for owned in ["transactional.id", "request.required.acks"] {
            config.remove(owned);
        }
        config.set("enable.idempotence", "false").set("acks", NO_ACKS).set("retries", "0");
        let producer: FutureProducer<Returned> = config.create_with_context(Returned::of(kafka)).map_err(|e| e.to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|e| e.to_string())?;
        let record = FutureRecord::<[u8], [u8]>::to(topic).payload(&[]);
        let delivery = producer.send_result(record).map_err(|(e, _)| e.to_string())?;
        match runtime.block_on(delivery) {
            Ok(Err((e, _))) if e.rdkafka_error_code() == Some(Code::InvalidRequiredAcks) => Ok(Right::Granted),
            Ok(Err((e, _))) => Ok(Right::of(&e)),
            Ok(Ok(_)) | Err(_) => Ok(Right::Granted),
        }
    };
    sent().unwrap_or_else(Right::Unknown)
}
