//! A listener whose clients are bounded: connections, the size and the time of a request's head, and how long one may refuse
//! to take what it asked for.
use axum::Router;
use axum::body::Body;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::net::SocketAddr;
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

/// Serves for ever.
pub async fn serve(listener: TcpListener, connections_max: usize, router: Router) {
    let room = Arc::new(Semaphore::new(connections_max));
    loop {
        // Who finds no room waits in the kernel's queue.
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let connection = converse(stream, Peer(peer), router.clone());
                tokio::spawn(async move {
                    connection.await;
                    drop(permit);
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
