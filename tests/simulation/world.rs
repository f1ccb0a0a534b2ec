//! Two bridges, a Kafka, a Redis and the wires between, and everything that may befall them.
use super::bridge::Bridge;
use super::faults::Faults;
use super::kafka::{Kafka, Log, PARTITIONS, at};
use super::net::Net;
use super::oracle;
use super::random::Random;
use super::server::{Data, Dialect};
use crate::core::poller::Note;
use crate::core::record::TopicPartition;
use crate::core::state::StateKey;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

const BRIDGES: usize = 2;
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
    calm: bool,
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
    bridges: Vec<Bridge>,
    /// Who was not told yet that it lost a partition.
    zombies: Vec<(usize, i32)>,
    replica: Option<Data>,
    /// Redis has gone back since: commits may be above the state.
    pub(crate) went_back: bool,
    /// Partitions that are to end halted, and by which code.
    pub(crate) condemned: BTreeMap<i32, &'static [&'static str]>,
    /// What a condemned partition had in its log before.
    pub(crate) former: BTreeMap<i32, Log>,
}

/// A key that no stream can have.
fn bad(partition: i32) -> String {
    format!("s:{partition}:bad")
}

pub(crate) fn key(partition: i32) -> StateKey {
    StateKey::partition("b", "g", &at(partition))
}

