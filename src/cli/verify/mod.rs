//! `verify`: compares what stands in Redis with what a range of records must have become.
mod look;
mod report;

use self::look::Look;
use self::report::Report;
use super::replay::{IdsFrom, Range};
use super::{Args as Global, Exit, configuration, print, refused};
use crate::config::Guarantee;
use crate::config::load::Loaded;
use crate::config::units::Period;
use crate::config::validate::Valid;
use crate::core::claim::Start;
use crate::core::replay::plan::{Span, wanted};
use crate::core::replay::policy::{Options, Policy, apply};
use crate::core::route::{self, Origin, Route};
use crate::core::template::Template;
use crate::core::verify::compare::{self, Equal, Times};
use crate::core::verify::members;
use crate::core::verify::model::{Expected, Model, Pass};
use crate::core::verify::others::Others;
use crate::core::words;
use crate::core::write::{Effect, Kind, Write};
use crate::kafka::log::KafkaLog;
use crate::kafka::ranges::{Walk, walk};
use crate::replay::prepare::{self, Asked};
use crate::sink::connection::Connector;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// How long Kafka may say nothing.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// How often a difference is looked at before it is told: the bridge writes and trims while Redis is read.
const LOOKS_MAX: usize = 3;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub range: Range,
    /// Compare keys with this before them: those of a replay that wrote them so
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub target_prefix: String,
    /// Only these writes, as volatility/2. May be repeated
    #[arg(long, value_name = "ROUTE/N")]
    pub write: Vec<String>,
    /// Streams may hold other entries as well: those of a replay that added to what was there
    #[arg(long)]
    pub append: bool,
    /// Where stream entries got their ids from
    #[arg(long, value_enum, default_value_t = IdsFrom::Write)]
    pub ids: IdsFrom,
    /// How far a time to live may be off
    #[arg(long, default_value = "5s")]
    pub ttl_tolerance: Period,
    /// How many differences to print
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub show: usize,
}

pub fn run(global: &Global, args: &Args) -> Exit {
    let loaded = match configuration(global, &[]) {
        Ok((loaded, _)) => loaded,
        Err(exit) => return exit,
    };
    let options = Options { target_prefix: args.target_prefix.clone(), append: args.append, ids: args.ids.into(), writes: args.write.clone() };
    let asked = match args.range.asked(None, options) {
        Ok(asked) => asked,
        Err(why) => {
            print::failure(global.output, format_args!("verify: {why}"));
            return Exit::Usage;
        }
    };
    let valid = match compile(loaded, &asked) {
        Ok(Ok(valid)) => valid,
        Ok(Err(mistakes)) => return refused(global.output, &mistakes),
        Err(why) => {
            print::failure(global.output, format_args!("verify: {why}"));
            return Exit::Fatal;
        }
    };
    match verify(&valid, &asked, args) {
        Ok((spans, report)) => {
            report.show(global.output, &spans);
            report.exit()
        }
        Err(why) => {
            print::failure(global.output, format_args!("verify: {why}"));
            Exit::Fatal
        }
    }
}

/// The routes as the live bridge applies them: all, for what one route makes of a record is nothing where another one can't
/// make anything of it. Keys with a prefix are those of a replay, which knows of no other routes than those it was given, and
/// leaves out what its configuration, or who began it, says.
fn compile(loaded: Loaded, asked: &Asked) -> Result<Result<Valid, crate::config::load::Mistakes>, String> {
    let chosen = prepare::select(&loaded, &asked.routes)?;
    let elsewhere = !asked.options.target_prefix.is_empty();
    let routes = if elsewhere { chosen } else { loaded.config().route.clone() };
    let mut valid = match crate::config::validate::validate(&loaded.with_routes(routes)) {
        Ok(valid) => valid,
        Err(mistakes) => return Ok(Err(mistakes)),
    };
    let applied = |policy: &Policy| match policy {
        // By what a replay compares values is worth knowing.
        Policy::IfNewer(_) => policy.clone(),
        Policy::Skip if elsewhere => Policy::Skip,
        _ => Policy::Apply,
    };
    let policies: Vec<Vec<Policy>> = valid.policies.iter().map(|of| of.iter().map(applied).collect()).collect();
    // Of live keys a write may be asked about, but each was applied.
    let writes = if elsewhere { asked.options.writes.clone() } else { Vec::new() };
    let (routes, planned) = apply(&valid.lane.routes, &policies, &Options { writes, ..asked.options.clone() });
    prepare::check_writes(&asked.options.writes, &planned)?;
    valid.lane.routes = routes.into();
    Ok(Ok(valid))
}

