//! A snapshot of everything, as /status serves it and `status` prints it.
use super::conditions::Condition;
use crate::core::words::counted;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One partition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PartitionStatus {
    pub topic: String,
    pub partition: i32,
    /// The next offset to be settled.
    pub position: Option<i64>,
    /// The end of what can be read, as of the last second.
    pub end: Option<i64>,
    /// Records between the two.
    pub lag: Option<i64>,
    pub epoch: i64,
    pub lane: usize,
    /// `claiming`, `confirming`, `open`, `waiting` (open, and nothing of it is written now), `halted`, `closing`.
    pub phase: String,
    /// The code of the condition that holds it up, if one does.
    #[serde(default)]
    pub held_by: Option<String>,
}

impl PartitionStatus {
    /// The phase, with what holds it up.
    fn phase(&self) -> String {
        self.held_by.as_ref().map_or_else(|| self.phase.clone(), |code| format!("{}: {code}", self.phase))
    }
}

/// Where a stop left a partition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Position {
    pub partition: String,
    pub position: Option<i64>,
    pub end: Option<i64>,
}

/// One route's counts since the start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RouteStatus {
    pub name: String,
    pub records: u64,
    pub commands: u64,
    pub dead: u64,
    pub expired: u64,
    /// Records without a value.
    pub tombstones: u64,
    /// Records dropped by a rule: a tombstone that the route skips, or its condition.
    pub dropped: u64,
    /// Conditions that could not be applied to a record, and were taken as not holding.
    pub condition_errors: u64,
    pub latency: LatencyStatus,
}

/// How late records were when Redis had answered for them, by their timestamps, since the start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LatencyStatus {
    /// Upper bounds of the buckets, in milliseconds.
    pub bounds_ms: Vec<u64>,
    /// Records in each, and those above the last bound.
    pub counts: Vec<u64>,
    pub sum_ms: u64,
    /// Records that are in none of these, since their timestamps are implausible: before 2000, or more than a day ahead.
    #[serde(default)]
    pub implausible: u64,
}

/// What Redis holds, as of the last look (`http.redis_every`).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RedisStatus {
    /// When that was, in milliseconds since the epoch: what was written since is not in these figures.
    #[serde(default)]
    pub looked_at_ms: i64,
    /// Bytes that its data and buffers take; nothing where it does not tell.
    pub used_memory_bytes: Option<u64>,
    /// Bytes that they may take; 0: as many as there are.
    pub maxmemory_bytes: Option<u64>,
    pub streams: Vec<StreamStatus>,
}

/// The streams of one write, or of dead letters.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StreamStatus {
    /// Whose write it is; empty for dead letters.
    pub route: String,
    /// The template of their names.
    pub key: String,
    /// How many streams there are.
    pub count: u64,
    /// Entries of all of them.
    pub entries: u64,
    /// Entries of the longest.
    pub longest: u64,
}

/// Everything.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub ready: bool,
    pub guarantee: String,
    pub uptime_seconds: u64,
    /// How many partitions the group has assigned to this bridge.
    #[serde(default)]
    pub partitions_assigned: usize,
    /// How many of them are open: their records flow.
    #[serde(default)]
    pub partitions_open: usize,
    pub partitions: Vec<PartitionStatus>,
    pub routes: Vec<RouteStatus>,
    /// Nothing where Redis is away, or is not looked at.
    #[serde(default)]
    pub redis: Option<RedisStatus>,
    /// What holds now, since when, and what to do.
    pub conditions: Vec<Condition>,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ready = if self.ready { "ready" } else { "not ready" };
        writeln!(f, "kafka-redis-bridge {} {ready}, {}, up {}s", self.version, self.guarantee, self.uptime_seconds)?;
        writeln!(f, "{} of {} partitions are open", self.partitions_open, self.partitions_assigned)?;
        let number = |n: Option<i64>| n.map_or_else(|| "-".into(), |n| n.to_string());
        writeln!(f, "\n{:<32} {:>12} {:>12} {:>10} {:>6}  phase", "partition", "position", "end", "lag", "epoch")?;
        for p in &self.partitions {
            let name = format!("{}[{}]", p.topic, p.partition);
            writeln!(f, "{name:<32} {:>12} {:>12} {:>10} {:>6}  {}", number(p.position), number(p.end), number(p.lag), p.epoch, p.phase())?;
        }
        let heads = ["records", "commands", "dropped", "dead", "expired", "tombstones", "condition errors"];
        let line = |cells: [String; 7]| cells.iter().zip(heads).map(|(cell, head)| format!(" {cell:>0$}", head.len().max(10))).collect::<String>();
        writeln!(f, "\n{:<32}{}", "route, since the start", line(heads.map(str::to_owned)))?;
        for r in &self.routes {
            let cells = [r.records, r.commands, r.dropped, r.dead, r.expired, r.tombstones, r.condition_errors];
            writeln!(f, "{:<32}{}", r.name, line(cells.map(|n| n.to_string())))?;
        }
        if let Some(redis) = &self.redis {
            let mib = |bytes: Option<u64>| bytes.map_or_else(|| "-".into(), |b| format!("{:.1} MiB", b as f64 / f64::from(1 << 20)));
            let max = if redis.maxmemory_bytes == Some(0) { "no maxmemory".into() } else { format!("maxmemory {}", mib(redis.maxmemory_bytes)) };
            let age = (jiff::Timestamp::now().as_millisecond() - redis.looked_at_ms).max(0) / 1000;
            writeln!(f, "\nredis, as of {age} s ago: {} used, {max}", mib(redis.used_memory_bytes))?;
            for s in &redis.streams {
                let (entries, streams) = (counted(s.entries, "entry"), counted(s.count, "stream"));
                writeln!(f, "{:<32} {entries:>18} in {streams}, {} in the longest", s.key, s.longest)?;
            }
        }
        for c in &self.conditions {
            writeln!(f, "\n{} ({}) since {}\n  {}\n  what to do: {}", c.code, c.subject, c.since, c.message, c.remedy)?;
        }
        Ok(())
    }
}
