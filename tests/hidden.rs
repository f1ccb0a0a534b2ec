//! What Kafka hides or removes rightly (aborted records, markers of transactions, expired and compacted records) leaves no lag
//! behind and is no loss, now or after the next start. What is truly lost is named.
use crate::support::daemon::{Daemon, Setup, binary};
use crate::support::process::output;
use crate::support::redis_server::RedisServer;
use crate::support::{eventually, kafka, unique};
use rdkafka::Message as _;
use std::process::Command;

/// What tells a person that something was lost, or may have been.
const LOSSES: [&str; 5] = ["history-gone", "log-changed", "outcome-unknown", "state-lost", "redis-went-back"];

/// A topic of one partition, its transactions, and who reads it.
struct Bed {
    redis: RedisServer,
    topic: String,
    producer: kafka::Transactions,
    setup: Setup,
    env: Vec<(&'static str, &'static str)>,
}

impl Bed {
    fn new() -> Self {
        Self::on(kafka::topic("hidden", 1))
    }

    fn on(topic: String) -> Self {
        let redis = RedisServer::start();
        let setup = Setup::new(&topic, &redis.url());
        Self { producer: kafka::Transactions::new(&topic), redis, topic, setup, env: Vec::new() }
    }

    fn start(&self) -> Daemon {
        self.setup.start_with(&self.env)
    }

    /// So many transactions of a record each. A marker may be written after the end of its transaction is acknowledged.
    fn transactions(&self, count: i64, commit: bool) {
        let end = self.end() + 2 * count;
        (0..count).for_each(|_| self.producer.produce(1, commit));
        eventually("the markers are written", 20, || self.end() == end);
    }

    fn end(&self) -> i64 {
        kafka::ends(&self.topic, 1)[0]
    }

    fn applied(&self) -> i64 {
        redis::cmd("XLEN").arg("volatility:K").query(&mut self.redis.connect()).unwrap()
    }

    fn wait_no_lag(&self, daemon: &Daemon, what: &str) {
        let shown = || daemon.status().is_some_and(|s| s.partitions.iter().all(|p| p.lag == Some(0) && p.position == Some(self.end())));
        eventually(&format!("{what}: the bridge has no lag"), 40, shown);
        eventually(&format!("{what}: Kafka sees no lag"), 40, || kafka::committed(&self.setup.group, &self.topic, 1) == [Some(self.end())]);
    }

    /// No lag, and none after a restart; then a record comes through. Nobody is told of a loss.
    fn expect_whole(&self, mut daemon: Daemon, applied: i64, what: &str) {
        self.wait_no_lag(&daemon, what);
        assert_eq!(self.applied(), applied, "{what}");
        assert_eq!(daemon.stop(), 0, "{what}: {}", daemon.log());
        let again = self.start();
        self.wait_no_lag(&again, what);
        self.transactions(1, true);
        eventually(&format!("{what}: the next record is applied"), 40, || self.applied() > applied);
        self.wait_no_lag(&again, what);
        assert_eq!(self.applied(), applied + 1, "{what}");
        for code in LOSSES {
            assert!(!daemon.log().contains(code) && !again.log().contains(code), "{what}: {code}\n{}\n{}", daemon.log(), again.log());
        }
    }
}

#[test]
fn aborted_transactions_in_an_empty_partition_leave_neither_a_lag_nor_a_loss() {
    for at_least_once in [false, true] {
        let mut bed = Bed::new();
        if at_least_once {
            bed.setup = bed.setup.redis_extra("guarantee = \"at-least-once\"");
        }
        bed.transactions(4, false);
        bed.expect_whole(bed.start(), 0, if at_least_once { "at-least-once" } else { "exactly-once" });
    }
}

#[test]
fn aborted_transactions_behind_the_latest_leave_no_lag() {
    let mut bed = Bed::new();
    bed.env = vec![("BRIDGE__KAFKA__START", "latest")];
    bed.transactions(2, true);
    bed.transactions(2, false);
    let daemon = bed.start();
    daemon.wait_ready();
    daemon.wait_all_open();
    bed.wait_no_lag(&daemon, "before");
    bed.transactions(4, false);
    bed.expect_whole(daemon, 0, "behind the latest");
}

