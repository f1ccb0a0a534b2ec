//! From Kafka to the lanes; what Kafka says when nothing comes.
use super::{PERSON_MAX, WAIT, Work};
use crate::core::replay::bounds::Held;
use crate::core::replay::run::Run;
use crate::core::retry::Retry;
use crate::kafka::poller::{BURST, BURST_BYTES};
use crate::kafka::range::{records, size};
use crate::kafka::ranges::{Ranges, Read};
use crate::kafka::trouble::Trouble;
use crate::sink::lane::{LaneHandle, Room};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::types::RDKafkaErrorCode;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// After how long without a record Kafka is asked whether there are any.
const LOOK_AFTER: Duration = Duration::from_secs(5);
/// How long a lane may be full before its partitions are read no further until it has room. A pause throws away what was
/// fetched, so a lane that is merely busy must not cause one.
const FULL_MAX: Duration = Duration::from_millis(500);

/// How long a topic is left alone whose reader lost a place that Kafka holds.
const LOST_PLACE_WAIT: Duration = Duration::from_secs(1);

/// A topic that is read, and which part of the job each partition is.
pub(super) struct Reader {
    pub(super) ranges: Ranges,
    pub(super) parts: HashMap<i32, usize>,
    /// Those whose lane has no room.
    paused: HashSet<i32>,
}

/// Messages of one partition that were read one after the other. What the machine has for the lanes beside goes after them.
#[derive(Default)]
struct Group<'r> {
    part: Option<usize>,
    /// The lane, and the generation.
    to: Option<(usize, u64)>,
    messages: Vec<BorrowedMessage<'r>>,
}

impl Group<'_> {
    fn hand_on(&mut self, run: &Run, lanes: &[LaneHandle]) {
        if let (Some(part), Some((lane, generation))) = (self.part, self.to.take()) {
            lanes[lane].hand(generation, records(run.at(part).clone(), &self.messages));
        }
        self.messages.clear();
    }
}

/// What a reader met that Kafka must be asked about.
enum Met {
    /// The log of this part ended here.
    End(usize),
    OutOfRange,
    Trouble(Trouble, String),
}

impl Work {
    /// Reads a topic from where its partitions are. Where no reader can be made, that is told and tried again for a while.
    pub(super) fn read_anew(&mut self, topic: &str) {
        self.readers.remove(topic);
        let (now, places) = (self.clock.now(), self.run.places(topic));
        self.read_at = now;
        if places.is_empty() {
            self.anew.remove(topic);
            return;
        }
        match Ranges::new(&self.valid.config.kafka, topic, places.iter().map(|(_, partition, next)| (*partition, *next))) {
            Ok(ranges) => {
                let parts = places.iter().map(|(part, partition, _)| (*partition, *part)).collect();
                self.readers.insert(topic.to_owned(), Reader { ranges, parts, paused: HashSet::new() });
                self.anew.remove(topic);
            }
            Err(why) => {
                self.unanswered(topic, &why);
                if !self.anew.entry(topic.to_owned()).or_insert_with(|| Retry::at(now)).failed(now, PERSON_MAX, rand::random()) {
                    self.failed = Some(format!("Kafka: {topic} can't be read: {why}"));
                }
            }
        }
    }

    /// Reads those topics anew for which it is time.
    pub(super) fn read_due(&mut self) {
        let now = self.clock.now();
        let due: Vec<String> = self.anew.iter().filter(|(_, retry)| retry.due(now)).map(|(topic, _)| topic.clone()).collect();
        due.iter().for_each(|topic| self.read_anew(topic));
    }

