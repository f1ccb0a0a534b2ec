//! A connection, and how it is made: the core's bytes and replies go straight through a socket (`plain`).
use super::failure::Failure;
use super::plain::{Plain, Timeouts};
use super::tls;
use crate::config::{self, redis_url};
use crate::core::encode::Encoder;
use crate::core::reply::Reply;
use redis::{Client, ConnectionAddr, ConnectionInfo, ProtocolVersion, TlsCertificates};
use std::sync::Arc;
use std::time::Duration;

/// Makes connections as the configuration says.
#[derive(Clone, Debug)]
pub struct Connector {
    config: config::Redis,
}

/// One connection; one exchange at a time.
pub struct Connection {
    inner: Plain,
    /// Where to, for whoever is told that it fails.
    address: Arc<str>,
}

impl Connector {
    pub fn new(config: config::Redis) -> Self {
        Self { config }
    }

    /// Where Redis is, without secrets.
    pub fn address(&self) -> String {
        redis_url::endpoint(&self.config).map_or_else(|_| "redis.url".into(), |info| redis_url::address(&info))
    }

    /// Connects. The secrets' files are read anew each time, so that a rotated password is taken up.
    ///
    /// # Errors
    /// Why not, with the address.
    pub fn connect(&self) -> Result<Connection, Failure> {
        let info = self.info()?;
        let address = redis_url::address(&info);
        let inner = self.open(&info).map_err(|failure| failure.at(&address))?;
        Ok(Connection { inner, address: address.into() })
    }

    fn open(&self, info: &ConnectionInfo) -> Result<Plain, Failure> {
        let timeouts = Timeouts { connect: self.config.connect_timeout.0, response: self.config.response_timeout.0 };
        let (mut plain, without_tls) = match info.addr() {
            ConnectionAddr::Tcp(host, port) => (Plain::tcp(host, *port, timeouts)?, Some((host, *port))),
            ConnectionAddr::TcpTls { host, port, .. } => (Plain::tls(tls::connect(host, *port, timeouts, &self.config)?), None),
            ConnectionAddr::Unix(path) => (Plain::unix(path, timeouts)?, None),
            other => return Err(Failure::refused(format!("{other:?}"), "correct redis.url")),
        };
        match plain.greet(info.redis_settings()) {
            Ok(()) => Ok(plain),
            Err(hung_up) if hung_up.is_hang_up() && without_tls.is_some_and(|(host, port)| tls::speaks_tls(host, port, &self.config)) => {
                Err(Failure::refused("this port speaks TLS", "write rediss:// in place of redis://, or name Redis' other port"))
            }
            Err(failure) => Err(failure),
        }
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
        redis_url::endpoint(&self.config).map_err(|(key, why)| Failure::refused(format!("{key}: {why}"), "correct what the message names"))
    }
}

impl Connection {
    /// Sends encoded commands. On a failure nobody knows what was applied.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.inner.send(bytes).map_err(|f| f.at(&self.address))
    }

    /// Reads as many replies as commands were sent, which take that many bytes at least. On a failure nobody knows what was
    /// applied.
    pub fn receive(&mut self, replies: usize, bytes_min: usize) -> Result<Vec<Reply>, Failure> {
        self.inner.receive(replies, bytes_min).map_err(|f| f.at(&self.address))
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
