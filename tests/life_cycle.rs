//! Starting, being watched, being told, stopping.
use crate::support::daemon::{Setup, binary};
use crate::support::http::ask;
use crate::support::kafka::{self, Produce};
use crate::support::process;
use crate::support::redis_server::{Kind, RedisServer};
use crate::support::sequence::Ticks;
use crate::support::{eventually, signal};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn sigterm_drains_and_says_where_each_partition_stopped() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 3);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 30_000, 30);
    let setup = Setup::new(&topic, &redis.url());
    let mut daemon = setup.start();
    daemon.wait_settled(1_000);
    daemon.wait_all_open();
    assert_eq!(daemon.stop(), 0);
    let log = daemon.log();
    for partition in 0..3 {
        assert!(log.contains(&format!("stopped partition=\"{topic}[{partition}]\" position=")), "{log}");
    }
    assert!(log.contains("drained"));
    // What is committed is what stands in Redis, so Kafka's own tools see where it stopped.
    let lengths: i64 = (0..30).map(|k| redis::cmd("XLEN").arg(format!("volatility:P{k}/USD")).query::<i64>(&mut redis.connect()).unwrap()).sum();
    assert_eq!(kafka::committed(&setup.group, &topic, 3).into_iter().flatten().sum::<i64>(), lengths);
    let _daemon = setup.start();
    ticks.expect_in(&redis, 60);
}

#[test]
fn sigint_drains_too() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 1);
    kafka::produce(&topic, [Produce::new("K", r#"{"a":1}"#)]);
    let mut daemon = Setup::new(&topic, &redis.url()).start();
    daemon.wait_settled(1);
    signal(daemon.pid(), "INT");
    assert_eq!(daemon.exit_code(20), 0);
}

#[test]
fn a_drain_ends_at_its_deadline_and_leaves_what_is_left_to_the_next_start() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 1);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 1_000, 10);
    let setup = Setup::new(&topic, &redis.url()).extra("[drain]\ndeadline = \"2s\"\n");
    let mut daemon = setup.start();
    daemon.wait_settled(1_000);
    signal(redis.pid(), "STOP");
    ticks.produce(&topic, 1_000, 10);
    let begun = Instant::now();
    signal(daemon.pid(), "TERM");
    assert_eq!(daemon.exit_code(20), 75);
    assert!(begun.elapsed() >= Duration::from_millis(1_900) && begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    signal(redis.pid(), "CONT");
    let _daemon = setup.start();
    ticks.expect_in(&redis, 40);
}

#[test]
fn a_stop_while_redis_is_away_says_that_records_are_left() {
    let mut redis = RedisServer::with(Kind::System, &["--appendonly", "yes"]);
    let topic = kafka::topic("ticks", 2);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 1_000, 10);
    let setup = Setup::new(&topic, &redis.url());
    let mut daemon = setup.start();
    daemon.wait_settled(1_000);
    redis.kill();
    ticks.produce(&topic, 1_000, 10);
    daemon.wait_holds("redis-unreachable");
    assert_eq!(daemon.stop(), 75, "{}", daemon.log());
    redis.run();
    let _daemon = setup.start();
    ticks.expect_in(&redis, 40);
}

#[test]
fn a_stop_while_redis_is_away_counts_the_partitions_that_have_records_and_no_others() {
    let mut redis = RedisServer::with(Kind::System, &["--appendonly", "yes"]);
    let topic = kafka::topic("ticks", 6);
    let mut ticks = Ticks::default();
    ticks.produce_on(&topic, 600, 6, 0..6);
    let setup = Setup::new(&topic, &redis.url());
    let mut daemon = setup.start();
    daemon.wait_settled(600);
    redis.kill();
    eventually("all its partitions wait for Redis", 40, || daemon.open() == 0);
    ticks.produce_on(&topic, 400, 4, 0..4);
    assert_eq!(daemon.stop(), 75, "{}", daemon.log());
    assert!(daemon.log().contains("partitions=4 unknown=0"), "{}", daemon.log());
    // None of them was ever claimed by this process.
    let mut daemon = setup.start();
    daemon.wait_holds("redis-unreachable");
    eventually("it has partitions", 40, || daemon.status().is_some_and(|s| s.partitions.len() == 6));
    assert_eq!(daemon.stop(), 75, "{}", daemon.log());
    assert!(daemon.log().contains("partitions=4 unknown=0"), "{}", daemon.log());
    redis.run();
    let _daemon = setup.start();
    ticks.expect_in(&redis, 40);
}

