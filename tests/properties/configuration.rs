//! The configuration: no text makes it panic; every mistake names its key, what was found and what is allowed; what is
//! valid once is valid, and the same, when it is written out and read again.
use kafka_redis_bridge::config::load::{Mistakes, load_text};
use kafka_redis_bridge::config::validate::{Valid, validate};

fn load(text: &str) -> Result<Valid, Mistakes> {
    load_text(text, "bridge.toml", &[]).and_then(|loaded| validate(&loaded))
}

pub(crate) fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match load(&text) {
        Err(mistakes) => {
            assert!(!mistakes.0.is_empty(), "refused without a reason");
            for m in &mistakes.0 {
                assert!(!m.key.is_empty(), "{m} names no key");
                assert!(!m.source.name.is_empty() && !m.found.is_empty() && !m.allowed.is_empty(), "{m}");
            }
        }
        Ok(valid) => {
            for (route, compiled) in valid.config.route.iter().zip(valid.lane.routes.iter()) {
                assert_eq!(route.write.len(), compiled.writes.len(), "a write of {} was left out", route.name);
                assert_eq!(route.topics.len(), compiled.topics.len(), "a topic of {} was left out", route.name);
            }
            let config = serde_json::to_value(&valid.config).expect("it came from such a tree");
            let written = toml::to_string(&config_of(&config)).expect("and from TOML");
            let again = load(&written).unwrap_or_else(|e| panic!("written out, it is refused: {e}\n{written}"));
            assert_eq!(serde_json::to_value(&again.config).ok(), Some(config));
        }
    }
}

/// As TOML has it: nothing is null.
fn config_of(config: &serde_json::Value) -> toml::Value {
    toml::Value::try_from(config).expect("the tree holds no null")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    const REFERENCE: &str = include_str!("../../config/bridge.toml");

    /// Lines that are in no file of the project, but could be in somebody's.
    const LINES: [&str; 24] = [
        "start = \"2026-11-20T00:00:00Z\"",
        "\"security.protocol\" = \"ssl\"",
        "\"group.id\" = \"mine\"",
        "url = \"rediss://user:secret@redis:6379/1\"",
        "password = \"secret\"",
        "guarantee = \"at-least-once\"",
        "lanes = 64",
        "records_max = 100000",
        "bytes_max = \"1.3MiB\"",
        "bytes_max = \"1048577B\"",
        "linger = \"1s 7ms 3us\"",
        "deadline = \"1month\"",
        "topic = \"dead\"",
        "maxlen = 5",
        "[limit]\nrecords_per_second = 10",
        "burst = 500",
        "decode = \"raw\"",
        "on_tombstone = \"del\"",
        "[[route]]\nname = \"other\"\ntopics = [\"^a.*\", \"b\"]\nwrite = [{ del = { key = \"{key}\" } }]",
        "[[route.write]]\nset = { key = \"k\", value = \"{value.a}\", ttl = \"{value.ttl}\" }",
        "[[route.write]]\nset = { key = \"k\", value = \"v\", ttl = \"1000000000000y\" }",
        "[[route.write]]\ncommand = [\"HSET\", \"k\", \"f\", \"{value.a|1}\"]",
        "[[route.write]]\nxadd = { key = \"k\", fields = { b = \"{payload}\", a = \"1\" }, minid = \"{timestamp}\", limit = 5 }",
        "[[route.write]]\npublish = { channel = \"c\" }",
    ];

    fn value() -> impl Strategy<Value = String> {
        prop_oneof![
            select(
                &[
                    "\"\"",
                    "0",
                    "-1",
                    "1.5",
                    "true",
                    "[]",
                    "{}",
                    "\"x\"",
                    "18446744073709551616",
                    "9223372036854775807",
                    "[\"\"]",
                    "\"0ms\"",
                    "\"1h\"",
                    "\"584542046090y\"",
                    "\"1KiB\"",
                    "\"{key\"",
                    "1979-05-27T07:32:00Z"
                ][..]
            )
            .prop_map(str::to_owned),
            "\\PC{0,6}",
        ]
    }

    /// The reference configuration with one thing changed after the other.
    fn mutated() -> impl Strategy<Value = String> {
        let change = (0..5, any::<Index>(), any::<Index>(), value(), select(&LINES[..]));
        proptest::collection::vec(change, 0..5).prop_map(|changes| {
            let mut lines: Vec<String> = REFERENCE.lines().map(str::to_owned).collect();
            for (what, at, other, value, line) in changes {
                let (at, other) = (at.index(lines.len()), other.index(lines.len()));
                match what {
                    0 => _ = lines.remove(at),
                    1 => lines.insert(at, line.to_owned()),
                    2 => lines.swap(at, other),
                    3 => {
                        if let Some((name, _)) = lines[at].split_once(" = ") {
                            lines[at] = format!("{name} = {value}");
                        }
                    }
                    _ => {
                        let cut = lines[at].char_indices().map(|(i, _)| i).nth(other % 40).unwrap_or(0);
                        lines[at].insert_str(cut, &value);
                    }
                }
                if lines.is_empty() {
                    break;
                }
            }
            lines.join("\n")
        })
    }

    proptest! {
        #![proptest_config(crate::cases(200))]

        #[test]
        fn the_reference_configuration_with_anything_changed_is_valid_or_told_what_is_wrong(text in mutated()) {
            check(text.as_bytes());
        }

        #[test]
        fn any_text_is_valid_or_told_what_is_wrong(text in "(\\PC|[\n\\[\\]=\".{}]|kafka|redis|route|write){0,30}") {
            check(text.as_bytes());
        }
    }

    #[test]
    fn what_could_never_work_is_refused_by_its_key() {
        let route = |write: &str| format!("[[route]]\nname = \"r\"\ntopics = [\"t\"]\ndecode = \"raw\"\nwrite = [{write}]\n");
        let set = |ttl: &str| route(&format!("{{ set = {{ key = \"k\", value = \"v\", ttl = \"{ttl}\" }} }}"));
        for (key, text) in [
            // Its milliseconds don't fit any number; Redis would refuse it for each record.
            ("route.0.write.0.set.ttl", set("1000000000000y")),
            ("route.0.write.0.set.ttl", set("101y")),
            // A time to wait until that far would overflow.
            ("batch.linger", format!("batch.linger = \"584542046090y\"\n{}", set("1h"))),
            ("redis.response_timeout", format!("redis.response_timeout = \"2days\"\n{}", set("1h"))),
            ("route.0.write.0", route("{ xadd = { key = \"k\", fields = { a = \"b\" }, minid = \"{value.a}\" } }")),
            ("\"\"", format!("\"\" = 1\n{}", set("1h"))),
        ] {
            let mistakes = load(&text).expect_err(&text).0;
            assert!(mistakes.iter().any(|m| m.key == key), "{text}: {mistakes:?}");
        }
        assert!(load(&set("100y")).is_ok());
    }
}
