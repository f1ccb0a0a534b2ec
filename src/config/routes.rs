//! The routes compiled for the core: topics, templates, commands.
use super::conditions::compile_when;
use super::pattern;
use super::units::Period;
use super::validate::{Checker, below, own_keys};
use super::{Decode, Fields, OnTombstone, TtlFrom};
use crate::core::decode::Format;
use crate::core::route::{Route, Tombstone, Topics};
use crate::core::template::Template;
use crate::core::topics::{INTERNAL, Pattern, is_name};
use crate::core::write::{self, Kind, OnConditionError, TTL_SECONDS_MAX, Trim, TrimBy, Ttl, Write};
use std::str::FromStr as _;

/// What a topic's name may be, for messages.
pub(super) const TOPIC_NAME: &str = "a topic's name: 1 to 249 letters, digits, \".\", \"_\" and \"-\"; a pattern begins with ^";

/// Commands that would block, subscribe, change the connection, the transaction or the server, or write nothing; those
/// with subcommands are all of these kinds but XGROUP. The server's COMMAND INFO is asked too, where it can be reached.
const FORBIDDEN: &str = "\
    acl asking auth bgrewriteaof bgsave blmove blmpop blpop brpop brpoplpush bzmpop bzpopmax bzpopmin client
    cluster command config debug discard echo exec failover flushall flushdb function hello info keys lastsave
    latency lolwut memory migrate module monitor multi object pfdebug pfselftest ping psubscribe psync pubsub
    punsubscribe quit readonly readwrite replconf replicaof reset restore-asking role save script select
    shutdown slaveof slowlog ssubscribe subscribe sunsubscribe swapdb sync unsubscribe unwatch wait waitaof
    watch xinfo xread xreadgroup";

/// Commands by template whose first argument is no key.
const KEYLESS: [&str; 6] = ["publish", "spublish", "eval", "evalsha", "fcall", "xgroup"];

pub(super) fn compile_route(c: &mut Checker<'_>, i: usize, route: &super::Route) -> Option<Route> {
    let at = format!("route.{i}");
    if route.topics.is_empty() {
        c.add(format!("{at}.topics"), "[]", "at least one topic, or a pattern that begins with ^");
    }
    let letters = c.loaded.config().dead_letter.topic.clone();
    let topics = route.topics.iter().enumerate().filter_map(|(t, topic)| {
        if topic.starts_with('^') {
            let refused = |why: String| c.add(format!("{at}.topics.{t}"), format!("{topic:?}, with {why}"), pattern::ALLOWED);
            pattern::parse(topic).map(|regex| Topics::Pattern(Pattern::new(regex, &letters))).map_err(refused).ok()
        } else {
            name_fits(c, &format!("{at}.topics.{t}"), topic).then(|| Topics::Name(topic.clone()))
        }
    });
    let topics = topics.collect();
    if route.write.is_empty() {
        c.add(format!("{at}.write"), "no write", "at least one [[route.write]]");
    }
    let when = compile_when(c, &at, route.when.as_deref(), route.decode);
    let writes: Vec<Write> =
        route.write.iter().enumerate().filter_map(|(w, write)| compile_write(c, &format!("{at}.write.{w}"), write, route.decode)).collect();
    Some(Route {
        name: route.name.clone(),
        topics,
        format: if route.decode == Decode::Json { Format::Json } else { Format::Raw },
        tombstone: match route.on_tombstone {
            OnTombstone::Skip => Tombstone::Skip,
            OnTombstone::Del => Tombstone::Del,
            OnTombstone::Write => Tombstone::Write,
        },
        when,
        on_condition_error: route.on_condition_error.into(),
        writes,
    })
}

/// Whether a route may read a topic by this name: what Kafka or the bridge itself writes is no data.
fn name_fits(c: &mut Checker<'_>, at: &str, topic: &str) -> bool {
    let allowed = if INTERNAL.contains(&topic) {
        "a topic of yours: Kafka keeps its own data in this one".into()
    } else if topic == c.loaded.config().dead_letter.topic {
        format!("a topic that is not dead_letter.topic, {topic:?}: each letter would be read again. A bridge of another group may read it")
    } else if is_name(topic) {
        return true;
    } else {
        TOPIC_NAME.into()
    };
    c.add(at, format!("{topic:?}"), allowed);
    false
}

