//! A poison record becomes a dead letter, exactly once in a stream, without touching its neighbours.
use crate::support::daemon::Setup;
use crate::support::kafka::{self, Produce, Producer};
use crate::support::letters;
use crate::support::redis_server::RedisServer;
use crate::support::sequence::Ticks;
use crate::support::{eventually, unique};
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders};

const POISON: &str = r#"{"seq":"#;

/// `batches` times five ticks, one poison record, four ticks, in one partition.
fn poisoned(topic: &str, batches: u64) -> Ticks {
    let mut ticks = Ticks::default();
    let producer = Producer::new();
    for _ in 0..batches {
        ticks.produce_with(&producer, topic, 5, 7);
        producer.send(topic, Produce::new("poison", POISON));
        ticks.produce_with(&producer, topic, 4, 7);
    }
    producer.flush();
    ticks
}

fn batches_of_ten(dead_letter: &str) -> String {
    format!("[batch]\nrecords_max = 10\n{dead_letter}\n")
}

#[test]
fn poison_in_the_middle_of_every_batch_is_kept_once_and_its_neighbours_arrive_in_order() {
    let redis = RedisServer::start();
    let topic = kafka::topic("poisoned", 1);
    let ticks = poisoned(&topic, 300);
    let mut daemon = Setup::new(&topic, &redis.url()).extra(&batches_of_ten("[dead_letter]\nstream = \"bridge:dead\"")).start();
    daemon.wait_settled(3000);
    ticks.expect_exactly(&redis);
    let offsets: Vec<String> = letters::read(&redis, "bridge:dead").iter().map(|l| l.text("offset")).collect();
    let expected: Vec<String> = (0..300).map(|b| (b * 10 + 5).to_string()).collect();
    assert_eq!(offsets, expected);
    assert_eq!(daemon.status().unwrap().routes[0].dead, 300);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn killed_among_poison_the_bridge_neither_loses_nor_doubles_a_letter() {
    let redis = RedisServer::start();
    redis.command("SET volatility:W occupied");
    let topic = kafka::topic("poisoned", 1);
    let mut ticks = Ticks::default();
    let producer = Producer::new();
    for n in 0..2000 {
        ticks.produce_with(&producer, &topic, 3, 7);
        // One that can't be decoded, and one that Redis refuses when the transaction has run.
        producer.send(&topic, if n % 2 == 0 { Produce::new("poison", POISON) } else { Produce::new("W", r#"{"seq":1}"#) });
    }
    producer.flush();
    let setup = Setup::new(&topic, &redis.url()).extra(&batches_of_ten("[dead_letter]\nstream = \"bridge:dead\""));
    for round in 1..=4 {
        let mut daemon = setup.start();
        daemon.wait_settled(round * 1500);
        daemon.kill();
    }
    let daemon = setup.start();
    daemon.wait_settled(8000);
    ticks.expect_exactly(&redis);
    let mut offsets: Vec<u64> = letters::read(&redis, "bridge:dead").iter().map(|l| l.text("offset").parse().unwrap()).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (0..2000).map(|n| n * 4 + 3).collect::<Vec<u64>>());
}

#[test]
fn a_dead_letter_topic_gets_the_original_bytes_and_the_reason_in_headers() {
    let redis = RedisServer::start();
    let topic = kafka::topic("poisoned", 1);
    let dead = kafka::topic("dead", 1);
    let headers = OwnedHeaders::new().insert(Header { key: "trace", value: Some(&b"\xff"[..]) });
    kafka::produce(&topic, [Produce { headers: Some(headers), ..Produce::new("P", POISON) }]);
    redis.command("SET volatility:W occupied");
    kafka::produce(&topic, [Produce::new("W", r#"{"seq":1}"#)]);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 20, 3);
    let daemon = Setup::new(&topic, &redis.url()).extra(&format!("[dead_letter]\ntopic = \"{dead}\"\n")).start();
    daemon.wait_settled(22);
    ticks.expect_exactly(&redis);
    let found = kafka::read_all(&dead, 2);
    let header = |n: usize, name: &str| {
        let all = found[n].headers().unwrap();
        all.iter().find(|h| h.key == name).and_then(|h| h.value).map(<[u8]>::to_vec).unwrap_or_default()
    };
    assert_eq!((found[0].key(), found[0].payload()), (Some(&b"P"[..]), Some(POISON.as_bytes())));
    assert_eq!((header(0, "dead.code"), header(0, "dead.topic")), (b"undecodable".to_vec(), topic.clone().into_bytes()));
    assert_eq!((header(0, "dead.partition"), header(0, "dead.offset"), header(0, "trace")), (b"0".to_vec(), b"0".to_vec(), vec![0xff]));
    assert_eq!((header(1, "dead.code"), header(1, "dead.offset")), (b"refused".to_vec(), b"1".to_vec()));
    assert!(String::from_utf8_lossy(&header(1, "dead.failed")).contains("WRONGTYPE"));
    eventually("the letters are counted", 10, || daemon.status().unwrap().routes[0].dead == 2);
}

#[test]
fn a_large_poison_record_has_room_in_the_dead_letter_topic() {
    let redis = RedisServer::start();
    let topic = kafka::topic("poisoned", 1);
    let dead = unique("dead");
    kafka::create(&dead, 1, &[("max.message.bytes", "8388608")]);
    let poison = "{".repeat(3 << 20);
    kafka::produce(&topic, [Produce::new("P", &poison)]);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 20, 3);
    let daemon = Setup::new(&topic, &redis.url()).extra(&format!("[dead_letter]\ntopic = \"{dead}\"\n")).start();
    daemon.wait_settled(21);
    ticks.expect_exactly(&redis);
    assert_eq!(kafka::read_all(&dead, 1)[0].payload().map(<[u8]>::len), Some(poison.len()));
}

#[test]
fn a_dead_letter_topic_that_is_not_there_holds_up_only_the_partitions_that_owe_letters() {
    let redis = RedisServer::start();
    let topic = kafka::topic("poisoned", 2);
    let dead = unique("dead");
    let on = |partition, payload| Produce { partition: Some(partition), ..Produce::new("P", payload) };
    kafka::produce(&topic, [on(1, POISON)]);
    let mut ticks = Ticks::default();
    ticks.produce_on(&topic, 2_000, 4, 0..1);
    // One lane for both.
    let setup = Setup::new(&topic, &redis.url()).redis_extra("lanes = 1").extra(&format!("[dead_letter]\ntopic = \"{dead}\"\n"));
    let daemon = setup.start();
    daemon.wait_settled(2_000);
    daemon.wait_holds("dead-letter-waits");
    ticks.produce_on(&topic, 2_000, 4, 0..1);
    daemon.wait_settled(4_000);
    kafka::create(&dead, 1, &[]);
    daemon.wait_settled(4_001);
    ticks.expect_exactly(&redis);
    assert_eq!(kafka::read_all(&dead, 1)[0].payload(), Some(POISON.as_bytes()));
    eventually("the condition is over", 20, || !daemon.holds("dead-letter-waits"));
}

#[test]
fn a_letter_names_the_route_and_the_write_that_was_refused() {
    let redis = RedisServer::start();
    let topic = kafka::topic("poisoned", 1);
    redis.command("SET pair:W occupied");
    kafka::produce(&topic, [Produce::new("W", r#"{"seq":1}"#)]);
    let routes = "[[route]]\nname = \"first\"\ntopics = [\"TOPIC\"]\n[[route.write]]\ncommand = [\"INCR\", \"n:{key}\"]\n\
                  [[route]]\nname = \"second\"\ntopics = [\"TOPIC\"]\n[[route.write]]\ncommand = [\"INCR\", \"m:{key}\"]\n\
                  [[route.write]]\ncommand = [\"HSET\", \"pair:{key}\", \"seq\", \"{value.seq}\"]\n";
    let daemon = Setup::new(&topic, &redis.url()).routes(routes).start();
    daemon.wait_settled(1);
    let letter = letters::read(&redis, "bridge:dead").pop().unwrap();
    assert_eq!((letter.text("route"), letter.text("write")), ("second".into(), "second/2".into()));
    eventually("it is counted", 10, || daemon.status().unwrap().routes.iter().map(|r| r.dead).collect::<Vec<_>>() == [0, 1]);
    assert!(daemon.log().contains("dead-letter"), "{}", daemon.log());
}

#[test]
fn without_a_place_for_letters_poison_halts_its_partition_and_no_other() {
    let redis = RedisServer::start();
    let topic = kafka::topic("poisoned", 2);
    let on = |partition, key, payload| Produce { partition: Some(partition), ..Produce::new(key, payload) };
    kafka::produce(&topic, [on(0, "A", r#"{"seq":0}"#), on(0, "P", POISON), on(0, "A", r#"{"seq":1}"#), on(1, "B", r#"{"seq":0}"#)]);
    let setup = Setup::new(&topic, &redis.url());
    let mut daemon = setup.clone().extra("").start();
    daemon.wait_holds("poison");
    daemon.wait_settled(2);
    kafka::produce(&topic, [on(1, "B", r#"{"seq":1}"#)]);
    daemon.wait_settled(3);
    let partitions = daemon.status().unwrap().partitions;
    assert_eq!((partitions[0].position, partitions[0].phase.as_str()), (Some(1), "halted"));
    assert_eq!((partitions[1].position, partitions[1].phase.as_str()), (Some(2), "open"));
    let message = daemon.message("poison");
    assert!(message.contains("offset 1") && message.contains("[dead_letter]"), "{message}");
    assert_eq!(daemon.stop(), 0);
    // The position stood at the poison; with a place for it, the rest follows.
    let daemon = setup.start();
    daemon.wait_settled(5);
    assert_eq!(letters::read(&redis, "bridge:dead").len(), 1);
    let length: i64 = redis::cmd("XLEN").arg("volatility:A").query(&mut redis.connect()).unwrap();
    assert_eq!(length, 2);
}

#[test]
fn a_letter_that_can_not_be_written_halts_and_is_not_lost() {
    let redis = RedisServer::start();
    redis.command("SET bridge:dead occupied");
    redis.command("SET volatility:W occupied");
    for (poison, code) in [(Produce::new("P", POISON), "undecodable"), (Produce::new("W", r#"{"seq":1}"#), "refused")] {
        let topic = kafka::topic("poisoned", 1);
        kafka::produce(&topic, [Produce::new("A", r#"{"seq":0}"#), poison, Produce::new("A", r#"{"seq":1}"#)]);
        let setup = Setup::new(&topic, &redis.url());
        let mut daemon = setup.start();
        daemon.wait_holds("dead-letter-refused");
        assert_eq!(daemon.stop(), 0);
        redis.command("DEL bridge:dead");
        let daemon = setup.start();
        daemon.wait_settled(3);
        eventually("the letter is there", 10, || letters::read(&redis, "bridge:dead").len() == 1);
        assert_eq!(letters::read(&redis, "bridge:dead")[0].text("code"), code);
        redis.command("DEL bridge:dead");
        redis.command("SET bridge:dead occupied");
    }
}

#[test]
fn a_dead_letter_stream_is_trimmed_only_where_maxlen_says_so() {
    let redis = RedisServer::start();
    let topic = kafka::topic("poisoned", 1);
    let producer = Producer::new();
    (0..1000).for_each(|_| producer.send(&topic, Produce::new("P", POISON)));
    producer.flush();
    let stream = unique("dead");
    let daemon = Setup::new(&topic, &redis.url()).extra(&format!("[dead_letter]\nstream = \"{stream}\"\nmaxlen = 100\n")).start();
    daemon.wait_settled(1000);
    let kept = letters::read(&redis, &stream).len();
    assert!((100..300).contains(&kept), "{kept}");
}
