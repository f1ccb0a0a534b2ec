//! `demo`: the whole thing at work on one machine. librdkafka's in-process mock broker, a Redis of its own (or a given
//! one), the bridge with the reference configuration, and a feeder of volatility ticks. It leaves nothing behind.
mod feeder;
mod redis_child;

use self::feeder::{Feeder, PAIRS};
use self::redis_child::RedisChild;
use super::Exit;
use crate::app::Bridge;
use crate::config::load::load_text;
use crate::config::validate::{Valid, validate};
use crate::config::{Log, LogFormat, LogLevel};
use crate::ops::http::{self, Source as _};
use crate::ops::status::Status;
use crate::ops::telemetry;
use rdkafka::mocking::MockCluster;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const TOPIC: &str = "volatility";
const PARTITIONS: i32 = 4;
/// The demo's own keys begin with this, its state among them.
const PREFIX: &str = "kafka-redis-bridge-demo";
const REFERENCE: &str = include_str!("../../../config/bridge.toml");

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Stop after so many seconds; else at Ctrl-C
    #[arg(long)]
    pub seconds: Option<u64>,
    /// Use this Redis instead of a redis-server of the demo's own; the demo's keys are deleted at the end
    #[arg(long, value_name = "URL")]
    pub redis: Option<String>,
    /// Ticks a second
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=200_000))]
    pub rate: u64,
}

pub fn run(args: &Args) -> Exit {
    telemetry::init(&Log { format: LogFormat::Text, level: LogLevel::Warn });
    match show(args) {
        Ok(exit) => exit,
        Err(why) => {
            eprintln!("the demo can't go on: {why}");
            Exit::Fatal
        }
    }
}

fn show(args: &Args) -> Result<Exit, String> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, stop.clone()).map_err(|e| e.to_string())?;
    }
    let kafka = MockCluster::new(1).map_err(|e| format!("the mock broker: {e}"))?;
    kafka.create_topic(TOPIC, PARTITIONS, 1).map_err(|e| format!("the mock broker: {e}"))?;
    let child = if args.redis.is_none() { Some(RedisChild::start()?) } else { None };
    let url = args.redis.clone().or_else(|| child.as_ref().map(RedisChild::url)).unwrap_or_default();
    let mut redis = Keys::open(&url)?;
    // The mock broker answers a fetch that found nothing only when its time is over, whatever comes meanwhile.
    let sets = [
        "kafka.properties.fetch.wait.max.ms=\"10\"".to_owned(),
        format!("kafka.brokers=[\"{}\"]", kafka.bootstrap_servers()),
        format!("redis.url=\"{url}\""),
        format!("redis.state_prefix=\"{PREFIX}\""),
        format!("dead_letter.stream=\"{PREFIX}:dead\""),
    ];
    let valid = load_text(REFERENCE, "config/bridge.toml", &sets).and_then(|l| validate(&l)).map_err(|m| m.to_string())?;
    let bridge = Bridge::start(&valid)?;
    let address = http::serve("127.0.0.1:0", bridge.view.clone()).map_err(|e| e.to_string())?;
    let feeder = Feeder::start(&kafka.bootstrap_servers(), TOPIC, args.rate)?;
    introduce(&valid, &url, child.as_ref(), &address.to_string());
    watch(args, &stop, &bridge, &feeder, &mut redis);
    let produced = feeder.stop();
    println!("\nDraining: {produced} ticks were produced.");
    let until = Instant::now() + Duration::from_secs(10);
    while settled(&bridge.view.status()) < produced && Instant::now() < until && !bridge.finished() {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    bridge.stop();
    let view = bridge.view.clone();
    let drained = bridge.join(|| ()).ok_or("the consumer did not close in time")?;
    let status = view.status();
    let dead: u64 = status.routes.iter().map(|r| r.dead).sum();
    for p in &drained.positions {
        println!("  {} stopped at {}", p.partition, p.position.unwrap_or_default());
    }
    println!("{} ticks are in Redis, each once, as {} commands; {dead} dead letters.", settled(&status), status.routes.iter().map(|r| r.commands).sum::<u64>());
    redis.delete();
    if let Some(fatal) = drained.fatal {
        return Err(fatal);
    }
    Ok(if settled(&status) == produced { Exit::Done } else { Exit::Left })
}

