//! A job beside a bridge that runs, and beside itself: lanes and partitions that write the same keys.
use crate::support::bed::Bed;
use crate::support::kafka::{self, Produce};
use crate::support::sequence::Ticks;
use crate::support::{eventually, signal};

#[test]
fn one_pair_is_repaired_while_the_bridge_runs() {
    let bed = Bed::new(2);
    let mut ticks = Ticks::default();
    ticks.produce(&bed.topic, 300, 3);
    let daemon = bed.setup.start();
    daemon.wait_settled(300);
    let pair = ["--from-offset", "earliest", "--key", "P1/USD"];
    let verify = [&["verify"], pair.as_slice()].concat();
    let ids: Vec<String> = bed.redis.entries::<String>("volatility:P1/USD").into_iter().map(|(id, _)| id).collect();
    bed.redis.command(&format!("XDEL volatility:P1/USD {}", ids[50]));
    bed.redis.command("SET latest:P1/USD text");
    assert!(bed.expect(4, &verify).ends_with("2 keys differ\n"));
    bed.redis.command("DEL volatility:P1/USD latest:P1/USD");
    let told = bed.replay(&[pair.as_slice(), &["--clamp"]].concat());
    assert!(told.contains("100 records") && told.contains("200 applied"), "{told}");
    assert!(bed.expect(0, &verify).ends_with("equal\n"));
    // The bridge goes on behind it, in the stream that the job began.
    ticks.produce(&bed.topic, 300, 3);
    daemon.wait_settled(600);
    ticks.expect_exactly(&bed.redis);
    assert!(bed.expect(0, &["verify", "--from-offset", "earliest"]).ends_with("equal\n"));
    assert!(daemon.status().unwrap().conditions.is_empty());
}

const NEWER: &str = "[[route]]\nname = \"r\"\ntopics = [\"TOPIC\"]\n\
    [[route.write]]\nset = { key = \"latest:{key}\", value = \"{payload}\" }\nnewer_by = \"{value.v}\"\n";

