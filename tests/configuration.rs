//! A wrong configuration never starts, and says everything that is wrong with it at once. The layers.
use crate::support::command::{REFERENCE, ROUTE, check, err, out, run};
use kafka_redis_bridge::config::load::{Mistake, load_text};
use kafka_redis_bridge::config::validate::validate;

#[test]
fn the_reference_configuration_loads_as_it_is() {
    let output = run(&["--config", REFERENCE, "check"], &[], "");
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(out(&output).contains("route volatility: exactly-once; PUBLISH at most once to each connected subscriber"));
    let output = run(&["--config", REFERENCE, "--set", "redis.guarantee=at-least-once", "check"], &[], "");
    assert!(out(&output).contains("route volatility: at-least-once; PUBLISH once or more to each connected subscriber"));
}

#[test]
fn ten_mistakes_are_listed_at_once_each_with_file_key_found_and_allowed() {
    let toml = r#"
[kafka]
brokers = 9092
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
        "FILE: kafka.brokers: found 9092; allowed: a list such as [\"a\", \"b\"], or a text with names between commas",
        "FILE: kafka.gruop: found an unknown key; allowed: brokers, group, start, token_command, properties; did you mean \"group\"?",
        "FILE: redis.guarantee: found \"exactly-onec\"; allowed: exactly-once, at-least-once; did you mean \"exactly-once\"?",
        "FILE: redis.connect_timeout: found \"5\"; allowed: a duration with its unit",
        "FILE: batch.bytes_max: found 1048576; allowed: a size with its unit",
        "FILE: batch.records_max: found \"many\"; allowed: a whole number",
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
        (format!("[redis]\nconnect_timeout = 5\n{ROUTE}"), "redis.connect_timeout: found 5; allowed: a duration with its unit"),
        (format!("[limit]\nburst = 1000\n{ROUTE}"), "limit.burst: found 1000 without a rate"),
        (format!("[dead_letter]\nmaxlen = 5\ntopic = \"t\"\n{ROUTE}"), "dead_letter.maxlen: found 5; allowed: maxlen only beside dead_letter.stream"),
        (format!("[dead_letter]\nstream = \"bridge:store\"\n{ROUTE}"), "dead_letter.stream: found \"bridge:store\""),
        (format!("[kafka]\nbrokers = [\"nohost\", \"h:1\", \"h:999999\", \":1\"]\n{ROUTE}"), "kafka.brokers.0: found \"nohost\"; allowed: host:port"),
        (format!("[kafka]\nbrokers = [\"[::1]:9092\", \"h:999999\"]\n{ROUTE}"), "kafka.brokers.1: found \"h:999999\""),
        (with("set = { key = \"bridge:{key}\", value = \"v\" }"), "route.0.write.0.set.key: found \"bridge:{key}\""),
        (with("command = [\"RENAME\", \"bridge:store\", \"x\"]"), "route.0.write.0.command.1: found \"bridge:store\""),
        (with("command = [\"SCRIPT\", \"FLUSH\"]"), "route.0.write.0.command.0: found \"SCRIPT\""),
        (with("command = [\"FUNCTION\", \"FLUSH\"]"), "route.0.write.0.command.0: found \"FUNCTION\""),
        (with("command = [\"KEYS\", \"*\"]"), "route.0.write.0.command.0: found \"KEYS\""),
        (with("set = { key = \"k\", value = \"{payload}\" }\nnewer_by = \"{key}\""), "route.0.write.0.newer_by: found \"{key}\"; allowed: {value.FIELD} holes"),
        (with("publish = { channel = \"c\", message = \"m\" }\nnewer_by = \"{value.t}\""), "newer_by only beside set or setex"),
        (with("set = { key = \"k\", value = \"{payload}\" }\nreplay = \"if-newer\""), "route.0.write.0.replay: found \"if-newer\" without newer_by"),
        (with("del = { key = \"k\" }\nreplay = \"if-missing\""), "route.0.write.0.replay: found \"if-missing\""),
        (with("set = { key = \"k\", value = \"v\" }\nreplay = \"never\""), "route.0.write.0.replay: found \"never\"; allowed: apply, skip, if-newer"),
        (with("set = { key = \"k\", value = \"v\", ttl_from = \"timestamp\" }"), "route.0.write.0.set.ttl_from: found ttl_from without ttl"),
        ("[kafka\n".into(), "FILE: TOML: found"),
        (format!("{ROUTE}\nx = = 1"), "FILE: TOML: found"),
    ] {
        let (code, said) = check(&toml, &[], &[]);
        assert_eq!(code, Some(78), "{toml}");
        assert!(said.contains(expected), "missing: {expected}\nin:\n{said}");
    }
}

