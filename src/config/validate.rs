//! The rules across fields.
use super::load::{Loaded, Mistake, Mistakes};
use super::policies::policies;
use super::routes::{TOPIC_NAME, compile_route};
use super::units::Period;
use super::{Config, Guarantee, Limit, OnStateLost};
use crate::core::claim::{self, Start};
use crate::core::condition;
use crate::core::lane::{Letters, Settings, Span};
use crate::core::replay::policy::Policy;
use crate::core::route::Route;
use crate::core::state::StateKey;
use crate::core::template::Template;
use crate::core::throttle::Throttle;
use crate::core::topics::{INTERNAL, is_name};
use crate::core::write::Kind;
use std::num::NonZeroU32;
use std::str::FromStr as _;

/// A configuration that could run.
#[derive(Clone, Debug)]
pub struct Valid {
    pub config: Config,
    pub lane: Settings,
    pub start: Start,
    /// What each write of each route does in a replay.
    pub policies: Vec<Vec<Policy>>,
    /// What is no mistake, but hardly what was meant.
    pub warnings: Vec<String>,
}

/// librdkafka properties that the bridge sets itself, with their other names, and why.
const OWNED: [(&str, &str); 10] = [
    ("bootstrap.servers", "set kafka.brokers"),
    ("metadata.broker.list", "set kafka.brokers"),
    ("group.id", "set kafka.group"),
    ("enable.auto.commit", "the bridge commits what is settled"),
    ("auto.commit.enable", "the bridge commits what is settled"),
    ("enable.auto.offset.store", "the bridge commits what is settled"),
    ("auto.offset.reset", "set kafka.start"),
    ("enable.partition.eof", "the bridge does not use it"),
    ("statistics.interval.ms", "the bridge reads ends, lag and commits from them every second"),
    ("isolation.level", "records of aborted transactions must not be applied"),
];

/// Gathers the mistakes.
pub(super) struct Checker<'a> {
    pub(super) loaded: &'a Loaded,
    mistakes: Vec<Mistake>,
    warnings: Vec<String>,
}

impl Checker<'_> {
    /// A mistake, unless its key has a wrong shape already: what stands there now is not the user's.
    pub(super) fn add(&mut self, key: impl Into<String>, found: impl Into<String>, allowed: impl Into<String>) {
        self.add_near(key, found, allowed, None);
    }

    /// A mistake that was probably meant to be something else.
    pub(super) fn add_near(&mut self, key: impl Into<String>, found: impl Into<String>, allowed: impl Into<String>, nearest: Option<String>) {
        let key = key.into();
        if self.is_mended(&key) {
            return;
        }
        let source = self.loaded.source_of(&key);
        self.mistakes.push(Mistake { source, key, found: found.into(), allowed: allowed.into(), nearest });
    }

    /// Whether something is wrong with a key already.
    pub(super) fn has(&self, key: &str) -> bool {
        self.mistakes.iter().any(|m| m.key == key)
    }

    pub(super) fn template(&mut self, key: String, text: &str) -> Option<Template> {
        let template = Template::parse(text).map_err(|mistake| self.misread(key.clone(), text, mistake, "with ")).ok()?;
        if let Some(hole) = template.literal_hole() {
            self.warn(&key, format_args!("{text:?} renders the text {hole} itself; for what the record has there, write {hole} with one brace at each end"));
        }
        Some(template)
    }

    /// A mistake inside of a text: its place is told, and shown in the file.
    pub(super) fn misread(&mut self, key: String, text: &str, mistake: condition::Mistake, with: &str) {
        let condition::Mistake { column, found, allowed, nearest } = mistake;
        if self.is_mended(&key) {
            return;
        }
        let source = self.loaded.source_inside(&key, text, column);
        let found = if with.is_empty() { format!("{found} at column {column} of {text:?}") } else { format!("{text:?}, {with}{found} at column {column}") };
        self.mistakes.push(Mistake { source, key, found, allowed, nearest });
    }

    /// What is no mistake, but hardly what was meant.
    pub(super) fn warn(&mut self, key: &str, text: impl std::fmt::Display) {
        self.warnings.push(format!("{}: {key}: {text}", self.loaded.source_of(key)));
    }

    fn is_mended(&self, key: &str) -> bool {
        self.loaded.mended.iter().any(|m| below(key, m))
    }

    pub(super) fn range(&mut self, key: &str, found: usize, from: usize, to: usize) {
        if !(from..=to).contains(&found) {
            self.add(key, found.to_string(), format!("{from} to {to}"));
        }
    }

    pub(super) fn period(&mut self, key: &str, found: Period) {
        if found.0 > PERIOD_MAX.0 {
            self.add(key, String::from(found), "at most a day");
        }
    }
}

