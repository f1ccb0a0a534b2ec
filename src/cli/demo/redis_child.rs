//! A redis-server of the demo's own: on a free loopback port, without files, ended with the demo.
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to answer.
const START_MAX: Duration = Duration::from_secs(10);

pub(super) struct RedisChild {
    child: Child,
    pub(super) port: u16,
}

impl RedisChild {
    pub(super) fn start() -> Result<Self, String> {
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).map_err(|e| e.to_string())?.port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .current_dir(std::env::temp_dir())
            // Ctrl-C reaches every process of a terminal's group; this one must outlive the drain.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("redis-server can't be started ({e}): install it (apt-get install redis-server), or give --redis URL"))?;
        let mut started = Self { child, port };
        let until = Instant::now() + START_MAX;
        while !started.answers() {
            if started.child.try_wait().is_ok_and(|ended| ended.is_some()) || Instant::now() > until {
                return Err(format!("redis-server on port {port} does not answer"));
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(started)
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    fn answers(&self) -> bool {
        let asked = redis::Client::open(self.url()).and_then(|c| c.get_connection_with_timeout(Duration::from_secs(1)));
        asked.is_ok_and(|mut c| redis::cmd("PING").query::<String>(&mut c).is_ok())
    }
}

impl Drop for RedisChild {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
