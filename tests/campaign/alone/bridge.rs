//! A bridge under the limits of a machine in trouble.
use crate::bed::Broker;
use crate::support::daemon::Setup;
use crate::support::kafka::{self, Produce, Producer};
use crate::support::redis_server::{Kind, RedisServer};
use crate::support::sequence::Ticks;

/// Nothing that is logged can be written any more.
pub(crate) fn log_disk_full(_: &mut Broker) -> Option<String> {
    let mut redis = RedisServer::with(Kind::System, &["--appendonly", "yes", "--appendfsync", "always"]);
    let topic = kafka::topic("ticks", 4);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 2_000, 20);
    let mut daemon = Setup::new(&topic, &redis.url()).start_under(&["sh", "-c", "exec \"$0\" \"$@\" 2>/dev/full"]);
    daemon.wait_settled(2_000);
    // Much to say.
    redis.kill();
    daemon.wait_holds("redis-unreachable");
    redis.run();
    ticks.produce(&topic, 2_000, 20);
    ticks.expect_in(&redis, 60);
    daemon.wait_ready();
    assert_eq!(daemon.stop(), 0);
    None
}

/// Much more waits in Kafka than the process may have memory.
pub(crate) fn memory_limit(_: &mut Broker) -> Option<String> {
    let redis = RedisServer::start();
    let topic = kafka::topic("large", 4);
    let producer = Producer::new();
    let filler = "x".repeat(100_000);
    for n in 0..4_000 {
        let payload = format!(r#"{{"seq":{n},"filler":"{filler}"}}"#);
        producer.send(&topic, Produce { partition: Some(n % 4), ..Produce::new("K", &payload) });
        if n % 200 == 0 {
            producer.flush();
        }
    }
    producer.flush();
    let routes = "[[route]]\nname = \"r\"\ntopics = [\"TOPIC\"]\n[[route.write]]\nxadd = { key = \"p:{partition}\", fields = { seq = \"{value.seq}\" } }\n\
                  [[route.write]]\nset = { key = \"filler\", value = \"{payload}\" }\n";
    let mut daemon = Setup::new(&topic, &redis.url()).routes(routes).start_under(&["prlimit", "--data=268435456"]);
    daemon.wait_settled(4_000);
    for partition in 0..4 {
        let found = redis.entries::<String>(&format!("p:{partition}")).into_iter().map(|(_, f)| f[0].1.parse().unwrap());
        assert_eq!(found.collect::<Vec<u64>>(), (0..1_000).map(|n| n * 4 + partition).collect::<Vec<u64>>());
    }
    assert_eq!(daemon.stop(), 0);
    None
}
