//! What a reader gets: a body with its tag, or word that nothing has changed; while Redis is away perhaps the last known one.
use super::Api;
use super::problem::Problem;
use crate::config::serve::Stale;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_128;

/// An answer's body.
#[derive(Clone, Debug)]
pub struct Page {
    pub body: Vec<u8>,
    pub content: &'static str,
    /// The cursor of what follows it.
    pub next: Option<String>,
}

impl Page {
    pub fn json(body: String, next: Option<String>) -> Self {
        Self { body: body.into_bytes(), content: "application/json", next }
    }

    fn respond(&self, parts: &Parts) -> Response {
        // Weak: what is compressed on its way has other bytes.
        let tag = format!("W/\"{:032x}\"", xxh3_128(&self.body));
        let mut headers = HeaderMap::new();
        let mut set = |name, value: &str| value.parse::<HeaderValue>().map(|v| headers.insert(name, v)).map(drop).unwrap_or_default();
        set(header::ETAG, &tag);
        set(header::CACHE_CONTROL, "no-cache");
        if let Some(next) = &self.next {
            set(header::LINK, &format!("<{}>; rel=\"next\"", following(parts, next)));
        }
        if matches(&parts.headers, &tag) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content));
        // What a producer wrote is not to become a page of ours.
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        (headers, self.body.clone()).into_response()
    }
}

/// The same request with another cursor.
fn following(parts: &Parts, cursor: &str) -> String {
    let others = parts.uri.query().unwrap_or_default().split('&').filter(|p| !p.is_empty() && !p.starts_with("cursor="));
    let query: Vec<String> = others.map(str::to_owned).chain([format!("cursor={}", super::path::encode(cursor.as_bytes()))]).collect();
    format!("{}?{}", parts.uri.path(), query.join("&"))
}

/// Whether the client has it already.
fn matches(headers: &HeaderMap, tag: &str) -> bool {
    let weak = |t: &str| t.trim().trim_start_matches("W/").to_owned();
    let listed = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    listed.map(weak).any(|t| t == "*" || t == weak(tag))
}

impl Api {
    /// Answers a request with what `fetch` finds.
    pub(super) async fn answer(&self, parts: &Parts, fetch: impl Future<Output = Result<Page, Problem>>) -> Response {
        let stale = self.serve.stale == Stale::Allow;
        let request = || parts.uri.path_and_query().map(|p| p.as_str()).unwrap_or_default();
        match fetch.await {
            Ok(page) => {
                let page = Arc::new(page);
                if stale {
                    self.known.keep(request(), page.clone());
                }
                page.respond(parts)
            }
            Err(problem) if stale && problem.status() == StatusCode::SERVICE_UNAVAILABLE => match self.known.get(request()) {
                Some((page, age)) => {
                    let mut response = page.respond(parts);
                    response.headers_mut().insert(header::AGE, HeaderValue::from(age));
                    response.headers_mut().insert(header::WARNING, HeaderValue::from_static("110 - \"Redis is away: the last known answer\""));
                    response
                }
                None => problem.into_response(),
            },
            Err(problem) => problem.into_response(),
        }
    }
}
