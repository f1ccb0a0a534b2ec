use super::*;
use crate::core::lane::{Check, Opening};
use crate::core::replay::plan::Span;
use crate::core::state::Last;

const HELD: Held = Held { low: 0, high: 1_000_000 };

fn run(keys: &[&str], clamp: bool) -> Run {
    let span = Span { topic: "t".into(), partition: 0, from: 10, to: 20, first_ms: None, last_ms: None, live: None };
    let plan = Plan { keys: keys.iter().map(|k| (*k).to_owned()).collect(), clamp, ..Plan::of(vec![span]) };
    Run::new(&plan, 1)
}

fn taken(generation: u64, position: i64, unread: Option<i64>, last: Option<i64>) -> Taken {
    let check = last.map(|offset| Check { last: Last { offset, timestamp_ms: None, fingerprint: 1 }, compacted: Ok(true) });
    let begin = [Some(position), unread, last].into_iter().flatten().min().unwrap();
    let at = TopicPartition::new("t", 0);
    Taken { opening: Opening { generation, at, position, guard: None, check, unread, through: [].into(), rebuild: None }, begin, notice: None }
}

/// Claimed at a position.
fn claimed(run: &mut Run, position: i64, unread: Option<i64>, last: Option<i64>) -> u64 {
    let [(0, generation)] = run.to_claim()[..] else { panic!("one is to be claimed") };
    run.claimed(0, taken(generation, position, unread, last), HELD);
    generation
}

fn inputs(run: &mut Run) -> Vec<String> {
    let word = |(_, input): (usize, Input)| match input {
        Input::Open(o) => format!("open {}", o.position),
        Input::Advance(_, to) => format!("advance {to}"),
        Input::Close(_) => "close".into(),
        other => format!("{other:?}"),
    };
    run.take_inputs().into_iter().map(word).collect()
}

/// The log is read to its end, and to the same again.
fn ended(run: &mut Run) {
    let again = run.ended(0, HELD);
    assert!(again.is_some() && run.ended(0, HELD).is_none());
}

fn settled(run: &mut Run, generation: u64, range: std::ops::Range<i64>) {
    run.event(Event::Settled { generation, range, last: None });
}

#[test]
fn a_range_ends_at_its_bound_whether_a_record_stands_there_or_not() {
    for end in ["at its last record", "at a record behind it", "at the end of the log"] {
        let mut run = run(&[], false);
        let generation = claimed(&mut run, 10, None, None);
        assert_eq!(run.read(0, 12, None), Some((0, generation)));
        match end {
            "at its last record" => assert!(run.read(0, 19, None).is_some()),
            "at a record behind it" => assert!(run.read(0, 25, None).is_none(), "it is not the job's"),
            _ => {
                assert_eq!(run.ended(0, HELD), Some(13), "a leader that has just become one may show such an end: it is read again");
                assert_eq!(run.ended(0, HELD), None);
            }
        }
        run.handed(0);
        assert_eq!(inputs(&mut run), ["open 10", "advance 20"], "{end}");
        settled(&mut run, generation, 10..20);
        assert_eq!(inputs(&mut run), ["close"]);
        assert!(!run.over());
        run.event(Event::Closed { generation, left: false });
        assert!(run.over() && run.complete());
    }
}

#[test]
fn what_a_stopped_process_left_unread_is_read_again_though_all_is_settled() {
    let mut run = run(&[], false);
    let generation = claimed(&mut run, 20, Some(17), Some(19));
    assert_eq!(run.places("t"), [(0, 0, 17)]);
    assert!(run.read(0, 17, None).is_some() && run.read(0, 19, None).is_some());
    run.handed(0);
    assert_eq!(inputs(&mut run), ["open 20", "advance 20"], "the lane decides about it before it is closed");
    settled(&mut run, generation, 20..20);
    assert_eq!(inputs(&mut run), ["close"]);
    run.event(Event::Closed { generation, left: false });
    assert!(run.complete());
}

#[test]
fn the_end_of_the_log_behind_what_was_left_unread_ends_the_job_whenever_it_comes() {
    for decided_before in [true, false] {
        // All is settled; the log ends at 18, whether by compaction or by markers.
        let mut run = run(&[], false);
        let generation = claimed(&mut run, 20, Some(17), Some(19));
        assert!(run.read(0, 17, None).is_some());
        if decided_before {
            settled(&mut run, generation, 20..20);
        }
        ended(&mut run);
        if decided_before {
            assert_eq!(inputs(&mut run), ["open 20", "close"]);
        } else {
            assert_eq!(inputs(&mut run), ["open 20", "advance 20"], "the lane judges what is gone");
            settled(&mut run, generation, 20..20);
            assert_eq!(inputs(&mut run), ["close"]);
        }
        run.event(Event::Closed { generation, left: false });
        assert!(run.complete());
    }
}