fn compile_write(c: &mut Checker<'_>, at: &str, write: &super::Write, decode: Decode) -> Option<Write> {
    let named = [write.xadd.is_some(), write.setex.is_some(), write.set.is_some(), write.publish.is_some(), write.del.is_some(), write.command.is_some()];
    if named.iter().filter(|n| **n).count() != 1 {
        if c.loaded.mended.iter().any(|m| below(m, at)) {
            return None;
        }
        c.add(at, format!("{} commands", named.iter().filter(|n| **n).count()), "exactly one of xadd, setex, set, publish, del, command");
        return None;
    }
    keep_out(c, at, write);
    let when = compile_when(c, at, write.when.as_deref(), decode);
    let kind = if let Some(x) = &write.xadd {
        compile_xadd(c, at, x, decode)?
    } else if let Some(s) = &write.setex {
        let (key, value) = (c.template(format!("{at}.setex.key"), &s.key), c.template(format!("{at}.setex.value"), &s.value));
        let ttl = compile_ttl(c, &format!("{at}.setex.ttl"), &s.ttl, s.ttl_from);
        Kind::Set { key: key?, value: value?, ttl: Some(ttl?), collapse: s.collapse }
    } else if let Some(s) = &write.set {
        let (key, value) = (c.template(format!("{at}.set.key"), &s.key), c.template(format!("{at}.set.value"), &s.value));
        let ttl = match &s.ttl {
            Some(ttl) => Some(compile_ttl(c, &format!("{at}.set.ttl"), ttl, s.ttl_from)?),
            None if s.ttl_from.is_some() => {
                c.add(format!("{at}.set.ttl_from"), "ttl_from without ttl", "ttl_from only beside ttl, which it says the beginning of");
                None
            }
            None => None,
        };
        Kind::Set { key: key?, value: value?, ttl, collapse: s.collapse }
    } else if let Some(p) = &write.publish {
        let (channel, message) = (c.template(format!("{at}.publish.channel"), &p.channel), c.template(format!("{at}.publish.message"), &p.message));
        Kind::Publish { channel: channel?, message: message? }
    } else if let Some(d) = &write.del {
        Kind::Del { key: c.template(format!("{at}.del.key"), &d.key)? }
    } else {
        compile_command(c, at, write.command.as_deref().unwrap_or_default())?
    };
    if decode == Decode::Raw && kind_templates(&kind).iter().any(|t| t.needs_fields()) {
        c.add(at, "a {value...} hole in a route with decode = \"raw\"", "decode = \"json\", or {payload}");
    }
    let on_condition_error = write.on_condition_error.map_or(OnConditionError::Skip, Into::into);
    Some(Write { when, on_condition_error, ..Write::new(kind) })
}

/// Refuses a key that lies in the bridge's own key space, as far as its constant beginning tells.
fn keep_out(c: &mut Checker<'_>, at: &str, write: &super::Write) {
    let keys = [
        ("xadd.key", write.xadd.as_ref().map(|x| &x.key)),
        ("setex.key", write.setex.as_ref().map(|s| &s.key)),
        ("set.key", write.set.as_ref().map(|s| &s.key)),
        ("del.key", write.del.as_ref().map(|d| &d.key)),
        (
            "command.1",
            write.command.as_ref().filter(|args| !args.first().is_some_and(|n| KEYLESS.contains(&n.to_lowercase().as_str()))).and_then(|args| args.get(1)),
        ),
    ];
    let (space, _) = own_keys(c.loaded.config());
    let letters = c.loaded.config().dead_letter.stream.clone();
    for (name, text) in keys.into_iter().filter_map(|(name, text)| Some((name, text?))) {
        if Template::parse(text).is_ok_and(|key| key.prefix().starts_with(space.as_bytes())) {
            let allowed = format!("a key that does not begin with {space:?}: redis.state_prefix keeps those for the bridge itself");
            c.add(format!("{at}.{name}"), format!("{text:?}"), allowed);
        } else if !letters.is_empty() && Template::parse(text).is_ok_and(|key| key.constant() == Some(letters.as_bytes())) {
            c.add(format!("{at}.{name}"), format!("{text:?}"), "a key that is not dead_letter.stream: the bridge alone writes there");
        }
    }
}

fn kind_templates(kind: &Kind) -> Vec<&Template> {
    match kind {
        Kind::Xadd(x) => {
            let fields: Vec<&Template> = if let write::Fields::Table(t) = &x.fields { t.iter().map(|(_, t)| t).collect() } else { Vec::new() };
            let minid = if let Some(Trim { by: TrimBy::MinId(t), .. }) = &x.trim { Some(t) } else { None };
            [&x.key, &x.id].into_iter().chain(fields).chain(minid).collect()
        }
        Kind::Set { key, value, ttl, .. } => [key, value].into_iter().chain(ttl.as_ref().and_then(Ttl::template)).collect(),
        Kind::Publish { channel, message } => vec![channel, message],
        Kind::Del { key } => vec![key],
        Kind::Command(args) => args.iter().collect(),
    }
}

