//! The bridge as a process, configured by a file, ended with the test.
use super::process::Process;
use super::{free_port, kafka, signal, unique, watchdog};
use kafka_redis_bridge::ops::status::Status;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A configuration to be: the parts that tests vary, over the reference routes without trimming.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) group: String,
    pub(crate) topic: String,
    pub(crate) redis: String,
    /// More TOML: sections before the routes.
    pub(crate) extra: String,
    pub(crate) brokers: String,
    /// More settings of `[redis]`.
    pub(crate) redis_extra: String,
    /// More properties of Kafka.
    pub(crate) properties: Vec<(String, String)>,
    pub(crate) routes: String,
}

impl Setup {
    pub(crate) fn new(topic: &str, redis: &str) -> Self {
        Self {
            group: unique("group"),
            topic: topic.into(),
            redis: redis.into(),
            brokers: kafka::bootstrap(),
            extra: "[dead_letter]\nstream = \"bridge:dead\"\n".into(),
            redis_extra: String::new(),
            properties: vec![("topic.metadata.refresh.interval.ms".into(), "1000".into())],
            routes: format!(
                "[[route]]\nname = \"volatility\"\ntopics = [\"{topic}\"]\n\
                 [[route.write]]\nxadd = {{ key = \"volatility:{{key}}\", fields = \"*\" }}\n\
                 [[route.write]]\nsetex = {{ key = \"latest:{{key}}\", ttl = \"1h\", value = \"{{payload}}\" }}\n\
                 [[route.write]]\npublish = {{ channel = \"updates:{{key}}\", message = \"{{payload}}\" }}\n"
            ),
        }
    }

    pub(crate) fn extra(mut self, toml: &str) -> Self {
        self.extra = toml.into();
        self
    }

    pub(crate) fn routes(mut self, toml: &str) -> Self {
        self.routes = toml.replace("TOPIC", &self.topic);
        self
    }

    pub(crate) fn redis_extra(mut self, toml: &str) -> Self {
        self.redis_extra = toml.into();
        self
    }

    pub(crate) fn brokers(mut self, brokers: &str) -> Self {
        self.brokers = brokers.into();
        self
    }

    /// Without the properties that shorten the tests.
    pub(crate) fn without_properties(mut self) -> Self {
        self.properties.clear();
        self
    }

    pub(crate) fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.retain(|(n, _)| n != name);
        self.properties.push((name.into(), value.into()));
        self
    }

    pub(crate) fn toml(&self, http: u16) -> String {
        let properties: String = self.properties.iter().map(|(n, v)| format!("\"{n}\" = \"{v}\"\n")).collect();
        format!(
            "[kafka]\nbrokers = [\"{}\"]\ngroup = \"{}\"\n[kafka.properties]\n{properties}\n[redis]\nurl = \"{}\"\n{}\n[http]\nlisten = \"127.0.0.1:{http}\"\n{}\n{}",
            self.brokers, self.group, self.redis, self.redis_extra, self.extra, self.routes
        )
    }

    pub(crate) fn start(&self) -> Daemon {
        Daemon::start(self, &[], &[])
    }

    /// Through a command that becomes the bridge, as `prlimit`.
    pub(crate) fn start_under(&self, wrapper: &[&str]) -> Daemon {
        Daemon::start(self, wrapper, &[])
    }

    /// With more in its environment.
    pub(crate) fn start_with(&self, env: &[(&str, &str)]) -> Daemon {
        Daemon::start(self, &[], env)
    }
}

pub(crate) struct Daemon {
    child: Process,
    pub(crate) http: u16,
    pub(crate) dir: TempDir,
}

pub(crate) fn binary() -> PathBuf {
    env!("CARGO_BIN_EXE_kafka-redis-bridge").into()
}

impl Daemon {
    fn start(setup: &Setup, wrapper: &[&str], env: &[(&str, &str)]) -> Self {
        let http = free_port();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("bridge.toml"), setup.toml(http)).unwrap();
        watchdog::logs_to(&dir.path().join("log"));
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let bridge = binary();
        let mut words = wrapper.iter().map(OsStr::new).chain([bridge.as_os_str()]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).arg("--config").arg(dir.path().join("bridge.toml")).arg("run").stdout(Stdio::null()).stderr(log);
        let child = Process::start(command.envs(env.iter().copied()));
        Self { child, http, dir }
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("bridge.toml")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn get(&self, path: &str) -> Option<String> {
        kafka_redis_bridge::cli::status::fetch(&format!("127.0.0.1:{}", self.http), path).ok()
    }

    pub(crate) fn status(&self) -> Option<Status> {
        serde_json::from_str(&self.get("/status")?).ok()
    }

    pub(crate) fn wait_ready(&self) {
        super::eventually("the bridge is ready", 40, || self.status().is_some_and(|s| s.ready));
    }

    /// Waits for a condition.
    pub(crate) fn wait_holds(&self, code: &str) {
        super::eventually(&format!("the condition {code} holds"), 40, || self.holds(code));
    }

    /// Waits until that many records are settled in all partitions together.
    pub(crate) fn wait_settled(&self, records: i64) {
        super::eventually(&format!("{records} records are settled"), 60, || self.settled() >= records);
    }

    /// The message of a condition that holds.
    pub(crate) fn message(&self, code: &str) -> String {
        self.status().into_iter().flat_map(|s| s.conditions).find(|c| c.code == code).map(|c| c.message).unwrap_or_default()
    }

    pub(crate) fn holds(&self, code: &str) -> bool {
        self.status().is_some_and(|s| s.conditions.iter().any(|c| c.code == code))
    }

    /// The sum of all positions.
    pub(crate) fn settled(&self) -> i64 {
        self.status().map_or(0, |s| s.partitions.iter().filter_map(|p| p.position).sum())
    }

    /// How many partitions are open here.
    pub(crate) fn open(&self) -> usize {
        self.status().map_or(0, |s| s.partitions.iter().filter(|p| p.phase == "open").count())
    }

    /// Waits until none of its partitions is being claimed: a drain before that ends with 75, for what came of the last batch is
    /// then left to the next owner.
    pub(crate) fn wait_all_open(&self) {
        super::eventually("all its partitions are open", 30, || self.status().is_some_and(|s| s.partitions.iter().all(|p| p.phase == "open")));
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.ended();
    }

    /// SIGTERM; the exit code.
    pub(crate) fn stop(&mut self) -> i32 {
        signal(self.pid(), "TERM");
        self.exit_code(30)
    }

    pub(crate) fn exit_code(&mut self, secs: u64) -> i32 {
        let mut code = None;
        super::eventually("the bridge ends", secs, || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        });
        code.unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the bridge's log ---\n{}--- its status ---\n{}", self.log(), self.status().map(|s| s.to_string()).unwrap_or_default());
        }
    }
}
