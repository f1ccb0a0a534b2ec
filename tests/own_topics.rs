//! Nothing that the bridge or Kafka writes for itself comes in as data, by a name or by a pattern.
use crate::support::command::check;
use crate::support::daemon::{Daemon, Setup, binary};
use crate::support::kafka::{self, Produce};
use crate::support::process::output;
use crate::support::redis_server::RedisServer;
use crate::support::{eventually, unique};
use rdkafka::message::{Headers as _, Message as _};
use std::process::Command;

const POISON: &str = "nojson";

/// A route of each topic that begins with this, or is one of Kafka's own.
fn pattern(begin: &str) -> String {
    format!("[[route]]\nname = \"r\"\ntopics = [\"^({begin}[.].*|__.*)\"]\n[[route.write]]\nxadd = {{ key = \"s:{begin}:{{key}}\", fields = \"*\" }}\n")
}

fn letters_in(topic: &str) -> String {
    format!("[dead_letter]\ntopic = \"{topic}\"\n")
}

fn length(redis: &RedisServer, key: &str) -> i64 {
    redis::cmd("XLEN").arg(key).query(&mut redis.connect()).unwrap()
}

/// The topics of which it owns partitions.
fn topics(daemon: &Daemon) -> Vec<String> {
    let mut topics: Vec<String> = daemon.status().into_iter().flat_map(|s| s.partitions).map(|p| p.topic).collect();
    topics.dedup();
    topics
}

