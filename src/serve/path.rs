//! Keys in paths: `BTC/USD` may stand there percent-encoded and plain.
use axum::http::{Method, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

const STREAMING: &str = "/api/v1/streaming/";
const ROUTES: &str = "/api/v1/routes/";
/// What may follow a key.
const VIEWS: [&str; 3] = ["latest", "history", "live"];
/// What stands where a key would, and is none; nobody publishes to it.
const LISTS: [&str; 3] = ["pairs", "keys", "live"];
/// What a segment may hold as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A segment that stands for these bytes.
pub fn encode(bytes: &[u8]) -> String {
    percent_encode(bytes, PLAIN).to_string()
}

/// The bytes of the segment `n` of a path, percent-decoded; the first is 0.
pub fn segment(uri: &Uri, n: usize) -> Vec<u8> {
    percent_decode_str(uri.path().split('/').nth(n + 1).unwrap_or_default()).collect()
}

/// The path with what would be taken for something else than the key encoded: its slashes, and of one that is published to the
/// name of a list. `None` where there is nothing of the kind.
fn canonical(method: &Method, path: &str) -> Option<String> {
    let (before, rest) = if let Some(rest) = path.strip_prefix(STREAMING) {
        (STREAMING.to_owned(), rest)
    } else {
        let (route, rest) = path.strip_prefix(ROUTES)?.split_once('/')?;
        (format!("{ROUTES}{route}/"), rest)
    };
    let (key, behind) = match rest.rsplit_once('/').filter(|(_, view)| VIEWS.contains(view)) {
        Some((key, view)) => (key, format!("/{view}")),
        None if method == Method::POST => (rest, String::new()),
        None => return None,
    };
    let encoded = match key.as_bytes() {
        [first, ..] if method == Method::POST && LISTS.contains(&key) => format!("%{first:02X}{}", &key[1..]),
        _ => key.replace('/', "%2F"),
    };
    (encoded != key).then(|| format!("{before}{encoded}{behind}"))
}

/// Rewrites a request's path where its key holds plain slashes.
pub fn rewrite<B>(mut request: axum::http::Request<B>) -> axum::http::Request<B> {
    if let Some(path) = canonical(request.method(), request.uri().path()) {
        let whole = request.uri().query().map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
        if let Ok(uri) = whole.parse() {
            *request.uri_mut() = uri;
        }
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_with_slashes_may_stand_plain() {
        let get = |path: &str| canonical(&Method::GET, path);
        assert_eq!(get("/api/v1/streaming/BTC/USD/latest").as_deref(), Some("/api/v1/streaming/BTC%2FUSD/latest"));
        assert_eq!(get("/api/v1/routes/r/a//b/history").as_deref(), Some("/api/v1/routes/r/a%2F%2Fb/history"));
        assert_eq!(get("/api/v1/streaming/../../status/live").as_deref(), Some("/api/v1/streaming/..%2F..%2Fstatus/live"));
        for same in ["/api/v1/streaming/BTC%2FUSD/latest", "/api/v1/streaming/pairs", "/api/v1/routes/r/keys", "/status", "/api/v1/streaming/a/b"] {
            assert_eq!(get(same), None, "{same}");
        }
        assert_eq!(canonical(&Method::POST, "/api/v1/streaming/BTC/USD").as_deref(), Some("/api/v1/streaming/BTC%2FUSD"));
        assert_eq!(canonical(&Method::POST, "/api/v1/routes/r/a/latest"), None, "a view, which is not published to");
        assert_eq!(canonical(&Method::POST, "/api/v1/streaming/pairs").as_deref(), Some("/api/v1/streaming/%70airs"), "a key of that name");
        assert_eq!(canonical(&Method::POST, "/api/v1/routes/r/live").as_deref(), Some("/api/v1/routes/r/%6Cive"));
        assert_eq!(canonical(&Method::POST, "/api/v1/streaming/"), None, "the empty key");
    }

    #[test]
    fn a_segment_gives_back_any_bytes() {
        for bytes in [&b"BTC/USD"[..], b"\xff\0", b"../", b"a\r\nX: y"] {
            let uri: Uri = format!("/a/{}/latest", encode(bytes)).parse().unwrap();
            assert_eq!(segment(&uri, 1), bytes);
        }
    }
}
