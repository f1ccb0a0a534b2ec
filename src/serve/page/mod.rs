//! The page at `/`: a dashboard over /status and the API, for people. Embedded files without a build step, which name
//! no other host.
//!
//! | file | concept |
//! |---|---|
//! | `page.html`, `page.css`, `page.svg` | what stands where, and how it looks |
//! | `basics.js` | bounds, elements, numbers, lines |
//! | `ask.js` | requests, events, tokens |
//! | `state.js` | the bridge's state |
//! | `data.js` | keys and alerts |
//! | `follow.js` | from the routes to what is drawn |
use axum::Router;
use axum::http::{HeaderName, header};
use axum::routing::get;
use tower_http::compression::CompressionLayer;

/// Nothing from elsewhere, nothing inline, and no text that becomes HTML.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// One script: its files see each other's names.
const SCRIPT: &str = concat!(include_str!("basics.js"), include_str!("ask.js"), include_str!("state.js"), include_str!("data.js"), include_str!("follow.js"));

/// The paths of the page. Whoever reaches the listener gets it: it holds no data, which it asks the API for.
pub(super) fn router() -> Router {
    const FILES: [(&str, &str, &str); 4] = [
        ("/", "text/html; charset=utf-8", include_str!("page.html")),
        ("/page.css", "text/css; charset=utf-8", include_str!("page.css")),
        ("/page.js", "text/javascript; charset=utf-8", SCRIPT),
        ("/page.svg", "image/svg+xml", include_str!("page.svg")),
    ];
    let pages = FILES.iter().fold(Router::new(), |router, (path, content, text)| {
        let headers = [
            (header::CONTENT_TYPE, *content),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::CACHE_CONTROL, "no-cache"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        ];
        router.route(path, get(async move || (headers, *text)))
    });
    pages.layer(CompressionLayer::new())
}
