//! A record that is larger than Redis takes holds up nobody else: where Redis tells its limit it is a dead letter, and where not its
//! partition halts by name.
use crate::support::daemon::{Daemon, Setup};
use crate::support::eventually;
use crate::support::kafka::{self, Produce};
use crate::support::letters::{self, Letter};
use crate::support::redis_server::{Kind, RedisServer};
use crate::support::sequence::Ticks;
use rdkafka::message::{Headers as _, Message as _};

/// The least that a Redis can be told.
const LIMIT: &str = "1048576";

fn redis(more: &[&str]) -> RedisServer {
    RedisServer::with(Kind::System, &[&["--proto-max-bulk-len", LIMIT], more].concat())
}

/// Ticks on two partitions of a lane, and among those of the first one record of 2 MiB, at offset 100.
fn among_ticks(topic: &str) -> (Ticks, String) {
    let mut ticks = Ticks::default();
    let large = format!(r#"{{"blob":"{}"}}"#, "x".repeat(2 << 20));
    ticks.produce_on(topic, 200, 4, 0..2);
    kafka::produce(topic, [Produce { partition: Some(0), ..Produce::new("BIG", &large) }]);
    ticks.produce_on(topic, 200, 4, 0..2);
    (ticks, large)
}

fn setup(topic: &str, redis: &RedisServer) -> Setup {
    Setup::new(topic, &redis.url()).redis_extra("lanes = 1")
}

fn topic() -> String {
    let name = crate::support::unique("ticks");
    kafka::create(&name, 2, &[("max.message.bytes", "4000000")]);
    name
}

/// What is said of the record where Redis tells its limit.
fn is_named(reason: &str) {
    assert!(["write 1 (xadd)", "2097152 bytes", LIMIT, "proto-max-bulk-len"].iter().all(|w| reason.contains(w)), "{reason}");
}

/// The first partition halts by this code before its large record, and the other one goes on.
fn wait_halted(daemon: &Daemon, code: &str) {
    let expected = [("halted".to_owned(), Some(100), Some(code.to_owned())), ("open".to_owned(), Some(200), None)];
    eventually("one partition is halted and the other one open", 40, || {
        daemon.status().is_some_and(|s| s.partitions.into_iter().map(|p| (p.phase, p.position, p.held_by)).eq(expected.clone()))
    });
}

#[test]
fn a_record_above_redis_limit_is_a_letter_in_a_stream_without_its_payload() {
    let (redis, topic) = (redis(&[]), topic());
    let (ticks, _) = among_ticks(&topic);
    let mut daemon = setup(&topic, &redis).start();
    daemon.wait_settled(401);
    ticks.expect_exactly(&redis);
    let letters: Vec<Letter> = letters::read(&redis, "bridge:dead");
    assert_eq!(letters.len(), 1);
    let said = |field| letters[0].text(field);
    assert_eq!((said("code"), said("partition"), said("offset"), said("key")), ("too-large".into(), "0".into(), "100".into(), "BIG".into()));
    assert_eq!((said("omitted"), letters[0].bytes("payload")), ("payload (2097163 bytes)".into(), None));
    is_named(&said("reason"));
    assert!(!daemon.log().contains("redis-drops-us"), "{}", daemon.log());
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_record_above_redis_limit_is_a_letter_in_a_topic_with_its_payload() {
    let (redis, topic, dead) = (redis(&[]), topic(), crate::support::unique("dead"));
    kafka::create(&dead, 1, &[("max.message.bytes", "4000000")]);
    let (ticks, large) = among_ticks(&topic);
    let letters = format!("[dead_letter]\ntopic = \"{dead}\"\n");
    let daemon = setup(&topic, &redis).property("message.max.bytes", "4000000").extra(&letters).start();
    daemon.wait_settled(401);
    ticks.expect_exactly(&redis);
    let letter = kafka::read_all(&dead, 1).remove(0);
    assert!(letter.payload() == Some(large.as_bytes()), "whole: Kafka has taken it once");
    let headers = letter.headers().unwrap();
    let said = |name: &str| headers.iter().find(|h| h.key == name).map(|h| String::from_utf8_lossy(h.value.unwrap()).into_owned()).unwrap_or_default();
    assert_eq!((said("dead.code"), said("dead.offset")), ("too-large".into(), "100".into()));
    is_named(&said("dead.reason"));
}

#[test]
fn without_a_place_for_letters_a_record_above_redis_limit_halts_its_partition() {
    let (redis, topic) = (redis(&[]), topic());
    let (ticks, _) = among_ticks(&topic);
    let setup = setup(&topic, &redis);
    let mut daemon = setup.clone().extra("").start();
    daemon.wait_holds("poison");
    daemon.wait_settled(300);
    is_named(&daemon.message("poison"));
    wait_halted(&daemon, "poison");
    assert_eq!(daemon.stop(), 0);
    redis.command("CONFIG SET proto-max-bulk-len 512mb");
    let daemon = setup.start();
    daemon.wait_settled(401);
    ticks.expect_exactly(&redis);
}

#[test]
fn where_redis_tells_no_limit_the_record_that_it_hangs_up_on_halts_its_partition() {
    let (redis, topic) = (redis(&["--rename-command", "CONFIG", ""]), topic());
    let (ticks, _) = among_ticks(&topic);
    let setup = setup(&topic, &redis);
    let mut daemon = setup.start();
    daemon.wait_holds("redis-drops-us");
    daemon.wait_holds("redis-hangs-up");
    daemon.wait_settled(300);
    let message = daemon.message("redis-hangs-up");
    assert!(["offset 100", "3 times in a row", "proto-max-bulk-len"].iter().all(|w| message.contains(w)), "{message}");
    assert!(daemon.log().contains("CONFIG GET proto-max-bulk-len is refused"), "{}", daemon.log());
    wait_halted(&daemon, "redis-hangs-up");
    eventually("the connections are lost no more", 40, || !daemon.holds("redis-drops-us"));
    assert_eq!(letters::read(&redis, "bridge:dead").len(), 0);
    assert_eq!(daemon.stop(), 0);
    // A bridge that is started again finds the same, and the other partition goes on.
    let mut ticks = ticks;
    ticks.produce_on(&topic, 200, 4, 1..2);
    let daemon = setup.start();
    daemon.wait_holds("redis-hangs-up");
    daemon.wait_settled(500);
}

#[test]
fn a_stop_while_redis_drops_connections_always_says_that_records_are_left() {
    // The stop comes at different points of the way on which the record is taken from its lane, claimed, fetched, and sent again.
    for round in 0..6 {
        let (redis, topic) = (redis(&["--rename-command", "CONFIG", ""]), topic());
        let large = format!(r#"{{"blob":"{}"}}"#, "x".repeat(2 << 20));
        kafka::produce(&topic, [Produce { partition: Some(0), ..Produce::new("BIG", &large) }]);
        let mut daemon = setup(&topic, &redis).start();
        eventually("a connection was lost", 40, || daemon.status().is_some_and(|s| s.partitions.iter().any(|p| p.epoch > 1 + round % 3)));
        let code = daemon.stop();
        assert!(code == 75 || daemon.log().contains("redis-hangs-up"), "{code}: {}", daemon.log());
    }
}
