//! What people write in a configuration, and mean otherwise: each mistake says where it stands, what is allowed, what to write.
use crate::support::command::{ROUTE, check, check_placed, run};
use kafka_redis_bridge::config::load::load_text;
use kafka_redis_bridge::config::validate::validate;
use serde_json::Value;

/// A route whose one write, behind its name, is this.
fn write(text: &str) -> String {
    format!("[[route]]\nname = \"r\"\ntopics = [\"t\"]\n[[route.write]]\n{text}\n")
}

fn when(condition: &str) -> String {
    write(&format!("when = \"{condition}\"\ndel = {{ key = \"k\" }}"))
}

fn set(key: &str) -> String {
    write(&format!("set = {{ key = \"{key}\", value = \"v\" }}"))
}

/// Texts that are one mistake each, what is said of it, and what the caret stands under.
#[allow(clippy::too_many_lines, reason = "a table")]
fn table() -> Vec<(String, &'static [&'static str], &'static str)> {
    let section = |text: &str| format!("{text}\n{ROUTE}");
    vec![
        // Templates.
        (
            set("a:{valu.id}"),
            &[
                "5:18: route.0.write.0.set.key: found \"a:{valu.id}\", with the unknown hole {valu.id} at column 3; allowed: {key}, {payload}, {value.FIELD}",
                "did you mean \"{value.id}\"?",
            ],
            "{valu.id}",
        ),
        (set("{value}"), &["unknown hole {value}", "a field behind {value, such as {value.price}", "{payload} is the whole value"], "{value}"),
        (set("{price}"), &["unknown hole {price}", "did you mean \"{value.price}\"?"], "{price}"),
        (set("{Key}"), &["did you mean \"{key}\"?"], "{Key}"),
        (set("a}b"), &["a \"}\" without its \"{\" at column 2", "}} for the brace itself"], "}b"),
        // Writes by the name of their command.
        (
            write("hset = {}"),
            &["5:1: route.0.write.0.hset: found an unknown key; allowed: xadd, setex", "no write by the name hset", "did you mean command = [\"HSET\", ...]?"],
            "hset",
        ),
        (write("json_set = { key = \"k\" }"), &["did you mean command = [\"JSON.SET\", ...]?"], "json_set"),
        (write("INCR = \"k\""), &["did you mean command = [\"INCR\", ...]?"], "INCR"),
        (write("setx = {}"), &["did you mean \"setex\"?"], "setx"),
        (write("command = \"HSET k f {key}\""), &["a list such as [", "did you mean [\"HSET\", \"k\", \"f\", \"{key}\"]?"], "\"HSET k f {key}\""),
        // Conditions.
        (
            when("value.status == paid"),
            &["5:25: route.0.write.0.when: found \"paid\" at column 17 of", "'paid', in quotes, for the text", "did you mean 'paid'?"],
            "paid",
        ),
        (when("value.side in (buy, 'sell')"), &["did you mean 'buy'?"], "buy,"),
        (when("total > 1000"), &["value.total for a field of that name", "did you mean \"value.total\"?"], "total"),
        (when("order.total > 1000"), &["did you mean \"value.order.total\"?"], "order.total"),
        (when("value.x > 1 AND value.y > 1"), &["found \"AND\"", "did you mean \"and\"?"], "AND"),
        (when("value.x == null"), &["not has(FIELD) where there is nothing"], "null"),
        (when("exists(value.x)"), &["did you mean \"has\"?"], "exists(value.x)"),
        (when("5 % 0 == 0"), &["\"5 % 0\" (it always divides by zero)"], "5"),
        (when("value.x / 0 > 1"), &["\"value.x / 0\" (it always divides by zero)"], "value.x"),
        // Units.
        (
            write("setex = { key = \"k\", value = \"v\", ttl = 3600 }"),
            &[
                "5:41: route.0.write.0.setex.ttl: found 3600; allowed: a duration with its unit",
                "or a template that renders seconds",
                "did you mean \"3600s\"?",
            ],
            "3600",
        ),
        (write("set = { key = \"k\", value = \"v\", ttl = \"3600\" }"), &["found \"3600\"", "did you mean \"3600s\"?"], "\"3600\""),
        (section("redis.connect_timeout = 5"), &["1:25: redis.connect_timeout: found 5", "did you mean \"5s\" or \"5ms\"?"], "5"),
        (section("batch.linger = \"5\""), &["did you mean \"5s\" or \"5ms\"?"], "\"5\""),
        (section("drain.deadline = \"8 S\""), &["did you mean \"8s\"?"], "\"8 S\""),
        (section("batch.bytes_max = 1048576"), &["a size with its unit", "did you mean \"1MiB\"?"], "1048576"),
        (section("batch.bytes_max = \"64 M\""), &["did you mean \"64MiB\"?"], "\"64 M\""),
        // Types.
        (section("redis.lanes = \"4\""), &["1:15: redis.lanes: found \"4\"; allowed: a whole number; did you mean 4?"], "\"4\""),
        (section("http.enabled = \"false\""), &["allowed: true or false; did you mean false?"], "\"false\""),
        (section("http.enabled = 1"), &["did you mean true?"], "1"),
        (section("kafka.group = 7"), &["allowed: a text in quotes; did you mean \"7\"?"], "7"),
        (section("kafka.brokers = 9092"), &["a list such as [\"a\", \"b\"], or a text with names between commas"], "9092"),
        ("[route]\nname = \"r\"\n".into(), &["1:2: route: found a table; allowed: tables, each begun by [[route]]; did you mean \"[[route]]\"?"], "route"),
        ("[[route]]\nname = \"r\"\ntopics = [\"t\"]\n[route.write]\ndel = { key = \"k\" }\n".into(), &["did you mean \"[[route.write]]\"?"], "write"),
        // Names.
        (section("brokers = [\"h:9092\"]"), &["1:1: brokers: found an unknown key", "did you mean \"kafka.brokers\"?"], "brokers"),
        (section("kafka.gruop = \"g\""), &["did you mean \"group\"?"], "gruop"),
        (
            section("kafka.brokers = \"h:9092, other\""),
            &["1:17: kafka.brokers.1: found \"other\"; allowed: host:port", "did you mean \"other:9092\"?"],
            "\"h:9092, other\"",
        ),
        (section("kafka.brokers = [\"PLAINTEXT://h:9092\"]"), &["1:18: kafka.brokers.0: found", "did you mean \"h:9092\"?"], "\"PLAINTEXT://h:9092\""),
        (section("http.listen = \":9650\""), &["did you mean \"127.0.0.1:9650\"?"], "\":9650\""),
        (ROUTE.replace("\"r\"", "\" \""), &["2:8: route.0.name: found \" \"; allowed: a name"], "\" \""),
        (ROUTE.replace("[\"t\"]", "\"\""), &["3:10: route.0.topics: found []; allowed: at least one topic"], "\"\""),
        ("[[route]]\nname = \"r\"\nwrite = []\n".into(), &["1:1: route.0.topics: found nothing; allowed: a value: this key has no default"], "[[route]]"),
        // What is no TOML.
        (section("redis.lanes = = 4"), &["1:15: TOML: found", "texts in quotes"], "***"),
        (section("kafka.group = mine"), &["1:15: TOML: found", "texts in quotes"], "***"),
    ]
}