    /// Whether there is anything to be read now. What only waits for a full lane is paused after a while, so that it holds up
    /// no other lane. That a lane holds a partition back is of no account: all wait alike for the job's one limit.
    pub(super) fn may_read(&mut self) -> bool {
        let (now, room) = (self.clock.now(), Room::of(&self.valid.lane));
        let mut busy = false;
        for (lane, since) in self.lanes.iter().zip(&mut self.full_since) {
            // One that has been full for long has room again when it has some to spare.
            let full = lane.fills(if since.is_some_and(|t| now >= t + FULL_MAX) { room.half() } else { room });
            *since = if full { since.or(Some(now)) } else { None };
            busy |= since.is_some_and(|t| now < t + FULL_MAX);
        }
        if busy {
            return false;
        }
        let mut any = false;
        for reader in self.readers.values_mut() {
            for (partition, part) in &reader.parts {
                let full = self.full_since[self.run.lane(*part)].is_some();
                if full && reader.paused.insert(*partition) {
                    reader.ranges.leave(*partition);
                } else if !full && reader.paused.remove(partition) {
                    reader.ranges.resume(*partition, self.run.next(*part));
                    self.suspects.excuse(*part, now);
                }
                any |= !full;
            }
        }
        any
    }

    pub(super) fn read(&mut self) {
        let (mut all_met, mut cleared) = (Vec::new(), Vec::new());
        let mut timeout = WAIT / u32::try_from(self.readers.len()).unwrap_or(1);
        for (topic, reader) in &self.readers {
            // Kafka gives out one partition's records after the other's: each run goes as one.
            let (mut group, mut bytes) = (Group::default(), 0);
            for _ in 0..BURST {
                let read = reader.ranges.next(timeout);
                timeout = Duration::ZERO;
                let met = match read {
                    Read::Record(message) => {
                        let Some(part) = reader.parts.get(&message.partition()).copied() else { continue };
                        self.read_at = self.clock.now();
                        cleared.extend(self.suspects.clear(part).map(|trouble| (topic.clone(), trouble)));
                        bytes += size(&message);
                        if group.part != Some(part) {
                            group.hand_on(&self.run, &self.lanes);
                            group.part = Some(part);
                        }
                        if let Some(to) = self.run.read(part, message.offset(), message.key()) {
                            group.to = Some(to);
                            group.messages.push(message);
                        }
                        self.run.handed(part);
                        if bytes >= BURST_BYTES {
                            break;
                        }
                        continue;
                    }
                    Read::End(partition) => match reader.parts.get(&partition) {
                        Some(part) => {
                            cleared.extend(self.suspects.clear(*part).map(|trouble| (topic.clone(), trouble)));
                            Met::End(*part)
                        }
                        None => continue,
                    },
                    Read::OutOfRange => Met::OutOfRange,
                    Read::Trouble(why, Some(trouble)) => Met::Trouble(trouble, why),
                    Read::Trouble(why, None) => {
                        tracing::debug!("{topic}: {why}");
                        break;
                    }
                    Read::Nothing => break,
                };
                all_met.push((topic.clone(), met));
            }
            group.hand_on(&self.run, &self.lanes);
        }
        cleared.iter().for_each(|(topic, trouble)| self.calm(topic, *trouble));
        for (topic, met) in all_met {
            match met {
                Met::End(part) => self.ended(&topic, part),
                Met::OutOfRange => self.out_of_range(&topic),
                Met::Trouble(trouble, why) => self.troubled(&topic, self.parts_of(&topic), trouble, &why),
            }
        }
    }

    /// A partition's log was read to its end: Kafka says whether that can be.
    fn ended(&mut self, topic: &str, part: usize) {
        let at = self.run.at(part).clone();
        let about = at.clone();
        let Some(marks) = self.ask(move |log| log.watermarks(&about)) else { return };
        let again = match marks {
            Ok((low, high)) => self.run.ended(part, Held { low, high }),
            Err(why) => {
                self.unanswered(topic, &format!("{at}: {why}"));
                self.run.places(topic).into_iter().find(|(p, ..)| *p == part).map(|(.., next)| next)
            }
        };
        let again = again.and_then(|next| self.readers.get(topic)?.ranges.read_again(at.partition, next).err());
        if let Some(why) = again {
            tracing::debug!("{at}: {why}");
            self.read_anew(topic);
        }
    }

