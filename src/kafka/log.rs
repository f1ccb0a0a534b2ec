//! What the claimer asks Kafka, by a client of its own that is no member of the group.
use super::client::{self, Reader, Returned, Size};
use super::trouble::{Refusals, Trouble};
use crate::config::Kafka;
use crate::core::claim::{Commit, Marked, Start};
use crate::core::claimer::LogFacts;
use crate::core::record::TopicPartition;
use crate::core::replay::bounds::Held;
use crate::core::route::{Route, Topics};
use crate::core::words::counted;
use crate::sink::claim::{Log, Subscribed, Unanswered};
use parking_lot::Mutex;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::metadata::MetadataTopic;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// How long one question may take. The claim is asked for again afterwards.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long a start waits to hear how much there is to read.
const SIZE_WAIT_MAX: Duration = Duration::from_secs(2);
/// How many of a client's events are looked at for what it was refused.
const EVENTS_MAX: usize = 64;

/// See [`Log`].
pub struct KafkaLog {
    pub(super) observer: Reader,
    kafka: Kafka,
    pub(super) start: Start,
    compacted: Mutex<HashMap<String, bool>>,
    /// The topics that were last asked about.
    last_asked: Mutex<BTreeSet<Arc<str>>>,
    pub(super) refusals: Mutex<Refusals>,
}

impl KafkaLog {
    pub fn new(kafka: &Kafka, start: Start) -> Result<Self, KafkaError> {
        Ok(Self {
            observer: client::asking(kafka, &client::observer(kafka))?,
            kafka: kafka.clone(),
            start,
            compacted: Mutex::default(),
            last_asked: Mutex::default(),
            refusals: Mutex::default(),
        })
    }
}

impl Log for KafkaLog {
    fn facts(&self, of: &[TopicPartition]) -> Vec<Result<LogFacts, Unanswered>> {
        // By a poll a client hears that it needs another token.
        self.hear();
        *self.last_asked.lock() = of.iter().map(|at| at.topic.clone()).collect();
        self.look(of)
    }

    fn compacted(&self, topic: &str) -> Result<bool, String> {
        if let Some(known) = self.compacted.lock().get(topic) {
            return Ok(*known);
        }
        if !self.kafka.token_command.is_empty() {
            // An admin client of this library hears of nothing that librdkafka asks for, so it never gets a token.
            return Err("the topic's configuration can't be asked for by a client that logs in by a token".into());
        }
        // Those that are claimed together are asked about together.
        let mut topics = std::mem::take(&mut *self.last_asked.lock());
        topics.retain(|t| !self.compacted.lock().contains_key(&**t));
        topics.insert(topic.into());
        let admin: AdminClient<Returned> = client::common(&self.kafka).create_with_context(Returned::of(&self.kafka)).map_err(|e| e.to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|e| e.to_string())?;
        let options = AdminOptions::new().request_timeout(Some(ANSWER_MAX));
        let asked: Vec<_> = topics.iter().map(|t| ResourceSpecifier::Topic(t)).collect();
        let answers = runtime.block_on(admin.describe_configs(&asked, &options)).map_err(|e| e.to_string())?;
        let mut wanted = Err("no answer".to_owned());
        // The answers are in the order of the questions.
        for (of, answer) in topics.iter().zip(answers) {
            let policy = answer.map_err(|e| e.to_string()).and_then(|config| policy(&config));
            if let Ok(compacted) = policy {
                self.compacted.lock().insert(of.to_string(), compacted);
            }
            if **of == *topic {
                wanted = policy;
            }
        }
        wanted
    }

    fn subscribed(&self, wanted: &[Topics]) -> Result<Subscribed, String> {
        let mut found = Subscribed::default();
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for name in wanted.iter().filter_map(|t| if let Topics::Name(name) = t { Some(name) } else { None }) {
            let metadata = self.observer.fetch_metadata(Some(name), ANSWER_MAX).map_err(|e| e.to_string())?;
            let topic = metadata.topics().first();
            match topic.and_then(MetadataTopic::error).map(RDKafkaErrorCode::from) {
                Some(RDKafkaErrorCode::TopicAuthorizationFailed) => found.refused.push(name.clone()),
                _ => match topic.map_or(0, |t| t.partitions().len()) {
                    0 => found.missing.push(name.clone()),
                    count => _ = seen.insert(name.clone(), count),
                },
            }
        }
        if wanted.iter().any(|t| matches!(t, Topics::Pattern(_))) {
            let metadata = self.observer.fetch_metadata(None, ANSWER_MAX).map_err(|e| e.to_string())?;
            let matching = metadata.topics().iter().filter(|topic| wanted.iter().any(|t| t.matches(topic.name())));
            seen.extend(matching.map(|t| (t.name().to_owned(), t.partitions().len())));
        }
        found.partitions = seen.values().sum();
        Ok(found)
    }

    fn members(&self) -> Option<usize> {
        let groups = self.observer.fetch_group_list(Some(&self.kafka.group), ANSWER_MAX).ok()?;
        groups.groups().first().map(|g| g.members().len())
    }
}

impl KafkaLog {
    /// Commits from outside of the group, which the coordinator takes only while it has no members.
    pub fn commit(&self, positions: &[(TopicPartition, i64)], mark: &str) -> Result<(), String> {
        let list = super::driver::commit_list(positions, mark);
        self.observer.commit(&list, CommitMode::Sync).map_err(|e| e.to_string())
    }

