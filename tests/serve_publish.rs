//! An update that is published goes through Kafka, once for each key of a request, and is answered for when Kafka has it.
use crate::support::daemon::{Daemon, Setup, binary};
use crate::support::http::{ask, get, raw};
use crate::support::kafka;
use crate::support::process::Process;
use crate::support::proxy::Proxy;
use crate::support::redis_server::RedisServer;
use crate::support::{eventually, signal};
use parking_lot::Mutex;
use serde_json::json;
use std::process::{Command, Stdio};

const SERVE: &str = "[dead_letter]\nstream = \"bridge:dead\"\n[serve]\nenabled = true\npublish = \"loopback\"\ntimeout = \"5s\"\nbody_max = \"64KiB\"\n";

fn serving() -> (RedisServer, Daemon, String) {
    let redis = RedisServer::start();
    let topic = kafka::topic("publish", 1);
    let daemon = Setup::new(&topic, &redis.url()).extra(SERVE).start();
    daemon.wait_ready();
    (redis, daemon, topic)
}

#[test]
fn an_update_goes_into_kafka_and_from_there_everywhere() {
    let (_redis, daemon, topic) = serving();
    let update = r#"{ "price" : 42000.0 }"#;
    let published = ask(daemon.http, "POST", "/api/v1/streaming/BTC/USD", &[], update);
    assert_eq!((published.status, published.json()), (201, json!({"topic": topic, "partition": 0, "offset": 0})));
    let record = &kafka::read_all(&topic, 1)[0];
    assert_eq!((rdkafka::Message::key(record), rdkafka::Message::payload(record)), (Some(&b"BTC/USD"[..]), Some(update.as_bytes())));
    eventually("it can be read", 20, || get(daemon.http, "/api/v1/streaming/BTC/USD/latest").text() == update);
}

