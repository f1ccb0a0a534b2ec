//! Rate limits hold by pausing partitions, and hold up nobody else.
use crate::support::daemon::Setup;
use crate::support::kafka;
use crate::support::redis_server::RedisServer;
use crate::support::sequence::Ticks;
use std::time::{Duration, Instant};

#[test]
fn a_route_is_held_to_its_rate_and_its_neighbour_is_not() {
    let redis = RedisServer::start();
    let (slow, fast) = (kafka::topic("slow", 2), kafka::topic("fast", 2));
    let (mut limited, mut free) = (Ticks::named("S"), Ticks::named("F"));
    let write =
        "[[route.write]]\nxadd = { key = \"volatility:{key}\", fields = \"*\" }\n[[route.write]]\nset = { key = \"latest:{key}\", value = \"{payload}\" }\n";
    let routes = format!(
        "[[route]]\nname = \"slow\"\ntopics = [\"{slow}\"]\n{write}[route.limit]\nrecords_per_second = 500\nburst = 500\n\
         [[route]]\nname = \"fast\"\ntopics = [\"{fast}\"]\n{write}"
    );
    let daemon = Setup::new(&slow, &redis.url()).redis_extra("lanes = 1").routes(&routes).property("session.timeout.ms", "45000").start();
    daemon.wait_ready();
    let begun = Instant::now();
    limited.produce(&slow, 3_500, 10);
    free.produce(&fast, 30_000, 10);
    // At the neighbour's rate this would take a minute longer than it may.
    free.expect_in(&redis, 50);
    limited.expect_in(&redis, 60);
    assert!(begun.elapsed() >= Duration::from_secs(6), "3,500 records at 500/s after a burst of 500 take six seconds, not {:?}", begun.elapsed());
    let epochs: Vec<i64> = daemon.status().unwrap().partitions.iter().map(|p| p.epoch).collect();
    assert_eq!(epochs, [1, 1, 1, 1], "no partition was lost or claimed again meanwhile");
}

#[test]
fn all_routes_together_are_held_to_the_limit_of_all() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 4);
    let mut ticks = Ticks::default();
    let daemon = Setup::new(&topic, &redis.url()).extra("[batch]\nrecords_max = 100\n[limit]\nrecords_per_second = 1000\nburst = 100\n").start();
    daemon.wait_ready();
    let begun = Instant::now();
    ticks.produce(&topic, 4_100, 10);
    ticks.expect_in(&redis, 60);
    assert!(begun.elapsed() >= Duration::from_secs(4), "{:?}", begun.elapsed());
}
