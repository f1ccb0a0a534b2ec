//! What may befall the bridges, Kafka and Redis, and who does it.
use super::bridge::Bridge;
use super::kafka::{Log, PARTITIONS};
use super::oracle;
use super::server::Data;
use super::world::{World, key, occupy};
use std::time::Duration;

/// What needs a person.
const PERSONAL: [&str; 6] = [
    "NOAUTH Authentication required.",
    "NOPERM User bridge has no permissions to run the 'xadd' command",
    "WRONGPASS invalid username-password pair or user is disabled.",
    "ERR unknown command 'XADD', with args beginning with: 's:0:k0'",
    "ERR wrong number of arguments for 'xadd' command",
    "NEWCODE something that no version of the bridge knows",
];
/// What passes by itself.
const PASSING: [&str; 12] = [
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "NOREPLICAS Not enough good replicas to write.",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "CLUSTERDOWN The cluster is down",
    "MOVED 3999 127.0.0.1:6381",
    "ASK 3999 127.0.0.1:6381",
    "ERR max number of clients reached",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "READONLY You can't write against a read only replica.",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "LOADING Redis is loading the dataset in memory",
    "BUSY Redis is busy running a script.",
];

impl World {
    /// Something befalls them, or nothing.
    pub(super) fn befall(&mut self) {
        let f = self.env.faults;
        match self.env.random.below(150) {
            0 if f.crashes => {
                let b = self.env.random.below(self.bridges.len());
                self.stop(b);
            }
            1..=2 if f.moves => self.rebalance(false),
            3..=4 if f.zombies => self.rebalance(true),
            5 if f.eager => self.rebalance_all(),
            6 if !self.zombies.is_empty() => {
                let (bridge, partition) = self.zombies.swap_remove(0);
                self.wake(bridge, partition);
            }
            7 if f.refusals => self.refuse(&PASSING),
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
                self.goes_back();
                self.env.net.redis().remove(&key(p).0);
            }
            16 if f.logs => self.expire(),
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
            30 if f.grows => self.add_partition(),
            31 if f.permissions => self.refuse(&PERSONAL),
            32 if f.job && self.job.is_none() => self.plan_job(),
            33..=35 if f.job => self.befall_job(),
            29 if f.flushes && self.env.random.percent(30) => self.flush(),
            23 if f.logs && self.condemned.is_empty() && self.env.random.percent(30) => self.replace_log(),
            _ => {}
        }
    }

    /// The last partition is added.
    pub(super) fn add_partition(&mut self) {
        // After the group's first look at the topic.
        if self.env.kafka.present < PARTITIONS && self.reached.len() > 1 {
            self.env.trace(|| "a partition is added".into());
            self.env.kafka.present = PARTITIONS;
            let partition = PARTITIONS - 1;
            self.bridges[self.env.kafka.owner(partition)].assign(partition);
        }
    }

    /// Redis begins to refuse, by one of these errors, or no longer does.
    fn refuse(&mut self, errors: &[&'static str]) {
        let error = errors[self.env.random.below(errors.len())];
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

    pub(super) fn restart(&mut self, b: usize) {
        self.bridges[b].die(&mut self.env);
        self.bridges[b] = Bridge::new(b, &mut self.env);
        self.zombies.retain(|(z, _)| *z != b);
        for partition in 0..self.env.kafka.present {
            if self.env.kafka.owner(partition) == b {
                self.bridges[b].assign(partition);
            }
        }
    }

    /// Moves a partition; as a zombie its former owner is not told.
    fn rebalance(&mut self, zombie: bool) {
        let p = self.env.random.below(self.env.kafka.present.try_into().unwrap());
        let (partition, from) = (i32::try_from(p).unwrap(), self.env.kafka.owners[p]);
        let to = (from + 1) % self.bridges.len();
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
        for b in 0..self.bridges.len() {
            let own: Vec<i32> = (0..self.env.kafka.present).filter(|p| self.env.kafka.owner(*p) == b).collect();
            self.let_go(b, &own);
        }
        for partition in 0..self.env.kafka.present {
            let to = self.env.random.below(self.bridges.len());
            self.env.kafka.owners[usize::try_from(partition).unwrap()] = to;
            self.bridges[to].assign(partition);
        }
    }

    /// A zombie hears that a partition is no longer its own.
    pub(super) fn wake(&mut self, bridge: usize, partition: i32) {
        self.env.trace(|| format!("bridge {bridge} hears that it lost [{partition}]"));
        self.bridges[bridge].revoke(&[partition], true, 3, &mut self.env);
    }

    /// A replica that lags becomes the master. The old one may go on for a while, for who is still connected to it.
    fn fail_over(&mut self) {
        if self.env.random.percent(30) {
            self.env.net.end_split();
        }
        let Some(data) = self.replica.take() else { return };
        self.goes_back();
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
        self.goes_back();
        self.env.net.redis().go_back(Data::new());
        occupy(self.env.net.redis());
        (0..self.bridges.len()).for_each(|b| self.restart(b));
    }

    /// Every bridge is killed, and what they sent has arrived or is lost.
    fn halt_all(&mut self) {
        self.kill_job();
        for b in 0..self.bridges.len() {
            self.bridges[b].die(&mut self.env);
        }
        while !self.env.net.is_quiet() {
            self.env.net.serve(&mut self.env.random);
        }
    }

    /// Retention removes some of what is settled, while the bridges run.
    fn expire(&mut self) {
        let p = self.env.random.below(self.env.kafka.present.try_into().unwrap());
        let (partition, chance) = (i32::try_from(p).unwrap(), i64::try_from(self.env.random.below(4)).unwrap());
        if self.condemned.contains_key(&partition) {
            return;
        }
        let position = self.position(partition).unwrap_or(0);
        let log = &mut self.env.kafka.logs[p];
        // Up to the position, or not quite.
        log.low = (position - chance).clamp(log.low, log.end);
        let low = log.low;
        self.env.trace(|| format!("[{partition}] begins at {low} by now"));
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
        } else if self.env.net.master().field(&key(p).0, "last").is_some_and(|last| !last.is_empty()) {
            // A log of which no record was settled yet is not known again.
            let mut new = Log::new(&mut self.env.random, p, 1, false);
            new.produce(self.env.random.below(60));
            self.former.insert(p, std::mem::replace(&mut self.env.kafka.logs[usize::try_from(p).unwrap()], new));
            self.condemned.insert(p, &["log-changed", "history-gone"]);
            self.env.trace(|| format!("[{p}] is recreated, its position is {position}"));
        }
        for b in 0..self.bridges.len() {
            self.restart(b);
        }
    }
}
