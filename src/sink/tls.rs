//! TLS, and which of the two a port speaks.
use super::failure::Failure;
use super::plain::{Timeouts, tcp};
use crate::config::{self, tls};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// What an established connection is read and written through.
pub(super) type Stream = StreamOwned<ClientConnection, TcpStream>;

/// How long a port may take to show what it speaks.
const PROBE_MAX: Duration = Duration::from_secs(1);

/// Connects, and shakes hands.
pub(super) fn connect(host: &str, port: u16, timeouts: Timeouts, config: &config::Redis) -> Result<Stream, Failure> {
    let made = handshake(host, port, timeouts, config);
    match made {
        Err(failure) if failure.kind == super::failure::Kind::Unreachable && speaks_plainly(host, port) => {
            Err(Failure::refused("this port does not speak TLS", "write redis:// in place of rediss://, or name Redis' tls-port"))
        }
        made => made,
    }
}

fn handshake(host: &str, port: u16, timeouts: Timeouts, config: &config::Redis) -> Result<Stream, Failure> {
    let config = tls::client(config).map_err(|(key, why)| Failure::refused(format!("{key}: {why}"), "correct the file"))?;
    let name = ServerName::try_from(host.to_owned()).map_err(|e| Failure::refused(e.to_string(), "correct the host in redis.url"))?;
    let mut client = ClientConnection::new(Arc::new(config), name).map_err(|e| Failure::unreachable(e.to_string()))?;
    let mut socket = tcp(host, port, timeouts)?;
    while client.is_handshaking() {
        match client.complete_io(&mut socket) {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(StreamOwned::new(client, socket))
}

/// Whether a port answers a PING without TLS.
fn speaks_plainly(host: &str, port: u16) -> bool {
    let timeouts = Timeouts { connect: PROBE_MAX, response: PROBE_MAX };
    let Ok(mut socket) = tcp(host, port, timeouts) else { return false };
    let mut first = [0];
    socket.write_all(b"*1\r\n$4\r\nPING\r\n").is_ok() && socket.read_exact(&mut first).is_ok() && b"+-".contains(&first[0])
}

/// Whether a port answers the first words of a handshake: by a record of TLS.
pub(super) fn speaks_tls(host: &str, port: u16, config: &config::Redis) -> bool {
    let timeouts = Timeouts { connect: PROBE_MAX, response: PROBE_MAX };
    let hello = || {
        let client = ClientConnection::new(Arc::new(tls::client(config).ok()?), ServerName::try_from(host.to_owned()).ok()?);
        let (mut client, mut out) = (client.ok()?, Vec::new());
        client.write_tls(&mut out).ok()?;
        let mut socket = tcp(host, port, timeouts).ok()?;
        socket.write_all(&out).ok()?;
        let mut first = [0; 2];
        socket.read_exact(&mut first).ok()?;
        // A record of the handshake, or an alert; then the version, which begins with 3.
        Some([0x15, 0x16].contains(&first[0]) && first[1] == 3)
    };
    hello() == Some(true)
}
