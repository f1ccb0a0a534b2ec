//! A listener whose clients are bounded: connections in all and of each address, the size and the time of a request's head, and how long one may refuse
//! to take what it asked for.
use axum::Router;
use axum::body::Body;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

/// How long a request's head may take, and a connection may be idle.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// What a request's head may hold.
const HEAD_MAX: usize = 32 << 10;
const HEADERS_MAX: usize = 64;
/// What the kernel keeps of one client that does not take it: by default it would be megabytes.
const SEND_BUFFER: usize = 256 << 10;
/// How long sent bytes may go unacknowledged.
const SEND_TIME: Duration = Duration::from_secs(30);

/// Where a connection comes from; each request has it among its extensions.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// In all; more wait.
    pub all: usize,
    /// Of one client's address; more are hung up on. 0: as many as in all.
    pub each: usize,
}

/// The addresses that count as one client: of IPv6 a whole /64.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

/// The connections of each client.
#[derive(Default)]
struct Held(Mutex<HashMap<IpAddr, Count>>);

#[derive(Default)]
struct Count {
    now: usize,
    /// Whether it was told that there were too many.
    told: bool,
}

/// A connection that counts for its client, until it is dropped.
struct Seat {
    held: Arc<Held>,
    client: IpAddr,
}

impl Held {
    /// A seat for one more connection, where there may be one.
    fn seat(self: &Arc<Self>, client: IpAddr, max: usize) -> Option<Seat> {
        let mut held = self.0.lock();
        let count = held.entry(client).or_default();
        if max > 0 && count.now >= max {
            if !std::mem::replace(&mut count.told, true) {
                tracing::warn!(code = "client-refused", %client, "a client has {max} connections, and is hung up on when it makes more (serve.connections_per_client)");
            }
            return None;
        }
        count.now += 1;
        Some(Seat { held: self.clone(), client })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.held.0.lock().entry(self.client) {
            count.get_mut().now -= 1;
            if count.get().now == 0 {
                count.remove();
            }
        }
    }
}

/// Serves for ever.
pub async fn serve(listener: TcpListener, bounds: Bounds, router: Router) {
    let (room, held) = (Arc::new(Semaphore::new(bounds.all)), Arc::new(Held::default()));
    loop {
        // Who finds no room waits in the kernel's queue.
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let Some(seat) = held.seat(network(peer.ip()), bounds.each) else { continue };
                let connection = converse(stream, Peer(peer), router.clone());
                tokio::spawn(async move {
                    connection.await;
                    drop((permit, seat));
                });
            }
            Err(e) => {
                tracing::debug!("a connection could not be taken: {e}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, peer: Peer, router: Router) {
    let socket = socket2::SockRef::from(&stream);
    let set = socket.set_tcp_user_timeout(Some(SEND_TIME)).and_then(|()| socket.set_send_buffer_size(SEND_BUFFER)).and_then(|()| socket.set_tcp_nodelay(true));
    if let Err(e) = set {
        tracing::debug!("a connection's options: {e}");
    }
    let answer = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request.map(Body::new))
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_headers(HEADERS_MAX).max_buf_size(HEAD_MAX);
    // Whatever a client does wrong is answered, or ends its connection.
    if let Err(e) = http.serve_connection(TokioIo::new(stream), answer).await {
        tracing::debug!("a connection ended: {e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_so_many_connections_and_others_their_own() {
        let (held, one, other) = (Arc::new(Held::default()), network("2001:db8::1".parse().unwrap()), network("::ffff:1.2.3.4".parse().unwrap()));
        let same = network("2001:db8::2".parse().unwrap());
        let mut seats: Vec<Option<Seat>> = [one, same, one, other].map(|client| held.seat(client, 2)).into();
        assert_eq!(seats.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false, true]);
        seats.remove(0);
        assert!(held.seat(same, 2).is_some());
        drop(seats);
        assert!(held.0.lock().is_empty(), "who has none is forgotten");
        let many: Vec<Option<Seat>> = (0..9).map(|_| held.seat(one, 0)).collect();
        assert!(many.iter().all(Option::is_some));
    }
}
