//! Templates: whatever is written parses or is refused with a reason, and what parses renders the same in every way.
use kafka_redis_bridge::core::decode::{Format, Scratch};
use kafka_redis_bridge::core::record::{Record, TopicPartition};
use kafka_redis_bridge::core::template::Template;

/// A template, a key and a payload, separated by zero bytes.
pub(crate) fn check(bytes: &[u8]) {
    let mut parts = bytes.splitn(3, |b| *b == 0);
    let text = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let (key, payload) = (parts.next(), parts.next());
    let record = Record::copy(TopicPartition::new("t", 3), -7, Some(5), key, payload, [("h", Some(&b"one"[..]))]);
    literal_text_comes_back(&text);
    let Ok(template) = Template::parse(&text) else {
        assert!(text.contains(['{', '}']), "{text:?} has nothing that could be wrong");
        return;
    };
    let mut scratch = Scratch::default();
    let decoded = Format::Json.decode(record.payload(), &mut scratch);
    let mut out = b"before".to_vec();
    let rendered = template.render(&record, decoded.document(), &mut out);
    assert!(out.starts_with(b"before"), "what stood before is gone");
    if let Some(whole) = template.whole(&record) {
        assert_eq!((rendered.is_ok(), &out[b"before".len()..]), (true, whole));
    }
    if let Some(constant) = template.constant() {
        assert_eq!((rendered.is_ok(), &out[b"before".len()..]), (true, constant));
        assert!(!template.needs_fields());
    }
    if !template.needs_fields() {
        let mut again = Vec::new();
        assert_eq!(template.render(&record, None, &mut again).is_ok(), rendered.is_ok());
        assert_eq!(again, out[b"before".len()..]);
    }
}

/// With its braces doubled, any text is a template that renders it.
fn literal_text_comes_back(text: &str) {
    let template = Template::parse(&text.replace('{', "{{").replace('}', "}}")).expect("nothing but literal text");
    assert_eq!(template.constant(), Some(text.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A piece of a template, and what it renders for the record of the test; `None`: the record is dead for it.
    fn piece() -> impl Strategy<Value = (String, Option<String>)> {
        let hole = prop_oneof![
            Just(("key", Some("k{}"))),
            Just(("payload", Some(PAYLOAD))),
            Just(("topic", Some("t"))),
            Just(("partition", Some("3"))),
            Just(("offset", Some("-7"))),
            Just(("timestamp", Some("5"))),
            Just(("header.h", Some("one"))),
            Just(("header.none", None)),
            Just(("value.s", Some("te\"xt"))),
            Just(("value.n", Some("1.50"))),
            Just(("value.null", None)),
            Just(("value.none.deeper", None)),
            Just(("value.list[1].\"a.b}|\"", Some("[2]"))),
            Just(("value.list[2]", None)),
        ];
        prop_oneof![
            "[^{}]{0,8}".prop_map(|t| (t.clone(), Some(t))),
            Just(("{{".to_owned(), Some("{".to_owned()))),
            Just(("}}".to_owned(), Some("}".to_owned()))),
            hole.clone().prop_map(|(name, found)| (format!("{{{name}}}"), found.map(str::to_owned))),
            (hole, "[^{}\"]{0,5}").prop_map(|((name, found), default)| (format!("{{{name}|{default}}}"), Some(found.map_or(default, str::to_owned)))),
        ]
    }

    const PAYLOAD: &str = r#"{"s":"te\"xt","n":1.50,"null":null,"list":[0,{"a.b}|":[2]}]}"#;

    proptest! {
        #![proptest_config(crate::cases(1000))]

        #[test]
        fn a_template_renders_its_pieces_one_after_the_other(pieces in proptest::collection::vec(piece(), 0..8)) {
            let text: String = pieces.iter().map(|(t, _)| t.as_str()).collect();
            let expected: Option<String> = pieces.iter().map(|(_, found)| found.clone()).collect();
            let record = Record::copy(TopicPartition::new("t", 3), -7, Some(5), Some(b"k{}"), Some(PAYLOAD.as_bytes()), [("h", Some(&b"one"[..]))]);
            let mut scratch = Scratch::default();
            let decoded = Format::Json.decode(record.payload(), &mut scratch);
            let mut out = Vec::new();
            let rendered = Template::parse(&text).unwrap().render(&record, decoded.document(), &mut out);
            prop_assert_eq!(rendered.ok().map(|()| String::from_utf8(out).unwrap()), expected);
        }

        #[test]
        fn any_text_parses_or_is_refused_with_a_reason(text in "([{}|.\"\\[\\]0-9]|key|value|header|payload|\\PC){0,12}", key in ".{0,3}", payload in ".{0,10}") {
            check(format!("{text}\0{key}\0{payload}").as_bytes());
            if let Err(mistake) = Template::parse(&text) {
                prop_assert!((1..=text.chars().count()).contains(&mistake.column), "{:?}", mistake);
                prop_assert!(!mistake.found.is_empty() && !mistake.allowed.is_empty(), "{:?}", mistake);
                prop_assert!(mistake.nearest.iter().all(|hole| Template::parse(hole).is_ok()), "{:?}", mistake);
            }
        }
    }
}
