//! Odd ranges: each ends right.
use crate::support::bed::Bed;
use crate::support::kafka::{self, Produce};
use crate::support::process::Process;
use crate::support::sequence::{Ticks, sequence, tick};
use crate::support::{eventually, signal};

#[test]
fn an_empty_range_is_complete_at_once() {
    let bed = Bed::new(2);
    let told = bed.replay(&["--from-offset", "earliest"]);
    assert!(told.contains("0 records at most") && told.contains("complete"), "{told}");
    Ticks::default().produce(&bed.topic, 10, 1);
    for bounds in [["--from-offset", "latest"], ["--from-time", "4102444800000"]] {
        assert!(bed.replay(&bounds).contains("complete"));
    }
    assert_eq!(bed.entries(1), 0);
}

#[test]
fn aborted_records_and_markers_are_holes_and_a_bound_may_lie_in_one() {
    let bed = Bed::new(2);
    let producer = kafka::Transactions::new(&bed.topic);
    // A partition has 5 records and a marker of each: 0..5, 5, aborted 6..11, 11, 12..14 or 12..15, a marker.
    producer.produce(10, true);
    producer.produce(10, false);
    producer.produce(5, true);
    producer.produce(3, false);
    let length = || redis::cmd("XLEN").arg("volatility:K").query::<i64>(&mut bed.redis.connect()).unwrap();
    let told = bed.replay(&["--from-offset", "earliest"]);
    assert_eq!(length(), 15, "{told}");
    // From within what was aborted, to the marker behind it; then from a marker on to the end of all.
    bed.replay(&["--partition", "0", "--from-offset", "7", "--to-offset", "12", "--append"]);
    assert_eq!(length(), 15);
    bed.replay(&["--partition", "0", "--from-offset", "3", "--to-offset", "8", "--append"]);
    assert_eq!(length(), 17);
    bed.replay(&["--from-offset", "11", "--partition", "0", "--append"]);
    assert_eq!(length(), 20);
}

#[test]
fn a_compacted_topic_is_replayed_across_its_holes_and_resumed_where_the_last_record_is_gone() {
    let mut bed = Bed::new(1);
    let topic = crate::support::unique("compacted");
    let settings = [("cleanup.policy", "compact"), ("segment.ms", "100"), ("min.cleanable.dirty.ratio", "0.01"), ("max.compaction.lag.ms", "100")];
    kafka::create(&topic, 1, &settings);
    bed.setup.routes = bed.setup.routes.replace(&bed.topic, &topic);
    bed.topic = topic.clone();
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 1_000, 10);
    let mut job = bed.start(&["replay", "--yes", "--from-offset", "earliest", "--to-offset", "1000", "--partition", "0", "--rate", "50/s"]);
    eventually("the job is under way", 40, || bed.entries(10) > 200);
    signal(job.id(), "TERM");
    assert_eq!(job.ended().code(), Some(75), "{}", bed.log());
    let before: Vec<Vec<u64>> = (0..10).map(|k| sequence(&bed.redis, &format!("P{k}/USD"))).collect();
    let settled = before.iter().map(Vec::len).sum::<usize>();
    assert!(settled < 900, "{settled}");
    ticks.produce(&topic, 10, 10);
    let mut left = Vec::new();
    eventually("all that was to come is compacted away", 60, || {
        kafka::produce(&topic, [Produce::new("roll", &tick(0))]);
        left = kafka::read_until(&topic, kafka::ends(&topic, 1)[0]);
        left.iter().all(|m| rdkafka::Message::offset(m) >= 1_000)
    });
    let told = bed.expect(0, &["replay", "--resume", &bed.job()]);
    assert!(told.contains("complete") && told.contains("1000 of 1000 offsets"), "{told}");
    assert_eq!((0..10).map(|k| sequence(&bed.redis, &format!("P{k}/USD"))).collect::<Vec<_>>(), before);
    // Bounds that fall into the holes.
    let told = bed.replay(&["--from-offset", "500", "--to-offset", "1005", "--partition", "0", "--target-prefix", "x:"]);
    let expected = left.iter().filter(|m| rdkafka::Message::offset(*m) < 1_005).count();
    assert!(told.contains(&format!(" {expected} records, ")), "{expected}: {told}");
}

