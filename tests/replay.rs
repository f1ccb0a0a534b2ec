//! A range is applied again as a job beside the live bridge: exactly once, whatever interrupts it.
use crate::support::bed::{Bed, said};
use crate::support::daemon::{Setup, binary};
use crate::support::kafka::{self, Produce};
use crate::support::process;
use crate::support::redis_server::RedisServer;
use crate::support::sequence::{Ticks, sequence, tick};
use crate::support::{eventually, letters, signal};
use kafka_redis_bridge::config::load;
use kafka_redis_bridge::core::replay::job::Keys;
use kafka_redis_bridge::replay::store::Store;
use std::process::Command;

const ALL: [&str; 2] = ["--from-offset", "earliest"];

#[test]
fn a_lost_cache_is_filled_again_to_the_last_record_and_in_order() {
    let bed = Bed::new(3);
    let mut ticks = Ticks::default();
    ticks.produce(&bed.topic, 5_000, 7);
    let told = bed.replay(&ALL);
    ticks.expect_exactly(&bed.redis);
    assert!(told.contains("5000 records at most") && told.contains("complete"), "{told}");
    assert!(told.contains("10000 applied, 0 skipped as older, 0 skipped as present"), "{told}");
    let subscribers = "left out: what was published once is not published again";
    assert!(told.contains("(publish)") && told.contains("what was published once is not published again"), "{subscribers}: {told}");
    // A second job finds streams and values that it did not write.
    let told = bed.replay(&ALL);
    ticks.expect_exactly(&bed.redis);
    assert!(told.contains("0 applied, 0 skipped as older, 10000 skipped as present"), "{told}");
    let listed = bed.expect(0, &["jobs", "list"]);
    assert_eq!(listed.matches("complete").count(), 2, "{listed}");
}

#[test]
fn a_job_that_is_killed_again_and_again_applies_each_record_once() {
    let bed = Bed::new(4);
    let mut ticks = Ticks::default();
    ticks.produce(&bed.topic, 40_000, 11);
    let mut child = bed.start(&["replay", "--yes", "--from-offset", "earliest", "--rate", "20000/s"]);
    for part in 1..=4 {
        eventually("the job is under way", 40, || bed.entries(11) > part * 6_000);
        child.kill().unwrap();
        child.ended();
        child = bed.start(&["replay", "--resume", &bed.job()]);
    }
    assert!(child.ended().success(), "{}", bed.log());
    ticks.expect_exactly(&bed.redis);
    assert_eq!((bed.count("records"), bed.count("applied")), (40_000, 80_000), "the counts are as exact as what they count");
}

