//! What the commands say, and how they end: for people, for scripts, for a reader that goes away, and never a secret.
use crate::support::command::{REFERENCE, ROUTE, check, check_placed, err, out, run};
use crate::support::daemon::{Setup, binary};
use crate::support::kafka;
use crate::support::process::Process;
use crate::support::redis_server::RedisServer;
use crate::support::{eventually, free_port, signal};
use serde_json::Value;
use std::net::TcpListener;
use std::process::{Command, Stdio};

const TICK: &str = r#"{"timestamp":"2025-12-06T14:00:00","price":42000.0,"realized_vol":null}"#;

/// Checks the record on standard input against routes in a file of their own.
fn record(toml: &str, args: &[&str], input: &str) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bridge.toml");
    std::fs::write(&file, toml).unwrap();
    let all: Vec<&str> = ["--config", file.to_str().unwrap(), "check", "--record", "-"].into_iter().chain(args.iter().copied()).collect();
    let output = run(&all, &[], input);
    (output.status.code(), out(&output))
}

#[test]
fn a_record_on_standard_input_is_shown_as_the_commands_it_would_become() {
    let output = run(&["--config", REFERENCE, "check", "--record", "-", "--key", "BTC/USD"], &[], TICK);
    assert_eq!(output.status.code(), Some(0));
    let expected = [
        "route volatility:".to_owned(),
        "  XADD volatility:BTC/USD MAXLEN ~ 1000 * timestamp 2025-12-06T14:00:00 price 42000.0".to_owned(),
        format!("  SET latest:BTC/USD \"{}\" EX 3600", TICK.replace('"', "\\\"")),
        format!("  PUBLISH volatility_updates:BTC/USD \"{}\"", TICK.replace('"', "\\\"")),
    ];
    assert_eq!(out(&output).lines().collect::<Vec<_>>(), expected);
    let output = run(&["--config", REFERENCE, "check", "--record", "-", "--key", "-x", "--topic", "other"], &[], TICK);
    assert_eq!(output.status.code(), Some(0));
    assert!(out(&output).contains("no route reads topic other"));
}

