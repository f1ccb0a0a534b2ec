//! The rules across fields, and the routes compiled for the core.
use super::load::{Loaded, Mistake, Mistakes};
use super::units::Period;
use super::{Config, Decode, Fields, Limit, OnTombstone};
use crate::core::claim::Start;
use crate::core::decode::Format;
use crate::core::lane::{Letters, Settings, Span};
use crate::core::route::{Route, Tombstone, Topics};
use crate::core::template::Template;
use crate::core::throttle::Throttle;
use crate::core::write::{self, Effect, Kind, TTL_SECONDS_MAX, Trim, TrimBy, Ttl, Write};
use std::num::NonZeroU32;
use std::str::FromStr as _;

/// A configuration that could run.
#[derive(Clone, Debug)]
pub struct Valid {
    pub config: Config,
    pub lane: Settings,
    pub start: Start,
}

/// librdkafka properties that the bridge sets itself, and why.
const OWNED: [(&str, &str); 8] = [
    ("bootstrap.servers", "set kafka.brokers"),
    ("group.id", "set kafka.group"),
    ("enable.auto.commit", "the bridge commits what is settled"),
    ("enable.auto.offset.store", "the bridge commits what is settled"),
    ("auto.offset.reset", "set kafka.start"),
    ("enable.partition.eof", "the bridge does not use it"),
    ("statistics.interval.ms", "the bridge reads ends, lag and commits from them every second"),
    ("isolation.level", "records of aborted transactions must not be applied"),
];

/// Commands that would block, change the connection or the transaction, or subscribe; the server's COMMAND INFO is
/// asked too, where it can be reached.
const FORBIDDEN: [&str; 44] = [
    "multi",
    "exec",
    "discard",
    "watch",
    "unwatch",
    "auth",
    "hello",
    "select",
    "quit",
    "reset",
    "client",
    "subscribe",
    "psubscribe",
    "ssubscribe",
    "unsubscribe",
    "punsubscribe",
    "sunsubscribe",
    "monitor",
    "sync",
    "psync",
    "replconf",
    "blpop",
    "brpop",
    "brpoplpush",
    "blmove",
    "blmpop",
    "bzpopmin",
    "bzpopmax",
    "bzmpop",
    "xread",
    "xreadgroup",
    "wait",
    "waitaof",
    "shutdown",
    "debug",
    "replicaof",
    "slaveof",
    "config",
    "flushall",
    "flushdb",
    "swapdb",
    "failover",
    "readonly",
    "asking",
];

struct Checker<'a> {
    loaded: &'a Loaded,
    mistakes: Vec<Mistake>,
}

impl Checker<'_> {
    fn add(&mut self, key: impl Into<String>, found: impl Into<String>, allowed: impl Into<String>) {
        let key = key.into();
        let source = self.loaded.source_of(&key);
        self.mistakes.push(Mistake { source, key, found: found.into(), allowed: allowed.into(), nearest: None });
    }

    fn template(&mut self, key: String, text: &str) -> Option<Template> {
        Template::parse(text).map_err(|e| self.add(key, format!("{text:?}"), e)).ok()
    }

    fn range(&mut self, key: &str, found: usize, from: usize, to: usize) {
        if !(from..=to).contains(&found) {
            self.add(key, found.to_string(), format!("{from} to {to}"));
        }
    }

    fn period(&mut self, key: &str, found: Period) {
        if found.0 > PERIOD_MAX.0 {
            self.add(key, String::from(found), "at most a day");
        }
    }
}

/// The longest of the bridge's own waits: with centuries the time to wait until would overflow.
const PERIOD_MAX: Period = Period::secs(24 * 60 * 60);

/// Checks everything that the shape does not say, and compiles.
///
/// # Errors
/// All mistakes, those of shape among them.
pub fn validate(loaded: &Loaded) -> Result<Valid, Mistakes> {
    let mut c = Checker { loaded, mistakes: loaded.mistakes.clone() };
    let config = &loaded.config;
    let start = check_kafka(&mut c);
    check_redis(&mut c);
    c.range("batch.records_max", config.batch.records_max, 1, 100_000);
    c.range("batch.bytes_max", usize::try_from(config.batch.bytes_max.0).unwrap_or(usize::MAX), 1024, 512 << 20);
    if config.http.listen.parse::<std::net::SocketAddr>().is_err() {
        c.add("http.listen", format!("{:?}", config.http.listen), "an IP address and a port, such as \"127.0.0.1:9650\"");
    }
    c.period("batch.linger", config.batch.linger);
    c.period("drain.deadline", config.drain.deadline);
    let letters = check_letters(&mut c);
    if config.route.is_empty() && loaded.mistakes.iter().all(|m| m.key != "route") {
        c.add("route", "no route", "at least one [[route]]");
    }
    let mut routes = Vec::new();
    let mut route_limits = Vec::new();
    for (i, route) in config.route.iter().enumerate() {
        if config.route[..i].iter().any(|r| r.name == route.name) {
            c.add(format!("route.{i}.name"), format!("{:?} twice", route.name), "a name of its own for each route");
        }
        route_limits.push(check_limit(&mut c, &format!("route.{i}.limit"), &route.limit));
        routes.extend(compile_route(&mut c, i, route));
    }
    let limit = check_limit(&mut c, "limit", &config.limit);
    if !c.mistakes.is_empty() {
        return Err(Mistakes(c.mistakes));
    }
    let lane = Settings {
        routes: routes.into(),
        records_max: config.batch.records_max,
        bytes_max: usize::try_from(config.batch.bytes_max.0).unwrap_or(usize::MAX),
        linger: config.batch.linger.0,
        letters,
        span: Span::Lane,
        route_limits,
        limit,
    };
    Ok(Valid { config: config.clone(), lane, start })
}

