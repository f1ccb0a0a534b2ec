//! Errors, as problem+json (RFC 9457).
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// What went wrong, and what to do.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// The HTTP status.
    status: u16,
    /// The status in words.
    title: &'static str,
    /// What it is about, for programs.
    code: &'static str,
    /// What was found, what is allowed, what to do.
    detail: String,
    /// Which part of the request is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'static str>,
    #[serde(skip)]
    retry_after: Option<u64>,
}

impl Problem {
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or_default();
        Self { status: status.as_u16(), title, code, detail: detail.into(), field: None, retry_after: None }
    }

    /// A part of the request is wrong.
    pub fn field(field: &'static str, found: impl std::fmt::Debug, allowed: impl std::fmt::Display) -> Self {
        let shown: String = format!("{found:?}").chars().take(100).collect();
        Self { field: Some(field), ..Self::new(StatusCode::BAD_REQUEST, "wrong-field", format!("{field}: found {shown}; allowed: {allowed}")) }
    }

    /// Something passes by itself.
    pub fn away(code: &'static str, detail: impl Into<String>) -> Self {
        Self { retry_after: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail) }
    }

    #[must_use]
    pub fn about(mut self, field: &'static str) -> Self {
        self.field = Some(field);
        self
    }

    /// To be tried again after so many seconds.
    #[must_use]
    pub fn after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (self.status(), [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
