//! Whether this Redis can keep what is promised: asked at each first connection and by `check --connect`.
use super::connection::{Connection, Failure};
use crate::config::{Config, Guarantee};
use crate::core::record::TopicPartition;
use crate::core::reply::Reply;
use crate::core::route::Route;
use crate::core::state::StateKey;
use crate::core::write::Kind;

/// What a Redis says of itself.
#[derive(Clone, Debug, Default)]
pub struct Server {
    pub version: String,
    pub role: String,
    pub policy: String,
    pub user: String,
}

/// Why a connection can't serve: it failed, or the server can't keep what is promised.
#[derive(Debug)]
pub enum Unfit {
    Failed(Failure),
    Refused(Vec<String>),
}

impl From<Failure> for Unfit {
    fn from(f: Failure) -> Self {
        Self::Failed(f)
    }
}

/// Asks the server, and refuses it where it can't keep the guarantee or lacks what the routes need.
pub fn preflight(connection: &mut Connection, config: &Config, routes: &[Route]) -> Result<Server, Unfit> {
    let mut problems = Vec::new();
    let info = text(connection.command(&["INFO"])?);
    let field = |name: &str| info.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().trim().to_owned();
    if let Some(error) = info.strip_prefix('!') {
        // LOADING and its like pass; anything else is a permission or a proxy.
        if crate::core::reply::triage(error) == crate::core::reply::Class::Transient {
            return Err(Unfit::Failed(Failure { reason: error.to_owned(), refused: false }));
        }
        problems.push(format!("INFO is refused ({error}): allow it to the user, it tells the eviction policy"));
    }
    let whoami = text(connection.command(&["ACL", "WHOAMI"])?);
    let server = Server {
        version: field("redis_version"),
        role: field("role"),
        policy: field("maxmemory_policy"),
        user: if whoami.starts_with('!') { String::new() } else { whoami },
    };
    let exactly = config.redis.guarantee == Guarantee::ExactlyOnce;
    problems.extend(evicts(config, &server.policy));
    // On such a replica a full resync escapes WATCH (tried on 6.2). Who may not ask is not told.
    if exactly
        && server.version.starts_with("6.")
        && let Reply::Array(answer) = connection.command(&["CONFIG", "GET", "repl-diskless-load"])?
        && answer.contains(&Reply::Text(b"swapdb".into()))
    {
        problems.push("repl-diskless-load is swapdb on a Redis below 7.0: a full resync would escape the guard. Set it to disabled".into());
    }
    if exactly && field("redis_mode") == "cluster" {
        problems.push(
            "this is a Redis Cluster: a transaction can't span its slots. Use a single Redis, or guarantee = \"at-least-once\" on a hash-tagged key space"
                .into(),
        );
    }
    let key = StateKey::partition(&config.redis.state_prefix, &config.kafka.group, &TopicPartition::new("", 0));
    let key = String::from_utf8_lossy(&key.0).into_owned();
    for name in own(exactly) {
        check_command(connection, &server, &name, false, &key, &mut problems)?;
    }
    for name in written(routes) {
        check_command(connection, &server, &name, true, "", &mut problems)?;
    }
    problems.dedup();
    if problems.is_empty() { Ok(server) } else { Err(Unfit::Refused(problems)) }
}

/// Whether the server's eviction policy breaks the guarantee, as it stands now.
pub fn eviction(connection: &mut Connection, config: &Config) -> Result<Option<String>, Failure> {
    let info = text(connection.command(&["INFO", "memory"])?);
    Ok(info.lines().find_map(|l| l.strip_prefix("maxmemory_policy:")).and_then(|policy| evicts(config, policy.trim())))
}

fn evicts(config: &Config, policy: &str) -> Option<String> {
    (config.redis.guarantee == Guarantee::ExactlyOnce && policy.starts_with("allkeys-")).then(|| {
        format!(
            "maxmemory-policy is {policy}: Redis may evict the state, and with it the guarantee. Use noeviction or a volatile-* policy, or guarantee = \"at-least-once\""
        )
    })
}

/// The commands of the guard and the state.
fn own(exactly: bool) -> Vec<String> {
    let guard: &[&str] = if exactly { &["watch", "unwatch", "hset", "hmget", "hgetall", "hsetnx", "hget", "set", "get", "type"] } else { &[] };
    ["multi", "exec"].iter().chain(guard).map(|n| (*n).to_owned()).collect()
}

/// The commands of the routes' writes.
fn written(routes: &[Route]) -> Vec<String> {
    let kinds = routes.iter().flat_map(|r| &r.writes).map(|w| &w.kind);
    let mut names: Vec<String> = kinds.map(|kind| if matches!(kind, Kind::Set { .. }) { "set".into() } else { kind.name() }).collect();
    names.sort();
    names.dedup();
    names
}

/// Whether a command exists here, the ACL allows it (on this key, where one is given), and it may be a route's write.
fn check_command(connection: &mut Connection, server: &Server, name: &str, write: bool, key: &str, problems: &mut Vec<String>) -> Result<(), Failure> {
    let Reply::Array(entries) = connection.command(&["COMMAND", "INFO", name])? else { return Ok(()) };
    let Some(Reply::Array(entry)) = entries.first() else {
        problems.push(format!("this server does not know {}", name.to_uppercase()));
        return Ok(());
    };
    let (Some(Reply::Int(arity)), Some(Reply::Array(flags))) = (entry.get(1), entry.get(2)) else { return Ok(()) };
    for bad in ["blocking", "no_multi", "admin", "pubsub"] {
        // PUBLISH alone is flagged pubsub and writes.
        if write && !matches!(name, "publish" | "spublish") && flags.contains(&Reply::Text(bad.into())) {
            problems.push(format!("{} is flagged {bad} by this server: it can't be a write", name.to_uppercase()));
        }
    }
    if server.user.is_empty() {
        return Ok(());
    }
    // ACL DRYRUN came with 7.0; older servers tell when a claim or a batch is refused.
    let mut ask = vec!["ACL", "DRYRUN", &server.user, name];
    ask.extend((1..arity.unsigned_abs()).map(|_| key));
    if let Reply::Text(answer) = connection.command(&ask)? {
        let answer = String::from_utf8_lossy(&answer);
        if answer.contains("no permissions to run the") {
            problems.push(format!("user {} lacks {}: ACL SETUSER {} +{name}", server.user, name.to_uppercase(), server.user));
        } else if !key.is_empty() && answer.contains("no permissions") {
            problems.push(format!(
                "user {} may not use the bridge's own keys: ACL SETUSER {} ~{}*",
                server.user,
                server.user,
                key.split(':').next().unwrap_or_default()
            ));
        }
    }
    Ok(())
}

/// A reply as text; errors begin with `!`.
fn text(reply: Reply) -> String {
    match reply {
        Reply::Text(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Reply::Error(e) => format!("!{e}"),
        other => format!("{other:?}"),
    }
}
