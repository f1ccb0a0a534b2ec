//! From what a person asks for to a plan: which topics, which offsets, which writes.
use super::store::{Frozen, Store, Stored};
use crate::config::load::{Loaded, Mistakes};
use crate::config::validate::{Valid, validate};
use crate::config::{self, Guarantee};
use crate::core::claim::Start;
use crate::core::lane::Letters;
use crate::core::record::TopicPartition;
use crate::core::replay::bounds::{Bound, Held, OF_ONE, partitions};
use crate::core::replay::earlier;
use crate::core::replay::plan::{self, Plan, Span};
use crate::core::replay::policy::{Ids, Live, Options, Planned, apply, check_ids, check_streams};
use crate::core::replay::unfinished;
use crate::core::reply::Reply;
use crate::core::state::StateKey;
use crate::core::throttle::Throttle;
use crate::kafka::log::KafkaLog;
use crate::kafka::ranges::times;
use crate::sink::connection::Connection;
use crate::sink::preflight::{For, Server, Unfit, preflight};
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

/// How long Kafka may take to show the first and the last records.
const TIMES_MAX: Duration = Duration::from_secs(5);

/// What a person asks for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Empty: all.
    pub routes: Vec<String>,
    /// Empty: all of the routes.
    pub topics: Vec<String>,
    pub partitions: Option<Vec<i32>>,
    pub from: Bound,
    pub to: Bound,
    pub keys: Vec<String>,
    pub clamp: bool,
    pub rate: Option<u32>,
    pub options: Options,
}

/// The configuration of some routes alone.
pub fn select(loaded: &Loaded, routes: &[String]) -> Result<Vec<config::Route>, String> {
    let all = &loaded.config().route;
    if let Some(unknown) = routes.iter().find(|name| all.iter().all(|r| r.name != **name)) {
        let known: Vec<&str> = all.iter().map(|r| r.name.as_str()).collect();
        return Err(format!("no route is named {unknown:?}; there are {}", known.join(", ")));
    }
    Ok(all.iter().filter(|r| routes.is_empty() || routes.contains(&r.name)).cloned().collect())
}

/// The configuration as a replay of these routes applies it, and what each write does.
pub fn compile(loaded: Loaded, routes: Vec<config::Route>, options: &Options, rate: Option<u32>) -> Result<(Valid, Vec<Planned>), Mistakes> {
    let mut valid = validate(&loaded.with_routes(routes))?;
    let (routes, planned) = apply(&valid.lane.routes, &valid.policies, options);
    valid.lane.route_limits = routes.iter().map(|_| None).collect();
    valid.lane.routes = routes.into();
    if !options.target_prefix.is_empty() {
        // What the routes' own keys are is not changed by keys elsewhere.
        (valid.config.serve.enabled, valid.config.serve.index) = (false, false);
    }
    // Smooth: what the live bridge's clients feel is how many come at once.
    let limit = |rate: u32| NonZeroU32::new(rate).map(|rate| Throttle::new(rate, NonZeroU32::new(rate.get() / 20).unwrap_or(NonZeroU32::MIN)));
    valid.lane.limit = rate.and_then(limit);
    Ok((valid, planned))
}

/// Sends a job's dead letters to a stream of its own, so that they are told from the live ones and stand once. A topic is the live
/// bridge's: there the header `dead.job` tells them.
pub fn own_letters(valid: &mut Valid, options: &Options, job: &str) {
    if let Letters::Stream { name, .. } = &mut valid.lane.letters {
        *name = stream_of_letters(name, options, job);
        valid.config.dead_letter.stream.clone_from(name);
    }
}

fn stream_of_letters(stream: &str, options: &Options, job: &str) -> String {
    format!("{}{stream}:{job}", options.target_prefix)
}

/// Where a job's dead letters are, in words; `None`: nowhere, partitions halt instead.
pub fn place_of_letters(valid: &Valid) -> Option<String> {
    match &valid.lane.letters {
        Letters::Halt => None,
        Letters::Stream { name, .. } => Some(format!("the stream {name}")),
        Letters::Topic => Some(format!("the topic {}, with the header dead.job", valid.config.dead_letter.topic)),
    }
}