fn settled(status: &Status) -> u64 {
    status.routes.iter().map(|r| r.records).sum()
}

/// What stands where, and how to look for oneself.
fn introduce(valid: &Valid, url: &str, child: Option<&RedisChild>, address: &str) {
    let cli = child.map_or_else(|| format!("redis-cli -u {url}"), |c| format!("redis-cli -p {}", c.port));
    let pair = PAIRS[0];
    println!("Kafka   {} (librdkafka's mock broker, in this process), topic {TOPIC}, {PARTITIONS} partitions", valid.config.kafka.brokers.join(","));
    println!("Redis   {}", if child.is_some() { url } else { "as given" });
    println!("Bridge  the routes of config/bridge.toml, {}, http://{address}/status", valid.config.redis.guarantee.name());
    println!("\nLook for yourself, from another terminal:");
    println!("  {cli} XREVRANGE volatility:{pair} + - COUNT 2");
    println!("  {cli} GET latest:{pair}");
    println!("  {cli} SUBSCRIBE volatility_updates:{pair}");
    println!("  {cli} HGETALL {PREFIX}:state:{}:{TOPIC}:0", valid.config.kafka.group);
    println!("  kafka-redis-bridge status --address {address}");
    println!("\nCtrl-C drains and ends. The group forms within a few seconds.\n");
}

/// One line a second until the end is asked for.
fn watch(args: &Args, stop: &AtomicBool, bridge: &Bridge, feeder: &Feeder, redis: &mut Keys) {
    let begun = Instant::now();
    let over = |elapsed: Duration| stop.load(Ordering::Relaxed) || bridge.finished() || args.seconds.is_some_and(|s| elapsed >= Duration::from_secs(s));
    let (mut second, mut before) = (0, 0);
    while !over(begun.elapsed()) {
        std::thread::park_timeout(Duration::from_millis(20));
        if begun.elapsed().as_secs() <= second {
            continue;
        }
        second = begun.elapsed().as_secs();
        let status = bridge.view.status();
        let records = settled(&status);
        let latest: Vec<String> = PAIRS.iter().take(3).map(|p| format!("{p} {}", redis.latest(p))).collect();
        println!("{second:>4} s  {:>7} records/s  lag {:>6}  {}", records - before, feeder.produced().saturating_sub(records), latest.join("  "));
        for c in &status.conditions {
            println!("        {}: {} ({})", c.code, c.message, c.remedy);
        }
        before = records;
    }
}

/// The keys that the demo makes: read while it runs, deleted at its end.
struct Keys(redis::Connection);

impl Keys {
    /// # Errors
    /// Redis can't be reached, or holds keys of these names already: the demo would mix with them and delete them.
    fn open(url: &str) -> Result<Self, String> {
        let client = redis::Client::open(url).map_err(|_| "--redis is no Redis URL, such as redis://127.0.0.1:6379/9".to_owned())?;
        let mut redis = client.get_connection_with_timeout(Duration::from_secs(5)).map_err(|e| format!("Redis: {e}"))?;
        for key in Self::names() {
            if redis::cmd("EXISTS").arg(&key).query::<i64>(&mut redis).map_err(|e| format!("Redis: {e}"))? > 0 {
                return Err(format!("this Redis already holds {key}, which the demo would write and delete: choose an empty database, such as .../9"));
            }
        }
        Ok(Self(redis))
    }

    fn names() -> Vec<String> {
        PAIRS.iter().flat_map(|p| [format!("volatility:{p}"), format!("latest:{p}")]).collect()
    }

    /// The latest tick of a pair, in short.
    fn latest(&mut self, pair: &str) -> String {
        let text: Option<String> = redis::cmd("GET").arg(format!("latest:{pair}")).query(&mut self.0).ok().flatten();
        let tick = text.and_then(|t| serde_json::from_str::<serde_json::Value>(&t).ok());
        tick.map_or_else(|| "-".into(), |t| format!("{} (vol {})", t["price"], t["realized_vol"]))
    }

    fn delete(mut self) {
        let own: Vec<String> = redis::cmd("KEYS").arg(format!("{PREFIX}:*")).query(&mut self.0).unwrap_or_default();
        for key in Self::names().into_iter().chain(own) {
            let _ = redis::cmd("DEL").arg(key).query::<i64>(&mut self.0);
        }
    }
}