#[test]
fn what_is_often_misread_is_told_with_its_place_and_what_to_write() {
    for (text, parts, marked) in table() {
        let mistakes = load_text(&text, "FILE", &[]).and_then(|l| validate(&l)).map(drop).expect_err(&text);
        let said = mistakes.to_string();
        let about = said.lines().position(|line| line.contains(parts[0])).unwrap_or_else(|| panic!("missing: {}\nin:\n{said}", parts[0]));
        let lines: Vec<&str> = said.lines().skip(about).collect();
        for part in parts {
            assert!(lines[0].contains(part), "missing: {part}\nin:\n{said}");
        }
        let (from, to) = (lines[2].find('^').unwrap(), lines[2].rfind('^').unwrap() + 1);
        assert_eq!(&lines[1][from..to.min(lines[1].len())], marked, "{said}");
    }
}

#[test]
fn a_text_is_a_list_wherever_names_are_wanted() {
    let text = "[kafka]\nbrokers = \"a:1, b:2\"\n[serve]\ncors_origins = \"https://a,https://b\"\n\
                [[serve.token]]\nname = \"n\"\nscopes = \"read,publish\"\ntoken = \"0123456789abcdef\"\n\
                [[route]]\nname = \"one\"\ntopics = \"x\"\nstrings = \"id, code\"\nwrite = [{ del = { key = \"k\" } }]\n\
                [[route]]\nname = \"two\"\ntopics = \"y,z\"\nwrite = [{ del = { key = \"k\" } }]\n\
                [[route]]\nname = \"three\"\ntopics = \"^a{1,2}\"\nwrite = [{ del = { key = \"k\" } }]\n";
    let config = load_text(text, "FILE", &[]).and_then(|l| validate(&l)).unwrap_or_else(|m| panic!("{m}")).config;
    assert_eq!((config.kafka.brokers, config.serve.cors_origins), (vec!["a:1".into(), "b:2".into()], vec!["https://a".into(), "https://b".to_owned()]));
    assert_eq!(config.serve.token[0].scopes.len(), 2);
    let topics: Vec<&[String]> = config.route.iter().map(|r| r.topics.as_slice()).collect();
    assert_eq!(topics, [&["x".to_owned()][..], &["y".into(), "z".into()], &["^a{1,2}".into()]]);
    assert_eq!(config.route[0].strings, ["id", "code"]);
}

