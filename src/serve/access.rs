//! Who may do what, and how often: tokens, scopes, where a client comes from, its rate.
use super::Api;
use super::problem::Problem;
use crate::config::Serve;
use crate::config::serve::{Access, Scope};
use crate::ops::listener::{Peer, network};
use axum::body::HttpBody;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;

/// Clients whose rates are remembered at most.
const CLIENTS_MAX: usize = 100_000;

/// Whose request it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    Token(Arc<str>),
    Address(IpAddr),
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(name) => write!(f, "{name} (token)"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Client {
    type Rejection = Problem;

    /// As the guard has found.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get().cloned().ok_or_else(nobody_knows)
    }
}

fn nobody_knows() -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "no-peer", "nobody knows whose request this is")
}

struct Holder {
    name: Arc<str>,
    token: String,
    scopes: Vec<Scope>,
}

/// See the module's documentation.
pub struct Gate {
    holders: Vec<Holder>,
    read: Access,
    publish: Access,
    limiter: Option<RateLimiter<Client, HashMapStateStore<Client>, DefaultClock>>,
    /// Whose pages may use the API.
    origins: Vec<String>,
}

impl Gate {
    /// # Errors
    /// A token's file that can't be read, or holds none.
    pub fn new(serve: &Serve) -> Result<Self, String> {
        let holder = |t: &crate::config::serve::Token| {
            let token = t.secret().map_err(|e| format!("serve.token {:?}: {e}", t.name))?;
            Ok::<_, String>(Holder { name: t.name.as_str().into(), token, scopes: t.scopes.clone() })
        };
        let quota = NonZeroU32::new(serve.requests_per_second).map(|rate| Quota::per_second(rate).allow_burst(NonZeroU32::new(serve.burst).unwrap_or(rate)));
        let holders = serve.token.iter().map(holder).collect::<Result<_, _>>()?;
        Ok(Self { holders, read: serve.read, publish: serve.publish, limiter: quota.map(RateLimiter::hashmap), origins: serve.cors_origins.clone() })
    }

    /// Who may use a scope, in words.
    pub fn who(&self, scope: Scope) -> String {
        let named: Vec<&str> = self.holders.iter().filter(|h| h.scopes.contains(&scope)).map(|h| &*h.name).collect();
        let tokens = if named.is_empty() { "no token is set".to_owned() } else { format!("the tokens {}", named.join(", ")) };
        match self.access(scope) {
            Access::Nobody => "nobody".into(),
            Access::Token => tokens,
            Access::Loopback => format!("who comes from this machine; {tokens}"),
            Access::Anyone => "anyone".into(),
        }
    }

    fn access(&self, scope: Scope) -> Access {
        match scope {
            Scope::Read => self.read,
            Scope::Publish => self.publish,
        }
    }

    /// Whose request it is, if it may be answered. Each counts for who sends it, whatever comes of it: so no token is found by
    /// trying. What needs no scope is none of the API's methods.
    fn admit(&self, scope: Option<Scope>, peer: SocketAddr, headers: &HeaderMap) -> Result<Client, Problem> {
        let given = headers.get(header::AUTHORIZATION).map(|given| (given, self.holder(given)));
        let client = match given {
            Some((_, Some(holder))) => Client::Token(holder.name.clone()),
            _ => Client::Address(network(peer.ip())),
        };
        self.limit(&client)?;
        let Some(scope) = scope else { return Ok(client) };
        let access = self.access(scope);
        if access == Access::Nobody {
            return Err(Problem::new(StatusCode::FORBIDDEN, "switched-off", format!("nobody may {} here: serve.{} says so", scope.name(), scope.name())));
        }
        let refused = |status, code, detail: String| Err(Problem::new(status, code, detail).about("Authorization"));
        match given {
            Some((_, Some(holder))) if holder.scopes.contains(&scope) => Ok(client),
            Some((_, Some(_))) => refused(StatusCode::FORBIDDEN, "scope-missing", format!("this token has no scope {:?}", scope.name())),
            Some((given, None)) if bearer(given).is_none() => refused(StatusCode::UNAUTHORIZED, "token-wrong", "allowed: Bearer TOKEN".into()),
            Some((_, None)) => refused(StatusCode::UNAUTHORIZED, "token-wrong", "this token is not known here".into()),
            // A browser lets any page send this without asking first; only the answer is kept from it.
            None if scope == Scope::Publish && !self.may_send(headers) => {
                let detail = "without a token a page publishes only from an origin of serve.cors_origins, or from here";
                Err(Problem::new(StatusCode::FORBIDDEN, "origin-refused", detail).about("Origin"))
            }
            None if access == Access::Anyone || access == Access::Loopback && from_here(peer, headers) => Ok(client),
            None => {
                let detail = format!("to {} takes a token of that scope: Authorization: Bearer TOKEN", scope.name());
                refused(StatusCode::UNAUTHORIZED, "token-missing", detail)
            }
        }
    }

