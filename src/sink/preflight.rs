//! Whether this Redis can keep what is promised: asked at each first connection and by `check --connect`.
use super::connection::Connection;
use super::failure::Failure;
use super::{commands, permits};
use crate::config::{Config, Guarantee, redis_url};
use crate::core::encode::Encoder;
use crate::core::reply::{Class, Reply, triage};
use crate::core::route::Route;
use crate::core::state::StateKey;

/// What bounds an argument's length.
const BULK_MAX: &str = "proto-max-bulk-len";

/// Who is to be served: each needs other permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    Bridge,
    /// A replay.
    Job,
}

/// What a Redis says of itself.
#[derive(Clone, Debug, Default)]
pub struct Server {
    pub version: String,
    pub role: String,
    pub policy: String,
    /// Who we are to it: as it says, or, where it does not, as whom the connection was made.
    pub user: String,
    /// What could not be looked at, or may be fine.
    pub notes: Vec<String>,
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

impl From<Unfit> for Failure {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Failed(failure) => failure,
            Unfit::Refused(problems) => Self::refused(format!("this Redis can't serve: {}", problems.join("; ")), "correct what the message names"),
        }
    }
}

/// What is found on the way.
#[derive(Debug, Default)]
pub(super) struct Findings {
    problems: Vec<String>,
    notes: Vec<String>,
}

impl Findings {
    /// What must not be.
    pub(super) fn problem(&mut self, what: String) {
        if !self.problems.contains(&what) {
            self.problems.push(what);
        }
    }

    /// Whether a problem ends so.
    pub(super) fn has(&self, end: &str) -> bool {
        self.problems.iter().any(|p| p.ends_with(end))
    }

    /// What could not be looked at, or may be fine.
    pub(super) fn note(&mut self, what: String) {
        if !self.notes.contains(&what) {
            self.notes.push(what);
        }
    }
}

/// Asks the server, and refuses it where it can't keep the guarantee or lacks what the routes need.
pub fn preflight(connection: &mut Connection, config: &Config, routes: &[Route], by: For) -> Result<Server, Unfit> {
    let mut found = Findings::default();
    let info = text(connection.command(&["INFO"])?);
    let field = |name: &str| info.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().trim().to_owned();
    if let Some(error) = info.strip_prefix('!') {
        // LOADING and its like pass; anything else is a permission or a proxy.
        if triage(error) == Class::Transient {
            return Err(waits(error.to_owned()));
        }
        found.problem(format!("INFO is refused ({error}): allow it to the user, it tells the eviction policy"));
    }
    let role = role(connection, field)?;
    if role == "sentinel" {
        found.problem("this is a Sentinel, not a Redis: point redis.url at the master".into());
    }
    let whoami = text(connection.command(&["ACL", "WHOAMI"])?);
    let known = !whoami.starts_with('!');
    let user = if known { whoami } else { redis_url::user(&config.redis) };
    let (version, policy) = (field("redis_version"), field("maxmemory_policy"));
    let exactly = config.redis.guarantee == Guarantee::ExactlyOnce;
    evicts(config, &policy).into_iter().for_each(|p| found.problem(p));
    if exactly && version.starts_with("6.") {
        swaps(connection, &mut found)?;
    }
    if exactly && field("redis_mode") == "cluster" {
        found.problem(
            "this is a Redis Cluster: a transaction can't span its slots. Use a single Redis, or guarantee = \"at-least-once\" on a hash-tagged key space"
                .into(),
        );
    }
    if bulk_max(connection)?.is_none() {
        found.note(format!(
            "CONFIG GET {BULK_MAX} is refused: a record that is larger than this Redis takes halts its partition; allow it with +config|get, and it becomes a dead letter"
        ));
    }
    let store = StateKey::store_id(&config.redis.state_prefix);
    let space = String::from_utf8_lossy(store.0.strip_suffix(b"store").unwrap_or(&store.0)).into_owned();
    let trials = permits::Trials::of(&permits::Asked { by, config, routes, space: &space });
    commands::check(connection, routes, space.as_bytes(), &mut found)?;
    commands::known_all(connection, trials.names(), &mut found)?;
    if !known {
        found.note("ACL WHOAMI is refused: permissions are not checked before they are needed; allow it with +acl|whoami".into());
    } else {
        permits::check(connection, &user, &trials, &mut found)?;
    }
    // What a permission would explain is told above, and better.
    if found.problems.is_empty() {
        probe(connection, exactly.then_some(&store), &mut found)?;
    }
    if found.problems.is_empty() { Ok(Server { version, role, policy, user, notes: found.notes }) } else { Err(Unfit::Refused(found.problems)) }
}

/// Passes by itself.
fn waits(reason: String) -> Unfit {
    Unfit::Failed(Failure::unreachable(reason))
}

