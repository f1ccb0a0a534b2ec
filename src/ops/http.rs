//! /livez /readyz /metrics /status.
use super::conditions::Condition;
use super::listener::{self, Bounds};
use super::metrics::{self, Format};
use super::status::Status;
use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Json};
use axum::routing::get;
use std::net::SocketAddr;
use std::sync::Arc;

/// Where the listener's answers come from.
pub trait Source: Send + Sync + 'static {
    fn status(&self) -> Status;
    /// Whether the bridge is ready.
    fn ready(&self) -> bool;
    /// Whether the poller and the lanes still turn.
    fn alive(&self) -> bool;
}

/// An address that is listened on. Nobody is answered before [`Listening::serve`]; who connects meanwhile waits.
pub struct Listening {
    listener: std::net::TcpListener,
    runtime: tokio::runtime::Runtime,
    /// Tells the port where 0 was asked for.
    pub address: SocketAddr,
}

/// Takes the address.
///
/// # Errors
/// The address can't be listened on, or the system gives nothing to wait for the network with.
pub fn listen(address: &str) -> std::io::Result<Listening> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(Listening { address: listener.local_addr()?, listener, runtime })
}

impl Listening {
    /// Serves what `router` makes, within the runtime, on a thread of its own.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn serve(self, bounds: Bounds, router: impl FnOnce() -> Router + Send + 'static) -> std::io::Result<()> {
        std::thread::Builder::new().name("http".into()).spawn(move || {
            self.runtime.block_on(async move {
                match tokio::net::TcpListener::from_std(self.listener) {
                    Ok(listener) => listener::serve(listener, bounds, router()).await,
                    Err(e) => tracing::error!(code = "http-failed", "the listener stopped: {e}"),
                }
            });
        })?;
        Ok(())
    }
}

/// The bridge's own paths.
pub fn router(source: Arc<dyn Source>) -> Router {
    let (live, ready, scrape) = (source.clone(), source.clone(), source.clone());
    let answer = |ok: bool| if ok { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "no\n") };
    Router::new()
        .route("/livez", get(async move || answer(live.alive())))
        .route("/readyz", get(async move || if ready.ready() { (StatusCode::OK, "ok\n".into()) } else { hindrances(&ready.status()) }))
        .route("/status", get(async move || Json(source.status())))
        .route(
            "/metrics",
            get(async move |headers: HeaderMap| {
                let format = Format::accepted(headers.get(header::ACCEPT).and_then(|a| a.to_str().ok()).unwrap_or_default());
                ([(header::CONTENT_TYPE, format.content_type())], metrics::render(&scrape.status(), format)).into_response()
            }),
        )
}

/// Why it is not ready: how many partitions are open, and a line for each condition that is not about one partition or lane alone.
fn hindrances(status: &Status) -> (StatusCode, String) {
    let alone = |c: &Condition| c.subject.ends_with(']') || c.subject.starts_with("lane ");
    let hindering: Vec<_> = status.conditions.iter().filter(|c| !alone(c)).map(|c| format!("{}: {}. What to do: {}\n", c.code, c.message, c.remedy)).collect();
    let why = if hindering.is_empty() { "the group is not joined yet, or Redis has not answered yet\n".into() } else { hindering.concat() };
    let (open, assigned) = (status.partitions_open, status.partitions_assigned);
    (StatusCode::SERVICE_UNAVAILABLE, format!("no: {open} of {assigned} assigned partitions are open\n{why}"))
}
