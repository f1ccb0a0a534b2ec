//! A condition is a filter on a route and an alert on a write, in the live path and in all that applies records again.
use crate::support::bed::{Bed, said};
use crate::support::command::{check, out, run};
use crate::support::daemon::Setup;
use crate::support::eventually;
use crate::support::kafka::{self, Produce, Producer};
use crate::support::letters;
use crate::support::redis_server::RedisServer;
use serde_json::Value;
use std::collections::HashMap;

/// The reference workload's alerts behind a filter, and all ticks beside it.
const ALERTING: &str = r#"
[[route]]
name = "all"
topics = ["TOPIC"]
[[route.write]]
setex = { key = "latest:{key}", ttl = "1h", value = "{payload}" }
[[route]]
name = "alerts"
topics = ["TOPIC"]
when = "not starts_with(key, 'TEST/')"
[[route.write]]
xadd = { key = "ticks:{key}", fields = "*" }
[[route.write]]
when = "value.realized_vol > 0.50 or value.spread > 0.10"
xadd = { key = "alerts", fields = { pair = "{key}", seq = "{value.seq}" } }
[[route.write]]
when = "value.realized_vol > 0.50"
publish = { channel = "alerts:{key}", message = "{payload}" }
"#;

fn tick(seq: u64) -> (String, String) {
    let key = if seq % 10 == 9 { "TEST/USD".into() } else { format!("P{}/USD", seq % 3) };
    let (vol, spread) = (seq % 7 * 10, seq % 5 * 4);
    (key, format!(r#"{{"seq":{seq},"realized_vol":0.{vol:02},"spread":0.{spread:02}}}"#))
}

/// Whether the vol, and whether the spread, is one to be told of.
fn alarming(seq: u64) -> (bool, bool) {
    (seq % 7 * 10 > 50, seq % 5 * 4 > 10)
}

fn produce(topic: &str, from: u64, to: u64) {
    let producer = Producer::new();
    for (key, payload) in (from..to).map(tick) {
        producer.send(topic, Produce::new(&key, &payload));
    }
    producer.flush();
}

fn alerts(redis: &RedisServer) -> Vec<u64> {
    let mut found: Vec<u64> =
        redis.entries::<String>("alerts").into_iter().map(|(_, fields)| fields.into_iter().collect::<HashMap<_, _>>()["seq"].parse().unwrap()).collect();
    found.sort_unstable();
    found
}

fn number(redis: &RedisServer, words: &[&str]) -> u64 {
    redis::cmd(words[0]).arg(&words[1..]).query(&mut redis.connect()).unwrap()
}

#[test]
fn a_filter_drops_and_an_alert_fires_once_for_each_record_of_which_its_condition_holds() {
    let redis = RedisServer::start();
    let topic = kafka::topic("conditions", 3);
    let setup = Setup::new(&topic, &redis.url()).routes(ALERTING);
    produce(&topic, 0, 3_000);
    // Killed on its way: no alert is lost, none comes twice.
    let mut daemon = setup.start();
    daemon.wait_settled(500);
    daemon.kill();
    let mut daemon = setup.start();
    daemon.wait_settled(3_000);
    let passed = |seq: &u64| seq % 10 != 9;
    let expected: Vec<u64> = (0..3_000).filter(passed).filter(|s| alarming(*s).0 || alarming(*s).1).collect();
    assert!(expected.len() > 1_000);
    assert_eq!(alerts(&redis), expected);
    let ticks: u64 = (0..3).map(|p| number(&redis, &["XLEN", &format!("ticks:P{p}/USD")])).sum();
    assert_eq!((ticks, number(&redis, &["EXISTS", "ticks:TEST/USD"]), number(&redis, &["EXISTS", "latest:TEST/USD"])), (2_700, 0, 1));
    // Beside the data nothing is left to settle, and nothing is dead.
    let mut connection = redis.connect();
    let mut channel = connection.as_pubsub();
    channel.psubscribe("alerts:*").unwrap();
    let before = daemon.status().unwrap().routes[1].clone();
    produce(&topic, 3_000, 3_100);
    daemon.wait_settled(3_100);
    let mut published: Vec<u64> = (3_000..3_100)
        .filter(passed)
        .filter(|s| alarming(*s).0)
        .map(|_| serde_json::from_str::<Value>(&channel.get_message().unwrap().get_payload::<String>().unwrap()).unwrap()["seq"].as_u64().unwrap())
        .collect();
    published.sort_unstable();
    assert_eq!(published, (3_000..3_100).filter(passed).filter(|s| alarming(*s).0).collect::<Vec<_>>());
    let status = daemon.status().unwrap();
    let (all, filter) = (&status.routes[0], &status.routes[1]);
    assert_eq!((all.dropped, filter.dropped - before.dropped, filter.records - before.records), (0, 10, 100));
    assert_eq!((filter.condition_errors, filter.dead), (0, 0));
    eventually("what is dropped makes no lag", 20, || daemon.status().is_some_and(|s| s.partitions.iter().all(|p| p.lag == Some(0))));
    let metrics = daemon.get("/metrics").unwrap();
    assert!(metrics.contains(&format!("bridge_dropped_total{{route=\"alerts\"}} {}", filter.dropped)), "{metrics}");
    assert!(status.to_string().lines().any(|l| l.starts_with("alerts") && l.contains(&format!(" {} ", filter.dropped))), "{status}");
    assert_eq!(daemon.stop(), 0);
    assert_eq!(kafka::committed(&setup.group, &topic, 3).into_iter().flatten().sum::<i64>(), 3_100, "what is dropped is committed");
}

/// One that holds, one whose vol is a text, one that has none, and one that does not hold.
fn odd(topic: &str) {
    let vol = |vol: &str| format!(r#"{{"realized_vol":{vol}}}"#);
    let payloads = [vol("0.6"), vol("\"0.6\""), r#"{"spread":1}"#.into(), vol("0.5")];
    kafka::produce(topic, payloads.iter().map(|p| Produce::new("K", p)));
}

fn writes(when_of_route: &str, when_of_write: &str) -> String {
    format!(
        "[[route]]\nname = \"r\"\ntopics = [\"TOPIC\"]\n{when_of_route}\n\
         [[route.write]]\nset = {{ key = \"kept:{{offset}}\", value = \"{{payload}}\" }}\n\
         [[route.write]]\n{when_of_write}\nset = {{ key = \"alert:{{offset}}\", value = \"{{payload}}\" }}\n"
    )
}

const HIGH: &str = "when = \"value.realized_vol > 0.50\"";

fn keys(redis: &RedisServer) -> Vec<String> {
    let mut keys: Vec<String> = redis::cmd("KEYS").arg("[ak][le]*:[0-9]").query(&mut redis.connect()).unwrap();
    keys.sort();
    keys
}

#[test]
fn a_filter_that_can_not_be_applied_is_a_dead_letter_and_an_alert_is_left_out() {
    let with = |on_error: &str| format!("{HIGH}\non_condition_error = \"{on_error}\"");
    for (routes, expected, dead, errors, dropped) in [
        (writes("", HIGH), &["alert:0", "kept:0", "kept:1", "kept:2", "kept:3"][..], 0, 2, 0),
        (writes("", &with("skip")), &["alert:0", "kept:0", "kept:1", "kept:2", "kept:3"], 0, 2, 0),
        (writes("", &with("dead")), &["alert:0", "kept:0", "kept:3"], 2, 0, 0),
        (writes(HIGH, ""), &["alert:0", "kept:0"], 2, 0, 1),
        (writes(&with("dead"), ""), &["alert:0", "kept:0"], 2, 0, 1),
        (writes(&with("skip"), ""), &["alert:0", "kept:0"], 0, 2, 3),
        // Each says what becomes of its own.
        (writes(&with("skip"), &with("dead")), &["alert:0", "kept:0"], 0, 2, 3),
    ] {
        let redis = RedisServer::start();
        let topic = kafka::topic("conditions", 1);
        odd(&topic);
        let mut daemon = Setup::new(&topic, &redis.url()).routes(&routes).start();
        daemon.wait_settled(4);
        assert_eq!(keys(&redis), expected, "{routes}");
        let letters = letters::read(&redis, "bridge:dead");
        let route = daemon.status().unwrap().routes.remove(0);
        assert_eq!((route.dead, route.condition_errors, route.dropped, letters.len() as u64), (dead, errors, dropped, dead), "{routes}");
        for (letter, (offset, why)) in
            letters.iter().zip([("1", "value.realized_vol is text where a number is needed"), ("2", "the record has nothing for value.realized_vol")])
        {
            assert_eq!((letter.text("code"), letter.text("offset"), letter.text("write")), ("condition-error".into(), offset.into(), "*".into()));
            let reason = letter.text("reason");
            assert!(reason.ends_with(&format!("the condition \"value.realized_vol > 0.50\" can't be applied: {why}")), "{reason}");
            assert_eq!(reason.starts_with("write 2 (set): "), routes == writes("", &with("dead")), "{reason}");
        }
        // However many records it is: told once, with the first.
        let log = daemon.log();
        assert_eq!(log.matches("code=\"condition-error\"").count(), usize::from(errors > 0), "{log}");
        if errors > 0 {
            assert!(log.contains("offset 1: value.realized_vol is text where a number is needed"), "{log}");
        }
        let metrics = daemon.get("/metrics").unwrap();
        assert!(metrics.contains(&format!("bridge_condition_errors_total{{route=\"r\"}} {errors}")), "{metrics}");
        assert_eq!(daemon.stop(), 0);
    }
}

#[test]
fn without_a_place_for_letters_a_record_that_nobody_can_judge_halts_its_partition() {
    let redis = RedisServer::start();
    let topic = kafka::topic("conditions", 1);
    odd(&topic);
    let daemon = Setup::new(&topic, &redis.url()).extra("").routes(&writes(HIGH, "")).start();
    daemon.wait_holds("poison");
    assert!(daemon.message("poison").contains("value.realized_vol is text where a number is needed, at offset 1"), "{}", daemon.message("poison"));
    assert_eq!((daemon.settled(), keys(&redis)), (1, vec!["alert:0".to_owned(), "kept:0".into()]));
}

#[test]
fn replay_verify_and_dry_run_come_to_what_the_live_path_came_to() {
    let bed = Bed::with(3, ALERTING);
    produce(&bed.topic, 0, 1_000);
    let mut daemon = bed.setup.start();
    daemon.wait_settled(1_000);
    assert_eq!(daemon.stop(), 0);
    let live = alerts(&bed.redis);
    let all = ["verify", "--from-offset", "earliest"];
    let told = bed.expect(0, &all);
    assert!(told.contains("4 streams") && told.ends_with("equal\n"), "{told}");
    let dry = bed.expect(0, &["replay", "--dry-run", "--from-offset", "earliest"]);
    // 1,000 latest, 900 ticks, the alerts; PUBLISH is left out, and so is what the filter drops.
    assert!(dry.contains(&format!("# 1000 records would become {} commands; 0 expired, 100 dropped, 0 dead", 1_900 + live.len())), "{dry}");
    // One alert more than there should be is found, and a replay writes the ones that should be.
    bed.redis.command("XADD alerts * pair P0/USD seq 100000");
    let told = bed.expect(4, &all);
    assert!(told.contains("DIFFERENT alerts:"), "{told}");
    bed.redis.command("DEL alerts ticks:P0/USD ticks:P1/USD ticks:P2/USD");
    bed.replay(&["--from-offset", "earliest"]);
    assert_eq!(alerts(&bed.redis), live);
    assert!(bed.expect(0, &all).ends_with("equal\n"));
    assert_eq!(bed.count("dropped"), 100);
    // With another condition the same stream is not what it must be.
    let mut changed = Bed { setup: bed.setup.clone().routes(&ALERTING.replace("value.spread > 0.10", "value.spread > 0.15")), ..bed };
    let told = changed.expect(4, &all);
    assert!(told.contains("DIFFERENT alerts:"), "{told}");
    changed.setup = changed.setup.clone().routes(&ALERTING.replace("value.spread > 0.10\"", "value.spreda > 0.10\"\non_condition_error = \"dead\""));
    let told = changed.run(&["replay", "--dry-run", "--from-offset", "earliest"]);
    assert_eq!(told.status.code(), Some(3), "{}", said(&told));
    assert!(said(&told).contains("nothing for value.spreda"), "{}", said(&told));
}

#[test]
fn a_rebuild_asks_only_for_the_streams_that_conditions_let_it_write_to() {
    let redis = RedisServer::start();
    let topic = kafka::topic("conditions", 1);
    let routes = "[[route]]\nname = \"r\"\ntopics = [\"TOPIC\"]\n[[route.write]]\nxadd = { key = \"ticks:{key}\", fields = \"*\" }\n\
                  [[route.write]]\nwhen = \"value.seq >= 100\"\nxadd = { key = \"alerts\", fields = \"*\" }\n";
    let setup = Setup::new(&topic, &redis.url()).routes(routes).redis_extra("on_state_lost = \"rebuild\"");
    produce(&topic, 0, 100);
    let mut daemon = setup.start();
    daemon.wait_settled(100);
    assert_eq!(daemon.stop(), 0);
    redis.command("FLUSHALL");
    // Nothing that is rebuilt would be added to this one.
    redis.command("XADD alerts * seq 5");
    let daemon = setup.start();
    daemon.wait_settled(100);
    produce(&topic, 100, 110);
    daemon.wait_settled(110);
    assert_eq!(alerts(&redis), [5].into_iter().chain(100..110).collect::<Vec<u64>>());
    let ticks: u64 = ["P0/USD", "P1/USD", "P2/USD", "TEST/USD"].iter().map(|k| number(&redis, &["XLEN", &format!("ticks:{k}")])).sum();
    assert_eq!(ticks, 110);
}

/// Checks a record by the routes for alerts, with a change perhaps.
fn record(change: [&str; 2], arguments: &[&str], payload: &str) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bridge.toml");
    let routes = ALERTING.replace("TOPIC", "t");
    let routes = if change[0].is_empty() { routes } else { routes.replace(change[0], change[1]) };
    std::fs::write(&file, routes).unwrap();
    let all: Vec<&str> = ["--config", file.to_str().unwrap(), "check", "--record", "-"].into_iter().chain(arguments.iter().copied()).collect();
    let output = run(&all, &[], payload);
    (output.status.code(), out(&output))
}

#[test]
fn a_checked_record_is_shown_with_the_conditions_that_held() {
    let (code, said) = record(["", ""], &["--key", "A"], r#"{"realized_vol":0.4,"spread":0.2}"#);
    let expected = [
        "route all:",
        r#"  SET latest:A "{\"realized_vol\":0.4,\"spread\":0.2}" EX 3600"#,
        "route alerts:",
        "  XADD ticks:A * realized_vol 0.4 spread 0.2",
        "  # when not starts_with(key, 'TEST/'): holds",
        "  # write 2, when value.realized_vol > 0.50 or value.spread > 0.10: holds",
        "  # write 3, when value.realized_vol > 0.50: does not hold: this write is left out",
    ];
    // The alert's own command asks for a field that is not there.
    assert_eq!(code, Some(3), "{said}");
    let (code, said) = record(["", ""], &["--key", "A"], r#"{"seq":1,"realized_vol":0.4,"spread":0.2}"#);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((code, lines.len()), (Some(0), expected.len() + 1), "{said}");
    assert_eq!(lines[lines.len() - 3..], expected[expected.len() - 3..], "{said}");
    let (code, said) = record(["", ""], &["--key", "TEST/A"], "{}");
    assert!(said.contains("  # when not starts_with(key, 'TEST/'): does not hold: the record is dropped\n"), "{said}");
    assert_eq!((code, said.matches("write").count()), (Some(0), 0), "{said}");
    let alert_dead = ["when = \"value.realized_vol > 0.50 or", "on_condition_error = \"dead\"\nwhen = \"value.realized_vol > 0.50 or"];
    let (code, said) = record(alert_dead, &["--key", "A"], r#"{"spread":"wide"}"#);
    assert_eq!(code, Some(3));
    for line in [
        "  # write 2, when value.realized_vol > 0.50 or value.spread > 0.10: can't be applied (the record has nothing for value.realized_vol)",
        "  # dead: write 2 (xadd): the condition \"value.realized_vol > 0.50 or value.spread > 0.10\" can't be applied: the record has nothing for value.realized_vol",
    ] {
        assert!(said.lines().any(|l| l == line), "{line}\n{said}");
    }
    let (code, said) = record(["", ""], &["--key", "A", "--output", "json"], r#"{"spread":"wide"}"#);
    assert_eq!(code, Some(0), "{said}");
    let shown: Value = serde_json::from_str(&said).unwrap();
    let conditions = shown["routes"][1]["conditions"].as_array().unwrap();
    let facts: Vec<(&Value, &Value)> = conditions.iter().map(|c| (&c["write"], &c["holds"])).collect();
    assert_eq!(facts, [(&Value::Null, &Value::Bool(true)), (&2.into(), &Value::Null), (&3.into(), &Value::Null)]);
    assert_eq!(conditions[2]["when"], "value.realized_vol > 0.50");
    assert!(conditions[2]["said"].as_str().unwrap().contains("on_condition_error = \"skip\": this write is left out"), "{said}");
    // Without a key nobody can tell of the filter whether it starts with that.
    let (code, said) = record(["", ""], &[], "{}");
    assert_eq!(code, Some(3));
    assert!(said.contains("the record has nothing for key"), "{said}");
}

#[test]
fn a_condition_that_means_nothing_never_starts_and_says_where_it_is_wrong() {
    let toml = "[[route]]\nname = \"r\"\ntopics = [\"t\"]\nwhen = \"value.realized_vol > 0.50 && key\"\non_condition_error = \"drop\"\n\
                [[route.write]]\nwhen = \"vaule.x > 1\"\nset = { key = \"k\", value = \"v\" }\n\
                [[route.write]]\nwhen = \"key > 1\"\nset = { key = \"k\", value = \"v\" }\n\
                [[route]]\nname = \"raw\"\ntopics = [\"t\"]\ndecode = \"raw\"\nwhen = \"value.x > 1\"\n\
                [[route.write]]\nwhen = \"contains(payload, 'ERROR')\"\nset = { key = \"k\", value = \"v\" }\n";
    let (code, said) = check(toml, &[], &[]);
    assert_eq!(code, Some(78), "{said}");
    for expected in [
        "FILE: route.0.when: found \"&&\" at column 27 of \"value.realized_vol > 0.50 && key\"; allowed: and",
        "FILE: route.0.on_condition_error: found \"drop\"; allowed: skip, dead",
        "FILE: route.0.write.0.when: found \"vaule.x\" at column 1 of \"vaule.x > 1\"; allowed: value.vaule.x for a field of that name; key, payload",
        "; did you mean \"value.x\"?",
        "FILE: route.0.write.1.when: found text at column 1 of \"key > 1\"; allowed: a number",
        "FILE: route.1.when: found \"value.x > 1\", with a field of value in a route with decode = \"raw\"",
    ] {
        assert!(said.contains(expected), "missing: {expected}\nin:\n{said}");
    }
    assert!(!said.contains("route.1.write"), "{said}");
}
