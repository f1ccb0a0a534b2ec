//! What befalls Redis itself.
use crate::bed::{Bed, PARTITIONS, redis_server};
use crate::support::process::joined;
use crate::support::proxy::{Plan, Proxy};
use crate::support::redis_server::RedisServer;
use crate::support::{eventually, free_port, pass, signal};
use rand::Rng as _;
use rand::rngs::StdRng;
use std::time::Duration;

pub(crate) fn millis(rng: &mut StdRng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.random_range(range))
}

/// kill -9, seen, started again.
pub(crate) fn kill(bed: &mut Bed<'_>, rng: &mut StdRng) {
    bed.redis.kill();
    bed.until_seen("redis-unreachable");
    pass(millis(rng, 0..1000));
    bed.redis.run();
}

/// kill -9, started again at once: no condition need show.
pub(crate) fn bounce(bed: &mut Bed<'_>, _: &mut StdRng) {
    bed.redis.kill();
    bed.redis.run();
}

/// kill -9, and what it wrote last is gone, as after a loss of power without fsync: torn at any byte. Then what an operator
/// must do about a torn file (docs/reliability.md): have it written anew.
pub(crate) fn lose_tail(bed: &mut Bed<'_>, rng: &mut StdRng) {
    bed.redis.kill();
    let files = std::fs::read_dir(bed.redis.dir.path().join("appendonlydir")).unwrap().map(|f| f.unwrap().path());
    let number = |p: &std::path::Path| p.file_name()?.to_str()?.split('.').nth_back(2)?.parse::<u64>().ok();
    let last = files.filter(|p| p.to_string_lossy().ends_with(".incr.aof")).max_by_key(|p| number(p)).unwrap();
    let length = std::fs::metadata(&last).unwrap().len();
    let lost = rng.random_range(0..=length.min(500_000));
    std::fs::File::options().write(true).open(&last).unwrap().set_len(length - lost).unwrap();
    bed.redis.run();
    bed.redis.write_file_anew();
}

fn stop(bed: &Bed<'_>, time: Duration) {
    signal(bed.redis.pid(), "STOP");
    pass(time);
    signal(bed.redis.pid(), "CONT");
}

pub(crate) fn stop_1s(bed: &mut Bed<'_>, _: &mut StdRng) {
    stop(bed, Duration::from_secs(1));
}

pub(crate) fn stop_30s(bed: &mut Bed<'_>, _: &mut StdRng) {
    stop(bed, Duration::from_secs(30));
}

pub(crate) fn stop_300s(bed: &mut Bed<'_>, _: &mut StdRng) {
    stop(bed, Duration::from_secs(300));
}

pub(crate) fn oom(bed: &mut Bed<'_>, rng: &mut StdRng) {
    bed.redis.command("CONFIG SET maxmemory 1mb");
    bed.until_seen("redis-oom");
    pass(millis(rng, 0..2000));
    bed.redis.command("CONFIG SET maxmemory 0");
}

/// A replica of a master that is not there: refuses writes, keeps its data.
pub(crate) fn readonly(bed: &mut Bed<'_>, rng: &mut StdRng) {
    demote(bed, rng, "yes");
}

/// The same, and it does not answer reads either.
pub(crate) fn masterdown(bed: &mut Bed<'_>, rng: &mut StdRng) {
    demote(bed, rng, "no");
}

fn demote(bed: &Bed<'_>, rng: &mut StdRng, serves_stale_data: &str) {
    // Made before: a new connection would be answered MASTERDOWN.
    let mut c = bed.redis.connect();
    let mut replica_of = |host: &str, port: &str| redis::cmd("REPLICAOF").arg(host).arg(port).query::<()>(&mut c).unwrap();
    bed.redis.command(&format!("CONFIG SET replica-serve-stale-data {serves_stale_data}"));
    replica_of("127.0.0.1", &free_port().to_string());
    bed.until_seen("redis-refuses");
    pass(millis(rng, 0..1000));
    replica_of("NO", "ONE");
}

/// Loads its file again under open connections, slowly.
pub(crate) fn loading(bed: &mut Bed<'_>, rng: &mut StdRng) {
    let lasts = rng.random_range(1.0..2.5);
    let folder = bed.redis.dir.path().join("appendonlydir");
    let files = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap());
    let bytes: u64 = files.filter(|f| f.file_name().to_string_lossy().contains(".incr.")).map(|f| f.metadata().unwrap().len()).sum();
    // About so much for each command of some 300 bytes. Below a sleep's own 60 us Redis takes -N: one in N sleeps.
    let each = lasts * 1e6 / (bytes as f64 / 300.0).max(1.0);
    let delay = if each > 120.0 { each as i64 - 60 } else { -((60.0 / each).ceil() as i64).max(1) };
    bed.redis.command(&format!("CONFIG SET key-load-delay {}", delay.min(20_000)));
    bed.redis.command("DEBUG LOADAOF");
    bed.redis.command("CONFIG SET key-load-delay 0");
}