/// Names a new job: no other has the name, and no letters of one that was forgotten stand under it.
pub fn name_job(valid: &Valid, options: &Options, store: &mut Store) -> Result<String, String> {
    let mut taken = store.names().map_err(|e| format!("Redis: {e}"))?;
    loop {
        let name = name(valid, &taken);
        let Letters::Stream { name: stream, .. } = &valid.lane.letters else { return Ok(name) };
        let stream = stream_of_letters(stream, options, &name);
        match store.connection().and_then(|c| c.command(&["TYPE", &stream])).map_err(|e| format!("Redis: {e}"))? {
            Reply::Text(found) if *found != *b"none" => taken.push(name),
            _ => return Ok(name),
        }
    }
}

/// The first name of the day that is free.
pub fn name(valid: &Valid, taken: &[String]) -> String {
    let day = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    plan::name(if let [one] = valid.config.route.as_slice() { one.name.as_str() } else { "replay" }, &day, taken)
}

/// Whether there are the writes that a person named, as route/number.
pub fn check_writes(named: &[String], planned: &[Planned]) -> Result<(), String> {
    match named.iter().find(|w| planned.iter().all(|p| format!("{}/{}", p.route, p.write) != **w)) {
        Some(unknown) => {
            let route = planned.first().map_or("route", |p| p.route.as_str());
            Err(format!("there is no write {unknown:?}: route and number, from 1, such as {route}/1"))
        }
        None => Ok(()),
    }
}

/// The offsets of each partition, and what a person should know of them.
pub fn spans(valid: &Valid, asked: &Asked, log: &KafkaLog) -> Result<(Vec<Span>, Vec<String>), String> {
    let topics = topics(valid, asked, log)?;
    let (mut spans, mut notes) = (Vec::new(), Vec::new());
    if topics.len() > 1 && (asked.from.named().is_some() || asked.to.named().is_some()) {
        return Err(format!(
            "offsets of partitions, as 0:120000, are of one topic, and the range is of {}: name one (--topic {})",
            topics.join(", "),
            topics[0]
        ));
    }
    for topic in &topics {
        let there = log.partitions(topic).map_err(|e| format!("Kafka: {topic}: {e}"))?;
        let listed = partitions(topic, there, asked.partitions.as_deref(), &[&asked.from, &asked.to])?;
        if topics.len() > 1 && (asked.from.is_of_one() || asked.to.is_of_one()) {
            return Err(OF_ONE.into());
        }
        let ranges = listed.iter().map(|p| range(asked, log, &TopicPartition::new(topic.as_str(), *p), &mut notes)).collect::<Result<Vec<_>, _>>()?;
        let times = times(&valid.config.kafka, topic, &ranges, TIMES_MAX).map_err(|e| format!("Kafka: {topic}: {e}"))?;
        spans.extend(ranges.into_iter().map(|(partition, from, to)| {
            let (first_ms, last_ms) = times.get(&partition).copied().unwrap_or_default();
            Span { topic: topic.clone(), partition, from, to, first_ms, last_ms, live: None }
        }));
    }
    Ok((spans, notes))
}

/// The topics that Kafka has of those that the routes read and a person asks for.
fn topics(valid: &Valid, asked: &Asked, log: &KafkaLog) -> Result<Vec<String>, String> {
    let there = log.topics().map_err(|e| format!("Kafka: {e}"))?;
    let chosen = |name: &String| asked.routes.is_empty() || asked.routes.contains(name);
    let read = |topic: &String| valid.lane.routes.iter().any(|r| chosen(&r.name) && r.matches(topic));
    for topic in &asked.topics {
        if !read(topic) {
            return Err(format!("no route reads topic {topic:?}"));
        }
        if !there.contains(topic) {
            return Err(format!("Kafka has no topic {topic:?}"));
        }
    }
    let mut topics: Vec<String> = there.into_iter().filter(|t| read(t) && (asked.topics.is_empty() || asked.topics.contains(t))).collect();
    topics.sort();
    if topics.is_empty() {
        return Err("Kafka has none of the topics that the routes read".into());
    }
    Ok(topics)
}