#[test]
fn a_second_signal_leaves_at_once() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 1);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 100, 10);
    let setup = Setup::new(&topic, &redis.url()).extra("[drain]\ndeadline = \"60s\"\n");
    let mut daemon = setup.start();
    daemon.wait_settled(100);
    signal(redis.pid(), "STOP");
    ticks.produce(&topic, 1_000, 10);
    signal(daemon.pid(), "TERM");
    eventually("the drain has begun", 10, || daemon.log().contains("draining"));
    let begun = Instant::now();
    signal(daemon.pid(), "TERM");
    assert_eq!(daemon.exit_code(10), 75);
    assert!(begun.elapsed() < Duration::from_secs(5));
    signal(redis.pid(), "CONT");
    let _daemon = setup.start();
    ticks.expect_in(&redis, 40);
}

#[test]
fn sighup_reads_the_log_level_again_and_never_kills() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 1);
    let daemon = Setup::new(&topic, &redis.url()).extra("[log]\nlevel = \"info\"\nformat = \"json\"\n").start();
    daemon.wait_ready();
    let text = std::fs::read_to_string(daemon.config()).unwrap();
    std::fs::write(daemon.config(), text.replace("level = \"info\"", "level = \"debug\"")).unwrap();
    signal(daemon.pid(), "HUP");
    eventually("the level is taken up", 10, || daemon.log().contains("the log level was read again"));
    std::fs::write(daemon.config(), "this is no toml").unwrap();
    signal(daemon.pid(), "HUP");
    eventually("a bad file is refused", 10, || daemon.log().contains("reload-refused"));
    kafka::produce(&topic, [Produce::new("K", r#"{"a":1}"#)]);
    daemon.wait_settled(1);
    // The last one may be half written.
    for line in daemon.log().split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
    }
}

#[test]
fn a_redis_that_may_evict_the_state_is_refused_at_start() {
    let redis = RedisServer::start();
    redis.command("CONFIG SET maxmemory-policy allkeys-lru");
    let topic = kafka::topic("ticks", 1);
    let mut daemon = Setup::new(&topic, &redis.url()).start();
    assert_eq!(daemon.exit_code(30), 1);
    assert!(daemon.log().contains("maxmemory-policy is allkeys-lru"), "{}", daemon.log());
}

#[test]
fn an_eviction_policy_that_is_changed_while_running_is_told() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 1);
    let daemon = Setup::new(&topic, &redis.url()).start();
    daemon.wait_ready();
    redis.command("CONFIG SET maxmemory-policy allkeys-lfu");
    daemon.wait_holds("redis-evicts");
    redis.command("CONFIG SET maxmemory-policy noeviction");
    eventually("the condition is over", 10, || !daemon.holds("redis-evicts"));
}

#[test]
fn a_wrong_password_is_refused_at_start() {
    let redis = RedisServer::start();
    redis.command("CONFIG SET requirepass right");
    let topic = kafka::topic("ticks", 1);
    let mut daemon = Setup::new(&topic, &redis.url()).redis_extra("password = \"wrong\"").start();
    assert_eq!(daemon.exit_code(30), 1);
    assert!(daemon.log().contains("redis.password") && !daemon.log().contains("\"wrong\""), "{}", daemon.log());
}

