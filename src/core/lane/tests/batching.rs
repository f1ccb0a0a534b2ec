//! How much goes into one batch.
use super::*;

#[test]
fn a_batch_ends_at_its_commands_where_those_are_fewer_than_its_records() {
    let mut b = Bench::new(stream());
    b.lane.settings.commands_max = 4;
    let one = b.open(0, 0);
    b.push(one, 0..10);
    b.run();
    assert_eq!(b.settled(), [(one, 0..4), (one, 4..8), (one, 8..10)]);
}

#[test]
fn the_next_batch_is_prepared_as_soon_as_as_much_is_queued_as_filled_the_last() {
    let mut b = Bench::new(stream());
    b.lane.settings.commands_max = 4;
    let one = b.open(0, 0);
    b.push(one, 0..8);
    // The guard, and the first transaction, behind which the next one is prepared.
    b.step();
    b.step();
    assert_eq!(b.lane.ahead.as_ref().map(|batch| batch.entries.len()), Some(4));
    b.run();
    assert_eq!(b.settled(), [(one, 0..4), (one, 4..8)]);
}
