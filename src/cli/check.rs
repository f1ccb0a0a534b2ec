//! `check`: the configuration; with `--connect` both ends; with `--record` what a record would become.
use super::{Args as Global, Exit, Output, check_kafka, configuration, print, record};
use crate::config::validate::{Valid, effective_guarantee};
use crate::core::topics;
use crate::sink::connection::Connector;
use crate::sink::preflight::{For, Unfit, preflight};
use serde_json::json;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Ask Kafka and Redis too: brokers, topics, eviction policy, permissions
    #[arg(long, conflicts_with = "record")]
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
    let mut ends = if args.connect { connect(&valid) } else { Ends { notes: topics::notes(&valid.lane.routes), ..Ends::default() } };
    ends.notes.splice(0..0, valid.warnings.iter().cloned());
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
pub(super) struct Ends {
    pub(super) found: Vec<String>,
    /// What could not be looked at, or may be fine.
    pub(super) notes: Vec<String>,
    pub(super) problems: Vec<String>,
}

fn connect(valid: &Valid) -> Ends {
    let mut ends = Ends::default();
    check_kafka::ask(valid, &mut ends);
    let Ends { found, notes, problems } = &mut ends;
    match Connector::new(valid.config.redis.clone())
        .connect()
        .map_err(Unfit::from)
        .and_then(|mut c| preflight(&mut c, &valid.config, &valid.lane.routes, For::Bridge))
    {
        Ok(s) => {
            notes.extend(s.notes.iter().map(|n| format!("Redis: {n}")));
            found.push(format!("Redis {} ({}), maxmemory-policy {}, user {}", s.version, s.role, s.policy, s.user));
        }
        Err(Unfit::Failed(f)) => problems.push(format!("Redis: {f}. What to do: {}", f.remedy)),
        Err(Unfit::Refused(all)) => problems.extend(all.into_iter().map(|p| format!("Redis: {p}"))),
    }
    ends
}
