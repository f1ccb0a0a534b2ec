//! `check`: the configuration; with `--connect` both ends; with `--record` what a record would become.
use super::{Args as Global, Exit, Output, configuration};
use crate::app::subscription;
use crate::config::validate::{Valid, effective_guarantee};
use crate::core::decode::Scratch;
use crate::core::encode::{Encoder, parse_commands};
use crate::core::record::{Record, TopicPartition};
use crate::core::route::{self, Topics};
use crate::kafka::client;
use crate::sink::connection::Connector;
use crate::sink::preflight::{Unfit, preflight};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use serde_json::json;
use std::io::Read as _;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Ask Kafka and Redis too: brokers, topics, eviction policy, permissions
    #[arg(long)]
    pub connect: bool,
    /// Print the commands that the record in this file (- for standard input) becomes
    #[arg(long, value_name = "FILE")]
    pub record: Option<String>,
    /// The record's key, for --record
    #[arg(long, requires = "record")]
    pub key: Option<String>,
    /// The record's topic, for --record; else the first that a route names
    #[arg(long, requires = "record")]
    pub topic: Option<String>,
    /// A header NAME=VALUE, for --record; may be repeated
    #[arg(long, requires = "record", value_name = "NAME=VALUE")]
    pub header: Vec<String>,
    /// The record's timestamp in ms since the epoch, for --record
    #[arg(long, requires = "record", allow_hyphen_values = true)]
    pub timestamp: Option<i64>,
    /// Take the record for a tombstone, for --record
    #[arg(long, requires = "record")]
    pub tombstone: bool,
}

pub fn run(global: &Global, args: &Args) -> Exit {
    let (loaded, valid) = match configuration(global) {
        Ok(both) => both,
        Err(exit) => return exit,
    };
    if let Some(file) = &args.record {
        return show_record(global.output, args, file, &valid);
    }
    let routes: Vec<_> = valid.lane.routes.iter().map(|r| json!({"name": r.name, "guarantee": effective_guarantee(&valid.config, r)})).collect();
    let problems = if args.connect { connect(&valid) } else { (Vec::new(), Vec::new()) };
    match global.output {
        Output::Json => println!("{:#}", json!({"config": loaded.file, "routes": routes, "found": problems.0, "problems": problems.1})),
        Output::Text => {
            println!("{}: fine", loaded.file.display());
            for r in &routes {
                println!("route {}: {}", r["name"].as_str().unwrap_or_default(), r["guarantee"].as_str().unwrap_or_default());
            }
            problems.0.iter().for_each(|p| println!("{p}"));
            problems.1.iter().for_each(|p| println!("PROBLEM: {p}"));
        }
    }
    if problems.1.is_empty() { Exit::Done } else { Exit::Fatal }
}

/// What was found at both ends, and what is wrong with it.
fn connect(valid: &Valid) -> (Vec<String>, Vec<String>) {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    let consumer: Result<BaseConsumer, _> = client::common(&valid.config.kafka).create();
    let metadata = consumer.and_then(|c| c.fetch_metadata(None, Duration::from_secs(10)));
    match metadata {
        Err(e) => problems.push(format!("Kafka {}: {e}; check kafka.brokers and the security properties", valid.config.kafka.brokers.join(","))),
        Ok(metadata) => {
            found.push(format!("Kafka: {} broker{}", metadata.brokers().len(), if metadata.brokers().len() == 1 { "" } else { "s" }));
            for route in valid.lane.routes.iter() {
                for topic in &route.topics {
                    let matching: Vec<_> = metadata.topics().iter().filter(|t| topic.matches(t.name())).collect();
                    let shown = if let Topics::Name(n) = topic { n.clone() } else { subscription(std::slice::from_ref(route)).join(", ") };
                    match matching.as_slice() {
                        [] => problems.push(format!("route {}: no topic {shown} exists yet; the bridge will wait for it", route.name)),
                        all => {
                            all.iter().for_each(|t| found.push(format!("route {}: topic {} with {} partitions", route.name, t.name(), t.partitions().len())))
                        }
                    }
                }
            }
        }
    }
    match Connector::new(valid.config.redis.clone()).connect().map_err(Unfit::from).and_then(|mut c| preflight(&mut c, &valid.config, &valid.lane.routes)) {
        Ok(s) => {
            found.push(format!("Redis {} ({}), maxmemory-policy {}, user {}", s.version, s.role, s.policy, if s.user.is_empty() { "default" } else { &s.user }))
        }
        Err(Unfit::Failed(f)) => problems.push(format!("Redis: {f}")),
        Err(Unfit::Refused(all)) => problems.extend(all.into_iter().map(|p| format!("Redis: {p}"))),
    }
    (found, problems)
}

