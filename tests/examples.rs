//! The examples do what they say, as they stand; and what the bridge wrote is plain Redis for any client (redis-py here).
use crate::support::command::{check, out, run};
use crate::support::daemon::{Daemon, Setup};
use crate::support::kafka::{self, Produce};
use crate::support::process::{Lines, Process};
use crate::support::redis_server::RedisServer;
use rdkafka::Message as _;
use rdkafka::message::Headers as _;
use std::collections::BTreeSet;
use std::process::{Command, Stdio};

const CONFIGURATION: &str = include_str!("../examples/bridge.toml");

fn root() -> &'static str {
    env!("CARGO_MANIFEST_DIR")
}

/// A bridge by examples/bridge.toml: all of it but where Kafka and Redis are, and what the topics are called.
struct Bed {
    redis: RedisServer,
    daemon: Daemon,
    ticks: String,
    signals: String,
}

impl Bed {
    fn new() -> Self {
        let redis = RedisServer::start();
        let (ticks, signals) = (kafka::topic("volatility", 1), kafka::topic("signals", 1));
        let (_, rest) = CONFIGURATION.split_once("[dead_letter]").unwrap();
        let (sections, routes) = rest.split_once("[[route]]").unwrap();
        let routes = routes.replace("topics = [\"volatility\"]", &format!("topics = [\"{ticks}\"]")).replace("[\"signals\"]", &format!("[\"{signals}\"]"));
        let setup = Setup::new(&ticks, &redis.url()).extra(&format!("[dead_letter]{sections}")).routes(&format!("[[route]]{routes}"));
        let daemon = setup.start();
        daemon.wait_ready();
        Self { redis, daemon, ticks, signals }
    }

    /// Produces ticks of a pair, and waits until they are applied beside `before` others.
    fn tick(&self, pair: &str, before: i64, ticks: impl IntoIterator<Item = String>) {
        let ticks: Vec<String> = ticks.into_iter().collect();
        kafka::produce(&self.ticks, ticks.iter().map(|t| Produce::new(pair, t)));
        self.daemon.wait_settled(before + i64::try_from(ticks.len()).unwrap());
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("REDIS_URL", self.redis.url()).env("API_URL", format!("http://127.0.0.1:{}", self.daemon.http));
        command.env("PYTHONPATH", format!("{}/examples", root())).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    /// Starts a script with the Python that `scripts/install test` made.
    fn python(&self, words: &[&str]) -> Script {
        let mut command = self.command(&format!("{}/target/testbed/python/bin/python", root()));
        Script::start(command.arg(format!("{}/{}", root(), words[0])).args(&words[1..]))
    }
}

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
}

/// A script on its way, ended with the test.
struct Script(Process, Lines);

impl Script {
    fn start(command: &mut Command) -> Self {
        let mut process = Process::start(command.stdin(Stdio::null()).stdout(Stdio::piped()));
        let said = Lines::of(process.stdout.take().unwrap());
        Self(process, said)
    }

    fn line(&mut self) -> String {
        self.1.next("the script's next line").unwrap_or_default()
    }

    /// What it says until it ends well.
    fn finish(mut self) -> String {
        let said: String = self.1.rest("all that the script says").into_iter().map(|line| line + "\n").collect();
        assert!(self.0.ended().success(), "{said}");
        said
    }
}

