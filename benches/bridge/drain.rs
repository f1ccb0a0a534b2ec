//! A topic drained to its end by the bridge.
use crate::bed::refresh;
use crate::meter::{self, Run};
use crate::support::eventually;
use crate::support::redis_server::RedisServer;
use crate::variant::Variant;

pub(crate) struct Drained {
    pub(crate) run: Run,
    /// The bridge's peak memory in KiB.
    pub(crate) peak_kib: u64,
    /// Seconds from its start until all partitions were claimed.
    pub(crate) claimed: f64,
}

/// When the last partition was claimed, by the bridge's own log: whoever asks it meanwhile disturbs it.
fn claimed(log: &str) -> f64 {
    let at = |line: &str| line.split(' ').next().unwrap().parse::<jiff::Timestamp>().unwrap();
    let (first, last) = (log.lines().next().unwrap(), log.lines().rfind(|l| l.contains(" claimed ")).unwrap());
    at(last).duration_since(at(first)).as_secs_f64()
}

/// Drains a topic of so many records, by a group of its own, into an empty Redis at `url`.
pub(crate) fn drain_to(redis: &RedisServer, url: &str, variant: &Variant, topic: &str, records: u64) -> Drained {
    refresh(redis);
    let bridge = variant.setup(topic, url).start();
    let run = meter::run(redis, variant.marker(), records, bridge.pid());
    eventually("the bridge has read all replies, and is well", 10, || {
        bridge.status().is_some_and(|s| s.conditions.is_empty() && s.routes[0].records == records && s.routes[0].dead == 0)
    });
    Drained { run, peak_kib: meter::peak_kib(bridge.pid()), claimed: claimed(&bridge.log()) }
}

pub(crate) fn drain(redis: &RedisServer, variant: &Variant, topic: &str, records: u64) -> Drained {
    drain_to(redis, &redis.url(), variant, topic, records)
}