#[test]
fn the_endpoints_tell_what_is_and_what_holds() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 2);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 500, 10);
    // Its time is in seconds in place of milliseconds.
    kafka::produce(&topic, [Produce { timestamp: Some(1_765_000_000), ..Produce::new("poison", "{") }]);
    // A session that even a slow machine keeps: the epoch is that of the first claim.
    let daemon = Setup::new(&topic, &redis.url()).property("session.timeout.ms", "45000").start();
    daemon.wait_settled(501);
    assert_eq!(daemon.get("/livez").unwrap(), "ok\n");
    assert_eq!(daemon.get("/readyz").unwrap(), "ok\n");
    eventually("the lag is seen to be none", 10, || daemon.status().unwrap().partitions.iter().all(|p| p.lag == Some(0) && p.phase == "open" && p.epoch == 1));
    let metrics = daemon.get("/metrics").unwrap();
    for line in [
        "bridge_records_total{route=\"volatility\"} 501",
        "bridge_commands_total{route=\"volatility\"} 1500",
        "bridge_dead_letters_total{route=\"volatility\"} 1",
        "# TYPE bridge_latency_seconds histogram",
        "bridge_latency_seconds_count{route=\"volatility\"} 500",
        "bridge_latency_seconds_bucket{le=\"+Inf\",route=\"volatility\"} 500",
        "bridge_latency_implausible_total{route=\"volatility\"} 1",
        &format!("bridge_lag_records{{topic=\"{topic}\",partition=\"0\"}} 0"),
        "bridge_ready 1",
        "# HELP bridge_records_total Records settled through a route.",
    ] {
        assert!(metrics.contains(line), "missing: {line}\nin:\n{metrics}");
    }
    let open = ask(daemon.http, "GET", "/metrics", &[("Accept", "application/openmetrics-text;version=1.0.0,*/*;q=0.1")], "");
    assert!(open.header("content-type").is_some_and(|c| c.starts_with("application/openmetrics-text")) && open.text().ends_with("# EOF\n"), "{}", open.text());
    let address = format!("127.0.0.1:{}", daemon.http);
    let status = |extra: &[&str]| process::output(Command::new(binary()).args(["status", "--address", &address]).args(extra));
    let text = String::from_utf8(status(&[]).stdout).unwrap();
    assert!(text.contains("ready, exactly-once") && text.contains(&format!("{topic}[1]")), "{text}");
    assert!(text.contains("2 of 2 partitions are open"), "{text}");
    assert_eq!(status(&["--ready"]).status.code(), Some(0));
    redis.command("CONFIG SET maxmemory 1mb");
    ticks.produce(&topic, 500, 10);
    daemon.wait_holds("redis-oom");
    let text = String::from_utf8(status(&[]).stdout).unwrap();
    assert!(text.contains("redis-oom") && text.contains("what to do: Redis is at its maxmemory"), "{text}");
    assert!(daemon.get("/metrics").unwrap().contains("bridge_condition{code=\"redis-oom\""));
}