#[test]
fn an_end_below_the_range_is_a_log_that_was_cut_and_no_end() {
    let cut = Held { low: 0, high: 15 };
    let phase = |run: &mut Run| run.progress()[0].phase.clone();
    let mut at_claim = run(&[], false);
    let [(0, generation)] = at_claim.to_claim()[..] else { panic!("one is to be claimed") };
    at_claim.claimed(0, taken(generation, 10, None, None), cut);
    assert_eq!((phase(&mut at_claim).as_str(), at_claim.complete()), ("log-changed", false));
    let mut at_end = run(&[], false);
    claimed(&mut at_end, 10, None, None);
    assert!(at_end.read(0, 14, None).is_some());
    assert_eq!(at_end.ended(0, cut), None);
    assert_eq!((phase(&mut at_end).as_str(), at_end.over(), at_end.complete()), ("log-changed", true, false));
    let mut in_silence = run(&[], false);
    claimed(&mut in_silence, 10, None, None);
    assert!(in_silence.out_of_range(0, cut));
    assert_eq!(phase(&mut in_silence), "log-changed");
    // What is settled to its end needs no log any more.
    let mut settled = run(&[], false);
    let [(0, generation)] = settled.to_claim()[..] else { panic!("one is to be claimed") };
    settled.claimed(0, taken(generation, 20, None, Some(19)), cut);
    settled.event(Event::Closed { generation, left: false });
    assert!(settled.complete());
}

#[test]
fn an_end_is_believed_when_it_shows_again_without_a_record_between() {
    let mut run = run(&[], false);
    claimed(&mut run, 10, None, None);
    assert_eq!(run.ended(0, HELD), Some(10));
    assert!(run.read(0, 16, None).is_some(), "there was one");
    assert_eq!(run.ended(0, HELD), Some(17));
    assert_eq!(run.ended(0, HELD), None);
    assert_eq!(inputs(&mut run), ["open 10", "advance 20"]);
}

#[test]
fn records_of_other_keys_move_the_position_in_strides() {
    let mut run = run(&["a"], false);
    run.parts[0].to = 100_000;
    claimed(&mut run, 10, None, None);
    assert!(run.read(0, 10, Some(b"a")).is_some());
    assert!(run.read(0, 11, Some(b"b")).is_none() && run.read(0, 12, None).is_none());
    assert!(run.read(0, 11 + PASSED_MAX, Some(b"b")).is_none());
    assert_eq!(inputs(&mut run), ["open 10".to_owned(), format!("advance {}", 12 + PASSED_MAX)]);
}

#[test]
fn what_kafka_deleted_halts_or_is_passed_over_where_that_was_asked() {
    let gone = Held { low: 15, high: 1_000_000 };
    let mut strict = run(&[], false);
    claimed(&mut strict, 10, None, None);
    assert!(strict.out_of_range(0, gone));
    assert!(strict.over() && !strict.complete());
    assert_eq!(strict.progress()[0].phase, "history-gone");
    let mut lenient = run(&[], true);
    claimed(&mut lenient, 10, None, None);
    assert!(lenient.out_of_range(0, gone));
    assert_eq!((lenient.places("t"), lenient.progress()[0].gone), (vec![(0, 0, 15)], 5));
    assert!(!lenient.out_of_range(0, gone), "it is met once");
}

#[test]
fn a_lost_connection_has_the_partition_claimed_again_and_what_is_older_counts_no_more() {
    let mut run = run(&[], false);
    let old = claimed(&mut run, 10, None, None);
    assert!(run.read(0, 10, None).is_some());
    run.event(Event::Reclaim { generation: old, why: Doubt::Disconnected("x".into()) });
    assert!(run.read(0, 11, None).is_none());
    let new = claimed(&mut run, 11, None, None);
    settled(&mut run, old, 10..11);
    assert_eq!(run.progress()[0].position, 11);
    settled(&mut run, new, 11..15);
    assert_eq!(run.progress()[0].position, 15);
}

#[test]
fn what_a_former_process_settled_is_none_of_this_ones_speed() {
    let mut run = run(&[], false);
    assert_eq!((run.settled(), run.taken().len()), (0, 0));
    let generation = claimed(&mut run, 15, None, None);
    assert_eq!((run.settled(), run.progress()[0].position, run.taken().len()), (0, 15, 1), "five are settled, by another one");
    settled(&mut run, generation, 15..18);
    assert_eq!((run.settled(), run.progress()[0].position), (3, 18));
}

#[test]
fn a_job_that_is_stopped_before_it_could_be_claimed_stands_where_it_was() {
    let mut run = run(&[], false);
    run.stands(&[Some(15)]);
    run.stop();
    assert_eq!((run.progress()[0].position, run.settled(), run.complete()), (15, 0, false));
}

#[test]
fn a_stop_lets_go_and_is_not_complete() {
    let mut run = run(&[], false);
    let generation = claimed(&mut run, 10, None, None);
    run.stop();
    assert!(!run.let_go());
    settled(&mut run, generation, 10..12);
    run.event(Event::Closed { generation, left: false });
    assert!(run.let_go() && !run.complete());
    assert_eq!((run.progress()[0].position, run.progress()[0].phase.as_str()), (12, "stopped"));
}

#[test]
fn a_stop_before_what_was_left_unread_is_decided_about_is_not_complete() {
    for (left, complete) in [(true, false), (false, true)] {
        let mut run = run(&[], false);
        let generation = claimed(&mut run, 20, Some(17), Some(19));
        run.stop();
        run.event(Event::Closed { generation, left });
        assert_eq!((run.let_go(), run.complete()), (true, complete), "{left}");
    }
    let mut unclaimed = run(&[], false);
    unclaimed.stop();
    assert!(!unclaimed.complete());
}