impl World {
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        let mut random = Random::new(seed);
        let mut logs: Vec<Log> = (0..PARTITIONS).map(|p| Log::new(&mut random, p, 0)).collect();
        if faults.quiet {
            logs.iter_mut().for_each(|log| log.produce(1000));
        }
        let owners = (0..PARTITIONS).map(|_| random.below(BRIDGES)).collect();
        let kafka = Kafka { logs, compacted: faults.compaction, commits: BTreeMap::new(), owners, letters: Vec::new(), away: false };
        let mut net = Net::new([Dialect::Redis6, Dialect::Redis7, Dialect::Valkey8][random.below(3)]);
        (0..PARTITIONS).for_each(|p| net.redis().occupy(bad(p).as_bytes()));
        let mut env = Env { random, faults, net, kafka, now: Duration::ZERO, commits: VecDeque::new(), lives: 0, calm: false, trace: Vec::new() };
        let bridges = (0..BRIDGES).map(|id| Bridge::new(id, &mut env)).collect();
        let mut world = Self { env, bridges, zombies: Vec::new(), replica: None, went_back: false, condemned: BTreeMap::new(), former: BTreeMap::new() };
        for partition in 0..PARTITIONS {
            world.bridges[world.env.kafka.owner(partition)].assign(partition);
        }
        world
    }

    /// Runs it through; panics where a promise is broken.
    pub(crate) fn run(&mut self) {
        for _ in 0..self.env.faults.steps {
            self.befall();
            self.work();
        }
        self.calm_down();
        for step in 0..CALM {
            self.work();
            if step % 16 == 0 {
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
        for b in 0..BRIDGES {
            let halted = (0..PARTITIONS).filter(|p| !self.condemned.contains_key(p)).find_map(|p| self.bridges[b].halted(p));
            if let Some(code) = halted {
                assert!(self.env.faults.denials && code == "refused", "halted without a reason: {code}");
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

    fn positions(&self) -> Vec<Option<i64>> {
        (0..PARTITIONS).map(|p| self.position(p)).collect()
    }

    /// Settled and committed to the end, and nothing is left to look at.
    fn finished(&self) -> bool {
        (0..PARTITIONS).all(|p| {
            if let Some(codes) = self.condemned.get(&p) {
                return self.bridges[self.env.kafka.owner(p)].halted(p).is_some_and(|code| codes.contains(&code));
            }
            let log = self.env.kafka.log(p);
            // Where retention took the last record too, none is left to read the end behind.
            let end = match self.position(p) {
                Some(position) if position == log.low && log.from(position).next().is_none() => position,
                _ => log.end,
            };
            let committed = self.env.kafka.commits.get(&p).map(|(offset, _)| *offset);
            let read = self.env.net.master().field(&key(p).0, "unread").is_some_and(|u| u.is_empty());
            self.position(p) == Some(end) && committed == Some(end) && read
        })
    }

    /// One thing is done by somebody.
    fn work(&mut self) {
        let env = &mut self.env;
        env.now += Duration::from_millis(env.random.below(60).try_into().unwrap());
        match env.random.below(20) {
            0..=6 => env.net.serve(&mut env.random),
            7 => self.commit(),
            8 => {
                let p = env.random.below(env.kafka.logs.len());
                env.kafka.logs[p].produce(env.random.below(6));
            }
            _ => {
                let b = env.random.below(BRIDGES);
                self.bridges[b].step(env);
            }
        }
    }

    /// The coordinator takes a commit, or refuses it: a zombie's, one of a process that is gone.
    fn commit(&mut self) {
        let Some(request) = self.env.commits.pop_front() else { return };
        let CommitRequest { bridge, life, positions, mark, awaited } = request;
        let fails = !self.env.calm && self.env.faults.commits && self.env.random.percent(20);
        let known = positions.iter().all(|(at, _)| self.env.kafka.owner(at.partition) == bridge) && self.bridges[bridge].life == life;
        let taken = known && !fails && !self.env.kafka.away;
        for (at, position) in positions.into_iter().filter(|_| taken) {
            let state = self.position(at.partition).unwrap_or(-1);
            assert!(self.went_back || position <= state, "committed {position} of {at} above the state's {state}");
            self.env.kafka.commits.insert(at.partition, (position, mark.clone()));
        }
        if awaited && self.bridges[bridge].life == life {
            self.bridges[bridge].hear(Note::Committed(if taken { Ok(()) } else { Err("refused".into()) }));
        }
    }

    /// Something befalls them, or nothing.
    fn befall(&mut self) {
        let f = self.env.faults;
        match self.env.random.below(150) {
            0 if f.crashes => {
                let b = self.env.random.below(BRIDGES);
                self.stop(b);
            }
            1..=2 if f.moves => self.rebalance(false),
            3..=4 if f.zombies => self.rebalance(true),
            5 if f.eager => self.rebalance_all(),
            6 if !self.zombies.is_empty() => {
                let (bridge, partition) = self.zombies.swap_remove(0);
                self.wake(bridge, partition);
            }
            7 if f.refusals => self.refuse(),
            8..=9 if f.failovers && self.positions().iter().all(Option::is_some) => {
                self.env.trace(|| "the replica is up to date".into());
                self.replica = Some(self.env.net.master().data.clone());
            }
            10 if f.failovers => self.fail_over(),
            11..=14 if f.cuts => self.env.net.break_one(&mut self.env.random),
            15 => self.env.now += Duration::from_secs(self.env.random.below(15).try_into().unwrap()),
            24..=28 if f.evictions => {
                let p = i32::try_from(self.env.random.below(4)).unwrap();
                self.env.trace(|| format!("the state of {p} is evicted"));
                self.went_back = true;
                self.env.net.redis().remove(&key(p).0);
            }
            17..=20 if f.compaction => {
                let p = self.env.random.below(self.env.kafka.logs.len());
                self.env.kafka.logs[p].compact(&mut self.env.random);
            }
            21 if f.kafka_away => {
                self.env.kafka.away = !self.env.kafka.away;
                self.env.trace(|| "Kafka goes or comes".into());
            }
            22 if f.denials => {
                let redis = self.env.net.redis();
                redis.denies = if redis.denies.is_some() { None } else { Some("s:") };
                self.env.trace(|| "the ACL changes".into());
            }
            29 if f.flushes && self.env.random.percent(30) => self.flush(),
            23 if f.logs && self.condemned.is_empty() && self.env.random.percent(30) => self.replace_log(),
            _ => {}
        }
    }

    fn refuse(&mut self) {
        const ERRORS: [&str; 5] = [
            "OOM command not allowed when used memory > 'maxmemory'.",
            "READONLY You can't write against a read only replica.",
            "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
            "LOADING Redis is loading the dataset in memory",
            "BUSY Redis is busy running a script.",
        ];
        let error = ERRORS[self.env.random.below(ERRORS.len())];
        let redis = self.env.net.redis();
        redis.refuses = if redis.refuses.is_some() { None } else { Some(error) };
        let now = redis.refuses;
        self.env.trace(|| format!("Redis refuses: {now:?}"));
    }

    /// Killed, or stopped with a drain that may not end in time; then started again.
    fn stop(&mut self, b: usize) {
        let drains = self.env.random.percent(40);
        self.env.trace(|| format!("bridge {b} {}", if drains { "drains" } else { "is killed" }));
        if drains {
            let steps = self.env.random.below(200);
            let before: Vec<_> = (0..PARTITIONS).map(|p| self.state(p)).collect();
            for partition in self.bridges[b].drain(steps, &mut self.env) {
                oracle::drained(self, b, partition, &before[usize::try_from(partition).unwrap()]);
            }
            while !self.env.commits.is_empty() {
                self.commit();
            }
        }
        self.restart(b);
    }

    fn restart(&mut self, b: usize) {
        self.bridges[b].die(&mut self.env);
        self.bridges[b] = Bridge::new(b, &mut self.env);
        self.zombies.retain(|(z, _)| *z != b);
        for partition in 0..PARTITIONS {
            if self.env.kafka.owner(partition) == b {
                self.bridges[b].assign(partition);
            }
        }
    }

    /// Moves a partition; as a zombie its former owner is not told.
    fn rebalance(&mut self, zombie: bool) {
        let p = self.env.random.below(self.env.kafka.owners.len());
        let (partition, from) = (i32::try_from(p).unwrap(), self.env.kafka.owners[p]);
        let to = (from + 1) % BRIDGES;
        if self.zombies.contains(&(to, partition)) {
            return;
        }
        self.env.trace(|| format!("[{p}] moves to bridge {to}, zombie {zombie}"));
        if zombie {
            self.zombies.push((from, partition));
            self.env.kafka.owners[p] = to;
        } else {
            self.let_go(from, &[partition]);
        }
        self.env.kafka.owners[p] = to;
        self.bridges[to].assign(partition);
    }

    fn let_go(&mut self, from: usize, partitions: &[i32]) {
        let steps = self.env.random.below(12);
        self.bridges[from].revoke(partitions, false, steps, &mut self.env);
        while !self.env.commits.is_empty() {
            self.commit();
        }
    }

    /// The eager protocol: all let go of all, then each is assigned anew.
    fn rebalance_all(&mut self) {
        if !self.zombies.is_empty() {
            return;
        }
        self.env.trace(|| "all partitions are assigned anew".into());
        for b in 0..BRIDGES {
            let own: Vec<i32> = (0..PARTITIONS).filter(|p| self.env.kafka.owner(*p) == b).collect();
            self.let_go(b, &own);
        }
        for partition in 0..PARTITIONS {
            let to = self.env.random.below(BRIDGES);
            self.env.kafka.owners[usize::try_from(partition).unwrap()] = to;
            self.bridges[to].assign(partition);
        }
    }

    /// A zombie hears that a partition is no longer its own.
    fn wake(&mut self, bridge: usize, partition: i32) {
        self.env.trace(|| format!("bridge {bridge} hears that it lost [{partition}]"));
        self.bridges[bridge].revoke(&[partition], true, 3, &mut self.env);
    }

    /// A replica that lags becomes the master. The old one may go on for a while, for who is still connected to it.
    fn fail_over(&mut self) {
        if self.env.random.percent(30) {
            self.env.net.end_split();
        }
        let Some(data) = self.replica.take() else { return };
        self.went_back = true;
        if self.env.random.percent(30) {
            // A master that was demoted for a moment and took over another's data: its connections live on.
            self.env.trace(|| "Redis goes back, and keeps its connections".into());
            return self.env.net.redis().go_back(data);
        }
        let splits = self.env.random.percent(50);
        self.env.trace(|| format!("a replica that lags becomes the master, the old one goes on: {splits}"));
        self.env.net.promote(data);
        if !splits {
            self.env.net.end_split();
        }
    }

    /// Redis is emptied while no bridge runs: nobody remembers a position.
    fn flush(&mut self) {
        self.env.trace(|| "Redis is emptied".into());
        self.halt_all();
        self.env.net.end_split();
        self.replica = None;
        self.went_back = true;
        self.env.net.redis().go_back(Data::new());
        (0..PARTITIONS).for_each(|p| self.env.net.redis().occupy(bad(p).as_bytes()));
        (0..BRIDGES).for_each(|b| self.restart(b));
    }

    /// Every bridge is killed, and what they sent has arrived or is lost.
    fn halt_all(&mut self) {
        for b in 0..BRIDGES {
            self.bridges[b].die(&mut self.env);
        }
        while !self.env.net.is_quiet() {
            self.env.net.serve(&mut self.env.random);
        }
    }

    /// A topic's partition is recreated, or loses what was not read, while no bridge runs.
    fn replace_log(&mut self) {
        self.halt_all();
        let p = i32::try_from(self.env.random.below(4)).unwrap();
        let position = self.position(p).unwrap_or(0);
        let log = &mut self.env.kafka.logs[usize::try_from(p).unwrap()];
        if self.env.random.percent(50) {
            // Retention goes past the position, or not quite.
            log.low = (position + 3 - i64::try_from(self.env.random.below(6)).unwrap()).clamp(log.low, log.end);
            let low = log.low;
            if position < low {
                self.condemned.insert(p, &["history-gone"]);
            }
            self.env.trace(|| format!("[{p}] begins at {low}, its position is {position}"));
        } else if position > 0 {
            let mut new = Log::new(&mut self.env.random, p, 1);
            new.produce(self.env.random.below(60));
            self.former.insert(p, std::mem::replace(&mut self.env.kafka.logs[usize::try_from(p).unwrap()], new));
            self.condemned.insert(p, &["log-changed", "history-gone"]);
            self.env.trace(|| format!("[{p}] is recreated, its position is {position}"));
        }
        for b in 0..BRIDGES {
            self.restart(b);
        }
    }

    pub(crate) fn life(&self, bridge: usize) -> usize {
        self.bridges[bridge].life
    }
}
