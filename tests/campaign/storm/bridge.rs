//! What befalls a bridge's process.
use super::redis::millis;
use crate::bed::Bed;
use crate::support::daemon::Daemon;
use crate::support::{eventually, pass, signal};
use rand::Rng as _;
use rand::rngs::StdRng;
use std::process::Command;
use std::time::Duration;

/// kill -9 at any moment.
pub(crate) fn kill(bed: &mut Bed<'_>, rng: &mut StdRng) {
    let one = rng.random_range(0..2);
    pass(millis(rng, 0..50));
    bed.bridges[one].kill();
    pass(millis(rng, 0..1500));
    bed.start_again(one);
}

pub(crate) fn kill_both(bed: &mut Bed<'_>, _: &mut StdRng) {
    bed.bridges.iter_mut().for_each(Daemon::kill);
    (0..2).for_each(|n| bed.start_again(n));
}

pub(crate) fn term(bed: &mut Bed<'_>, rng: &mut StdRng) {
    let one = rng.random_range(0..2);
    bed.bridges[one].wait_all_open();
    assert_eq!(bed.bridges[one].stop(), 0, "it drains");
    bed.start_again(one);
}

pub(crate) fn term_twice(bed: &mut Bed<'_>, rng: &mut StdRng) {
    let one = rng.random_range(0..2);
    signal(bed.bridges[one].pid(), "TERM");
    pass(millis(rng, 1..100));
    // It may have drained and gone already.
    let _ = Command::new("kill").arg("-TERM").arg(bed.bridges[one].pid().to_string()).status();
    let code = bed.bridges[one].exit_code(10);
    assert!([0, 75].contains(&code), "exit code {code}");
    bed.start_again(one);
}

/// While Redis does not answer: it leaves at its deadline, and says that records are left.
pub(crate) fn term_without_redis(bed: &mut Bed<'_>, rng: &mut StdRng) {
    let one = rng.random_range(0..2);
    signal(bed.redis.pid(), "STOP");
    bed.until_seen("redis-unreachable");
    signal(bed.bridges[one].pid(), "TERM");
    let code = bed.bridges[one].exit_code(20);
    assert!([0, 75].contains(&code), "exit code {code}");
    signal(bed.redis.pid(), "CONT");
    bed.start_again(one);
}

pub(crate) fn hup_bad_file(bed: &mut Bed<'_>, rng: &mut StdRng) {
    let bridge = &bed.bridges[rng.random_range(0..2)];
    let right = std::fs::read_to_string(bridge.config()).unwrap();
    let refused = || bridge.log().matches("reload-refused").count();
    let before = refused();
    std::fs::write(bridge.config(), "this is no toml").unwrap();
    signal(bridge.pid(), "HUP");
    eventually("the bad file is refused", 10, || refused() > before);
    std::fs::write(bridge.config(), right).unwrap();
}

/// No new connection and no file can be opened, and those that were open are cut.
pub(crate) fn no_descriptors(bed: &mut Bed<'_>, rng: &mut StdRng) {
    let pid = bed.bridges[rng.random_range(0..2)].pid().to_string();
    let limit = |soft: &str| {
        let done = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={soft}:")]).status().unwrap();
        assert!(done.success());
    };
    limit("5");
    bed.wire.reset(1);
    pass(Duration::from_secs(2) + millis(rng, 0..2000));
    limit("1024");
}
