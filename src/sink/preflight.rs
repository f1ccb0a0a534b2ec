//! Whether this Redis can keep what is promised: asked at each first connection and by `check --connect`.
use super::connection::{Connection, Failure};
use crate::config::{Config, Guarantee};
use crate::core::reply::Reply;
use crate::core::route::Route;
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
    if exactly && server.policy.starts_with("allkeys-") {
        problems.push(format!(
            "maxmemory-policy is {}: Redis may evict the state, and with it the guarantee. Use noeviction or a volatile-* policy, or guarantee = \"at-least-once\"",
            server.policy
        ));
    }
    if exactly && field("redis_mode") == "cluster" {
        problems.push(
            "this is a Redis Cluster: a transaction can't span its slots. Use a single Redis, or guarantee = \"at-least-once\" on a hash-tagged key space"
                .into(),
        );
    }
    for name in needed(exactly, routes) {
        check_command(connection, &server, &name, &mut problems)?;
    }
    if problems.is_empty() { Ok(server) } else { Err(Unfit::Refused(problems)) }
}

/// The commands that the bridge will send.
fn needed(exactly: bool, routes: &[Route]) -> Vec<String> {
    let mut names: Vec<String> = ["multi", "exec"].map(str::to_owned).to_vec();
    if exactly {
        names.extend(["watch", "unwatch", "hset", "hmget", "hgetall", "hsetnx", "set", "get", "type"].map(str::to_owned));
    }
    for kind in routes.iter().flat_map(|r| &r.writes).map(|w| &w.kind) {
        names.push(if matches!(kind, Kind::Set { .. }) { "set".into() } else { kind.name() });
    }
    names.sort();
    names.dedup();
    names
}

fn check_command(connection: &mut Connection, server: &Server, name: &str, problems: &mut Vec<String>) -> Result<(), Failure> {
    let info = connection.command(&["COMMAND", "INFO", name])?;
    let Reply::Array(entries) = &info else { return Ok(()) };
    match entries.first() {
        Some(Reply::Array(entry)) => {
            let flags = entry.get(2).map(|f| format!("{f:?}")).unwrap_or_default();
            let flag = |bytes: &str| flags.contains(&format!("{:?}", bytes.as_bytes().to_vec()));
            for bad in ["blocking", "pubsub_channel", "no_multi", "admin"] {
                if flag(bad) {
                    problems.push(format!("{} is flagged {bad} by this server: it can't be a write", name.to_uppercase()));
                }
            }
        }
        _ => problems.push(format!("this server does not know {}", name.to_uppercase())),
    }
    // ACL DRYRUN came with 7.0; older servers tell by NOPERM when a claim or a batch is refused.
    if !server.user.is_empty()
        && let Reply::Text(answer) = connection.command(&["ACL", "DRYRUN", &server.user, name])?
        && String::from_utf8_lossy(&answer).contains("no permissions to run the")
    {
        problems.push(format!("user {} lacks {}: ACL SETUSER {} +{name}", server.user, name.to_uppercase(), server.user));
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