/// The partitions that the routes read and these ranges leave out.
pub fn unread(valid: &Valid, spans: &[Span], log: &KafkaLog) -> Result<Vec<TopicPartition>, String> {
    let mut unread = Vec::new();
    for topic in log.topics().map_err(|e| format!("Kafka: {e}"))?.iter().filter(|t| valid.lane.routes.iter().any(|r| r.matches(t))) {
        let there = log.partitions(topic).map_err(|e| format!("Kafka: {topic}: {e}"))?;
        unread.extend((0..there).map(|p| TopicPartition::new(topic.as_str(), p)).filter(|at| spans.iter().all(|s| s.at() != *at)));
    }
    Ok(unread)
}

fn range(asked: &Asked, log: &KafkaLog, at: &TopicPartition, notes: &mut Vec<String>) -> Result<(i32, i64, i64), String> {
    let (low, high) = log.watermarks(at).map_err(|e| format!("Kafka: {at}: {e}"))?;
    let mut end = |bound: &Bound, word: &str, begins: bool| {
        let found = match bound {
            Bound::Time(ms) => log.at_time(at, *ms).map_err(|e| format!("Kafka: {e}"))?,
            Bound::Offsets(_) => None,
        };
        let place = bound.resolve(at.partition, Held { low, high }, found, begins).map_err(|e| format!("{at}: {word}: {e}"))?;
        notes.extend(place.note.map(|note| format!("{at}: {note}")));
        match place.outside {
            Some(outside) if !asked.clamp => return Err(format!("{at}: {word} {outside}; --clamp takes what there is")),
            outside => notes.extend(outside.map(|outside| format!("{at}: {word} {outside}; it is {} (--clamp)", place.offset))),
        }
        Ok(place.offset)
    };
    let (from, to) = (end(&asked.from, "from", true)?, end(&asked.to, "to", false)?);
    if from > to && !asked.clamp {
        return Err(format!("{at}: the range begins at {from}, and would end before, at {to}"));
    }
    Ok((at.partition, from, to.max(from)))
}

/// Whether Redis can serve a job.
pub fn serves(valid: &Valid, options: &Options, store: &mut Store) -> Result<Server, String> {
    let mut config = config::Config { redis: config::Redis { guarantee: Guarantee::ExactlyOnce, ..valid.config.redis.clone() }, ..valid.config.clone() };
    if !config.dead_letter.stream.is_empty() {
        // What is known of its name before the job has one.
        config.dead_letter.stream = stream_of_letters(&config.dead_letter.stream, options, "1");
    }
    let connection = store.connection().map_err(|e| format!("Redis: {e}"))?;
    preflight(connection, &config, &valid.lane.routes, For::Job).map_err(|e| match e {
        Unfit::Failed(f) => format!("Redis: {f}"),
        Unfit::Refused(problems) => format!("this Redis can't serve: {}", problems.join("; ")),
    })
}

/// What Redis says to it: whether it can serve, where the live bridge is, what other jobs wrote.
pub fn ask_redis(valid: &Valid, asked: &Asked, spans: &mut [Span], planned: &[Planned], store: &mut Store, log: &KafkaLog) -> Result<Vec<String>, String> {
    let server = serves(valid, &asked.options, store)?;
    let connection = store.connection().map_err(|e| format!("Redis: {e}"))?;
    if asked.options.ids == Ids::Timestamp && server.version.split('.').next().and_then(|v| v.parse::<u32>().ok()).is_some_and(|v| v < 7) {
        return Err(format!("--ids timestamp needs Redis 7.0 or later, for ids such as 1766000000000-*; this is {}", server.version));
    }
    for span in spans.iter_mut() {
        span.live = live(valid, &span.at(), connection, log)?;
    }
    let adds = planned.iter().any(|w| w.command == "xadd" && w.does == "if-missing") && asked.options.target_prefix.is_empty();
    let mut notes = server.notes.clone();
    if adds && asked.clamp {
        notes.extend(spans.iter_mut().filter_map(Span::cut));
    }
    let lives = lives(spans);
    check_streams(planned, &lives, &asked.options)?;
    check_ids(&valid.lane.routes, &lives, &asked.options)?;
    if adds {
        notes.extend(begin_there(&valid.config.kafka.group, spans));
    }
    if !asked.options.target_prefix.is_empty() {
        let earlier = store.all().map_err(|e| format!("Redis: {e}"))?;
        let plans: Vec<Plan> = earlier.into_iter().filter_map(|job| job.plan).collect();
        notes.extend(earlier::check(&plans, spans, planned, &asked.keys, &asked.options)?);
    }
    Ok(notes)
}