fn compile_xadd(c: &mut Checker<'_>, at: &str, x: &super::Xadd, decode: Decode) -> Option<Kind> {
    let at = format!("{at}.xadd");
    let key = c.template(format!("{at}.key"), &x.key);
    let id = c.template(format!("{at}.id"), &x.id);
    let fields = match &x.fields {
        Fields::All(star) if star == "*" => {
            if decode == Decode::Raw {
                c.add(format!("{at}.fields"), "\"*\" in a route with decode = \"raw\"", "decode = \"json\", or a table such as { payload = \"{payload}\" }");
            }
            Some(write::Fields::All)
        }
        Fields::All(other) => {
            c.add(format!("{at}.fields"), format!("{other:?}"), "\"*\", or a table of field → template");
            None
        }
        Fields::Table(table) => {
            if table.is_empty() {
                c.add(format!("{at}.fields"), "an empty table", "at least one field");
            }
            let fields: Vec<_> = table.iter().map(|(name, text)| c.template(format!("{at}.fields.{name}"), text).map(|t| (name.clone(), t))).collect();
            fields.into_iter().collect::<Option<Vec<_>>>().map(write::Fields::Table)
        }
    };
    let by = match (x.maxlen, &x.minid) {
        (Some(_), Some(_)) => {
            c.add(at.clone(), "both maxlen and minid", "one of the two");
            None
        }
        (Some(n), None) => Some(TrimBy::MaxLen(n)),
        (None, Some(text)) => c.template(format!("{at}.minid"), text).map(TrimBy::MinId),
        (None, None) => None,
    };
    if by.is_none() && (x.exact || x.limit.is_some()) && x.minid.is_none() {
        c.add(at.clone(), "exact or limit without maxlen or minid", "exact and limit only beside maxlen or minid");
    }
    if x.exact && x.limit.is_some() {
        c.add(format!("{at}.limit"), "limit beside exact = true", "limit only without exact (Redis refuses both)");
    }
    let ahead_max_ms = u64::try_from(x.id_ahead_max.0.as_millis()).unwrap_or(u64::MAX);
    let trim = by.map(|by| Trim { by, exact: x.exact, limit: x.limit });
    Some(Kind::Xadd(write::Xadd { key: key?, fields: fields?, id: id?, trim, nomkstream: x.nomkstream, ahead_max_ms }))
}

fn compile_ttl(c: &mut Checker<'_>, key: &str, text: &str, from: Option<TtlFrom>) -> Option<Ttl> {
    let ttl = compile_length(c, key, text)?;
    Some(if from == Some(TtlFrom::Timestamp) { Ttl::FromRecord(Box::new(ttl)) } else { ttl })
}

fn compile_length(c: &mut Checker<'_>, key: &str, text: &str) -> Option<Ttl> {
    if text.contains('{') {
        return c.template(key.to_owned(), text).map(Ttl::Rendered);
    }
    let fixed = Period::from_str(text).ok().filter(|p| p.0.as_secs() <= TTL_SECONDS_MAX);
    match fixed.filter(|p| !p.0.is_zero()) {
        Some(period) => Some(Ttl::Fixed(write::whole_ms(period.0))),
        None => {
            let allowed = "a duration above zero, such as \"1h\", at most a hundred years, or a template that renders seconds";
            let near = text.trim().parse::<u32>().ok().filter(|n| *n > 0).map(|n| format!("\"{n}s\""));
            c.add_near(key, format!("{text:?}"), allowed, near);
            None
        }
    }
}

fn compile_command(c: &mut Checker<'_>, at: &str, args: &[String]) -> Option<Kind> {
    let at = format!("{at}.command");
    let templates: Vec<_> = args.iter().enumerate().map(|(i, a)| c.template(format!("{at}.{i}"), a)).collect();
    let first = match templates.first() {
        Some(Some(first)) => Some(first),
        Some(None) => return None,
        None => None,
    };
    let Some(name) = first.and_then(Template::constant).map(|n| String::from_utf8_lossy(n).to_lowercase()).filter(|n| !n.is_empty()) else {
        c.add(at, "no constant command name", "a command's name first, such as [\"HSET\", \"pair:{key}\", \"price\", \"{value.price}\"]");
        return None;
    };
    if FORBIDDEN.split_ascii_whitespace().any(|f| f == name) {
        c.add(
            format!("{at}.0"),
            format!("{:?}", args[0]),
            "a command that writes data: none that only reads, blocks, subscribes, or changes the connection, the transaction or the server",
        );
        return None;
    }
    let publishes = name == "publish" || name == "spublish";
    if c.loaded.config.redis.on_state_lost == super::OnStateLost::Rebuild && KEYLESS.contains(&name.as_str()) && !publishes {
        c.add(
            format!("{at}.0"),
            format!("{:?} beside redis.on_state_lost = \"rebuild\"", args[0]),
            "a command whose first argument is its key: a rebuild could not tell whether what it writes to survived",
        );
        return None;
    }
    templates.into_iter().collect::<Option<_>>().map(Kind::Command)
}
