//! `verify`: compares what stands in Redis with what a range of records must have become.
mod look;

use self::look::Look;
use super::replay::Range;
use super::{Args as Global, Exit, Output, configuration, print, refused};
use crate::config::Guarantee;
use crate::config::load::Loaded;
use crate::config::units::Period;
use crate::config::validate::Valid;
use crate::core::claim::Start;
use crate::core::replay::plan::{Span, wanted};
use crate::core::replay::policy::{Ids, Options, Policy, apply};
use crate::core::route;
use crate::core::verify::compare::{self, Equal};
use crate::core::verify::model::{Expected, Model, Pass};
use crate::kafka::log::KafkaLog;
use crate::kafka::ranges::{Walk, walk};
use crate::replay::prepare::{self, Asked};
use crate::sink::connection::Connector;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long Kafka may say nothing.
const SILENCE_MAX: Duration = Duration::from_secs(20);

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub range: Range,
    /// Compare keys with this before them: those of a replay that wrote them so
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub target_prefix: String,
    /// How far a time to live may be off
    #[arg(long, default_value = "5s")]
    pub ttl_tolerance: Period,
    /// How many differences to print
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub show: usize,
}

/// What was found.
#[derive(Debug, Default, Serialize)]
struct Report {
    records: u64,
    /// Records that can't be rendered, of which nothing is expected.
    dead: u64,
    streams: u64,
    entries: u64,
    /// Entries of the range that are no longer there, as their write says.
    trimmed: u64,
    values: u64,
    /// Values that have expired.
    expired: u64,
    different: u64,
    differences: Vec<Difference>,
    /// How often each command came that is not compared.
    uncompared: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
struct Difference {
    key: String,
    what: String,
}

pub fn run(global: &Global, args: &Args) -> Exit {
    let loaded = match configuration(global, &[]) {
        Ok((loaded, _)) => loaded,
        Err(exit) => return exit,
    };
    // Streams are compared, not added to.
    let options = Options { target_prefix: args.target_prefix.clone(), append: true, ids: Ids::Write, writes: Vec::new() };
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
        Ok((spans, report)) => show(global.output, &spans, &report),
        Err(why) => {
            print::failure(global.output, format_args!("verify: {why}"));
            Exit::Fatal
        }
    }
}

/// The routes as the live bridge applies them.
fn compile(loaded: Loaded, asked: &Asked) -> Result<Result<Valid, crate::config::load::Mistakes>, String> {
    let routes = prepare::select(&loaded, &asked.routes)?;
    let applied = |mut valid: Valid| {
        let policies: Vec<Vec<Policy>> = valid.lane.routes.iter().map(|r| r.writes.iter().map(|_| Policy::Apply).collect()).collect();
        valid.lane.routes = apply(&valid.lane.routes, &policies, &asked.options).0.into();
        valid
    };
    Ok(crate::config::validate::validate(&loaded.with_routes(routes)).map(applied))
}

fn verify(valid: &Valid, asked: &Asked, args: &Args) -> Result<(Vec<Span>, Report), String> {
    let log = KafkaLog::new(&valid.config.kafka, Start::Earliest).map_err(|e| format!("Kafka: {e}"))?;
    let mut redis = Connector::new(valid.config.redis.clone()).connect().map_err(|e| format!("Redis: {e}"))?;
    let mut spans = prepare::spans(valid, asked, &log)?;
    // Of a replay's own keys the live bridge writes none.
    let follows = args.target_prefix.is_empty();
    for span in spans.iter_mut().filter(|_| follows) {
        span.live = prepare::live(valid, &span.at(), &mut redis, &log)?;
        span.to = span.live.map_or(span.to, |live| span.to.min(live)).max(span.from);
    }
    let mut model = Model::new(valid.lane.routes.clone(), jiff::Timestamp::now().as_millisecond());
    read(valid, asked, &spans, &mut model, Pass::Range)?;
    let mut look = Look::take(&mut redis, &model)?;
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let mut tail = spans.clone();
    for span in &mut tail {
        span.from = span.to;
        if span.live.is_some() {
            let to = match valid.config.redis.guarantee {
                Guarantee::ExactlyOnce => prepare::live(valid, &span.at(), &mut redis, &log)?.unwrap_or(span.to),
                // A commit says only what is settled for certain.
                Guarantee::AtLeastOnce => log.watermarks(&span.at()).map_err(|e| format!("Kafka: {e}"))?.1,
            };
            span.to = to.max(span.from);
        }
    }
    read(valid, asked, &tail, &mut model, Pass::Tail)?;
    look.further(&mut redis, &model)?;
    let from_start: Vec<bool> = spans.iter().map(|s| s.from == 0 && asked.keys.is_empty()).collect();
    Ok((spans, compared(&model, &look, &from_start, now_ms, args)))
}