/// The shortest time between two looks at what Redis holds.
const LOOK_MIN: Period = Period(std::time::Duration::from_millis(100));
/// The longest of the bridge's own waits: with centuries the time to wait until would overflow.
const PERIOD_MAX: Period = Period::secs(24 * 60 * 60);

/// Whether a key is another one, or stands below it.
pub(super) fn below(key: &str, above: &str) -> bool {
    key.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Checks everything that the shape does not say, and compiles.
///
/// # Errors
/// All mistakes, those of shape among them.
pub fn validate(loaded: &Loaded) -> Result<Valid, Mistakes> {
    let mut c = Checker { loaded, mistakes: loaded.mistakes.clone(), warnings: Vec::new() };
    let config = &loaded.config;
    let start = check_kafka(&mut c);
    check_redis(&mut c);
    c.range("batch.records_max", config.batch.records_max, 1, 100_000);
    c.range("batch.commands_max", config.batch.commands_max, 1, 100_000);
    c.range("batch.bytes_max", usize::try_from(config.batch.bytes_max.0).unwrap_or(usize::MAX), 1024, 512 << 20);
    if config.http.listen.parse::<std::net::SocketAddr>().is_err() {
        let port = config.http.listen.trim_start_matches(':').parse::<u16>();
        let near = port.ok().map(|port| format!("\"127.0.0.1:{port}\""));
        c.add_near("http.listen", format!("{:?}", config.http.listen), "an IP address and a port, such as \"127.0.0.1:9650\"", near);
    }
    if !config.http.redis_every.0.is_zero() && config.http.redis_every.0 < LOOK_MIN.0 {
        c.add("http.redis_every", String::from(config.http.redis_every), "0ms, which is never, or 100ms at the least");
    }
    c.period("http.redis_every", config.http.redis_every);
    c.period("batch.linger", config.batch.linger);
    c.period("drain.deadline", config.drain.deadline);
    super::serve::check(&mut c);
    let letters = check_letters(&mut c);
    if config.route.is_empty() {
        c.add("route", "no route", "at least one [[route]]");
    }
    let mut routes = Vec::new();
    let mut route_limits = Vec::new();
    let mut policies_of = Vec::new();
    for (i, route) in config.route.iter().enumerate() {
        if route.name.trim().is_empty() {
            c.add(format!("route.{i}.name"), format!("{:?}", route.name), "a name, for logs, metrics and dead letters");
        } else if config.route[..i].iter().any(|r| r.name == route.name) {
            c.add(format!("route.{i}.name"), format!("{:?} twice", route.name), "a name of its own for each route");
        }
        route_limits.push(check_limit(&mut c, &format!("route.{i}.limit"), &route.limit));
        routes.extend(compile_route(&mut c, i, route));
        policies_of.push(policies(&mut c, i, route));
    }
    let limit = check_limit(&mut c, "limit", &config.limit);
    if !c.mistakes.is_empty() {
        // As somebody goes through the file.
        c.mistakes.sort_by_key(|m| m.source.place.as_ref().map_or((usize::MAX, 0), |p| (p.line, p.column)));
        return Err(Mistakes(c.mistakes));
    }
    let lane = Settings {
        routes: routes.into(),
        records_max: config.batch.records_max,
        commands_max: config.batch.commands_max,
        bytes_max: usize::try_from(config.batch.bytes_max.0).unwrap_or(usize::MAX),
        linger: config.batch.linger.0,
        letters,
        span: Span::Lane,
        route_limits,
        limit,
    };
    Ok(Valid { config: config.clone(), lane, start, policies: policies_of, warnings: c.warnings })
}

fn check_kafka(c: &mut Checker<'_>) -> Start {
    let kafka = &c.loaded.config.kafka;
    if kafka.brokers.is_empty() {
        c.add("kafka.brokers", "[]", "at least one host:port");
    }
    for (i, broker) in kafka.brokers.iter().enumerate().filter(|(_, b)| !is_host_port(b)) {
        let allowed = "host:port with a port from 1 to 65535, such as \"kafka-1:9092\" or \"[::1]:9092\"";
        // A listener as the broker's own configuration writes it, or a host alone.
        let bare = broker.rsplit("://").next().unwrap_or_default().trim_end_matches('/');
        let near = [bare.to_owned(), format!("{bare}:9092")].into_iter().find(|b| is_host_port(b));
        c.add_near(format!("kafka.brokers.{i}"), format!("{broker:?}"), allowed, near.map(|b| format!("{b:?}")));
    }
    if kafka.group.is_empty() {
        c.add("kafka.group", "\"\"", "a group's name");
    }
    for (name, value) in &kafka.properties {
        // Topic settings go by this prefix, too.
        let plain = name.strip_prefix("topic.").unwrap_or(name);
        if let Some((_, why)) = OWNED.iter().find(|(owned, _)| *owned == plain) {
            c.add(format!("kafka.properties.{name}"), "a property that the bridge owns", *why);
        }
        if name == "check.crcs" && !["true", "t", "1"].contains(&value.0.to_lowercase().as_str()) {
            c.add(format!("kafka.properties.{name}"), "checksums switched off", "only true, which is the default here: corrupt records must not be applied");
        }
    }
    check_login(c);
    match kafka.start.as_str() {
        "earliest" => Start::Earliest,
        "latest" => Start::Latest,
        time => jiff::Timestamp::from_str(time).map_or_else(
            |_| {
                c.add("kafka.start", format!("{time:?}"), "\"earliest\", \"latest\", or an RFC 3339 time such as \"2026-11-20T00:00:00Z\"");
                Start::Earliest
            },
            |t| Start::at(t.as_millisecond()),
        ),
    }
}

/// A token comes by the command and by nothing else, and is asked for by one mechanism.
fn check_login(c: &mut Checker<'_>) {
    let kafka = &c.loaded.config.kafka;
    let mechanism = ["sasl.mechanism", "sasl.mechanisms"].into_iter().find(|name| kafka.properties.get(*name).is_some_and(|p| p.0 == "OAUTHBEARER"));
    match (mechanism, kafka.token_command.is_empty()) {
        (Some(name), true) => {
            c.add(
                format!("kafka.properties.{name}"),
                "\"OAUTHBEARER\" without kafka.token_command",
                "set kafka.token_command to a command that prints a token",
            );
        }
        (None, false) => c.add("kafka.token_command", "a command", "kafka.token_command only beside \"sasl.mechanism\" = \"OAUTHBEARER\" in kafka.properties"),
        _ => {}
    }
    if kafka.token_command.first().is_some_and(String::is_empty) {
        c.add("kafka.token_command.0", "\"\"", "a command's name or path");
    }
    for name in kafka.properties.keys().filter(|n| n.starts_with("sasl.oauthbearer.") || *n == "enable.sasl.oauthbearer.unsecure.jwt") {
        c.add(format!("kafka.properties.{name}"), "a way to a token that this build does not have", "kafka.token_command, which prints one");
    }
}

/// Whether a text is `host:port`, an IPv6 address in brackets.
pub fn is_host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host_fits = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(|c| c.is_alphanumeric() || "-._".contains(c)),
    };
    host_fits && port.chars().all(|c| c.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0)
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
    if redis.cert_file.is_empty() != redis.key_file.is_empty() {
        c.add("redis.cert_file", "only one of cert_file and key_file", "both, or neither");
    }
    for (key, file) in [("redis.ca_file", &redis.ca_file), ("redis.cert_file", &redis.cert_file), ("redis.key_file", &redis.key_file)] {
        if !file.is_empty()
            && let Err(e) = std::fs::File::open(file)
        {
            c.add(key, format!("{file:?}: {e}"), "a file that this user may read");
        }
    }
    super::redis_url::check(c);
}

