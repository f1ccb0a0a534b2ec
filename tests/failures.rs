//! Redis dies, goes away, fills up, forgets: nothing is lost or doubled, and the bridge resumes by itself or halts by name.
use crate::support::daemon::{Daemon, Setup};
use crate::support::kafka::{self, Produce};
use crate::support::proxy::{Plan, Proxy};
use crate::support::redis_server::{Kind, RedisServer};
use crate::support::sequence::Ticks;
use crate::support::{eventually, pass, signal};
use std::time::{Duration, Instant};

#[test]
fn redis_killed_and_restarted_with_its_append_only_file_resumes_without_loss_or_doubles() {
    let mut redis = RedisServer::with(Kind::System, &["--appendonly", "yes", "--appendfsync", "always"]);
    let topic = kafka::topic("ticks", 4);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 60_000, 50);
    let daemon = Setup::new(&topic, &redis.url()).extra("[batch]\nrecords_max = 50\n").start();
    for round in 1..=3 {
        daemon.wait_settled(round * 10_000);
        redis.kill();
        daemon.wait_holds("redis-unreachable");
        redis.run();
        // The kill may have torn a write: what Redis then repairs, it repairs wrongly at its next start.
        redis.write_file_anew();
        daemon.wait_ready();
    }
    ticks.expect_in(&redis, 90);
}

#[test]
fn redis_that_loses_its_tail_is_taken_up_where_it_stands() {
    // Without fsync, a copy of the file from earlier is what a machine that lost power comes back with.
    let mut redis = RedisServer::with(Kind::System, &["--appendonly", "yes", "--appendfsync", "no", "--auto-aof-rewrite-percentage", "0"]);
    let topic = kafka::topic("ticks", 2);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 5_000, 10);
    let daemon = Setup::new(&topic, &redis.url()).start();
    daemon.wait_settled(5_000);
    let folder = redis.dir.path().join("appendonlydir");
    let tail = std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().path()).find(|p| p.to_string_lossy().ends_with(".incr.aof")).unwrap();
    let kept = std::fs::metadata(&tail).unwrap().len();
    ticks.produce(&topic, 5_000, 10);
    daemon.wait_settled(10_000);
    redis.kill();
    // Cut in the middle of a transaction: Redis drops the torn one whole.
    std::fs::OpenOptions::new().write(true).open(&tail).unwrap().set_len(kept + 10_000).unwrap();
    redis.run();
    ticks.expect_in(&redis, 60);
}

#[test]
fn redis_away_for_twenty_seconds_is_waited_for_while_the_group_stays_joined() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 4);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 1_000, 20);
    // Longer than a slow machine stands still, and shorter than what is waited for.
    let setup = Setup::new(&topic, &redis.url()).redis_extra("response_timeout = \"1s\"").property("session.timeout.ms", "15000");
    let daemon = setup.start();
    daemon.wait_settled(1_000);
    signal(redis.pid(), "STOP");
    let since = Instant::now();
    ticks.produce(&topic, 20_000, 20);
    daemon.wait_holds("redis-unreachable");
    assert!(!daemon.status().unwrap().ready);
    eventually("twenty seconds have passed", 30, || since.elapsed() >= Duration::from_secs(20));
    let before = daemon.log().matches("let go").count();
    assert_eq!(before, 0, "heartbeats went on: no partition was taken away");
    signal(redis.pid(), "CONT");
    ticks.expect_in(&redis, 60);
    eventually("the condition is over", 10, || !daemon.holds("redis-unreachable"));
}

#[test]
fn a_lost_reply_is_resolved_by_the_state_and_never_sent_again_blindly() {
    let redis = RedisServer::start();
    let proxy = Proxy::start(0, &format!("127.0.0.1:{}", redis.port));
    let topic = kafka::topic("ticks", 1);
    let mut ticks = Ticks::default();
    let daemon = Setup::new(&topic, &format!("redis://127.0.0.1:{}/0", proxy.port)).extra("[batch]\nrecords_max = 20\n").redis_extra("lanes = 1").start();
    daemon.wait_ready();
    // The transaction is applied, and its answer is cut at many places: in the QUEUEDs, in EXEC's array, behind it.
    for cut in [1, 40, 200, 700, 1500, 1900, 2300] {
        ticks.produce(&topic, 200, 10);
        daemon.wait_settled(i64::try_from(ticks.total).unwrap());
        proxy.set(Plan::CutAfter(cut));
        ticks.produce(&topic, 200, 10);
        daemon.wait_settled(i64::try_from(ticks.total).unwrap());
        assert!(proxy.done(), "the answer was cut after {cut} bytes");
        ticks.expect_exactly(&redis);
    }
}

/// Whether all partitions are in this phase, held up by this.
fn held(daemon: &Daemon, phase: &str, by: Option<&str>) -> bool {
    daemon.status().is_some_and(|s| s.partitions.iter().all(|p| (p.phase.as_str(), p.held_by.as_deref()) == (phase, by)))
}

