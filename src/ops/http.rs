//! /livez /readyz /metrics /status.
use super::listener::{self, Bounds};
use super::metrics;
use super::status::Status;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Json};
use axum::routing::get;
use std::net::SocketAddr;
use std::sync::Arc;

/// Where the listener's answers come from.
pub trait Source: Send + Sync + 'static {
    fn status(&self) -> Status;
    /// Whether the poller and the lanes still turn.
    fn alive(&self) -> bool;
}

/// Serves what `router` makes, within the runtime, on a thread of its own; returns the address, which tells the port where 0
/// was asked for.
///
/// # Errors
/// The address can't be listened on.
pub fn serve(listen: &str, bounds: Bounds, router: impl FnOnce() -> Router + Send + 'static) -> std::io::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("http".into()).spawn(move || {
        runtime.block_on(async move {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => listener::serve(listener, bounds, router()).await,
                Err(e) => tracing::error!(code = "http-failed", "the listener stopped: {e}"),
            }
        });
    })?;
    Ok(address)
}

/// The bridge's own paths.
pub fn router(source: Arc<dyn Source>) -> Router {
    let (live, ready, scrape) = (source.clone(), source.clone(), source.clone());
    let answer = |ok: bool| if ok { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "no\n") };
    Router::new()
        .route("/livez", get(async move || answer(live.alive())))
        .route("/readyz", get(async move || answer(ready.status().ready)))
        .route("/status", get(async move || Json(source.status())))
        .route(
            "/metrics",
            get(async move || {
                let content = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                ([(header::CONTENT_TYPE, content)], metrics::render(&scrape.status())).into_response()
            }),
        )
}