#[test]
fn lanes_whose_partitions_share_their_keys_leave_the_newest_value_of_each() {
    const VALUES: i64 = 24_000;
    let mut bed = Bed::with(4, NEWER);
    bed.setup = bed.setup.clone().redis_extra("lanes = 4");
    let value = |v: i64| format!(r#"{{"v":{v}}}"#);
    // Each key in each partition, at odds with its order.
    let records: Vec<(String, String, i32)> =
        (0..VALUES).map(|n| (n * 7_919) % VALUES).map(|v| (format!("k{}", v % 5), value(v), i32::try_from(v / 5 % 4).unwrap())).collect();
    kafka::produce(&bed.topic, records.iter().map(|(k, p, partition)| Produce { partition: Some(*partition), ..Produce::new(k, p) }));
    // What stands there is newer than all of it.
    bed.redis.command(r#"SET latest:k4 {"v":1000000}"#);
    let mut job = bed.start(&["replay", "--yes", "--from-offset", "earliest", "--rate", "6000/s"]);
    let stands =
        |k: usize| bed.get(&format!("latest:k{k}")).map_or(-1, |found| serde_json::from_str::<serde_json::Value>(&found).unwrap()["v"].as_i64().unwrap());
    let mut seen = [-1; 5];
    let mut watch = || {
        for (k, seen) in seen.iter_mut().enumerate() {
            let v = stands(k);
            assert!(v >= *seen, "k{k} went back from {seen} to {v}");
            *seen = v;
        }
    };
    bed.wait_begun();
    eventually("the job is under way", 40, || {
        watch();
        bed.count("records") > 6_000
    });
    job.kill().unwrap();
    job.ended();
    let mut job = bed.start(&["replay", "--resume", &bed.job()]);
    while job.runs() {
        watch();
    }
    assert_eq!(job.ended().code(), Some(0), "{}", bed.log());
    assert_eq!((0..5).map(stands).collect::<Vec<_>>(), [VALUES - 5, VALUES - 4, VALUES - 3, VALUES - 2, 1_000_000]);
    assert_eq!((bed.count("records"), bed.count("applied") + bed.count("older"), bed.count("present")), (VALUES, VALUES, 0));
}

#[test]
fn what_a_job_counts_adds_up_to_its_records_times_their_writes() {
    let routes = "[[route]]\nname = \"r\"\ntopics = [\"TOPIC\"]\non_condition_error = \"skip\"\n\
        [[route.write]]\nset = { key = \"k:{key}\", value = \"{payload}\", collapse = true }\nreplay = \"apply\"\n\
        [[route.write]]\nset = { key = \"m:{key}\", value = \"{payload}\" }\n\
        [[route.write]]\nset = { key = \"n:{key}\", value = \"{payload}\" }\nnewer_by = \"{value.seq}\"\n\
        [[route.write]]\nwhen = \"value.vol > 0.5\"\nset = { key = \"w:{offset}\", value = \"{payload}\" }\n";
    let bed = Bed::with(2, routes);
    let payloads: Vec<String> =
        (0..1_000).map(|seq| if seq % 100 == 0 { format!(r#"{{"seq":{seq},"vol":"high"}}"#) } else { format!(r#"{{"seq":{seq},"vol":0.6}}"#) }).collect();
    let keys = ["a", "b", "c"];
    kafka::produce(&bed.topic, payloads.iter().enumerate().map(|(n, p)| Produce::new(keys[n % 3], p)));
    bed.redis.command("SET m:a text");
    bed.redis.command(r#"SET n:b {"seq":5000}"#);
    let told = bed.replay(&["--from-offset", "earliest"]);
    let of = |key: usize| (0..1_000).filter(|n| n % 3 == key).count() as i64;
    assert_eq!((bed.count("records"), bed.count("present"), bed.count("older"), bed.count("condition_errors")), (1_000, of(0), of(1), 10), "{told}");
    assert_eq!(bed.count("applied"), 4_000 - of(0) - of(1) - 10, "{told}");
    assert!(told.contains("10 conditions could not be evaluated, and counted as false"), "{told}");
}

#[test]
fn a_stopped_process_whose_job_another_one_has_taken_says_so_and_leaves_the_others_sign_of_life() {
    let bed = Bed::new(2);
    Ticks::default().produce(&bed.topic, 2_000, 5);
    let mut job = bed.start(&["replay", "--yes", "--from-offset", "earliest", "--rate", "10/s"]);
    eventually("the job is under way", 40, || bed.entries(5) > 10);
    let name = bed.job();
    // As another process would; at this rate most of the time nothing is in flight that would notice.
    for partition in 0..2 {
        bed.redis.command(&format!("HSET bridge:job:{name}:state:{}:{partition} owner another-1", bed.topic));
    }
    bed.redis.command(&format!("SET bridge:job:{name}:alive 1"));
    signal(job.id(), "TERM");
    assert_eq!(job.ended().code(), Some(1), "{}", bed.log());
    assert!(bed.log().contains("fenced after") && bed.log().contains("another process has taken the job over"), "{}", bed.log());
    assert!(bed.expect(0, &["jobs", "show", &name]).contains("running"), "by the other one");
}

#[test]
fn a_job_is_not_carried_on_beside_a_bridge_that_was_set_back_and_will_add_the_same_entries() {
    let bed = Bed::new(1);
    let mut ticks = Ticks::default();
    ticks.produce(&bed.topic, 400, 1);
    let mut daemon = bed.setup.start();
    daemon.wait_settled(400);
    assert_eq!(daemon.stop(), 0);
    bed.redis.command("DEL volatility:P0/USD");
    let mut job = bed.start(&["replay", "--yes", "--from-offset", "earliest", "--rate", "20/s"]);
    eventually("the job is under way", 40, || bed.entries(1) > 50);
    signal(job.id(), "TERM");
    assert_eq!(job.ended().code(), Some(75), "{}", bed.log());
    let (name, settled) = (bed.job(), bed.entries(1));
    let rewind = |to: &str| bed.expect(0, &["rewind", "--topic", &bed.topic, "--to-offset", to, "--yes"]);
    let told = rewind("0:390");
    assert!(told.contains(&format!("job {name} is at {settled} of 400")) && told.contains(&format!("jobs forget {name}")), "{told}");
    let told = bed.expect(1, &["replay", "--resume", &name]);
    assert!(told.contains(&format!("the job is at {settled} of 400, the bridge at 390")), "{told}");
    assert_eq!(bed.entries(1), settled);
    // As the refusal says.
    let line = told.split("(rewind ").nth(1).unwrap().split(')').next().unwrap();
    assert_eq!(line, format!("--topic {} --to-offset 0:400", bed.topic));
    assert!(!rewind("0:400").contains("yet to add"));
    bed.expect(0, &["replay", "--resume", &name, "--rate", "100000/s"]);
    ticks.expect_exactly(&bed.redis);
}

#[test]
fn the_rate_of_a_job_that_is_carried_on_is_its_own() {
    let bed = Bed::new(1);
    Ticks::default().produce(&bed.topic, 24_000, 5);
    let mut job = bed.start(&["replay", "--yes", "--from-offset", "earliest", "--rate", "4000/s"]);
    eventually("the job is under way", 40, || bed.entries(5) > 8_000);
    signal(job.id(), "TERM");
    assert_eq!(job.ended().code(), Some(75), "{}", bed.log());
    let told = bed.expect(0, &["--output", "json", "replay", "--resume", &bed.job(), "--rate", "1500/s"]);
    let events: Vec<serde_json::Value> = told.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    let rates: Vec<f64> = events.iter().filter_map(|e| e["progress"]["rate"].as_f64()).collect();
    assert!(rates.len() > 1 && rates.iter().all(|rate| *rate < 3_500.0), "{rates:?}");
}
