//! Two bridges, a Kafka, a Redis and the wires between, and everything that may befall them.
use super::bridge::Bridge;
use super::faults::Faults;
use super::job::Job;
use super::kafka::{Kafka, Log, PARTITIONS, at};
use super::net::Net;
use super::oracle;
use super::random::Random;
use super::server::{Data, Dialect, Redis};
use crate::core::poller::Note;
use crate::core::record::TopicPartition;
use crate::core::state::StateKey;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Where a group begins that begins late.
pub(crate) const LATE_START: i64 = 3;
/// Steps in which all must be settled once the faults have ended.
const CALM: usize = 60_000;

/// A commit on its way to the coordinator.
pub(crate) struct CommitRequest {
    pub(crate) bridge: usize,
    pub(crate) life: usize,
    pub(crate) positions: Vec<(TopicPartition, i64)>,
    pub(crate) mark: String,
    pub(crate) awaited: bool,
}

/// What all have in common.
pub(crate) struct Env {
    pub(crate) random: Random,
    pub(crate) faults: Faults,
    pub(crate) net: Net,
    pub(crate) kafka: Kafka,
    pub(crate) now: Duration,
    pub(crate) commits: VecDeque<CommitRequest>,
    /// Processes started.
    pub(crate) lives: usize,
    /// The faults have ended.
    pub(super) calm: bool,
    trace: Vec<String>,
}

impl Env {
    pub(crate) fn trace(&mut self, line: impl FnOnce() -> String) {
        if self.faults.traced {
            self.trace.push(format!("{:>7} ms  {}", self.now.as_millis(), line()));
        }
    }

    /// Whether somebody who waits for Redis waits no longer.
    pub(crate) fn gives_up(&mut self) -> bool {
        !self.calm && self.faults.cuts && self.random.percent(2)
    }

    pub(crate) fn seek_is_refused(&mut self) -> bool {
        !self.calm && self.faults.seeks && (self.kafka.away || self.random.percent(20))
    }
}

pub(crate) struct World {
    pub(crate) env: Env,
    pub(super) bridges: Vec<Bridge>,
    /// Who was not told yet that it lost a partition.
    pub(super) zombies: Vec<(usize, i32)>,
    pub(super) replica: Option<Data>,
    /// How far each partition's state has ever come, on any server: what explains a commit above it once Redis has gone
    /// back.
    pub(super) reached: BTreeMap<i32, i64>,
    /// Redis has gone back since.
    pub(super) went_back: bool,
    /// Partitions that are to end halted, and by which code.
    pub(crate) condemned: BTreeMap<i32, &'static [&'static str]>,
    /// What a condemned partition had in its log before.
    pub(crate) former: BTreeMap<i32, Log>,
    /// What is applied again beside the bridges.
    pub(crate) job: Option<Job>,
}

/// Some keys are of another type than who writes them expects, a bridge or a job.
pub(super) fn occupy(redis: &mut Redis) {
    (0..PARTITIONS).flat_map(|p| ["s", "a"].map(|of| format!("{of}:{p}:bad"))).for_each(|key| redis.occupy(key.as_bytes()));
}

pub(crate) fn key(partition: i32) -> StateKey {
    StateKey::partition("b", "g", &at(partition))
}