#[test]
fn a_stopped_job_ends_with_75_and_the_line_that_carries_it_on() {
    let bed = Bed::new(2);
    let mut ticks = Ticks::default();
    ticks.produce(&bed.topic, 20_000, 5);
    let mut child = bed.start(&["replay", "--yes", "--from-offset", "earliest", "--rate", "2000/s", "--output", "json"]);
    eventually("the job is under way", 40, || bed.entries(5) > 1_000);
    signal(child.id(), "TERM");
    assert_eq!(child.ended().code(), Some(75), "{}", bed.log());
    let report: serde_json::Value = bed.log().lines().find(|l| l.contains(r#""event":"report""#)).map(|l| serde_json::from_str(l).unwrap()).unwrap();
    assert_eq!(report["end"], "stopped");
    assert!(bed.log().lines().any(|l| l.contains(r#""event":"progress""#)));
    let line = report["resume"].as_str().unwrap();
    assert!(line.ends_with(&format!("replay --resume {}", bed.job())), "{line}");
    let settled = bed.entries(5);
    assert!(settled < 20_000);
    assert!(bed.expect(0, &["jobs", "show", &bed.job()]).contains("stopped"), "it is no longer worked on");
    let arguments: Vec<&str> = line.split(' ').skip(1).collect();
    let output = process::output(Command::new(binary()).args(&arguments));
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    ticks.expect_exactly(&bed.redis);
    assert!(bed.expect(0, &["replay", "--resume", &bed.job()]).contains("was complete already"));
}

#[test]
fn two_processes_of_one_job_fence_each_other() {
    let bed = Bed::new(2);
    let mut ticks = Ticks::default();
    ticks.produce(&bed.topic, 20_000, 5);
    let mut first = bed.start(&["replay", "--yes", "--from-offset", "earliest", "--rate", "1000/s"]);
    eventually("the job is under way", 40, || bed.entries(5) > 1_000);
    let told = bed.expect(0, &["replay", "--resume", &bed.job(), "--rate", "1000000/s"]);
    assert!(told.contains("complete"), "{told}");
    assert_eq!(first.ended().code(), Some(1), "{}", bed.log());
    assert!(bed.log().contains("another process has taken the job over"), "{}", bed.log());
    ticks.expect_exactly(&bed.redis);
    assert_eq!(bed.count("records"), 20_000);
}

const NEWER: &str = "[[route]]\nname = \"r\"\ntopics = [\"TOPIC\"]\n\
    [[route.write]]\nsetex = { key = \"latest:{key}\", ttl = \"1h\", value = \"{payload}\" }\nnewer_by = \"{value.v}\"\n";

#[test]
fn beside_a_busy_live_bridge_no_value_goes_back() {
    let bed = Bed::with(2, NEWER);
    let produce = |from: i64, to: i64| {
        let records: Vec<(String, String)> = (from..to).map(|v| (format!("k{}", v % 20), format!(r#"{{"v":{v}}}"#))).collect();
        kafka::produce(&bed.topic, records.iter().map(|(k, p)| Produce::new(k, p)));
    };
    produce(0, 20_000);
    let daemon = bed.setup.start();
    daemon.wait_settled(20_000);
    let mut job = bed.start(&["replay", "--yes", "--from-offset", "earliest", "--rate", "8000/s"]);
    bed.wait_begun();
    let mut written = 20_000;
    let mut c = bed.redis.connect();
    let mut seen = [0i64; 20];
    while job.runs() {
        produce(written, written + 1_000);
        written += 1_000;
        for (k, seen) in seen.iter_mut().enumerate() {
            let found: String = redis::cmd("GET").arg(format!("latest:k{k}")).query(&mut c).unwrap();
            let v = serde_json::from_str::<serde_json::Value>(&found).unwrap()["v"].as_i64().unwrap();
            assert!(v >= *seen, "k{k} went back from {seen} to {v}");
            *seen = v;
        }
    }
    assert_eq!(job.ended().code(), Some(0), "{}", bed.log());
    assert!(written > 20_000, "the live bridge was busy meanwhile");
    daemon.wait_settled(written);
    for k in 0..20 {
        assert_eq!(bed.get(&format!("latest:k{k}")).unwrap(), format!(r#"{{"v":{}}}"#, written - 20 + k));
    }
    // None of the twenty thousand was newer than what stood there.
    assert_eq!((bed.count("records"), bed.count("older"), bed.count("applied")), (20_000, 20_000, 0));
    assert!(!daemon.log().contains("claimed again"), "the live bridge was left alone");
}

#[test]
fn what_is_missing_is_repaired_and_what_is_newer_stays() {
    let bed = Bed::with(1, NEWER);
    kafka::produce(
        &bed.topic,
        [Produce::new("a", r#"{"v":5}"#), Produce::new("b", r#"{"v":5}"#), Produce::new("c", r#"{"v":5}"#), Produce::new("d", r#"{"v":5}"#)],
    );
    bed.redis.command(r#"SET latest:a {"v":6}"#);
    bed.redis.command(r#"SET latest:b {"v":4}"#);
    bed.redis.command("SET latest:c text");
    let told = bed.replay(&ALL);
    let found: Vec<String> = ["a", "b", "c", "d"].iter().map(|k| bed.get(&format!("latest:{k}")).unwrap()).collect();
    assert_eq!(found, [r#"{"v":6}"#, r#"{"v":5}"#, "text", r#"{"v":5}"#]);
    assert!(told.contains("2 applied, 1 skipped as older, 1 skipped as present"), "{told}");
}

#[test]
fn entries_that_the_live_bridge_is_yet_to_add_are_refused_or_go_to_streams_of_their_own() {
    let bed = Bed::new(1);
    let mut ticks = Ticks::default();
    ticks.produce(&bed.topic, 100, 1);
    let mut daemon = bed.setup.start();
    daemon.wait_settled(100);
    assert_eq!(daemon.stop(), 0);
    ticks.produce(&bed.topic, 50, 1);
    let refused = bed.expect(1, &["replay", "--yes", "--from-offset", "earliest"]);
    assert!(refused.contains("ends at 150 and the live position is 100") && refused.contains("--target-prefix"), "{refused}");
    bed.replay(&["--from-offset", "earliest", "--target-prefix", "replay:"]);
    let copied = bed.redis.entries::<String>("replay:volatility:P0/USD");
    assert_eq!(copied.len(), 150);
    assert_eq!(bed.get("replay:latest:P0/USD").unwrap(), tick(149));
    assert_eq!(sequence(&bed.redis, "P0/USD").len(), 100, "the live stream is as it was");
    // Into the live streams nothing is added; with --append it is, after what is there.
    let told = bed.replay(&["--from-offset", "earliest", "--clamp"]);
    assert!(told.contains("cut at ") && told.contains(", where the live bridge is"), "{told}");
    assert_eq!(sequence(&bed.redis, "P0/USD").len(), 100);
    bed.replay(&["--from-offset", "10", "--to-offset", "20", "--append"]);
    assert_eq!(sequence(&bed.redis, "P0/USD"), (0..100).chain(10..20).collect::<Vec<_>>());
}

#[test]
fn a_second_job_under_the_same_prefix_is_refused_where_it_would_add_nothing() {
    let bed = Bed::new(1);
    let mut ticks = Ticks::default();
    ticks.produce(&bed.topic, 30, 1);
    let part = |to: &'static str| ["--from-offset", "0", "--to-offset", to, "--partition", "0", "--target-prefix", "x:"];
    bed.replay(&part("20"));
    let name = bed.job();
    let told = bed.expect(1, &[["replay", "--yes"].as_slice(), &part("30")].concat());
    assert!(told.contains(&format!("jobs forget {name}")) && told.contains("--append"), "{told}");
    let told = bed.replay(&["--from-offset", "20", "--partition", "0", "--target-prefix", "x:"]);
    assert!(told.contains(&format!("other jobs wrote under \"x:\" before ({name})")), "{told}");
    let length = || bed.redis.entries::<String>("x:volatility:P0/USD").len();
    assert_eq!(length(), 20);
    bed.redis.command("DEL x:volatility:P0/USD");
    bed.expect(0, &["jobs", "forget", &name]);
    bed.replay(&part("20"));
    assert_eq!(length(), 20);
}

#[test]
fn ids_come_from_the_records_time_and_time_to_live_as_well() {
    let routes = "[[route]]\nname = \"r\"\ntopics = [\"TOPIC\"]\n[[route.write]]\nxadd = { key = \"s:{key}\", fields = \"*\" }\n\
        [[route.write]]\nsetex = { key = \"latest:{key}\", ttl = \"1h\", ttl_from = \"timestamp\", value = \"{payload}\" }\n";
    let bed = Bed::with(1, routes);
    let now = jiff::Timestamp::now().as_millisecond();
    let at = |key: &'static str, minutes: i64| Produce { timestamp: Some(now - minutes * 60_000), ..Produce::new(key, r#"{"a":1}"#) };
    kafka::produce(&bed.topic, [at("old", 120), at("young", 45), at("young", 45), at("young", 30)]);
    let told = bed.replay(&["--from-offset", "earliest", "--ids", "timestamp"]);
    let ids: Vec<String> = bed.redis.entries::<String>("s:young").into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, [format!("{}-0", now - 45 * 60_000), format!("{}-1", now - 45 * 60_000), format!("{}-0", now - 30 * 60_000)]);
    assert_eq!(bed.get("latest:old"), None, "it has expired, and is not revived");
    let left: i64 = redis::cmd("TTL").arg("latest:young").query(&mut bed.redis.connect()).unwrap();
    assert!((1_700..=1_800).contains(&left), "{left}");
    assert!(told.contains("1 expired"), "{told}");
}

#[test]
fn a_dry_run_prints_real_commands_and_asks_nothing_of_redis() {
    let mut bed = Bed::new(2);
    Ticks::default().produce(&bed.topic, 100, 4);
    bed.redis.kill();
    let told = bed.expect(0, &["replay", "--dry-run", "--from-offset", "earliest"]);
    assert_eq!(told.matches("XADD volatility:P").count(), 100, "{told}");
    assert!(told.contains("SET latest:P0/USD") && !told.contains("PUBLISH updates"), "{told}");
    let told = bed.expect(0, &["replay", "--dry-run", "--from-offset", "earliest", "--sample", "6", "--key", "P1/USD"]);
    assert_eq!((told.matches("XADD volatility:P1/USD").count(), told.matches("XADD").count()), (6, 6), "all are of one partition: {told}");
    assert!(bed.expect(2, &["replay", "--dry-run", "--from-offset", "earliest", "--sample", "0"]).contains("1 or more"));
}

#[test]
fn a_prefix_that_would_not_move_all_keys_is_refused_by_a_dry_run_too() {
    let bed = Bed::with(1, "[[route]]\nname = \"r\"\ntopics = [\"TOPIC\"]\n[[route.write]]\ncommand = [\"COPY\", \"a\", \"b\"]\nreplay = \"apply\"\n");
    for how in ["--dry-run", "--yes"] {
        let told = bed.expect(1, &["replay", how, "--from-offset", "earliest", "--target-prefix", "x:"]);
        assert!(told.contains("may write other keys than its first argument"), "{how}: {told}");
    }
}

#[test]
fn dead_letters_are_kept_as_in_the_live_path_and_end_with_3() {
    let bed = Bed::new(1);
    kafka::produce(&bed.topic, [Produce::new("a", r#"{"x":1}"#), Produce::new("b", "no json"), Produce::new("c", r#"{"x":1}"#)]);
    bed.redis.command("SET volatility:c text");
    let told = bed.expect(3, &["replay", "--yes", "--from-offset", "earliest", "--append"]);
    let found: Vec<(String, String)> =
        letters::read(&bed.redis, &format!("bridge:dead:{}", bed.job())).iter().map(|l| (l.text("offset"), l.text("code"))).collect();
    assert_eq!(found, [("1".into(), "undecodable".into()), ("2".into(), "refused".into())]);
    assert!(told.contains("complete, with dead letters") && told.contains("2 dead"), "{told}");
    assert_eq!((bed.count("applied"), bed.count("dead")), (3, 2), "two writes of a, one of c");
}

#[test]
fn a_redis_that_goes_away_is_waited_for() {
    let mut bed = Bed::new(2);
    bed.redis = RedisServer::with(crate::support::redis_server::Kind::System, &["--appendonly", "yes", "--appendfsync", "always"]);
    bed.setup = Setup::new(&bed.topic, &bed.redis.url());
    let mut ticks = Ticks::default();
    ticks.produce(&bed.topic, 20_000, 5);
    let mut child = bed.start(&["replay", "--yes", "--from-offset", "earliest", "--rate", "2000/s"]);
    for part in 1..=2 {
        eventually("the job is under way", 40, || bed.entries(5) > part * 4_000);
        bed.redis.kill();
        bed.redis.run();
        // The kill may have torn a write: what Redis then repairs, it repairs wrongly at its next start.
        bed.redis.write_file_anew();
    }
    assert_eq!(child.ended().code(), Some(0), "{}", bed.log());
    ticks.expect_exactly(&bed.redis);
}

#[test]
fn jobs_are_listed_shown_and_forgotten() {
    let bed = Bed::new(1);
    Ticks::default().produce(&bed.topic, 10, 1);
    bed.replay(&ALL);
    let name = bed.job();
    let shown: serde_json::Value = serde_json::from_str(&bed.expect(0, &["--output", "json", "jobs", "show", &name])).unwrap();
    assert_eq!((&shown["status"], &shown["counts"]["records"], &shown["positions"][0]), (&"complete".into(), &10.into(), &10.into()));
    assert!(bed.expect(0, &["jobs", "forget", &name]).contains("forgotten"));
    let left: Vec<String> = redis::cmd("KEYS").arg("bridge:job*").query(&mut bed.redis.connect()).unwrap();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(bed.entries(1), 10, "what it wrote stays");
    assert!(bed.expect(1, &["jobs", "show", &name]).contains("no job"));
}

#[test]
fn what_can_not_be_meant_is_refused_and_says_what_is() {
    let bed = Bed::new(3);
    Ticks::default().produce(&bed.topic, 30, 3);
    for (arguments, code, text) in [
        (vec!["--from-offset", "5"], 1, "an offset is a number of one partition"),
        (vec!["--from-offset", "1000", "--partition", "0"], 1, "lies outside of what Kafka holds"),
        (vec!["--from-offset", "0:0", "--to-offset", "1:5"], 1, "the offsets are about partitions"),
        (vec!["--from-offset", "earliest", "--partition", "7"], 1, "there is no 7"),
        (vec!["--from-offset", "earliest", "--route", "other"], 1, "no route is named"),
        (vec!["--from-offset", "earliest", "--topic", "other"], 1, "no route reads topic"),
        (vec!["--from-time", "-1h", "--to-time", "-2h"], 2, "begins after its end"),
        (vec!["--from-time", "yesterday"], 2, "RFC 3339"),
        (vec![], 2, "--from-offset or --from-time"),
        (vec!["--from-offset", "earliest", "--rate", "fast"], 2, "20000/s"),
        (vec!["--resume", "none"], 1, "no job"),
    ] {
        let told = bed.expect(code, &[&["replay", "--yes"], arguments.as_slice()].concat());
        assert!(told.contains(text), "{arguments:?}: {told}");
    }
    let told = bed.expect(1, &["replay", "--from-offset", "earliest"]);
    assert!(told.contains("confirm it with --yes"), "{told}");
    assert_eq!(bed.entries(3), 0);
    for arguments in [vec!["run", "--from-offset", "5"], vec!["--from-offset", "earliest"]] {
        let told = bed.expect(2, &arguments);
        assert!(told.contains("replay --from-offset") && told.contains("rewind --topic"), "{told}");
    }
}

/// Makes a job that is complete one that was killed before its last replies were read, from this offset on.
fn unread(bed: &Bed, from: i64) {
    let (job, state) = (format!("bridge:job:{}", bed.job()), format!("bridge:job:{}:state:{}:0", bed.job(), bed.topic));
    bed.redis.command(&format!("HSET {job} status begun"));
    bed.redis.command(&format!("HSET {state} unread {from}"));
}

fn lettered(bed: &Bed) -> Vec<(String, String)> {
    letters::read(&bed.redis, &format!("bridge:dead:{}", bed.job())).iter().map(|l| (l.text("offset"), l.text("code"))).collect()
}

#[test]
fn what_a_killed_job_left_unread_at_its_very_end_is_decided_about() {
    let bed = Bed::new(1);
    let mut ticks = Ticks::default();
    ticks.produce(&bed.topic, 20, 1);
    bed.replay(&["--from-offset", "earliest", "--append"]);
    unread(&bed, 15);
    bed.redis.command("DEL volatility:P0/USD");
    bed.redis.command("SET volatility:P0/USD text");
    let told = bed.expect(3, &["replay", "--resume", &bed.job()]);
    let expected: Vec<(String, String)> = (15..20).map(|o| (o.to_string(), "refused".to_owned())).collect();
    assert_eq!(lettered(&bed), expected, "{told}");
}

#[test]
fn of_what_a_killed_job_left_out_on_purpose_no_letter_comes() {
    // The live bridge's stream, which the job does not add to; then a stream that became something else meanwhile.
    for other in [false, true] {
        let bed = Bed::new(1);
        let mut ticks = Ticks::default();
        ticks.produce(&bed.topic, 20, 1);
        bed.redis.command("XADD volatility:P0/USD * seq 0");
        let ids: &[&str] = if other { &[] } else { &["--ids", "timestamp"] };
        bed.replay(&[&ALL, ids].concat());
        // Its last marks are gone with its completion, and there was none of this stream.
        unread(&bed, 15);
        if other {
            bed.redis.command("DEL volatility:P0/USD");
            bed.redis.command("SET volatility:P0/USD text");
        }
        let told = bed.expect(0, &["replay", "--resume", &bed.job()]);
        assert_eq!(lettered(&bed), [], "{told}");
        assert_eq!(bed.count("dead"), 0);
    }
}

#[test]
fn entries_with_ids_of_their_own_that_stand_after_a_kill_have_no_letter() {
    let bed = Bed::new(1);
    let now = jiff::Timestamp::now().as_millisecond();
    // Three of the same time, and one that comes too late for its id.
    let at = [0, 5, 5, 5, 3];
    let payloads: Vec<String> = (0..5).map(tick).collect();
    kafka::produce(&bed.topic, payloads.iter().zip(at).map(|(p, ms)| Produce { timestamp: Some(now - 60_000 + ms), ..Produce::new("P0/USD", p) }));
    bed.expect(3, &["replay", "--yes", "--from-offset", "earliest", "--ids", "timestamp"]);
    let refused = || [("4".to_owned(), "refused".to_owned())];
    assert_eq!(lettered(&bed), refused());
    // As a kill would have left it before its replies were read: with the mark of the stream that it began.
    unread(&bed, 0);
    bed.redis.command(&format!("HSET bridge:job:{}:marks volatility:P0/USD begun", bed.job()));
    bed.expect(3, &["replay", "--resume", &bed.job()]);
    let expected = [refused(), [("4".to_owned(), "outcome-unknown".to_owned())]].concat();
    assert_eq!(lettered(&bed), expected, "what stands is known");
}

#[test]
fn a_write_that_was_added_later_is_backfilled_alone() {
    let mut bed = Bed::new(1);
    let mut ticks = Ticks::default();
    ticks.produce(&bed.topic, 100, 2);
    let mut daemon = bed.setup.start();
    daemon.wait_settled(100);
    assert_eq!(daemon.stop(), 0);
    bed.setup.routes.push_str("[[route.write]]\ncommand = [\"HSET\", \"pair:{key}\", \"seq\", \"{value.seq}\"]\nreplay = \"apply\"\n");
    let daemon = bed.setup.start();
    daemon.wait_ready();
    eventually("the change is told", 20, || daemon.log().contains("--to-offset 100 --write ROUTE/N"));
    let told = bed.replay(&["--from-offset", "earliest", "--to-offset", "100", "--partition", "0", "--write", "volatility/4"]);
    assert!(told.contains("100 applied, 0 skipped as older, 0 skipped as present"), "{told}");
    let seq = |k: u64| -> String { redis::cmd("HGET").arg(format!("pair:P{k}/USD")).arg("seq").query(&mut bed.redis.connect()).unwrap() };
    assert_eq!((seq(0), seq(1)), ("49".into(), "49".into()));
    ticks.expect_exactly(&bed.redis);
    assert!(bed.expect(1, &["replay", "--yes", "--from-offset", "earliest", "--write", "volatility/5"]).contains("there is no write"));
}

#[test]
fn entries_of_a_write_that_was_added_later_are_backfilled_before_the_bridge_starts_with_it() {
    let mut bed = Bed::new(1);
    let mut ticks = Ticks::default();
    ticks.produce(&bed.topic, 100, 2);
    let mut daemon = bed.setup.start();
    daemon.wait_settled(100);
    bed.setup.routes.push_str("[[route.write]]\nxadd = { key = \"history:{key}\", fields = \"*\" }\n");
    let write = ["--partition", "0", "--write", "volatility/4"];
    bed.replay(&[["--from-offset", "earliest", "--clamp"].as_slice(), &write].concat());
    ticks.produce(&bed.topic, 50, 2);
    daemon.wait_settled(150);
    assert_eq!(daemon.stop(), 0);
    bed.replay(&[["--from-offset", "100", "--to-offset", "150", "--append"].as_slice(), &write].concat());
    let daemon = bed.setup.start();
    ticks.produce(&bed.topic, 50, 2);
    daemon.wait_settled(200);
    ticks.expect_exactly(&bed.redis);
    for key in ["P0/USD", "P1/USD"] {
        let entries = |of: &str| bed.redis.entries::<String>(&format!("{of}:{key}")).into_iter().map(|(_, fields)| fields).collect::<Vec<_>>();
        assert_eq!(entries("history"), entries("volatility"), "{key}");
    }
    assert!(bed.expect(0, &["verify", "--from-offset", "earliest"]).ends_with("equal\n"));
}

#[test]
fn under_at_least_once_a_job_is_exactly_once_all_the_same() {
    let mut bed = Bed::new(2);
    bed.setup = bed.setup.clone().redis_extra("guarantee = \"at-least-once\"");
    let mut ticks = Ticks::default();
    ticks.produce(&bed.topic, 20_000, 5);
    let mut child = bed.start(&["replay", "--yes", "--from-offset", "earliest", "--rate", "10000/s"]);
    eventually("the job is under way", 40, || bed.entries(5) > 4_000);
    child.kill().unwrap();
    child.ended();
    let told = bed.expect(0, &["replay", "--resume", &bed.job(), "--rate", "1000000/s"]);
    assert!(told.contains("complete"), "{told}");
    ticks.expect_exactly(&bed.redis);
}

#[test]
fn a_redis_that_was_emptied_ends_the_job_and_says_so() {
    let bed = Bed::new(1);
    Ticks::default().produce(&bed.topic, 20_000, 5);
    let mut child = bed.start(&["replay", "--yes", "--from-offset", "earliest", "--rate", "1000/s"]);
    eventually("the job is under way", 40, || bed.entries(5) > 1_000);
    bed.redis.command("FLUSHALL");
    assert_eq!(child.ended().code(), Some(1), "{}", bed.log());
    assert!(bed.log().contains("Redis has no such job: it was forgotten, or Redis was emptied"), "{}", bed.log());
    assert!(!bed.log().contains("carry it on"), "there is nothing to be carried on: {}", bed.log());
}

#[test]
fn a_new_redis_is_filled_beside_the_old_one_and_a_bridge_goes_on_where_the_job_ended() {
    let bed = Bed::new(3);
    let mut ticks = Ticks::default();
    ticks.produce(&bed.topic, 2_000, 7);
    // The plan says by which line a bridge begins there.
    let told = bed.replay(&ALL);
    let line = told.lines().find(|l| l.starts_with("note:")).unwrap().split("kafka-redis-bridge ").nth(1).unwrap().to_owned();
    ticks.produce(&bed.topic, 500, 7);
    bed.expect(0, &[line.split(' ').collect::<Vec<_>>(), vec!["--yes"]].concat());
    let daemon = bed.setup.start();
    daemon.wait_settled(2_500);
    ticks.expect_exactly(&bed.redis);
    assert!(bed.expect(0, &["verify", "--from-offset", "earliest"]).ends_with("equal\n"));
}

#[test]
fn after_a_flushall_the_cache_is_rebuilt_and_the_bridge_goes_on_behind_it() {
    let bed = Bed::new(2);
    let mut ticks = Ticks::default();
    ticks.produce(&bed.topic, 2_000, 5);
    let mut daemon = bed.setup.start();
    daemon.wait_settled(2_000);
    assert_eq!(daemon.stop(), 0);
    bed.redis.command("FLUSHALL");
    ticks.produce(&bed.topic, 300, 5);
    let told = bed.replay(&ALL);
    let line = told.lines().find(|l| l.starts_with("note:")).unwrap().split("kafka-redis-bridge ").nth(1).unwrap().to_owned();
    ticks.produce(&bed.topic, 300, 5);
    bed.expect(0, &[line.split(' ').collect::<Vec<_>>(), vec!["--yes"]].concat());
    let daemon = bed.setup.start();
    daemon.wait_settled(2_600);
    ticks.expect_exactly(&bed.redis);
    assert!(daemon.status().unwrap().conditions.is_empty());
}

#[test]
fn a_job_is_marked_as_complete_only_where_redis_holds_all_that_it_applied() {
    let bed = Bed::new(2);
    Ticks::default().produce_on(&bed.topic, 20, 2, 0..2);
    bed.replay(&ALL);
    let loaded = load::load_text(&bed.setup.toml(1), "bridge.toml", &[]).unwrap();
    let (mut store, name) = (Store::new(&loaded.config().redis), bed.job());
    let (keys, spans) = (Keys::new("bridge", &name), store.find(&name).unwrap().unwrap().plan.unwrap().spans);
    let status = || redis::cmd("HGET").arg(format!("bridge:job:{name}")).arg("status").query::<Option<String>>(&mut bed.redis.connect()).unwrap();
    let state = format!("bridge:job:{name}:state:{}:1", bed.topic);
    bed.redis.command(&format!("HSET bridge:job:{name} status begun"));
    for lost in [format!("HSET {state} offset 9"), format!("HSET {state} offset 10 unread 8"), format!("DEL {state}")] {
        bed.redis.command(&lost);
        assert!(!store.complete(&keys, &spans, 1).unwrap(), "{lost}");
        assert_eq!(status().as_deref(), Some("begun"));
    }
    bed.redis.command(&format!("HSET {state} offset 10"));
    assert!(store.complete(&keys, &spans, 1).unwrap());
    assert_eq!(status().as_deref(), Some("complete"));
    bed.redis.command("FLUSHALL");
    assert!(!store.complete(&keys, &spans, 1).unwrap());
    assert_eq!(status(), None, "no job comes of it that nobody began");
}
