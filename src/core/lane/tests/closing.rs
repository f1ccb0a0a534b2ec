//! What a lane says of a partition that it lets go.
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