/// The writes that are not applied, but for messages, of which nothing stays in Redis.
fn left_out(routes: &[Route]) -> Vec<String> {
    let skipped = |w: &Write| w.effect == Effect::Skip && !matches!(w.kind, Kind::Publish { .. });
    let of = |route: &Route| -> Vec<String> {
        let writes = route.writes.iter().enumerate().filter(|(_, w)| skipped(w));
        writes.map(|(n, w)| words::write(&route.name, n + 1, &w.kind.name())).collect()
    };
    routes.iter().flat_map(of).collect()
}

fn verify(valid: &Valid, asked: &Asked, args: &Args) -> Result<(Vec<Span>, Report), String> {
    let log = KafkaLog::new(&valid.config.kafka, Start::Earliest).map_err(|e| format!("Kafka: {e}"))?;
    let mut redis = Connector::new(valid.config.redis.clone()).connect().map_err(|e| format!("Redis: {e}"))?;
    let (mut spans, mut notes) = prepare::spans(valid, asked, &log)?;
    // Of a replay's own keys the live bridge writes none.
    let follows = args.target_prefix.is_empty();
    let mut unread = Vec::new();
    if follows {
        unread = prepare::unread(valid, &spans, &log)?;
        for span in &mut spans {
            span.live = prepare::live(valid, &span.at(), &mut redis, &log)?;
        }
        let cut: Vec<String> = spans.iter_mut().filter_map(Span::cut).collect();
        if !cut.is_empty() && spans.iter().all(Span::is_empty) {
            return Err(format!(
                "nothing can be compared: the live bridge (group {}) has applied nothing of this range yet: {}. Let it apply the range first (`kafka-redis-bridge status` says what keeps it), or begin the range earlier",
                valid.config.kafka.group,
                cut.join("; ")
            ));
        }
        notes.extend(cut);
    }
    let left_out = left_out(&valid.lane.routes);
    if !follows && !left_out.is_empty() {
        notes.push(format!("nothing is expected of what such a job leaves out: {}", left_out.join("; ")));
    }
    let others = Others::new(&valid.lane.routes, &unread);
    // What came of each partition before the range, by the writes that do not keep them apart.
    let older = spans.iter().enumerate().filter(|(_, s)| s.from > 0);
    let older: Vec<(usize, Others)> = older.map(|(source, span)| (source, Others::shared(&valid.lane.routes, &span.at()))).collect();
    let mut model = Model::new(valid.lane.routes.clone(), chosen(&valid.lane.routes, asked), jiff::Timestamp::now().as_millisecond());
    read(valid, asked, &spans, &mut model, Pass::Range)?;
    model.narrow();
    let mut keys: Vec<Vec<u8>> = model.keys.keys().cloned().collect();
    let mut found = HashMap::new();
    let mut tail = spans.clone();
    tail.iter_mut().for_each(|span| span.from = span.to);
    for _ in 0..LOOKS_MAX {
        let mut look = Look::take(&mut redis, &model, &keys)?;
        for span in tail.iter_mut().filter(|s| s.live.is_some()) {
            let to = match valid.config.redis.guarantee {
                Guarantee::ExactlyOnce => prepare::live(valid, &span.at(), &mut redis, &log)?.unwrap_or(span.to),
                // A commit says only what is settled for certain.
                Guarantee::AtLeastOnce => log.watermarks(&span.at()).map_err(|e| format!("Kafka: {e}"))?.1,
            };
            span.to = to.max(span.from);
        }
        read(valid, asked, &tail, &mut model, Pass::Tail)?;
        tail.iter_mut().for_each(|span| span.from = span.to);
        look.further(&mut redis, &model, &keys)?;
        found.extend(keys.drain(..).filter_map(|key| {
            let one = compared(&model, &look, &key, &older, &others, args)?;
            Some((key, one))
        }));
        keys = found.iter().filter(|(_, one)| one.is_err()).map(|(key, _)| key.clone()).collect();
        if keys.is_empty() {
            break;
        }
    }
    Ok((spans, Report::new(&model, found, notes, args.show)))
}

