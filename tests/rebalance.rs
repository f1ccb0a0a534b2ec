//! Partitions move between bridges, and come into being, without loss, doubles or disorder.
use crate::support::daemon::Setup;
use crate::support::kafka::{self, Produce, Producer};
use crate::support::redis_server::RedisServer;
use crate::support::sequence::Ticks;
use crate::support::{eventually, signal};
use std::time::Instant;

/// Two bridges share the partitions; a third comes, one is killed, one is stopped, while records keep coming.
fn moving(configure: impl Fn(Setup) -> Setup) {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 8);
    let mut ticks = Ticks::default();
    let producer = Producer::new();
    let setup = configure(Setup::new(&topic, &redis.url()).extra("[batch]\nrecords_max = 100\n"));
    let mut one = setup.start();
    let mut feed = |n| {
        ticks.produce_with(&producer, &topic, n, 100);
        producer.flush();
    };
    feed(30_000);
    one.wait_settled(10_000);
    let mut two = setup.start();
    eventually("the partitions are shared", 40, || two.open() == 4 && one.open() == 4);
    feed(30_000);
    two.kill();
    feed(30_000);
    // By the consumer protocol the broker keeps who was killed for 45 s.
    eventually("the survivor has all partitions", 120, || one.open() == 8);
    let three = setup.start();
    feed(30_000);
    eventually("the partitions are shared again", 40, || three.open() == 4 && one.open() == 4);
    feed(10_000);
    assert_eq!(one.stop(), 0);
    eventually("the last one has all partitions", 60, || three.open() == 8);
    ticks.expect_in(&redis, 90);
}

#[test]
fn two_bridges_share_partitions_cooperatively_and_one_is_killed() {
    moving(Setup::without_properties);
}

#[test]
fn two_bridges_share_partitions_eagerly_and_one_is_killed() {
    moving(|s| s.property("partition.assignment.strategy", "range"));
}

#[test]
fn two_bridges_share_partitions_by_the_consumer_protocol_and_one_is_killed() {
    moving(|s| s.property("group.protocol", "consumer"));
}

#[test]
fn partitions_added_while_running_are_read_from_their_first_record() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 2);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 1_000, 50);
    // A group that began at the end must still not skip what a later partition held before it was seen.
    let daemon = Setup::new(&topic, &redis.url()).start_with(&[("BRIDGE__KAFKA__START", "latest")]);
    eventually("both partitions are open", 30, || daemon.open() == 2);
    let before = daemon.settled();
    kafka::add_partitions(&topic, 6);
    let mut later = Ticks::named("N");
    later.produce_on(&topic, 2_000, 50, 2..6);
    eventually("all partitions are open", 30, || daemon.open() == 6);
    later.expect_in(&redis, 40);
    assert_eq!(before, 1_000, "the positions began at the end");
    let first: i64 = redis::cmd("EXISTS").arg("volatility:P0/USD").query(&mut redis.connect()).unwrap();
    assert_eq!(first, 0);
}

#[test]
fn partitions_added_under_a_bridge_with_the_default_properties_are_read_soon() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 2);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 1_000, 50);
    // What a user gets: nothing of what makes the other tests short.
    let mut setup = Setup::new(&topic, &redis.url());
    setup.properties.clear();
    let daemon = setup.start();
    daemon.wait_settled(1_000);
    kafka::add_partitions(&topic, 5);
    let since = Instant::now();
    let mut later = Ticks::named("N");
    later.produce_on(&topic, 1_000, 50, 2..5);
    eventually("the new partitions are open", 30, || {
        let status = daemon.status().unwrap();
        assert!(status.ready, "partitions that come add to the others: {:?}", status.conditions);
        (status.partitions_open, status.partitions_assigned) == (5, 5)
    });
    // Ten seconds is the promise; a busy machine may take longer, and librdkafka's own five minutes are far.
    println!("open after {:?}", since.elapsed());
    later.expect_in(&redis, 20);
    ticks.expect_in(&redis, 20);
    assert!(!daemon.log().contains("kafka-unanswered"), "{}", daemon.log());
}

#[test]
fn a_bridge_that_slept_through_its_session_comes_back() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 4);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 1_000, 20);
    let setup = Setup::new(&topic, &redis.url());
    let daemon = setup.start();
    daemon.wait_settled(1_000);
    signal(daemon.pid(), "STOP");
    eventually("its session is over", 40, || kafka::members(&setup.group) == 0);
    signal(daemon.pid(), "CONT");
    ticks.produce(&topic, 1_000, 20);
    ticks.expect_in(&redis, 60);
}

/// A log whose first records are gone: the offset at which partitions are assigned at first is out of its range.
fn trimmed(configure: impl Fn(Setup) -> Setup) {
    let redis = RedisServer::start();
    let topic = kafka::topic("trimmed", 6);
    let mut gone = Ticks::named("G");
    gone.produce_on(&topic, 600, 6, 0..6);
    kafka::delete_records(&topic, 0..6, 100);
    let mut kept = Ticks::default();
    kept.produce_on(&topic, 6_000, 60, 0..6);
    let daemon = configure(Setup::new(&topic, &redis.url())).start();
    kept.expect_in(&redis, 60);
    let none: i64 = redis::cmd("EXISTS").arg("volatility:G0/USD").query(&mut redis.connect()).unwrap();
    assert_eq!(none, 0);
    eventually("all partitions are open", 20, || daemon.open() == 6);
}

#[test]
fn a_log_that_begins_late_is_read_from_its_first_record_cooperatively() {
    trimmed(|s| s);
}

#[test]
fn a_log_that_begins_late_is_read_from_its_first_record_eagerly() {
    trimmed(|s| s.property("partition.assignment.strategy", "range"));
}

#[test]
fn a_group_without_a_position_begins_where_start_says() {
    let topic = kafka::topic("times", 2);
    let at = |ms| Produce { timestamp: Some(ms), ..Produce::new("K", r#"{"a":1}"#) };
    kafka::produce(&topic, (0..30).map(|n| at(1_700_000_000_000 + n * 60_000)));
    for (start, expected) in [("earliest", 30), ("2023-11-14T22:33:20Z", 10), ("latest", 0)] {
        let redis = RedisServer::start();
        let daemon = Setup::new(&topic, &redis.url()).start_with(&[("BRIDGE__KAFKA__START", start)]);
        eventually("both partitions are open", 30, || daemon.open() == 2);
        daemon.wait_settled(30);
        let length: i64 = redis::cmd("XLEN").arg("volatility:K").query(&mut redis.connect()).unwrap();
        assert_eq!(length, expected, "{start}");
    }
}
