//! `[serve]`: the readers' side.
use super::units::{Period, Size};
use super::validate::Checker;
use super::{Config, Secret};
use crate::core::lane::Index;
use crate::core::route::Route;
use crate::core::state::StateKey;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The API over what the routes write. `enabled` puts it into the bridge; without it, `kafka-redis-bridge serve` is a
/// process of its own, which needs `index` here and in the bridge's file.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Serve {
    /// Whether the bridge itself serves the API, on `http.listen`.
    pub enabled: bool,
    /// Where `kafka-redis-bridge serve` listens: `address:port`; port 0 takes a free one and logs it.
    pub listen: String,
    /// Keep the index of each route's keys, which the lists of keys come from, though the bridge does not serve itself: one
    /// ZADD more of each route that a transaction writes data of. `enabled` keeps it too.
    pub index: bool,
    /// The route behind `/api/v1/streaming`. Empty: the only one, where there is one.
    pub streaming: String,
    /// Who may read: `nobody`, who has a `token` of that scope, who comes from this machine (`loopback`), or `anyone`. A token
    /// always does. Behind a proxy on this machine everybody comes from it.
    pub read: Access,
    /// Who may publish, by the same words.
    pub publish: Access,
    /// What is answered while Redis is away: `refuse` (503), or `allow` the last known answer with its age.
    pub stale: Stale,
    /// The origins whose pages may use the API from a browser, such as `https://dash.example.com`; `*` is any.
    #[schemars(extend("type" = ["array", "string"]))]
    pub cors_origins: Vec<String>,
    /// Requests a second of one client, a token or an address. 0: no limit.
    pub requests_per_second: u32,
    /// Requests of one client that may come at once. 0: as many as a second's.
    pub burst: u32,
    /// Connections at once; more wait. 1 to 100,000.
    pub connections_max: usize,
    /// Connections at once of one address (of IPv6 a /64); more are hung up on. Behind a proxy all have its address. 0: as many as
    /// in all.
    pub connections_per_client: usize,
    /// What is published is at most as large.
    pub body_max: Size,
    /// How long an answer may take, and a request to come.
    pub timeout: Period,
    /// Entries that one page of a history, or keys that one page of a list may have at most.
    pub count_max: usize,
    /// Updates that may wait for one live client; a slower one is dropped.
    pub live_queue: usize,
    /// How long an `Idempotency-Key` is remembered.
    pub idempotency: Period,
    /// Those who may do more than anybody.
    pub token: Vec<Token>,
}

impl Default for Serve {
    fn default() -> Self {
        Self {
            enabled: false,
            listen: "127.0.0.1:9651".into(),
            index: false,
            streaming: String::new(),
            read: Access::Loopback,
            publish: Access::Token,
            stale: Stale::Refuse,
            cors_origins: Vec::new(),
            requests_per_second: 0,
            burst: 0,
            connections_max: 4096,
            connections_per_client: 0,
            body_max: Size::mib(1),
            timeout: Period::secs(10),
            count_max: 1000,
            live_queue: 1024,
            idempotency: Period::secs(24 * 60 * 60),
            token: Vec::new(),
        }
    }
}

/// See [`Serve::read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Access {
    Nobody,
    Token,
    Loopback,
    Anyone,
}

/// See [`Serve::stale`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Stale {
    Refuse,
    Allow,
}

/// A bearer token.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Whose it is, for the log.
    pub name: String,
    /// What it allows: `read`, `publish`.
    #[schemars(extend("type" = ["array", "string"]))]
    pub scopes: Vec<Scope>,
    /// The token, 16 characters at the least; better by `token_file`.
    #[serde(default)]
    pub token: Secret,
    /// A file that holds it: a systemd credential, a container's secret. Read at start.
    #[serde(default)]
    pub token_file: String,
}

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Scope {
    Read,
    Publish,
}

impl Scope {
    /// As the configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Publish => "publish",
        }
    }
}

/// The shortest token: a word can be guessed.
const TOKEN_MIN: usize = 16;

