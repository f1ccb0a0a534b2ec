//! A wrong configuration never starts, and says everything that is wrong with it at once. The layers, and what `check` shows.
use crate::support::daemon::{Setup, binary};
use crate::support::kafka;
use crate::support::redis_server::RedisServer;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/bridge.toml");

/// Runs the binary to its end.
fn run(args: &[&str], env: &[(&str, &str)], input: &str) -> Output {
    let mut child =
        Command::new(binary()).args(args).envs(env.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Checks a text as a file; the exit code and what was said.
fn check(toml: &str, args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bridge.toml");
    std::fs::write(&file, toml).unwrap();
    let mut all = vec!["--config", file.to_str().unwrap(), "check"];
    all.extend(args);
    let output = run(&all, env, "");
    (output.status.code(), err(&output).replace(file.to_str().unwrap(), "FILE") + &out(&output))
}

const ROUTE: &str = "[[route]]\nname = \"r\"\ntopics = [\"t\"]\n[[route.write]]\nset = { key = \"k\", value = \"v\" }\n";

#[test]
fn the_reference_configuration_loads_as_it_is() {
    let output = run(&["--config", REFERENCE, "check"], &[], "");
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(out(&output).contains("route volatility: exactly-once; PUBLISH at most once to each connected subscriber"));
}

#[test]
fn ten_mistakes_are_listed_at_once_each_with_file_key_found_and_allowed() {
    let toml = r#"
[kafka]
brokers = "127.0.0.1:9092"
gruop = "x"
start = "yesterday"
[kafka.properties]
"group.id" = "mine"
[redis]
lanes = 0
guarantee = "exactly-onec"
connect_timeout = "5"
[batch]
bytes_max = 1048576
records_max = "many"
[log]
level = "loud"
[[route]]
name = "r"
topics = ["t"]
[[route.write]]
xadd = { key = "k" }
"#;
    let (code, said) = check(toml, &[], &[]);
    assert_eq!(code, Some(78));
    for expected in [
        "FILE: kafka.brokers: found \"127.0.0.1:9092\"; allowed: a value of type array",
        "FILE: kafka.gruop: found an unknown key; allowed: brokers, group, start, properties; did you mean \"group\"?",
        "FILE: redis.guarantee: found \"exactly-onec\"; allowed: exactly-once, at-least-once; did you mean \"exactly-once\"?",
        "FILE: redis.connect_timeout: found \"5\"; allowed: a duration with its unit",
        "FILE: batch.bytes_max: found 1048576; allowed: a value of type string",
        "FILE: batch.records_max: found \"many\"; allowed: a value of type integer",
        "FILE: log.level: found \"loud\"; allowed: error, warn, info, debug, trace",
        "FILE: route.0.write.0.xadd.fields: found nothing; allowed: a value: this key has no default",
        "FILE: kafka.start: found \"yesterday\"; allowed: \"earliest\", \"latest\", or an RFC 3339 time",
        "FILE: kafka.properties.group.id: found a property that the bridge owns; allowed: set kafka.group",
        "FILE: redis.lanes: found 0; allowed: 1 to 64",
    ] {
        assert!(said.contains(expected), "missing: {expected}\nin:\n{said}");
    }
}

#[test]
fn what_could_never_work_is_refused_before_anything_starts() {
    let with = |write: &str| format!("[[route]]\nname = \"r\"\ntopics = [\"t\"]\n[[route.write]]\n{write}\n");
    let raw = |write: &str| format!("[[route]]\nname = \"r\"\ntopics = [\"t\"]\ndecode = \"raw\"\n[[route.write]]\n{write}\n");
    for (toml, expected) in [
        (with("set = { key = \"{nope}\", value = \"v\" }"), "route.0.write.0.set.key: found \"{nope}\""),
        (with("set = { key = \"{key\", value = \"v\" }"), "route.0.write.0.set.key"),
        (with("command = [\"BLPOP\", \"k\", \"0\"]"), "route.0.write.0.command.0: found \"BLPOP\""),
        (with("command = [\"MULTI\"]"), "route.0.write.0.command.0: found \"MULTI\""),
        (with("command = [\"SUBSCRIBE\", \"c\"]"), "route.0.write.0.command.0: found \"SUBSCRIBE\""),
        (with("set = { key = \"k\", value = \"v\" }\npublish = { channel = \"c\", message = \"m\" }"), "exactly one of xadd, setex"),
        (with("xadd = { key = \"k\", fields = \"*\", maxlen = 1, minid = \"1\" }"), "both maxlen and minid"),
        (with("setex = { key = \"k\", value = \"v\", ttl = \"0s\" }"), "a duration above zero"),
        (raw("set = { key = \"{value.a}\", value = \"v\" }"), "a {value...} hole in a route with decode = \"raw\""),
        (raw("xadd = { key = \"k\", fields = \"*\" }"), "\"*\" in a route with decode = \"raw\""),
        (String::new(), "route: found no route"),
        (format!("{ROUTE}{ROUTE}"), "\"r\" twice"),
        (format!("[limit]\nrecords_per_second = 10\nburst = 499\n{ROUTE}"), "limit.burst: found 499; allowed: at least batch.records_max, 500"),
        (format!("[dead_letter]\nstream = \"s\"\ntopic = \"t\"\n{ROUTE}"), "both stream and topic"),
        (format!("[redis]\npassword_file = \"/nonexistent\"\n{ROUTE}"), "redis.password_file: found \"/nonexistent\""),
        (format!("[http]\nlisten = \"9650\"\n{ROUTE}"), "http.listen"),
        (format!("[kafka.properties]\n\"fetch.wat.max.ms\" = 5\n{ROUTE}"), "kafka.properties.fetch.wat.max.ms: found No such configuration property"),
        (format!("[kafka.properties]\n\"fetch.wait.max.ms\" = \"soon\"\n{ROUTE}"), "kafka.properties.fetch.wait.max.ms: found"),
        ("[kafka\n".into(), "FILE"),
    ] {
        let (code, said) = check(&toml, &[], &[]);
        assert_eq!(code, Some(78), "{toml}");
        assert!(said.contains(expected), "missing: {expected}\nin:\n{said}");
    }
}

#[test]
fn later_layers_win_and_a_mistake_names_its_layer() {
    let dump = |args: &[&str], env: &[(&str, &str)]| check(&format!("[redis]\nlanes = 3\n{ROUTE}"), args, env);
    let (code, said) = dump(&[], &[("BRIDGE__REDIS__LANES", "99")]);
    assert_eq!(code, Some(78));
    assert!(said.contains("environment variable BRIDGE__REDIS__LANES: redis.lanes: found 99; allowed: 1 to 64"), "{said}");
    let (code, said) = dump(&["--set", "redis.lanes=77"], &[("BRIDGE__REDIS__LANES", "99")]);
    assert_eq!(code, Some(78));
    assert!(said.contains("--set: redis.lanes: found 77"), "{said}");
    let (code, _) = dump(
        &["--set", "redis.lanes=4", "--set", "kafka.properties.client.id=me"],
        &[("BRIDGE__REDIS__LANES", "99"), ("BRIDGE__KAFKA__BROKERS", r#"["a:1","b:2"]"#)],
    );
    assert_eq!(code, Some(0));
    let (code, said) = dump(&["--set", "redis.lanes"], &[]);
    assert_eq!(code, Some(78));
    assert!(said.contains("--set: redis.lanes: found no \"=\""), "{said}");
    let output = run(&["--config", "/nonexistent/bridge.toml", "check"], &[], "");
    assert_eq!(output.status.code(), Some(78));
    assert!(err(&output).contains("/nonexistent/bridge.toml: --config: found no such file"));
    let output = run(&["check"], &[("BRIDGE_CONFIG", REFERENCE)], "");
    assert_eq!(output.status.code(), Some(0), "$BRIDGE_CONFIG names the file");
}

#[test]
fn secrets_are_never_printed() {
    let secret = "hunter2-in-every-place";
    let toml = format!(
        "[redis]\nurl = \"redis://user:{secret}@127.0.0.1:1/0\"\npassword = \"{secret}\"\nconnect_timeout = \"200ms\"\n[kafka]\nbrokers = [\"127.0.0.1:1\"]\n[kafka.properties]\n\"sasl.password\" = \"{secret}\"\n{ROUTE}"
    );
    for args in [&[][..], &["--connect"], &["--output", "json"], &["--set", "redis.lanes=0"]] {
        let (_, said) = check(&toml, args, &[]);
        assert!(!said.contains(secret), "{said}");
    }
    for wrong in ["url = 5", "url = \"http://x:hunter2-in-every-place@y\"", "password = [\"hunter2-in-every-place\"]"] {
        let (code, said) = check(&format!("[redis]\n{wrong}\n{ROUTE}"), &[], &[]);
        assert_eq!(code, Some(78));
        assert!(!said.contains(secret), "{said}");
    }
    let (code, said) = check(&format!("[kafka.properties]\n\"sasl.password\" = {{ a = \"{secret}\" }}\n{ROUTE}"), &[], &[]);
    assert_eq!(code, Some(78));
    assert!(!said.contains(secret), "{said}");
}

#[test]
fn a_record_on_standard_input_is_shown_as_the_commands_it_would_become() {
    let tick = r#"{"timestamp":"2025-12-06T14:00:00","price":42000.0,"realized_vol":null}"#;
    let output = run(&["--config", REFERENCE, "check", "--record", "-", "--key", "BTC/USD"], &[], tick);
    assert_eq!(output.status.code(), Some(0));
    let expected = [
        "XADD volatility:BTC/USD MAXLEN ~ 1000 * timestamp 2025-12-06T14:00:00 price 42000.0".to_owned(),
        format!("SET latest:BTC/USD \"{}\" EX 3600", tick.replace('"', "\\\"")),
        format!("PUBLISH volatility_updates:BTC/USD \"{}\"", tick.replace('"', "\\\"")),
    ];
    assert_eq!(out(&output).lines().collect::<Vec<_>>(), expected);
    let output = run(&["--config", REFERENCE, "--output", "json", "check", "--record", "-"], &[], tick);
    let shown: serde_json::Value = serde_json::from_str(&out(&output)).unwrap();
    assert!(shown["dead"].as_str().unwrap().contains("{key}"), "{shown}");
    let output = run(&["--config", REFERENCE, "check", "--record", "-", "--key", "K", "--topic", "other"], &[], tick);
    assert!(out(&output).contains("no route reads topic other"));
}

#[test]
fn check_connect_tells_what_both_ends_are_and_what_is_missing() {
    let redis = RedisServer::start();
    let topic = kafka::topic("checked", 3);
    let toml = Setup::new(&topic, &redis.url()).toml(9650);
    let (code, said) = check(&toml, &["--connect"], &[]);
    assert_eq!(code, Some(0), "{said}");
    for expected in
        [&format!("topic {topic} with 3 partitions"), "Kafka: 1 broker", "maxmemory-policy noeviction", "(master)", "route volatility: exactly-once"]
    {
        assert!(said.contains(expected), "missing: {expected}\nin:\n{said}");
    }
    redis.command("CONFIG SET maxmemory-policy allkeys-lru");
    let (code, said) = check(&toml.replace(&topic, "no-such-topic"), &["--connect"], &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("no topic no-such-topic exists yet") && said.contains("maxmemory-policy is allkeys-lru"), "{said}");
    redis.command("CONFIG SET maxmemory-policy noeviction");
    redis.command("ACL SETUSER small on >pw ~* &* +@all -xadd -hsetnx");
    let (code, said) = check(&toml, &["--connect"], &[("BRIDGE__REDIS__USER", "small"), ("BRIDGE__REDIS__PASSWORD", "pw")]);
    assert_eq!(code, Some(1));
    assert!(said.contains("ACL SETUSER small +xadd") && said.contains("ACL SETUSER small +hsetnx"), "{said}");
    assert!(!said.contains("+publish") && !said.contains("+hmget"), "{said}");
    redis.command("ACL SETUSER blind on >pw ~volatility:* ~latest:* &* +@all");
    let (code, said) = check(&toml, &["--connect"], &[("BRIDGE__REDIS__USER", "blind"), ("BRIDGE__REDIS__PASSWORD", "pw")]);
    assert_eq!(code, Some(1));
    assert_eq!(said.matches("ACL SETUSER blind ~bridge*").count(), 1, "{said}");
}

#[test]
fn a_commands_flags_on_the_real_server_are_looked_at_too() {
    let redis = RedisServer::start();
    let topic = kafka::topic("checked", 1);
    let routes = "[[route]]\nname = \"r\"\ntopics = [\"TOPIC\"]\n[[route.write]]\ncommand = [\"NOSUCHCOMMAND\", \"k\"]\n[[route.write]]\ncommand = [\"ACL\", \"LIST\"]\n";
    let (code, said) = check(&Setup::new(&topic, &redis.url()).routes(routes).toml(9650), &["--connect"], &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("this server does not know NOSUCHCOMMAND"), "{said}");
}

#[test]
fn wrong_usage_ends_with_2_and_help_lists_the_exit_codes() {
    assert_eq!(run(&["fly"], &[], "").status.code(), Some(2));
    let help = run(&["--help"], &[], "");
    assert_eq!(help.status.code(), Some(0));
    for code in ["75  stopped with records left to the next start", "78  wrong configuration"] {
        assert!(out(&help).contains(code));
    }
}