#[test]
fn a_mistake_from_outside_the_file_has_no_line_and_is_told_once() {
    let (code, said) = check_placed(ROUTE, &[], &[("BRIDGE__KAFKA__GROUP", "")]);
    assert_eq!(code, Some(78));
    assert!(said.contains("has 1 mistake:\n  environment variable BRIDGE__KAFKA__GROUP: kafka.group: found \"\"; allowed: a group's name"), "{said}");
    assert!(!said.contains(" | "), "{said}");
    let (code, said) = check_placed(ROUTE, &["--set", "redis.lanes=\"4\""], &[]);
    assert_eq!(code, Some(78));
    assert!(said.contains("  --set: redis.lanes: found \"4\"; allowed: a whole number; did you mean 4?"), "{said}");
}

#[test]
fn machines_get_the_place_in_fields_of_its_own_and_secrets_in_none() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bridge.toml");
    std::fs::write(&file, format!("redis = {{ password = \"hunter2\", lanes = 99 }}\n{ROUTE}")).unwrap();
    let output = run(&["--config", file.to_str().unwrap(), "--output", "json", "check"], &[], "");
    let said: Value = serde_json::from_slice(&output.stderr).unwrap();
    let mistake = &said["mistakes"][0];
    assert_eq!((&mistake["line"], &mistake["column"], &mistake["key"]), (&1.into(), &41.into(), &"redis.lanes".into()), "{said}");
    assert_eq!((&mistake["source"], &mistake["text"]), (&file.to_str().unwrap().into(), &"redis = { password = ***, lanes = 99 }".into()), "{said}");
}

#[test]
fn what_is_hardly_meant_is_a_note_of_a_check_and_a_warning_at_the_start() {
    let (code, said) = check(ROUTE, &[], &[]);
    assert_eq!(code, Some(0));
    assert!(said.contains("note: FILE: dead_letter: neither stream nor topic is set: one record that can't be applied halts its partition"), "{said}");
    let kept = |text: &str| format!("[dead_letter]\nstream = \"dead\"\n{text}");
    let (_, said) = check(&kept(ROUTE), &[], &[]);
    assert!(!said.contains("note:"), "{said}");
    let (code, said) = check(&kept(&when("1 > 2")), &[], &[]);
    assert_eq!(code, Some(0));
    assert!(said.contains("note: FILE: route.0.write.0.when: \"1 > 2\" is false for every record"), "{said}");
    let (code, said) = check(&kept(&set("s:{{key}}")), &[], &[]);
    assert_eq!(code, Some(0));
    assert!(said.contains("note: FILE: route.0.write.0.set.key: \"s:{{key}}\" renders the text {key} itself"), "{said}");
}
