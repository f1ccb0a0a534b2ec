//! A Redis of a test's own: on a free port, ended with the test.
use super::process::Process;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// How long a test waits for an answer, or a message.
const ANSWER: Duration = Duration::from_secs(60);

/// Which server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Debian's, 7.0 or later.
    System,
    Redis62,
    Valkey81,
}

/// A stream's entries: id, fields.
pub(crate) type Entries<V> = Vec<(String, Vec<(String, V)>)>;

pub(crate) struct RedisServer {
    pub(crate) port: u16,
    pub(crate) dir: TempDir,
    kind: Kind,
    args: Vec<String>,
    /// Where it listens.
    host: String,
    /// The network namespace that it runs in, where that is another one.
    namespace: Option<String>,
    child: Option<Process>,
    /// One that was given, in place of a server of the test's own.
    given: Option<String>,
}

impl RedisServer {
    pub(crate) fn start() -> Self {
        Self::with(Kind::System, &[])
    }

    /// The one at `$REDIS_URL`, where that is set: its database must be empty, and is emptied again. Only for a test that
    /// neither kills it nor changes its configuration.
    pub(crate) fn given_or_start() -> Self {
        let Ok(url) = std::env::var("REDIS_URL") else { return Self::start() };
        let mut server = Self::reserve(Kind::System, &[]);
        server.given = Some(url);
        let size: i64 = redis::cmd("DBSIZE").query(&mut server.connect()).unwrap();
        assert_eq!(size, 0, "the database at $REDIS_URL is not empty: give another one, such as redis://127.0.0.1:6379/9");
        server
    }

    /// With more arguments, as `["--appendonly", "yes"]`.
    pub(crate) fn with(kind: Kind, args: &[&str]) -> Self {
        let mut server = Self::reserve(kind, args);
        server.run();
        super::eventually("Redis answers", 10, || server.try_connect().is_some());
        server
    }

    /// In a network namespace, at this address of it.
    pub(crate) fn within(namespace: &str, host: &str, args: &[&str]) -> Self {
        let mut server = Self::reserve(Kind::System, args);
        (server.host, server.namespace) = (host.to_owned(), Some(namespace.to_owned()));
        server.run();
        super::eventually("Redis answers", 10, || server.try_connect().is_some());
        server
    }

    /// Not started yet: [`Self::run`] does.
    pub(crate) fn reserve(kind: Kind, args: &[&str]) -> Self {
        Self {
            port: super::free_port(),
            dir: tempfile::tempdir().unwrap(),
            kind,
            args: args.iter().map(|a| (*a).to_owned()).collect(),
            host: "127.0.0.1".into(),
            namespace: None,
            child: None,
            given: None,
        }
    }

    fn binary(&self) -> PathBuf {
        let bed = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/testbed");
        match self.kind {
            Kind::System => "redis-server".into(),
            Kind::Redis62 => bed.join("redis-6.2/redis-server"),
            Kind::Valkey81 => bed.join("valkey-8.1/valkey-server"),
        }
    }

    /// Starts it (again).
    pub(crate) fn run(&mut self) {
        let mut command = match &self.namespace {
            None => Command::new(self.binary()),
            Some(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name]).arg(self.binary());
                command
            }
        };
        command
            .args(["--port", &self.port.to_string(), "--bind", &self.host, "--save", "", "--daemonize", "no"])
            .arg("--dir")
            .arg(self.dir.path())
            .args(&self.args)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.child = Some(Process::start(&mut command));
    }

    pub(crate) fn url(&self) -> String {
        self.given.clone().unwrap_or_else(|| format!("redis://{}:{}/0", self.host, self.port))
    }

    pub(crate) fn try_connect(&self) -> Option<redis::Connection> {
        let mut c = redis::Client::open(self.url()).ok()?.get_connection().ok()?;
        c.set_read_timeout(Some(ANSWER)).ok()?;
        redis::cmd("PING").query::<String>(&mut c).ok().map(|_| c)
    }

    pub(crate) fn connect(&self) -> redis::Connection {
        self.try_connect().expect("Redis answers")
    }

    /// All entries of a stream, oldest first.
    pub(crate) fn entries<V: redis::FromRedisValue>(&self, key: &str) -> Entries<V> {
        redis::cmd("XRANGE").arg(key).arg("-").arg("+").query(&mut self.connect()).unwrap()
    }

    /// One command without an answer that matters.
    pub(crate) fn command(&self, words: &str) {
        let mut words = words.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        words.for_each(|w| _ = command.arg(w));
        command.query::<redis::Value>(&mut self.connect()).unwrap();
    }

    /// What an operator must do about an append-only file whose end a kill has torn (docs/reliability.md): once it is
    /// loaded, have it written anew.
    pub(crate) fn write_file_anew(&self) {
        super::eventually("Redis has loaded what is left", 60, || self.try_connect().is_some());
        let mut c = self.connect();
        let _ = redis::cmd("BGREWRITEAOF").query::<redis::Value>(&mut c);
        super::eventually("its file is written anew", 60, || {
            let info = redis::cmd("INFO").arg("persistence").query::<String>(&mut c).unwrap();
            ["aof_rewrite_in_progress:0", "aof_rewrite_scheduled:0", "aof_last_bgrewrite_status:ok"].iter().all(|i| info.contains(i))
        });
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub(crate) fn kill(&mut self) {
        self.child = None;
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if self.given.is_some() {
            self.command("FLUSHDB");
        }
    }
}
