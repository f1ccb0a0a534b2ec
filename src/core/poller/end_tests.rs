//! The poller without a client, lanes and a claimer.
use super::*;
use crate::core::lane::Opening;
use crate::core::state::Last;

const AT_ZERO: Moment = Moment { now: Duration::ZERO, jitter: 0.0 };
const SECOND: Moment = Moment { now: Duration::from_secs(1), jitter: 0.0 };

fn at(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn actions(poller: &mut Poller) -> Vec<Action> {
    std::iter::from_fn(|| poller.next_action(false)).collect()
}

fn assigned(partitions: i32) -> (Poller, Vec<u64>) {
    let mut poller = Poller::new(1, Guarantee::ExactlyOnce, Duration::from_secs(5));
    poller.assigned((0..partitions).map(at).collect());
    poller.tick(Duration::ZERO);
    let claims = actions(&mut poller).into_iter().filter_map(|a| if let Action::Claim(r) = a { Some((r.at.partition, r.generation)) } else { None });
    let mut claims: Vec<_> = claims.collect();
    claims.sort_unstable();
    (poller, claims.into_iter().map(|(_, generation)| generation).collect())
}

/// A claim of a partition ended, and it was sought.
fn open(poller: &mut Poller, partition: i32, generation: u64, position: i64) {
    let opening = Opening { generation, at: at(partition), position, guard: None, check: None, unread: None, through: [].into(), rebuild: None };
    let claimed = Claimed { opening, begin: position, epoch: 1, notices: Vec::new(), store_id: String::new() };
    poller.note(Note::Claim { generation, outcome: Outcome::Claimed(Box::new(claimed)) }, AT_ZERO);
    poller.sought([(generation, Ok(()))], || AT_ZERO);
    drop(actions(poller));
}

fn settled(poller: &mut Poller, generation: u64, range: std::ops::Range<i64>) {
    let last = Some(Last { offset: range.end - 1, timestamp_ms: None, fingerprint: 0 });
    poller.note(Note::Lane(0, Event::Settled { generation, range, last }), AT_ZERO);
}

fn seen(poller: &mut Poller, end: i64) -> bool {
    poller.seen("t", 0, Seen { end: Some(end), stalled: false }, SECOND)
}

/// Up to where the lane is told that there is no record.
fn advanced(poller: &mut Poller) -> Option<i64> {
    actions(poller).into_iter().find_map(|a| if let Action::ToLane(_, Input::Advance(_, to)) = a { Some(to) } else { None })
}

#[test]
fn a_position_moves_over_what_the_client_has_passed_and_no_further() {
    let (mut poller, generations) = assigned(1);
    open(&mut poller, 0, generations[0], 10);
    assert!(!seen(&mut poller, 10), "nothing lies behind");
    assert!(seen(&mut poller, 14));
    poller.passed("t", 0, 13);
    assert_eq!(advanced(&mut poller), Some(13), "the last offset may be a record that is on its way");
    settled(&mut poller, generations[0], 10..13);
    poller.polled("t", 0, 13);
    assert!(!seen(&mut poller, 15), "the lane has a record that is not settled yet");
    poller.passed("t", 0, 15);
    assert_eq!(advanced(&mut poller), None, "and its position is not moved past that");
    settled(&mut poller, generations[0], 13..14);
    poller.passed("t", 0, 14);
    assert_eq!(advanced(&mut poller), None, "that was the record");
}

#[test]
fn what_was_passed_before_a_partition_is_claimed_again_is_not_believed() {
    let (mut poller, generations) = assigned(1);
    open(&mut poller, 0, generations[0], 10);
    poller.note(Note::Lane(0, Event::Reclaim { generation: generations[0], why: Doubt::Moved }), AT_ZERO);
    poller.passed("t", 0, 14);
    assert_eq!(advanced(&mut poller), None);
}

#[test]
fn the_end_that_is_shown_is_never_below_what_is_settled() {
    let (mut poller, generations) = assigned(1);
    assert_eq!(poller.end(&at(0)), None);
    open(&mut poller, 0, generations[0], 10);
    seen(&mut poller, 12);
    settled(&mut poller, generations[0], 10..17);
    assert_eq!(poller.end(&at(0)), Some(17), "the statistics are older");
    seen(&mut poller, 20);
    assert_eq!(poller.end(&at(0)), Some(20));
}

#[test]
fn of_partitions_that_are_being_claimed_at_the_end_those_are_left_that_have_records() {
    let (mut poller, generations) = assigned(3);
    for partition in 0..2u8 {
        let (partition, generation) = (i32::from(partition), generations[usize::from(partition)]);
        open(&mut poller, partition, generation, 10);
        if partition == 0 {
            poller.polled("t", 0, 10);
        }
        poller.note(Note::Lane(0, Event::Reclaim { generation, why: Doubt::Disconnected(String::new()) }), AT_ZERO);
    }
    poller.begin_drain(Duration::ZERO);
    assert_eq!(poller.left(), 1, "what came of its last batch is not known");
    let mut doubtful = poller.doubtful().to_vec();
    doubtful.sort();
    assert_eq!(doubtful, [(at(1), Some(10)), (at(2), None)], "Kafka knows whether they have any");
}

#[test]
fn records_that_were_taken_from_a_lane_are_left_until_they_are_settled() {
    // How far the partition had come on its way back into the lane when the stop came: claimed, sought, fetched, settled.
    for (fetched, settled_to, left) in [(false, 10, 1), (true, 10, 1), (true, 11, 1), (true, 12, 0)] {
        let (mut poller, generations) = assigned(1);
        open(&mut poller, 0, generations[0], 10);
        poller.polled("t", 0, 11);
        poller.note(Note::Lane(0, Event::Reclaim { generation: generations[0], why: Doubt::Disconnected(String::new()) }), AT_ZERO);
        poller.tick(SECOND.now);
        let again = actions(&mut poller).into_iter().find_map(|a| if let Action::Claim(r) = a { Some(r.generation) } else { None }).unwrap();
        open(&mut poller, 0, again, 10);
        if fetched {
            poller.polled("t", 0, 11);
        }
        if settled_to > 10 {
            settled(&mut poller, again, 10..settled_to);
        }
        poller.begin_drain(SECOND.now);
        poller.note(Note::Lane(0, Event::Closed { generation: again, left: false }), SECOND);
        assert_eq!(poller.left(), left, "fetched again: {fetched}, settled to {settled_to}");
    }
}
