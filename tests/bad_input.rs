//! Bad input never panics, never blocks its neighbours, and is never lost.
use crate::support::daemon::{Daemon, Setup};
use crate::support::kafka::{self, Produce};
use crate::support::letters::{self, Letter};
use crate::support::proxy::Proxy;
use crate::support::redis_server::{Kind, RedisServer};
use crate::support::sequence::{Ticks, tick};
use crate::support::{eventually, free_port, unique};
use rdkafka::message::{Header, OwnedHeaders};

/// A run in which one bad record stands between two good ones, in one partition.
struct Between {
    redis: RedisServer,
    daemon: Daemon,
    letters: Vec<Letter>,
}

impl Between {
    fn run(bad: Produce<'_>) -> Self {
        Self::run_with(bad, |s| s, |_| ())
    }

    fn run_with(bad: Produce<'_>, configure: impl Fn(Setup) -> Setup, prepare: impl Fn(&RedisServer)) -> Self {
        let redis = RedisServer::start();
        prepare(&redis);
        let topic = kafka::topic("bad", 1);
        kafka::produce(&topic, [Produce::new("A", &tick(0)), bad, Produce::new("A", &tick(1))]);
        let daemon = configure(Setup::new(&topic, &redis.url())).start();
        daemon.wait_settled(3);
        assert!(daemon.status().unwrap().conditions.is_empty(), "nothing is held up");
        let letters = letters::read(&redis, "bridge:dead");
        Self { redis, daemon, letters }
    }

    /// The neighbours arrived, and there is just one letter: this code, this in its reason, these bytes.
    fn expect_letter(&self, code: &str, reason: &str, payload: Option<&[u8]>) -> &Letter {
        self.expect_neighbours();
        assert_eq!(self.letters.len(), 1, "{:?}", self.letters);
        let letter = &self.letters[0];
        assert_eq!(letter.text("code"), code);
        assert!(letter.text("reason").contains(reason), "{}", letter.text("reason"));
        assert_eq!((letter.text("partition"), letter.text("offset"), letter.text("route")), ("0".into(), "1".into(), "volatility".into()));
        assert_eq!(letter.bytes("payload"), payload);
        letter
    }

    fn expect_neighbours(&self) {
        let entries = self.redis.entries::<String>("volatility:A");
        let found: Vec<&str> = entries.iter().flat_map(|(_, fields)| fields).filter(|(n, _)| n == "seq").map(|(_, v)| v.as_str()).collect();
        assert_eq!(found, ["0", "1"]);
        let route = &self.daemon.status().unwrap().routes[0];
        assert_eq!((route.records, route.dead), (3, u64::try_from(self.letters.len()).unwrap()));
    }
}

#[test]
fn undecodable_json_becomes_a_dead_letter() {
    let bad = br#"{"price": 42000.0,"#;
    let run = Between::run(Produce { key: Some(b"B"), payload: Some(bad), ..Produce::default() });
    let letter = run.expect_letter("undecodable", "JSON", Some(bad));
    assert_eq!(letter.bytes("key"), Some(&b"B"[..]));
    assert_ne!(letter.text("timestamp"), "");
}

#[test]
fn a_null_key_where_a_template_needs_one_becomes_a_dead_letter() {
    let payload = tick(7);
    let run = Between::run(Produce { payload: Some(payload.as_bytes()), ..Produce::default() });
    let letter = run.expect_letter("unrenderable", "{key}", Some(payload.as_bytes()));
    assert_eq!(letter.bytes("key"), None, "a null key is no empty key");
}

