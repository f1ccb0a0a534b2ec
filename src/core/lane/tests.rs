//! The lane against a model of one Redis connection: what it sends, and what it makes of each answer.
#[path = "../../../tests/simulation/server.rs"]
mod server;

use self::server::Redis;
use super::*;
use crate::core::record::TopicPartition;
use crate::core::state::{Last, StateKey};
use crate::core::template::Template;
use crate::core::throttle::Throttle;
use crate::core::write::{Effect, Fields, Kind, Write, Xadd};
use std::num::NonZeroU32;
use std::ops::Range;

mod batching;
mod closing;
mod oversized;
mod replaying;

const MS: Duration = Duration::from_millis(1);

fn at(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn state(partition: i32) -> StateKey {
    StateKey::partition("b", "g", &at(partition))
}

fn record(partition: i32, offset: i64, payload: &str) -> Record {
    Record::copy(at(partition), offset, Some(offset), Some(b"k"), Some(payload.as_bytes()), [])
}

/// A lane of one route, `XADD s {key}`, and its Redis.
struct Bench {
    lane: Lane,
    redis: Redis,
    now: Duration,
    exchanges: usize,
}

impl Bench {
    fn new(letters: Letters) -> Self {
        Self::with(letters, None)
    }

    fn with(letters: Letters, limit: Option<Throttle>) -> Self {
        let template = |t: &str| Template::parse(t).unwrap();
        let xadd = Xadd { key: template("s:{partition}"), fields: Fields::All, id: template("*"), trim: None, nomkstream: false, ahead_max_ms: 1000 };
        let route = Route::new("r", "t", vec![Write::new(Kind::Xadd(xadd))]);
        let settings = Settings {
            routes: [route].into(),
            records_max: 10,
            commands_max: 30,
            bytes_max: 1 << 20,
            linger: Duration::ZERO,
            letters,
            span: Span::Lane,
            route_limits: vec![None],
            limit,
        };
        Self { lane: Lane::new(settings, [Tally::default()].into()), redis: Redis::default(), now: Duration::ZERO, exchanges: 0 }
    }

    /// Claims a partition in Redis and opens it under the generation of its number plus one.
    fn open(&mut self, partition: i32, position: i64) -> u64 {
        self.open_with(partition, position, None, None)
    }

    fn open_with(&mut self, partition: i32, position: i64, check: Option<Check>, unread: Option<i64>) -> u64 {
        for (field, value) in [
            ("owner", "me".to_owned()),
            ("offset", position.to_string()),
            ("unread", unread.map_or_else(String::new, |u| u.to_string())),
            ("last", String::new()),
        ] {
            self.redis.set_field(&state(partition).0, field, &value);
        }
        let generation = u64::try_from(partition).unwrap() + 1;
        let guard = Some(Guard { key: state(partition), owner: b"me".to_vec() });
        let opening = Opening { generation, at: at(partition), position, guard, check, unread, through: [0].into(), rebuild: None };
        self.take(Input::Open(opening.into()));
        generation
    }

    fn take(&mut self, input: Input) {
        self.lane.take(input, self.now);
    }

    fn push(&mut self, generation: u64, offsets: Range<i64>) {
        for offset in offsets {
            let partition = i32::try_from(generation).unwrap() - 1;
            self.take(Input::Records(generation, vec![record(partition, offset, &format!(r#"{{"o":{offset}}}"#))]));
        }
    }

    /// Does what the lane asks for until it waits; until when.
    fn run(&mut self) -> Option<Duration> {
        for _ in 0..1000 {
            if let Some(until) = self.step() {
                return until;
            }
        }
        panic!("the lane never waits");
    }

    /// Does one thing that the lane asks for, or says until when it waits.
    fn step(&mut self) -> Option<Option<Duration>> {
        match self.lane.next(self.now) {
            Next::Exchange { replies, bytes_min } => {
                self.exchanges += 1;
                let answers = self.redis.serve(0, self.lane.outgoing());
                assert_eq!(answers.len(), replies);
                assert!(server::wire_bytes(&answers) >= bytes_min, "no reader sleeps for bytes that never come");
                self.lane.prepare(self.now);
                self.lane.answered(answers, self.now, 0.0);
            }
            Next::Bury(_) => self.take(Input::Buried(Ok(()))),
            Next::Wait(until) => return Some(until),
        }
        None
    }

    fn field(&self, partition: i32, field: &str) -> String {
        self.redis.field(&state(partition).0, field).unwrap_or_default()
    }

    fn settled(&mut self) -> Vec<(u64, Range<i64>)> {
        let settled = self.lane.take_events().into_iter().filter_map(|e| match e {
            Event::Settled { generation, range, .. } => Some((generation, range)),
            _ => None,
        });
        settled.collect()
    }
}

fn stream() -> Letters {
    Letters::Stream { name: "dead".into(), maxlen: None }
}

#[test]
fn a_batch_is_one_guarded_transaction_that_moves_each_partitions_position() {
    let mut b = Bench::new(stream());
    let (one, two) = (b.open(0, 5), b.open(1, 0));
    b.push(one, 5..9);
    b.push(two, 0..3);
    b.run();
    assert_eq!((b.redis.length("s:0"), b.redis.length("s:1")), (4, 3));
    assert_eq!((b.field(0, "offset"), b.field(1, "offset")), ("9".into(), "3".into()));
    assert_eq!(b.exchanges, 2, "the guard, then the transaction");
    let mut settled = b.settled();
    settled.sort_by_key(|s| s.0);
    assert_eq!(settled, [(one, 5..9), (two, 0..3)]);
    b.push(one, 9..10);
    b.run();
    assert_eq!(b.exchanges, 3, "the second guard rode behind the first transaction");
}

#[test]
fn a_hole_belongs_to_the_record_after_it() {
    let mut b = Bench::new(stream());
    let one = b.open(0, 5);
    b.push(one, 7..8);
    b.run();
    assert_eq!(b.settled(), [(one, 5..8)]);
}

#[test]
fn what_a_batch_leaves_unread_is_cleared_when_the_lane_is_idle() {
    let mut b = Bench::new(stream());
    let one = b.open(0, 0);
    b.push(one, 0..2);
    b.run();
    assert_eq!(b.field(0, "unread"), "0");
    b.now += IDLE_BEFORE_CLEAR;
    b.run();
    assert_eq!((b.field(0, "unread"), b.field(0, "offset")), (String::new(), "2".into()));
}

#[test]
fn on_a_busy_lane_a_quiet_partition_is_cleared_with_its_neighbours_batch() {
    let mut b = Bench::new(stream());
    let (one, two) = (b.open(0, 0), b.open(1, 0));
    b.push(one, 0..2);
    b.run();
    b.now += IDLE_BEFORE_CLEAR;
    b.push(two, 0..15);
    // The audit, the guard, the batch.
    (0..3).for_each(|_| _ = b.step());
    assert_eq!((b.redis.length("s:1"), b.field(0, "unread")), (10, String::new()));
}

#[test]
fn a_position_moves_over_what_is_no_record_once_all_before_it_is_settled() {
    let mut b = Bench::new(stream());
    let one = b.open(0, 0);
    b.push(one, 0..15);
    b.take(Input::Advance(one, 17));
    b.step();
    b.step();
    assert_eq!(b.field(0, "offset"), "10");
    b.run();
    assert_eq!((b.field(0, "offset"), b.field(0, "unread")), ("17".into(), String::new()));
    assert_eq!(b.settled(), [(one, 0..10), (one, 10..15), (one, 15..17)]);
    b.push(one, 17..18);
    b.run();
    assert_eq!((b.redis.length("s:0"), b.field(0, "offset")), (16, "18".into()));
}

#[test]
fn a_fenced_partition_leaves_the_batch_and_the_others_go() {
    let mut b = Bench::new(stream());
    let (one, two) = (b.open(0, 0), b.open(1, 0));
    b.redis.set_field(&state(0).0, "owner", "another");
    b.push(one, 0..3);
    b.push(two, 0..3);
    b.run();
    assert_eq!((b.redis.length("s:0"), b.redis.length("s:1")), (0, 3));
    let events = b.lane.take_events();
    assert!(events.iter().any(|e| matches!(e, Event::Reclaim { generation, why: Doubt::Fenced } if *generation == one)));
    assert!(events.iter().any(|e| matches!(e, Event::Settled { generation, range, .. } if (*generation, range) == (two, &(0..3)))));
}

#[test]
fn a_claim_between_guard_and_exec_applies_nothing_of_the_batch() {
    let mut b = Bench::new(stream());
    let (one, two) = (b.open(0, 0), b.open(1, 0));
    b.redis.before_exec = Some(|r| r.set_field(&state(0).0, "owner", "another"));
    b.push(one, 0..3);
    b.push(two, 0..3);
    b.run();
    assert_eq!((b.redis.length("s:0"), b.redis.length("s:1")), (0, 3));
    assert_eq!(b.settled(), [(two, 0..3)]);
}

#[test]
fn a_lost_connection_claims_every_partition_again_and_sends_nothing_twice() {
    let mut b = Bench::new(stream());
    let one = b.open(0, 0);
    b.push(one, 0..5);
    let Next::Exchange { .. } = b.lane.next(b.now) else { panic!("the guard") };
    let answers = b.redis.serve(0, b.lane.outgoing());
    b.lane.answered(answers, b.now, 0.0);
    let Next::Exchange { .. } = b.lane.next(b.now) else { panic!("the transaction") };
    b.redis.serve(0, b.lane.outgoing());
    b.lane.lost("cut");
    b.run();
    assert_eq!((b.redis.length("s:0"), b.field(0, "offset")), (5, "5".into()));
    assert_eq!(b.lane.take_events(), [Event::Reclaim { generation: one, why: Doubt::Disconnected("cut".into()) }]);
    assert_eq!(b.lane.take_released().0, 5);
}

#[test]
fn a_full_redis_is_told_once_and_tried_again_in_order() {
    let mut b = Bench::new(stream());
    let one = b.open(0, 0);
    b.push(one, 0..5);
    b.redis.refuses = Some("OOM command not allowed when used memory > 'maxmemory'.");
    for _ in 0..5 {
        b.now = b.run().unwrap();
    }
    let told = b.lane.take_events();
    assert!(matches!(told.as_slice(), [Event::Trouble(Some(("redis-oom", _)))]), "{told:?}");
    b.redis.refuses = None;
    b.run();
    let events = b.lane.take_events();
    assert!(
        matches!(events.as_slice(), [Event::Trouble(None), Event::Settled { range, last: Some(last), .. }] if *range == (0..5) && last.offset == 4),
        "{events:?}"
    );
    let order: Vec<_> = b.redis.stream("s:0").iter().map(|e| String::from_utf8_lossy(&e[2]).into_owned()).collect();
    assert_eq!(order, ["0", "1", "2", "3", "4"]);
}

#[test]
fn redis_that_fills_up_between_two_commands_is_full_all_the_same() {
    let mut b = Bench::new(stream());
    let one = b.open(0, 0);
    b.push(one, 0..5);
    b.redis.refuses = Some("OOM command not allowed when used memory > 'maxmemory'.");
    b.redis.refuses_only = Some("HSET");
    b.run();
    assert!(matches!(&b.lane.take_events()[..], [Event::Trouble(Some(("redis-oom", _)))]));
    b.redis.refuses = None;
    b.now += Duration::from_secs(1);
    b.run();
    assert_eq!(b.settled(), [(one, 0..5)]);
}

#[test]
fn what_nobody_knows_halts_the_partition_by_name() {
    let mut b = Bench::new(stream());
    let one = b.open(0, 0);
    b.push(one, 0..5);
    b.redis.refuses = Some("STRANGE thing");
    b.run();
    let events = b.lane.take_events();
    assert!(
        matches!(&events[..], [Event::Halt { generation, code: "refused", reason }] if *generation == one && reason.contains("STRANGE thing")),
        "{events:?}"
    );
}

#[test]
fn a_poison_record_stands_in_the_dead_letter_stream_with_its_own_batch() {
    let mut b = Bench::new(stream());
    let one = b.open(0, 0);
    b.push(one, 0..2);
    b.take(Input::Records(one, vec![record(0, 2, "{")]));
    b.push(one, 3..5);
    b.run();
    assert_eq!((b.redis.length("s:0"), b.redis.length("dead"), b.exchanges), (4, 1, 2));
    assert_eq!(b.settled(), [(one, 0..5)]);
}

#[test]
fn without_a_place_for_letters_what_came_before_the_poison_is_applied_and_then_it_halts() {
    let mut b = Bench::new(Letters::Halt);
    let one = b.open(0, 0);
    b.push(one, 0..2);
    b.take(Input::Records(one, vec![record(0, 2, "{")]));
    b.push(one, 3..5);
    b.run();
    let events = b.lane.take_events();
    assert!(matches!(&events[0], Event::Settled { range, .. } if *range == (0..2)), "{events:?}");
    assert!(matches!(&events[1], Event::Halt { code: "poison", .. }), "{events:?}");
    assert_eq!(b.redis.length("s:0"), 2);
}

#[test]
fn a_write_refused_while_it_ran_becomes_a_letter_before_anything_is_settled() {
    let mut b = Bench::new(stream());
    b.redis.occupy(b"s:0");
    let one = b.open(0, 0);
    b.push(one, 0..2);
    b.run();
    assert_eq!((b.redis.length("dead"), b.field(0, "unread")), (2, String::new()));
    assert_eq!(b.settled(), [(one, 0..2)]);
}

#[test]
fn a_letter_that_its_stream_refuses_leaves_unread_and_halts_unsettled() {
    for poison in ["{", r#"{"o":0}"#] {
        let mut b = Bench::new(stream());
        b.redis.occupy(b"dead");
        b.redis.occupy(b"s:0");
        let one = b.open(0, 0);
        b.take(Input::Records(one, vec![record(0, 0, poison)]));
        b.run();
        let events = b.lane.take_events();
        assert!(matches!(&events[..], [Event::Halt { generation, code: "dead-letter-refused", .. }] if *generation == one), "{events:?}");
        assert_eq!(b.field(0, "unread"), "0", "the next claim looks at it again");
    }
}

#[test]
fn records_left_unread_are_decided_by_the_keys_type_and_not_applied_again() {
    for (occupied, letters) in [(false, 0), (true, 3)] {
        let mut b = Bench::new(stream());
        if occupied {
            b.redis.occupy(b"s:0");
        }
        let last = Last::of(&record(0, 4, r#"{"o":4}"#));
        let one = b.open_with(0, 5, Some(Check { last, compacted: Ok(false) }), Some(2));
        b.push(one, 2..5);
        b.run();
        assert_eq!((b.redis.length("s:0"), b.redis.length("dead")), (0, letters));
        assert!(b.settled().iter().all(|(_, range)| range.is_empty()));
        b.push(one, 5..6);
        b.run();
        assert_eq!(b.settled(), [(one, 5..6)]);
    }
}

#[test]
fn another_record_at_the_last_settled_offset_halts_before_anything_is_applied() {
    let mut b = Bench::new(stream());
    let last = Last::of(&record(0, 4, "another"));
    let one = b.open_with(0, 5, Some(Check { last, compacted: Ok(false) }), None);
    b.push(one, 4..8);
    b.run();
    let events = b.lane.take_events();
    assert!(matches!(&events[..], [Event::Halt { code: "log-changed", .. }]), "{events:?}");
    assert_eq!((b.redis.length("s:0"), b.lane.take_released().0), (0, 4));
}

#[test]
fn a_compacted_topic_may_have_lost_the_last_settled_record() {
    for (compacted, settled) in [(Ok(true), vec![(1, 5..7)]), (Ok(false), vec![]), (Err("denied".into()), vec![])] {
        let mut b = Bench::new(stream());
        let last = Last::of(&record(0, 4, "gone"));
        let one = b.open_with(0, 5, Some(Check { last, compacted }), None);
        b.push(one, 6..7);
        b.run();
        assert_eq!(b.settled(), settled);
    }
}

#[test]
fn a_revoke_discards_what_was_not_sent_and_a_drain_writes_it() {
    let mut b = Bench::new(stream());
    let one = b.open(0, 0);
    b.push(one, 0..5);
    b.take(Input::Close(one));
    b.run();
    assert_eq!((b.redis.length("s:0"), b.lane.take_events()), (0, vec![Event::Closed { generation: one, left: false }]));
    assert_eq!(b.lane.take_released().0, 5, "what was discarded is no longer counted");
    let one = b.open(0, 0);
    b.push(one, 0..25);
    b.take(Input::Drain);
    b.run();
    assert_eq!((b.redis.length("s:0"), b.field(0, "unread")), (25, String::new()));
    assert_eq!(b.lane.take_events().last(), Some(&Event::Closed { generation: one, left: false }));
}

#[test]
fn a_revoke_is_answered_however_busy_the_neighbours_are() {
    let mut b = Bench::new(stream());
    let (one, two) = (b.open(0, 0), b.open(1, 0));
    b.push(one, 0..10);
    b.push(two, 0..1000);
    for _ in 0..6 {
        b.step();
    }
    b.take(Input::Close(one));
    for _ in 0..3 {
        b.step();
    }
    assert!(b.lane.take_events().contains(&Event::Closed { generation: one, left: false }));
    assert!(b.redis.length("s:1") < 1000, "the neighbour is still at work");
    assert_eq!(b.field(0, "unread"), "");
}

#[test]
fn records_of_an_older_generation_are_discarded() {
    let mut b = Bench::new(stream());
    let one = b.open(0, 0);
    b.push(one + 7, 0..3);
    b.run();
    assert_eq!((b.redis.length("s:0"), b.lane.take_released().0), (0, 3));
}

#[test]
fn an_audit_finds_a_quiet_partition_that_another_owner_has() {
    let mut b = Bench::new(stream());
    let one = b.open(0, 0);
    b.run();
    b.redis.set_field(&state(0).0, "offset", "7");
    b.now += AUDIT_EVERY;
    b.run();
    assert!(matches!(&b.lane.take_events()[..], [Event::Reclaim { generation, why: Doubt::Moved }] if *generation == one));
}

#[test]
fn with_more_partitions_than_an_audit_compares_all_come_round() {
    let mut b = Bench::new(stream());
    let partitions = i32::try_from(AUDIT_MAX).unwrap() + 50;
    (0..partitions).for_each(|p| _ = b.open(p, 0));
    b.run();
    (0..partitions).for_each(|p| b.redis.set_field(&state(p).0, "offset", "7"));
    let mut found = Vec::new();
    for _ in 0..2 {
        b.now += AUDIT_EVERY;
        b.run();
        found.push(b.lane.take_events().len());
    }
    assert_eq!(found, [AUDIT_MAX, 50]);
}

#[test]
fn a_throttled_partition_waits_without_its_neighbours_and_is_asked_to_fetch_no_more() {
    let n = |n| NonZeroU32::new(n).unwrap();
    let mut b = Bench::with(stream(), Some(Throttle::new(n(10), n(10))));
    let one = b.open(0, 0);
    b.push(one, 0..60);
    let until = b.run().unwrap();
    assert!(until > b.now && until <= b.now + MS * 100);
    assert_eq!(b.redis.length("s:0"), 10);
    b.push(one, 60..61);
    assert!(b.lane.take_events().contains(&Event::Hold { generation: one, hold: true }));
    for _ in 0..60 {
        b.now += MS * 100;
        b.run();
    }
    assert_eq!(b.redis.length("s:0"), 61);
    assert!(b.lane.take_events().contains(&Event::Hold { generation: one, hold: false }));
}

#[test]
fn a_record_over_the_batchs_bytes_travels_alone() {
    let mut b = Bench::new(stream());
    b.lane.settings.bytes_max = 1024;
    let one = b.open(0, 0);
    b.push(one, 0..2);
    b.take(Input::Records(one, vec![record(0, 2, &format!(r#"{{"big":"{}"}}"#, "x".repeat(5000)))]));
    b.push(one, 3..4);
    b.run();
    assert_eq!((b.redis.length("s:0"), b.settled()), (4, vec![(one, 0..2), (one, 2..3), (one, 3..4)]));
}

#[test]
fn trouble_is_over_when_the_partitions_that_met_it_are_gone() {
    let mut b = Bench::new(Letters::Halt);
    let one = b.open(0, 0);
    b.push(one, 0..5);
    b.redis.refuses = Some("OOM command not allowed when used memory > 'maxmemory'.");
    b.run();
    assert!(matches!(&b.lane.take_events()[..], [Event::Trouble(Some(("redis-oom", _)))]));
    b.take(Input::Close(one));
    b.now += Duration::from_secs(3);
    b.run();
    assert_eq!(b.lane.take_events(), [Event::Closed { generation: one, left: false }, Event::Trouble(None)]);
}
