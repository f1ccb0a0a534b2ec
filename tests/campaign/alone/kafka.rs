//! Logs that are not as they were.
use crate::bed::Broker;
use crate::support::daemon::Setup;
use crate::support::kafka::{self, Produce, Producer};
use crate::support::redis_server::RedisServer;
use crate::support::sequence::{Ticks, sequence, tick};
use crate::support::{eventually, unique};
use rdkafka::Message as _;
use std::collections::BTreeMap;

/// The log ends before the position, and stays so: named after half a minute's doubt.
pub(crate) fn out_of_range_above(_: &mut Broker) -> Option<String> {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 1);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 100, 5);
    let setup = Setup::new(&topic, &redis.url());
    let mut daemon = setup.start();
    daemon.wait_settled(100);
    assert_eq!(daemon.stop(), 0);
    kafka::delete(&topic);
    eventually("the topic can be created again", 30, || kafka::try_create(&topic, 1).is_ok());
    Ticks::named("N").produce(&topic, 50, 5);
    let daemon = setup.start();
    eventually("it is named", 60, || daemon.holds("log-changed"));
    ticks.expect_exactly(&redis);
    let new: bool = redis::cmd("EXISTS").arg("volatility:N0/USD").query(&mut redis.connect()).unwrap();
    assert!(!new, "nothing of the new log is applied");
    None
}

/// Compaction takes records away, the last settled one among them: holes are no loss.
pub(crate) fn compaction_holes(_: &mut Broker) -> Option<String> {
    let redis = RedisServer::start();
    let topic = unique("compacted");
    let settings = [("cleanup.policy", "compact"), ("segment.ms", "100"), ("min.cleanable.dirty.ratio", "0.01"), ("max.compaction.lag.ms", "100")];
    kafka::create(&topic, 1, &settings);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 1_000, 10);
    let setup = Setup::new(&topic, &redis.url());
    let mut daemon = setup.start();
    daemon.wait_settled(1_000);
    assert_eq!(daemon.stop(), 0);
    ticks.produce(&topic, 1_000, 10);
    let mut remaining = BTreeMap::<String, Vec<u64>>::new();
    eventually("the log is compacted", 60, || {
        // The active segment is never compacted: it must roll.
        kafka::produce(&topic, [Produce::new("roll", &tick(0))]);
        let end = kafka::ends(&topic, 1)[0];
        remaining.clear();
        for record in kafka::read_until(&topic, end) {
            let text = String::from_utf8_lossy(record.payload().unwrap()).into_owned();
            let seq = serde_json::from_str::<serde_json::Value>(&text).unwrap()["seq"].as_u64().unwrap();
            let key = String::from_utf8_lossy(record.key().unwrap()).into_owned();
            if record.offset() >= 1_000 && key != "roll" {
                remaining.entry(key).or_default().push(seq);
            }
        }
        remaining.values().all(|kept| kept.len() == 1)
    });
    let end = kafka::ends(&topic, 1)[0];
    let daemon = setup.start();
    daemon.wait_settled(end);
    for (key, kept) in &remaining {
        let expected: Vec<u64> = (0..100).chain(kept.iter().copied()).collect();
        assert_eq!(sequence(&redis, key), expected, "{key}");
    }
    assert_eq!(remaining.len(), 10);
    assert!(daemon.status().unwrap().conditions.is_empty());
    None
}

/// Times that go back, lie in the far future, or in 1970: the order is that of the log.
pub(crate) fn odd_timestamps(_: &mut Broker) -> Option<String> {
    let redis = RedisServer::start();
    let topic = unique("times");
    kafka::create(&topic, 1, &[("message.timestamp.after.max.ms", "9223372036854775807"), ("message.timestamp.before.max.ms", "9223372036854775807")]);
    let producer = Producer::new();
    let payloads: Vec<String> = (0..400).map(tick).collect();
    for (n, payload) in payloads.iter().enumerate() {
        let timestamp = [1_700_000_000_000 - i64::try_from(n).unwrap(), 253_402_300_799_000, 1, 4_102_444_800_000][n % 4];
        producer.send(&topic, Produce { timestamp: Some(timestamp), ..Produce::new("K", payload) });
    }
    producer.flush();
    let setup = Setup::new(&topic, &redis.url());
    let mut daemon = setup.start();
    daemon.wait_settled(400);
    assert_eq!(daemon.stop(), 0);
    // The last record's time and hash are compared at the next claim.
    kafka::produce(&topic, [Produce { timestamp: Some(5), ..Produce::new("K", &tick(400)) }]);
    let daemon = setup.start();
    daemon.wait_settled(401);
    assert_eq!(sequence(&redis, "K"), (0..=400).collect::<Vec<u64>>());
    None
}

/// Kafka deletes what a bridge that lags behind has not read yet.
pub(crate) fn deleted_while_behind(_: &mut Broker) -> Option<String> {
    let redis = RedisServer::start();
    let topic = kafka::topic("behind", 1);
    // More than librdkafka has fetched ahead.
    let payload = format!(r#"{{"filler":"{}"}}"#, "x".repeat(100_000));
    kafka::produce(&topic, (0..300).map(|_| Produce::new("K", &payload)));
    let slow = "[batch]\nrecords_max = 10\n[limit]\nrecords_per_second = 20\nburst = 10\n";
    let daemon = Setup::new(&topic, &redis.url()).extra(slow).start();
    daemon.wait_settled(20);
    kafka::delete_records(&topic, 0..1, 280);
    daemon.wait_holds("history-gone");
    assert!(daemon.message("history-gone").contains("the log begins at 280"), "{}", daemon.message("history-gone"));
    assert!(daemon.settled() < 280);
    None
}

/// A byte of a batch changes on the broker's disk: it is named, and nothing behind it is applied.
pub(crate) fn corrupt_batch(broker: &mut Broker) -> Option<String> {
    let redis = RedisServer::start();
    let topic = kafka::topic("corrupt", 1);
    for from in [0, 10, 20] {
        let payloads: Vec<String> = (from..from + 10).map(tick).collect();
        kafka::produce(&topic, payloads.iter().map(|p| Produce::new("K", p)));
    }
    // Closed in good order: at the next start the broker does not look through its logs.
    broker.server.stop();
    let segment = broker.server.home.path().join(format!("log/{topic}-0/00000000000000000000.log"));
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(8).position(|w| w == b"\"seq\":15").unwrap();
    bytes[at + 7] = b'6';
    std::fs::write(&segment, bytes).unwrap();
    broker.server.run();
    let daemon = Setup::new(&topic, &redis.url()).start();
    daemon.wait_settled(10);
    daemon.wait_holds("kafka-corrupt");
    eventually("it was met again", 30, || daemon.log().matches("claimed partition").count() > 3);
    assert_eq!(sequence(&redis, "K"), (0..10).collect::<Vec<u64>>());
    assert_eq!(daemon.settled(), 10);
    None
}
