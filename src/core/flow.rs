//! The poller's view of its partitions: which phase each is in, what may be fetched, what may be committed.
mod queues;

use self::queues::Queues;
use super::claim::Memory;
use super::lane::Opening;
use super::ledger::Ledger;
use super::rebuild::Rebuild;
use super::record::TopicPartition;
use super::retry::Backoff;
use super::state::Last;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Where a partition stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its claim is asked for, or will be at this time.
    Claiming { due: Option<Duration> },
    /// Another owner has claimed it, and Kafka still says that it is ours: one of us is a zombie. From this time on a
    /// commit asks the coordinator who, and only if that is accepted it is claimed again. `asked`: it is on its way.
    Confirming { due: Duration, asked: bool },
    /// Its records flow.
    Open,
    /// A person is needed.
    Halted { code: &'static str, reason: String },
    /// Its lane is letting go.
    Closing,
}

/// An assigned partition.
#[derive(Debug)]
pub struct Entry {
    pub at: TopicPartition,
    /// Goes up with each assignment and each seek; records of an older one are discarded.
    pub generation: u64,
    pub lane: usize,
    pub phase: Phase,
    /// What is settled; `None` before the first claim.
    pub ledger: Option<Ledger>,
    pub epoch: i64,
    /// What was left unread when it was claimed, until that is decided about.
    unread: Option<i64>,
    /// The last record settled, as far as this process knows.
    last: Option<Last>,
    /// The rebuild that it was in the middle of when it was claimed.
    rebuild: Option<Rebuild>,
    /// What was last handed to Kafka.
    committed: Option<i64>,
    /// The offset after the last record handed to its lane; where it was sought to, before the first. Its records go on here.
    next: i64,
    /// The highest that `next` ever was: below it are records that this process has had in its hands.
    reached: i64,
    /// A throttle holds it back.
    held: bool,
    /// Whether its fetching is paused in librdkafka.
    paused: bool,
    /// Seeks that librdkafka refused, one after the other.
    seeks_refused: u32,
    /// Whether its first claim has ended, however it ended.
    pub tried: bool,
    backoff: Backoff,
}

impl Entry {
    /// What is settled: everything below.
    pub fn position(&self) -> Option<i64> {
        self.ledger.as_ref().map(Ledger::position)
    }

    /// Whether its lane has records that are not settled yet. It is not taken from the lane then without need: what the
    /// lane has learnt of them is not known to Redis.
    pub fn is_busy(&self) -> bool {
        self.position().is_some_and(|position| self.next > position)
    }

    /// Whether records that were in a lane are not settled, whether or not they were fetched again since they were taken from it.
    pub fn is_owed(&self) -> bool {
        self.position().is_some_and(|position| self.reached > position)
    }

    /// Whether it has records that its next owner must look at, should it be let go of as it is.
    pub fn leaves_records(&self) -> bool {
        self.is_owed() || self.unread.is_some()
    }

    /// What a claim after the first one begins with, should the state be lost.
    fn memory(&self) -> Option<Memory> {
        let Self { unread, last, rebuild, .. } = *self;
        self.position().map(|position| Memory { position, unread, last, rebuild })
    }
}

/// When something happens, and a number from 0 to 1 by which waits differ: both come from outside.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub now: Duration,
    pub jitter: f64,
}

/// All assigned partitions.
#[derive(Debug, Default)]
pub struct Flow {
    topics: HashMap<Arc<str>, BTreeMap<i32, Entry>>,
    generations: BTreeMap<u64, TopicPartition>,
    last_generation: u64,
    queues: Queues,
    full: Vec<bool>,
}

impl Flow {
    pub fn new(lanes: usize) -> Self {
        Self { full: vec![false; lanes], ..Self::default() }
    }