    /// The parts that are read of a topic.
    fn parts_of(&self, topic: &str) -> Vec<usize> {
        self.run.places(topic).into_iter().map(|(part, ..)| part).collect()
    }

    /// Something is wrong with one of these parts of a topic.
    fn troubled(&mut self, topic: &str, parts: Vec<usize>, trouble: Trouble, why: &str) {
        // A topic that is gone shows when nothing comes.
        if trouble.code == "topic-missing" {
            return;
        }
        self.conditions.alert(trouble.code, topic, why, trouble.remedy);
        self.suspects.told(parts, trouble, why, self.clock.now());
    }

    /// One of a topic's partitions is out of a trouble; perhaps that was the last.
    fn calm(&self, topic: &str, trouble: Trouble) {
        if !self.suspects.any(self.parts_of(topic), trouble.code) {
            self.conditions.clear(trouble.code, topic);
        }
    }

    /// What is to be read next lies outside, by what Kafka says to the reader, which fetches that partition no further. It does
    /// not say which one that is: where none is by what Kafka holds, all are read anew, and the one that it is gives nothing.
    fn out_of_range(&mut self, topic: &str) {
        if self.look_at(topic) {
            return;
        }
        if let Some(trouble) = Trouble::of(RDKafkaErrorCode::BadMessage) {
            self.troubled(topic, self.parts_of(topic), trouble, "a broker says that what is to be read next is out of range, and that its log holds it");
        }
        let at = self.clock.now() + LOST_PLACE_WAIT;
        self.anew.entry(topic.to_owned()).or_insert_with(|| Retry::at(at));
    }

    /// If nothing has come for a while, asks Kafka what it has.
    pub(super) fn look(&mut self) {
        if self.clock.now() < self.read_at + LOOK_AFTER {
            return;
        }
        self.read_at = self.clock.now();
        let topics: Vec<String> = self.readers.keys().cloned().collect();
        topics.iter().for_each(|topic| _ = self.look_at(topic));
    }

    /// Asks Kafka what it has of a topic's partitions. Whether something was out of range: then all is read anew.
    fn look_at(&mut self, topic: &str) -> bool {
        let mut moved = false;
        for (part, partition, _) in self.run.places(topic) {
            let at = self.run.at(part).clone();
            let Some(paused) = self.readers.get(topic).map(|reader| reader.paused.contains(&partition)) else { break };
            let about = at.clone();
            let Some(answer) = self.ask(move |log| log.held(&about)) else { break };
            let now = self.clock.now();
            let stuck = self.suspects.stuck(part, now, PERSON_MAX).filter(|_| !paused);
            match answer {
                Ok(held) => {
                    self.conditions.clear("kafka-unanswered", topic);
                    moved |= self.run.out_of_range(part, held);
                    if let Some((trouble, why)) = stuck {
                        self.run.halt(part, trouble.code, format!("{why}. What to do: {}", trouble.remedy));
                    }
                }
                Err((Some(Trouble { code: "topic-missing", .. }), why)) => self.gone(part, &why),
                Err((Some(trouble), why)) => {
                    self.troubled(topic, vec![part], trouble, &why);
                    if stuck.is_some() {
                        self.run.halt(part, trouble.code, format!("{why}. What to do: {}", trouble.remedy));
                    }
                }
                // So would the others be, and each would be waited for.
                Err((None, why)) => {
                    self.unanswered(topic, &format!("{at}: {why}"));
                    self.parts_of(topic).into_iter().for_each(|part| self.suspects.excuse(part, now));
                    break;
                }
            }
        }
        self.hand_on();
        if moved {
            self.read_anew(topic);
        }
        moved
    }

    fn unanswered(&self, topic: &str, why: &str) {
        self.conditions.raise("kafka-unanswered", topic, why, "the job goes on by itself when Kafka answers");
    }
}