/// It can't save, and refuses writes for it.
pub(crate) fn misconf(bed: &mut Bed<'_>, rng: &mut StdRng) {
    let obstacle = bed.redis.dir.path().join("dump.rdb");
    // A full resync leaves a file there.
    let _ = std::fs::remove_file(&obstacle);
    std::fs::create_dir_all(obstacle.join("in-the-way")).unwrap();
    let mut c = bed.redis.connect();
    redis::cmd("CONFIG").arg("SET").arg("save").arg("3600 1").query::<()>(&mut c).unwrap();
    eventually("a save fails", 30, || {
        let _ = redis::cmd("BGSAVE").query::<redis::Value>(&mut c);
        redis::cmd("INFO").arg("persistence").query::<String>(&mut c).unwrap().contains("rdb_last_bgsave_status:err")
    });
    bed.until_seen("redis-refuses");
    pass(millis(rng, 0..1000));
    redis::cmd("CONFIG").arg("SET").arg("save").arg("").query::<()>(&mut c).unwrap();
    std::fs::remove_dir_all(obstacle).unwrap();
}

/// A script that does not end.
pub(crate) fn busy(bed: &mut Bed<'_>, rng: &mut StdRng) {
    bed.redis.command("CONFIG SET busy-reply-threshold 100");
    let (mut runs, mut ends) = (bed.redis.connect(), bed.redis.connect());
    let script = std::thread::spawn(move || redis::cmd("EVAL").arg("while true do end").arg(0).query::<redis::Value>(&mut runs));
    bed.until_seen("redis-refuses");
    pass(millis(rng, 0..1000));
    redis::cmd("SCRIPT").arg("KILL").query::<()>(&mut ends).unwrap();
    assert!(joined("the script ends", script).is_err(), "the script was killed");
}

/// A partition's state is deleted while its owner lives: it goes on from memory.
pub(crate) fn delete_state(bed: &mut Bed<'_>, rng: &mut StdRng) {
    let partition = rng.random_range(0..PARTITIONS);
    let key = format!("bridge:state:{}:{}:{partition}", bed.setups[0].group, bed.topic);
    let deleted: i64 = redis::cmd("DEL").arg(&key).query(&mut bed.redis.connect()).unwrap();
    assert_eq!(deleted, 1, "{key}");
}

fn replicates(replica: &RedisServer) -> bool {
    // It refuses whoever asks while it loads.
    let info = replica.try_connect().and_then(|mut c| redis::cmd("INFO").arg("replication").query::<String>(&mut c).ok());
    info.is_some_and(|i| i.contains("master_link_status:up"))
}

/// A replica in step with the master, and the line between the two.
fn replica_of(master: &RedisServer) -> (RedisServer, Proxy) {
    let line = Proxy::start(0, &format!("127.0.0.1:{}", master.port));
    let replica = redis_server();
    replica.command(&format!("REPLICAOF 127.0.0.1 {}", line.port));
    eventually("the replica is in step", 60, || replicates(&replica));
    (replica, line)
}

/// The master dies, and a replica is promoted that lags behind: data and state go back together.
pub(crate) fn failover(bed: &mut Bed<'_>, rng: &mut StdRng) {
    let (replica, line) = replica_of(&bed.redis);
    line.set(Plan::Silent);
    bed.begin_fault();
    pass(millis(rng, 50..1500));
    bed.redis.kill();
    replica.command("REPLICAOF NO ONE");
    bed.wire.point_at(replica.port);
    bed.redis = replica;
}

/// A replica is promoted while the old master lives on and takes writes over the connections that it has.
pub(crate) fn split_brain(bed: &mut Bed<'_>, rng: &mut StdRng) {
    let (replica, line) = replica_of(&bed.redis);
    line.set(Plan::Silent);
    bed.begin_fault();
    replica.command("REPLICAOF NO ONE");
    bed.wire.point_at(replica.port);
    // Some connections move to the new master, the others stay.
    bed.wire.reset(2);
    pass(millis(rng, 200..2000));
    bed.redis = replica;
}

/// The master is demoted to the replica of its own, lagging replica, loads all of that one's data under open
/// connections, and is promoted again.
pub(crate) fn full_resync(bed: &mut Bed<'_>, rng: &mut StdRng) {
    let (replica, line) = replica_of(&bed.redis);
    line.set(Plan::Silent);
    bed.begin_fault();
    pass(millis(rng, 50..1000));
    replica.command("REPLICAOF NO ONE");
    bed.redis.command(&format!("REPLICAOF 127.0.0.1 {}", replica.port));
    eventually("the old master has taken over the replica's data", 60, || replicates(&bed.redis));
    pass(millis(rng, 0..500));
    bed.redis.command("REPLICAOF NO ONE");
}