impl Token {
    /// The token itself.
    ///
    /// # Errors
    /// What is wrong with it, without it.
    pub fn secret(&self) -> Result<String, String> {
        let text = if self.token_file.is_empty() {
            self.token.0.clone()
        } else {
            std::fs::read_to_string(&self.token_file).map_err(|e| format!("{:?}: {e}", self.token_file))?.trim().to_owned()
        };
        if text.len() < TOKEN_MIN || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(format!("a token of {} bytes, or with other characters (not shown)", text.len()));
        }
        Ok(text)
    }
}

/// The index of each route's keys, where it is kept: of the routes that have a key of `{key}` to read from.
pub fn index(config: &Config, routes: &[Route]) -> Option<Index> {
    let kept = |r: &Route| r.writes.iter().any(|w| w.kind.is_read_by_key());
    let key = |r: &Route| kept(r).then(|| StateKey::keys(&config.redis.state_prefix, &config.kafka.group, &r.name));
    (config.serve.enabled || config.serve.index).then(|| routes.iter().map(key).collect())
}

pub(super) fn check(c: &mut Checker<'_>) {
    let config = &c.loaded.config;
    let serve = &config.serve;
    if serve.listen.parse::<SocketAddr>().is_err() {
        c.add("serve.listen", format!("{:?}", serve.listen), "an IP address and a port, such as \"127.0.0.1:9651\"");
    }
    if !serve.streaming.is_empty() && config.route.iter().all(|r| r.name != serve.streaming) {
        let known: Vec<&str> = config.route.iter().map(|r| r.name.as_str()).collect();
        c.add("serve.streaming", format!("{:?}", serve.streaming), format!("a route's name: {}", known.join(", ")));
    }
    if serve.enabled && !config.http.enabled {
        c.add("serve.enabled", "true, without http.enabled", "http.enabled = true: the API is served on http.listen");
    }
    c.range("serve.connections_max", serve.connections_max, 1, 100_000);
    c.range("serve.connections_per_client", serve.connections_per_client, 0, serve.connections_max.max(1));
    c.range("serve.count_max", serve.count_max, 1, 100_000);
    c.range("serve.live_queue", serve.live_queue, 1, 1_000_000);
    c.range("serve.body_max", usize::try_from(serve.body_max.0).unwrap_or(usize::MAX), 1, 64 << 20);
    for (key, period) in [("serve.timeout", serve.timeout), ("serve.idempotency", serve.idempotency)] {
        if period.0.is_zero() {
            c.add(key, "0ms", "a duration above zero");
        }
    }
    c.period("serve.timeout", serve.timeout);
    if serve.burst != 0 && serve.requests_per_second == 0 {
        c.add("serve.burst", format!("{} without a rate", serve.burst), "burst only beside serve.requests_per_second");
    }
    for (i, origin) in serve.cors_origins.iter().enumerate() {
        let whole = origin.split_once("://").is_some_and(|(scheme, host)| ["http", "https"].contains(&scheme) && !host.is_empty() && !host.contains('/'));
        if origin != "*" && !(whole && origin.bytes().all(|b| b.is_ascii_graphic())) {
            c.add(format!("serve.cors_origins.{i}"), format!("{origin:?}"), "an origin such as \"https://dash.example.com\", or \"*\"");
        }
    }
    for (i, token) in serve.token.iter().enumerate() {
        if serve.token[..i].iter().any(|t| t.name == token.name) {
            c.add(format!("serve.token.{i}.name"), format!("{:?} twice", token.name), "a name of its own for each token");
        }
        if token.scopes.is_empty() {
            c.add(format!("serve.token.{i}.scopes"), "[]", "at least one of \"read\", \"publish\"");
        }
        if token.token.0.is_empty() == token.token_file.is_empty() {
            c.add(format!("serve.token.{i}"), "both token and token_file, or neither", "one of the two");
        } else if let Err(found) = token.secret() {
            let key = if token.token_file.is_empty() { "token" } else { "token_file" };
            c.add(format!("serve.token.{i}.{key}"), found, format!("at least {TOKEN_MIN} printable characters without a space"));
        }
    }
}
