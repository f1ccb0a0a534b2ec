//! A test that does not end is ended, and says what it waited for.
use crate::support::daemon::Setup;
use crate::support::process::{self, Lines, Process};
use crate::support::watchdog::LIMIT_VARIABLE;
use crate::support::{eventually, watchdog};
use std::process::{Command, Stdio};

const NAME: &str = "watchdog::a_test_that_does_not_end_is_ended_by_name_with_its_bridges_log";

#[test]
fn a_test_that_does_not_end_is_ended_by_name_with_its_bridges_log() {
    if std::env::var(LIMIT_VARIABLE).is_ok() {
        return never_end();
    }
    // The same test, in a run of its own.
    let mut run = Command::new(std::env::current_exe().unwrap());
    let output = process::output(run.args(["--exact", NAME, "--nocapture"]).env(LIMIT_VARIABLE, "3").env("KAFKA_BOOTSTRAP", "127.0.0.1:1"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(101), "{out}{err}");
    let waits = "it has waited for: what never comes";
    for expected in [&format!("test {NAME} has not ended within 3 s"), waits, "code=\"redis-unreachable\""] {
        assert!(err.contains(expected), "missing: {expected}\nin:\n{err}");
    }
    let started: Vec<&str> = out.lines().filter_map(|l| l.rsplit_once("started ")).map(|(_, pid)| pid).collect();
    assert_eq!(started.len(), 2, "{out}");
    for pid in started {
        // Nobody waits for them any more but init, which may take its time.
        eventually("what it started has ended", 20, || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.is_empty() || status.contains("State:\tZ")
        });
    }
}

fn never_end() {
    let daemon = Setup::new("t", "redis://127.0.0.1:1/0").start();
    println!("\nstarted {}", daemon.pid());
    // One that has a process of its own.
    let mut shell = Process::start(Command::new("sh").args(["-c", "sleep 600 & echo $!; wait"]).stdout(Stdio::piped()));
    println!("\nstarted {}", Lines::of(shell.stdout.take().unwrap()).next("a process of its own").unwrap());
    eventually("the bridge has logged", 20, || daemon.log().contains("redis-unreachable"));
    let _waiting = watchdog::waiting("what never comes");
    loop {
        std::thread::park();
    }
}
