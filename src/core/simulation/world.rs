//! Two bridges, a Kafka and a Redis, and everything that may befall them.
use super::bridge::{Bridge, Fate, Kafka, Late, TOPIC};
use super::model::{Data, Redis};
use super::random::Random;
use crate::core::lane::Letters;
use crate::core::record::{Record, TopicPartition};
use crate::core::state::StateKey;
use std::collections::BTreeMap;
use std::time::Duration;

const PARTITIONS: usize = 3;
const RECORDS: usize = 40;
const BRIDGES: usize = 2;
/// Steps with faults, and the steps in which all must be settled once they end.
const FAULTY: usize = 600;
const CALM: usize = 20_000;

/// Which faults a run has: a subset finds more than all at once.
#[derive(Clone, Copy, Debug)]
struct Faults {
    cuts: bool,
    late: bool,
    refusals: bool,
    rollbacks: bool,
    crashes: bool,
    zombies: bool,
    moves: bool,
    /// No fault, but another place for dead letters: a topic, which gets them at least once.
    topic: bool,
}

pub(crate) struct World {
    random: Random,
    faults: Faults,
    kafka: Kafka,
    redis: Redis,
    late: Late,
    bridges: Vec<Bridge>,
    /// Who owns each partition, as Kafka sees it, and who does not know yet that it does no more.
    owners: Vec<usize>,
    zombies: Vec<(usize, i32)>,
    snapshot: Option<Data>,
    /// The dead-letter topic.
    buried: Vec<(i32, i64)>,
    rolled_back: bool,
    fresh: usize,
    now: Duration,
    /// What happened, for a seed that fails.
    pub(crate) trace: Vec<String>,
}

fn key(partition: i32) -> StateKey {
    StateKey::partition("b", "g", &TopicPartition::new(TOPIC, partition))
}

