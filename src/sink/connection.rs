//! A connection, and how it is made: the URL and TLS are redis-rs' own; over TCP and unix sockets the core's bytes and
//! replies go straight through (`plain`).
use super::plain::{Plain, Timeouts};
use crate::config;
use crate::core::encode::Encoder;
use crate::core::reply::{Class, Reply, triage};
use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, ProtocolVersion, TlsCertificates, Value};
use std::fmt;
use std::time::Duration;

/// Why a connection could not be made or used. It is not used again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: String,
    pub kind: Kind,
}

/// What it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No connection, or no answer.
    Unreachable,
    /// The server answers that it takes nothing for now. Some of that it says to a PING already: LOADING, BUSY, MISCONF.
    Refuses,
    /// The server refuses who we are: waiting does not help.
    Refused,
}

impl Failure {
    /// The conditions that a failure may be: all are over once a connection is made.
    pub const CODES: [&str; 3] = ["redis-unreachable", "redis-refuses", "redis-refused"];

    pub fn unreachable(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), kind: Kind::Unreachable }
    }

    /// From an error reply.
    pub fn reply(error: &str) -> Self {
        let kind = match triage(error) {
            _ if error.contains("AUTH") => Kind::Refused,
            // It hangs up with these words.
            _ if error.contains("max number of clients reached") => Kind::Unreachable,
            Class::Permission => Kind::Refused,
            Class::Transient | Class::Capacity => Kind::Refuses,
            Class::Permanent | Class::Unknown => Kind::Unreachable,
        };
        Self { reason: error.into(), kind }
    }

    /// The condition that it is.
    pub fn code(&self) -> &'static str {
        self.kind.code()
    }
}

impl Kind {
    /// The condition that it is.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unreachable => "redis-unreachable",
            Self::Refuses => "redis-refuses",
            Self::Refused => "redis-refused",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl From<redis::RedisError> for Failure {
    fn from(e: redis::RedisError) -> Self {
        let kind = match e.code() {
            _ if e.kind() == redis::ErrorKind::AuthenticationFailed => Kind::Refused,
            Some(code) => Self::reply(&format!("{code} {}", e.detail().unwrap_or_default())).kind,
            None => Kind::Unreachable,
        };
        Self { reason: e.to_string(), kind }
    }
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        Self::unreachable(e.to_string())
    }
}

/// Makes connections as the configuration says.
#[derive(Clone, Debug)]
pub struct Connector {
    config: config::Redis,
}

/// One connection; one exchange at a time.
pub struct Connection(Way);

enum Way {
    Plain(Plain),
    Tls(Box<redis::Connection>),
}

impl Connector {
    pub fn new(config: config::Redis) -> Self {
        Self { config }
    }

    /// Connects. The secrets' files are read anew each time, so that a rotated password is taken up.
    pub fn connect(&self) -> Result<Connection, Failure> {
        let info = self.info()?;
        let timeouts = Timeouts { connect: self.config.connect_timeout.0, response: self.config.response_timeout.0 };
        let mut plain = match info.addr() {
            ConnectionAddr::Tcp(host, port) => Plain::tcp(host, *port, timeouts)?,
            ConnectionAddr::Unix(path) => Plain::unix(path, timeouts)?,
            _ => return self.connect_tls(info, timeouts),
        };
        plain.greet(info.redis_settings())?;
        Ok(Connection(Way::Plain(plain)))
    }

    fn connect_tls(&self, info: ConnectionInfo, timeouts: Timeouts) -> Result<Connection, Failure> {
        let inner = self.tls_client(info)?.get_connection_with_timeout(timeouts.connect)?;
        inner.set_read_timeout(Some(timeouts.response))?;
        inner.set_write_timeout(Some(timeouts.response))?;
        Ok(Connection(Way::Tls(Box::new(inner))))
    }