fn tick(price: usize, vol: &str, spread: &str) -> String {
    format!(r#"{{"pair":"BTC/USD","price":{price}.0,"realized_vol":{vol},"spread":{spread}}}"#)
}

#[test]
fn the_examples_configuration_loads_and_its_alerts_are_raised_above_their_limits_alone() {
    let (code, said) = check(CONFIGURATION, &[], &[]);
    assert_eq!(code, Some(0), "{said}");
    let file = format!("{}/examples/bridge.toml", root());
    for (record, alerts) in [
        (r#"{"realized_vol":0.51,"spread":0.11}"#, &["XADD alerts MAXLEN", "XADD alerts MAXLEN", "PUBLISH alerts:K"][..]),
        (r#"{"realized_vol":0.51,"spread":0.10}"#, &["XADD alerts MAXLEN", "PUBLISH alerts:K"]),
        (r#"{"realized_vol":0.50,"spread":0.10}"#, &[]),
        (r#"{"price":42000.0}"#, &[]),
    ] {
        let output = run(&["--config", &file, "check", "--record", "-", "--key", "K", "--topic", "volatility"], &[], record);
        let said = out(&output);
        let found: Vec<&str> = said.lines().map(str::trim).filter(|l| l.contains(" alerts")).filter(|l| !l.starts_with('#')).collect();
        assert!(output.status.success() && found.len() == alerts.len() && found.iter().zip(alerts).all(|(f, a)| f.starts_with(a)), "{record}: {said}");
    }
}

#[test]
fn what_the_bridge_wrote_is_plain_redis_for_redis_py() {
    let bed = Bed::new();
    let mut script = bed.python(&["tests/python/plain_redis.py"]);
    assert_eq!(script.line(), "subscribed");
    bed.tick("BTC/USD", 0, (0..10).map(|n| tick(42_000 + n, "0.35", "0.05")));
    assert_eq!(script.finish(), "all of it holds\n");
}

#[test]
fn streaming_py_publishes_reads_and_subscribes_and_says_when_something_is_away() {
    let mut bed = Bed::new();
    assert_eq!(bed.python(&["tests/python/streaming_functions.py"]).finish(), "all of it holds\n");
    let tour = bed.python(&["examples/streaming.py", "NEO/USD"]).finish();
    for line in
        ["update of NEO/USD: price 42000.0", "latest: {'pair': 'NEO/USD', 'price': 42000.0,", "stream: 1 entries", "pairs: ['BTC/USD', 'ETH/USD', 'NEO/USD']"]
    {
        assert!(tour.lines().any(|l| l.starts_with(line)), "{line}: {tour}");
    }
    bed.redis.kill();
    let mut away = bed.python(&["examples/streaming.py"]);
    assert_eq!(away.0.ended().code(), Some(1), "nobody answers, and that is an answer");
}

#[test]
fn a_frame_of_pandas_has_the_last_thousand_points() {
    let bed = Bed::new();
    let points = (0..1_200).map(|n| format!(r#"{{"price":{}.5,"realized_vol":0.30,"implied_vol":{}}}"#, 1_000 + n, if n < 1_100 { "0.40" } else { "0.45" }));
    bed.tick("BTC/USD", 0, points);
    let said = bed.python(&["examples/points.py", "BTC/USD"]).finish();
    let expected = "1000 points of BTC/USD, price 1200.5 to 2199.5\nimplied above realized: mean 0.1050, last 0.1500, mean of the last 100 0.1500\n";
    assert_eq!(said, expected);
}

#[test]
fn each_alert_is_handled_once_by_whoever_takes_it() {
    let bed = Bed::new();
    bed.tick("BTC/USD", 0, [tick(1, "0.51", "0.05"), tick(2, "0.50", "0.10"), tick(3, "0.35", "0.11"), tick(4, "0.60", "0.20")]);
    let mut said = bed.python(&["examples/alerts.py", "--count", "1"]).finish();
    // It goes on behind the first, and ends with the last there is.
    said += &bed.python(&["examples/alerts.py", "--count", "3"]).finish();
    let told: Vec<&str> = said.lines().map(|l| l.split(" (").next().unwrap()).collect();
    assert_eq!(told, ["BTC/USD: realized_vol is 0.51", "BTC/USD: spread is 0.11", "BTC/USD: realized_vol is 0.60", "BTC/USD: spread is 0.20"]);
    let pending: (i64, redis::Value, redis::Value, redis::Value) = redis::cmd("XPENDING").arg("alerts").arg("desk").query(&mut bed.redis.connect()).unwrap();
    assert_eq!(pending.0, 0, "all are acknowledged");
}

#[test]
fn two_agents_coordinate_over_the_topic_of_signals() {
    let bed = Bed::new();
    let scout = bed.python(&["examples/agents.py", "scout", "--count", "2"]);
    let hedger = bed.python(&["examples/agents.py", "hedger", "--count", "2"]);
    kafka::produce(&bed.ticks, [Produce::new("BTC/USD", &tick(1, "0.51", "0.05")), Produce::new("ETH/USD", &tick(2, "0.40", "0.11"))]);
    let (scout, hedger) = (scout.finish(), hedger.finish());
    assert_eq!(hedger, "hedger: hedging BTC/USD\nhedger: hedging ETH/USD\n");
    for line in
        ["scout: BTC/USD has a risk: realized_vol is 0.51", "scout: ETH/USD has a risk: spread is 0.11", "scout: BTC/USD is hedged", "scout: ETH/USD is hedged"]
    {
        assert_eq!(scout.matches(line).count(), 1, "{line}: {scout}");
    }
    let signals = bed.redis.entries::<String>("signals");
    assert_eq!(signals.len(), 4, "one signal for each alert, one answer to each: {signals:?}");
    // They went through Kafka, each with the key by which it is published once.
    let records = kafka::read_all(&bed.signals, 4);
    let told: Vec<(String, serde_json::Value)> = records.iter().map(|r| (text(r.key()), serde_json::from_slice(r.payload().unwrap()).unwrap())).collect();
    for pair in ["BTC/USD", "ETH/USD"] {
        let kinds: Vec<&str> = told.iter().filter(|(key, signal)| key == pair && signal["pair"] == pair).filter_map(|(_, s)| s["kind"].as_str()).collect();
        assert_eq!(kinds, ["risk", "hedged"], "{told:?}");
    }
    let keys: BTreeSet<String> = records.iter().filter_map(|r| r.headers()?.iter().find(|h| h.key == "idempotency-key")).map(|h| text(h.value)).collect();
    assert_eq!((records.len(), keys.len()), (4, 4), "{keys:?}");
}

#[test]
fn the_lines_for_looking_inside_show_the_stream_its_time_to_live_and_its_memory() {
    let bed = Bed::new();
    bed.tick("BTC/USD", 0, (0..10).map(|n| tick(42_000 + n, "0.60", "0.05")));
    let said = Script::start(bed.command(&format!("{}/examples/look-inside", root())).arg("BTC/USD")).finish();
    let answer = |line: &str| said.lines().skip_while(|l| *l != line).nth(1).unwrap_or_else(|| panic!("{line}: {said}"));
    assert_eq!((answer("> XLEN volatility:BTC/USD"), answer("> XLEN alerts"), answer("> XLEN bridge:dead")), ("10", "10", "0"));
    assert!((1..=3600).contains(&answer("> TTL latest:BTC/USD").parse::<i64>().unwrap()), "{said}");
    assert!(answer("> MEMORY USAGE volatility:BTC/USD SAMPLES 0").parse::<u64>().unwrap() > 100, "{said}");
    assert_eq!(answer("> GET latest:BTC/USD"), tick(42_009, "0.60", "0.05"));
    assert!(answer("> INFO memory").starts_with("used_memory_human:"), "{said}");
}
