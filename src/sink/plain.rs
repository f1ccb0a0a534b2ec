//! The lane's fast way: a plain socket, and the core's own decoder of replies. A record of three writes has six replies,
//! and nearly all of them are `QUEUED`, `OK` or an id: the decoder takes those without an allocation, which a general
//! client can't (`make bench-core`). Over TLS redis-rs stays.
use super::connection::Failure;
use crate::core::encode::Encoder;
use crate::core::reply::{Reply, first_error};
use crate::core::resp::Decoder;
use redis::RedisConnectionInfo;
use std::io::{Error, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// One socket; one exchange at a time.
pub(super) struct Plain {
    socket: Box<dyn Socket>,
    decoder: Decoder,
}

trait Socket: Read + Write + Send {}
impl Socket for TcpStream {}
impl Socket for UnixStream {}

/// How long making a connection, and one read or write on it, may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    pub connect: Duration,
    pub response: Duration,
}

impl Plain {
    /// Connects to the first address of a host that answers.
    pub(super) fn tcp(host: &str, port: u16, timeouts: Timeouts) -> Result<Self, Failure> {
        let mut last = Error::new(ErrorKind::NotFound, format!("{host} has no address"));
        for address in (host, port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, timeouts.connect) {
                Ok(socket) => {
                    socket.set_nodelay(true)?;
                    socket.set_read_timeout(Some(timeouts.response))?;
                    socket.set_write_timeout(Some(timeouts.response))?;
                    return Ok(Self::new(Box::new(socket)));
                }
                Err(e) => last = e,
            }
        }
        Err(last.into())
    }

    pub(super) fn unix(path: &Path, timeouts: Timeouts) -> Result<Self, Failure> {
        let socket = UnixStream::connect(path)?;
        socket.set_read_timeout(Some(timeouts.response))?;
        socket.set_write_timeout(Some(timeouts.response))?;
        Ok(Self::new(Box::new(socket)))
    }

    fn new(socket: Box<dyn Socket>) -> Self {
        Self { socket, decoder: Decoder::default() }
    }

    /// Says who we are, and chooses the database.
    pub(super) fn greet(&mut self, settings: &RedisConnectionInfo) -> Result<(), Failure> {
        let mut out = Encoder::default();
        if let Some(password) = settings.password() {
            let user = settings.username().map(str::as_bytes);
            out.command(&[Some(b"AUTH".as_slice()), user, Some(password.as_bytes())].into_iter().flatten().collect::<Vec<_>>());
        }
        if settings.db() != 0 {
            out.command(&[b"SELECT", settings.db().to_string().as_bytes()]);
        }
        // What a server says only to a connection that may use it shows before anything else is sent.
        out.command(&["PING"]);
        self.send(out.bytes())?;
        let replies = self.receive(out.commands())?;
        match first_error(&replies) {
            // Who may not PING may still do all that is needed.
            Some(error) if !error.contains("'ping'") => Err(Failure::reply(error)),
            _ => Ok(()),
        }
    }

    /// Sends encoded commands.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.socket.write_all(bytes).map_err(slow)?)
    }

    /// Reads that many replies.
    pub(super) fn receive(&mut self, count: usize) -> Result<Vec<Reply>, Failure> {
        let mut replies = Vec::with_capacity(count);
        while replies.len() < count {
            let n = match self.socket.read(self.decoder.spare_mut()) {
                Ok(0) => return Err(closed(replies.pop())),
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(slow(e).into()),
            };
            self.decoder.filled(n);
            self.decoder.decode(&mut replies).map_err(|e| Failure::unreachable(e.to_string()))?;
        }
        if replies.len() > count || !self.decoder.is_empty() {
            return Err(Failure::unreachable(format!("{count} replies were expected, and more came")));
        }
        Ok(replies)
    }
}

/// Redis hangs up; it may have said why.
fn closed(last: Option<Reply>) -> Failure {
    let reason = if let Some(Reply::Error(error)) = last { error } else { "Redis closed the connection".into() };
    Failure::unreachable(reason)
}

/// A timeout in words: a blocking socket reports it as `WouldBlock`.
fn slow(e: Error) -> Error {
    match e.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::new(ErrorKind::TimedOut, "no answer within redis.response_timeout"),
        _ => e,
    }
}