fn check_letters(c: &mut Checker<'_>) -> Letters {
    let config = &c.loaded.config;
    let dead = &config.dead_letter;
    if dead.maxlen > 0 && dead.stream.is_empty() {
        c.add("dead_letter.maxlen", dead.maxlen.to_string(), "maxlen only beside dead_letter.stream, which it trims");
    }
    let (space, store) = own_keys(config);
    if dead.stream.as_bytes() == store || ["state:", "job", "keys:", "once:"].iter().any(|own| dead.stream.starts_with(&format!("{space}{own}"))) {
        c.add("dead_letter.stream", format!("{:?}", dead.stream), "a key that is not one of the bridge's state");
    }
    if !dead.topic.is_empty() && (!is_name(&dead.topic) || INTERNAL.contains(&dead.topic.as_str())) {
        c.add("dead_letter.topic", format!("{:?}", dead.topic), format!("{TOPIC_NAME}; none in which Kafka keeps its own data"));
    }
    match (dead.stream.is_empty(), dead.topic.is_empty()) {
        (false, false) => {
            c.add("dead_letter", "both stream and topic", "one of the two");
            Letters::Halt
        }
        (false, true) => Letters::Stream { name: dead.stream.clone(), maxlen: (dead.maxlen > 0).then_some(dead.maxlen) },
        (true, false) => Letters::Topic,
        (true, true) => {
            c.warn(
                "dead_letter",
                "neither stream nor topic is set: one record that can't be applied halts its partition; set one of the two to keep such records and go on",
            );
            Letters::Halt
        }
    }
}

