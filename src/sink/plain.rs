//! The lane's fast way: a socket, and the core's own decoder of replies. A record of three writes has six replies,
//! and nearly all of them are `QUEUED`, `OK` or an id: the decoder takes those without an allocation, which a general
//! client can't (`make bench-core`).
use super::failure::{Failure, HUNG_UP};
use super::{low_water, tls};
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
    /// At how many bytes a read wakes up.
    wakes_at: usize,
    /// Bytes of the commands whose replies are awaited.
    sent: usize,
}

/// A read sleeps at most until Redis has answered so many bytes of commands: it reads and answers 16 KiB at a time. Each answer is
/// a packet, and who does not read acknowledges late; a Redis that has ten packets on their way waits for that.
const SLEEP_MAX: usize = 64 << 10;
/// Below this a mark spares no wake-up: the replies to 16 KiB of commands are some hundred bytes.
const MARK_MIN: usize = 512;

trait Socket: Read + Write + Send {
    /// Wakes a reader at so many bytes; nothing where that makes no difference.
    fn wake_at(&self, _bytes: usize) -> std::io::Result<()> {
        Ok(())
    }
}
impl Socket for TcpStream {
    fn wake_at(&self, bytes: usize) -> std::io::Result<()> {
        low_water::set(self, bytes)
    }
}
// Whoever writes to one of these wakes its reader each time.
impl Socket for UnixStream {}
// What comes is read for its records first.
impl Socket for tls::Stream {}

/// How long making a connection, and one read or write on it, may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    pub connect: Duration,
    pub response: Duration,
}

impl Plain {
    pub(super) fn tcp(host: &str, port: u16, timeouts: Timeouts) -> Result<Self, Failure> {
        Ok(Self::new(Box::new(tcp(host, port, timeouts)?)))
    }

    pub(super) fn unix(path: &Path, timeouts: Timeouts) -> Result<Self, Failure> {
        let socket = UnixStream::connect(path).map_err(|e| match e.kind() {
            ErrorKind::PermissionDenied => Failure::refused(e.to_string(), "let this user read and write the socket (unixsocketperm)"),
            _ => e.into(),
        })?;
        socket.set_read_timeout(Some(timeouts.response))?;
        socket.set_write_timeout(Some(timeouts.response))?;
        Ok(Self::new(Box::new(socket)))
    }

    pub(super) fn tls(socket: tls::Stream) -> Self {
        Self::new(Box::new(socket))
    }

    fn new(socket: Box<dyn Socket>) -> Self {
        Self { socket, decoder: Decoder::default(), wakes_at: 1, sent: 0 }
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
        let replies = self.receive(out.commands(), 1)?;
        match first_error(&replies) {
            // Who may not PING may still do all that is needed.
            Some(error) if !error.contains("'ping'") => Err(Failure::reply(error)),
            _ => Ok(()),
        }
    }

    /// Sends encoded commands.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.sent = bytes.len();
        Ok(self.socket.write_all(bytes).map_err(slow)?)
    }

    fn wake_at(&mut self, bytes: usize) -> Result<(), Failure> {
        if self.wakes_at != bytes {
            self.socket.wake_at(bytes)?;
            self.wakes_at = bytes;
        }
        Ok(())
    }

    /// Reads that many replies. Where they take many bytes at least, it sleeps for several of Redis' answers at a time
    /// ([`SLEEP_MAX`]), which spares Redis the wake-ups, too.
    pub(super) fn receive(&mut self, count: usize, bytes_min: usize) -> Result<Vec<Reply>, Failure> {
        let mut replies = Vec::with_capacity(count);
        let (mut lacking, stride) = (bytes_min, bytes_min * SLEEP_MAX.min(self.sent) / self.sent.max(1));
        while replies.len() < count {
            // A read that has taken some bytes already sleeps until as many again as the mark are there.
            let mark = stride.min(lacking / 2);
            self.wake_at(if mark < MARK_MIN { 1 } else { mark })?;
            let n = match self.socket.read(self.decoder.spare_mut()) {
                Ok(0) => return Err(closed(replies.pop())),
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(slow(e).into()),
            };
            self.decoder.filled(n);
            self.decoder.decode(&mut replies).map_err(|e| Failure::refused(e.to_string(), "point redis.url at a Redis: what answers there is none"))?;
            lacking = lacking.saturating_sub(n);
        }
        if replies.len() > count || !self.decoder.is_empty() {
            return Err(Failure::unreachable(format!("{count} replies were expected, and more came")));
        }
        Ok(replies)
    }
}

/// Connects to the first address of a host that answers.
pub(super) fn tcp(host: &str, port: u16, timeouts: Timeouts) -> Result<TcpStream, Failure> {
    let addresses = (host, port).to_socket_addrs().map_err(|e| Failure::unreachable(format!("the name {host} is not resolved: {e}")))?;
    let mut last = Error::new(ErrorKind::NotFound, format!("{host} has no address"));
    for address in addresses {
        match TcpStream::connect_timeout(&address, timeouts.connect) {
            Ok(socket) => {
                socket.set_nodelay(true)?;
                socket.set_read_timeout(Some(timeouts.response))?;
                socket.set_write_timeout(Some(timeouts.response))?;
                return Ok(socket);
            }
            Err(e) => last = e,
        }
    }
    Err(last.into())
}

/// Redis hangs up; it may have said why.
fn closed(last: Option<Reply>) -> Failure {
    if let Some(Reply::Error(error)) = last { Failure::reply(&error) } else { Failure::unreachable(HUNG_UP) }
}

/// A timeout in words: a blocking socket reports it as `WouldBlock`.
fn slow(e: Error) -> Error {
    match e.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::new(ErrorKind::TimedOut, "no answer within redis.response_timeout"),
        _ => e,
    }
}