/// The writes that are asked about.
fn chosen(routes: &[Route], asked: &Asked) -> Vec<Origin> {
    let origins = (0..routes.len()).flat_map(|route| (0..routes[route].writes.len()).map(move |write| Origin { route, write }));
    let chosen = |o: &Origin| {
        let name = &routes[o.route].name;
        let writes = &asked.options.writes;
        (asked.routes.is_empty() || asked.routes.contains(name)) && (writes.is_empty() || writes.contains(&format!("{name}/{}", o.write + 1)))
    };
    origins.filter(chosen).collect()
}

/// Gathers what the records of the spans must have become.
fn read(valid: &Valid, asked: &Asked, spans: &[Span], model: &mut Model, pass: Pass) -> Result<(), String> {
    let mut topics: BTreeMap<&str, Vec<(i32, i64, i64)>> = BTreeMap::new();
    for span in spans {
        topics.entry(span.topic.as_str()).or_default().push((span.partition, span.from, span.to));
    }
    // Where a key of Redis tells whose records made it, others need not be looked at; a replay applied no others.
    let elsewhere = !asked.options.target_prefix.is_empty();
    let tells = |kind: &Kind| kind.writes_one_key() && kind.key_template().is_none_or(Template::tells_keys_apart);
    let apart = elsewhere || asked.keys.is_empty() || valid.lane.routes.iter().flat_map(|r| &r.writes).all(|w| tells(&w.kind));
    for (topic, ranges) in topics {
        let through = route::through(&valid.lane.routes, topic);
        walk(&valid.config.kafka, topic, &ranges, SILENCE_MAX, |record| {
            let source = spans.iter().position(|s| s.topic == *record.at().topic && s.partition == record.at().partition);
            let wanted = wanted(&asked.keys, record.key());
            if let Some(source) = source.filter(|_| wanted || !apart) {
                model.take(&record, &through, source, pass, wanted);
            }
            Walk::On
        })?;
    }
    Ok(())
}

/// One key; `None`: it can't be followed.
fn compared(model: &Model, look: &Look, key: &[u8], older: &[(usize, Others)], others: &Others, args: &Args) -> Option<Result<Equal, String>> {
    let tolerance = i64::try_from(args.ttl_tolerance.0.as_millis()).unwrap_or(i64::MAX / 4);
    let mut may = others.of(key);
    if args.append {
        may.add = Some(may.add.unwrap_or_default());
    }
    match &model.keys[key] {
        Expected::Unknown(_) => None,
        Expected::Members(members) => Some(look.members(key).and_then(|found| members::members(members, found, &may))),
        Expected::Stream(stream) => {
            // Where its key does not keep partitions apart, others may have added to it as well.
            let shared = |(source, shared): &&(usize, Others)| stream.sources.len() > 1 || stream.sources.contains_key(source) || shared.of(key).add.is_some();
            let before: BTreeSet<usize> = older.iter().filter(shared).map(|(source, _)| *source).collect();
            let before = (!older.is_empty()).then_some(&before);
            Some(look.stream(key).and_then(|found| compare::stream(stream, &found, before, &may)))
        }
        Expected::Value(value) => {
            let times = |now| Times { now, tolerance, ahead: model.ahead_ms };
            Some(look.value(key).and_then(|(found, at_ms)| compare::value(value, found, times(at_ms), &may)))
        }
    }
}
