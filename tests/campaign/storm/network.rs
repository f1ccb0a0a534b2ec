//! What befalls the wires: those to Redis, and each bridge's own to Kafka.
use super::redis::millis;
use crate::bed::Bed;
use crate::support::proxy::Plan;
use crate::support::{eventually, pass};
use rand::Rng as _;
use rand::rngs::StdRng;

pub(crate) fn slow(bed: &mut Bed<'_>, rng: &mut StdRng) {
    bed.wire.set(Plan::Delay(millis(rng, 10..150)));
    pass(millis(rng, 2000..5000));
    bed.wire.set(Plan::Forward);
}

/// All connections, or every second one.
pub(crate) fn rst(bed: &mut Bed<'_>, rng: &mut StdRng) {
    bed.wire.reset(rng.random_range(1..=2));
}

/// Open connections are dead without a word, new ones work.
pub(crate) fn half_open(bed: &mut Bed<'_>, _: &mut StdRng) {
    bed.wire.silence();
}

/// Nothing gets through to Redis, and nobody is told.
pub(crate) fn partitioned(bed: &mut Bed<'_>, rng: &mut StdRng) {
    bed.wire.set(Plan::Silent);
    bed.until_seen("redis-unreachable");
    pass(millis(rng, 0..2000));
    bed.wire.set(Plan::Forward);
}

/// An answer is cut at any byte, after its transaction ran.
pub(crate) fn truncated(bed: &mut Bed<'_>, rng: &mut StdRng) {
    bed.wire.set(Plan::CutAfter(rng.random_range(1..20_000)));
    eventually("an answer was cut", 30, || bed.wire.done());
}

/// What a client sent is run when it has long given up.
pub(crate) fn late(bed: &mut Bed<'_>, rng: &mut StdRng) {
    let wait = millis(rng, 0..3000);
    bed.wire.set(Plan::Late(wait));
    eventually("something was held back", 30, || bed.wire.done());
    pass(wait + millis(rng, 200..500));
}

pub(crate) fn kafka_rst(bed: &mut Bed<'_>, rng: &mut StdRng) {
    bed.broker.doors[rng.random_range(0..2)].reset(1);
}

pub(crate) fn kafka_slow(bed: &mut Bed<'_>, rng: &mut StdRng) {
    let door = rng.random_range(0..2);
    bed.broker.doors[door].set(Plan::Delay(millis(rng, 10..100)));
    pass(millis(rng, 2000..5000));
    bed.broker.doors[door].set(Plan::Forward);
}

/// A member is cut off from its coordinator until another has its partitions, and comes back as a zombie.
pub(crate) fn cut_off(bed: &mut Bed<'_>, rng: &mut StdRng) {
    let zombie = rng.random_range(0..2);
    bed.broker.doors[zombie].set(Plan::Silent);
    bed.until_alone(1 - zombie);
    bed.broker.doors[zombie].set(Plan::Forward);
    // What was on its way is lost: the peers find out when they speak again.
    bed.broker.doors[zombie].reset(1);
}
