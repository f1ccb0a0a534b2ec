//! The command line: one file a subcommand.
pub mod check;
mod check_kafka;
pub mod demo;
pub mod jobs;
mod print;
mod properties;
mod record;
pub mod replay;
pub mod rewind;
pub mod run;
pub mod schema;
pub mod serve;
pub mod status;
pub mod verify;

use crate::config::load::{Loaded, Mistakes, load};
use crate::config::validate::{Valid, validate};
use clap::{Parser, Subcommand, ValueEnum};
use serde_json::json;
use std::path::PathBuf;

/// How a process ended. The numbers are part of the contract with systemd units and scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, or drained.
    Done = 0,
    /// Fatal.
    Fatal = 1,
    /// Wrong usage.
    Usage = 2,
    /// Done, with dead letters.
    Letters = 3,
    /// Verify found differences.
    Different = 4,
    /// Verify found all that it compared equal, and could not compare all.
    NotCompared = 5,
    /// Stopped with records left to the next start.
    Left = 75,
    /// Wrong configuration.
    Config = 78,
}

const EXIT_CODES: &str = "Exit codes:
  0   done, or drained
  1   fatal
  2   wrong usage
  3   done, with dead letters: the record of check --record is one
  4   verify found differences
  5   verify: all that was compared is equal, and something could not be compared
  75  stopped with records left to the next start, or to replay --resume
  78  wrong configuration";

/// Moves records from Kafka topics into Redis: in order, exactly once.
#[derive(Debug, Parser)]
#[command(name = "kafka-redis-bridge", version, about, after_help = EXIT_CODES)]
pub struct Args {
    /// The configuration file; else $BRIDGE_CONFIG, config/bridge.toml, /etc/kafka-redis-bridge/bridge.toml
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Overrides one setting, as redis.lanes=4; may be repeated
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// How results are printed, on standard output, and failures, on standard error; run logs in JSON
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    #[command(flatten)]
    run: run::Args,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the bridge (the default)
    Run(run::Args),
    /// Check the configuration, and more if asked
    Check(check::Args),
    /// Print the JSON Schema of the configuration, for editors
    Schema(schema::Args),
    /// Apply a range of records again, beside the running bridge
    Replay(replay::Args),
    /// The replays that Redis knows of
    Jobs(jobs::Args),
    /// Set where the bridge goes on in a topic
    Rewind(rewind::Args),
    /// Compare what stands in Redis with what a range of records must have become
    Verify(verify::Args),
    /// Serve what the routes write, over HTTP, as a process of its own
    Serve(serve::Args),
    /// Ask a running bridge how it is
    Status(status::Args),
    /// Show the whole thing at work, with a Kafka and a Redis of its own
    Demo(demo::Args),
}

/// Runs what was asked for.
pub fn main(args: &Args) -> Exit {
    match &args.command {
        None | Some(Command::Run(_)) => run::run(args),
        Some(Command::Check(check)) => check::run(args, check),
        Some(Command::Schema(schema)) => schema::run(args, schema),
        Some(Command::Replay(replay)) => replay::run(args, replay),
        Some(Command::Jobs(jobs)) => jobs::run(args, jobs),
        Some(Command::Rewind(rewind)) => rewind::run(args, rewind),
        Some(Command::Verify(verify)) => verify::run(args, verify),
        Some(Command::Serve(serve)) => serve::run(args, serve),
        Some(Command::Status(status)) => status::run(args, status),
        Some(Command::Demo(demo)) => demo::run(args, demo),
    }
}

/// Refuses `--config` and `--set` where no configuration is read: ignored, they would seem to say something.
fn without_configuration(args: &Args, what: &str) -> Result<(), Exit> {
    if args.config.is_none() && args.set.is_empty() {
        return Ok(());
    }
    print::failure(args.output, format_args!("{what} reads no configuration: leave --config and --set out"));
    Err(Exit::Usage)
}

/// Loads and validates, or prints every mistake. `sets` come before those of the command line.
fn configuration(args: &Args, sets: &[&str]) -> Result<(Loaded, Valid), Exit> {
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).chain(args.set.iter().cloned()).collect();
    let loaded = load(args.config.as_deref(), &sets);
    loaded.and_then(|l| with_properties(&l, validate(&l)).map(|v| (l, v))).map_err(|mistakes| refused(args.output, &mistakes))
}

/// Prints every mistake.
fn refused(output: Output, mistakes: &Mistakes) -> Exit {
    match output {
        Output::Text => print::warn(mistakes.to_string().trim_end()),
        Output::Json => print::warn(format_args!("{:#}", json!({"error": "the configuration has mistakes", "mistakes": mistakes.0}))),
    }
    Exit::Config
}

/// Adds what librdkafka says of its properties to what else is wrong.
fn with_properties(loaded: &Loaded, validated: Result<Valid, Mistakes>) -> Result<Valid, Mistakes> {
    let refused = properties::mistakes(loaded);
    match validated {
        Ok(valid) if refused.is_empty() => Ok(valid),
        Ok(_) => Err(Mistakes(refused)),
        Err(Mistakes(all)) => Err(Mistakes(all.into_iter().chain(refused).collect())),
    }
}