fn show_record(output: Output, args: &Args, file: &str, valid: &Valid) -> Exit {
    let mut payload = Vec::new();
    let read = if file == "-" { std::io::stdin().read_to_end(&mut payload).map(drop) } else { std::fs::read(file).map(|b| payload = b) };
    if let Err(e) = read {
        eprintln!("--record {file}: {e}");
        return Exit::Usage;
    }
    if payload.ends_with(b"\n") {
        payload.pop();
    }
    let routes = &valid.lane.routes;
    let named = routes.iter().flat_map(|r| &r.topics).find_map(|t| if let Topics::Name(n) = t { Some(n.clone()) } else { None });
    let Some(topic) = args.topic.clone().or(named) else {
        eprintln!("--topic is needed: the routes have only patterns");
        return Exit::Usage;
    };
    let through: Vec<usize> = (0..routes.len()).filter(|r| routes[*r].matches(&topic)).collect();
    let headers: Vec<(&str, Option<&[u8]>)> =
        args.header.iter().map(|h| h.split_once('=').map_or((h.as_str(), None), |(n, v)| (n, Some(v.as_bytes())))).collect();
    let value = (!args.tombstone).then_some(payload.as_slice());
    let record = Record::copy(TopicPartition::new(topic.as_str(), 0), 0, args.timestamp, args.key.as_deref().map(str::as_bytes), value, headers);
    let (mut out, mut origins) = (Encoder::default(), Vec::new());
    let rendered = route::render(routes, &through, &record, &mut out, |o| origins.push(o), &mut Vec::new(), &mut Scratch::default());
    let commands = parse_commands(out.bytes()).unwrap_or_default();
    let dead = rendered.err().map(|p| format!("dead letter: route {}: {}", routes[p.route].name, p.reason));
    match output {
        Output::Json => {
            let commands: Vec<_> = commands.iter().zip(&origins).map(|(c, o)| json!({"route": routes[o.route].name, "write": o.write + 1, "command": c.iter().map(|a| String::from_utf8_lossy(a)).collect::<Vec<_>>()})).collect();
            println!("{:#}", json!({"topic": topic, "commands": commands, "dead": dead}));
        }
        Output::Text => {
            for command in &commands {
                println!("{}", command.iter().map(|a| quoted(a)).collect::<Vec<_>>().join(" "));
            }
            if through.is_empty() {
                println!("no route reads topic {topic}");
            }
            dead.iter().for_each(|d| println!("{d}"));
        }
    }
    Exit::Done
}

/// An argument as redis-cli takes it.
fn quoted(arg: &[u8]) -> String {
    let plain = !arg.is_empty() && arg.iter().all(|b| b.is_ascii_graphic() && !b"\"'\\".contains(b));
    if plain {
        return String::from_utf8_lossy(arg).into_owned();
    }
    let escaped: String = arg
        .iter()
        .map(|b| match b {
            b'"' => "\\\"".into(),
            b'\\' => "\\\\".into(),
            b'\n' => "\\n".into(),
            b'\r' => "\\r".into(),
            b'\t' => "\\t".into(),
            0x20..=0x7e => char::from(*b).to_string(),
            _ => format!("\\x{b:02x}"),
        })
        .collect();
    format!("\"{escaped}\"")
}
