//! What claims have to know of their partitions, asked of Kafka for many at once: asked one by one, thousands take minutes.
use super::log::{ANSWER_MAX, KafkaLog, commit};
use super::trouble::{GROUP_REFUSED, KAFKA_REFUSED, Trouble};
use crate::core::claim::{Commit, Start};
use crate::core::claimer::LogFacts;
use crate::core::record::TopicPartition;
use crate::sink::claim::Unanswered;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::metadata::MetadataTopic;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How many topics are asked about by name; where there are more, all of Kafka's are asked for.
const NAMED_MAX: usize = 16;

type Answer<T> = Result<T, Unanswered>;

/// A topic's partitions, and the broker that leads each: -1 where none does.
type Leaders = HashMap<i32, i32>;

impl KafkaLog {
    /// What Kafka knows of these partitions, in their order. What one broker does not answer fails for the partitions that it
    /// leads alone.
    pub(super) fn look(&self, of: &[TopicPartition]) -> Vec<Answer<LogFacts>> {
        // This first: offsets are asked of the leaders that this client knows, and by itself it looks for new ones, and for
        // new partitions, every five minutes only.
        let topics = self.leaders(of.iter().map(|at| &*at.topic).collect());
        let mut answers = Vec::new();
        let mut led: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
        for (place, at) in of.iter().enumerate() {
            let (leader, answer) = place_of(at, &topics[&*at.topic]).map_or_else(|e| (-1, Err(e)), |(leader, facts)| (leader, Ok(facts)));
            answers.push(answer);
            led.entry(leader).or_default().push(place);
        }
        for places in led.values() {
            Self::ask(of, places, &mut answers, |asked| self.offsets(asked, Offset::Beginning), |facts, low| facts.low = low);
            Self::ask(of, places, &mut answers, |asked| self.offsets(asked, Offset::End), |facts, high| facts.high = high);
            if let Start::Time(ms) = self.start {
                Self::ask(of, places, &mut answers, |asked| self.offsets(asked, Offset::Offset(ms)), |facts, found| facts.start = found);
            }
        }
        let all: Vec<usize> = (0..of.len()).collect();
        Self::ask(of, &all, &mut answers, |asked| self.commits(asked), |facts, commit| facts.commit = commit);
        for facts in answers.iter_mut().flatten() {
            facts.start = match self.start {
                Start::Earliest => facts.low,
                Start::Time(_) if facts.start >= 0 => facts.start,
                // Nothing is as young.
                Start::Latest | Start::Time(_) => facts.high,
            };
        }
        // What came before these answers is no more.
        self.hear();
        let mut refusals = self.refusals.lock();
        for (at, answer) in of.iter().zip(&mut answers) {
            match answer {
                Ok(facts) if facts.low < 0 || facts.high < 0 => *answer = Err(unanswered(format!("{at}: its leader named no offsets"))),
                Ok(_) => refusals.answered(at),
                Err(unanswered) => {
                    if let Some((trouble, why)) = refusals.of(at) {
                        *unanswered = Unanswered { code: code(Some(trouble)), why };
                    }
                }
            }
        }
        answers
    }

    /// Asks about the partitions at these places of which all has been answered so far, and takes note of what is said.
    fn ask<T>(
        of: &[TopicPartition],
        places: &[usize],
        answers: &mut [Answer<LogFacts>],
        ask: impl FnOnce(&[&TopicPartition]) -> Vec<KafkaResult<T>>,
        note: impl Fn(&mut LogFacts, T),
    ) {
        let places: Vec<usize> = places.iter().copied().filter(|place| answers[*place].is_ok()).collect();
        let asked: Vec<&TopicPartition> = places.iter().map(|place| &of[*place]).collect();
        if asked.is_empty() {
            return;
        }
        for (place, said) in places.into_iter().zip(ask(&asked)) {
            match (said, &mut answers[place]) {
                (Ok(said), Ok(facts)) => note(facts, said),
                (Err(e), answer) => *answer = Err(failed(&of[place].to_string(), &e)),
                (Ok(_), Err(_)) => {}
            }
        }
    }

    /// An offset of each partition: the beginning, the end (of what is committed, for whoever reads only that), or the first at a
    /// time; -1 where there is none. librdkafka fails for all where one partition is refused, so halves are asked then.
    fn offsets(&self, asked: &[&TopicPartition], which: Offset) -> Vec<KafkaResult<i64>> {
        let answer = list_of(asked, which).and_then(|list| self.observer.offsets_for_times(list, ANSWER_MAX));
        match answer {
            Err(e) if asked.len() > 1 && !is_silence(&e) => {
                let (left, right) = asked.split_at(asked.len() / 2);
                [self.offsets(left, which), self.offsets(right, which)].concat()
            }
            answer => each(asked, answer, |e| e.error().map(|()| e.offset().to_raw().unwrap_or(-1))),
        }
    }