#[test]
fn a_full_redis_pauses_with_one_warning_and_resumes_by_itself() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 2);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 1_000, 10);
    // Two lanes and two claims meet it: it is told once.
    let daemon = Setup::new(&topic, &redis.url()).start();
    daemon.wait_settled(1_000);
    redis.command("CONFIG SET maxmemory 1mb");
    ticks.produce(&topic, 5_000, 10);
    daemon.wait_holds("redis-oom");
    assert!(daemon.message("redis-oom").contains("maxmemory"));
    eventually("both partitions are said to wait for it", 10, || held(&daemon, "waiting", Some("redis-oom")));
    let metrics = daemon.get("/metrics").unwrap();
    let open: Vec<&str> = metrics.lines().filter(|l| l.starts_with("bridge_partition_open{")).collect();
    assert!(open.len() == 2 && open.iter().all(|l| l.ends_with(" 0")), "{open:?}");
    let shown = daemon.status().unwrap().to_string();
    assert!(shown.contains("waiting: redis-oom"), "{shown}");
    // It lasts for a while: a lane that meets it after the other has written again would tell it anew, rightly.
    pass(Duration::from_secs(1));
    redis.command("CONFIG SET maxmemory 0");
    ticks.expect_in(&redis, 30);
    eventually("the condition is over", 10, || !daemon.holds("redis-oom") && held(&daemon, "open", None));
    assert_eq!(daemon.log().matches("code=\"redis-oom\"").count(), 2, "one line when it begins, one when it ends");
}

#[test]
fn a_redis_that_is_full_at_the_first_claim_is_told_and_no_readiness() {
    let redis = RedisServer::start();
    redis.command("CONFIG SET maxmemory 1");
    let topic = kafka::topic("ticks", 4);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 100, 10);
    let daemon = Setup::new(&topic, &redis.url()).start();
    daemon.wait_holds("redis-oom");
    assert!(!daemon.status().unwrap().ready);
    eventually("the group has given out the partitions", 30, || {
        daemon.get("/readyz").unwrap().starts_with("no: 0 of 4 assigned partitions are open\nredis-oom: ")
    });
    eventually("all partitions are said to be held up by it", 10, || held(&daemon, "claiming", Some("redis-oom")));
    redis.command("CONFIG SET maxmemory 0");
    ticks.expect_in(&redis, 30);
    eventually("the conditions are over", 10, || daemon.status().is_some_and(|s| s.conditions.is_empty() && s.ready));
}

#[test]
fn a_redis_that_became_a_replica_is_waited_for() {
    let (redis, master) = (RedisServer::start(), RedisServer::start());
    let topic = kafka::topic("ticks", 2);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 1_000, 10);
    let daemon = Setup::new(&topic, &redis.url()).start();
    daemon.wait_settled(1_000);
    // Refuses writes, keeps its data: the other end of the replication never answers.
    signal(master.pid(), "STOP");
    redis.command(&format!("REPLICAOF 127.0.0.1 {}", master.port));
    ticks.produce(&topic, 1_000, 10);
    daemon.wait_holds("redis-refuses");
    redis.command("REPLICAOF NO ONE");
    ticks.expect_in(&redis, 30);
    signal(master.pid(), "CONT");
}

#[test]
fn a_live_owner_goes_on_from_memory_when_redis_forgets_everything() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 1);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 100, 1);
    let daemon = Setup::new(&topic, &redis.url()).start();
    daemon.wait_settled(100);
    redis.command("FLUSHALL");
    ticks.produce(&topic, 100, 1);
    daemon.wait_settled(200);
    assert_eq!(redis.entries::<String>("volatility:P0/USD").len(), 100, "what came after stands there once");
    assert!(daemon.log().contains("state-lost"));
}

#[test]
fn a_lost_state_halts_the_next_claim_and_resumes_where_it_is_told_to() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 1);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 100, 1);
    let setup = Setup::new(&topic, &redis.url());
    let mut daemon = setup.start();
    daemon.wait_settled(100);
    assert_eq!(daemon.stop(), 0);
    redis.command("FLUSHALL");
    ticks.produce(&topic, 50, 1);
    let mut daemon = setup.start();
    daemon.wait_holds("state-lost");
    assert!(daemon.message("state-lost").contains("on_state_lost"));
    assert_eq!(daemon.stop(), 0);
    let daemon = setup.redis_extra("on_state_lost = \"resume\"").start();
    daemon.wait_settled(150);
    let length: i64 = redis::cmd("XLEN").arg("volatility:P0/USD").query(&mut redis.connect()).unwrap();
    assert_eq!(length, 50);
}