#[test]
fn redis_memory_and_the_lengths_of_streams_are_told_without_a_search_of_the_keyspace() {
    let mut redis = RedisServer::start();
    let topic = kafka::topic("ticks", 1);
    let alert = "[[route.write]]\nwhen = \"value.n > 1\"\nxadd = { key = \"alerts\", fields = \"*\" }\n";
    let mut setup = Setup::new(&topic, &redis.url()).extra("redis_every = \"100ms\"\n[dead_letter]\nstream = \"bridge:dead\"\n[serve]\nindex = true\n");
    setup.routes += alert;
    let ticks = [("A", 0), ("A", 1), ("A", 2), ("B", 3)].map(|(key, n)| (key, format!("{{\"n\":{n}}}")));
    kafka::produce(&topic, ticks.iter().map(|(key, tick)| Produce::new(key, tick)).chain([Produce::new("poison", "{")]));
    let daemon = setup.start();
    daemon.wait_settled(5);
    let has = |lines: &[&str]| daemon.get("/metrics").is_some_and(|metrics| lines.iter().all(|line| metrics.lines().any(|l| l == *line)));
    redis.command("CONFIG SET maxmemory 1gb");
    let told = |what: &str, lines: &[&str]| eventually(what, 20, || has(lines));
    told(
        "all of it is told",
        &[
            "bridge_streams{route=\"volatility\",key=\"volatility:{key}\"} 2",
            "bridge_stream_entries{route=\"volatility\",key=\"volatility:{key}\"} 4",
            "bridge_stream_entries_longest{route=\"volatility\",key=\"volatility:{key}\"} 3",
            "bridge_stream_entries{route=\"volatility\",key=\"alerts\"} 2",
            "bridge_stream_entries{route=\"\",key=\"bridge:dead\"} 1",
            "bridge_redis_maxmemory_bytes 1073741824",
        ],
    );
    let used: u64 = daemon.get("/metrics").unwrap().lines().find_map(|l| l.strip_prefix("bridge_redis_used_memory_bytes ")?.parse().ok()).unwrap();
    assert!((100_000..1 << 30).contains(&used), "{used}");
    let text = daemon.status().unwrap().to_string();
    assert!(text.contains("maxmemory 1024.0 MiB") && text.contains("4 entries in 2 streams, 3 in the longest"), "{text}");
    let ran: String = redis::cmd("INFO").arg("commandstats").query(&mut redis.connect()).unwrap();
    assert!(ran.contains("cmdstat_xlen:") && !ran.contains("cmdstat_keys:") && !ran.contains("cmdstat_scan:"), "{ran}");
    // What it may not ask is left out; all else goes on.
    redis.command("ACL SETUSER default -xlen");
    eventually("the lengths are left out", 20, || !has(&["bridge_stream_entries{route=\"volatility\",key=\"alerts\"} 2"]));
    told("the memory is told", &["bridge_redis_maxmemory_bytes 1073741824", "bridge_ready 1"]);
    assert_eq!(daemon.log().matches("figures of Redis are left out").count(), 1, "{}", daemon.log());
    redis.kill();
    eventually("of a Redis that is away nothing is told", 20, || daemon.get("/metrics").is_some_and(|m| !m.contains("bridge_redis_used_memory_bytes")));
}

#[test]
fn no_bridge_is_no_readiness() {
    let status = process::output(Command::new(binary()).args(["status", "--ready", "--address", "127.0.0.1:1"]));
    assert_eq!(status.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&status.stderr).contains("no bridge answers at 127.0.0.1:1"));
}

#[test]
fn systemd_hears_of_readiness_life_and_stopping() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 1);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let hear = || {
        let mut buffer = [0; 512];
        let n = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..n]).into_owned()
    };
    let mut daemon = Setup::new(&topic, &redis.url()).start_with(&[("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "600000")]);
    let mut heard = Vec::new();
    eventually("systemd is told that it is ready, and that it lives", 60, || {
        heard.push(hear());
        heard.contains(&"READY=1\n".to_owned()) && heard.contains(&"WATCHDOG=1\n".to_owned())
    });
    daemon.wait_all_open();
    signal(daemon.pid(), "TERM");
    eventually("systemd is told that it stops", 60, || hear().contains("STOPPING=1"));
    // Nobody reads it any more: it would be full of signs of life, and who writes to it would wait.
    drop(socket);
    assert_eq!(daemon.exit_code(20), 0);
}

#[test]
fn what_was_not_mended_at_a_stop_is_left_and_not_told_as_over() {
    let topic = kafka::topic("ticks", 1);
    kafka::produce(&topic, [Produce::new("K", r#"{"a":1}"#), Produce::new("K", "poison")]);
    // Of a partition; of a Redis that refuses; of a Redis that is away.
    for (code, maxmemory, away) in [("poison", "0", false), ("redis-oom", "1", false), ("redis-unreachable", "0", true)] {
        let mut redis = RedisServer::start();
        redis.command(&format!("CONFIG SET maxmemory {maxmemory}"));
        let mut daemon = Setup::new(&topic, &redis.url()).extra("[drain]\ndeadline = \"1s\"\n").start();
        if away {
            daemon.wait_holds("poison");
            redis.kill();
        }
        daemon.wait_holds(code);
        daemon.stop();
        let log = daemon.log();
        let left: Vec<&str> = log.lines().filter(|l| l.contains(&format!("while {code} still holds"))).collect();
        assert!(!left.is_empty() && !log.contains(&format!("{code} is over")), "{code}: {log}");
        let mended = left.iter().all(|l| !l.contains("it is not mended"));
        assert_eq!(mended, code != "poison", "{left:?}");
    }
}