/// Whether a job can be carried on, by where the live bridge is now. What came in between does not show: a bridge that was set
/// back and has passed the range again has added what the job is yet to add. So who sets it back is told of the job.
pub fn carries_on(valid: &Valid, plan: &Plan, stored: &Stored, store: &mut Store) -> Result<(), String> {
    serves(valid, &plan.options, store)?;
    let mut left = unfinished::left(plan, &stored.positions);
    let connection = store.connection().map_err(|e| format!("Redis: {e}"))?;
    let log = KafkaLog::new(&valid.config.kafka, Start::Earliest).map_err(|e| format!("Kafka: {e}"))?;
    for span in &mut left {
        span.live = live(valid, &span.at(), connection, &log)?;
    }
    unfinished::check(plan, &valid.lane.routes, &left)
}

/// Where the ranges end, and the live bridge is.
pub fn lives(spans: &[Span]) -> Vec<Live> {
    spans.iter().filter(|s| !s.is_empty()).map(|s| Live { at: s.at(), to: s.to, position: s.live }).collect()
}

/// Where the live bridge is.
pub fn live(valid: &Valid, at: &TopicPartition, redis: &mut Connection, log: &KafkaLog) -> Result<Option<i64>, String> {
    if valid.config.redis.guarantee == Guarantee::AtLeastOnce {
        return Ok(log.committed(at).map_err(|e| format!("Kafka: {at}: {e}"))?.map(|c| c.offset));
    }
    let key = StateKey::partition(&valid.config.redis.state_prefix, &valid.config.kafka.group, at);
    match redis.command(&[b"HGET".as_slice(), &key.0, b"offset"]).map_err(|e| format!("Redis: {e}"))? {
        Reply::Text(offset) => Ok(String::from_utf8_lossy(&offset).parse().ok()),
        Reply::Error(e) => Err(format!("Redis refuses: {e}")),
        _ => Ok(None),
    }
}

/// What a person should know of partitions in which no live bridge is yet: a line a topic.
fn begin_there(group: &str, spans: &[Span]) -> Vec<String> {
    let mut topics: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for span in spans.iter().filter(|s| s.live.is_none()) {
        topics.entry(span.topic.as_str()).or_default().push(format!("{}:{}", span.partition, span.to));
    }
    let line = |(topic, ends): (&str, Vec<String>)| {
        format!(
            "no bridge of group {group} has a position there in this Redis. One that starts later adds the same entries, unless it begins where the range ends: kafka-redis-bridge rewind --topic {topic} --to-offset {}",
            ends.join(",")
        )
    };
    topics.into_iter().map(line).collect()
}

/// The plan of a job of this name.
pub fn plan(valid: &Valid, asked: &Asked, spans: Vec<Span>, planned: Vec<Planned>, name: String, mut notes: Vec<String>) -> Frozen {
    if let Bound::Time(_) = asked.from
        && spans.iter().all(Span::is_empty)
    {
        notes.push("no record has a time in this range: records without timestamps can't be found by time".into());
    }
    let plan = Plan {
        name,
        created_ms: jiff::Timestamp::now().as_millisecond(),
        spans,
        writes: planned,
        options: asked.options.clone(),
        keys: asked.keys.clone(),
        rate: asked.rate,
        clamp: asked.clamp,
        notes,
    };
    Frozen { plan, routes: valid.config.route.clone() }
}
