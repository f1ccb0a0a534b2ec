//! Nothing lost, nothing doubled, nothing out of order: the exact sequence in each stream.
use crate::support::daemon::Setup;
use crate::support::redis_server::{Kind, RedisServer};
use crate::support::sequence::Ticks;
use crate::support::{eventually, kafka};

fn drained_sequence(redis: &RedisServer, records: u64) {
    let topic = kafka::topic("ticks", 8);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, records, 100);
    let setup = Setup::new(&topic, &redis.url()).without_properties();
    let mut daemon = setup.start();
    ticks.expect_in(redis, 120);
    assert_eq!(daemon.stop(), 0);
    ticks.expect_exactly(redis);
    let committed: i64 = kafka::committed(&setup.group, &topic, 8).into_iter().flatten().sum();
    assert_eq!(committed, i64::try_from(records).unwrap(), "Kafka's own tools see no lag");
}

#[test]
fn two_hundred_thousand_records_over_eight_partitions_arrive_once_and_in_order() {
    drained_sequence(&RedisServer::given_or_start(), 200_000);
}

#[test]
fn the_same_on_redis_6_2() {
    drained_sequence(&RedisServer::with(Kind::Redis62, &[]), 200_000);
}

#[test]
fn the_same_on_valkey_8_1() {
    drained_sequence(&RedisServer::with(Kind::Valkey81, &[]), 200_000);
}

#[test]
fn killing_the_bridge_five_times_loses_and_doubles_nothing() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 8);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 200_000, 100);
    let setup = Setup::new(&topic, &redis.url()).extra("[batch]\nrecords_max = 50\n[dead_letter]\nstream = \"bridge:dead\"\n");
    for round in 1..=5 {
        let mut daemon = setup.start();
        eventually("the bridge has come further", 60, || daemon.settled() > round * 25_000);
        daemon.kill();
    }
    let _daemon = setup.start();
    ticks.expect_in(&redis, 120);
}

#[test]
fn killing_the_bridge_under_load_loses_and_doubles_nothing_by_default() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 8);
    let mut ticks = Ticks::default();
    let setup = Setup::new(&topic, &redis.url()).without_properties();
    for round in 1..=3 {
        ticks.produce(&topic, 100_000, 100);
        let mut daemon = setup.start();
        eventually("the bridge is in the midst of it", 60, || daemon.settled() > (round - 1) * 100_000 + 1_000);
        daemon.kill();
    }
    let _daemon = setup.start();
    ticks.expect_in(&redis, 120);
}

#[test]
fn a_second_owner_fences_the_first() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 4);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 20_000, 20);
    let setup = Setup::new(&topic, &redis.url()).without_properties();
    let zombie = setup.start();
    eventually("the first bridge works", 30, || zombie.settled() > 0);
    // Stopped until Kafka has given its partitions away, then woken up with a batch in its hands.
    crate::support::signal(zombie.pid(), "STOP");
    let successor = setup.start();
    ticks.produce(&topic, 20_000, 20);
    eventually("the second bridge takes over", 60, || successor.settled() >= 40_000);
    crate::support::signal(zombie.pid(), "CONT");
    ticks.produce(&topic, 20_000, 20);
    ticks.expect_in(&redis, 60);
}
