//! What a lane makes of records that are larger than Redis takes.
use super::*;
use crate::core::encode::parse_commands;

const LIMIT: usize = 1 << 20;

/// A record whose argument is longer than the limit, where `large`.
fn sized(partition: i32, offset: i64, large: bool) -> Record {
    let blob = "x".repeat(if large { 2 * LIMIT } else { 1 });
    record(partition, offset, &format!(r#"{{"o":"{blob}"}}"#))
}

fn push(b: &mut Bench, generation: u64, offsets: Range<i64>, large: i64) {
    let partition = i32::try_from(generation).unwrap() - 1;
    let records = offsets.map(|offset| sized(partition, offset, offset == large)).collect();
    b.take(Input::Records(generation, records));
}

/// Whether Redis would close the connection on this.
fn closes(outgoing: &[u8]) -> bool {
    parse_commands(outgoing).unwrap().iter().flatten().any(|arg| arg.len() > LIMIT)
}

#[test]
fn where_redis_tells_its_limit_a_larger_record_is_a_letter_without_what_is_too_large() {
    let mut b = Bench::new(stream());
    b.lane.set_bulk_max(Some(LIMIT));
    let one = b.open(0, 0);
    push(&mut b, one, 0..3, 1);
    b.run();
    assert_eq!((b.redis.length("s:0"), b.redis.length("dead"), b.field(0, "offset")), (2, 1, "3".into()));
    let events = b.lane.take_events();
    let buried: Vec<_> = events.iter().filter_map(|e| if let Event::Buried { code, reason, .. } = e { Some((*code, reason.as_str())) } else { None }).collect();
    let reason = "write 1 (xadd): an argument of 2097152 bytes is longer than this Redis takes (proto-max-bulk-len, 1048576 bytes); raise that, or write less of the record";
    assert_eq!(buried, [("too-large", reason)]);
}

#[test]
fn without_a_place_for_letters_a_larger_record_halts_its_partition_and_no_other() {
    let mut b = Bench::new(Letters::Halt);
    b.lane.set_bulk_max(Some(LIMIT));
    let (one, two) = (b.open(0, 0), b.open(1, 0));
    push(&mut b, one, 0..3, 1);
    push(&mut b, two, 0..3, -1);
    b.run();
    assert_eq!((b.redis.length("s:0"), b.redis.length("s:1")), (1, 3));
    let halts = |e: &Event| matches!(e, Event::Halt { code: "poison", generation, reason } if *generation == one && reason.contains("2097152 bytes"));
    assert!(b.lane.take_events().iter().any(halts));
}

/// Lets a Redis that does not tell its limit close the connection on what is larger, until a partition halts or all is settled up
/// to 6; each partition is claimed again after each loss. The halts, and how many connections were lost.
fn against_a_redis_that_hangs_up(b: &mut Bench, partitions: i32, large: impl Fn(i32) -> i64) -> (Vec<(u64, &'static str, String)>, u32) {
    let (mut halts, mut losses, mut waits) = (Vec::new(), 0, false);
    let mut open: Vec<u64> = (0..partitions).map(|p| b.open(p, 0)).collect();
    for generation in &open {
        push(b, *generation, 0..6, large(i32::try_from(*generation).unwrap() - 1));
    }
    while !waits {
        assert!(losses < 50, "it is found");
        match b.lane.next(b.now) {
            Next::Exchange { .. } if closes(b.lane.outgoing()) => {
                losses += 1;
                b.lane.hung_up();
                b.lane.lost("cut");
            }
            Next::Exchange { .. } => {
                let answers = b.redis.serve(0, b.lane.outgoing());
                b.lane.answered(answers, b.now, 0.0);
            }
            Next::Bury(_) => b.take(Input::Buried(Ok(()))),
            Next::Wait(_) => waits = true,
        }
        for event in b.lane.take_events() {
            match event {
                Event::Halt { generation, code, reason } => {
                    open.retain(|g| *g != generation);
                    halts.push((generation, code, reason));
                }
                Event::Reclaim { generation, .. } => {
                    let partition = i32::try_from(generation).unwrap() - 1;
                    let (position, unread) = (b.field(partition, "offset"), b.field(partition, "unread"));
                    assert!(unread.is_empty() || position != "0", "what was lost is not applied");
                    let position: i64 = position.parse().unwrap();
                    b.open(partition, position);
                    push(b, generation, position..6, large(partition));
                }
                _ => {}
            }
        }
    }
    (halts, losses)
}

#[test]
fn a_record_that_redis_hangs_up_on_is_found_among_its_neighbours_and_halts_its_partition_alone() {
    for (letters, large) in [(stream(), 3), (stream(), 0), (Letters::Halt, 5), (Letters::Topic, 3)] {
        let mut b = Bench::new(letters);
        let (halts, losses) = against_a_redis_that_hangs_up(&mut b, 3, |p| if p == 1 { large } else { -1 });
        assert_eq!(halts.iter().map(|(g, code, _)| (*g, *code)).collect::<Vec<_>>(), [(2, "redis-hangs-up")]);
        let reason = &halts[0].2;
        assert!(reason.contains(&format!("offset {large}")) && reason.contains("proto-max-bulk-len"), "{reason}");
        let applied: Vec<_> = (0..3).map(|p| b.redis.length(&format!("s:{p}"))).collect();
        assert_eq!(applied, [6, usize::try_from(large).unwrap(), 6]);
        assert!(losses <= 6, "{losses}");
    }
}

#[test]
fn several_records_that_redis_hangs_up_on_halt_one_partition_each() {
    let mut b = Bench::new(stream());
    let (mut halts, losses) = against_a_redis_that_hangs_up(&mut b, 4, |p| if p % 2 == 0 { 2 } else { -1 });
    halts.sort();
    assert_eq!(halts.iter().map(|(g, code, _)| (*g, *code)).collect::<Vec<_>>(), [(1, "redis-hangs-up"), (3, "redis-hangs-up")]);
    assert_eq!((0..4).map(|p| b.redis.length(&format!("s:{p}"))).collect::<Vec<_>>(), [2, 6, 2, 6]);
    assert!(losses <= 12, "{losses}");
}

#[test]
fn a_letter_that_redis_hangs_up_on_is_kept_without_what_is_too_large() {
    let mut b = Bench::new(stream());
    // Nothing of it can be written but the letter: its stream holds something else.
    b.redis.occupy(b"s:0");
    let one = b.open(0, 0);
    let garbage = format!("no JSON {}", "x".repeat(2 * LIMIT));
    let mut losses = 0;
    b.take(Input::Records(one, vec![record(0, 0, &garbage)]));
    while let Next::Exchange { .. } = b.lane.next(b.now) {
        if closes(b.lane.outgoing()) {
            losses += 1;
            b.lane.hung_up();
            b.lane.lost("cut");
            b.open(0, 0);
            b.take(Input::Records(one, vec![record(0, 0, &garbage)]));
        } else {
            let answers = b.redis.serve(0, b.lane.outgoing());
            b.lane.answered(answers, b.now, 0.0);
        }
    }
    assert_eq!((losses, b.redis.length("dead"), b.field(0, "offset")), (3, 1, "1".into()));
}

#[test]
fn a_letter_of_a_refused_write_goes_without_what_redis_hangs_up_on_whether_it_tells_its_limit_or_not() {
    let large_key = || Record::copy(at(0), 0, Some(0), Some("k".repeat(2 * LIMIT).as_bytes()), Some(br#"{"o":1}"#), []);
    for (told, lost) in [(Some(LIMIT), 0), (None, 3)] {
        let mut b = Bench::new(stream());
        b.lane.set_bulk_max(told);
        b.redis.occupy(b"s:0");
        let one = b.open(0, 0);
        let mut losses = 0;
        b.take(Input::Records(one, vec![large_key()]));
        while let Next::Exchange { .. } = b.lane.next(b.now) {
            if closes(b.lane.outgoing()) {
                losses += 1;
                b.lane.hung_up();
                b.lane.lost("cut");
                assert_eq!((b.field(0, "offset"), b.field(0, "unread")), ("1".into(), "0".into()), "the write was tried, and its letter is owed");
                b.open_with(0, 1, Some(Check { last: Last::of(&large_key()), compacted: Ok(false) }), Some(0));
                b.take(Input::Records(one, vec![large_key()]));
            } else {
                let answers = b.redis.serve(0, b.lane.outgoing());
                b.lane.answered(answers, b.now, 0.0);
            }
        }
        assert_eq!((losses, b.redis.length("dead")), (lost, 1), "{told:?}");
    }
}
