//! An operator sets where the bridge goes on.
use crate::support::daemon::{Daemon, Setup, binary};
use crate::support::kafka::Produce;
use crate::support::process;
use crate::support::redis_server::RedisServer;
use crate::support::sequence::{Ticks, tick};
use crate::support::{eventually, kafka, letters};
use std::process::{Command, Output};

fn rewind(daemon: &Daemon, arguments: &[&str]) -> Output {
    process::output(Command::new(binary()).arg("--config").arg(daemon.config()).arg("rewind").args(arguments))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn state(setup: &Setup, partition: i32) -> String {
    format!("bridge:state:{}:{}:{partition}", setup.group, setup.topic)
}

/// The sequence numbers that stand in the stream of the only pair.
fn sequence(redis: &RedisServer) -> Vec<u64> {
    let entries = redis.entries::<String>("volatility:P0/USD");
    entries.into_iter().map(|(_, fields)| fields.iter().find(|(n, _)| n == "seq").unwrap().1.parse().unwrap()).collect()
}

#[test]
fn a_running_bridge_takes_a_rewind_up_by_itself() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 1);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 100, 1);
    let setup = Setup::new(&topic, &redis.url());
    let daemon = setup.start();
    daemon.wait_settled(100);
    let done = rewind(&daemon, &["--topic", &topic, "--to-offset", "40", "--yes"]);
    assert!(done.status.success(), "{}", said(&done));
    assert!(said(&done).contains("up to 60 records are applied again"), "{}", said(&done));
    let expected: Vec<u64> = (0..100).chain(40..100).collect();
    eventually("what lies behind is applied once more", 40, || redis.entries::<String>("volatility:P0/USD").len() >= expected.len());
    ticks.produce(&topic, 10, 1);
    daemon.wait_settled(110);
    assert_eq!(sequence(&redis), expected.into_iter().chain(100..110).collect::<Vec<_>>());
    eventually("Kafka's commit follows", 20, || kafka::committed(&setup.group, &topic, 1) == [Some(110)]);
    assert!(daemon.log().contains("rewound"), "{}", daemon.log());
}

#[test]
fn so_many_before_the_end_as_there_are_not_is_the_earliest_which_is_told() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 1);
    Ticks::default().produce(&topic, 17, 1);
    let daemon = Setup::new(&topic, &redis.url()).start();
    daemon.wait_settled(17);
    let done = rewind(&daemon, &["--topic", &topic, "--to-offset", "-100", "--yes"]);
    let told = said(&done);
    assert!(done.status.success() && told.contains("up to 17 records are applied again"), "{told}");
    assert!(told.contains("-100 is more than Kafka holds, [0, 17): it is the earliest, 0"), "{told}");
    assert!(told.contains("takes it up within two seconds"), "{told}");
    eventually("all of it is applied once more", 40, || sequence(&redis).len() == 34);
}

#[test]
fn a_busy_bridge_is_rewound_as_well_and_nothing_is_lost() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 2);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 60_000, 4);
    let daemon = Setup::new(&topic, &redis.url()).start();
    eventually("the bridge is under way", 40, || daemon.settled() > 5_000);
    let done = rewind(&daemon, &["--topic", &topic, "--to-offset", "earliest", "--partition", "0", "--yes"]);
    assert!(done.status.success(), "{}", said(&done));
    daemon.wait_settled(60_000);
    ticks.expect_all_at_least_once(&redis);
}

#[test]
fn without_a_bridge_the_commit_goes_with_the_state() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 2);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 100, 2);
    let setup = Setup::new(&topic, &redis.url());
    let mut daemon = setup.start();
    daemon.wait_settled(100);
    assert_eq!(daemon.stop(), 0);
    let before = kafka::committed(&setup.group, &topic, 2);
    let done = rewind(&daemon, &["--topic", &topic, "--to-offset", "-10", "--partition", "1", "--yes"]);
    assert!(done.status.success(), "{}", said(&done));
    let after = kafka::committed(&setup.group, &topic, 2);
    assert_eq!((after[0], after[1]), (before[0], before[1].map(|o| o - 10)));
    let daemon = setup.start();
    eventually("ten records are applied again", 40, || daemon.settled() == 100);
    let length = |pair: &str| redis.entries::<String>(&format!("volatility:{pair}/USD")).len();
    assert_eq!(length("P0") + length("P1"), 110);
}

#[test]
fn what_a_crash_left_unread_is_decided_before_the_position_is_set() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 1);
    Ticks::default().produce(&topic, 20, 1);
    let setup = Setup::new(&topic, &redis.url());
    let mut daemon = setup.start();
    daemon.wait_settled(20);
    assert_eq!(daemon.stop(), 0);
    // As a crash would have left it: the replies to the last five were never read, and the stream's key is none.
    redis.command("DEL volatility:P0/USD");
    redis.command("SET volatility:P0/USD text");
    redis.command(&format!("HSET {} unread 15", state(&setup, 0)));
    let done = rewind(&daemon, &["--topic", &topic, "--to-offset", "20", "--yes"]);
    assert!(done.status.success(), "{}", said(&done));
    let offsets: Vec<String> = letters::read(&redis, "bridge:dead").iter().map(|l| l.text("offset")).collect();
    assert_eq!(offsets, ["15", "16", "17", "18", "19"]);
    let mut c = redis.connect();
    let fields: Vec<String> = redis::cmd("HMGET").arg(state(&setup, 0)).arg("offset").arg("unread").arg("last").query(&mut c).unwrap();
    assert_eq!(fields, ["20", "", ""]);
}