#[test]
fn a_missing_field_becomes_a_dead_letter_and_a_default_saves_it() {
    let route = "[[route]]\nname = \"volatility\"\ntopics = [\"TOPIC\"]\n\
                 [[route.write]]\nxadd = { key = \"volatility:{key}\", fields = \"*\" }\n\
                 [[route.write]]\nset = { key = \"depth:{key}\", value = \"{value.spread}/{value.depth|unknown}\" }\n";
    let run = Between::run_with(Produce::new("B", r#"{"price":1}"#), |s| s.routes(route), |_| ());
    run.expect_letter("unrenderable", "value.spread", Some(br#"{"price":1}"#));
    let depth: String = redis::cmd("GET").arg("depth:A").query(&mut run.redis.connect()).unwrap();
    assert_eq!(depth, "0.05/unknown");
    let none: Option<String> = redis::cmd("GET").arg("depth:B").query(&mut run.redis.connect()).unwrap();
    assert_eq!(none, None);
    let stream: i64 = redis::cmd("EXISTS").arg("volatility:B").query(&mut run.redis.connect()).unwrap();
    assert_eq!(stream, 0, "a record that can't be rendered whole is not applied in part");
}

#[test]
fn keys_values_and_headers_that_are_no_utf_8_go_through_unharmed() {
    let redis = RedisServer::start();
    let topic = kafka::topic("bytes", 1);
    let (key, payload, header) = (&b"k\xff\x00\r\n"[..], &b"\xfe\x00*3\r\n\xc3\x28"[..], &b"\x80\x81"[..]);
    let headers = OwnedHeaders::new().insert(Header { key: "source", value: Some(header) });
    kafka::produce(&topic, [Produce { key: Some(key), payload: Some(payload), headers: Some(headers), ..Produce::default() }]);
    let routes = "[[route]]\nname = \"raw\"\ntopics = [\"TOPIC\"]\ndecode = \"raw\"\n\
                  [[route.write]]\nset = { key = \"v:{key}\", value = \"{payload}\" }\n\
                  [[route.write]]\ncommand = [\"HSET\", \"h:{key}\", \"source\", \"{header.source}\"]\n";
    let daemon = Setup::new(&topic, &redis.url()).routes(routes).start();
    daemon.wait_settled(1);
    let mut c = redis.connect();
    let value: Vec<u8> = redis::cmd("GET").arg([b"v:", key].concat()).query(&mut c).unwrap();
    assert_eq!(value, payload);
    let source: Vec<u8> = redis::cmd("HGET").arg([b"h:", key].concat()).arg("source").query(&mut c).unwrap();
    assert_eq!(source, header);
}

#[test]
fn a_dead_letter_keeps_bytes_that_are_no_utf_8() {
    let (key, payload) = (&b"\xff\xfe"[..], &b"{\"a\":\"\xff\"}"[..]);
    let headers = OwnedHeaders::new().insert(Header { key: "trace", value: Some(&b"\x00\xff"[..]) });
    let run = Between::run(Produce { key: Some(key), payload: Some(payload), headers: Some(headers), ..Produce::default() });
    let letter = run.expect_letter("undecodable", "", Some(payload));
    assert_eq!((letter.bytes("key"), letter.bytes("header.trace")), (Some(key), Some(&b"\x00\xff"[..])));
}

#[test]
fn an_empty_payload_is_no_tombstone_and_becomes_a_dead_letter() {
    Between::run(Produce::new("B", "")).expect_letter("undecodable", "", Some(b""));
}

#[test]
fn an_object_without_fields_becomes_a_dead_letter() {
    Between::run(Produce::new("B", "{}")).expect_letter("unrenderable", "at least one field", Some(b"{}"));
}

#[test]
fn a_json_array_becomes_a_dead_letter_where_fields_are_needed() {
    Between::run(Produce::new("B", "[1,2]")).expect_letter("unrenderable", "needs a JSON object", Some(b"[1,2]"));
}

#[test]
fn a_record_of_ten_mebibytes_arrives() {
    let payload = format!(r#"{{"blob":"{}"}}"#, "x".repeat(10 << 20));
    let run = Between::run(Produce::new("BIG", &payload));
    run.expect_neighbours();
    assert!(run.letters.is_empty());
    let length: usize = redis::cmd("STRLEN").arg("latest:BIG").query(&mut run.redis.connect()).unwrap();
    assert_eq!(length, payload.len());
}

#[test]
fn a_key_of_the_wrong_type_becomes_a_dead_letter_that_names_what_stands_and_what_does_not() {
    let payload = tick(9);
    let run = Between::run_with(Produce::new("W", &payload), |s| s, |redis| redis.command("SET volatility:W occupied"));
    let letter = run.expect_letter("refused", "WRONGTYPE", Some(payload.as_bytes()));
    assert!(letter.text("failed").starts_with("volatility write 1 (xadd): WRONGTYPE"), "{}", letter.text("failed"));
    assert_eq!(letter.text("applied"), "volatility write 2 (setex); volatility write 3 (publish)");
    let latest: String = redis::cmd("GET").arg("latest:W").query(&mut run.redis.connect()).unwrap();
    assert_eq!(latest, payload, "what was not refused stands");
}

#[test]
fn a_record_without_a_timestamp_passes_and_is_dead_only_where_one_is_needed() {
    let routes = |hole: &str| {
        format!(
            "[[route]]\nname = \"volatility\"\ntopics = [\"TOPIC\"]\n[[route.write]]\nxadd = {{ key = \"volatility:{{key}}\", fields = \"*\" }}\n\
             [[route.write]]\nset = {{ key = \"time:{{key}}\", value = \"{hole}\" }}\n"
        )
    };
    let payload = tick(5);
    let bad = || Produce { timestamp: Some(-1), ..Produce::new("T", &payload) };
    let run = Between::run_with(bad(), |s| s.routes(&routes("{timestamp|none}")), |_| ());
    run.expect_neighbours();
    let time: String = redis::cmd("GET").arg("time:T").query(&mut run.redis.connect()).unwrap();
    assert_eq!((time.as_str(), run.letters.len()), ("none", 0));
    let run = Between::run_with(bad(), |s| s.routes(&routes("{timestamp}")), |_| ());
    let letter = run.expect_letter("unrenderable", "timestamp", Some(payload.as_bytes()));
    assert_eq!(letter.text("timestamp"), "");
}

#[test]
fn a_topic_that_does_not_exist_yet_is_waited_for() {
    let redis = RedisServer::start();
    let topic = unique("later");
    let daemon = Setup::new(&topic, &redis.url()).start();
    daemon.wait_holds("topic-missing");
    kafka::create(&topic, 2, &[]);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 100, 5);
    ticks.expect_in(&redis, 40);
    eventually("the condition is over", 10, || !daemon.holds("topic-missing"));
}

#[test]
fn a_broker_that_is_not_there_at_start_is_waited_for() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 1);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 100, 5);
    let port = free_port();
    let daemon = Setup::new(&topic, &redis.url()).brokers(&format!("127.0.0.1:{port}")).start();
    daemon.wait_holds("kafka-unreachable");
    assert!(!daemon.status().unwrap().ready);
    let _broker = Proxy::start(port, &kafka::bootstrap());
    daemon.wait_ready();
    ticks.expect_in(&redis, 40);
    eventually("the condition is over", 10, || !daemon.holds("kafka-unreachable"));
}

#[test]
fn a_redis_that_is_not_there_at_start_is_waited_for() {
    let mut redis = RedisServer::reserve(Kind::System, &[]);
    let topic = kafka::topic("ticks", 1);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 100, 5);
    let daemon = Setup::new(&topic, &redis.url()).start();
    daemon.wait_holds("redis-unreachable");
    assert!(!daemon.status().unwrap().ready);
    redis.run();
    daemon.wait_ready();
    ticks.expect_in(&redis, 40);
    assert!(!daemon.holds("redis-unreachable"));
}
