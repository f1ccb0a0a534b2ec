//! `demo`: the whole thing at work on one machine. librdkafka's in-process mock broker, a Redis of its own (or a given
//! one), the bridge with the reference configuration and alerts on its ticks, the page over both, and a feeder of volatility
//! ticks. It leaves nothing behind.
mod feeder;
mod redis_child;

use self::feeder::{Feeder, PAIRS};
use self::redis_child::RedisChild;
use super::{Args as Global, Exit, Output, print};
use crate::app::Bridge;
use crate::config::load::load_text;
use crate::config::validate::{Valid, validate};
use crate::config::{Log, LogFormat, LogLevel};
use crate::core::words::counted;
use crate::ops::http::{self, Source as _};
use crate::ops::listener::Bounds;
use crate::ops::status::Status;
use crate::ops::telemetry;
use crate::serve::Api;
use rdkafka::mocking::MockCluster;
use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const TOPIC: &str = "volatility";
const PARTITIONS: i32 = 4;
/// The demo's own keys begin with this, its state among them.
const PREFIX: &str = "bridge-demo";
const REFERENCE: &str = include_str!("../../../config/bridge.toml");
/// After so many lines the page's address is told again.
const ADDRESS_EVERY: u64 = 10;

/// Behind the writes of the reference configuration: alerts, on a condition that holds for about one tick in two thousand.
const ALERTS: &str = "
[[route.write]]
when = \"value.spread >= 0.12\"
xadd = { key = \"alerts\", fields = { pair = \"{key}\", spread = \"{value.spread}\", realized_vol = \"{value.realized_vol}\", price = \"{value.price}\" }, maxlen = 1000 }

[[route.write]]
when = \"value.spread >= 0.12\"
publish = { channel = \"alerts:{key}\", message = \"{payload}\" }
";

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

pub fn run(global: &Global, args: &Args) -> Exit {
    if global.config.is_some() || !global.set.is_empty() || global.output == Output::Json {
        print::failure(
            global.output,
            "the demo shows the reference configuration as it is, to people: --config, --set and --output json are for the other commands",
        );
        return Exit::Usage;
    }
    telemetry::init(&Log { format: LogFormat::Text, level: LogLevel::Warn });
    match show(args) {
        Ok(exit) => exit,
        Err(why) => {
            print::warn(format_args!("the demo can't go on: {why}"));
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
        "kafka.properties.fetch.wait.max.ms=10".to_owned(),
        format!("kafka.brokers=[\"{}\"]", kafka.bootstrap_servers()),
        format!("redis.url={url}"),
        format!("redis.state_prefix={PREFIX}"),
        format!("dead_letter.stream={PREFIX}:dead"),
        "serve.enabled=true".to_owned(),
        "http.redis_every=1s".to_owned(),
        format!("serve.streaming={TOPIC}"),
    ];
    let valid = load_text(&format!("{REFERENCE}{ALERTS}"), "config/bridge.toml", &sets).and_then(|l| validate(&l)).map_err(|m| m.to_string())?;
    let listener = http::listen("127.0.0.1:0").map_err(|e| e.to_string())?;
    let address = listener.address;
    let api = Api::new(&valid)?;
    let bridge = Bridge::start(&valid)?;
    let view = bridge.view.clone();
    let router = move || http::router(view).fallback_service(api.router());
    listener.serve(Bounds { all: valid.config.serve.connections_max, each: 0 }, router).map_err(|e| e.to_string())?;
    let feeder = Feeder::start(&kafka.bootstrap_servers(), TOPIC, args.rate)?;
    introduce(&valid, child.as_ref(), &address.to_string())?;
    watch(args, &stop, &bridge, &feeder, &mut redis, &address.to_string());
    let produced = feeder.stop();
    print::line(format_args!("\nDraining: {produced} ticks were produced."));
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
        print::line(format_args!("  {} stopped at {}", p.partition, p.position.unwrap_or_default()));
    }
    let commands: u64 = status.routes.iter().map(|r| r.commands).sum();
    print::line(format_args!("{} ticks are in Redis, each once, as {commands} commands; {}.", settled(&status), counted(dead, "dead letter")));
    redis.delete();
    if let Some(fatal) = drained.fatal {
        return Err(fatal);
    }
    Ok(if settled(&status) == produced { Exit::Done } else { Exit::Left })
}

/// Ticks that came through.
fn settled(status: &Status) -> u64 {
    status.routes.first().map_or(0, |r| r.records)
}

/// What stands where, and how to look for oneself.
fn introduce(valid: &Valid, child: Option<&RedisChild>, address: &str) -> Result<(), String> {
    let paint = Paint::of_stdout();
    let (cli, password) = redis_cli(&valid.config.redis.url.0)?;
    let [kafka, to, bridge] = ["Kafka", "Redis", "Bridge"].map(|name| paint.bold(&format!("{name:<6}")));
    let (address_line, program) = (watch_it(address, paint), program());
    let (pair, group) = (PAIRS[0], &valid.config.kafka.group);
    let redis = child.map_or_else(|| "as given".to_owned(), |c| c.url());
    let brokers = valid.config.kafka.brokers.join(",");
    let guarantee = valid.config.redis.guarantee.name();
    let auth = if password { "  export REDISCLI_AUTH=...   # the password of --redis, which is not shown\n" } else { "" };
    print::line(format_args!(
        "{kafka}  {brokers}, librdkafka's mock broker in this process
        topic {TOPIC}, {PARTITIONS} partitions
{to}  {redis}
{bridge}  the route of config/bridge.toml with alerts on it, {guarantee}
        http://{address}/status

{address_line}

Look for yourself, from another terminal:
{auth}  {cli} XREVRANGE volatility:{pair} + - COUNT 2
  {cli} GET latest:{pair}
  {cli} SUBSCRIBE volatility_updates:{pair}
  {cli} HGETALL {PREFIX}:state:{group}:{TOPIC}:0
  curl 'http://{address}/api/v1/streaming/{pair}/latest'
  curl 'http://{address}/api/v1/routes/{TOPIC}/alerts/history?count=3'
  {program} status --address {address}

Ctrl-C drains and ends. The group forms within a few seconds.
"
    ));
    Ok(())
}

/// Where the page is. One line, which is the same wherever it stands.
fn watch_it(address: &str, paint: Paint) -> String {
    format!("{} {}", paint.bold("watch it at"), paint.address(&format!("http://{address}/")))
}

/// This program, as it can be called from the folder that it was called from.
fn program() -> String {
    let called = PathBuf::from(std::env::args_os().next().unwrap_or_default());
    let here = std::env::current_dir().unwrap_or_default();
    let path = called.strip_prefix(&here).unwrap_or(&called).to_string_lossy().into_owned();
    // Without a folder it was found on PATH, and is found there again.
    shlex::try_quote(&path).map_or_else(|_| path.clone(), Cow::into_owned)
}

/// Colours, where somebody looks at a terminal.
#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn of_stdout() -> Self {
        Self(telemetry::coloured(&std::io::stdout()))
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    fn address(self, text: &str) -> String {
        self.with("4;36", text)
    }

    fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    fn wrong(self, text: &str) -> String {
        self.with("1;31", text)
    }
}

/// How redis-cli reaches the Redis of a URL, and whether it needs a password, which is not shown.
fn redis_cli(url: &str) -> Result<(String, bool), String> {
    let info = redis::IntoConnectionInfo::into_connection_info(url).map_err(|_| "--redis is no Redis URL".to_owned())?;
    let at = match info.addr() {
        // redis-cli's own default, which leaves room on the line.
        redis::ConnectionAddr::Tcp(host, port) if host == "127.0.0.1" => format!("-p {port}"),
        redis::ConnectionAddr::Tcp(host, port) => format!("-h {host} -p {port}"),
        redis::ConnectionAddr::TcpTls { host, port, .. } => format!("--tls -h {host} -p {port}"),
        redis::ConnectionAddr::Unix(path) => format!("-s {}", path.display()),
        _ => return Err("--redis is no Redis URL that the demo knows".into()),
    };
    let settings = info.redis_settings();
    let user = settings.username().map(|u| format!(" --user {u}")).unwrap_or_default();
    let database = if settings.db() == 0 { String::new() } else { format!(" -n {}", settings.db()) };
    Ok((format!("redis-cli {at}{user}{database}"), settings.password().is_some()))
}

/// One line a second until the end is asked for, and again and again the page's address. None is wider than 80 columns, but where
/// something is wrong.
fn watch(args: &Args, stop: &AtomicBool, bridge: &Bridge, feeder: &Feeder, redis: &mut Keys, address: &str) {
    let (begun, paint) = (Instant::now(), Paint::of_stdout());
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
        let pair = PAIRS[usize::try_from(second).unwrap_or_default() % PAIRS.len()];
        let lag = feeder.produced().saturating_sub(records);
        let rate = paint.good(&format!("{:>7}", records - before));
        if !print::line_read(format_args!("{second:>4} s  {rate} records/s  lag {lag:>6}  {pair} {}", redis.latest(pair))) {
            // Nobody looks any more.
            return;
        }
        for c in &status.conditions {
            print::line(format_args!("        {}: {}\n        what to do: {}", paint.wrong(&c.code), c.message, c.remedy));
        }
        if second % ADDRESS_EVERY == 0 {
            print::line(format_args!("\n{}\n", watch_it(address, paint)));
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
        PAIRS.iter().flat_map(|p| [format!("volatility:{p}"), format!("latest:{p}")]).chain(["alerts".to_owned()]).collect()
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
