//! A listener whose clients are bounded: connections in all and of each address, the size and the time of a request's head, and how long one may refuse
//! to take what it asked for. What hyper refuses by itself is answered as all other errors are: with a body that says why.
use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
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
    let asked = Arc::new(AtomicBool::new(false));
    let stream = Explained { stream: TokioIo::new(stream), asked: asked.clone(), instead: None };
    let answer = service_fn(move |mut request: Request<hyper::body::Incoming>| {
        asked.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(peer);
        let router = router.clone();
        async move {
            // hyper looks at the size of a head only while it is not complete.
            if head_size(&request) > HEAD_MAX {
                return Ok(refusal(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
            }
            router.oneshot(request.map(Body::new)).await
        }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_headers(HEADERS_MAX).max_buf_size(HEAD_MAX);
    // Whatever a client does wrong is answered, or ends its connection.
    if let Err(e) = http.serve_connection(stream, answer).await {
        tracing::debug!("a connection ended: {e}");
    }
}

/// How many bytes a request's head had, about.
fn head_size<B>(request: &Request<B>) -> usize {
    let uri = request.uri();
    let target = uri.path_and_query().map_or(0, |p| p.as_str().len()) + uri.authority().map_or(0, |a| a.as_str().len());
    // "GET / HTTP/1.1", and the ends of lines.
    let line = request.method().as_str().len() + target + 12;
    line + request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>() + 2
}

/// Why the listener refuses a request, as problem+json (docs/api.md).
fn problem(status: StatusCode) -> Vec<u8> {
    let (code, detail) = match status {
        StatusCode::BAD_REQUEST => ("no-request", "what was sent is no HTTP/1.1 request: its first line or one of its headers is malformed".to_owned()),
        _ => ("head-too-large", format!("the head of a request may have {} KiB and {HEADERS_MAX} headers", HEAD_MAX >> 10)),
    };
    let title = status.canonical_reason().unwrap_or_default();
    serde_json::json!({"status": status.as_u16(), "title": title, "code": code, "detail": detail}).to_string().into_bytes()
}

const PROBLEM: &str = "application/problem+json";

fn refusal(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::from(problem(status)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(PROBLEM));
    response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    response
}

/// A connection on which hyper's own refusals, which have no body and which no service sees, get one: until the first request has
/// come to the service. From then on bodies are written, too, and one that looks like a refusal must stay as it is.
struct Explained {
    stream: TokioIo<TcpStream>,
    /// Whether a request has come to the service.
    asked: Arc<AtomicBool>,
    /// What is written in place of a refusal, and how much of it was.
    instead: Option<(Vec<u8>, usize)>,
}

/// What to write in place of a refusal by hyper; `None` where it is none, as what it writes of `Expect: 100-continue`.
fn explained(written: &[u8]) -> Option<Vec<u8>> {
    let head = std::str::from_utf8(written).ok()?.strip_suffix("\r\n\r\n").filter(|h| h.starts_with("HTTP/1.") && !h.contains("\r\n\r\n"))?;
    let status: u16 = head.split(' ').nth(1)?.parse().ok().filter(|status| [400, 414, 431].contains(status))?;
    let (empty, kept): (Vec<&str>, Vec<&str>) = head.split("\r\n").partition(|line| line.eq_ignore_ascii_case("content-length: 0"));
    let body = problem(StatusCode::from_u16(status).ok()?);
    let told = format!("{}\r\ncontent-type: {PROBLEM}\r\ncontent-length: {}\r\n\r\n", kept.join("\r\n"), body.len());
    (!empty.is_empty()).then(|| [told.into_bytes(), body].concat())
}

impl Read for Explained {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl Write for Explained {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.instead.is_none() && !this.asked.load(Ordering::Relaxed) {
            this.instead = explained(bytes).map(|told| (told, 0));
        }
        let Some((told, written)) = &mut this.instead else { return Pin::new(&mut this.stream).poll_write(cx, bytes) };
        while *written < told.len() {
            match ready!(Pin::new(&mut this.stream).poll_write(cx, &told[*written..]))? {
                0 => return Poll::Ready(Ok(0)),
                n => *written += n,
            }
        }
        this.instead = None;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match pieces {
            [only] => self.poll_write(cx, only),
            _ => Pin::new(&mut self.stream).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_without_a_body_gets_one_and_nothing_else_is_touched() {
        let told = explained(b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\ndate: now\r\n\r\n").unwrap();
        let told = String::from_utf8(told).unwrap();
        let (head, body) = told.split_once("\r\n\r\n").unwrap();
        let length = format!("\r\ncontent-length: {}", body.len());
        assert!(head.starts_with("HTTP/1.1 431 ") && head.contains("\r\nconnection: close\r\ndate: now\r\n") && head.ends_with(&length), "{head}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap()["code"], "head-too-large");
        let others: [&[u8]; 5] = [
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}",
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n",
            b"\xff\r\n\r\n",
        ];
        assert!(others.iter().all(|bytes| explained(bytes).is_none()));
    }

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