fn check_kafka(c: &mut Checker<'_>) -> Start {
    let kafka = &c.loaded.config.kafka;
    if kafka.brokers.is_empty() || kafka.brokers.iter().any(String::is_empty) {
        c.add("kafka.brokers", format!("{:?}", kafka.brokers), "a list of host:port");
    }
    if kafka.group.is_empty() {
        c.add("kafka.group", "\"\"", "a group's name");
    }
    for (name, why) in OWNED {
        if kafka.properties.contains_key(name) {
            c.add(format!("kafka.properties.{name}"), "a property that the bridge owns", why);
        }
    }
    match kafka.start.as_str() {
        "earliest" => Start::Earliest,
        "latest" => Start::Latest,
        time => jiff::Timestamp::from_str(time).map_or_else(
            |_| {
                c.add("kafka.start", format!("{time:?}"), "\"earliest\", \"latest\", or an RFC 3339 time such as \"2026-11-20T00:00:00Z\"");
                Start::Earliest
            },
            |t| Start::Time(t.as_millisecond()),
        ),
    }
}

fn check_redis(c: &mut Checker<'_>) {
    let redis = &c.loaded.config.redis;
    c.range("redis.lanes", redis.lanes, 1, 64);
    if redis.state_prefix.is_empty() {
        c.add("redis.state_prefix", "\"\"", "a text that begins the bridge's own keys");
    }
    for (key, period) in [("redis.connect_timeout", redis.connect_timeout), ("redis.response_timeout", redis.response_timeout)] {
        if period.0.is_zero() {
            c.add(key, "0ms", "a duration above zero");
        }
        c.period(key, period);
    }
    if !redis.password.0.is_empty() && !redis.password_file.is_empty() {
        c.add("redis.password_file", "a file, and redis.password too", "one of the two");
    }
    if redis.cert_file.is_empty() != redis.key_file.is_empty() {
        c.add("redis.cert_file", "only one of cert_file and key_file", "both, or neither");
    }
    if let Err(e) = redis::parse_redis_url(&redis.url.0).ok_or("").and_then(|u| redis::IntoConnectionInfo::into_connection_info(u).map_err(|_| "")) {
        let _ = e;
        c.add("redis.url", "no Redis URL (not shown, it may hold a password)", "redis://host:port/db, rediss://host:port/db, or redis+unix:///path");
    }
    for (key, file) in [
        ("redis.password_file", &redis.password_file),
        ("redis.ca_file", &redis.ca_file),
        ("redis.cert_file", &redis.cert_file),
        ("redis.key_file", &redis.key_file),
    ] {
        if !file.is_empty()
            && let Err(e) = std::fs::File::open(file)
        {
            c.add(key, format!("{file:?}: {e}"), "a file that this user may read");
        }
    }
}

fn check_letters(c: &mut Checker<'_>) -> Letters {
    let dead = &c.loaded.config.dead_letter;
    match (dead.stream.is_empty(), dead.topic.is_empty()) {
        (false, false) => {
            c.add("dead_letter", "both stream and topic", "one of the two");
            Letters::Halt
        }
        (false, true) => Letters::Stream { name: dead.stream.clone(), maxlen: (dead.maxlen > 0).then_some(dead.maxlen) },
        (true, false) => Letters::Topic,
        (true, true) => Letters::Halt,
    }
}

fn check_limit(c: &mut Checker<'_>, key: &str, limit: &Limit) -> Option<Throttle> {
    let rate = NonZeroU32::new(limit.records_per_second)?;
    let batch = u32::try_from(c.loaded.config.batch.records_max).unwrap_or(u32::MAX);
    if limit.burst != 0 && limit.burst < batch {
        c.add(format!("{key}.burst"), limit.burst.to_string(), format!("at least batch.records_max, {batch}: a larger batch could never pass"));
    }
    let burst = if limit.burst == 0 { rate.get().max(batch) } else { limit.burst };
    Some(Throttle::new(rate, NonZeroU32::new(burst)?))
}

