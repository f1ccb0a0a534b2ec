//! `check`: the configuration; with `--connect` both ends; with `--record` what a record would become.
use super::{Args as Global, Exit, Output, configuration, print, record};
use crate::app::subscription;
use crate::config::validate::{Valid, effective_guarantee};
use crate::core::route::Topics;
use crate::core::words::counted;
use crate::kafka::client;
use crate::sink::connection::Connector;
use crate::sink::preflight::{For, Unfit, preflight};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use serde_json::json;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Ask Kafka and Redis too: brokers, topics, eviction policy, permissions
    #[arg(long)]
    pub connect: bool,
    /// Print the commands that the record in this file (- for standard input) becomes; exits 3 where it is dead
    #[arg(long, value_name = "FILE")]
    pub record: Option<String>,
    /// The record's key, for --record
    #[arg(long, requires = "record", allow_hyphen_values = true)]
    pub key: Option<String>,
    /// The record's topic, for --record; else the first that a route names
    #[arg(long, requires = "record", allow_hyphen_values = true)]
    pub topic: Option<String>,
    /// A header NAME=VALUE, for --record; may be repeated
    #[arg(long, requires = "record", value_name = "NAME=VALUE", allow_hyphen_values = true, value_parser = header)]
    pub header: Vec<(String, String)>,
    /// The record's timestamp in ms since the epoch, for --record
    #[arg(long, requires = "record", allow_hyphen_values = true)]
    pub timestamp: Option<i64>,
    /// Take the record for a tombstone, for --record
    #[arg(long, requires = "record")]
    pub tombstone: bool,
}

fn header(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').filter(|(name, _)| !name.is_empty());
    parts.map(|(name, value)| (name.into(), value.into())).ok_or_else(|| "a name, = and a value, such as trace=7".into())
}

pub fn run(global: &Global, args: &Args) -> Exit {
    let (loaded, valid) = match configuration(global, &[]) {
        Ok(both) => both,
        Err(exit) => return exit,
    };
    if let Some(file) = &args.record {
        return record::show(global.output, args, file, &valid);
    }
    let routes: Vec<_> = valid.lane.routes.iter().map(|r| json!({"name": r.name, "guarantee": effective_guarantee(&valid.config, r)})).collect();
    let ends = if args.connect { connect(&valid) } else { Ends::default() };
    match global.output {
        Output::Json => print::line(format_args!(
            "{:#}",
            json!({"config": loaded.file, "routes": routes, "found": ends.found, "notes": ends.notes, "problems": ends.problems})
        )),
        Output::Text => {
            print::line(format_args!("{}: fine", loaded.file.display()));
            for r in &routes {
                print::line(format_args!("route {}: {}", r["name"].as_str().unwrap_or_default(), r["guarantee"].as_str().unwrap_or_default()));
            }
            ends.found.iter().for_each(print::line);
            ends.notes.iter().for_each(|n| print::line(format_args!("note: {n}")));
            ends.problems.iter().for_each(|p| print::line(format_args!("PROBLEM: {p}")));
        }
    }
    if ends.problems.is_empty() { Exit::Done } else { Exit::Fatal }
}

/// What was found at both ends.
#[derive(Default)]
struct Ends {
    found: Vec<String>,
    /// What could not be looked at, or may be fine.
    notes: Vec<String>,
    problems: Vec<String>,
}

fn connect(valid: &Valid) -> Ends {
    let Ends { mut found, mut notes, mut problems } = Ends::default();
    let consumer: Result<BaseConsumer, _> = client::common(&valid.config.kafka).create();
    let metadata = consumer.and_then(|c| c.fetch_metadata(None, Duration::from_secs(10)));
    match metadata {
        Err(e) => problems.push(format!("Kafka {}: {e}; check kafka.brokers and the security properties", valid.config.kafka.brokers.join(","))),
        Ok(metadata) => {
            found.push(format!("Kafka: {}", counted(metadata.brokers().len(), "broker")));
            for route in valid.lane.routes.iter() {
                for topic in &route.topics {
                    let matching: Vec<_> = metadata.topics().iter().filter(|t| topic.matches(t.name())).collect();
                    let shown = if let Topics::Name(n) = topic { n.clone() } else { subscription(std::slice::from_ref(route)).join(", ") };
                    match matching.as_slice() {
                        [] => problems.push(format!("route {}: no topic {shown} exists yet; the bridge will wait for it", route.name)),
                        all => all
                            .iter()
                            .for_each(|t| found.push(format!("route {}: topic {} with {}", route.name, t.name(), counted(t.partitions().len(), "partition")))),
                    }
                }
            }
        }
    }
    match Connector::new(valid.config.redis.clone())
        .connect()
        .map_err(Unfit::from)
        .and_then(|mut c| preflight(&mut c, &valid.config, &valid.lane.routes, For::Bridge))
    {
        Ok(s) => {
            notes.extend(s.notes.iter().map(|n| format!("Redis: {n}")));
            found.push(format!("Redis {} ({}), maxmemory-policy {}, user {}", s.version, s.role, s.policy, if s.user.is_empty() { "default" } else { &s.user }))
        }
        Err(Unfit::Failed(f)) => problems.push(format!("Redis: {f}")),
        Err(Unfit::Refused(all)) => problems.extend(all.into_iter().map(|p| format!("Redis: {p}"))),
    }
    Ends { found, notes, problems }
}