#[test]
fn a_recreated_topic_halts_instead_of_skipping_its_records() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 1);
    kafka::produce(&topic, (0..10).map(|_| Produce::new("K", r#"{"old":1}"#)));
    let setup = Setup::new(&topic, &redis.url());
    let mut daemon = setup.start();
    daemon.wait_settled(10);
    assert_eq!(daemon.stop(), 0);
    kafka::delete(&topic);
    eventually("the topic can be created again", 30, || kafka::try_create(&topic, 1).is_ok());
    kafka::produce(&topic, (0..20).map(|_| Produce::new("K", r#"{"new":1}"#)));
    let daemon = setup.start();
    daemon.wait_holds("log-changed");
    let length: i64 = redis::cmd("XLEN").arg("volatility:K").query(&mut redis.connect()).unwrap();
    assert_eq!(length, 10, "nothing of the new log is applied");
}

#[test]
fn at_least_once_resumes_from_the_commit_and_loses_nothing() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 4);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 40_000, 20);
    let setup = Setup::new(&topic, &redis.url()).redis_extra("guarantee = \"at-least-once\"").extra("[batch]\nrecords_max = 50\n");
    for round in 1..=2 {
        let mut daemon = setup.start();
        daemon.wait_settled(round * 10_000);
        daemon.kill();
    }
    let mut daemon = setup.start();
    daemon.wait_settled(40_000);
    ticks.expect_all_at_least_once(&redis);
    assert_eq!(daemon.stop(), 0);
    let committed: i64 = kafka::committed(&setup.group, &topic, 4).into_iter().flatten().sum();
    assert_eq!(committed, 40_000);
    let kept: Vec<String> = redis::cmd("KEYS").arg("bridge:*").query(&mut redis.connect()).unwrap();
    assert_eq!(kept, [format!("bridge:state:{}::topics", setup.group)], "no state is kept in Redis, but how many partitions the topic had");
}

#[test]
fn records_that_kafka_deleted_unread_halt_their_partition_by_name() {
    let redis = RedisServer::start();
    let topic = kafka::topic("deleted", 2);
    let mut ticks = Ticks::default();
    ticks.produce_on(&topic, 100, 2, 0..2);
    let setup = Setup::new(&topic, &redis.url());
    let mut daemon = setup.start();
    daemon.wait_settled(100);
    assert_eq!(daemon.stop(), 0);
    let mut lost = Ticks::named("L");
    lost.produce_on(&topic, 100, 1, 0..1);
    kafka::delete_records(&topic, 0..1, 120);
    let mut daemon = setup.start();
    daemon.wait_holds("history-gone");
    lost.produce_on(&topic, 100, 1, 1..2);
    eventually("the other partition goes on", 20, || daemon.status().is_some_and(|s| s.partitions[1].position == Some(150)));
    assert!(daemon.message("history-gone").contains("the position is 50, and the log begins at 120"), "{}", daemon.message("history-gone"));
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_lane_that_redis_has_no_room_for_is_told_and_connects_when_there_is() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 1);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 100, 10);
    let daemon = Setup::new(&topic, &redis.url()).redis_extra("lanes = 1").start();
    daemon.wait_settled(100);
    // Its connection is cut, and no new one is let in: the claimer keeps its own.
    let mut c = redis.connect();
    let clients: String = redis::cmd("CLIENT").arg("LIST").query(&mut c).unwrap();
    let lane = clients.lines().find(|l| l.contains("cmd=hmget")).expect("the lane's connection");
    let id = lane.split(['=', ' ']).nth(1).unwrap().to_owned();
    redis::cmd("CONFIG").arg("SET").arg("maxclients").arg(1).query::<()>(&mut c).unwrap();
    redis::cmd("CLIENT").arg("KILL").arg("ID").arg(&id).query::<i64>(&mut c).unwrap();
    ticks.produce(&topic, 100, 10);
    daemon.wait_holds("redis-unreachable");
    assert!(daemon.message("redis-unreachable").contains("max number of clients reached"));
    redis::cmd("CONFIG").arg("SET").arg("maxclients").arg(100).query::<()>(&mut c).unwrap();
    ticks.expect_in(&redis, 30);
    daemon.wait_ready();
}

#[test]
fn a_redis_that_refuses_whoever_connects_is_not_called_unreachable() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 2);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 100, 10);
    // It can't save, and says so to a PING already.
    let obstacle = redis.dir.path().join("dump.rdb");
    std::fs::create_dir_all(obstacle.join("in-the-way")).unwrap();
    let mut c = redis.connect();
    redis::cmd("CONFIG").arg("SET").arg("save").arg("3600 1").query::<()>(&mut c).unwrap();
    eventually("a save fails", 30, || {
        let _ = redis::cmd("BGSAVE").query::<redis::Value>(&mut c);
        redis::cmd("INFO").arg("persistence").query::<String>(&mut c).unwrap().contains("rdb_last_bgsave_status:err")
    });
    let daemon = Setup::new(&topic, &redis.url()).start();
    daemon.wait_holds("redis-refuses");
    assert!(!daemon.holds("redis-unreachable") && !daemon.status().unwrap().ready);
    redis::cmd("CONFIG").arg("SET").arg("save").arg("").query::<()>(&mut c).unwrap();
    ticks.expect_in(&redis, 30);
    eventually("the condition is over", 10, || !daemon.holds("redis-refuses") && daemon.status().unwrap().ready);
}