impl World {
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        let mut random = Random::new(seed);
        let mut logs: Vec<Log> = (0..PARTITIONS).map(|p| Log::new(&mut random, p, 0, faults.job)).collect();
        if faults.quiet {
            logs.iter_mut().for_each(|log| log.produce(1000));
        }
        let count = if faults.third { 3 } else { 2 };
        let owners = (0..PARTITIONS).map(|_| random.below(count)).collect();
        let (present, start) = if faults.grows { (PARTITIONS - 1, LATE_START) } else { (PARTITIONS, 0) };
        if faults.grows {
            logs.iter_mut().for_each(|log| log.produce(6));
        }
        let kafka = Kafka { logs, present, start, compacted: faults.compaction, commits: BTreeMap::new(), owners, letters: Vec::new(), away: false };
        let mut net = Net::new([Dialect::Redis6, Dialect::Redis7, Dialect::Valkey8][random.below(3)]);
        occupy(net.redis());
        let mut env = Env { random, faults, net, kafka, now: Duration::ZERO, commits: VecDeque::new(), lives: 0, calm: false, trace: Vec::new() };
        let bridges = (0..count).map(|id| Bridge::new(id, &mut env)).collect();
        let mut world = Self {
            env,
            bridges,
            zombies: Vec::new(),
            replica: None,
            reached: BTreeMap::new(),
            went_back: false,
            condemned: BTreeMap::new(),
            former: BTreeMap::new(),
            job: None,
        };
        for partition in 0..present {
            world.bridges[world.env.kafka.owner(partition)].assign(partition);
        }
        world
    }

    /// Runs it through; panics where a promise is broken.
    pub(crate) fn run(&mut self) {
        for step in 0..self.env.faults.steps {
            self.befall();
            self.work();
            if step % 32 == 0 {
                oracle::consistent(self);
            }
        }
        self.calm_down();
        for step in 0..CALM {
            self.work();
            if step % 16 == 0 {
                oracle::consistent(self);
                self.attend();
                if self.finished() {
                    return oracle::judge(self);
                }
            }
        }
        let standing = |p: i32| {
            let bridge = &self.bridges[self.env.kafka.owner(p)];
            format!("[{p}] of {} {:?}, committed {:?}, {}", self.env.kafka.log(p).end, self.state(p), self.env.kafka.commits.get(&p), bridge.standing(p))
        };
        panic!("no progress once the faults have ended: {}", (0..PARTITIONS).map(standing).collect::<Vec<_>>().join("; "));
    }

    pub(crate) fn take_trace(&mut self) -> Vec<String> {
        std::mem::take(&mut self.env.trace)
    }

    /// Every fault ends.
    fn calm_down(&mut self) {
        self.env.calm = true;
        self.env.trace(|| "the faults end".into());
        self.env.net.redis().refuses = None;
        self.env.net.redis().denies = None;
        self.env.net.end_split();
        self.env.kafka.away = false;
        for log in &mut self.env.kafka.logs {
            log.produce(1000);
        }
        while !self.env.net.is_quiet() {
            self.env.net.serve(&mut self.env.random);
        }
        for (bridge, partition) in std::mem::take(&mut self.zombies) {
            self.wake(bridge, partition);
        }
    }

    /// A person restarts what needs a person.
    fn attend(&mut self) {
        self.add_partition();
        if self.env.faults.job {
            if self.job.is_none() {
                self.plan_job();
            }
            if !self.job_is_worked_on() {
                self.start_job();
            }
        }
        for b in 0..self.bridges.len() {
            // What is to end halted is left alone once it is, for the reason that it must be.
            let due = |p: &i32, code: &str| self.condemned.get(p).is_some_and(|codes| codes.contains(&code));
            let halted = (0..PARTITIONS).find_map(|p| self.bridges[b].halted(p).filter(|code| !due(&p, code)));
            if let Some(code) = halted {
                let f = self.env.faults;
                assert!((f.denials || f.permissions) && ["refused", "dead-letter-refused"].contains(&code), "halted without a reason: {code}");
                // Not by a kill: with the ACL changing under it, nothing could tell what a write's unread reply was.
                self.bridges[b].drain(usize::MAX, &mut self.env);
                self.restart(b);
            }
        }
    }

    pub(crate) fn position(&self, partition: i32) -> Option<i64> {
        self.env.net.master().field(&key(partition).0, "offset").and_then(|o| o.parse().ok())
    }

    /// A partition's state in Redis.
    pub(crate) fn state(&self, partition: i32) -> BTreeMap<String, String> {
        let fields = ["owner", "offset", "unread"];
        fields.iter().map(|f| ((*f).to_owned(), self.env.net.master().field(&key(partition).0, f).unwrap_or_default())).collect()
    }

    pub(super) fn positions(&self) -> Vec<Option<i64>> {
        (0..PARTITIONS).map(|p| self.position(p)).collect()
    }

    /// Settled and committed to the end, and nothing is left to look at.
    fn finished(&self) -> bool {
        let job = !self.env.faults.job || self.job_status().as_deref() == Some("complete");
        job && (0..PARTITIONS).all(|p| {
            if let Some(codes) = self.condemned.get(&p) {
                return self.bridges[self.env.kafka.owner(p)].halted(p).is_some_and(|code| codes.contains(&code));
            }
            let end = self.env.kafka.log(p).end;
            let committed = self.env.kafka.commits.get(&p).map(|(offset, _)| *offset);
            let read = self.env.net.master().field(&key(p).0, "unread").is_some_and(|u| u.is_empty());
            self.position(p) == Some(end) && committed == Some(end) && read
        })
    }

    /// One thing is done by somebody.
    fn work(&mut self) {
        self.env.now += Duration::from_millis(self.env.random.below(60).try_into().unwrap());
        if self.job_is_worked_on() && self.env.random.percent(30) {
            return self.work_on_job();
        }
        let env = &mut self.env;
        match env.random.below(20) {
            0..=6 => {
                env.net.serve(&mut env.random);
                self.look();
            }
            7 => self.commit(),
            8 => {
                let p = env.random.below(env.kafka.logs.len());
                env.kafka.logs[p].produce(env.random.below(6));
            }
            _ => {
                let b = env.random.below(self.bridges.len());
                self.bridges[b].step(env);
            }
        }
    }

    /// After each step of a server: how far its states have come.
    pub(super) fn look(&mut self) {
        for partition in 0..PARTITIONS {
            let key = key(partition);
            let positions = self.env.net.servers().filter_map(|s| s.field(&key.0, "offset")?.parse::<i64>().ok());
            if let Some(farthest) = positions.max() {
                let reached = self.reached.entry(partition).or_insert(farthest);
                *reached = farthest.max(*reached);
            }
        }
    }

    /// Redis is about to lose something.
    pub(super) fn goes_back(&mut self) {
        self.look();
        self.went_back = true;
    }

    /// The coordinator takes a commit, or refuses it: a zombie's, one of a process that is gone.
    pub(super) fn commit(&mut self) {
        let Some(request) = self.env.commits.pop_front() else { return };
        self.look();
        let CommitRequest { bridge, life, positions, mark, awaited } = request;
        let fails = !self.env.calm && self.env.faults.commits && self.env.random.percent(20);
        let known = positions.iter().all(|(at, _)| self.env.kafka.owner(at.partition) == bridge) && self.bridges[bridge].life == life;
        let taken = known && !fails && !self.env.kafka.away;
        for (at, position) in positions.into_iter().filter(|_| taken) {
            let state = self.position(at.partition).unwrap_or(-1);
            let explained = if self.went_back { self.reached.get(&at.partition).copied().unwrap_or(-1) } else { state };
            assert!(position <= explained, "committed {position} of {at} above the state's {state}, which never came farther than {explained}");
            self.env.kafka.commits.insert(at.partition, (position, mark.clone()));
        }
        if awaited && self.bridges[bridge].life == life {
            self.bridges[bridge].hear(Note::Committed(if taken { Ok(()) } else { Err("refused".into()) }));
        }
    }

    pub(crate) fn life(&self, bridge: usize) -> usize {
        self.bridges[bridge].life
    }
}
