//! A configuration by which commands are run to their end, with or without a bridge beside.
use super::daemon::{Setup, binary};
use super::eventually;
use super::process::{self, Process};
use super::redis_server::RedisServer;
use super::{kafka, watchdog};
use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A configuration by which commands are run, with or without a bridge beside.
pub(crate) struct Bed {
    pub(crate) redis: RedisServer,
    pub(crate) topic: String,
    pub(crate) setup: Setup,
    pub(crate) dir: TempDir,
}

impl Bed {
    pub(crate) fn new(partitions: i32) -> Self {
        let (redis, topic) = (RedisServer::start(), kafka::topic("ticks", partitions));
        let setup = Setup::new(&topic, &redis.url());
        Self { redis, topic, setup, dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn with(partitions: i32, routes: &str) -> Self {
        let mut bed = Self::new(partitions);
        bed.setup = bed.setup.clone().routes(routes);
        bed
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let file = self.dir.path().join("bridge.toml");
        std::fs::write(&file, self.setup.toml(1)).unwrap();
        let mut command = Command::new(binary());
        command.arg("--config").arg(file).args(arguments).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        process::output(&mut self.command(arguments))
    }

    /// To its end, which must be this exit code; what was said.
    pub(crate) fn expect(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
        said(&output)
    }

    pub(crate) fn replay(&self, arguments: &[&str]) -> String {
        self.expect(0, &[&["replay", "--yes"], arguments].concat())
    }

    /// On a terminal at which a person types this; what they see.
    pub(crate) fn on_terminal(&self, arguments: &[&str], typed: &str) -> Output {
        let command = self.command(arguments);
        let words = std::iter::once(command.get_program()).chain(command.get_args()).map(|w| w.to_string_lossy().into_owned());
        let line = words.collect::<Vec<_>>().join(" ");
        let mut script = Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Process::start(&mut script);
        // Open until the end: a person does not hang up.
        let mut keyboard = child.stdin.take().unwrap();
        keyboard.write_all(typed.as_bytes()).unwrap();
        keyboard.flush().unwrap();
        let output = child.into_output();
        drop(keyboard);
        output
    }

    /// With fetches so small that most of a topic is yet to be fetched when a job is under way.
    pub(crate) fn fetching_little(mut self) -> Self {
        self.setup = self.setup.clone().property("queued.max.messages.kbytes", "16").property("fetch.message.max.bytes", "8192");
        self
    }

    /// In the background.
    pub(crate) fn start(&self, arguments: &[&str]) -> Process {
        let path = self.dir.path().join("log");
        watchdog::logs_to(&path);
        let log = std::fs::File::create(path).unwrap();
        Process::start(self.command(arguments).stdout(log.try_clone().unwrap()).stderr(log))
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn jobs(&self) -> Vec<String> {
        redis::cmd("SMEMBERS").arg("bridge:jobs").query(&mut self.redis.connect()).unwrap()
    }

    /// Until the only job stands in Redis: from then on no record that is produced is of its range.
    pub(crate) fn wait_begun(&self) {
        eventually("the job is begun", 40, || !self.jobs().is_empty());
    }

    /// The only job.
    pub(crate) fn job(&self) -> String {
        let mut names = self.jobs();
        assert_eq!(names.len(), 1);
        names.remove(0)
    }

    pub(crate) fn get(&self, key: &str) -> Option<String> {
        redis::cmd("GET").arg(key).query(&mut self.redis.connect()).unwrap()
    }

    /// How many entries the ticks' streams have.
    pub(crate) fn entries(&self, keys: u64) -> usize {
        let mut c = self.redis.connect();
        (0..keys).map(|k| redis::cmd("XLEN").arg(format!("volatility:P{k}/USD")).query::<usize>(&mut c).unwrap()).sum()
    }

    pub(crate) fn count(&self, name: &str) -> i64 {
        let found: Option<i64> = redis::cmd("HGET").arg(format!("bridge:job:{}:counts", self.job())).arg(name).query(&mut self.redis.connect()).unwrap();
        found.unwrap_or(0)
    }
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
