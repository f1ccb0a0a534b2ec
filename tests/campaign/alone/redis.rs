//! What Redis does to the bridge that no bridge can make undone.
use crate::bed::Broker;
use crate::support::daemon::Setup;
use crate::support::kafka::{self, Produce};
use crate::support::proxy::Proxy;
use crate::support::redis_server::RedisServer;
use crate::support::sequence::Ticks;
use crate::support::{eventually, letters};

/// A replica is promoted that holds nothing: what stood there is gone, and the live owner goes on from memory.
pub(crate) fn empty_replica(_: &mut Broker) -> Option<String> {
    let (master, empty) = (RedisServer::start(), RedisServer::start());
    let wire = Proxy::start(0, &format!("127.0.0.1:{}", master.port));
    let topic = kafka::topic("ticks", 4);
    let mut before = Ticks::named("B");
    before.produce(&topic, 2_000, 20);
    let daemon = Setup::new(&topic, &format!("redis://127.0.0.1:{}/0", wire.port)).start();
    daemon.wait_settled(2_000);
    before.expect_exactly(&master);
    wire.point_at(empty.port);
    drop(master);
    let mut after = Ticks::named("A");
    after.produce(&topic, 2_000, 20);
    after.expect_in(&empty, 60);
    let old: Vec<String> = redis::cmd("KEYS").arg("volatility:B*").query(&mut empty.connect()).unwrap();
    assert_eq!(old, Vec::<String>::new(), "nothing is applied a second time");
    assert!(daemon.log().contains("state-lost"), "it is told");
    eventually("nothing holds any more", 30, || daemon.status().is_some_and(|s| s.ready && s.conditions.is_empty()));
    None
}

/// The ACL is changed under the running bridge: partitions halt by name, and go on where they stood when it is put right.
pub(crate) fn noperm(_: &mut Broker) -> Option<String> {
    let redis = RedisServer::start();
    redis.command("ACL SETUSER bridge on >pw ~* &* +@all");
    let topic = kafka::topic("ticks", 2);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 1_000, 10);
    let setup = Setup::new(&topic, &redis.url()).redis_extra("user = \"bridge\"\npassword = \"pw\"\n");
    let mut daemon = setup.start();
    daemon.wait_settled(1_000);
    redis.command("ACL SETUSER bridge -xadd");
    ticks.produce(&topic, 1_000, 10);
    daemon.wait_holds("refused");
    let message = daemon.message("refused");
    assert!(message.contains("NOPERM") && message.contains("xadd"), "{message}");
    redis.command("ACL SETUSER bridge +xadd");
    assert_eq!(daemon.stop(), 0);
    let daemon = setup.start();
    ticks.expect_in(&redis, 40);
    assert_eq!(letters::read(&redis, crate::bed::LETTERS).len(), 0);
    drop(daemon);
    None
}

/// A record that is larger than Redis takes is a dead letter, also where the limit was lowered while the bridge ran.
pub(crate) fn oversized(_: &mut Broker) -> Option<String> {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 1);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 100, 10);
    let daemon = Setup::new(&topic, &redis.url()).start();
    daemon.wait_settled(100);
    redis.command("CONFIG SET proto-max-bulk-len 1mb");
    let large = format!(r#"{{"blob":"{}"}}"#, "x".repeat(2 << 20));
    kafka::produce(&topic, [Produce::new("BIG", &large)]);
    ticks.produce(&topic, 100, 10);
    daemon.wait_settled(201);
    ticks.expect_exactly(&redis);
    assert_eq!(letters::read(&redis, crate::bed::LETTERS).len(), 1);
    None
}
