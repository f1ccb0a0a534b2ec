//! Servers, the daemon as a process, faults between them, and the comparison of exact sequences.
pub(crate) mod bed;
pub(crate) mod certificates;
pub(crate) mod command;
pub(crate) mod daemon;
pub(crate) mod http;
pub(crate) mod kafka;
pub(crate) mod kafka_server;
pub(crate) mod letters;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod redis_server;
pub(crate) mod sequence;
pub(crate) mod watchdog;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Waits for a condition, looking every 20 ms; panics with `what` after `secs`.
pub(crate) fn eventually(what: &str, secs: u64, mut holds: impl FnMut() -> bool) {
    let _waiting = watchdog::waiting(what);
    let until = Instant::now() + Duration::from_secs(secs);
    while !holds() {
        assert!(Instant::now() < until, "not within {secs} s: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Lets so much time go by: how long a fault lasts, never how long something is thought to take.
pub(crate) fn pass(time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|l| !l.is_zero()) {
        std::thread::park_timeout(left);
    }
}

/// A free port on loopback, given to nobody else: below those that the system gives to connections and to who asks for any (32768 by
/// default), each once in this process, whose neighbours begin elsewhere.
pub(crate) fn free_port() -> u16 {
    const FIRST: u32 = 10_240;
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    watchdog::watch();
    let begin = std::process::id().wrapping_mul(997);
    loop {
        let nth = begin.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST + nth % (32_768 - FIRST)).unwrap();
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A name that no other test has.
pub(crate) fn unique(base: &str) -> String {
    watchdog::watch();
    format!("{base}-{:08x}", rand::random::<u32>())
}

/// Sends a signal.
pub(crate) fn signal(pid: u32, name: &str) {
    let done = process::output(std::process::Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()));
    assert!(done.status.success());
}

/// What the kernel says of a process under a name of proc_pid_status(5).
pub(crate) fn process_status(pid: u32, name: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|l| Some(l.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned())).unwrap()
}

/// A figure of its memory, as `VmRSS`, in KiB.
pub(crate) fn memory_kib(pid: u32, figure: &str) -> u64 {
    process_status(pid, figure).trim_end_matches(" kB").parse().unwrap()
}
