//! A bridge and its group: who was killed is replaced soon by default, and who has no partitions says why.
use crate::support::command::check;
use crate::support::daemon::{Daemon, Setup};
use crate::support::eventually;
use crate::support::kafka::{self, Producer};
use crate::support::kafka_server::KafkaServer;
use crate::support::redis_server::RedisServer;
use crate::support::sequence::{Ticks, sequence};
use rdkafka::ClientConfig;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// As users have it: no property is set.
fn by_default(topic: &str, redis: &RedisServer) -> Setup {
    Setup::new(topic, &redis.url()).without_properties()
}

/// How long it takes from now until one more record is settled than before.
fn until_records_flow(daemon: &Daemon, redis: &RedisServer, within: u64) -> Duration {
    let (since, before) = (Instant::now(), sequence(redis, "P0/USD").len());
    eventually("records flow again", within, || sequence(redis, "P0/USD").len() > before);
    assert!(daemon.status().is_some());
    since.elapsed()
}

/// On a machine that is at peace both take less than 10 s; the bounds are for one that is not.
#[test]
fn a_killed_bridge_goes_on_within_ten_seconds_and_a_stopped_one_at_once_by_default() {
    let server = KafkaServer::with_default_groups();
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", server.bootstrap());
    kafka::create_on(&client, "ticks", 4, &[]);
    let redis = RedisServer::start();
    let setup = by_default("ticks", &redis).brokers(&server.bootstrap());
    let (over, producer, mut ticks) = (AtomicBool::new(false), Producer::on(client), Ticks::default());
    let mut daemon = setup.start();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                ticks.produce_with(&producer, "ticks", 100, 1);
                producer.flush();
                std::thread::park_timeout(Duration::from_millis(20));
            }
        });
        daemon.wait_ready();
        daemon.wait_settled(1_000);
        daemon.kill();
        daemon = setup.start();
        let killed = until_records_flow(&daemon, &redis, 20);
        println!("records flow {killed:?} after the restart of a bridge that was killed");
        daemon.wait_all_open();
        assert_eq!(daemon.stop(), 0);
        daemon = setup.start();
        let stopped = until_records_flow(&daemon, &redis, 15);
        println!("records flow {stopped:?} after the restart of a bridge that was stopped");
        assert!(!daemon.log().contains("group-waits"), "nobody was waited for: {}", daemon.log());
        over.store(true, Ordering::Relaxed);
    });
    ticks.expect_in(&redis, 60);
}

#[test]
fn a_stopped_bridge_has_left_its_group_and_the_next_one_waits_for_nobody() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 4);
    let mut ticks = Ticks::default();
    let setup = by_default(&topic, &redis);
    let mut daemon = setup.start();
    daemon.wait_ready();
    daemon.wait_all_open();
    assert_eq!(daemon.stop(), 0);
    assert_eq!(kafka::members(&setup.group), 0);
    let daemon = setup.start();
    ticks.produce(&topic, 100, 10);
    ticks.expect_in(&redis, 30);
    assert!(!daemon.log().contains("group-waits"), "{}", daemon.log());
}

#[test]
fn while_a_dead_member_is_waited_for_that_is_said_with_how_long_it_can_take() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 2);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 100, 10);
    // Longer than by default, so that there is something to see on any machine.
    let setup = by_default(&topic, &redis).property("session.timeout.ms", "20000");
    let mut daemon = setup.start();
    daemon.wait_settled(100);
    daemon.kill();
    ticks.produce(&topic, 100, 10);
    let daemon = setup.start();
    eventually("the wait is said", 10, || daemon.holds("group-waits"));
    let status = daemon.status().unwrap();
    let told = status.conditions.iter().find(|c| c.code == "group-waits").unwrap();
    assert!(told.message.contains("20 s at most (session.timeout.ms)") && !told.needs_person, "{told:?}");
    assert!(!status.ready);
    let readyz = daemon.get("/readyz").unwrap();
    assert!(
        readyz.starts_with("no: 0 of 0 assigned partitions are open\ngroup-waits: ") && readyz.contains("20 s at most") && readyz.contains("What to do: "),
        "{readyz}"
    );
    assert!(daemon.log().contains("20 s at most (session.timeout.ms)"));
    daemon.wait_settled(200);
    eventually("the wait is over", 10, || !daemon.holds("group-waits"));
    assert!(daemon.log().contains("group-waits is over"));
    assert_eq!(daemon.get("/readyz").unwrap(), "ok\n");
    ticks.expect_exactly(&redis);
}