#[test]
fn aborted_transactions_behind_a_rewind_to_the_latest_leave_no_lag() {
    let bed = Bed::new();
    bed.transactions(3, true);
    let daemon = bed.start();
    bed.wait_no_lag(&daemon, "before");
    let rewind = |to: &str| {
        let mut command = Command::new(binary());
        command.arg("--config").arg(daemon.config()).args(["rewind", "--topic", &bed.topic, "--yes", "--to-offset", to]);
        assert!(output(&mut command).status.success());
    };
    // The offset before the last marker: nothing but that is to come.
    rewind("-1");
    bed.wait_no_lag(&daemon, "to the last marker");
    rewind("latest");
    bed.transactions(4, false);
    bed.expect_whole(daemon, 3, "behind a rewind");
}

#[test]
fn where_another_group_had_come_to_before_aborted_transactions_there_is_no_lag() {
    let bed = Bed::new();
    bed.transactions(1, true);
    bed.transactions(4, false);
    kafka::commit(&bed.setup.group, &bed.topic, 0, 2);
    bed.expect_whole(bed.start(), 0, "taken over");
}

#[test]
fn records_that_expire_once_they_are_applied_are_no_loss_whatever_follows_them() {
    let bed = Bed::new();
    bed.transactions(3, true);
    bed.transactions(3, false);
    let mut daemon = bed.start();
    bed.wait_no_lag(&daemon, "before");
    // All of it while the bridge runs, then all that came since while it does not.
    kafka::delete_records(&bed.topic, 0..1, bed.end());
    bed.transactions(2, false);
    bed.wait_no_lag(&daemon, "while it runs");
    assert_eq!(daemon.stop(), 0);
    kafka::delete_records(&bed.topic, 0..1, bed.end());
    let daemon = bed.start();
    bed.wait_no_lag(&daemon, "after a start");
    bed.transactions(2, false);
    bed.expect_whole(daemon, 3, "expired");
}

#[test]
fn what_expired_before_the_group_ever_began_is_no_loss() {
    let bed = Bed::new();
    bed.transactions(3, true);
    bed.transactions(1, false);
    kafka::delete_records(&bed.topic, 0..1, bed.end());
    bed.transactions(1, false);
    bed.expect_whole(bed.start(), 0, "before the group");
}

#[test]
fn what_expired_before_it_was_applied_is_still_named_with_where_it_was() {
    let bed = Bed::new();
    bed.transactions(2, false);
    let mut daemon = bed.start();
    bed.wait_no_lag(&daemon, "before");
    assert_eq!(daemon.stop(), 0);
    bed.transactions(2, true);
    kafka::delete_records(&bed.topic, 0..1, 8);
    let daemon = bed.start();
    daemon.wait_holds("history-gone");
    assert!(daemon.message("history-gone").contains("the position is 4, and the log begins at 8"), "{}", daemon.message("history-gone"));
}

#[test]
fn what_compaction_took_with_the_last_settled_record_is_no_loss_and_leaves_no_lag() {
    let topic = unique("hidden");
    let settings = [("cleanup.policy", "compact"), ("segment.ms", "100"), ("min.cleanable.dirty.ratio", "0.01"), ("max.compaction.lag.ms", "100")];
    kafka::create(&topic, 1, &settings);
    let bed = Bed::on(topic);
    bed.transactions(1, true);
    let mut daemon = bed.start();
    bed.wait_no_lag(&daemon, "before");
    assert_eq!(daemon.stop(), 0);
    bed.transactions(1, true);
    eventually("all but the last record is compacted away", 90, || {
        // The active segment is never compacted: it must roll.
        bed.transactions(1, false);
        kafka::read_all(&bed.topic, 1)[0].offset() >= 2
    });
    let daemon = bed.start();
    bed.expect_whole(daemon, 2, "compacted");
}