#[test]
fn a_rewind_that_nobody_confirms_or_that_lies_outside_or_is_not_clear_changes_nothing() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 2);
    Ticks::default().produce_on(&topic, 20, 1, 0..1);
    let setup = Setup::new(&topic, &redis.url());
    let daemon = setup.start();
    daemon.wait_settled(20);
    for (arguments, code, text) in [
        (vec!["--topic", &topic, "--to-offset", "0:5"], 1, "--yes"),
        (vec!["--topic", &topic, "--to-offset", "0:21", "--yes"], 1, "[0, 20)"),
        (vec!["--topic", &topic, "--to-offset", "0", "--yes"], 1, "an offset is a number of one partition"),
        (vec!["--topic", &topic, "--to-offset", "0:5,1:0", "--partition", "0", "--yes"], 1, "must name the same"),
        (vec!["--topic", "another", "--to-offset", "5", "--yes"], 1, "no route reads"),
        (vec!["--topic", &topic, "--to-offset", "soon", "--yes"], 2, "earliest"),
    ] {
        let refused = rewind(&daemon, &arguments);
        assert_eq!(refused.status.code(), Some(code), "{}", said(&refused));
        assert!(said(&refused).contains(text), "{}", said(&refused));
    }
    assert_eq!(sequence(&redis).len(), 20);
    assert_eq!(daemon.settled(), 20);
}

#[test]
fn of_several_partitions_those_are_told_that_were_set_before_one_could_not_be_and_those_that_were_not() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 3);
    Ticks::default().produce_on(&topic, 90, 3, 0..3);
    let mut setup = Setup::new(&topic, &redis.url());
    let mut daemon = setup.start();
    daemon.wait_settled(90);
    assert_eq!(daemon.stop(), 0);
    let first = state(&setup, 0);
    redis.command(&format!("ACL SETUSER half on >pw +@all &* %R~bridge:* %RW~bridge:store %RW~{first}"));
    setup.redis = redis.url().replace("redis://", "redis://half:pw@");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bridge.toml");
    std::fs::write(&file, setup.toml(1)).unwrap();
    let done = process::output(Command::new(binary()).arg("--config").arg(&file).args(["rewind", "--topic", &topic, "--to-offset", "-10", "--yes"]));
    let told = said(&done);
    assert_eq!(done.status.code(), Some(1), "{told}");
    assert!(told.contains(&format!("Set before it: {topic}[0] to 20 (set, and committed to Kafka")), "{told}");
    assert!(told.contains(&format!("Not set: {topic}[1], {topic}[2].")) && told.contains("--to-offset 1:20,2:20"), "{told}");
    let offset = |partition: i32| redis::cmd("HGET").arg(state(&setup, partition)).arg("offset").query::<String>(&mut redis.connect()).unwrap();
    assert_eq!([offset(0), offset(1), offset(2)], ["20", "30", "30"]);
    assert_eq!(kafka::committed(&setup.group, &topic, 3), [Some(20), Some(30), Some(30)]);
}

#[test]
fn a_rewind_to_a_time_goes_to_the_first_record_that_is_as_late_in_each_partition() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 2);
    let began: i64 = 1_766_000_000_000;
    // A record a second; the second partition's are all before the time.
    let ticks: Vec<String> = (0..20).map(tick).collect();
    let at = |(seq, payload): (usize, &'_ String), partition: i32| (i64::try_from(seq).unwrap(), payload.clone(), partition);
    let records = ticks.iter().enumerate().map(|t| at(t, 0)).chain(ticks.iter().enumerate().take(5).map(|t| at(t, 1)));
    for (seq, payload, partition) in records {
        let timestamp = Some(began + seq * 1_000);
        kafka::produce(&topic, [Produce { partition: Some(partition), timestamp, ..Produce::new(&format!("P{partition}/USD"), &payload) }]);
    }
    let daemon = Setup::new(&topic, &redis.url()).start();
    daemon.wait_settled(25);
    // Between the tenth record and the one behind it, as each of the two ways to say it.
    let time = jiff::Timestamp::from_millisecond(began + 9_500).unwrap();
    for (said_as, length) in [(time.to_string(), 30), (time.as_millisecond().to_string(), 40)] {
        let done = rewind(&daemon, &["--topic", &topic, "--to-time", &said_as, "--yes"]);
        assert!(done.status.success() && said(&done).contains("up to 10 records are applied again"), "{}", said(&done));
        eventually("they are", 40, || redis.entries::<String>("volatility:P0/USD").len() >= length);
    }
    daemon.wait_settled(25);
    assert_eq!(sequence(&redis), (0..20).chain(10..20).chain(10..20).collect::<Vec<_>>());
    assert_eq!(redis.entries::<String>("volatility:P1/USD").len(), 5, "nothing there is as late: it stays at its end");
}

#[test]
fn a_rewind_to_the_latest_leaves_out_what_was_not_applied_and_says_how_much_that_is() {
    let redis = RedisServer::start();
    let topic = kafka::topic("ticks", 1);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 20, 1);
    let setup = Setup::new(&topic, &redis.url());
    let mut daemon = setup.start();
    daemon.wait_settled(20);
    assert_eq!(daemon.stop(), 0);
    ticks.produce(&topic, 10, 1);
    let done = rewind(&daemon, &["--topic", &topic, "--to-offset", "latest", "--yes"]);
    assert!(done.status.success() && said(&done).contains("up to 10 records are LEFT OUT"), "{}", said(&done));
    assert_eq!(kafka::committed(&setup.group, &topic, 1), [Some(30)]);
    ticks.produce(&topic, 5, 1);
    let daemon = setup.start();
    daemon.wait_settled(35);
    assert_eq!(sequence(&redis), (0..20).chain(30..35).collect::<Vec<_>>());
}
