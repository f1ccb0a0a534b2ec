//! From Kafka to the lanes; what Kafka says when nothing comes.
use super::{PERSON_MAX, WAIT, Work};
use crate::core::replay::bounds::Held;
use crate::core::replay::run::Run;
use crate::kafka::poller::{BURST, BURST_BYTES};
use crate::kafka::range::{records, size};
use crate::kafka::ranges::{Ranges, Read};
use crate::kafka::trouble::Trouble;
use crate::sink::lane::{LaneHandle, Room};
use rdkafka::message::{BorrowedMessage, Message as _};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// After how long without a record Kafka is asked whether there are any.
const LOOK_AFTER: Duration = Duration::from_secs(5);
/// How long a lane may be full before its partitions are read no further until it has room. A pause throws away what was
/// fetched, so a lane that is merely busy must not cause one.
const FULL_MAX: Duration = Duration::from_millis(500);

/// A topic that is read, and which part of the job each partition is.
pub(super) struct Reader {
    pub(super) ranges: Ranges,
    pub(super) parts: HashMap<i32, usize>,
    /// Those whose lane has no room.
    paused: HashSet<i32>,
    /// What stays wrong with it until a person does something, and since when.
    trouble: Option<(Trouble, String, Duration)>,
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
    /// Reads a topic from where its partitions are.
    pub(super) fn read_anew(&mut self, topic: &str) -> Result<(), String> {
        let trouble = self.readers.remove(topic).and_then(|reader| reader.trouble);
        let places = self.run.places(topic);
        if !places.is_empty() {
            let ranges = Ranges::new(&self.valid.config.kafka, topic, places.iter().map(|(_, partition, next)| (*partition, *next)));
            let parts = places.iter().map(|(part, partition, _)| (*partition, *part)).collect();
            let reader = Reader { ranges: ranges.map_err(|e| format!("Kafka: {e}"))?, parts, paused: HashSet::new(), trouble };
            self.readers.insert(topic.to_owned(), reader);
        }
        self.read_at = self.clock.now();
        Ok(())
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
                    reader.ranges.resume(*partition);
                }
                any |= !full;
            }
        }
        any
    }

    pub(super) fn read(&mut self) {
        let mut all_met = Vec::new();
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
                        Some(part) => Met::End(*part),
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
        for (topic, met) in all_met {
            match met {
                Met::End(part) => self.ended(&topic, part),
                Met::OutOfRange => self.look_at(&topic),
                Met::Trouble(trouble, why) => self.troubled(&topic, trouble, why),
            }
        }
    }

    /// A partition's log was read to its end: Kafka says whether that can be.
    fn ended(&mut self, topic: &str, part: usize) {
        let at = self.run.at(part).clone();
        let again = match self.log.watermarks(&at) {
            Ok((low, high)) => self.run.ended(part, Held { low, high }),
            Err(why) => {
                self.unanswered(topic, &format!("{at}: {why}"));
                self.run.places(topic).into_iter().find(|(p, ..)| *p == part).map(|(.., next)| next)
            }
        };
        let again = again.and_then(|next| self.readers.get(topic)?.ranges.read_again(at.partition, next).err());
        if let Some(why) = again {
            tracing::debug!("{at}: {why}");
            if let Err(why) = self.read_anew(topic) {
                self.failed = Some(why);
            }
        }
    }

    fn troubled(&mut self, topic: &str, trouble: Trouble, why: String) {
        // A topic that is gone shows when nothing comes.
        if trouble.code == "topic-missing" {
            return;
        }
        self.conditions.alert(trouble.code, topic, &why, trouble.remedy);
        let now = self.clock.now();
        if let Some(reader) = self.readers.get_mut(topic) {
            reader.trouble.get_or_insert((trouble, why, now));
        }
    }

    /// If nothing has come for a while, asks Kafka what it has.
    pub(super) fn look(&mut self) {
        if self.clock.now() < self.read_at + LOOK_AFTER {
            return;
        }
        self.read_at = self.clock.now();
        let topics: Vec<String> = self.readers.keys().cloned().collect();
        topics.iter().for_each(|topic| self.look_at(topic));
    }

    fn look_at(&mut self, topic: &str) {
        let mut moved = false;
        let now = self.clock.now();
        for (part, partition, _) in self.run.places(topic) {
            let at = self.run.at(part).clone();
            let Some(reader) = self.readers.get(topic) else { break };
            let stuck = reader.trouble.clone().filter(|(.., since)| now >= *since + PERSON_MAX && !reader.paused.contains(&partition));
            match self.log.watermarks(&at) {
                Ok((low, high)) => {
                    self.conditions.clear("kafka-unanswered", topic);
                    moved |= self.run.out_of_range(part, Held { low, high });
                    if let Some((trouble, why, _)) = stuck {
                        self.run.halt(part, trouble.code, format!("{why}. What to do: {}", trouble.remedy));
                    }
                }
                Err(why) => match self.log.refusal(&at) {
                    Some((Trouble { code: "topic-missing", .. }, why)) => self.gone(part, &why),
                    Some((trouble, why)) => {
                        self.troubled(topic, trouble, why.clone());
                        if stuck.is_some() {
                            self.run.halt(part, trouble.code, format!("{why}. What to do: {}", trouble.remedy));
                        }
                    }
                    None => self.unanswered(topic, &format!("{at}: {why}")),
                },
            }
        }
        self.hand_on();
        if moved && let Err(why) = self.read_anew(topic) {
            self.failed = Some(why);
        }
    }

    fn unanswered(&self, topic: &str, why: &str) {
        self.conditions.raise("kafka-unanswered", topic, why, "the job goes on by itself when Kafka answers");
    }
}