#[test]
fn every_part_of_a_redis_url_takes_effect_or_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (empty, filled, pem) = (file("empty", "\n"), file("filled", "pw\n"), file("pem", "no certificate"));
    let with = |url: &str, more: &str| check(&format!("[redis]\nurl = \"{url}\"\n{more}\n{ROUTE}"), &[], &[]);
    for (url, more, expected) in [
        ("http://h:6379/0", "", "redis.url: found no Redis URL"),
        ("h:6379", "", "redis.url: found no Redis URL"),
        ("redis:///0", "", "redis.url: found Missing hostname"),
        ("redis://0.0.0.0:6379/0", "", "wildcard address"),
        ("redis://h:0/0", "", "redis.url: found port 0"),
        ("redis://h:99999/0", "", "redis.url: found no Redis URL"),
        ("redis://h/x", "", "redis.url: found Invalid database number"),
        ("redis://h/-1", "", "redis.url: found database -1"),
        ("redis+unix:///s?db=-1", "", "redis.url: found database -1"),
        ("redis://h/0?protocol=resp3", "", "redis.url: found the parameter \"protocol\""),
        ("redis://h?db=3", "", "redis.url: found the parameter \"db\""),
        ("redis+unix:///s?protocol=2", "", "redis.url: found the parameter \"protocol\""),
        ("redis+unix:///s?db=1&db=2", "", "redis.url: found the parameter \"db\" twice"),
        ("unix://u@localhost/s", "", "redis.url: found a host, a port or a user"),
        ("rediss://h/0#insecure", "", "redis.url: found #insecure"),
        ("redis://h/0#x", "", "redis.url: found a fragment"),
        ("redis://u@h/0", "user = \"v\"", "redis.user: found \"v\", and redis.url has another user"),
        ("redis://:s3cret@h/0", "password = \"s3cret\"", "redis.password: found a password, and redis.url has one too"),
        ("redis://:s3cret@h/0", &format!("password_file = \"{filled}\""), "redis.password_file: found a password, and redis.url has one too"),
        ("redis://h/0", &format!("password_file = \"{empty}\""), "is empty; allowed: a file with the password"),
        ("redis://h/0", &format!("password_file = \"{}\"", folder.path().display()), "redis.password_file: found"),
        ("redis://h/0", &format!("ca_file = \"{pem}\""), "redis.url is not rediss://; allowed: only beside"),
        ("redis://h/0", &format!("cert_file = \"{pem}\"\nkey_file = \"{pem}\""), "redis.key_file: found"),
        ("rediss://h/0", &format!("ca_file = \"{pem}\""), "has no certificate in PEM"),
        ("rediss://h/0", &format!("cert_file = \"{pem}\"\nkey_file = \"{pem}\""), "has no certificate in PEM"),
    ] {
        let (code, said) = with(url, more);
        assert_eq!(code, Some(78), "{url} {more}: {said}");
        assert!(said.contains(expected), "{url} {more}: missing: {expected}\nin:\n{said}");
        assert!(!said.contains("s3cret"), "{said}");
    }
    for (url, more) in [
        ("redis://u@h/0", "user = \"u\""),
        ("valkey://h", ""),
        ("redis://u:p%40%23@[::1]:6380/15", ""),
        ("redis+unix:///s?db=1&user=u&pass=p", ""),
        ("redis://u@h/0", &format!("password_file = \"{filled}\"")),
    ] {
        assert_eq!(with(url, more).0, Some(0), "{url} {more}");
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

/// The same in a layer above the file.
fn layered(sets: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String) {
    let args: Vec<&str> = sets.iter().flat_map(|s| ["--set", s]).collect();
    check(ROUTE, &args, env)
}

#[test]
fn a_text_from_outside_the_file_is_taken_as_the_keys_type_says() {
    for value in ["12345", "true", "1.0", "[\"x\"]", "{ a = 1 }", "\"quoted\"", "null"] {
        let (code, said) = layered(&[&format!("kafka.group={value}"), &format!("redis.user={value}")], &[("BRIDGE__REDIS__PASSWORD", value)]);
        assert_eq!(code, Some(0), "{value}: {said}");
    }
    for brokers in ["[\"a:1\",\"b:2\"]", "['a:1','b:2']", "[ \"a:1\", 'b:2', ]", "a:1,b:2", " a:1 , b:2, ", "h:9092"] {
        assert_eq!(layered(&[], &[("BRIDGE__KAFKA__BROKERS", brokers)]).0, Some(0), "{brokers}");
        assert_eq!(layered(&[&format!("kafka.brokers={brokers}")], &[]).0, Some(0), "{brokers}");
    }
    let (code, said) = layered(&["redis.lanes=three", "http.enabled=yes"], &[("BRIDGE__KAFKA__BROKERS", "a:1,b"), ("BRIDGE__BATCH__RECORDS_MAX", "")]);
    assert_eq!(code, Some(78));
    for expected in [
        "--set: redis.lanes: found \"three\"; allowed: a whole number",
        "--set: http.enabled: found \"yes\"; allowed: true or false",
        "environment variable BRIDGE__KAFKA__BROKERS: kafka.brokers.1: found \"b\"; allowed: host:port",
        "environment variable BRIDGE__BATCH__RECORDS_MAX: batch.records_max: found \"\"",
    ] {
        assert!(said.contains(expected), "missing: {expected}\nin:\n{said}");
    }
}

#[test]
fn kafkas_properties_come_from_every_layer_and_a_mistake_names_it() {
    let env = [("BRIDGE__KAFKA__PROPERTIES__SASL_PASSWORD", "12345"), ("BRIDGE__KAFKA__PROPERTIES__FETCH_WAIT_MAX_MS", "50")];
    assert_eq!(layered(&["kafka.properties.client.id=me"], &env).0, Some(0));
    let (code, said) = layered(&["kafka.properties.fetch.min.bytes=many"], &[("BRIDGE__KAFKA__PROPERTIES__FETCH_WAIT_MAX_MS", "soon")]);
    assert_eq!(code, Some(78));
    for expected in [
        "--set: kafka.properties.fetch.min.bytes: found",
        "environment variable BRIDGE__KAFKA__PROPERTIES__FETCH_WAIT_MAX_MS: kafka.properties.fetch.wait.max.ms: found",
    ] {
        assert!(said.contains(expected), "missing: {expected}\nin:\n{said}");
    }
}

#[test]
fn routes_come_only_from_the_file() {
    let (code, said) = layered(&["route.0.name=x", "route=[]"], &[("BRIDGE__ROUTE", "[]"), ("BRIDGE__ROUTE__0__NAME", "y")]);
    assert_eq!(code, Some(78));
    for expected in ["--set: route.0.name: found", "--set: route: found", "BRIDGE__ROUTE: route: found", "BRIDGE__ROUTE__0__NAME: route.0.name: found"] {
        assert!(said.contains(expected), "missing: {expected}\nin:\n{said}");
    }
    assert_eq!(said.matches("routes only from the file").count(), 4, "{said}");
}

#[test]
fn kafkas_properties_are_checked_together_as_the_real_clients_take_them() {
    let check = |properties: &str| check(&format!("[kafka.properties]\n{properties}\n{ROUTE}"), &[], &[]);
    for (properties, keys) in [
        (
            "\"group.protocol\" = \"consumer\"\n\"session.timeout.ms\" = 6000\n\"heartbeat.interval.ms\" = 100",
            &["session.timeout.ms", "heartbeat.interval.ms"][..],
        ),
        ("\"group.protocol\" = \"consumer\"\n\"partition.assignment.strategy\" = \"range\"", &["partition.assignment.strategy"]),
        ("\"partition.assignment.strategy\" = \"foo\"", &["partition.assignment.strategy"]),
        ("\"sasl.mechanisms\" = \"FOO\"", &["sasl.mechanisms"]),
        ("\"ssl.key.pem\" = \"hunter2\"", &["ssl.key.pem"]),
        ("\"security.protocol\" = \"SSL\"\n\"ssl.ca.location\" = \"/nonexistent\"", &["ssl.ca.location"]),
        ("\"session.timeout.ms\" = 600000\n\"max.poll.interval.ms\" = 10000", &["session.timeout.ms", "max.poll.interval.ms"]),
        ("\"metadata.broker.list\" = \"x:1\"", &["metadata.broker.list"]),
        ("\"auto.commit.enable\" = true", &["auto.commit.enable"]),
        ("\"topic.auto.offset.reset\" = \"latest\"", &["topic.auto.offset.reset"]),
        ("\"check.crcs\" = false", &["check.crcs"]),
    ] {
        let (code, said) = check(properties);
        assert_eq!(code, Some(78), "{properties}");
        assert_eq!(said.matches("  FILE: ").count(), keys.len(), "{said}");
        for key in keys {
            assert!(said.contains(&format!("FILE: kafka.properties.{key}: found ")), "missing: {key}\nin:\n{said}");
        }
        assert!(!said.contains("hunter2"), "{said}");
    }
    for fine in
        ["\"group.protocol\" = \"consumer\"\n\"group.remote.assignor\" = \"uniform\"", "\"check.crcs\" = true", "\"partition.assignment.strategy\" = \"range\""]
    {
        assert_eq!(check(fine).0, Some(0), "{fine}");
    }
}

#[test]
fn a_topic_pattern_says_only_what_librdkafka_reads_in_the_same_way() {
    let check = |topic: &str| check(&ROUTE.replace("\"t\"", &format!("'{topic}'")), &[], &[]);
    assert_eq!(check("^volatility\\..*").0, Some(0));
    let (code, said) = check("^ticks\\.\\d+");
    assert_eq!(code, Some(78));
    assert!(said.contains("FILE: route.0.topics.0: found \"^ticks\\\\.\\\\d+\", with \"\\\\d\"; allowed: a regular expression of"), "{said}");
}

#[test]
fn every_mistake_of_a_write_is_listed_not_only_the_first() {
    let toml = "[[route]]\nname = \"r\"\ntopics = [\"t\"]\n[[route.write]]\nxadd = { key = \"{nope}\", fields = { a = 1, b = \"{nor}\" }, maxlen = \"x\" }\n\
                [[route.write]]\nsetex = { key = \"{kye}\", value = 5, ttl = \"soon\" }\n[[route.write]]\nsetx = {}\n[limit]\nrecords_per_second = 99999999999\n";
    let (code, said) = check(toml, &[], &[]);
    assert_eq!(code, Some(78));
    for key in [
        "route.0.write.0.xadd.key: found \"{nope}\"",
        "route.0.write.0.xadd.fields.a: found 1; allowed: a text in quotes",
        "route.0.write.0.xadd.fields.b: found \"{nor}\"",
        "route.0.write.0.xadd.maxlen: found \"x\"",
        "route.0.write.1.setex.key: found \"{kye}\"",
        "route.0.write.1.setex.value: found 5",
        "route.0.write.1.setex.ttl: found \"soon\"",
        "route.0.write.2.setx: found an unknown key",
        "limit.records_per_second: found 99999999999; allowed: at most 4294967295",
    ] {
        assert!(said.contains(&format!("FILE: {key}")), "missing: {key}\nin:\n{said}");
    }
    assert!(said.contains("has 9 mistakes"), "{said}");
}

/// Every place of a tree: its path as TOML's tables and arrays go.
fn places(value: &toml::Value, path: &[String], found: &mut Vec<Vec<String>>) {
    let mut below = |name: String, value: &toml::Value| {
        let path: Vec<String> = path.iter().cloned().chain([name]).collect();
        places(value, &path, found);
        found.push(path);
    };
    match value {
        toml::Value::Table(table) => table.iter().for_each(|(name, value)| below(name.clone(), value)),
        toml::Value::Array(items) => items.iter().enumerate().for_each(|(i, value)| below(i.to_string(), value)),
        _ => {}
    }
}

fn at<'a>(value: &'a mut toml::Value, path: &[String]) -> &'a mut toml::Value {
    path.iter().fold(value, |value, name| match value {
        toml::Value::Array(items) => &mut items[name.parse::<usize>().unwrap()],
        other => other.get_mut(name.as_str()).unwrap(),
    })
}

