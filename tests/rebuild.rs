//! `on_state_lost = "rebuild"`: what the state's loss took with it is applied anew, onto nothing that survived.
use crate::support::daemon::Setup;
use crate::support::eventually;
use crate::support::kafka;
use crate::support::redis_server::RedisServer;
use crate::support::sequence::Ticks;

fn rebuilding(topic: &str, redis: &RedisServer) -> Setup {
    Setup::new(topic, &redis.url()).redis_extra("on_state_lost = \"rebuild\"")
}

#[test]
fn an_emptied_redis_is_filled_again_once_and_in_order_without_publishing() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 4);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 20_000, 8);
    let setup = rebuilding(&topic, &redis);
    let mut daemon = setup.start();
    ticks.expect_in(&redis, 60);
    assert_eq!(daemon.stop(), 0);
    redis.command("FLUSHALL");
    let mut connection = redis.connect();
    let mut channel = connection.as_pubsub();
    channel.psubscribe("updates:*").unwrap();
    // Killed on its way, it goes on where it was.
    let mut daemon = setup.start();
    eventually("the rebuild is under way", 40, || daemon.settled() > 1_000);
    daemon.kill();
    let daemon = setup.start();
    ticks.expect_in(&redis, 60);
    daemon.wait_settled(20_000);
    // The next record is new, and published.
    ticks.produce(&topic, 8, 8);
    let first: String = channel.get_message().unwrap().get_payload().unwrap();
    assert!(first.contains("\"seq\":2500"), "published first after the loss: {first}");
    ticks.expect_in(&redis, 30);
}

#[test]
fn a_stream_that_survived_is_not_written_to_twice() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 1);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 100, 2);
    let setup = rebuilding(&topic, &redis);
    let mut daemon = setup.start();
    daemon.wait_settled(100);
    assert_eq!(daemon.stop(), 0);
    // The state alone is lost, and one of the two streams.
    redis.command(&format!("DEL bridge:state:{}:{topic}:0", setup.group));
    redis.command("DEL volatility:P0/USD");
    let mut daemon = setup.start();
    daemon.wait_holds("rebuild-survivor");
    let told = daemon.message("rebuild-survivor");
    assert!(told.contains("volatility:P1/USD"), "{told}");
    assert_eq!(daemon.stop(), 0);
    redis.command("DEL volatility:P1/USD");
    let daemon = setup.start();
    daemon.wait_settled(100);
    ticks.expect_in(&redis, 30);
}