#[test]
fn a_dead_record_is_said_with_where_it_goes_and_ends_with_3() {
    let output = run(&["--config", REFERENCE, "--output", "json", "check", "--record", "-"], &[], TICK);
    assert_eq!(output.status.code(), Some(3));
    let shown: Value = serde_json::from_str(&out(&output)).unwrap();
    assert!(shown["dead"].as_str().unwrap().contains("stream bridge:dead: route volatility: write 1 (xadd): the record has nothing for {key}"), "{shown}");
    assert!(shown["routes"][0]["dead"].as_str().unwrap().contains("{key}"), "{shown}");
    let bad = ROUTE.replace("\"r\"", "\"bad\"").replace("\"v\"", "\"{value.a}\"");
    let (code, said) = record(&format!("{ROUTE}{bad}"), &[], "{}");
    assert_eq!(code, Some(3));
    let expected = [
        "route r:",
        "  SET k v",
        "route bad:",
        "  # dead: write 1 (set): the record has nothing for {value.a}",
        "the record is dead, and nothing of it is applied; no [dead_letter] is set, so its partition halts: route bad: write 1 (set): the record has nothing for {value.a}",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_tombstone_and_a_time_to_live_that_has_run_out_are_said_in_words() {
    let (code, said) = record(ROUTE, &["--tombstone"], "");
    assert_eq!((code, said.as_str()), (Some(0), "route r:\n  # a tombstone: on_tombstone = \"skip\" writes nothing\n"));
    let del = ROUTE.replace("topics", "on_tombstone = \"del\"\ntopics");
    let (_, said) = record(&del, &["--tombstone"], "");
    assert_eq!(said, "route r:\n  DEL k\n  # a tombstone: on_tombstone = \"del\" deletes the keys of the set and setex writes\n");
    let (_, said) = record(&del.replace("set = { key = \"k\", value = \"v\" }", "del = { key = \"k\" }"), &["--tombstone"], "");
    assert!(said.contains("deletes nothing"), "{said}");
    let expiring = format!("{ROUTE}[[route.write]]\nsetex = {{ key = \"e\", value = \"v\", ttl = \"{{value.ttl}}\" }}\n");
    let (code, said) = record(&expiring, &[], "{\"ttl\":0}");
    let expected = "route r:\n  SET k v\n  # write 2 (setex): its ttl is zero or less, so it has expired and is not written\n";
    assert_eq!((code, said.as_str()), (Some(0), expected));
}

#[test]
fn wrong_usage_ends_with_2_and_help_lists_the_exit_codes() {
    for wrong in [
        &["fly"][..],
        &["status", "--address", "127.0.0.1"],
        &["status", "--address", "127.0.0.1:99999"],
        &["check", "--record", "/nonexistent"],
        &["check", "--record", "-", "--header", "noeq"],
        &["check", "--record", "-", "--header", "=value"],
        &["--output", "json", "schema", "--markdown"],
        &["demo", "--set", "redis.lanes=4"],
        &["demo", "--config", REFERENCE],
        &["demo", "--output", "json"],
    ] {
        let output = run(&[wrong, if wrong[0] == "check" { &["--config", REFERENCE] } else { &[] }].concat(), &[], "");
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", err(&output));
        assert!(!err(&output).is_empty() && !err(&output).contains('\x1b'), "{wrong:?}: colour is for terminals");
    }
    let help = run(&["--help"], &[], "");
    assert_eq!(help.status.code(), Some(0));
    for code in [
        "3   done, with dead letters",
        "5   verify: all that was compared is equal",
        "75  stopped with records left to the next start",
        "78  wrong configuration",
    ] {
        assert!(out(&help).contains(code), "{}", out(&help));
    }
}

#[test]
fn failures_are_json_where_json_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bridge.toml");
    std::fs::write(&file, format!("[redis]\nlanes = 0\n{ROUTE}")).unwrap();
    for command in ["run", "check", "status"] {
        let output = run(&["--config", file.to_str().unwrap(), "--output", "json", command], &[], "");
        assert_eq!(output.status.code(), Some(78));
        let said: Value = serde_json::from_str(&err(&output)).unwrap();
        assert_eq!(said["mistakes"][0]["key"], "redis.lanes", "{said}");
        assert_eq!((&said["mistakes"][0]["found"], &said["mistakes"][0]["allowed"]), (&"0".into(), &"1 to 64".into()));
    }
    let output = run(&["--output", "json", "status", "--address", "127.0.0.1:1"], &[], "");
    assert_eq!(output.status.code(), Some(1));
    let said: Value = serde_json::from_str(&err(&output)).unwrap();
    assert!(said["error"].as_str().unwrap().contains("no bridge answers at 127.0.0.1:1"), "{said}");
    let output = run(&["--output", "json", "schema"], &[], "");
    assert_eq!(serde_json::from_str::<Value>(&out(&output)).unwrap()["title"], "kafka-redis-bridge");
    // The listener's address is taken: the start fails before Kafka hears of it, and the log is JSON.
    let (taken, kafka) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let [address, broker] = [&taken, &kafka].map(|l| l.local_addr().unwrap());
    std::fs::write(&file, format!("[kafka]\nbrokers = [\"{broker}\"]\n[http]\nlisten = \"{address}\"\n{ROUTE}")).unwrap();
    let output = run(&["--config", file.to_str().unwrap(), "--output", "json", "run"], &[], "");
    assert_eq!(output.status.code(), Some(1));
    let said: Vec<Value> = err(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let codes: Vec<_> = said.iter().filter_map(|line| line["code"].as_str()).collect();
    assert_eq!(codes, ["http-failed"], "{said:?}");
    kafka.set_nonblocking(true).unwrap();
    assert!(kafka.accept().is_err(), "nobody connected to it");
}

#[test]
fn a_reader_that_goes_away_is_the_end_and_no_failure() {
    for args in [&["schema"][..], &["schema", "--markdown"], &["--config", REFERENCE, "check"], &["--help"]] {
        let mut child = Process::start(Command::new(binary()).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()));
        drop(child.stdout.take());
        let output = child.into_output();
        assert_eq!((output.status.code(), err(&output).as_str()), (Some(0), ""), "{args:?}");
    }
    let mut child = Process::start(Command::new(binary()).args(["--config", "/nonexistent", "check"]).stdout(Stdio::null()).stderr(Stdio::piped()));
    drop(child.stderr.take());
    assert_eq!(child.ended().code(), Some(78));
}

#[test]
fn a_bridge_whose_log_nobody_reads_goes_on() {
    let redis = RedisServer::start();
    let topic = kafka::topic("unread", 1);
    let (dir, http) = (tempfile::tempdir().unwrap(), free_port());
    let file = dir.path().join("bridge.toml");
    let extra = "[dead_letter]\nstream = \"bridge:dead\"\n[log]\nlevel = \"trace\"\n";
    std::fs::write(&file, Setup::new(&topic, &redis.url()).extra(extra).toml(http)).unwrap();
    let mut child = Process::start(Command::new(binary()).arg("--config").arg(&file).arg("run").stderr(Stdio::piped()));
    drop(child.stderr.take());
    kafka::produce(&topic, [kafka::Produce::new("K", r#"{"a":1}"#)]);
    eventually("the record is in Redis", 40, || redis.entries::<String>("volatility:K").len() == 1);
    signal(child.id(), "TERM");
    assert_eq!(child.ended().code(), Some(0));
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
    // Of a line that is no TOML nothing is shown that may be one.
    let (code, said) = check_placed(&format!("[redis]\npassword = \"{secret}\" \"\n{ROUTE}"), &[], &[]);
    assert_eq!(code, Some(78));
    assert!(said.contains("FILE:2:") && said.contains("2 | password = ***") && !said.contains(secret), "{said}");
    let set = format!("redis={{ password = \"{secret}\"");
    let (code, said) = check(ROUTE, &["--set", &set], &[("BRIDGE__KAFKA", secret), ("BRIDGE__KAFKA__PROPERTIES__SSL_KEY_PEM", secret)]);
    assert_eq!(code, Some(78));
    assert!(said.contains("--set: redis: found a text") && !said.contains(secret), "{said}");
}

#[test]
fn secrets_are_not_printed_by_a_running_bridge_nor_by_the_demo() {
    let secret = "hunter2-in-every-place";
    let redis = RedisServer::start();
    redis.command(&format!("ACL SETUSER someone on >{secret} ~* &* +@all"));
    let url = format!("redis://someone:{secret}@127.0.0.1:{}/3", redis.port);
    let topic = kafka::topic("secret", 1);
    let setup = Setup::new(&topic, &url).property("sasl.password", secret).extra("[dead_letter]\nstream = \"bridge:dead\"\n[log]\nlevel = \"trace\"\n");
    let mut daemon = setup.start();
    daemon.wait_ready();
    let status = daemon.get("/status").unwrap() + &daemon.get("/metrics").unwrap();
    // The password is changed meanwhile: the failures are told without it.
    redis.command("ACL SETUSER someone resetpass >another");
    redis.command("CLIENT KILL TYPE normal SKIPME yes");
    daemon.wait_holds("redis-refused");
    let status = status + &daemon.get("/status").unwrap();
    daemon.stop();
    assert!(!(daemon.log() + &status).contains(secret), "{}", daemon.log());
    redis.command(&format!("ACL SETUSER someone resetpass >{secret}"));
    let output = run(&["demo", "--seconds", "1", "--rate", "10", "--redis", &url], &[], "");
    let said = out(&output) + &err(&output);
    assert!(said.contains(&format!("redis-cli -p {} --user someone -n 3 GET latest:BTC/USD", redis.port)), "{said}");
    assert!(said.contains("REDISCLI_AUTH") && !said.contains(secret), "{said}");
}
