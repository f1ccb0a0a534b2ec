//! Ends the whole run where a test does not end: libtest has no limit of its own. It says which test, what that waits for and what
//! its bridges logged, and leaves no process behind.
//!
//! A test is watched from its first use of this support on, until its thread ends. libtest names each test's thread by the test.
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::time::{Duration, Instant};

/// How long a test may take, in seconds, in place of [`LIMIT`].
pub(crate) const LIMIT_VARIABLE: &str = "TEST_LIMIT_SECONDS";
const LIMIT: Duration = Duration::from_secs(180);
/// How many lines of each log are told.
const TAIL: usize = 100;

/// A test that runs.
#[derive(Debug)]
struct Running {
    since: Instant,
    /// What it waits for; when it began to, and whether that is over.
    waits: Option<(String, Instant, bool)>,
    logs: Vec<PathBuf>,
}

static RUNNING: Mutex<BTreeMap<String, Running>> = Mutex::new(BTreeMap::new());

thread_local! {
    static TEST: Test = Test::begin();
}

/// The test whose thread this is, if it is a test's.
struct Test(Option<String>);

impl Test {
    fn begin() -> Self {
        // Each test is in a module. The main thread, and helpers, are not.
        let Some(name) = std::thread::current().name().filter(|name| name.contains("::")).map(str::to_owned) else { return Self(None) };
        RUNNING.lock().insert(name.clone(), Running { since: Instant::now(), waits: None, logs: Vec::new() });
        static STARTED: Once = Once::new();
        STARTED.call_once(|| _ = std::thread::spawn(keep_watch));
        Self(Some(name))
    }
}

impl Drop for Test {
    fn drop(&mut self) {
        self.0.iter().for_each(|name| _ = RUNNING.lock().remove(name));
    }
}

/// Changes what is known of this thread's test. Nothing happens on a thread that is no test's, or that ends.
fn of_this_test(change: impl FnOnce(&mut Running)) {
    let _ = TEST.try_with(|test| test.0.as_ref().and_then(|name| RUNNING.lock().get_mut(name).map(change)));
}

/// This test is watched from now on.
pub(crate) fn watch() {
    of_this_test(|_| {});
}

/// A bridge of this test logs there.
pub(crate) fn logs_to(path: &Path) {
    of_this_test(|test| test.logs.push(path.to_owned()));
}

/// This test waits for something, until what is returned is dropped.
pub(crate) fn waiting(what: &str) -> Waiting {
    of_this_test(|test| test.waits = Some((what.to_owned(), Instant::now(), false)));
    Waiting
}

pub(crate) struct Waiting;

impl Drop for Waiting {
    fn drop(&mut self) {
        of_this_test(|test| test.waits.iter_mut().for_each(|(_, _, over)| *over = true));
    }
}

fn keep_watch() {
    let limit = std::env::var(LIMIT_VARIABLE).map_or(LIMIT, |secs| Duration::from_secs(secs.parse().expect("seconds")));
    loop {
        std::thread::park_timeout(Duration::from_millis(200));
        let told = RUNNING.lock().iter().find(|(_, test)| test.since.elapsed() > limit).map(|(name, test)| tell(name, test, limit));
        if let Some(told) = told {
            // Not by a macro: what those print is held back as long as the test runs.
            let _ = std::io::stderr().write_all(told.as_bytes());
            kill_descendants();
            // As a test that failed.
            std::process::exit(101);
        }
    }
}

fn tell(name: &str, test: &Running, limit: Duration) -> String {
    let waits = match &test.waits {
        None => "it waited for nothing so far".to_owned(),
        Some((what, since, false)) => format!("for {} s it has waited for: {what}", since.elapsed().as_secs()),
        Some((what, _, true)) => format!("what it waited for last has come: {what}"),
    };
    let mut told = format!("\ntest {name} has not ended within {} s, and ends the run; {waits}\n", limit.as_secs());
    for path in &test.logs {
        let log = std::fs::read(path).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        told += &format!("--- {}, the end of {} lines ---\n{}\n", path.display(), lines.len(), lines[lines.len().saturating_sub(TAIL)..].join("\n"));
    }
    told + "--- the files stay where they are ---\n"
}

/// Kills the processes that this one has started, and those that they have.
fn kill_descendants() {
    let parent = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before it is in parentheses, and may hold any.
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<u32>().ok()
    };
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    let parents: Vec<(u32, u32)> = processes.filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut found = BTreeSet::from([std::process::id()]);
    while let Some((pid, _)) = parents.iter().find(|(pid, parent)| found.contains(parent) && !found.contains(pid)) {
        found.insert(*pid);
    }
    found.remove(&std::process::id());
    if !found.is_empty() {
        let _ = Command::new("kill").arg("-KILL").args(found.iter().map(u32::to_string)).status();
    }
}