fn compile_route(c: &mut Checker<'_>, i: usize, route: &super::Route) -> Option<Route> {
    let at = format!("route.{i}");
    if route.topics.is_empty() {
        c.add(format!("{at}.topics"), "[]", "at least one topic, or a pattern that begins with ^");
    }
    let topics = route.topics.iter().enumerate().filter_map(|(t, topic)| {
        if topic.starts_with('^') {
            regex::Regex::new(topic)
                .map(Topics::Pattern)
                .map_err(|e| c.add(format!("{at}.topics.{t}"), format!("{topic:?}"), format!("a regular expression: {e}")))
                .ok()
        } else if topic.is_empty() {
            c.add(format!("{at}.topics.{t}"), "\"\"", "a topic's name");
            None
        } else {
            Some(Topics::Name(topic.clone()))
        }
    });
    let topics = topics.collect();
    if route.write.is_empty() {
        c.add(format!("{at}.write"), "no write", "at least one [[route.write]]");
    }
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
        writes,
    })
}

fn compile_write(c: &mut Checker<'_>, at: &str, write: &super::Write, decode: Decode) -> Option<Write> {
    let named = [write.xadd.is_some(), write.setex.is_some(), write.set.is_some(), write.publish.is_some(), write.del.is_some(), write.command.is_some()];
    if named.iter().filter(|n| **n).count() != 1 {
        c.add(at, format!("{} commands", named.iter().filter(|n| **n).count()), "exactly one of xadd, setex, set, publish, del, command");
        return None;
    }
    let kind = if let Some(x) = &write.xadd {
        compile_xadd(c, at, x, decode)?
    } else if let Some(s) = &write.setex {
        let (key, value) = (c.template(format!("{at}.setex.key"), &s.key), c.template(format!("{at}.setex.value"), &s.value));
        let ttl = compile_ttl(c, &format!("{at}.setex.ttl"), &s.ttl);
        Kind::Set { key: key?, value: value?, ttl: Some(ttl?) }
    } else if let Some(s) = &write.set {
        let (key, value) = (c.template(format!("{at}.set.key"), &s.key), c.template(format!("{at}.set.value"), &s.value));
        let ttl = match &s.ttl {
            Some(ttl) => Some(compile_ttl(c, &format!("{at}.set.ttl"), ttl)?),
            None => None,
        };
        Kind::Set { key: key?, value: value?, ttl }
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
    Some(Write { kind, effect: Effect::Apply })
}

fn kind_templates(kind: &Kind) -> Vec<&Template> {
    match kind {
        Kind::Xadd(x) => {
            let fields: Vec<&Template> = if let write::Fields::Table(t) = &x.fields { t.iter().map(|(_, t)| t).collect() } else { Vec::new() };
            let minid = if let Some(Trim { by: TrimBy::MinId(t), .. }) = &x.trim { Some(t) } else { None };
            [&x.key, &x.id].into_iter().chain(fields).chain(minid).collect()
        }
        Kind::Set { key, value, ttl } => {
            let ttl = if let Some(Ttl::Rendered(t)) = ttl { Some(t) } else { None };
            [key, value].into_iter().chain(ttl).collect()
        }
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
    let trim = by.map(|by| Trim { by, exact: x.exact, limit: x.limit });
    Some(Kind::Xadd(write::Xadd { key: key?, fields: fields?, id: id?, trim, nomkstream: x.nomkstream }))
}

fn compile_ttl(c: &mut Checker<'_>, key: &str, text: &str) -> Option<Ttl> {
    if text.contains('{') {
        return c.template(key.to_owned(), text).map(Ttl::Rendered);
    }
    let fixed = Period::from_str(text).ok().filter(|p| p.0.as_secs() <= TTL_SECONDS_MAX);
    match fixed.and_then(|p| u64::try_from(p.0.as_millis()).ok()).filter(|ms| *ms > 0) {
        Some(ms) => Some(Ttl::Fixed(ms)),
        None => {
            c.add(key, format!("{text:?}"), "a duration above zero, such as \"1h\", at most a hundred years, or a template that renders seconds");
            None
        }
    }
}

fn compile_command(c: &mut Checker<'_>, at: &str, args: &[String]) -> Option<Kind> {
    let at = format!("{at}.command");
    let templates: Vec<_> = args.iter().enumerate().map(|(i, a)| c.template(format!("{at}.{i}"), a)).collect();
    let templates: Vec<Template> = templates.into_iter().collect::<Option<_>>()?;
    let Some(name) = templates.first().and_then(Template::constant).map(|n| String::from_utf8_lossy(n).to_lowercase()).filter(|n| !n.is_empty()) else {
        c.add(at, "no constant command name", "a command's name first, such as [\"HSET\", \"pair:{key}\", \"price\", \"{value.price}\"]");
        return None;
    };
    if FORBIDDEN.contains(&name.as_str()) {
        c.add(
            format!("{at}.0"),
            format!("{:?}", args[0]),
            "a command that writes data: none that blocks, subscribes, or changes the connection, the transaction or the server",
        );
        return None;
    }
    Some(Kind::Command(templates))
}

/// The effective guarantee of a route's writes, in words, for `check` and the start-up log.
pub fn effective_guarantee(config: &Config, route: &Route) -> String {
    let publishes = route.writes.iter().any(|w| matches!(w.kind, Kind::Publish { .. }));
    let base = config.redis.guarantee.name();
    let note = if publishes { "; PUBLISH at most once to each connected subscriber" } else { "" };
    format!("{base}{note}")
}
