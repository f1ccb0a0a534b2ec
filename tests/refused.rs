//! What Kafka refuses is said while it is refused, and passes by itself when a person has put it right: on a broker with an authorizer.
use crate::support::daemon::{Daemon, Setup};
use crate::support::eventually;
use crate::support::http::ask;
use crate::support::kafka::{self, Produce, Producer};
use crate::support::kafka_server::{KafkaServer, by_password};
use crate::support::redis_server::RedisServer;

const ALLOW: &str = "--add --allow-principal User:bridge --operation";
const DENY: &str = "--add --deny-principal User:bridge --operation";
const NO_LONGER_DENY: &str = "--remove --deny-principal User:bridge --operation";

/// A broker with the topics `ticks` and `dead`, and a bridge that may do all it must.
fn guarded(extra: &str) -> (KafkaServer, RedisServer, Setup) {
    let server = KafkaServer::guarded_by_password("s3cret");
    kafka::create_on(&server.inner(), "ticks", 2, &[]);
    kafka::create_on(&server.inner(), "dead", 1, &[]);
    server.acl(&format!("{ALLOW} Read --topic ticks --group *"));
    server.acl(&format!("{ALLOW} Write --topic ticks --topic dead"));
    let redis = RedisServer::start();
    let setup = Setup::new("ticks", &redis.url()).brokers(&server.bootstrap()).extra(extra);
    let setup = by_password("s3cret").iter().fold(setup, |setup, (name, value)| setup.property(name, value));
    (server, redis, setup)
}

fn produce(server: &KafkaServer, payload: &str, records: usize) {
    let producer = Producer::on(server.inner());
    (0..records).for_each(|n| producer.send("ticks", Produce::new(&format!("K{n}"), payload)));
    producer.flush();
}

fn over(daemon: &Daemon, code: &str) {
    eventually(&format!("{code} is over"), 60, || daemon.status().is_some_and(|s| s.conditions.iter().all(|c| c.code != code)));
    assert!(daemon.log().contains(&format!("{code} is over")), "{}", daemon.log());
}

#[test]
fn what_kafka_refuses_ends_by_itself_when_the_right_is_given_back() {
    let (server, _redis, setup) = guarded("");
    let mut daemon = setup.start();
    produce(&server, r#"{"a":1}"#, 10);
    daemon.wait_settled(10);
    let mut settled = 10;
    // Of a topic, of the group, of all that shows the topic.
    for (right, code) in [("Read --topic ticks", "kafka-refused"), ("Read --group *", "group-refused"), ("All --topic ticks", "kafka-refused")] {
        server.acl(&format!("{DENY} {right}"));
        produce(&server, r#"{"a":2}"#, 10);
        daemon.wait_holds(code);
        let condition = daemon.status().unwrap().conditions.into_iter().find(|c| c.code == code).unwrap();
        assert!(condition.needs_person && condition.message.contains("authorization failed"), "{right}: {condition:?}");
        server.acl(&format!("{NO_LONGER_DENY} {right}"));
        settled += 10;
        daemon.wait_settled(settled);
        over(&daemon, code);
        // And is not told again.
        produce(&server, r#"{"a":3}"#, 10);
        settled += 10;
        daemon.wait_settled(settled);
        assert!(!daemon.holds(code), "{right}: {}", daemon.log());
    }
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_bridge_that_nothing_comes_for_is_out_of_a_refusal_as_well() {
    let (server, _redis, setup) = guarded("");
    server.acl(&format!("{DENY} Read --group *"));
    let daemon = setup.start();
    daemon.wait_holds("group-refused");
    server.acl(&format!("{NO_LONGER_DENY} Read --group *"));
    over(&daemon, "group-refused");
    assert_eq!(daemon.open(), 2);
}

#[test]
fn producers_that_kafka_refused_go_on_when_they_are_allowed_to_write() {
    let (server, _redis, setup) = guarded("[dead_letter]\ntopic = \"dead\"\n[serve]\nenabled = true\npublish = \"loopback\"\n");
    server.acl(&format!("{DENY} Write --topic dead --topic ticks"));
    let mut daemon = setup.start();
    let post = || ask(daemon.http, "POST", "/api/v1/streaming/K", &[], r#"{"a":9}"#);
    produce(&server, "poison", 10);
    daemon.wait_holds("dead-letter-waits");
    let condition = |daemon: &Daemon| daemon.status().unwrap().conditions.into_iter().find(|c| c.code == "dead-letter-waits").unwrap();
    eventually("what Kafka says is told", 30, || condition(&daemon).message.contains("authorization"));
    let told = condition(&daemon);
    assert!(told.needs_person && told.remedy.contains("allow Write"), "{told:?}");
    // Again and again: also a client that librdkafka has given up answers what it is refused for.
    for _ in 0..3 {
        let refused = post();
        assert!(refused.status == 502 && refused.text().contains("authorization"), "{} {}", refused.status, refused.text());
    }
    server.acl(&format!("{NO_LONGER_DENY} Write --topic dead --topic ticks"));
    over(&daemon, "dead-letter-waits");
    daemon.wait_settled(10);
    eventually("what is published is taken", 30, || post().status == 201);
    daemon.wait_settled(11);
    assert_eq!(daemon.status().unwrap().routes[0].dead, 10);
    assert_eq!(daemon.stop(), 0);
}