#[test]
fn a_bridge_that_stands_by_says_so_is_ready_and_takes_over() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 1);
    let mut ticks = Ticks::default();
    let setup = by_default(&topic, &redis);
    let mut one = setup.start();
    one.wait_ready();
    one.wait_all_open();
    let two = setup.start();
    eventually("one of the two stands by", 20, || one.holds("no-partitions") || two.holds("no-partitions"));
    let standby = if two.holds("no-partitions") { &two } else { &one };
    assert!(standby.message("no-partitions").contains("2 members for 1 partition"), "{}", standby.message("no-partitions"));
    assert!(standby.message("no-partitions").ends_with("1 partition"), "{}", standby.message("no-partitions"));
    let status = standby.status().unwrap();
    assert!(status.ready && status.conditions.iter().all(|c| !c.needs_person), "{status}");
    assert!(two.holds("no-partitions"), "who has partitions keeps them");
    one.kill();
    ticks.produce(&topic, 100, 10);
    ticks.expect_in(&redis, 40);
    eventually("it stands by no more", 10, || !two.holds("no-partitions"));
}

#[test]
fn check_connect_says_what_would_keep_a_bridge_out_of_its_group() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 2);
    let setup = by_default(&topic, &redis);
    let daemon = setup.start();
    daemon.wait_all_open();
    let asked = |setup: &Setup| check(&setup.toml(9650), &["--connect"], &[]);
    let (code, said) = asked(&setup);
    assert!(code == Some(0) && !said.contains("session.timeout.ms"), "{said}");
    let (code, said) = asked(&setup.clone().property("partition.assignment.strategy", "range"));
    assert!(code == Some(1) && said.contains("share partitions by cooperative-sticky, and this bridge by range"), "{said}");
    let (code, said) = asked(&setup.property("session.timeout.ms", "1000").property("heartbeat.interval.ms", "300"));
    assert!(code == Some(0) && said.contains("whether the broker allows session.timeout.ms = 1000 was not asked"), "{said}");
}

#[test]
fn a_pattern_that_matches_no_topic_is_said_and_taken_up_when_one_comes() {
    let redis = RedisServer::start();
    let base = crate::support::unique("pattern");
    let routes = format!(
        "[[route]]\nname = \"r\"\ntopics = [\"^{base}[.].*\"]\n[[route.write]]\nxadd = {{ key = \"volatility:{{key}}\", fields = \"*\" }}\n\
                          [[route.write]]\nset = {{ key = \"latest:{{key}}\", value = \"{{payload}}\" }}\n"
    );
    let daemon = by_default("none", &redis).routes(&routes).start();
    eventually("it is said", 20, || daemon.message("topic-missing").contains(&base));
    let readyz = daemon.get("/readyz").unwrap();
    assert!(readyz.starts_with("no: 0 of 0 assigned partitions are open\ntopic-missing: ") && readyz.contains(&base), "{readyz}");
    assert!(!daemon.holds("group-waits"), "one reason, told once");
    let topic = format!("{base}.ticks");
    kafka::create(&topic, 2, &[]);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 100, 10);
    ticks.expect_in(&redis, 60);
    eventually("nothing holds any more", 10, || daemon.status().is_some_and(|s| s.ready && s.conditions.is_empty()));
}

#[test]
fn a_bridge_whose_instance_id_another_one_takes_ends_and_says_what_to_do() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 2);
    let setup = by_default(&topic, &redis).property("group.instance.id", "the-same");
    let mut one = setup.start();
    one.wait_ready();
    one.wait_all_open();
    let two = setup.start();
    let since = Instant::now();
    let code = one.exit_code(60);
    println!("{:?}", since.elapsed());
    let log = one.log();
    assert!(log.contains("What to do: another member has the same group.instance.id"), "{log}");
    assert_eq!(code, 1, "{log}");
    two.wait_ready();
}