#[test]
fn records_without_timestamps_are_found_by_offset_alone() {
    let bed = Bed::new(1);
    let record = || Produce { timestamp: Some(-1), ..Produce::new("a", r#"{"seq":1}"#) };
    kafka::produce(&bed.topic, [record(), record()]);
    let told = bed.replay(&["--from-time", "-1h"]);
    let timed = kafka::read_all(&bed.topic, 2).iter().any(|m| rdkafka::Message::timestamp(m).to_millis().is_some());
    assert!(!timed, "Kafka keeps them without a time");
    assert!(told.contains("records without timestamps can't be found by time"), "{told}");
    bed.replay(&["--from-offset", "earliest"]);
    assert_eq!(bed.redis.entries::<String>("volatility:a").len(), 2);
    // An id from a time that is none is a dead letter.
    let told = bed.expect(3, &["replay", "--yes", "--from-offset", "earliest", "--ids", "timestamp", "--target-prefix", "x:"]);
    assert!(told.contains("2 dead"), "{told}");
}

#[test]
fn what_retention_deletes_meanwhile_halts_or_is_passed_over_where_that_was_asked() {
    let bed = Bed::new(2).fetching_little();
    let mut ticks = Ticks::default();
    ticks.produce_on(&bed.topic, 40_000, 2, 0..2);
    let mut job = bed.start(&["replay", "--yes", "--from-offset", "earliest", "--rate", "500/s"]);
    eventually("the job is under way", 40, || bed.entries(2) > 300);
    kafka::delete_records(&bed.topic, 0..1, 18_000);
    assert!(bed.expect(0, &["jobs", "list"]).contains("running"));
    signal(job.id(), "TERM");
    assert_eq!(job.ended().code(), Some(75), "{}", bed.log());
    let name = bed.job();
    let told = bed.expect(1, &["replay", "--resume", &name, "--rate", "1000000/s"]);
    assert!(told.contains("history-gone") && told.contains("[18000, 20000)") && told.contains("--clamp"), "{told}");
    assert_eq!(sequence(&bed.redis, "P1/USD").len(), 20_000, "the other partition goes on to its end");
    let told = bed.expect(0, &["replay", "--resume", &name, "--clamp", "--rate", "1000000/s"]);
    let found = sequence(&bed.redis, "P0/USD");
    let kept = found.iter().filter(|seq| **seq < 18_000).count();
    assert_eq!(found, (0..kept as u64).chain(18_000..20_000).collect::<Vec<_>>());
    assert!(told.contains(&format!("{} offsets were deleted by Kafka", 18_000 - kept)), "{kept}: {told}");
    assert!(kept < 18_000, "something was deleted in time");
}

#[test]
fn retention_under_the_reader_is_met_while_it_reads() {
    let bed = Bed::new(1).fetching_little();
    let mut ticks = Ticks::default();
    ticks.produce_on(&bed.topic, 30_000, 1, 0..1);
    let mut job = bed.start(&["replay", "--yes", "--from-offset", "earliest", "--rate", "2000/s", "--clamp"]);
    eventually("the job is under way", 40, || bed.entries(1) > 300);
    kafka::delete_records(&bed.topic, 0..1, 28_000);
    assert_eq!(job.ended().code(), Some(0), "{}", bed.log());
    let found = sequence(&bed.redis, "P0/USD");
    let kept = found.iter().filter(|seq| **seq < 28_000).count();
    assert_eq!(found, (0..kept as u64).chain(28_000..30_000).collect::<Vec<_>>());
    assert!(bed.log().contains(&format!("{} offsets were deleted by Kafka", 28_000 - kept)), "{kept}: {}", bed.log());
}

#[test]
fn a_topic_that_is_deleted_or_made_anew_is_told_and_nothing_of_another_log_is_applied() {
    let bed = Bed::new(1).fetching_little();
    let mut ticks = Ticks::default();
    ticks.produce_on(&bed.topic, 30_000, 1, 0..1);
    let mut job = bed.start(&["replay", "--yes", "--from-offset", "earliest", "--rate", "2000/s"]);
    eventually("the job is under way", 40, || bed.entries(1) > 300);
    kafka::delete(&bed.topic);
    assert_eq!(job.ended().code(), Some(1), "{}", bed.log());
    assert!(bed.log().contains("topic-missing"), "{}", bed.log());
    let told = bed.expect(1, &["replay", "--yes", "--from-offset", "earliest"]);
    assert!(told.contains("Kafka has none of the topics"), "{told}");
    let before = bed.entries(1);
    let (name, topic) = (bed.job(), bed.topic.clone());
    let told = bed.expect(1, &["replay", "--resume", &name]);
    assert!(told.contains("topic-missing") && told.contains(&format!("jobs forget {name}")), "{told}");
    eventually("the topic is there anew", 40, || kafka::try_create(&topic, 1).is_ok());
    Ticks::named("Q").produce_on(&topic, 30_000, 1, 0..1);
    let told = bed.expect(1, &["replay", "--resume", &name]);
    assert!(told.contains("log-changed"), "{told}");
    assert_eq!(bed.entries(1), before);
    assert_eq!(sequence(&bed.redis, "Q0/USD"), [0u64; 0]);
}

#[test]
fn a_time_before_what_kafka_still_holds_is_refused_unless_clamped() {
    let bed = Bed::new(2);
    let now = jiff::Timestamp::now().as_millisecond();
    let at = |hours: i64| Produce { timestamp: Some(now - hours * 3_600_000), partition: Some(0), ..Produce::new("a", r#"{"seq":1}"#) };
    kafka::produce(&bed.topic, [at(5), at(4), at(3), at(2)]);
    // Nothing was ever deleted: nothing is missed.
    assert!(bed.replay(&["--from-time", "-9h", "--target-prefix", "x:"]).contains(" 4 records, "));
    kafka::delete_records(&bed.topic, 0..1, 2);
    let told = bed.expect(1, &["replay", "--yes", "--from-time", "-9h"]);
    assert!(told.contains("from a time before what Kafka still holds, [2, 4)") && told.contains("--clamp"), "{told}");
    let told = bed.replay(&["--from-time", "-9h", "--clamp"]);
    assert!(told.contains("it is 2 (--clamp)") && told.contains(" 2 records, "), "{told}");
    assert!(bed.replay(&["--from-time", "-150m", "--target-prefix", "y:"]).contains(" 1 record, "));
    let told = bed.expect(0, &["rewind", "--topic", &bed.topic, "--to-time", "-9h", "--yes"]);
    assert!(told.contains("a time before what Kafka still holds"), "{told}");
    kafka::delete_records(&bed.topic, 0..1, 4);
    let told = bed.replay(&["--from-time", "-9h"]);
    assert!(told.contains("what was before 4 was deleted, whatever its time"), "{told}");
}

#[test]
fn offsets_of_partitions_are_of_one_topic() {
    let mut bed = Bed::new(1);
    let other = kafka::topic("other", 1);
    bed.setup.routes = bed.setup.routes.replace(&format!("[\"{}\"]", bed.topic), &format!("[\"{}\", \"{other}\"]", bed.topic));
    let told = bed.expect(1, &["replay", "--yes", "--from-offset", "0:0"]);
    assert!(told.contains("are of one topic") && told.contains(&other) && told.contains("--topic "), "{told}");
    assert!(bed.replay(&["--from-offset", "0:0", "--topic", &other]).contains("complete"));
}

#[test]
fn a_report_says_what_was_deleted_and_applied_in_all_and_how_fast_its_own_process_was() {
    let bed = Bed::new(1).fetching_little();
    let mut ticks = Ticks::default();
    ticks.produce_on(&bed.topic, 20_000, 1, 0..1);
    let stop = |mut job: Process| {
        signal(job.id(), "TERM");
        assert_eq!(job.ended().code(), Some(75), "{}", bed.log());
    };
    let job = bed.start(&["replay", "--yes", "--from-offset", "earliest", "--rate", "500/s"]);
    eventually("the job is under way", 40, || bed.entries(1) > 300);
    stop(job);
    let name = bed.job();
    kafka::delete_records(&bed.topic, 0..1, 15_000);
    let kept = bed.entries(1);
    let job = bed.start(&["replay", "--resume", &name, "--clamp", "--rate", "500/s"]);
    eventually("the job is behind the gap", 40, || bed.entries(1) > kept + 300);
    stop(job);
    let told = bed.log();
    assert!(told.contains(&format!("{} offsets were deleted by Kafka", 15_000 - kept)), "{kept}: {told}");
    let before = bed.entries(1);
    let told = bed.expect(0, &["replay", "--resume", &name, "--rate", "1000000/s"]);
    let all = kept + 5_000;
    assert!(told.contains(&format!(" {all} records in all, {} of them since it was carried on", all - before)), "{told}");
    assert!(told.contains(&format!("{} offsets were deleted by Kafka", 15_000 - kept)), "{kept}: {told}");
    let shown = bed.expect(0, &["jobs", "show", &name]);
    let of = |name: &str| shown.lines().find_map(|l| l.strip_prefix(name)?.trim().parse::<usize>().ok());
    assert_eq!((of("gone "), of("records ")), (Some(15_000 - kept), Some(all)), "{shown}");
}
