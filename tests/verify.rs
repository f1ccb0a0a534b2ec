//! Whether what stands in Redis is what the records must have become.
use crate::support::bed::Bed;
use crate::support::eventually;
use crate::support::kafka::{self, Produce};
use crate::support::sequence::Ticks;

const ALL: [&str; 3] = ["verify", "--from-offset", "earliest"];

#[test]
fn a_bridge_that_is_busy_is_found_equal() {
    let bed = Bed::new(3);
    let mut ticks = Ticks::default();
    ticks.produce(&bed.topic, 10_000, 9);
    let daemon = bed.setup.start();
    daemon.wait_settled(10_000);
    for _ in 0..3 {
        let producer = kafka::Producer::new();
        ticks.produce_with(&producer, &bed.topic, 5_000, 9);
        let told = bed.expect(0, &ALL);
        assert!(told.contains("9 streams") && told.contains("9 values") && told.ends_with("equal\n"), "{told}");
        producer.flush();
    }
    daemon.wait_settled(25_000);
    let told = bed.expect(0, &["verify", "--from-offset", "-1000", "--route", "volatility", "--output", "json"]);
    let report: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&report["equal"], &report["found"]["records"]), (&true.into(), &3_000.into()));
    assert!(bed.expect(0, &["verify", "--from-time", "-2h", "--partition", "0-1"]).ends_with("equal\n"));
}

#[test]
fn each_difference_is_found_and_named() {
    let bed = Bed::new(2);
    let mut ticks = Ticks::default();
    ticks.produce(&bed.topic, 1_000, 8);
    let mut daemon = bed.setup.start();
    daemon.wait_settled(1_000);
    assert_eq!(daemon.stop(), 0);
    assert!(bed.expect(0, &ALL).ends_with("equal\n"));
    let ids: Vec<String> = bed.redis.entries::<String>("volatility:P0/USD").into_iter().map(|(id, _)| id).collect();
    bed.redis.command(&format!("XDEL volatility:P0/USD {}", ids[60]));
    bed.redis.command("XADD volatility:P1/USD * price 1");
    bed.redis.command("XTRIM volatility:P2/USD MAXLEN 100");
    bed.redis.command("DEL volatility:P3/USD");
    bed.redis.command("SET latest:P4/USD text EX 3600");
    bed.redis.command("DEL latest:P5/USD");
    bed.redis.command("PERSIST latest:P6/USD");
    bed.redis.command("EXPIRE latest:P7/USD 60");
    let told = bed.expect(4, &ALL);
    for (key, what) in [
        ("volatility:P0/USD", "part"),
        ("volatility:P1/USD", "part"),
        ("volatility:P2/USD", "25 entries are missing"),
        ("volatility:P3/USD", "entries are missing"),
        ("latest:P4/USD", "another value"),
        ("latest:P5/USD", "nothing is there"),
        ("latest:P6/USD", "lives for ever"),
        ("latest:P7/USD", "the value is right, and lives"),
    ] {
        assert!(told.lines().any(|l| l.starts_with(&format!("DIFFERENT {key}:")) && l.contains(what)), "{key}: {what}: {told}");
    }
    assert!(told.ends_with("8 keys differ\n"), "{told}");
    assert!(bed.expect(0, &["verify", "--from-offset", "earliest", "--key", "none"]).ends_with("equal\n"));
    let told = bed.expect(4, &["verify", "--from-offset", "earliest", "--show", "1"]);
    assert_eq!(told.matches("DIFFERENT").count(), 1, "{told}");
    // The repair of one pair.
    bed.redis.command("DEL volatility:P3/USD");
    bed.redis.command("DEL latest:P4/USD");
    bed.replay(&["--from-offset", "earliest", "--key", "P3/USD", "--key", "P4/USD", "--key", "P5/USD"]);
    assert!(bed.expect(4, &ALL).ends_with("5 keys differ\n"));
}

