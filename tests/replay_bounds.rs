//! Where a range begins and ends, as a person says it, is which records are applied.
use crate::support::bed::Bed;
use crate::support::eventually;
use crate::support::kafka::{self, Produce};
use crate::support::sequence::{Ticks, tick};
use std::ops::Range;

/// Replays under a prefix of its own; the sequence numbers in the stream of each of so many pairs.
fn applied(bed: &Bed, pairs: usize, arguments: &[&str]) -> Vec<Vec<u64>> {
    let prefix = crate::support::unique("x") + ":";
    bed.replay(&[arguments, &["--target-prefix", &prefix]].concat());
    let number = |fields: Vec<(String, String)>| fields.iter().find(|(n, _)| n == "seq").unwrap().1.parse().unwrap();
    let stream = |pair| bed.redis.entries::<String>(&format!("{prefix}volatility:P{pair}/USD")).into_iter().map(|(_, fields)| number(fields)).collect();
    (0..pairs).map(stream).collect()
}

fn numbers(ranges: &[Range<u64>]) -> Vec<Vec<u64>> {
    ranges.iter().map(|range| range.clone().collect()).collect()
}

#[test]
fn offsets_are_of_all_partitions_or_one_for_each_and_count_from_the_end_where_they_say_so() {
    let bed = Bed::new(4);
    // A pair a partition: its sequence numbers are the offsets.
    Ticks::default().produce_on(&bed.topic, 2_000, 4, 0..4);
    for (arguments, expected) in [
        (&["--from-offset", "0:120,3:450"][..], [120..500, 0..0, 0..0, 450..500]),
        (&["--from-offset", "0:120,3:450", "--to-offset", "0:130,3:latest"], [120..130, 0..0, 0..0, 450..500]),
        (&["--from-offset", "1:earliest,2:-7", "--to-offset", "1:3,2:-4"], [0..0, 0..3, 493..496, 0..0]),
        (&["--from-offset", "-10"], [490..500, 490..500, 490..500, 490..500]),
        (&["--from-offset", "-10", "--to-offset", "-4", "--partition", "1-2"], [0..0, 490..496, 490..496, 0..0]),
        (&["--from-offset", "-5", "--partition", "0,2-3"], [495..500, 0..0, 495..500, 495..500]),
        (&["--from-offset", "495", "--to-offset", "499", "--partition", "3"], [0..0, 0..0, 0..0, 495..499]),
    ] {
        assert_eq!(applied(&bed, 4, arguments), numbers(&expected), "{arguments:?}");
    }
}

#[test]
fn times_are_rfc_3339_or_milliseconds_or_a_span_back_and_the_second_one_is_not_of_the_range() {
    let bed = Bed::new(2);
    let now = jiff::Timestamp::now();
    // In each partition one record an hour, the last one an hour ago.
    let ago = |hours: i64| now.as_millisecond() - hours * 3_600_000;
    let payloads: Vec<String> = (0..8).map(tick).collect();
    let record = |partition, seq: usize| Produce {
        partition: Some(partition),
        timestamp: Some(ago(8 - i64::try_from(seq).unwrap())),
        ..Produce::new(["P0/USD", "P1/USD"][usize::try_from(partition).unwrap()], &payloads[seq])
    };
    kafka::produce(&bed.topic, (0..2).flat_map(|partition| (0..8).map(move |seq| (partition, seq))).map(|(partition, seq)| record(partition, seq)));
    let text = |ms: i64| jiff::Timestamp::from_millisecond(ms).unwrap().to_string();
    // The same moment on a clock two hours east of UTC.
    let east = |ms: i64| text(ms + 7_200_000).replace('Z', "+02:00");
    let (first, after_first, third, ms) = (text(ago(8)), text(ago(8) + 1), east(ago(6)), ago(4).to_string());
    for (arguments, expected) in [
        (["--from-time", first.as_str(), "--to-time", third.as_str()], 0..2),
        (["--from-time", after_first.as_str(), "--to-time", ms.as_str()], 1..4),
        (["--from-time", third.as_str(), "--to-time", "-150m"], 2..6),
        (["--from-time", ms.as_str(), "--to-offset", "latest"], 4..8),
        (["--from-time", "-150m", "--to-time", "-1s"], 6..8),
        (["--from-offset", "earliest", "--to-time", ms.as_str()], 0..4),
    ] {
        assert_eq!(applied(&bed, 2, &arguments), numbers(&[expected.clone(), expected]), "{arguments:?}");
    }
}

#[test]
fn a_transaction_that_is_open_is_behind_the_end_until_it_ends() {
    let bed = Bed::new(2);
    let producer = kafka::Transactions::new(&bed.topic);
    // In a partition 5 records and a marker, then 5 that are open.
    producer.produce(10, true);
    producer.begin(10);
    let length = |key: &str| redis::cmd("XLEN").arg(key).query::<i64>(&mut bed.redis.connect()).unwrap();
    let told = bed.replay(&["--from-offset", "earliest"]);
    assert!(told.contains("complete") && told.contains("12 of 12 offsets"), "{told}");
    assert_eq!(length("volatility:K"), 10);
    let told = bed.expect(1, &["replay", "--yes", "--partition", "0", "--from-offset", "0", "--to-offset", "8"]);
    assert!(told.contains("8 lies outside of what Kafka holds, [0, 6)"), "{told}");
    assert!(bed.expect(0, &["replay", "--dry-run", "--from-offset", "earliest"]).contains("10 records would become"));
    producer.end(true);
    // It is acknowledged before its markers are written.
    eventually("its markers are written", 30, || kafka::ends(&bed.topic, 2) == [12, 12]);
    bed.replay(&["--from-offset", "0:6,1:6", "--append"]);
    assert_eq!(length("volatility:K"), 20);
}

#[test]
fn ids_from_the_records_time_are_refused_where_others_add_to_the_same_stream() {
    let shared = "[[route]]\nname = \"r\"\ntopics = [\"TOPIC\"]\n[[route.write]]\nxadd = { key = \"all\", fields = \"*\" }\n";
    let bed = Bed::with(2, shared);
    Ticks::default().produce_on(&bed.topic, 40, 2, 0..2);
    let by_time = ["--from-offset", "earliest", "--ids", "timestamp"];
    for more in [&["--yes"][..], &["--dry-run"], &["--yes", "--target-prefix", "x:"]] {
        let told = bed.expect(1, &[&["replay"], by_time.as_slice(), more].concat());
        assert!(told.contains("add to one stream") && told.contains("--partition"), "{told}");
    }
    let length = |key: &str| bed.redis.entries::<String>(key).len();
    bed.replay(&[by_time.as_slice(), &["--partition", "0"]].concat());
    assert_eq!(length("all"), 20, "of one partition they go up");
    let mut daemon = bed.setup.start();
    daemon.wait_settled(40);
    assert_eq!(daemon.stop(), 0);
    let told = bed.expect(1, &[&["replay", "--yes", "--partition", "1"], by_time.as_slice()].concat());
    assert!(told.contains("the live bridge, which has a position in") && told.contains("--target-prefix"), "{told}");
    bed.replay(&[by_time.as_slice(), &["--partition", "1", "--target-prefix", "y:"]].concat());
    assert_eq!(length("y:all"), 20);
}
