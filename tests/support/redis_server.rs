//! A Redis of a test's own: on a free port, ended with the test.
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Which server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Debian's, 7.0 or later.
    System,
    Redis62,
    Valkey81,
}

pub(crate) struct RedisServer {
    pub(crate) port: u16,
    pub(crate) dir: TempDir,
    kind: Kind,
    args: Vec<String>,
    child: Option<Child>,
}

impl RedisServer {
    pub(crate) fn start() -> Self {
        Self::with(Kind::System, &[])
    }

    /// With more arguments, as `["--appendonly", "yes"]`.
    pub(crate) fn with(kind: Kind, args: &[&str]) -> Self {
        let mut server =
            Self { port: super::free_port(), dir: tempfile::tempdir().unwrap(), kind, args: args.iter().map(|a| (*a).to_owned()).collect(), child: None };
        server.run();
        server
    }

    fn binary(&self) -> PathBuf {
        let bed = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/testbed");
        match self.kind {
            Kind::System => "redis-server".into(),
            Kind::Redis62 => bed.join("redis-6.2/redis-server"),
            Kind::Valkey81 => bed.join("valkey-8.1/valkey-server"),
        }
    }

    /// Starts it (again), and waits until it answers.
    pub(crate) fn run(&mut self) {
        let child = Command::new(self.binary())
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"])
            .arg("--dir")
            .arg(self.dir.path())
            .args(&self.args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a redis-server: scripts/install test");
        self.child = Some(child);
        if !self.args.iter().any(|a| a == "--tls-port" || a == "--user") {
            super::eventually("Redis answers", 10, || self.try_connect().is_some());
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    fn try_connect(&self) -> Option<redis::Connection> {
        let mut c = redis::Client::open(self.url()).ok()?.get_connection().ok()?;
        redis::cmd("PING").query::<String>(&mut c).ok().map(|_| c)
    }

    pub(crate) fn connect(&self) -> redis::Connection {
        self.try_connect().expect("Redis answers")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