/// What another run with its configuration prints.
fn said(daemon: &Daemon, arguments: &[&str]) -> String {
    let output = output(Command::new(binary()).arg("--config").arg(daemon.config()).args(arguments));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_pattern_leaves_out_the_dead_letter_topic_and_kafkas_own_and_says_so() {
    let redis = RedisServer::start();
    let begin = unique("p");
    let (input, dead) = (format!("{begin}.in"), format!("{begin}.dead"));
    [&input, &dead].into_iter().for_each(|topic| kafka::create(topic, 1, &[]));
    let setup = Setup::new(&input, &redis.url()).routes(&pattern(&begin)).extra(&letters_in(&dead));
    kafka::produce(&input, [Produce::new("P", POISON), Produce::new("K", r#"{"a":1}"#)]);
    let mut daemon = setup.start();
    daemon.wait_settled(2);
    eventually("the letter is there", 20, || kafka::ends(&dead, 1) == [1]);
    // Topics that come later are taken up: those that are left out have been looked at once more by then.
    let later = format!("{begin}.later");
    kafka::create(&later, 1, &[]);
    kafka::produce(&later, [Produce::new("K", r#"{"a":2}"#)]);
    eventually("the later topic is read", 40, || length(&redis, &format!("s:{begin}:K")) == 2);
    kafka::produce(&input, (0..5).map(|_| Produce::new("P", POISON)));
    eventually("the letters are there", 20, || kafka::ends(&dead, 1) == [6]);
    assert_eq!(topics(&daemon), [input.clone(), later]);
    // The whole of it is told, whenever it ends.
    assert_eq!(daemon.stop(), 0);
    let log = daemon.log();
    assert!(log.contains("route r: 1 dead letter since this process began; the last one (undecodable)"), "{log}");
    assert!(log.contains("route r: 6 dead letters since this process began, 5 of them since the last such line"), "{log}");
    assert!(log.contains(&format!("matches {dead}, which is left out: it is the dead-letter topic")), "{log}");
    // Beforehand, too.
    let said = said(&daemon, &["check", "--connect"]);
    assert!(said.contains(&format!("note: route r: topic {dead} is left out: it is the dead-letter topic")), "{said}");
    assert!(said.contains("note: route r: topic __consumer_offsets is left out: Kafka keeps its own data there"), "{said}");
    assert!(!said.contains(&format!("topic {dead} with")) && said.contains(&format!("topic {input} with 1 partition")), "{said}");
    // A job reads no more than that.
    let said = self::said(&daemon, &["--output", "json", "replay", "--from-offset", "earliest", "--dry-run"]);
    assert!(said.contains(&input) && !said.contains(&dead) && !said.contains("__consumer_offsets"), "{said}");
}

#[test]
fn two_bridges_whose_patterns_match_each_others_letters_write_each_letter_once() {
    let begin = unique("p");
    let (input, dead) = (format!("{begin}.in"), [format!("{begin}.dead-a"), format!("{begin}.dead-b")]);
    [&input, &dead[0], &dead[1]].into_iter().for_each(|topic| kafka::create(topic, 1, &[]));
    let redis = [RedisServer::start(), RedisServer::start()];
    let setup = |n: usize| Setup::new(&input, &redis[n].url()).routes(&pattern(&begin)).extra(&letters_in(&dead[n]));
    let daemons = [setup(0).start(), setup(1).start()];
    kafka::produce(&input, [Produce::new("P", POISON), Produce::new("K", r#"{"a":1}"#)]);
    for (n, daemon) in daemons.iter().enumerate() {
        eventually("the other one's letter is read and dropped", 60, || daemon.status().is_some_and(|s| s.routes[0].dropped == 1));
        let log = daemon.log();
        assert!(log.contains("letter-left-out") && log.contains(&format!("{}[0], offset 0: dropped, since it is a dead letter", dead[1 - n])), "{log}");
        assert_eq!((kafka::ends(&dead[n], 1), length(&redis[n], &format!("s:{begin}:K"))), (vec![1], 1));
    }
    // By its name, it is read as data, and its letter does not nest.
    let third = RedisServer::start();
    let topic = kafka::topic("again", 1);
    let named = pattern(&begin).replace(&format!("^({begin}[.].*|__.*)"), &dead[0]);
    let daemon = Setup::new(&dead[0], &third.url()).routes(&named).extra(&letters_in(&topic)).start();
    daemon.wait_settled(1);
    let found = kafka::read_all(&topic, 1);
    let headers: Vec<(String, String)> =
        found[0].headers().unwrap().iter().map(|h| (h.key.to_owned(), String::from_utf8_lossy(h.value.unwrap_or_default()).into_owned())).collect();
    assert_eq!(headers.len(), 11, "{headers:?}");
    let of = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()).unwrap_or_default();
    assert_eq!((of("dead.topic"), of("dead.origin")), (dead[0].clone(), format!("{input}[0]@0")));
}

#[test]
fn what_is_no_users_data_is_refused_where_it_is_named() {
    let config = |letters: &str, topic: &str, write: &str| {
        format!("[dead_letter]\n{letters}\n[[route]]\nname = \"r\"\ntopics = [\"{topic}\"]\n[[route.write]]\n{write}\n")
    };
    let fine = "set = { key = \"k:{key}\", value = \"{payload}\" }";
    for (letters, topic, write, expected) in [
        ("topic = \"p.dead\"", "p.dead", fine, "route.0.topics.0: found \"p.dead\"; allowed: a topic that is not dead_letter.topic"),
        ("", "__consumer_offsets", fine, "route.0.topics.0: found \"__consumer_offsets\"; allowed: a topic of yours: Kafka keeps its own data"),
        ("", "__share_group_state", fine, "route.0.topics.0: found \"__share_group_state\"; allowed: a topic of yours"),
        ("", "two words", fine, "route.0.topics.0: found \"two words\"; allowed: a topic's name: 1 to 249 letters"),
        ("topic = \"__transaction_state\"", "t", fine, "dead_letter.topic: found \"__transaction_state\"; allowed: a topic's name"),
        ("topic = \"a,b\"", "t", fine, "dead_letter.topic: found \"a,b\"; allowed: a topic's name"),
        ("stream = \"dead\"", "t", "xadd = { key = \"dead\", fields = \"*\" }", "xadd.key: found \"dead\"; allowed: a key that is not dead_letter.stream"),
        ("stream = \"dead\"", "t", "command = [\"RPUSH\", \"dead\", \"x\"]", "command.1: found \"dead\"; allowed: a key that is not dead_letter.stream"),
        ("stream = \"dead\"", "t", "del = { key = \"bridge:store\" }", "del.key: found \"bridge:store\"; allowed: a key that does not begin with"),
    ] {
        let (code, said) = check(&config(letters, topic, write), &[], &[]);
        assert!(code == Some(78) && said.contains(expected), "missing: {expected}\nin:\n{said}");
    }
    for (letters, topic) in [("topic = \"p.dead\"", "p.dead2"), ("", "__debezium-heartbeat.x"), ("topic = \"p.dead\"", "^p[.].*")] {
        let (code, said) = check(&config(letters, topic, fine), &[], &[]);
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(said.contains("matches p.dead, which is left out"), topic.starts_with('^'), "{said}");
    }
}