    /// The offsets that Kafka holds of a partition, up to where its open transactions begin.
    pub fn watermarks(&self, at: &TopicPartition) -> Result<(i64, i64), String> {
        let answer = self.observer.fetch_watermarks(&at.topic, at.partition, ANSWER_MAX).map_err(|e| e.to_string())?;
        // What came before the answer is no more.
        self.hear();
        self.refusals.lock().answered(at);
        Ok(answer)
    }

    pub fn committed(&self, at: &TopicPartition) -> Result<Option<Commit>, String> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(&at.topic, at.partition);
        let answer = self.observer.committed_offsets(asked, ANSWER_MAX).map_err(|e| e.to_string())?;
        let found = answer.find_partition(&at.topic, at.partition).ok_or("no answer for the partition")?;
        commit(&found).map_err(|e| e.to_string())
    }

    /// The first record at or after a time, in milliseconds since the epoch. Before that no record has a time, and Kafka
    /// takes negative times for something else: all that it holds is later.
    pub fn at_time(&self, at: &TopicPartition, ms: i64) -> Result<Option<i64>, String> {
        if ms <= 0 {
            return Ok(Some(self.watermarks(at)?.0));
        }
        let mut asked = TopicPartitionList::new();
        asked.add_partition_offset(&at.topic, at.partition, Offset::Offset(ms)).map_err(|e| e.to_string())?;
        let answer = self.observer.offsets_for_times(asked, ANSWER_MAX).map_err(|e| e.to_string())?;
        let found = answer.find_partition(&at.topic, at.partition).ok_or("no answer for the partition")?;
        found.error().map_err(|e| e.to_string())?;
        Ok(if let Offset::Offset(offset) = found.offset() { Some(offset) } else { None })
    }

    /// How much there is of what these routes take; nothing where Kafka does not answer soon.
    pub fn size(&self, routes: &[Route]) -> Size {
        let Ok(metadata) = self.observer.fetch_metadata(None, SIZE_WAIT_MAX) else { return Size::default() };
        let wanted = metadata.topics().iter().filter(|t| routes.iter().any(|r| r.matches(t.name())));
        wanted.fold(Size::default(), |sum, t| Size { topics: sum.topics + 1, partitions: sum.partitions + t.partitions().len() })
    }

    /// All topics that Kafka has.
    pub fn topics(&self) -> Result<Vec<String>, String> {
        let metadata = self.observer.fetch_metadata(None, ANSWER_MAX).map_err(|e| e.to_string())?;
        Ok(metadata.topics().iter().map(|t| t.name().to_owned()).collect())
    }

    /// Why a partition can't be asked about until a person does something: its topic is gone, or is not ours to see. `None`:
    /// that may pass by itself.
    fn refusal(&self, at: &TopicPartition) -> Option<(Trouble, String)> {
        self.hear();
        let refused = self.refusals.lock().of(at);
        if refused.is_some() {
            return refused;
        }
        let metadata = self.observer.fetch_metadata(Some(&at.topic), ANSWER_MAX).ok()?;
        let topic = metadata.topics().first()?;
        match topic.error() {
            Some(error) => Trouble::of(error.into()).map(|trouble| (trouble, format!("{}: {}", at.topic, RDKafkaErrorCode::from(error)))),
            None if usize::try_from(at.partition).is_ok_and(|p| p >= topic.partitions().len()) => {
                let trouble = Trouble::of(RDKafkaErrorCode::UnknownPartition)?;
                Some((trouble, format!("{} has {}", at.topic, counted(topic.partitions().len(), "partition"))))
            }
            None => None,
        }
    }

    /// Nobody polls this client: what it met of brokers that refuse it waits there, and is told once.
    pub(super) fn hear(&self) {
        for _ in 0..EVENTS_MAX {
            // An event that the client sees to by itself comes as nothing.
            if let Some(Err(e)) = self.observer.poll(Duration::ZERO)
                && let Some(trouble) = e.rdkafka_error_code().and_then(Trouble::of)
            {
                self.refusals.lock().refused(trouble, e.to_string());
            }
        }
    }

    /// The offsets that Kafka holds of a partition.
    ///
    /// # Errors
    /// Why it does not say, and what a person has to see to where that does not pass by itself.
    pub fn held(&self, at: &TopicPartition) -> Result<Held, (Option<Trouble>, String)> {
        match self.watermarks(at) {
            Ok((low, high)) => Ok(Held { low, high }),
            Err(why) => Err(self.refusal(at).map_or((None, why), |(trouble, why)| (Some(trouble), why))),
        }
    }

    /// How many partitions a topic has; none where it does not exist.
    pub fn partitions(&self, topic: &str) -> Result<i32, String> {
        let metadata = self.observer.fetch_metadata(Some(topic), ANSWER_MAX).map_err(|e| e.to_string())?;
        let count = metadata.topics().first().map_or(0, |t| t.partitions().len());
        i32::try_from(count).map_err(|e| e.to_string())
    }
}

/// What the group has committed for a partition.
pub(super) fn commit(found: &TopicPartitionListElem<'_>) -> KafkaResult<Option<Commit>> {
    found.error()?;
    Ok(match found.offset() {
        Offset::Offset(offset) => Some(Commit { offset, ours: Marked::decode(found.metadata()) }),
        _ => None,
    })
}

/// Whether a topic's cleanup policy has compact.
fn policy(config: &ConfigResource) -> Result<bool, String> {
    let policy = config.get("cleanup.policy").and_then(|p| p.value.as_deref()).ok_or("the topic has no cleanup.policy")?;
    Ok(policy.contains("compact"))
}
