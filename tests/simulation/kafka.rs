//! A model of Kafka: logs with holes that grow while they are read, commits, and who owns what.
use super::random::Random;
use crate::core::claim::{Commit, Marked};
use crate::core::claimer::LogFacts;
use crate::core::record::{Record, TopicPartition};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(crate) const TOPIC: &str = "t";
pub(crate) const PARTITIONS: i32 = 4;
const RECORDS: usize = 40;

pub(crate) fn at(partition: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, partition)
}

/// What a record is meant to become.
pub(crate) fn is_bad(record: &Record) -> bool {
    record.key() == Some(b"bad") || record.payload() == Some(b"{")
}

/// What a fetch brings.
#[derive(Clone, Debug)]
enum Item {
    Record(Record),
    Marker(i64),
}

impl Item {
    fn offset(&self) -> i64 {
        match self {
            Self::Record(record) => record.offset,
            Self::Marker(offset) => *offset,
        }
    }
}

/// One partition's log.
pub(crate) struct Log {
    /// All records that it will have; those that compaction removed are gone.
    records: Vec<Record>,
    /// Where transactions end, by a commit or after aborted records, which nobody sees.
    markers: BTreeSet<i64>,
    /// The offset after the last one, and after what transaction markers follow it.
    full: i64,
    /// How far the producers are.
    pub(crate) end: i64,
    pub(crate) low: i64,
}

impl Log {
    /// `deletes`: some records have no value.
    pub(crate) fn new(random: &mut Random, partition: i32, life: i64, deletes: bool) -> Self {
        // Some have hardly more than aborted transactions, before their records or in place of them. Chance of its own: what
        // else a seed does is not changed by it.
        let mut hidden = random.clone();
        let empty = hidden.percent(10);
        let mut offset = if empty || hidden.percent(20) { 8 } else { 0 };
        let mut record = |_| {
            // A hole now and then: compaction, markers.
            offset += if random.percent(15) { 2 } else { 1 };
            let numbered = Some(format!(r#"{{"o":{offset},"life":{life}}}"#));
            let (name, payload) = match random.below(20) {
                0 => ("k0", Some("{".to_owned())),
                1 => ("bad", numbered),
                2 | 3 if deletes => ("k1", None),
                n => (["k0", "k1", "k2"][n % 3], numbered),
            };
            Record::copy(at(partition), offset - 1, Some(offset - 1 + 1000 * life), Some(name.as_bytes()), payload.as_deref().map(str::as_bytes), [])
        };
        let mut records: Vec<Record> = (0..RECORDS).map(&mut record).collect();
        let mut full = offset + i64::try_from(random.below(3)).unwrap();
        if empty {
            records.clear();
            full = 8;
        }
        let bare = |o: &i64| records.iter().all(|r| r.offset != *o);
        // Of each run without a record the last is a marker, behind aborted records.
        let markers = (0..full).filter(bare).filter(|o| *o + 1 == full || !bare(&(o + 1))).collect();
        Self { records, markers, full, end: 0, low: 0 }
    }

    /// What the client is given from an offset on: a record, or where nothing is to be seen any more.
    fn items(&self, from: i64) -> impl Iterator<Item = Item> {
        let mut all: Vec<Item> = self.from(from).cloned().map(Item::Record).collect();
        all.extend(self.markers.range(from..self.end.max(from)).map(|o| Item::Marker(*o)));
        all.sort_by_key(Item::offset);
        all.into_iter()
    }

    /// More is produced: the next record, or what markers stand before it.
    pub(crate) fn produce(&mut self, n: usize) {
        for _ in 0..n {
            let next = self.records.iter().map(|r| r.offset).find(|o| *o >= self.end);
            self.end = match next {
                Some(offset) if offset > self.end => offset,
                Some(offset) => offset + 1,
                None => self.full,
            };
        }
    }

    /// The records from an offset on that are produced.
    pub(crate) fn from(&self, offset: i64) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(move |r| r.offset >= offset && r.offset < self.end)
    }

    pub(crate) fn all(&self) -> &[Record] {
        &self.records
    }

    /// Removes some record that is not the last one of its key.
    pub(crate) fn compact(&mut self, random: &mut Random) {
        let n = random.below(self.records.len());
        let Some(record) = self.records.get(n) else { return };
        if record.offset < self.end && self.from(record.offset + 1).any(|r| r.key() == record.key()) {
            self.records.remove(n);
        }
    }
}

/// See the module's documentation.
pub(crate) struct Kafka {
    pub(crate) logs: Vec<Log>,
    /// How many partitions there are by now.
    pub(crate) present: i32,
    /// Where a new group begins.
    pub(crate) start: i64,
    pub(crate) compacted: bool,
    pub(crate) commits: BTreeMap<i32, (i64, String)>,
    /// Which bridge owns each partition, as the coordinator sees it.
    pub(crate) owners: Vec<usize>,
    /// The dead-letter topic.
    pub(crate) letters: Vec<(i32, i64, &'static str)>,
    /// Brokers can't be reached.
    pub(crate) away: bool,
}

impl Kafka {
    pub(crate) fn log(&self, partition: i32) -> &Log {
        &self.logs[usize::try_from(partition).unwrap()]
    }