#[test]
fn a_repeated_request_is_harmless_and_its_key_serves_one_update() {
    let (mut redis, daemon, topic) = serving();
    let post = |key: &str, body: &str| ask(daemon.http, "POST", "/api/v1/streaming/K", &[("Idempotency-Key", key)], body);
    let first = post("one", r#"{"n":1}"#);
    let again = post("one", r#"{"n":1}"#);
    assert_eq!((first.status, again.status, again.header("idempotency-replayed")), (201, 201, Some("true")));
    assert_eq!(first.json(), again.json());
    let other = post("one", r#"{"n":2}"#);
    assert_eq!((other.status, other.json()["field"].as_str()), (422, Some("Idempotency-Key")));
    assert_eq!(post("two", r#"{"n":2}"#).status, 201);
    assert_eq!(kafka::ends(&topic, 1), [2]);
    // One whose outcome nobody knows is not published again at once.
    let marks: Vec<String> = redis::cmd("KEYS").arg("bridge:once:*").query(&mut redis.connect()).unwrap();
    assert_eq!(marks.len(), 2);
    for mark in &marks {
        let kept: String = redis::cmd("GET").arg(mark).query(&mut redis.connect()).unwrap();
        redis::cmd("SET").arg(mark).arg(format!("{} ", kept.split(' ').next().unwrap())).query::<String>(&mut redis.connect()).unwrap();
    }
    assert_eq!(post("one", r#"{"n":1}"#).status, 409);
    // What can't be kept apart is not begun.
    redis.kill();
    assert_eq!(post("three", r#"{"n":3}"#).status, 503);
    assert_eq!(kafka::ends(&topic, 1), [2]);
}

#[test]
fn a_request_that_is_repeated_at_another_server_is_harmless_too() {
    let redis = RedisServer::start();
    let topic = kafka::topic("publish", 1);
    let port = crate::support::free_port();
    let daemon = Setup::new(&topic, &redis.url()).extra(&format!("{SERVE}listen = \"127.0.0.1:{port}\"\n")).start();
    daemon.wait_ready();
    let mut other = Process::start(Command::new(binary()).arg("--config").arg(daemon.config()).arg("serve").stderr(Stdio::null()));
    eventually("the other server listens", 20, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let post = |port: u16, key: &str, body: &str| ask(port, "POST", "/api/v1/streaming/K", &[("Idempotency-Key", key)], body);
    let first = post(daemon.http, "one", r#"{"n":1}"#);
    let again = post(port, "one", r#"{"n":1}"#);
    assert_eq!((first.status, again.status, again.header("idempotency-replayed")), (201, 201, Some("true")));
    assert_eq!((first.json(), post(port, "one", r#"{"n":2}"#).status), (again.json(), 422));
    // At both at once: one publishes it, and nobody else does.
    let asked = |n: usize| {
        let answer = post([daemon.http, port][n % 2], "two", r#"{"n":2}"#);
        (answer.status, answer.header("idempotency-replayed").map(Into::into))
    };
    let answers: Mutex<Vec<(u16, Option<String>)>> = Mutex::default();
    std::thread::scope(|scope| {
        for n in 0..20 {
            let (asked, answers) = (&asked, &answers);
            scope.spawn(move || answers.lock().push(asked(n)));
        }
    });
    let answers = answers.into_inner();
    let first = |(status, replayed): &&(u16, Option<String>)| *status == 201 && replayed.as_deref() == Some("false");
    assert_eq!(answers.iter().filter(first).count(), 1, "{answers:?}");
    assert!(answers.iter().all(|(status, _)| [201, 409].contains(status)), "{answers:?}");
    assert_eq!(kafka::ends(&topic, 1), [2]);
    signal(other.id(), "TERM");
    assert!(other.ended().success());
}

#[test]
fn what_would_be_a_dead_letter_or_is_too_large_is_refused_by_its_field() {
    let (_redis, daemon, topic) = serving();
    let post = |headers: &[(&str, &str)], body: &str| {
        let answer = ask(daemon.http, "POST", "/api/v1/streaming/K", headers, body);
        (answer.status, answer.json()["field"].as_str().unwrap_or_default().to_owned())
    };
    for (headers, body, status, field) in [
        (&[][..], "", 400, "body"),
        (&[], "no json", 422, "body"),
        (&[], "[1]", 422, "body"),
        (&[], "{}", 422, "body"),
        (&[("Idempotency-Key", "a b")], r#"{"a":1}"#, 400, "Idempotency-Key"),
        (&[], &"x".repeat(65 << 10), 413, "body"),
    ] {
        assert_eq!(post(headers, body), (status, field.to_owned()), "{body:.20}");
    }
    assert_eq!(ask(daemon.http, "POST", "/api/v1/streaming/K/latest", &[], r#"{"a":1}"#).status, 405, "a view, and no key");
    // One that does not come to its end.
    let late = raw(daemon.http, b"POST /api/v1/streaming/K HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{").unwrap();
    assert_eq!((late.status, late.json()["code"].as_str(), late.header("retry-after")), (408, Some("too-slow"), Some("1")));
    assert_eq!(kafka::ends(&topic, 1), [0]);
}

#[test]
fn while_kafka_is_away_publishing_says_so_and_heals_by_itself() {
    let redis = RedisServer::start();
    let topic = kafka::topic("publish", 1);
    let port = crate::support::free_port();
    // Nothing listens there: the brokers are away.
    let daemon = Setup::new(&topic, &redis.url()).extra(SERVE).brokers(&format!("127.0.0.1:{port}")).start();
    eventually("the API listens", 20, || std::net::TcpStream::connect(("127.0.0.1", daemon.http)).is_ok());
    let post = || ask(daemon.http, "POST", "/api/v1/streaming/K", &[("Idempotency-Key", "k")], r#"{"n":1}"#);
    let away = post();
    assert_eq!((away.status, away.header("retry-after").is_some(), away.json()["code"].as_str()), (503, true, Some("kafka-away")));
    let _proxy = Proxy::start(port, &kafka::bootstrap());
    eventually("it is published", 40, || post().status == 201);
    assert_eq!(kafka::ends(&topic, 1), [1], "what was not acknowledged is not there twice");
}