/// Gathers what the records of the spans must have become.
fn read(valid: &Valid, asked: &Asked, spans: &[Span], model: &mut Model, pass: Pass) -> Result<(), String> {
    let mut topics: BTreeMap<&str, Vec<(i32, i64, i64)>> = BTreeMap::new();
    for span in spans {
        topics.entry(span.topic.as_str()).or_default().push((span.partition, span.from, span.to));
    }
    for (topic, ranges) in topics {
        let through = route::through(&valid.lane.routes, topic);
        walk(&valid.config.kafka, topic, &ranges, SILENCE_MAX, |record| {
            let source = spans.iter().position(|s| s.topic == *record.at().topic && s.partition == record.at().partition);
            if let Some(source) = source.filter(|_| wanted(&asked.keys, record.key())) {
                model.take(&record, &through, source, pass);
            }
            Walk::On
        })?;
    }
    Ok(())
}

fn compared(model: &Model, look: &Look, from_start: &[bool], now_ms: i64, args: &Args) -> Report {
    let mut report = Report { records: model.records, dead: model.dead, uncompared: model.uncompared.clone(), ..Report::default() };
    let tolerance = i64::try_from(args.ttl_tolerance.0.as_millis()).unwrap_or(i64::MAX / 4);
    let mut keys: Vec<&Vec<u8>> = model.keys.keys().collect();
    keys.sort();
    for key in keys {
        let compared = match &model.keys[key] {
            Expected::Unknown => continue,
            Expected::Stream(stream) => {
                report.streams += 1;
                report.entries += stream.sources.values().map(|s| s.of_range as u64).sum::<u64>();
                // A partition that has nothing in it may have had something before its range.
                let whole = from_start.iter().all(|whole| *whole);
                look.stream(key).and_then(|found| compare::stream(stream, &found, whole))
            }
            Expected::Value(value) => {
                report.values += 1;
                look.value(key).and_then(|found| compare::value(value, found, now_ms, tolerance))
            }
        };
        match compared {
            Ok(Equal::Yes) => {}
            Ok(Equal::Trimmed(n)) => report.trimmed += n as u64,
            Ok(Equal::Expired) => report.expired += 1,
            Err(what) => {
                report.different += 1;
                if report.differences.len() < args.show {
                    report.differences.push(Difference { key: String::from_utf8_lossy(key).into_owned(), what });
                }
            }
        }
    }
    report
}

fn show(output: Output, spans: &[Span], report: &Report) -> Exit {
    match output {
        Output::Json => print::line(format_args!("{:#}", json!({"equal": report.different == 0, "ranges": spans, "found": report}))),
        Output::Text => {
            for span in spans {
                let live = span.live.map_or_else(String::new, |l| format!(", the live bridge is at {l}"));
                print::line(format_args!("{:<24} from {} to {}{live}", span.at().to_string(), span.from, span.to));
            }
            print::line(format_args!("{} records, {} of them dead", report.records, report.dead));
            print::line(format_args!(
                "{} streams of {} entries, {} of them trimmed; {} values, {} of them expired",
                report.streams, report.entries, report.trimmed, report.values, report.expired
            ));
            report.uncompared.iter().for_each(|(name, n)| print::line(format_args!("not compared: {n} times {name}")));
            report.differences.iter().for_each(|d| print::line(format_args!("DIFFERENT {}: {}", d.key, d.what)));
            let verdict = if report.different == 0 { "equal".to_owned() } else { format!("{} keys differ", report.different) };
            print::line(verdict);
        }
    }
    if report.different == 0 { Exit::Done } else { Exit::Different }
}