#[test]
fn trimmed_streams_mingled_streams_and_expired_values_are_equal() {
    let routes = "[[route]]\nname = \"r\"\ntopics = [\"TOPIC\"]\non_tombstone = \"del\"\n[[route.write]]\nxadd = { key = \"one:{key}\", fields = \"*\", maxlen = 100, exact = true }\n\
        [[route.write]]\nxadd = { key = \"all\", fields = { offset = \"{partition}:{offset}\" } }\n\
        [[route.write]]\nsetex = { key = \"latest:{key}\", ttl = \"1s\", value = \"{payload}\" }\n\
        [[route.write]]\nset = { key = \"last:{key}\", value = \"{payload}\" }\n\
        [[route.write]]\ncommand = [\"HSET\", \"h:{key}\", \"a\", \"b\"]\n";
    let bed = Bed::with(3, routes);
    Ticks::default().produce(&bed.topic, 1_000, 5);
    kafka::produce(&bed.topic, [Produce { key: Some(b"P1/USD"), payload: None, ..Produce::default() }, Produce::new("bad", "no json")]);
    let daemon = bed.setup.start();
    daemon.wait_settled(1_002);
    eventually("the values have expired", 20, || bed.get("latest:P0/USD").is_none());
    let told = bed.expect(0, &ALL);
    assert!(told.contains("1002 records, 1 of them dead") && told.contains("6 streams of 2000 entries, 500 of them trimmed"), "{told}");
    assert!(told.contains("5 keys of hashes and sets, 5 elements of them"), "{told}");
    bed.redis.command("SET last:P1/USD back");
    assert!(bed.expect(4, &ALL).contains("DIFFERENT last:P1/USD"));
}

#[test]
fn what_a_replay_wrote_elsewhere_is_verified_there() {
    let bed = Bed::new(2);
    Ticks::default().produce(&bed.topic, 500, 4);
    bed.replay(&["--from-offset", "earliest", "--target-prefix", "copy:"]);
    assert!(bed.expect(0, &["verify", "--from-offset", "earliest", "--target-prefix", "copy:"]).ends_with("equal\n"));
    assert!(bed.expect(4, &ALL).ends_with("8 keys differ\n"), "nothing is there without it");
}