    fn tls_client(&self, info: ConnectionInfo) -> Result<Client, Failure> {
        let c = &self.config;
        let read = |path: &String| if path.is_empty() { Ok(None) } else { std::fs::read(path).map(Some) };
        let client_tls = match (read(&c.cert_file)?, read(&c.key_file)?) {
            (Some(client_cert), Some(client_key)) => Some(redis::ClientTlsConfig { client_cert, client_key }),
            _ => None,
        };
        Ok(Client::build_with_tls(info, TlsCertificates { client_tls, root_cert: read(&c.ca_file)? })?)
    }

    /// A client of redis-rs' own, for the readers' side: its connections speak RESP3, so that pushed messages and replies come
    /// in one order.
    pub fn client(&self) -> Result<Client, Failure> {
        let info = self.info()?;
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let info = info.set_redis_settings(settings);
        match info.addr() {
            ConnectionAddr::TcpTls { .. } => self.tls_client(info),
            _ => Ok(Client::open(info)?),
        }
    }

    /// How long a connection may take to be made.
    pub fn connect_timeout(&self) -> Duration {
        self.config.connect_timeout.0
    }

    /// How long a whole answer may take.
    pub fn response_timeout(&self) -> Duration {
        self.config.response_timeout.0
    }

    /// Where to, and as whom.
    fn info(&self) -> Result<ConnectionInfo, Failure> {
        let c = &self.config;
        let info: ConnectionInfo = c.url.0.as_str().into_connection_info()?;
        let mut redis = info.redis_settings().clone();
        if !c.user.is_empty() {
            redis = redis.set_username(&c.user);
        }
        if !c.password_file.is_empty() {
            let password = std::fs::read_to_string(&c.password_file)
                .map_err(|e| Failure { reason: format!("redis.password_file {:?}: {e}", c.password_file), kind: Kind::Refused })?;
            redis = redis.set_password(password.trim_end_matches(['\r', '\n']));
        } else if !c.password.0.is_empty() {
            redis = redis.set_password(&c.password.0);
        }
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        Ok(info.set_redis_settings(redis).set_tcp_settings(tcp))
    }
}

impl Connection {
    /// Sends encoded commands. On a failure nobody knows what was applied.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match &mut self.0 {
            Way::Plain(plain) => plain.send(bytes),
            Way::Tls(inner) => Ok(inner.send_packed_command(bytes)?),
        }
    }

    /// Reads as many replies as commands were sent, which take that many bytes at least. On a failure nobody knows what was
    /// applied.
    pub fn receive(&mut self, replies: usize, bytes_min: usize) -> Result<Vec<Reply>, Failure> {
        match &mut self.0 {
            Way::Plain(plain) => plain.receive(replies, bytes_min),
            Way::Tls(inner) => (0..replies).map(|_| Ok(reply(inner.recv_response()?))).collect(),
        }
    }

    /// Sends encoded commands and reads that many replies.
    pub fn exchange(&mut self, bytes: &[u8], replies: usize) -> Result<Vec<Reply>, Failure> {
        self.send(bytes)?;
        self.receive(replies, 1)
    }

    /// One command, one reply.
    pub fn command<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<Reply, Failure> {
        let mut out = Encoder::default();
        out.command(args);
        Ok(self.exchange(out.bytes(), 1)?.pop().unwrap_or(Reply::Nil))
    }
}

fn reply(value: Value) -> Reply {
    match value {
        Value::Nil => Reply::Nil,
        Value::Int(n) => Reply::Int(n),
        Value::BulkString(bytes) => Reply::Text(bytes.into()),
        Value::SimpleString(text) => Reply::Text(text.into_bytes().into()),
        Value::Okay => Reply::OK,
        Value::Array(items) | Value::Set(items) => Reply::Array(items.into_iter().map(reply).collect()),
        Value::Map(pairs) => Reply::Array(pairs.into_iter().flat_map(|(k, v)| [reply(k), reply(v)]).collect()),
        Value::ServerError(e) => Reply::Error(match e.details() {
            Some(details) => format!("{} {details}", e.code()),
            None => e.code().to_owned(),
        }),
        other => Reply::Text(format!("{other:?}").into_bytes().into()),
    }
}