/// What the server is; by INFO where ROLE is not allowed. A replica is waited for: it may be promoted.
fn role(connection: &mut Connection, field: impl Fn(&str) -> String) -> Result<String, Unfit> {
    let (role, master) = match connection.command(&["ROLE"])? {
        Reply::Array(answer) => {
            let part = |i: usize| match answer.get(i) {
                Some(Reply::Text(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
                Some(Reply::Int(n)) => n.to_string(),
                _ => String::new(),
            };
            (part(0), format!("{}:{}", part(1), part(2)))
        }
        _ => (field("role"), format!("{}:{}", field("master_host"), field("master_port"))),
    };
    if role == "slave" || role == "replica" {
        return Err(waits(format!("this Redis is a replica of {master}; point redis.url at the master")));
    }
    Ok(role)
}

/// On a replica that swaps databases in a full resync a client's WATCH does not see it (tried on 6.2).
fn swaps(connection: &mut Connection, found: &mut Findings) -> Result<(), Failure> {
    match connection.command(&["CONFIG", "GET", "repl-diskless-load"])? {
        Reply::Array(answer) if answer.contains(&Reply::Text(b"swapdb".into())) => {
            found.problem("repl-diskless-load is swapdb on a Redis below 7.0: a full resync would escape the guard. Set it to disabled".into());
        }
        Reply::Array(_) => {}
        _ => found.note("CONFIG GET is refused: make sure that repl-diskless-load is not swapdb, which on a Redis below 7.0 would escape the guard".into()),
    }
    Ok(())
}

/// How long an argument may be, as it stands now; nothing where the server does not tell.
///
/// # Errors
/// The connection failed.
pub fn bulk_max(connection: &mut Connection) -> Result<Option<usize>, Failure> {
    Ok(match connection.command(&["CONFIG", "GET", BULK_MAX])? {
        Reply::Array(answer) => match answer.get(1) {
            Some(Reply::Text(bytes)) => std::str::from_utf8(bytes).ok().and_then(|t| t.parse().ok()),
            _ => None,
        },
        _ => None,
    })
}

/// Whether transactions are what they must be, tried on the bridge's own key (under WATCH, where there is a guard), with
/// nothing written. What lies between may answer for a Redis and be none.
fn probe(connection: &mut Connection, guarded: Option<&StateKey>, found: &mut Findings) -> Result<(), Unfit> {
    let text = |t: &str| Reply::Text(t.into());
    let mut out = Encoder::default();
    let mut expected = Vec::new();
    if let Some(key) = guarded {
        out.command(&[b"WATCH", key.0.as_slice()]);
        expected.push(("WATCH", text("OK")));
    }
    out.command(&["MULTI"]);
    expected.push(("MULTI", text("OK")));
    if let Some(key) = guarded {
        out.command(&[b"GET", key.0.as_slice()]);
        expected.push(("GET in a transaction", text("QUEUED")));
    }
    out.command(&["EXEC"]);
    expected.push(("EXEC", Reply::Array(Vec::new())));
    if guarded.is_some() {
        out.command(&["UNWATCH"]);
        expected.push(("UNWATCH", text("OK")));
    }
    let replies = connection.exchange(out.bytes(), expected.len()).map_err(|f| waits(format!("asked for WATCH, MULTI and EXEC: {f}")))?;
    for ((name, wanted), got) in expected.iter().zip(&replies) {
        let fits = match (wanted, got) {
            // Somebody else claims just now.
            (Reply::Array(_), Reply::Nil) if guarded.is_some() => return Err(waits("the transaction that was tried met another owner's claim".into())),
            (Reply::Array(_), Reply::Array(results)) => match results.as_slice() {
                [] => guarded.is_none(),
                [Reply::Nil | Reply::Text(_)] => guarded.is_some(),
                _ => false,
            },
            _ => wanted == got,
        };
        match got {
            Reply::Error(error) if triage(error) == Class::Transient => return Err(waits(error.clone())),
            // A full Redis is one all the same; the claim meets it by its own name.
            Reply::Error(error) if triage(error) == Class::Capacity => return Ok(()),
            _ if fits => {}
            _ => {
                let got = match got {
                    Reply::Error(error) => error.clone(),
                    other => format!("{other:?}"),
                };
                found.problem(format!("{name} is not answered as Redis does, but by {got:?}: a proxy, or a permission; positions need WATCH, MULTI and EXEC on the bridge's own keys"));
                break;
            }
        }
    }
    Ok(())
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

/// A reply as text; errors begin with `!`.
fn text(reply: Reply) -> String {
    match reply {
        Reply::Text(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Reply::Error(e) => format!("!{e}"),
        other => format!("{other:?}"),
    }
}
