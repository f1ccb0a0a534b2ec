//! What a lane makes of a partition that it lets go, and of the end of its log.
use super::*;

#[test]
fn a_partition_that_is_lost_while_it_closes_is_left_to_the_next_owner() {
    let mut b = Bench::new(stream());
    let one = b.open(0, 0);
    b.push(one, 0..3);
    b.run();
    b.take(Input::Close(one));
    b.lane.take_events();
    b.lane.lost("cut");
    assert_eq!(b.lane.take_events(), [Event::Closed { generation: one, left: true }], "what came of its last batch is not known");
}

/// Of a batch 2..5 the replies were left unread, and its last record is gone; then the log's end is told.
fn ended(compacted: Result<bool, String>, refused: bool) -> Bench {
    let mut b = Bench::new(stream());
    if refused {
        b.redis.occupy(b"s:0");
    }
    let last = Last::of(&record(0, 4, r#"{"o":4}"#));
    let one = b.open_with(0, 5, Some(Check { last, compacted }), Some(2));
    b.push(one, 2..4);
    b.run();
    assert_eq!(b.redis.length("dead"), 0, "what comes after the record that is gone may be unread, too");
    b.take(Input::Advance(one, 5));
    b.run();
    b.now += IDLE_BEFORE_CLEAR;
    b.run();
    b
}

#[test]
fn where_compaction_took_the_last_record_the_logs_end_decides_about_what_was_left_unread() {
    for (refused, letters) in [(true, 2), (false, 0)] {
        let mut b = ended(Ok(true), refused);
        assert_eq!((b.redis.length("dead"), b.field(0, "unread")), (letters, String::new()));
        assert_eq!(b.settled(), [(1, 5..5)]);
    }
}

#[test]
fn where_nothing_may_take_the_last_record_a_log_that_ends_without_it_is_another() {
    for compacted in [Ok(false), Err("denied".to_owned())] {
        let mut b = ended(compacted, true);
        assert!(matches!(&b.lane.take_events()[..], [Event::Halt { code: "log-changed", .. }]));
        assert_eq!((b.redis.length("dead"), b.field(0, "unread")), (0, "2".into()));
    }
}
