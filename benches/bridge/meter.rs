//! How far Redis is and what that cost. Redis counts what it has run itself (`INFO commandstats`), inside transactions as
//! outside: the same yardstick for the bridge and the pump, and a hundredth of a percent of what Redis does.
use crate::support::redis_server::RedisServer;
use crate::support::{memory_kib, pass};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How often Redis is asked.
const EVERY: Duration = Duration::from_millis(20);
/// A run is taken to begin above this many: what the claims of the partitions write is not counted for records.
const CLAIMS_MAX: u64 = 256;
/// How long nothing may be applied.
const PATIENCE: Duration = Duration::from_secs(60);

/// What threads had of the cores, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Time {
    /// They ran.
    pub(crate) ran: u64,
    /// They could have run, and others had the cores.
    pub(crate) waited: u64,
}

/// By thread. Threads that do the same count as one: `lane-0` and `lane-1` are `lane`.
pub(crate) type Cpu = BTreeMap<String, Time>;

/// What a run came to, from its first applied records to its last.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) from: Instant,
    pub(crate) to: Instant,
    /// Records in between.
    pub(crate) records: u64,
    /// Of the measured process.
    pub(crate) cpu: Cpu,
    /// Of Redis.
    pub(crate) redis: Cpu,
}

impl Run {
    pub(crate) fn rate(&self) -> f64 {
        self.records as f64 / (self.to - self.from).as_secs_f64()
    }

    /// Microseconds a record.
    pub(crate) fn us(&self, cpu: &Cpu) -> f64 {
        self.a_record(cpu.values().map(|t| t.ran).sum())
    }

    /// How long Redis' main thread could have run and had no core, in microseconds a record.
    pub(crate) fn redis_waited_us(&self) -> f64 {
        self.a_record(self.redis_main().waited)
    }

    /// How long Redis' main thread neither ran nor waited for a core, in microseconds a record: nothing had come.
    pub(crate) fn redis_slept_us(&self) -> f64 {
        let main = self.redis_main();
        self.a_record((self.to - self.from).as_nanos() as u64) - self.a_record(main.ran + main.waited)
    }

    fn redis_main(&self) -> Time {
        self.redis["redis-server"]
    }

    /// Nanoseconds of the run, as microseconds a record.
    pub(crate) fn a_record(&self, ns: u64) -> f64 {
        ns as f64 / 1000.0 / self.records as f64
    }
}

/// CPU time of a process that lives.
pub(crate) fn cpu(pid: u32) -> Cpu {
    let mut cpu = Cpu::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten().map(|t| t.path()) {
        let read = |name: &str| std::fs::read_to_string(task.join(name));
        // A thread may end while it is looked at.
        let (Ok(name), Ok(stat)) = (read("comm"), read("schedstat")) else { continue };
        let mut figures = stat.split(' ').map(|ns| ns.parse::<u64>().unwrap());
        let time = cpu.entry(name.trim().trim_end_matches(|c: char| c == '-' || c.is_ascii_digit()).to_owned()).or_default();
        time.ran += figures.next().unwrap();
        time.waited += figures.next().unwrap();
    }
    cpu
}

fn spent(from: &Cpu, to: &Cpu) -> Cpu {
    let spent = |(name, to): (&String, &Time)| {
        let from = from.get(name).copied().unwrap_or_default();
        (name.clone(), Time { ran: to.ran.saturating_sub(from.ran), waited: to.waited.saturating_sub(from.waited) })
    };
    to.iter().map(spent).collect()
}

/// The largest that a process has been, in KiB.
pub(crate) fn peak_kib(pid: u32) -> u64 {
    memory_kib(pid, "VmHWM")
}

/// How large a process is, in KiB.
pub(crate) fn resident_kib(pid: u32) -> u64 {
    memory_kib(pid, "VmRSS")
}

/// How often Redis has run a command since its statistics were reset.
fn calls(connection: &mut redis::Connection, command: &str) -> u64 {
    let text: String = redis::cmd("INFO").arg("commandstats").query(connection).unwrap();
    let head = format!("cmdstat_{command}:calls=");
    text.lines().find_map(|l| l.strip_prefix(&head)?.split(',').next()?.parse().ok()).unwrap_or(0)
}

/// Waits until Redis has applied so many records, of which each is `marker.1` commands of the name `marker.0`. `pid` is
/// the process that is measured.
pub(crate) fn run(redis: &RedisServer, marker: (&str, u64), records: u64, pid: u32) -> Run {
    let mut connection = redis.connect();
    let mut first = None;
    let mut moved = (0, Instant::now());
    loop {
        let applied = calls(&mut connection, marker.0) / marker.1;
        let now = Instant::now();
        if applied > moved.0 {
            moved = (applied, now);
        }
        assert!(now - moved.1 < PATIENCE, "{applied} of {records} records were applied, and no more within {PATIENCE:?}");
        if applied > CLAIMS_MAX && first.is_none() {
            first = Some((now, applied, cpu(pid), cpu(redis.pid())));
        }
        if let Some((from, already, bridge, server)) = first.as_ref().filter(|_| applied >= records) {
            assert!(*already < records, "all {records} records were applied between two looks, {EVERY:?} apart: give more of them (RECORDS)");
            let (cpu, redis) = (spent(bridge, &cpu(pid)), spent(server, &cpu(redis.pid())));
            return Run { from: *from, to: now, records: records - already, cpu, redis };
        }
        pass(EVERY);
    }
}