    /// What the group has committed for each partition.
    fn commits(&self, asked: &[&TopicPartition]) -> Vec<KafkaResult<Option<Commit>>> {
        let answer = list_of(asked, Offset::Invalid).and_then(|list| self.observer.committed_offsets(list, ANSWER_MAX));
        each(asked, answer, commit)
    }

    /// The partitions of these topics.
    fn leaders<'t>(&self, topics: BTreeSet<&'t str>) -> HashMap<&'t str, Answer<Leaders>> {
        let mut known = HashMap::new();
        let mut silence = None;
        if topics.len() > NAMED_MAX {
            match self.observer.fetch_metadata(None, ANSWER_MAX) {
                Ok(all) => {
                    let of = |topic: &MetadataTopic| Some((*topics.get(topic.name())?, leaders(topic)));
                    known.extend(all.topics().iter().filter_map(of));
                }
                Err(e) => silence = Some(failed("the topics", &e)),
            }
        }
        // What this client may not see is left out of the whole.
        for topic in topics {
            if known.contains_key(topic) {
                continue;
            }
            let answer = match &silence {
                Some(silence) => Err(silence.clone()),
                None => self.observer.fetch_metadata(Some(topic), ANSWER_MAX).map_err(|e| {
                    let why = failed(topic, &e);
                    silence = is_silence(&e).then(|| why.clone());
                    why
                }),
            };
            let nothing = || Err(unanswered(format!("{topic}: nothing is known of it")));
            known.insert(topic, answer.and_then(|metadata| metadata.topics().first().map_or_else(nothing, leaders)));
        }
        known
    }
}

/// Who leads a partition, and what is known of it so far.
fn place_of(at: &TopicPartition, topic: &Answer<Leaders>) -> Answer<(i32, LogFacts)> {
    let leaders = topic.as_ref().map_err(Clone::clone)?;
    let partitions = i32::try_from(leaders.len()).unwrap_or(i32::MAX);
    match leaders.get(&at.partition) {
        None => Err(unanswered(format!("{at}: the broker knows {partitions} partitions of {}, and not yet this one", at.topic))),
        Some(-1) => Err(unanswered(format!("{at}: no broker leads it at the moment"))),
        Some(leader) => Ok((*leader, LogFacts { low: -1, high: -1, commit: None, start: -1, partitions })),
    }
}

fn leaders(topic: &MetadataTopic) -> Answer<Leaders> {
    match topic.error() {
        Some(error) => Err(failed(topic.name(), &KafkaError::MetadataFetch(error.into()))),
        None => Ok(topic.partitions().iter().map(|p| (p.id(), p.leader())).collect()),
    }
}

fn list_of(asked: &[&TopicPartition], offset: Offset) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(asked.len());
    asked.iter().try_for_each(|at| list.add_partition_offset(&at.topic, at.partition, offset))?;
    Ok(list)
}

/// What an answer says of each partition. librdkafka keeps the order of the question; what is not in its place is not answered.
fn each<T>(
    asked: &[&TopicPartition],
    answer: KafkaResult<TopicPartitionList>,
    read: impl Fn(&TopicPartitionListElem<'_>) -> KafkaResult<T>,
) -> Vec<KafkaResult<T>> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(e) => return asked.iter().map(|_| Err(e.clone())).collect(),
    };
    let elements = answer.elements();
    let in_place = |(n, at): (usize, &&TopicPartition)| elements.get(n).filter(|e| e.topic() == &*at.topic && e.partition() == at.partition);
    let nothing = || Err(KafkaError::OffsetFetch(RDKafkaErrorCode::NoOffset));
    asked.iter().enumerate().map(|place| in_place(place).map_or_else(nothing, &read)).collect()
}

/// Nobody answered: to ask others or less would be to wait as long again.
fn is_silence(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut, RequestTimedOut};
    matches!(error.rdkafka_error_code(), Some(AllBrokersDown | BrokerTransportFailure | OperationTimedOut | RequestTimedOut))
}

fn failed(what: &str, error: &KafkaError) -> Unanswered {
    Unanswered { code: code(error.rdkafka_error_code().and_then(Trouble::of)), why: format!("{what}: {error}") }
}

fn unanswered(why: String) -> Unanswered {
    Unanswered { code: code(None), why }
}

/// The condition that holds until it is answered.
fn code(trouble: Option<Trouble>) -> &'static str {
    let refused = |t: Trouble| [KAFKA_REFUSED, GROUP_REFUSED].contains(&t.code);
    if trouble.is_some_and(refused) { KAFKA_REFUSED } else { "kafka-unanswered" }
}