    /// A partition was assigned. It is to be paused and claimed.
    pub fn assign(&mut self, at: TopicPartition) {
        let spread = at.topic.bytes().fold(0usize, |h, b| h.wrapping_mul(31).wrapping_add(b.into()));
        let lane = spread.wrapping_add(usize::try_from(at.partition).unwrap_or(0)) % self.full.len();
        let generation = self.number(&at);
        self.queues.due.insert((Duration::ZERO, generation));
        let entry = Entry {
            at: at.clone(),
            generation,
            lane,
            phase: Phase::Claiming { due: Some(Duration::ZERO) },
            ledger: None,
            epoch: 0,
            unread: None,
            last: None,
            rebuild: None,
            committed: None,
            next: 0,
            reached: 0,
            held: false,
            paused: true,
            seeks_refused: 0,
            tried: false,
            backoff: Backoff::default(),
        };
        self.topics.entry(at.topic).or_default().insert(at.partition, entry);
    }

    fn number(&mut self, at: &TopicPartition) -> u64 {
        self.last_generation += 1;
        self.generations.insert(self.last_generation, at.clone());
        self.last_generation
    }

    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.topics.values().flat_map(BTreeMap::values)
    }

    pub fn get(&self, topic: &str, partition: i32) -> Option<&Entry> {
        self.topics.get(topic)?.get(&partition)
    }

    /// The partition that has this generation now.
    pub fn of(&self, generation: u64) -> Option<&Entry> {
        let at = self.generations.get(&generation)?;
        self.get(&at.topic, at.partition).filter(|e| e.generation == generation)
    }

    fn of_mut(&mut self, generation: u64) -> Option<&mut Entry> {
        let at = self.generations.get(&generation)?.clone();
        self.entry_mut(&at).filter(|e| e.generation == generation)
    }

    /// A claim succeeded: the partition was sought to `begin`, and its records flow under this same generation.
    pub fn opened(&mut self, opening: &Opening, begin: i64, epoch: i64) {
        let Opening { generation, position, unread, ref check, ref rebuild, .. } = *opening;
        self.queues.unsynced.insert(generation);
        self.queues.uncommitted.insert(generation);
        if let Some(entry) = self.of_mut(generation) {
            entry.phase = Phase::Open;
            entry.tried = true;
            entry.ledger = Some(Ledger::new(position));
            (entry.unread, entry.last) = (unread, check.as_ref().map(|c| c.last));
            entry.rebuild = rebuild.as_ref().map(|(rebuild, _)| *rebuild);
            entry.epoch = epoch;
            entry.held = false;
            entry.seeks_refused = 0;
            entry.next = begin;
            // A rollback: Kafka is told at once.
            entry.committed = entry.committed.filter(|c| *c <= position);
        }
    }

    /// Claims again under a new generation, after a wait that grows with each such claim; `confirm`: only once the
    /// coordinator has accepted a commit of ours.
    pub fn reclaim(&mut self, generation: u64, confirm: bool, moment: Moment) {
        let Some(at) = self.of(generation).map(|e| e.at.clone()) else { return };
        let renewed = self.number(&at);
        self.generations.remove(&generation);
        self.queues.unsynced.insert(renewed);
        self.queues.uncommitted.insert(renewed);
        if let Some(entry) = self.entry_mut(&at) {
            entry.generation = renewed;
            entry.held = false;
            entry.tried = true;
            let due = moment.now + entry.backoff.next(moment.jitter);
            entry.phase = if confirm { Phase::Confirming { due, asked: false } } else { Phase::Claiming { due: Some(due) } };
            if !confirm {
                self.queues.due.insert((due, renewed));
            }
        }
    }

    fn entry_mut(&mut self, at: &TopicPartition) -> Option<&mut Entry> {
        self.topics.get_mut(&at.topic)?.get_mut(&at.partition)
    }

    /// librdkafka refused to seek; returns how many times in a row.
    pub fn seek_refused(&mut self, generation: u64) -> u32 {
        self.of_mut(generation).map_or(0, |entry| {
            entry.seeks_refused += 1;
            entry.seeks_refused
        })
    }

    pub fn halt(&mut self, generation: u64, code: &'static str, reason: String) {
        self.queues.unsynced.insert(generation);
        if let Some(entry) = self.of_mut(generation) {
            entry.phase = Phase::Halted { code, reason };
            entry.tried = true;
        }
    }

    pub fn hold(&mut self, generation: u64, hold: bool) {
        self.queues.unsynced.insert(generation);
        if let Some(entry) = self.of_mut(generation) {
            entry.held = hold;
        }
    }

    /// A settled range of one generation; one of an older generation is another owner's business by now.
    ///
    /// # Errors
    /// The range does not continue what is settled: a bug.
    pub fn settle(&mut self, generation: u64, range: Range<i64>, last: Option<Last>) -> Result<(), super::ledger::NotContiguous> {
        self.queues.uncommitted.insert(generation);
        let Some(entry) = self.of_mut(generation) else { return Ok(()) };
        entry.backoff.reset();
        // Nothing is settled before what was unread is decided about.
        entry.unread = None;
        entry.last = last.or(entry.last);
        entry.ledger.as_mut().map_or(Ok(()), |ledger| ledger.settle(range))
    }

    /// Begins to let a partition go; returns the lane that must answer, if it has one.
    pub fn closing(&mut self, topic: &str, partition: i32) -> Option<(usize, u64)> {
        let entry = self.topics.get_mut(topic)?.get_mut(&partition)?;
        let open = entry.phase == Phase::Open;
        entry.phase = Phase::Closing;
        self.queues.unsynced.insert(entry.generation);
        open.then_some((entry.lane, entry.generation))
    }

    /// Forgets a partition.
    pub fn remove(&mut self, topic: &str, partition: i32) -> Option<Entry> {
        let entry = self.topics.get_mut(topic)?.remove(&partition)?;
        self.generations.remove(&entry.generation);
        Some(entry)
    }

    /// A lane is full, or no longer.
    pub fn set_full(&mut self, lane: usize, full: bool) {
        self.queues.lanes_changed |= self.full[lane] != full;
        self.full[lane] = full;
    }

    pub fn lanes(&self) -> usize {
        self.full.len()
    }

    pub fn is_full(&self, lane: usize) -> bool {
        self.full[lane]
    }

    /// The topics of partitions that are not halted, each once.
    pub fn topics(&self) -> Vec<Arc<str>> {
        let mut topics: Vec<_> = self.iter().filter(|e| !matches!(e.phase, Phase::Halted { .. })).map(|e| e.at.topic.clone()).collect();
        topics.sort();
        topics.dedup();
        topics
    }

    /// What is settled of a topic's partitions, whether or not Kafka knows it.
    pub fn settled(&self, topic: &str) -> Vec<(TopicPartition, i64)> {
        self.iter().filter(|e| *e.at.topic == *topic).filter_map(|e| Some((e.at.clone(), e.unread.or(e.position())?))).collect()
    }

    /// Some records of a partition were polled, the last one at this offset. The partition, if they are wanted.
    pub fn polled(&mut self, topic: &str, partition: i32, offset: i64) -> Option<&Entry> {
        let entry = self.topics.get_mut(topic)?.get_mut(&partition).filter(|e| e.phase == Phase::Open)?;
        entry.next = offset + 1;
        entry.reached = entry.reached.max(entry.next);
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ZERO: Moment = Moment { now: Duration::ZERO, jitter: 0.0 };

    fn opened(flow: &mut Flow, generation: u64) {
        let at = TopicPartition::new("t", 0);
        flow.opened(&Opening { generation, at, position: 10, guard: None, check: None, unread: None, through: [].into(), rebuild: None }, 9, 1);
    }

    fn open(flow: &mut Flow, partition: i32) -> u64 {
        flow.assign(TopicPartition::new("t", partition));
        let (_, generation, _) = flow.due_claims(Duration::ZERO).pop().unwrap();
        opened(flow, generation);
        generation
    }

    #[test]
    fn nothing_is_committed_before_it_is_settled_and_nothing_twice() {
        let mut flow = Flow::new(1);
        flow.assign(TopicPartition::new("t", 0));
        assert!(flow.to_commit(Duration::ZERO, |_| true).is_empty());
        let generation = flow.due_claims(Duration::ZERO)[0].1;
        opened(&mut flow, generation);
        flow.settle(generation, 10..12, None).unwrap();
        assert_eq!(flow.to_commit(Duration::ZERO, |_| true), vec![(TopicPartition::new("t", 0), 12)]);
        assert!(flow.to_commit(Duration::ZERO, |_| true).is_empty());
        flow.committed(&TopicPartition::new("t", 0), false, AT_ZERO);
        assert_eq!(flow.to_commit(Duration::ZERO, |_| true).len(), 1);
    }

    #[test]
    fn a_fenced_partition_is_claimed_again_only_after_kafka_took_a_commit() {
        let mut flow = Flow::new(1);
        let generation = open(&mut flow, 0);
        let at = TopicPartition::new("t", 0);
        assert_eq!(flow.to_commit(Duration::ZERO, |_| true).len(), 1);
        flow.reclaim(generation, true, AT_ZERO);
        flow.committed(&at, true, AT_ZERO);
        assert!(flow.due_claims(Backoff::LONGEST).is_empty(), "that commit went out before");
        assert_eq!(flow.to_commit(Backoff::LONGEST, |_| true).len(), 1);
        flow.committed(&at, false, AT_ZERO);
        assert!(flow.due_claims(Backoff::LONGEST).is_empty(), "a zombie's is refused");
        assert_eq!(flow.to_commit(Backoff::LONGEST, |_| true).len(), 1);
        flow.committed(&at, true, AT_ZERO);
        assert_eq!(flow.due_claims(Duration::ZERO).len(), 1);
    }

    #[test]
    fn the_last_record_settled_is_remembered_for_the_next_claim() {
        let mut flow = Flow::new(1);
        let generation = open(&mut flow, 0);
        let last = Last { offset: 11, timestamp_ms: None, fingerprint: 7 };
        flow.settle(generation, 10..12, Some(last)).unwrap();
        flow.settle(generation, 12..13, None).unwrap();
        flow.reclaim(generation, false, AT_ZERO);
        let memory = flow.due_claims(Backoff::LONGEST)[0].2.unwrap();
        assert_eq!((memory.position, memory.last), (13, Some(last)), "by it the log's end is found where the state was lost");
    }

    #[test]
    fn a_partition_is_busy_until_all_that_was_handed_to_its_lane_is_settled() {
        let mut flow = Flow::new(1);
        let generation = open(&mut flow, 0);
        assert!(!flow.of(generation).unwrap().is_busy());
        flow.polled("t", 0, 10);
        assert!(flow.of(generation).unwrap().is_busy());
        flow.settle(generation, 10..11, None).unwrap();
        assert!(!flow.of(generation).unwrap().is_busy());
    }

    #[test]
    fn what_an_older_generation_settles_is_ignored() {
        let mut flow = Flow::new(1);
        let old = open(&mut flow, 0);
        flow.reclaim(old, false, AT_ZERO);
        flow.settle(old, 10..20, None).unwrap();
        assert_eq!(flow.get("t", 0).unwrap().position(), Some(10));
        assert!(flow.of(old).is_none());
        assert_eq!(flow.due_claims(Backoff::LONGEST)[0].2.map(|m| m.position), Some(10));
    }

    #[test]
    fn only_open_partitions_of_lanes_with_room_are_fetched() {
        let mut flow = Flow::new(1);
        let generation = open(&mut flow, 0);
        let at = TopicPartition::new("t", 0);
        assert_eq!(flow.sync_pauses().1, [(at.clone(), 9)], "where its claim had it sought to");
        flow.polled("t", 0, 14);
        flow.set_full(0, true);
        assert_eq!(flow.sync_pauses().0.len(), 1);
        flow.set_full(0, false);
        flow.hold(generation, true);
        assert_eq!(flow.sync_pauses(), (vec![], vec![]));
        flow.hold(generation, false);
        assert_eq!(flow.sync_pauses().1, [(at, 15)], "behind what the lane has, settled or not");
        flow.halt(generation, "poison", String::new());
        assert_eq!(flow.sync_pauses().0.len(), 1);
    }
}
