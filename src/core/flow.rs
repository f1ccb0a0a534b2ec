//! The poller's view of its partitions: which phase each is in, what may be fetched, what may be committed.
use super::ledger::Ledger;
use super::record::TopicPartition;
use super::retry::Backoff;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Where a partition stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its claim is asked for, or will be at this time.
    Claiming { due: Option<Duration> },
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
    /// What was last handed to Kafka.
    committed: Option<i64>,
    /// Since when Kafka shows another commit than that.
    differs_since: Option<Duration>,
    /// A throttle holds it back.
    held: bool,
    /// Whether its fetching is paused in librdkafka.
    paused: bool,
    /// Seeks that librdkafka refused, one after the other.
    seeks_refused: u32,
    backoff: Backoff,
}

impl Entry {
    /// What a claim after the first one begins with, should the state be lost.
    pub fn memory(&self) -> Option<i64> {
        self.ledger.as_ref().map(Ledger::position)
    }
}

/// All assigned partitions.
#[derive(Debug, Default)]
pub struct Flow {
    topics: HashMap<Arc<str>, BTreeMap<i32, Entry>>,
    generations: BTreeMap<u64, TopicPartition>,
    last_generation: u64,
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
        let entry = Entry {
            at: at.clone(),
            generation,
            lane,
            phase: Phase::Claiming { due: Some(Duration::ZERO) },
            ledger: None,
            epoch: 0,
            committed: None,
            differs_since: None,
            held: false,
            paused: true,
            seeks_refused: 0,
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

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.topics.values_mut().flat_map(BTreeMap::values_mut)
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
        let at = self.generations.get(&generation)?;
        self.topics.get_mut(&at.topic)?.get_mut(&at.partition).filter(|e| e.generation == generation)
    }

    /// The partitions whose claim is due: each is asked for once.
    pub fn due_claims(&mut self, now: Duration) -> Vec<(TopicPartition, u64, Option<i64>)> {
        let mut due = Vec::new();
        for entry in self.iter_mut() {
            if matches!(entry.phase, Phase::Claiming { due: Some(t) } if t <= now) {
                entry.phase = Phase::Claiming { due: None };
                due.push((entry.at.clone(), entry.generation, entry.memory()));
            }
        }
        due
    }

    /// A claim succeeded: the partition's records flow from `position` on, under this same generation.
    pub fn opened(&mut self, generation: u64, position: i64, epoch: i64) {
        if let Some(entry) = self.of_mut(generation) {
            entry.phase = Phase::Open;
            entry.ledger = Some(Ledger::new(position));
            entry.epoch = epoch;
            entry.held = false;
            entry.seeks_refused = 0;
            // A rollback: Kafka is told at once.
            entry.committed = entry.committed.filter(|c| *c <= position);
        }
    }

    /// Claims again under a new generation, after a wait that grows with each such claim.
    pub fn reclaim(&mut self, generation: u64, now: Duration, jitter: f64) {
        let Some(at) = self.of(generation).map(|e| e.at.clone()) else { return };
        let renewed = self.number(&at);
        self.generations.remove(&generation);
        if let Some(entry) = self.topics.get_mut(&at.topic).and_then(|t| t.get_mut(&at.partition)) {
            entry.generation = renewed;
            entry.held = false;
            entry.phase = Phase::Claiming { due: Some(now + entry.backoff.next(jitter)) };
        }
    }

    /// librdkafka refused to seek; returns how many times in a row.
    pub fn seek_refused(&mut self, generation: u64) -> u32 {
        self.of_mut(generation).map_or(0, |entry| {
            entry.seeks_refused += 1;
            entry.seeks_refused
        })
    }

    pub fn halt(&mut self, generation: u64, code: &'static str, reason: String) {
        if let Some(entry) = self.of_mut(generation) {
            entry.phase = Phase::Halted { code, reason };
        }
    }

    pub fn hold(&mut self, generation: u64, hold: bool) {
        if let Some(entry) = self.of_mut(generation) {
            entry.held = hold;
        }
    }

    /// A settled range of one generation; one of an older generation is another owner's business by now.
    ///
    /// # Errors
    /// The range does not continue what is settled: a bug.
    pub fn settle(&mut self, generation: u64, range: Range<i64>) -> Result<(), super::ledger::NotContiguous> {
        let Some(entry) = self.of_mut(generation) else { return Ok(()) };
        entry.backoff.reset();
        entry.ledger.as_mut().map_or(Ok(()), |ledger| ledger.settle(range))
    }

    /// Begins to let a partition go; returns the lane that must answer, if it has one.
    pub fn closing(&mut self, topic: &str, partition: i32) -> Option<(usize, u64)> {
        let entry = self.topics.get_mut(topic)?.get_mut(&partition)?;
        let open = entry.phase == Phase::Open;
        entry.phase = Phase::Closing;
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
        self.full[lane] = full;
    }