    pub(crate) fn facts(&self, partition: i32) -> LogFacts {
        let log = self.log(partition);
        let commit = self.commits.get(&partition).map(|(offset, mark)| Commit { offset: *offset, ours: Marked::decode(mark) });
        LogFacts { low: log.low, high: log.end, commit, start: self.start, partitions: self.present }
    }

    pub(crate) fn owner(&self, partition: i32) -> usize {
        self.owners[usize::try_from(partition).unwrap()]
    }
}

/// A partition as the client library has it.
#[derive(Debug)]
pub(crate) struct Fetch {
    /// The next offset that the application gets a record from.
    next: i64,
    /// Everything below was handed out since it was last sought, markers to nobody.
    pub(crate) passed: Option<i64>,
    /// The next offset to be fetched.
    ahead: i64,
    pub(crate) paused: bool,
    /// Goes up when it is sought or resumed: what was fetched for an older one is thrown away.
    version: u64,
    /// Its offset was out of range.
    pub(crate) stalled: bool,
}

impl Fetch {
    pub(crate) fn new(next: i64, version: u64) -> Self {
        Self { next, passed: None, ahead: next, paused: true, version, stalled: false }
    }

    pub(crate) fn seek(&mut self, to: i64) {
        (self.next, self.passed, self.ahead, self.version) = (to, None, to, self.version + 1);
    }

    /// Goes on where it was left, which the application must know as well: it seeks there.
    /// `open`: it was not assigned anew since that was asked for, to be claimed again.
    pub(crate) fn resume(&mut self, next: i64, open: bool) {
        assert!(!open || next == self.next, "a resumed partition goes on behind what was polled: {next}, {}", self.next);
        self.paused = false;
        self.seek(next);
    }

    /// The fetching thread does something for it: some records more for the queue.
    fn fetch(&mut self, log: &Log, n: usize) -> Vec<(u64, Item)> {
        let mut fetched = Vec::new();
        if self.ahead < log.low || self.ahead > log.end {
            self.stalled = true;
        } else if !self.paused && !self.stalled {
            fetched.extend(log.items(self.ahead).take(n).map(|item| (self.version, item)));
            let all = fetched.len() < n;
            self.ahead = if all { log.end } else { fetched.last().map_or(self.ahead, |(_, item)| item.offset() + 1) };
        }
        fetched
    }
}

/// The client library of one process: its partitions, and the one queue from which they are polled.
#[derive(Debug, Default)]
pub(crate) struct Client {
    pub(crate) fetches: BTreeMap<i32, Fetch>,
    queue: VecDeque<(i32, u64, Item)>,
    versions: u64,
}

impl Client {
    pub(crate) fn assign(&mut self, partition: i32, place: i64) {
        self.versions += 1_000_000;
        self.fetches.insert(partition, Fetch::new(place, self.versions));
    }

    /// The fetching thread's round.
    pub(crate) fn fetch(&mut self, kafka: &Kafka, random: &mut Random) {
        for (partition, fetch) in &mut self.fetches {
            let fetched = fetch.fetch(kafka.log(*partition), random.below(8));
            self.queue.extend(fetched.into_iter().map(|(version, item)| (*partition, version, item)));
        }
    }

    pub(crate) fn poll(&mut self) -> Option<Record> {
        while let Some((partition, version, item)) = self.queue.pop_front() {
            if let Some(fetch) = self.fetches.get_mut(&partition).filter(|f| f.version == version && !f.paused) {
                fetch.passed = Some(item.offset() + 1);
                if let Item::Record(record) = item {
                    fetch.next = record.offset + 1;
                    return Some(record);
                }
            }
        }
        None
    }
}