#[test]
fn the_newest_value_that_a_replay_leaves_is_as_right_as_the_last() {
    let routes = "[[route]]\nname = \"r\"\ntopics = [\"TOPIC\"]\n\
        [[route.write]]\nset = { key = \"latest:{key}\", value = \"{payload}\" }\nnewer_by = \"{value.v}\"\n";
    let bed = Bed::with(1, routes);
    kafka::produce(&bed.topic, [r#"{"v":1}"#, r#"{"v":3}"#, r#"{"v":3,"b":1}"#, r#"{"v":2}"#].map(|payload| Produce::new("a", payload)));
    bed.replay(&["--from-offset", "earliest", "--target-prefix", "copy:"]);
    assert_eq!(bed.get("copy:latest:a").unwrap(), r#"{"v":3,"b":1}"#);
    let copied = ["verify", "--from-offset", "earliest", "--target-prefix", "copy:"];
    assert!(bed.expect(0, &copied).ends_with("equal\n"));
    bed.redis.command(r#"SET copy:latest:a {"v":3}"#);
    assert!(bed.expect(4, &copied).ends_with("1 key differs\n"));
}

#[test]
fn a_position_is_rewound_to_a_time() {
    let bed = Bed::new(1);
    let now = jiff::Timestamp::now().as_millisecond();
    let at = |hours: i64| Produce { timestamp: Some(now - hours * 3_600_000), ..Produce::new("a", r#"{"seq":1}"#) };
    kafka::produce(&bed.topic, [at(5), at(4), at(3), at(2)]);
    let daemon = bed.setup.start();
    daemon.wait_settled(4);
    let length = || bed.redis.entries::<String>("volatility:a").len();
    let told = bed.expect(0, &["rewind", "--topic", &bed.topic, "--to-time", "-210m", "--yes"]);
    assert!(told.contains("up to 2 records are applied again"), "{told}");
    eventually("two are applied again", 40, || length() == 6);
    let told = bed.expect(1, &["rewind", "--topic", &bed.topic, "--to-offset", "9:5", "--yes"]);
    assert!(told.contains("has 1 partition: there is no 9"), "{told}");
    let told = bed.expect(2, &["rewind", "--topic", &bed.topic, "--yes"]);
    assert!(told.contains("--to-offset") && told.contains("--to-time"), "{told}");
}

const SHARED: &str = "[[route]]\nname = \"r\"\ntopics = [\"TOPIC\"]\n[[route.write]]\nxadd = { key = \"all\", fields = { r = \"{partition}:{offset}\" } }\n\
    [[route.write]]\nset = { key = \"last\", value = \"{payload}\" }\n[[route.write]]\nxadd = { key = \"of:{partition}\", fields = { r = \"{offset}\" } }\n\
    [[route]]\nname = \"s\"\ntopics = [\"TOPIC\"]\n[[route.write]]\nxadd = { key = \"all\", fields = { s = \"{partition}:{offset}:{value.price}\" } }\n";

#[test]
fn a_narrowed_range_is_exact_where_it_alone_feeds_a_key_and_among_what_is_there_where_others_do() {
    let bed = Bed::with(3, SHARED);
    Ticks::default().produce(&bed.topic, 300, 6);
    // Route s can make nothing of it, so route r makes nothing of it either.
    kafka::produce(&bed.topic, [Produce::new("P0/USD", r#"{"x":1}"#)]);
    let mut daemon = bed.setup.start();
    daemon.wait_settled(301);
    assert_eq!(daemon.stop(), 0);
    let all = |more: &[&'static str]| [ALL.as_slice(), more].concat();
    for more in [[].as_slice(), &["--route", "r"], &["--key", "P0/USD"], &["--route", "s", "--key", "P1/USD"]] {
        assert!(bed.expect(0, &all(more)).ends_with("equal\n"), "{more:?}");
    }
    for partition in ["0", "0-1"] {
        let told = bed.expect(5, &all(&["--partition", partition]));
        assert!(
            told.contains("can't be told all: ")
                && told.contains("beside the range's entries there are")
                && told.contains("what was compared is equal; not compared: parts of "),
            "{told}"
        );
        assert!(!told.contains("can't be told of:"), "what only that partition feeds is judged: {told}");
    }
    let entries = bed.redis.entries::<String>("all");
    let of_0 = entries.iter().filter(|(_, e)| e.iter().any(|(_, v)| v.starts_with("0:"))).nth(20).unwrap();
    bed.redis.command(&format!("XDEL all {}", of_0.0));
    assert!(bed.expect(4, &all(&["--partition", "0"])).contains("DIFFERENT all: "));
    bed.expect(5, &all(&["--partition", "1-2"]));
    bed.redis.command("XADD of:1 * r twice");
    assert!(bed.expect(4, &all(&["--partition", "1"])).contains("DIFFERENT of:1: "));
}

#[test]
fn what_was_deleted_is_told_from_what_was_trimmed_where_that_can_be() {
    let routes = "[[route]]\nname = \"r\"\ntopics = [\"TOPIC\"]\n[[route.write]]\nxadd = { key = \"one:{key}\", fields = \"*\", minid = \"1\" }\n\
        [[route.write]]\nxadd = { key = \"all\", fields = { at = \"{partition}:{offset}\" }, maxlen = 100, exact = true }\n";
    let bed = Bed::with(3, routes);
    Ticks::default().produce(&bed.topic, 600, 6);
    let mut daemon = bed.setup.start();
    daemon.wait_settled(600);
    assert_eq!(daemon.stop(), 0);
    assert!(bed.expect(0, &ALL).ends_with("equal\n"));
    bed.redis.command("XTRIM one:P0/USD MAXLEN 90");
    let told = bed.expect(0, &ALL);
    assert!(told.contains("of the trimmed 10 may as well have been deleted: that can't be told"), "{told}");
    bed.redis.command("DEL one:P1/USD");
    bed.redis.command(&format!("XDEL all {}", bed.redis.entries::<String>("all")[50].0));
    // As many as the write leaves.
    bed.redis.command("XADD all * at elsewhere");
    let report: serde_json::Value = serde_json::from_str(&bed.expect(4, &["verify", "--from-offset", "earliest", "--output", "json"])).unwrap();
    let different: Vec<&str> = report["found"]["differences"].as_array().unwrap().iter().map(|d| d["key"].as_str().unwrap()).collect();
    assert_eq!(different, ["all", "one:P1/USD"], "{report:#}");
    assert_eq!(report["found"]["trimmed_or_deleted"], 10);
}

#[test]
fn a_bridge_that_trims_while_redis_is_read_is_found_equal() {
    let routes = "[[route]]\nname = \"r\"\ntopics = [\"TOPIC\"]\n[[route.write]]\nxadd = { key = \"one:{key}\", fields = \"*\", maxlen = 30, exact = true }\n\
        [[route.write]]\nxadd = { key = \"all\", fields = { at = \"{partition}:{offset}\" }, maxlen = 2000, exact = true }\n";
    let bed = Bed::with(2, routes);
    let mut ticks = Ticks::default();
    ticks.produce(&bed.topic, 10_000, 400);
    let daemon = bed.setup.start();
    daemon.wait_settled(10_000);
    for _ in 0..4 {
        let producer = kafka::Producer::new();
        ticks.produce_with(&producer, &bed.topic, 20_000, 400);
        let told = bed.expect(0, &ALL);
        assert!(told.contains("401 streams") && told.ends_with("equal\n"), "{told}");
        producer.flush();
    }
}

#[test]
fn what_a_replay_left_out_is_not_expected_where_it_wrote() {
    let routes = "[[route]]\nname = \"r\"\ntopics = [\"TOPIC\"]\n[[route.write]]\nxadd = { key = \"s:{key}\", fields = \"*\" }\n\
        [[route.write]]\nset = { key = \"latest:{key}\", value = \"{payload}\" }\nreplay = \"skip\"\n\
        [[route.write]]\nset = { key = \"last:{key}\", value = \"{payload}\" }\n\
        [[route.write]]\ncommand = [\"HSET\", \"last:{key}\", \"a\", \"b\"]\n";
    let bed = Bed::with(2, routes);
    Ticks::default().produce(&bed.topic, 300, 4);
    let verify = |code: i32, more: &[&str]| bed.expect(code, &[ALL.as_slice(), more].concat());
    bed.replay(&["--from-offset", "earliest", "--target-prefix", "copy:"]);
    let told = verify(0, &["--target-prefix", "copy:"]);
    assert!(told.contains("4 streams") && told.contains("4 values") && !told.contains("not compared") && told.ends_with("equal\n"), "{told}");
    bed.redis.command("DEL copy:last:P0/USD");
    assert!(verify(4, &["--target-prefix", "copy:"]).ends_with("1 key differs\n"));
    bed.replay(&["--from-offset", "earliest", "--target-prefix", "one:", "--write", "r/3"]);
    let told = verify(0, &["--target-prefix", "one:", "--write", "r/3"]);
    assert!(told.contains("0 streams") && told.contains("4 values"), "{told}");
    verify(4, &["--target-prefix", "one:"]);
    assert!(verify(1, &["--target-prefix", "one:", "--write", "r/9"]).contains("there is no write"));
    assert!(verify(5, &["--write", "r/3"]).contains("not compared: 4 keys: writes of different kinds share it"));
}

#[test]
fn what_a_job_did_is_verified_by_the_same_words() {
    let bed = Bed::with(2, SHARED);
    Ticks::default().produce(&bed.topic, 200, 4);
    let (range, one) = (["--from-offset", "earliest"], ["--key", "P1/USD", "--target-prefix", "copy:"]);
    bed.replay(&[range.as_slice(), &one].concat());
    let same = [&["verify"], range.as_slice(), &one].concat();
    let told = bed.expect(0, &same);
    assert!(told.contains("\n50 records, 0 of them dead\n2 streams of 150 entries") && told.ends_with("\nequal\n"), "{told}");
    bed.redis.command("XADD copy:all * r foreign");
    assert!(bed.expect(4, &same).contains("DIFFERENT copy:all: "));
    // What was added to streams that are there stands among what was there.
    let again = [range.as_slice(), &["--key", "P2/USD", "--target-prefix", "copy:", "--append"]].concat();
    bed.replay(&again);
    let told = bed.expect(5, &[&["verify"], again.as_slice()].concat());
    assert!(told.contains("can't be told copy:all: beside the range's entries there are 101 more"), "{told}");
    // Of one write alone, with a prefix and without.
    let write = [range.as_slice(), &["--write", "r/3"]].concat();
    for prefix in [&["--target-prefix", "one:"][..], &[]] {
        bed.replay(&[write.as_slice(), prefix].concat());
        let told = bed.expect(0, &[&["verify"], write.as_slice(), prefix].concat());
        assert!(told.contains(" of 200 entries") && told.contains("; 0 values") && told.ends_with("\nequal\n"), "{prefix:?}: {told}");
        let left_out = "note: nothing is expected of what such a job leaves out: route r, write 1 (";
        assert_eq!(told.contains(left_out), !prefix.is_empty(), "{prefix:?}: {told}");
    }
}

#[test]
fn ids_that_a_write_says_are_compared() {
    let by_time = "[[route]]\nname = \"r\"\ntopics = [\"TOPIC\"]\n[[route.write]]\nxadd = { key = \"s:{key}\", fields = \"*\", id = \"{timestamp}-*\" }\n";
    let bed = Bed::with(1, by_time);
    let now = jiff::Timestamp::now().as_millisecond();
    let at = |ms: i64| Produce { timestamp: Some(now - ms), ..Produce::new("a", r#"{"x":1}"#) };
    kafka::produce(&bed.topic, [at(30), at(20), at(20), at(10)]);
    let mut daemon = bed.setup.start();
    daemon.wait_settled(4);
    assert_eq!(daemon.stop(), 0);
    assert!(bed.expect(0, &ALL).ends_with("equal\n"));
    bed.redis.command("DEL s:a");
    for ms in [30, 20, 20, 9] {
        bed.redis.command(&format!("XADD s:a {}-* x 1", now - ms));
    }
    assert!(bed.expect(4, &ALL).contains("DIFFERENT s:a: "));
    // Of a job that took them from the records' time.
    let mut bed = bed;
    bed.setup.routes = bed.setup.routes.replace(", id = \"{timestamp}-*\"", "");
    let elsewhere = ["--from-offset", "earliest", "--target-prefix", "x:", "--ids", "timestamp"];
    bed.replay(&elsewhere);
    let verify = [&["verify"], elsewhere.as_slice()].concat();
    assert!(bed.expect(0, &verify).ends_with("equal\n"));
    bed.redis.command(&format!("XDEL x:s:a {}-0", now - 10));
    bed.redis.command(&format!("XADD x:s:a {} x 1", now - 9));
    assert!(bed.expect(4, &verify).contains("DIFFERENT x:s:a: "));
}

#[test]
fn an_entry_that_several_partitions_may_have_added_twice_is_found_or_told() {
    let bed = Bed::with(3, SHARED);
    Ticks::default().produce_on(&bed.topic, 300, 3, 0..3);
    let mut daemon = bed.setup.start();
    daemon.wait_settled(300);
    assert_eq!(daemon.stop(), 0);
    let last = ["verify", "--from-offset", "-20"];
    for range in [&last, &["verify", "--from-offset", "0:80,1:latest,2:latest"], &["verify", "--from-offset", "0:80,1:80,2:latest"]] {
        assert!(bed.expect(0, range).ends_with("equal\n"), "older entries of the others stand among them: {range:?}");
    }
    bed.redis.command("XADD all * r 0:95");
    let told = bed.expect(4, &last);
    assert!(told.contains("DIFFERENT all: no record accounts for 1 entry behind the range's first ones"), "{told}");
    // Of one of three partitions the range has nothing: what stands there twice may be older.
    let told = bed.expect(5, &["verify", "--from-offset", "0:80,1:80,2:latest"]);
    assert!(
        told.contains("can't be told all: 1 entry looks like one of the range") && told.contains("what was compared is equal; not compared: parts of 1 key"),
        "{told}"
    );
}

#[test]
fn a_value_whose_record_is_ahead_of_our_clock_may_live_so_much_shorter_than_its_time_says() {
    let routes = "[[route]]\nname = \"r\"\ntopics = [\"TOPIC\"]\n\
        [[route.write]]\nsetex = { key = \"latest:{key}\", ttl = \"1h\", ttl_from = \"timestamp\", value = \"{payload}\" }\n";
    let bed = Bed::with(1, routes);
    let now = jiff::Timestamp::now().as_millisecond();
    let ahead = |key: &'static str| Produce { timestamp: Some(now + 600_000), ..Produce::new(key, r#"{"x":1}"#) };
    kafka::produce(&bed.topic, [ahead("a"), ahead("b")]);
    let mut daemon = bed.setup.start();
    daemon.wait_settled(2);
    assert_eq!(daemon.stop(), 0);
    let told = bed.expect(5, &ALL);
    assert!(told.contains("can't be told latest:a: ") && told.contains("clocks of producers are up to 5"), "{told}");
    bed.redis.command("EXPIRE latest:b 60");
    assert!(bed.expect(4, &ALL).contains("DIFFERENT latest:b: the value is right, and lives for"));
}

#[test]
fn what_the_bridge_has_yet_to_apply_is_said_and_is_not_found_equal_where_nothing_else_is_asked_for() {
    let bed = Bed::new(2);
    let mut ticks = Ticks::default();
    ticks.produce_on(&bed.topic, 100, 2, 0..2);
    let mut daemon = bed.setup.start();
    daemon.wait_settled(100);
    assert_eq!(daemon.stop(), 0);
    ticks.produce_on(&bed.topic, 20, 1, 0..1);
    let cut = format!("{}[0]: cut at 50, where the live bridge is: 50..70 is left out", bed.topic);
    let told = bed.expect(0, &ALL);
    assert!(told.contains(&cut) && told.ends_with("equal\n"), "{told}");
    let report: serde_json::Value = serde_json::from_str(&bed.expect(0, &[&ALL[..], &["--output", "json"]].concat())).unwrap();
    assert_eq!((&report["found"]["notes"][0], &report["ranges"][0]["to"]), (&cut.into(), &50.into()));
    for range in [&["--partition", "0", "--from-offset", "50"][..], &["--from-offset", "0:60,1:50"]] {
        let told = bed.expect(1, &[&["verify"], range].concat());
        assert!(told.contains("nothing can be compared") && told.contains("the live bridge is at 50") && !told.contains("equal"), "{told}");
    }
    assert!(bed.expect(0, &["verify", "--partition", "1", "--from-offset", "50"]).ends_with("equal\n"), "nothing was asked for");
}
