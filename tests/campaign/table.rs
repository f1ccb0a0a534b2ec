//! Every case: its name, what it does, what must follow, and how it is shown.
use crate::alone::{self, Show};
use crate::storm::{self, Inject};

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) does: &'static str,
    /// In a storm: on top of that both bridges are well again by themselves, and nothing is lost, doubled or out of order.
    pub(crate) follows: &'static str,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// One of many against one bed. `weight`: how often, after each was there once; 0: not again. One of the conditions
    /// `shows` must be seen; empty: none need show.
    Storm { weight: u32, shows: &'static [&'static str], inject: Inject },
    /// On a bed of its own. `slow`: not in a short campaign.
    Alone { slow: bool, show: Show },
    /// Tests of `tests/main.rs` show just this, and are run.
    Promise(&'static [&'static str]),
}

const fn storm(name: &'static str, weight: u32, shows: &'static [&'static str], inject: Inject, does: &'static str, follows: &'static str) -> Case {
    Case { name, does, follows, kind: Kind::Storm { weight, shows, inject } }
}

const fn alone(name: &'static str, slow: bool, show: Show, does: &'static str, follows: &'static str) -> Case {
    Case { name, does, follows, kind: Kind::Alone { slow, show } }
}

const fn promise(name: &'static str, tests: &'static [&'static str], does: &'static str, follows: &'static str) -> Case {
    Case { name, does, follows, kind: Kind::Promise(tests) }
}

const UNREACHABLE: &[&str] = &["redis-unreachable"];
const REFUSES: &[&str] = &["redis-refuses"];

use storm::{bridge as b, kafka as k, network as n, redis as r};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    // Redis
    storm("redis-kill", 6, UNREACHABLE, r::kill, "kill -9, seen, started again with its file", "redis-unreachable, and over"),
    storm("redis-bounce", 3, &[], r::bounce, "kill -9, started again at once", "nothing need show"),
    storm("redis-tail-lost", 6, &[], r::lose_tail, "kill -9, and its file is torn at any of the last 500 kB; started again, and the file written anew", "data and state went back together: taken up where they stand"),
    storm("redis-stop-1s", 4, &[], r::stop_1s, "SIGSTOP for a second", "nothing need show"),
    storm("redis-stop-30s", 0, UNREACHABLE, r::stop_30s, "SIGSTOP for half a minute", "redis-unreachable, and over; no partition moves"),
    storm("redis-stop-300s", 0, UNREACHABLE, r::stop_300s, "SIGSTOP for five minutes (LONG=1)", "redis-unreachable, and over"),
    storm("redis-oom", 5, &["redis-oom"], r::oom, "maxmemory is crossed", "redis-oom with its remedy; over when there is room"),
    storm("redis-readonly", 4, REFUSES, r::readonly, "becomes a replica that refuses writes", "redis-refuses, and over"),
    storm("redis-masterdown", 2, REFUSES, r::masterdown, "becomes a replica that does not answer reads either", "redis-refuses, and over"),
    storm("redis-loading", 3, &["redis-refuses", "redis-unreachable"], r::loading, "loads its file again under open connections", "redis-refuses, and over"),
    storm("redis-misconf", 3, REFUSES, r::misconf, "can't save, and refuses writes for it", "redis-refuses, and over"),
    storm("redis-busy", 4, REFUSES, r::busy, "a script does not end", "redis-refuses, and over"),
    storm("redis-failover-with-lag", 5, &[], r::failover, "the master dies, a replica that lags is promoted", "data and state went back together: taken up where they stand"),
    storm("redis-split-brain", 4, &[], r::split_brain, "a replica is promoted while the old master takes writes over half of the connections, and dies later", "what the old one took is applied again"),
    storm("full-resync", 4, &[], r::full_resync, "the master is demoted to its own lagging replica, loads all of its data under open connections, and is promoted again", "no guard from before holds after"),
    storm("state-deleted", 4, &[], r::delete_state, "DEL of a partition's state while its owner lives", "the owner goes on from memory"),
    alone("redis-empty-replica", false, alone::redis::empty_replica, "a replica is promoted that holds nothing", "the owner goes on from memory, tells state-lost, applies nothing twice"),
    alone("redis-noperm", false, alone::redis::noperm, "the ACL takes XADD away while records flow", "halt: refused. Put the ACL right, restart"),
    alone("redis-oversized", false, alone::redis::oversized, "proto-max-bulk-len is lowered below the next record", "that record is a dead letter"),
    promise("redis-flushall", &["failures::a_live_owner_goes_on_from_memory_when_redis_forgets_everything"], "FLUSHALL while the owner lives", "goes on from memory, tells state-lost"),
    promise("state-lost", &["failures::a_lost_state_halts_the_next_claim_and_resumes_where_it_is_told_to"], "FLUSHALL while no owner lives", "halt: state-lost. Set on_state_lost, restart"),
    promise("state-evicted", &["life_cycle::an_eviction_policy_that_is_changed_while_running_is_told", "life_cycle::a_redis_that_may_evict_the_state_is_refused_at_start"], "a policy that may evict the state", "refused at start; redis-evicts while running. Set another policy"),
    promise("wrongtype", &["bad_input::a_key_of_the_wrong_type_becomes_a_dead_letter_that_names_what_stands_and_what_does_not", "dead_letters::killed_among_poison_the_bridge_neither_loses_nor_doubles_a_letter"], "a key of the wrong type in the middle of batches, kills among them (the storm has both kinds of poison, too)", "one dead letter a record"),
    // The network
    storm("slow-network", 4, &[], n::slow, "each piece takes 10 to 150 ms more, both ways", "nothing need show"),
    storm("rst", 6, &[], n::rst, "all or half of the connections to Redis are reset", "nothing need show"),
    storm("half-open", 4, &[], n::half_open, "open connections to Redis are dead without a word", "given up after response_timeout"),
    storm("network-partition", 4, UNREACHABLE, n::partitioned, "nothing gets through to Redis", "redis-unreachable, and over"),
    storm("truncated-reply", 7, &[], n::truncated, "an answer is cut at any byte after its transaction ran", "the state says that it ran"),
    storm("late-execution", 7, &[], n::late, "what a client sent runs up to 3 s after it was cut off", "it aborts, or was there before the claim read"),
    // Kafka
    storm("kafka-broker-kill", 4, &["kafka-unreachable"], k::kill, "kill -9 of the broker, started again", "kafka-unreachable, and over"),
    storm("kafka-broker-stop", 2, &[], k::stop, "SIGSTOP of the broker for 8 s", "nothing need show"),
    storm("kafka-rst", 3, &[], n::kafka_rst, "a bridge's connections to Kafka are reset", "nothing need show"),
    storm("kafka-slow-network", 2, &[], n::kafka_slow, "a bridge's way to Kafka takes 10 to 100 ms more a piece", "nothing need show"),
    storm("rebalance-storm", 4, &[], k::rebalance_storm, "a member joins and leaves, two to four times", "partitions come back"),
    storm("max-poll-exceeded", 2, &[], k::max_poll, "the poller's thread is held for longer than max.poll.interval.ms", "the group takes its partitions, and it comes back"),
    storm("revoke-mid-batch", 4, &[], k::revoke, "a third bridge takes partitions, and drains", "partitions move twice"),
    storm("cut-off-from-coordinator", 3, &[], n::cut_off, "a bridge is cut off from Kafka until the other has its partitions", "a zombie that is fenced"),
    storm("bridge-sleeps", 3, &[], k::zombie, "SIGSTOP of a bridge until the other has its partitions", "a zombie that is fenced"),
    promise("partitions-added", &["rebalance::partitions_added_while_running_are_read_from_their_first_record"], "partitions are added", "read from their first record"),
    promise("topic-recreated", &["failures::a_recreated_topic_halts_instead_of_skipping_its_records"], "the topic is deleted and created anew", "halt: log-changed. rewind to where it is to go on"),
    promise("out-of-range-below", &["failures::records_that_kafka_deleted_unread_halt_their_partition_by_name", "rebalance::a_log_that_begins_late_is_read_from_its_first_record_cooperatively"], "records are deleted before they were read", "halt: history-gone. A new group begins where the log does"),
    alone("out-of-range-above", true, alone::kafka::out_of_range_above, "the log ends before the position", "halt after 30 s: log-changed"),
    alone("deleted-while-behind", false, alone::kafka::deleted_while_behind, "Kafka deletes what a bridge that lags has not read yet", "halt: history-gone. rewind, or restore"),
    alone("compaction-holes", false, alone::kafka::compaction_holes, "compaction takes records away, the last settled one among them", "holes are no loss, no halt"),
    alone("corrupt-batch", false, alone::kafka::corrupt_batch, "a byte of a batch changes on the broker's disk", "kafka-corrupt; nothing behind it is applied. Restore the log, restart"),
    alone("odd-timestamps", false, alone::kafka::odd_timestamps, "times that go back, lie in the far future or in 1970", "the log's order"),
    promise("null-key", &["bad_input::a_null_key_where_a_template_needs_one_becomes_a_dead_letter"], "a record without a key", "a dead letter where a key is needed"),
    promise("null-value", &["writes::tombstones_do_what_the_route_says_and_leave_no_lag"], "records without a value", "what the route says; no lag"),
    promise("oversized", &["bad_input::a_record_of_ten_mebibytes_arrives"], "a record of 10 MiB", "it arrives"),
    promise("aborted-transactions", &["transactions::aborted_records_are_not_applied_and_trailing_markers_leave_no_lag"], "aborted transactions and control records", "never applied; no lag"),
    // The bridge
    storm("bridge-kill", 12, &[], b::kill, "kill -9 at any moment, started again", "the state says where to begin"),
    storm("bridge-kill-both", 4, &[], b::kill_both, "kill -9 of both at once", "the state says where to begin"),
    storm("sigterm", 4, &[], b::term, "SIGTERM in the middle of batches", "exit code 0: all is written"),
    storm("sigterm-twice", 3, &[], b::term_twice, "a second SIGTERM within 100 ms", "it leaves at once"),
    storm("sigterm-redis-away", 2, UNREACHABLE, b::term_without_redis, "SIGTERM while Redis does not answer", "it leaves at its deadline, exit code 75"),
    storm("sighup-bad-file", 2, &[], b::hup_bad_file, "SIGHUP with a file that is no TOML", "reload-refused in the log, and nothing else"),
    storm("fds-exhausted", 3, &[], b::no_descriptors, "no file descriptor is left, and connections are reset", "it connects when it can"),
    alone("log-disk-full", false, alone::bridge::log_disk_full, "standard error is a full disk", "nothing need show"),
    alone("memory-limit", false, alone::bridge::memory_limit, "400 MB wait in Kafka, the process may have 256 MB", "it stays below"),
];
