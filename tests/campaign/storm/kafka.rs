//! What befalls Kafka and its group.
use super::redis::millis;
use crate::bed::Bed;
use crate::support::kafka;
use crate::support::process::Process;
use crate::support::{eventually, pass, signal};
use rand::Rng as _;
use rand::rngs::StdRng;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

pub(crate) fn kill(bed: &mut Bed<'_>, rng: &mut StdRng) {
    bed.broker.server.kill();
    bed.until_seen("kafka-unreachable");
    pass(millis(rng, 0..3000));
    bed.broker.server.run();
}

/// Longer than a session, shorter than a socket's time-out.
pub(crate) fn stop(bed: &mut Bed<'_>, _: &mut StdRng) {
    signal(bed.broker.server.pid(), "STOP");
    pass(Duration::from_secs(8));
    signal(bed.broker.server.pid(), "CONT");
}

/// Another member joins and leaves, again and again; while it has partitions nobody works at them.
pub(crate) fn rebalance_storm(bed: &mut Bed<'_>, rng: &mut StdRng) {
    for _ in 0..rng.random_range(2..5) {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", kafka::bootstrap()).set("group.id", &bed.setups[0].group).set("enable.auto.commit", "false");
        config.set("partition.assignment.strategy", "cooperative-sticky").set("session.timeout.ms", "6000");
        let member: BaseConsumer = config.create().unwrap();
        member.subscribe(&[&bed.topic]).unwrap();
        let until = Instant::now() + millis(rng, 100..1500);
        while Instant::now() < until {
            let _ = member.poll(Duration::from_millis(20));
        }
    }
}

/// A third bridge takes partitions away in the middle of their batches, and drains.
pub(crate) fn revoke(bed: &mut Bed<'_>, rng: &mut StdRng) {
    let mut third = bed.setups[0].start();
    eventually("the third bridge has partitions", 40, || third.open() > 0);
    pass(millis(rng, 0..1000));
    assert_eq!(third.stop(), 0, "{}", third.log());
}

/// A bridge is stopped until the other has all partitions, and wakes up with a batch in its hands.
pub(crate) fn zombie(bed: &mut Bed<'_>, rng: &mut StdRng) {
    let sleeper = rng.random_range(0..2);
    signal(bed.bridges[sleeper].pid(), "STOP");
    bed.until_alone(1 - sleeper);
    signal(bed.bridges[sleeper].pid(), "CONT");
}

/// The poller alone is stopped for longer than max.poll.interval.ms, while its heartbeats go on: a tracer holds the
/// thread in a write of its log, until the group has noticed. Within a poll of librdkafka it would not count.
pub(crate) fn max_poll(bed: &mut Bed<'_>, rng: &mut StdRng) {
    let sleeper = rng.random_range(0..2);
    let threads = std::fs::read_dir(format!("/proc/{}/task", bed.bridges[sleeper].pid())).unwrap().map(|t| t.unwrap().path());
    let read = |thread: &Path, what: &str| std::fs::read_to_string(thread.join(what)).unwrap();
    let poller = threads.into_iter().find(|t| read(t, "comm").trim() == "poller").unwrap();
    let held = ["-qq", "-o", "/dev/null", "-e", "trace=write", "-e", "inject=write:delay_enter=30000000:when=1", "-p"];
    let mut tracer = Process::start(Command::new("strace").args(held).arg(poller.file_name().unwrap()));
    eventually("the tracer is there", 10, || !read(&poller, "status").contains("TracerPid:\t0"));
    // It has something to log when it claims again.
    bed.wire.reset(1);
    let alone = catch_unwind(AssertUnwindSafe(|| bed.until_alone(1 - sleeper)));
    signal(tracer.id(), "INT");
    tracer.ended();
    assert!(alone.is_ok(), "the poller was held, and the group did not give its partitions away");
}