/// What the bridge's own keys begin with, and the one that names the store.
pub(super) fn own_keys(config: &Config) -> (String, Vec<u8>) {
    let store = StateKey::store_id(&config.redis.state_prefix).0;
    (String::from_utf8_lossy(store.strip_suffix(b"store").unwrap_or(&store)).into_owned(), store)
}

fn check_limit(c: &mut Checker<'_>, key: &str, limit: &Limit) -> Option<Throttle> {
    if limit.burst != 0 && limit.records_per_second == 0 {
        c.add(format!("{key}.burst"), format!("{} without a rate", limit.burst), format!("burst only beside {key}.records_per_second"));
    }
    let rate = NonZeroU32::new(limit.records_per_second)?;
    let batch = u32::try_from(c.loaded.config.batch.records_max).unwrap_or(u32::MAX);
    if limit.burst != 0 && limit.burst < batch {
        c.add(format!("{key}.burst"), limit.burst.to_string(), format!("at least batch.records_max, {batch}: a larger batch could never pass"));
    }
    let burst = if limit.burst == 0 { rate.get().max(batch) } else { limit.burst };
    Some(Throttle::new(rate, NonZeroU32::new(burst)?))
}

/// The effective guarantee of a route's writes, in words, for `check` and the start-up log.
pub fn effective_guarantee(config: &Config, route: &Route) -> String {
    let publishes = route.writes.iter().any(|w| matches!(w.kind, Kind::Publish { .. }));
    let note = match config.redis.guarantee {
        _ if !publishes => "",
        Guarantee::ExactlyOnce => "; PUBLISH at most once to each connected subscriber",
        Guarantee::AtLeastOnce => "; PUBLISH once or more to each connected subscriber",
    };
    format!("{}{note}", config.redis.guarantee.name())
}

impl From<Guarantee> for claim::Guarantee {
    fn from(g: Guarantee) -> Self {
        match g {
            Guarantee::ExactlyOnce => Self::ExactlyOnce,
            Guarantee::AtLeastOnce => Self::AtLeastOnce,
        }
    }
}

impl From<OnStateLost> for claim::OnStateLost {
    fn from(o: OnStateLost) -> Self {
        match o {
            OnStateLost::Halt => Self::Halt,
            OnStateLost::Resume => Self::Resume,
            OnStateLost::Rebuild => Self::Rebuild,
        }
    }
}