fn log(random: &mut Random, partition: i32) -> Vec<Record> {
    let mut offset = 0;
    let record = |_| {
        // A hole now and then: compaction, markers.
        offset += if random.percent(15) { 2 } else { 1 };
        let (name, payload) = match random.below(20) {
            0 => ("k0", "{".to_owned()),
            1 => ("bad", format!(r#"{{"o":{offset}}}"#)),
            n => (["k0", "k1", "k2"][n % 3], format!(r#"{{"o":{offset}}}"#)),
        };
        Record::copy(TopicPartition::new(TOPIC, partition), offset - 1, Some(offset), Some(name.as_bytes()), Some(payload.as_bytes()), [])
    };
    (0..RECORDS).map(record).collect()
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut any = || random.percent(50);
        let faults = Faults {
            cuts: any(),
            late: any(),
            refusals: any(),
            rollbacks: any(),
            crashes: any(),
            zombies: any(),
            moves: any(),
            topic: Random::new(!seed).percent(30),
        };
        let logs = (0..i32::try_from(PARTITIONS).unwrap()).map(|p| log(&mut random, p)).collect();
        let mut redis = Redis::default();
        redis.data.occupied.extend((0..PARTITIONS).map(|p| format!("s:{p}:bad").into_bytes()));
        let mut world = Self {
            random,
            faults,
            kafka: Kafka { logs, commits: BTreeMap::new() },
            redis,
            late: Vec::new(),
            bridges: Vec::new(),
            owners: Vec::new(),
            zombies: Vec::new(),
            snapshot: None,
            buried: Vec::new(),
            rolled_back: false,
            fresh: 0,
            now: Duration::ZERO,
            trace: vec![format!("{faults:?}")],
        };
        for _ in 0..BRIDGES {
            let bridge = world.bridge();
            world.bridges.push(bridge);
        }
        for partition in 0..PARTITIONS {
            let owner = world.random.below(BRIDGES);
            world.owners.push(owner);
            world.assign(owner, i32::try_from(partition).unwrap());
        }
        world
    }

    fn bridge(&mut self) -> Bridge {
        self.fresh += 2;
        let letters = if self.faults.topic { Letters::Topic } else { Letters::Stream { name: "dead".into(), maxlen: None } };
        Bridge::new(&format!("owner-{}", self.fresh), letters, [self.fresh - 1, self.fresh], self.now)
    }

    fn assign(&mut self, bridge: usize, partition: i32) {
        self.bridges[bridge].flow.assign(TopicPartition::new(TOPIC, partition));
    }

    /// Runs it through; panics where a promise is broken.
    pub(crate) fn run(&mut self) {
        for _ in 0..FAULTY {
            self.befall();
            self.work(true);
        }
        self.redis.refuses = None;
        while !self.late.is_empty() {
            self.apply_late();
        }
        for (bridge, partition) in std::mem::take(&mut self.zombies) {
            self.wake(bridge, partition);
        }
        for _ in 0..CALM {
            self.work(false);
            if self.finished() {
                return self.judge();
            }
        }
        panic!("not everything is settled: {:?}", self.positions());
    }

    fn positions(&self) -> Vec<Option<String>> {
        (0..i32::try_from(PARTITIONS).unwrap()).map(|p| self.redis.field(&key(p).0, "offset")).collect()
    }

    /// Settled to the end, and nothing is left to look at.
    fn finished(&self) -> bool {
        (0..i32::try_from(PARTITIONS).unwrap()).all(|p| {
            let field = |f| self.redis.field(&key(p).0, f).unwrap_or_default();
            field("offset") == self.kafka.end(p).to_string() && field("unread").is_empty()
        })
    }

    /// One bridge does one thing.
    fn work(&mut self, faulty: bool) {
        self.now += Duration::from_millis(u64::try_from(self.random.below(80)).unwrap());
        let b = self.random.below(BRIDGES);
        let fate = if faulty { self.fate() } else { Fate::Answered };
        let bridge = &mut self.bridges[b];
        bridge.now = self.now;
        match self.random.below(10) {
            0..=1 => bridge.claim(&self.kafka, &mut self.redis, &mut self.late, fate, &mut self.fresh),
            2..=3 => bridge.fetch(&self.kafka, &mut self.random),
            4 => self.commit(b),
            _ => _ = bridge.step(&mut self.redis, &mut self.late, fate, &mut self.fresh),
        }
        self.buried.append(&mut self.bridges[b].buried);
        if fate != Fate::Answered {
            self.trace.push(format!("bridge {b}: {fate:?}"));
        }
    }

    fn fate(&mut self) -> Fate {
        match self.random.below(100) {
            0..=2 if self.faults.cuts => Fate::Lost,
            3..=5 if self.faults.cuts => Fate::Unanswered,
            6..=8 if self.faults.late => Fate::Late,
            _ => Fate::Answered,
        }
    }

    fn commit(&mut self, b: usize) {
        for (at, position, mark) in self.bridges[b].take_commits() {
            // A zombie's commit is refused by the coordinator.
            if self.owners[usize::try_from(at.partition).unwrap()] != b {
                continue;
            }
            let state: i64 = self.redis.field(&key(at.partition).0, "offset").and_then(|o| o.parse().ok()).unwrap_or(-1);
            assert!(self.rolled_back || position <= state, "committed {position} of {at} above the state's {state}");
            self.kafka.commits.insert(at.partition, (position, mark));
        }
    }

    /// Something befalls them, or nothing.
    fn befall(&mut self) {
        let f = self.faults;
        match self.random.below(100) {
            0 if f.crashes => self.crash(),
            1 if f.moves => self.rebalance(false),
            2 if f.zombies => self.rebalance(true),
            3 if !self.zombies.is_empty() => {
                let (bridge, partition) = self.zombies.swap_remove(0);
                self.wake(bridge, partition);
            }
            4 if f.refusals => {
                self.redis.refuses = match self.redis.refuses {
                    Some(_) => None,
                    None => Some(
                        ["OOM command not allowed when used memory > 'maxmemory'.", "READONLY You can't write against a read only replica."]
                            [self.random.below(2)],
                    ),
                };
                self.trace.push(format!("Redis refuses: {:?}", self.redis.refuses));
            }
            5 if f.rollbacks && self.positions().iter().all(Option::is_some) => {
                self.trace.push("snapshot".into());
                self.snapshot = Some(self.redis.data.clone());
            }
            6 if f.rollbacks => self.roll_back(),
            7..=12 => self.apply_late(),
            13 => self.now += Duration::from_secs(u64::try_from(self.random.below(15)).unwrap()),
            _ => {}
        }
    }

    fn apply_late(&mut self) {
        if self.late.is_empty() {
            return;
        }
        let (connection, bytes) = self.late.remove(0);
        self.trace.push("late commands arrive".into());
        self.redis.serve(connection, &bytes);
        self.redis.drop_connection(connection);
    }

    /// Killed, or stopped with a drain that may not end in time; then started again.
    fn crash(&mut self) {
        let b = self.random.below(BRIDGES);
        let drains = self.random.percent(40);
        self.trace.push(format!("bridge {b} {}", if drains { "drains" } else { "crashes" }));
        if drains {
            let steps = self.random.below(40);
            self.bridges[b].drain(&mut self.redis, &mut self.late, steps, &mut self.fresh);
            self.commit(b);
        }
        self.buried.append(&mut self.bridges[b].buried);
        self.bridges[b] = self.bridge();
        self.zombies.retain(|(z, _)| *z != b);
        for partition in 0..PARTITIONS {
            if self.owners[partition] == b {
                self.assign(b, i32::try_from(partition).unwrap());
            }
        }
    }

    /// Moves a partition; as a zombie its former owner is not told.
    fn rebalance(&mut self, zombie: bool) {
        let p = self.random.below(PARTITIONS);
        let (partition, from) = (i32::try_from(p).unwrap(), self.owners[p]);
        let to = (from + 1) % BRIDGES;
        if self.zombies.contains(&(to, partition)) {
            return;
        }
        self.trace.push(format!("{TOPIC}[{p}] moves to bridge {to}, zombie {zombie}"));
        if zombie {
            self.zombies.push((from, partition));
        } else {
            let steps = self.random.below(6);
            self.bridges[from].let_go(partition, &mut self.redis, &mut self.late, steps, &mut self.fresh);
            self.commit(from);
            self.bridges[from].flow.remove(TOPIC, partition);
        }
        self.owners[p] = to;
        self.assign(to, partition);
    }

    /// A zombie hears that a partition is no longer its own.
    fn wake(&mut self, bridge: usize, partition: i32) {
        self.trace.push(format!("bridge {bridge} hears that it lost {TOPIC}[{partition}]"));
        self.bridges[bridge].let_go(partition, &mut self.redis, &mut self.late, 3, &mut self.fresh);
        self.bridges[bridge].flow.remove(TOPIC, partition);
    }

    fn roll_back(&mut self) {
        let Some(data) = self.snapshot.take() else { return };
        self.trace.push("Redis restarts with an older state".into());
        self.rolled_back = true;
        // What is still on its way dies with its connection.
        self.late.clear();
        self.redis.restart_with(data);
        for b in 0..BRIDGES {
            self.bridges[b].disconnect(&mut self.redis, &mut self.fresh);
        }
    }

    /// Compares what Redis holds with what was produced: each record once, in order, each dead one as one letter.
    fn judge(&mut self) {
        for bridge in &mut self.bridges {
            self.buried.append(&mut bridge.buried);
        }
        let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut letters = Vec::new();
        for record in self.kafka.logs.iter().flatten() {
            let name = String::from_utf8_lossy(record.key().unwrap()).into_owned();
            let offset = record.offset.to_string();
            if name == "bad" || record.payload() == Some(b"{") {
                letters.push((record.at.partition.to_string(), offset));
            } else {
                expected.entry(format!("s:{}:{name}", record.at.partition)).or_default().push((record.offset + 1).to_string());
            }
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let stored = |key: &String| self.redis.data.streams.get(key.as_bytes()).into_iter().flatten();
        for (key, offsets) in &expected {
            let found: Vec<String> = stored(key).map(|entry| text(&entry[2])).collect();
            assert_eq!(found, *offsets, "{key}");
        }
        let field = |entry: &Vec<Vec<u8>>, name: &str| entry[1..].chunks(2).find(|p| p[0] == name.as_bytes()).map(|p| text(&p[1])).unwrap_or_default();
        let mut found: Vec<_> = stored(&"dead".to_owned()).map(|entry| (field(entry, "partition"), field(entry, "offset"))).collect();
        if self.faults.topic {
            found = self.buried.iter().map(|(p, o)| (p.to_string(), o.to_string())).collect();
        }
        found.sort();
        if self.faults.topic {
            found.dedup();
        }
        letters.sort();
        assert_eq!(found, letters, "the dead letters");
    }
}
