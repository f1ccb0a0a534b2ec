//! What this client lacks at Kafka is told by `check --connect`, before a bridge stands still for it.
use crate::support::command::check;
use crate::support::daemon::Setup;
use crate::support::kafka;
use crate::support::kafka_server::{KafkaServer, by_password};
use crate::support::redis_server::RedisServer;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use std::time::Duration;

#[test]
fn check_connect_names_each_right_that_run_needs_of_kafka_and_writes_nothing() {
    let server = KafkaServer::guarded_by_password("s3cret");
    kafka::create_on(&server.inner(), "there", 2, &[]);
    kafka::create_on(&server.inner(), "dead", 1, &[]);
    let redis = RedisServer::start();
    let setup = Setup::new("there", &redis.url()).brokers(&server.bootstrap()).extra("[dead_letter]\ntopic = \"dead\"\n");
    let mut setup = by_password("s3cret").iter().fold(setup, |s, (n, v)| s.property(n, v));
    setup.group = "ours".into();
    let asked = || check(&setup.toml(9650), &["--connect"], &[]);
    let lacking = |expected: &[&str]| {
        let (code, said) = asked();
        assert_eq!(code, Some(1), "{said}");
        expected.iter().for_each(|text| assert!(said.contains(text), "missing {text:?} in:\n{said}"));
        assert_eq!(said.matches("PROBLEM").count(), expected.len(), "{said}");
    };
    let (describe, read, group, write) = (
        "topic there is refused to this client: allow it Describe and Read on the topic there",
        "topic there is refused to this client: allow it Read on the topic there",
        "group \"ours\" is refused to this client: allow it Read on the group \"ours\"",
        "dead_letter.topic dead is refused to this client: allow it Write on the topic dead",
    );
    lacking(&[describe, group, write]);
    server.acl("--add --allow-principal User:bridge --operation Describe --topic there --topic dead --group ours");
    lacking(&[read, group, write]);
    server.acl("--add --allow-principal User:bridge --operation Read --topic there --group ours");
    lacking(&[write]);
    server.acl("--add --allow-principal User:bridge --operation Write --topic dead");
    let (code, said) = asked();
    assert!(code == Some(0) && said.contains("note: Kafka: topic there: its cleanup.policy can't be read"), "{said}");
    // A bridge that runs is not disturbed, and what is asked is not written.
    let producer = kafka::Producer::on(server.inner());
    producer.send("there", kafka::Produce::new("K", r#"{"a":1}"#));
    producer.flush();
    let daemon = setup.start();
    daemon.wait_settled(1);
    server.acl("--add --allow-principal User:bridge --operation DescribeConfigs --topic there");
    let (code, said) = asked();
    assert!(code == Some(0) && !said.contains("note: Kafka"), "{said}");
    assert!(!daemon.log().contains("let go"), "{}", daemon.log());
    let client: BaseConsumer = server.inner().create().unwrap();
    let end = |topic: &str, partition| client.fetch_watermarks(topic, partition, Duration::from_secs(10)).unwrap().1;
    assert_eq!((end("dead", 0), end("there", 0) + end("there", 1)), (0, 1));
}