    /// Whose token it is. Each is compared, and each whole: how long it takes tells nothing.
    fn holder(&self, given: &HeaderValue) -> Option<&Holder> {
        let token = bearer(given)?;
        self.holders.iter().fold(None, |found, h| if bool::from(h.token.as_bytes().ct_eq(token)) { Some(h) } else { found })
    }

    /// Whether it is no page's request, or that of a page which may use the API.
    fn may_send(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else { return true };
        let host = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
        let from_here = host.is_some_and(|host| headers.get(header::HOST).is_some_and(|here| here == host));
        from_here || self.origins.iter().any(|known| known == "*" || known.as_bytes() == origin.as_bytes())
    }

    fn limit(&self, client: &Client) -> Result<(), Problem> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        if limiter.len() >= CLIENTS_MAX {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
        let too_many =
            |seconds: u64| Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "more requests than serve.requests_per_second").after(seconds);
        if limiter.len() >= CLIENTS_MAX {
            return Err(too_many(1));
        }
        let wait = |not_until: governor::NotUntil<_>| not_until.wait_time_from(DefaultClock::default().now()).as_secs() + 1;
        limiter.check_key(client).map_err(|not_until| too_many(wait(not_until)))
    }
}

/// The token of a bearer.
fn bearer(given: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = given.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Whether a request comes from this machine, and is not a page's elsewhere, whose name was made to point here.
fn from_here(peer: SocketAddr, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or("localhost");
    let bare = host.strip_prefix('[').and_then(|h| h.split(']').next()).unwrap_or_else(|| host.split(':').next().unwrap_or_default());
    peer.ip().to_canonical().is_loopback() && (bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok())
}

/// Lets through who may, as often as they may, within a request's time.
pub(super) async fn guard(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let scope = match *request.method() {
        Method::GET | Method::HEAD => Some(Scope::Read),
        Method::POST => Some(Scope::Publish),
        // Refused by the router.
        _ => None,
    };
    let Some(Peer(peer)) = request.extensions().get::<Peer>().copied() else { return nobody_knows().into_response() };
    match api.gate.admit(scope, peer, request.headers()) {
        // What says itself that it is too large is not waited for.
        Ok(_) if HttpBody::size_hint(request.body()).lower() > api.serve.body_max.0 => return api.too_large().into_response(),
        Ok(client) => _ = request.extensions_mut().insert(client),
        Err(problem) => {
            let mut response = problem.into_response();
            if response.status() == StatusCode::UNAUTHORIZED {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            return response;
        }
    }
    let late = || Problem::new(StatusCode::REQUEST_TIMEOUT, "too-slow", "the request did not come, or could not be answered, within serve.timeout").after(1);
    tokio::time::timeout(api.serve.timeout.0, next.run(request)).await.unwrap_or_else(|_| late().into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::serve::Token;

    fn gate(read: Access, requests_per_second: u32) -> Gate {
        let token = |name: &str, scope| Token {
            name: name.into(),
            scopes: vec![scope],
            token: crate::config::Secret(format!("{name}-0123456789abcdef")),
            token_file: String::new(),
        };
        let serve = Serve { read, requests_per_second, token: vec![token("reader", Scope::Read), token("writer", Scope::Publish)], ..Serve::default() };
        Gate::new(&serve).unwrap()
    }

    fn ask(gate: &Gate, scope: Scope, from: &str, headers: &[(&'static str, &str)]) -> Result<String, u16> {
        let headers = headers.iter().map(|(n, v)| (header::HeaderName::from_static(n), v.parse().unwrap())).collect();
        gate.admit(Some(scope), from.parse().unwrap(), &headers).map(|c| c.to_string()).map_err(|p| p.status().as_u16())
    }

    #[test]
    fn a_token_allows_its_scope_and_no_other() {
        let gate = gate(Access::Token, 0);
        let bearer = |t: &str| format!("Bearer {t}-0123456789abcdef");
        assert_eq!(ask(&gate, Scope::Read, "1.2.3.4:5", &[("authorization", &bearer("reader"))]), Ok("reader (token)".into()));
        assert_eq!(ask(&gate, Scope::Publish, "1.2.3.4:5", &[("authorization", &bearer("reader"))]), Err(403));
        assert_eq!(ask(&gate, Scope::Read, "1.2.3.4:5", &[("authorization", &bearer("nobody"))]), Err(401));
        assert_eq!(ask(&gate, Scope::Read, "1.2.3.4:5", &[("authorization", "Basic cmVhZGVy")]), Err(401));
        assert_eq!(ask(&gate, Scope::Read, "127.0.0.1:5", &[]), Err(401));
    }

    #[test]
    fn who_comes_from_this_machine_may_read_and_a_page_that_only_points_here_may_not() {
        let gate = gate(Access::Loopback, 0);
        for host in ["127.0.0.1:9650", "localhost:9650", "[::1]:9650"] {
            assert!(ask(&gate, Scope::Read, "127.0.0.1:5", &[("host", host)]).is_ok(), "{host}");
        }
        assert_eq!(ask(&gate, Scope::Read, "127.0.0.1:5", &[("host", "evil.example:9650")]), Err(401));
        assert_eq!(ask(&gate, Scope::Read, "10.0.0.1:5", &[("host", "127.0.0.1")]), Err(401));
        assert_eq!(ask(&gate, Scope::Publish, "127.0.0.1:5", &[]), Err(401));
    }

    #[test]
    fn a_page_elsewhere_does_not_publish_because_who_looks_at_it_may() {
        let serve = Serve { publish: Access::Loopback, cors_origins: vec!["https://dash.example.com".into()], ..Serve::default() };
        let gate = Gate::new(&serve).unwrap();
        let post = |origin: &'static str| ask(&gate, Scope::Publish, "127.0.0.1:5", &[("host", "127.0.0.1:9650"), ("origin", origin)]).map(drop);
        assert_eq!([post("https://dash.example.com"), post("http://127.0.0.1:9650")], [Ok(()), Ok(())]);
        for origin in ["https://evil.example", "null", "http://127.0.0.1:9651", "http://127.0.0.1:96500", ""] {
            assert_eq!(post(origin), Err(403), "{origin}");
        }
        assert_eq!(ask(&gate, Scope::Publish, "127.0.0.1:5", &[("host", "127.0.0.1:9650")]).map(drop), Ok(()), "no page");
    }

    #[test]
    fn each_client_has_its_own_rate() {
        let gate = gate(Access::Anyone, 2);
        let get = |from: &str| ask(&gate, Scope::Read, from, &[]).map(drop);
        assert_eq!([get("1.1.1.1:1"), get("1.1.1.1:2"), get("1.1.1.1:3")], [Ok(()), Ok(()), Err(429)]);
        assert_eq!(get("2.2.2.2:1"), Ok(()));
        assert_eq!([get("[2001:db8::1]:1"), get("[2001:db8::2]:1"), get("[2001:db8::3]:1")], [Ok(()), Ok(()), Err(429)]);
    }

    #[test]
    fn who_tries_tokens_is_limited_by_address_and_the_holder_of_one_is_not_held_up() {
        let gate = gate(Access::Token, 2);
        let tries = |given: &[(&'static str, &str)]| ask(&gate, Scope::Read, "1.1.1.1:1", given).map(drop);
        let wrong = [("authorization", "Bearer 0123456789abcdef")];
        assert_eq!([tries(&wrong), tries(&[]), tries(&wrong), tries(&[])], [Err(401), Err(401), Err(429), Err(429)]);
        let right = [("authorization", "Bearer reader-0123456789abcdef")];
        assert_eq!([tries(&right), tries(&right), tries(&right)], [Ok(()), Ok(()), Err(429)]);
    }

    #[test]
    fn what_is_refused_counts_too() {
        let gate = gate(Access::Nobody, 2);
        let asked = |scope| gate.admit(scope, "1.1.1.1:1".parse().unwrap(), &HeaderMap::new()).map(drop).map_err(|p| p.status().as_u16());
        assert_eq!([asked(Some(Scope::Read)), asked(None), asked(None)], [Err(403), Ok(()), Err(429)]);
    }
}
