//! Times before the epoch and times that no record has reached: each place that takes a time knows what they mean.
use crate::support::daemon::{Daemon, Setup, binary};
use crate::support::eventually;
use crate::support::kafka::{self, Produce};
use crate::support::process::output;
use crate::support::redis_server::RedisServer;
use std::process::{Command, Output};

const BEFORE: &str = "1960-01-01T00:00:00Z";
const NEVER: &str = "9999-12-30T00:00:00Z";

fn run(daemon: &Daemon, words: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = output(Command::new(binary()).arg("--config").arg(daemon.config()).args(words));
    (status.code(), String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr))
}

/// Two records, of which one has no time.
fn topic() -> String {
    let topic = kafka::topic("times", 1);
    let record = || Produce::new("a", r#"{"seq":1}"#);
    kafka::produce(&topic, [Produce { timestamp: Some(-1), ..record() }, record()]);
    topic
}

#[test]
fn a_group_that_begins_before_the_epoch_begins_at_the_earliest_and_one_in_the_future_at_the_latest() {
    for (start, applied) in [(BEFORE, 2), ("1969-12-31T23:59:59.999Z", 2), (NEVER, 0)] {
        let redis = RedisServer::start();
        let topic = topic();
        let daemon = Setup::new(&topic, &redis.url()).start_with(&[("BRIDGE__KAFKA__START", start)]);
        daemon.wait_settled(2);
        assert_eq!(redis.entries::<String>("volatility:a").len(), applied, "{start}");
        kafka::produce(&topic, [Produce::new("a", r#"{"seq":2}"#)]);
        daemon.wait_settled(3);
        assert_eq!(redis.entries::<String>("volatility:a").len(), applied + 1, "{start}");
    }
}

#[test]
fn a_time_before_the_epoch_is_before_all_records_to_each_command_that_takes_one() {
    let redis = RedisServer::start();
    let topic = topic();
    let daemon = Setup::new(&topic, &redis.url()).start();
    daemon.wait_settled(2);
    let times = [BEFORE, "0", "-1000000h"];
    for time in times {
        let (code, told) = run(&daemon, &["verify", "--from-time", time]);
        assert!(code == Some(0) && told.contains("2 records"), "{time}: {told}");
        let (code, told) = run(&daemon, &["replay", "--dry-run", "--from-time", time]);
        assert!(code == Some(0) && told.contains("2"), "{time}: {told}");
    }
    for (n, time) in times.into_iter().enumerate() {
        let (code, told) = run(&daemon, &["rewind", "--topic", &topic, "--to-time", time, "--yes"]);
        assert!(code == Some(0) && told.contains("up to 2 records are applied again"), "{time}: {told}");
        eventually("they are", 40, || redis.entries::<String>("volatility:a").len() == 2 * (n + 2));
        daemon.wait_settled(2);
    }
}