    pub fn is_full(&self, lane: usize) -> bool {
        self.full[lane]
    }

    /// The partitions to pause and to resume now, so that just those are fetched that are open, not held, and on a
    /// lane with room.
    pub fn sync_pauses(&mut self) -> (Vec<TopicPartition>, Vec<TopicPartition>) {
        let full = self.full.clone();
        let (mut pause, mut resume) = (Vec::new(), Vec::new());
        for entry in self.iter_mut() {
            let wanted = entry.phase != Phase::Open || entry.held || full[entry.lane];
            if wanted != entry.paused {
                entry.paused = wanted;
                if wanted { &mut pause } else { &mut resume }.push(entry.at.clone());
            }
        }
        (pause, resume)
    }

    /// The partitions whose position Kafka does not know yet. Takes note that it will.
    pub fn to_commit(&mut self) -> Vec<(TopicPartition, i64)> {
        let mut commits = Vec::new();
        for entry in self.iter_mut() {
            let Some(position) = entry.memory() else { continue };
            if entry.committed != Some(position) {
                entry.committed = Some(position);
                commits.push((entry.at.clone(), position));
            }
        }
        commits
    }

    /// What Kafka holds as committed. Where it still differs from what was sent after `patience`, it is sent again.
    pub fn seen_committed(&mut self, topic: &str, partition: i32, offset: i64, now: Duration, patience: Duration) {
        let Some(entry) = self.topics.get_mut(topic).and_then(|t| t.get_mut(&partition)) else { return };
        if entry.committed.is_none() || entry.committed == Some(offset) {
            entry.differs_since = None;
        } else if now >= *entry.differs_since.get_or_insert(now) + patience {
            (entry.committed, entry.differs_since) = (None, None);
        }
    }

    /// A commit failed: what it held is committed again.
    pub fn uncommitted(&mut self, topic: &str, partition: i32) {
        if let Some(entry) = self.topics.get_mut(topic).and_then(|t| t.get_mut(&partition)) {
            entry.committed = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(flow: &mut Flow, partition: i32) -> u64 {
        flow.assign(TopicPartition::new("t", partition));
        let (_, generation, _) = flow.due_claims(Duration::ZERO).pop().unwrap();
        flow.opened(generation, 10, 1);
        generation
    }

    #[test]
    fn nothing_is_committed_before_it_is_settled_and_nothing_twice() {
        let mut flow = Flow::new(1);
        flow.assign(TopicPartition::new("t", 0));
        assert!(flow.to_commit().is_empty());
        let generation = flow.due_claims(Duration::ZERO)[0].1;
        flow.opened(generation, 10, 1);
        flow.settle(generation, 10..12).unwrap();
        assert_eq!(flow.to_commit(), vec![(TopicPartition::new("t", 0), 12)]);
        assert!(flow.to_commit().is_empty());
        flow.uncommitted("t", 0);
        assert_eq!(flow.to_commit().len(), 1);
    }

    #[test]
    fn a_commit_that_kafka_never_shows_is_sent_again() {
        let mut flow = Flow::new(1);
        open(&mut flow, 0);
        assert_eq!(flow.to_commit().len(), 1);
        let at = Duration::from_secs;
        for (now, seen, again) in [(0, 9, 0), (2, 9, 0), (3, 9, 1), (4, 10, 0), (60, 10, 0)] {
            flow.seen_committed("t", 0, seen, at(now), at(3));
            assert_eq!(flow.to_commit().len(), again, "after {now} s");
        }
    }

    #[test]
    fn what_an_older_generation_settles_is_ignored() {
        let mut flow = Flow::new(1);
        let old = open(&mut flow, 0);
        flow.reclaim(old, Duration::ZERO, 0.0);
        flow.settle(old, 10..20).unwrap();
        assert_eq!(flow.get("t", 0).unwrap().memory(), Some(10));
        assert!(flow.of(old).is_none());
        assert_eq!(flow.due_claims(Backoff::LONGEST)[0].2, Some(10));
    }

    #[test]
    fn only_open_partitions_of_lanes_with_room_are_fetched() {
        let mut flow = Flow::new(1);
        let generation = open(&mut flow, 0);
        assert_eq!(flow.sync_pauses().1.len(), 1);
        flow.set_full(0, true);
        assert_eq!(flow.sync_pauses().0.len(), 1);
        flow.set_full(0, false);
        flow.hold(generation, true);
        assert_eq!(flow.sync_pauses(), (vec![], vec![]));
        flow.hold(generation, false);
        assert_eq!(flow.sync_pauses().1.len(), 1);
        flow.halt(generation, "poison", String::new());
        assert_eq!(flow.sync_pauses().0.len(), 1);
    }
}