/// What is said of a text.
fn mistakes(text: &str) -> Vec<Mistake> {
    let loaded = load_text(text, "FILE", &[]).unwrap_or_else(|m| panic!("{m}\n{text}"));
    validate(&loaded).err().map(|m| m.0).unwrap_or_default()
}

#[test]
fn whatever_stands_in_the_place_of_a_value_is_accepted_or_said_with_key_found_and_allowed() {
    let full = std::fs::read_to_string(REFERENCE).unwrap()
        + "[[route.write]]\nxadd = { key = \"s\", fields = { a = \"{key}\" }, id = \"*\", minid = \"5\", exact = false, limit = 9, nomkstream = true }\n\
           [[route.write]]\nset = { key = \"k\", value = \"v\", ttl = \"1h\" }\n[[route.write]]\ndel = { key = \"k\" }\n\
           [[route.write]]\ncommand = [\"HSET\", \"k\", \"f\", \"v\"]\n[[route]]\nname = \"second\"\ntopics = [\"t\"]\nwrite = [{ del = { key = \"k\" } }]\n\
           limit = { records_per_second = 1000, burst = 1000 }\n[limit]\nrecords_per_second = 1\nburst = 500\n";
    let tree: toml::Value = toml::from_str(&full).unwrap();
    assert_eq!(mistakes(&full), []);
    let mut all = Vec::new();
    places(&tree, &[], &mut all);
    assert!(all.len() > 70, "{}", all.len());
    let values: toml::Table =
        "v = [true, 0, 1, -1, 99999999999, 9223372036854775807, -9223372036854775808, 0.5, 2.0, -0.0, 1e300, inf, nan, '', '*', '{', 'x', \
                               '5', '1h', '1MiB', '1e9', 2026-01-01T00:00:00Z, 07:00:00, [], [1], [''], [[]], {}, { a = 1 }, { a = { b = [] } }]"
            .parse()
            .unwrap();
    let mut tried = 0;
    for path in &all {
        for value in values["v"].as_array().unwrap() {
            let mut changed = tree.clone();
            *at(&mut changed, path) = value.clone();
            // A mistake elsewhere is never hidden.
            let elsewhere = path[0] != "log";
            if elsewhere {
                at(&mut changed, &["log".into()]).as_table_mut().unwrap().insert("level".into(), "loud".into());
            }
            let found = mistakes(&toml::to_string(&changed).unwrap());
            let shown = || format!("{} = {value}: {found:#?}", path.join("."));
            assert!(found.iter().all(|m| ![&m.key, &m.found, &m.allowed, &m.source.name].iter().any(|t| t.is_empty()) && m.key != "*"), "{}", shown());
            assert!(!elsewhere || found.iter().any(|m| m.key == "log.level"), "{}", shown());
            tried += 1;
        }
    }
    assert!(tried > 2000, "{tried}");
    let tables = all.iter().cloned().chain([Vec::new()]);
    for path in tables.filter(|p| at(&mut tree.clone(), p).is_table() && p.join(".") != "kafka.properties" && p.last().is_none_or(|n| n != "fields")) {
        let mut changed = tree.clone();
        at(&mut changed, &path).as_table_mut().unwrap().insert("unknwon".into(), 1.into());
        let found = mistakes(&toml::to_string(&changed).unwrap());
        let key = path.iter().map(String::as_str).chain(["unknwon"]).collect::<Vec<_>>().join(".");
        assert!(matches!(found.as_slice(), [m] if m.key == key && m.found == "an unknown key"), "{key}: {found:#?}");
    }
}
