//! The JSON scanner against serde_json: the same acceptance, the same fields, the same bytes.
use kafka_redis_bridge::core::decode::{Decoded, Document, Format, Scratch, Step, text_of};
use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// A value as serde_json reads it, its members or elements as they stood.
enum Reference<'a> {
    Object(Vec<(String, &'a str)>),
    Array(Vec<&'a str>),
    Other,
}

fn reference(text: &str) -> Result<Reference<'_>, serde_json::Error> {
    match text.trim_start().as_bytes().first() {
        Some(b'{') => {
            let mut de = serde_json::Deserializer::from_str(text);
            let fields = de.deserialize_map(Fields)?;
            de.end().map(|()| Reference::Object(fields))
        }
        Some(b'[') => serde_json::from_str::<Vec<&RawValue>>(text).map(|items| Reference::Array(items.into_iter().map(RawValue::get).collect())),
        _ => serde_json::from_str::<&RawValue>(text).map(|_| Reference::Other),
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Vec<(String, &'de str)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some((name, raw)) = map.next_entry::<String, &'de RawValue>()? {
            fields.push((name, raw.get()));
        }
        Ok(fields)
    }
}

/// A value's text as serde_json has it: a string's content, nothing for null.
fn shown(raw: &str) -> Option<String> {
    match raw.as_bytes()[0] {
        b'"' => serde_json::from_str(raw).ok(),
        b'n' => None,
        _ => Some(raw.to_owned()),
    }
}

pub(crate) fn check(bytes: &[u8]) {
    let mut scratch = Scratch::default();
    let decoded = Format::Json.decode(Some(bytes), &mut scratch);
    let Ok(text) = std::str::from_utf8(bytes) else {
        assert!(matches!(decoded, Decoded::Dead(_)), "no UTF-8, and accepted");
        return;
    };
    match (&decoded, reference(text)) {
        (Decoded::Dead(_), Err(_)) => {}
        (Decoded::Fields(document), Ok(expected)) => same(document, &expected),
        (found, expected) => panic!("the scanner says {found:?}, serde_json {:?}", expected.err()),
    }
}

fn same(document: &Document<'_>, expected: &Reference<'_>) {
    let fields = document.fields().map(|f| f.map(|(name, value)| (name.into_owned(), value)).collect::<Vec<_>>());
    if let Reference::Object(expected) = expected {
        assert_eq!(fields.as_ref(), Some(expected));
        for (_, raw) in expected {
            assert_eq!(text_of(raw).map(|t| t.into_owned()), shown(raw), "{raw}");
        }
    } else {
        assert!(fields.is_none());
    }
    below(document, &mut Vec::new(), expected, 4);
}

/// What a path finds, step by step as serde_json has it, down to some depth.
fn below(document: &Document<'_>, path: &mut Vec<Step>, value: &Reference<'_>, depth: usize) {
    let mut steps = vec![(Step::Field("\u{0}none".into()), None), (Step::Index(usize::MAX), None)];
    match value {
        Reference::Object(fields) => {
            // The last of a name counts.
            let last = |name: &str| fields.iter().rev().find(|(n, _)| n == name).map(|(_, v)| *v);
            steps.extend(fields.iter().take(16).map(|(name, _)| (Step::Field(name.clone()), last(name))));
        }
        Reference::Array(items) => steps.extend(items.iter().enumerate().take(16).map(|(i, v)| (Step::Index(i), Some(*v)))),
        Reference::Other => {}
    }
    for (step, found) in steps {
        path.push(step);
        assert_eq!(document.get(path).map(|t| t.into_owned()), found.and_then(shown), "{path:?}");
        if let Some(inner) = found.filter(|_| depth > 0) {
            // What is nested has no name that is no text, or nothing is found in it.
            below(document, path, &reference(inner).unwrap_or(Reference::Other), depth - 1);
        }
        path.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::check;
    use proptest::prelude::*;

    /// JSON, not always well-formed inside of strings and numbers.
    fn value() -> impl Strategy<Value = String> {
        let string = prop_oneof!["[ -~]{0,12}", "\\PC{0,6}", r#"([a-z]|\\["\\/bfnrtu]|\\u[0-9a-fD]{4}|\\ud83d\\ude00){0,6}"#];
        let scalar = prop_oneof![
            Just("null".to_owned()),
            Just("true".to_owned()),
            Just("false".to_owned()),
            "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,4})?([eE][+-]?[0-9]{1,4})?",
            "[-+0-9.eE]{1,6}",
            string.prop_map(|s| format!("\"{s}\"")),
        ];
        let blank = "[ \t\r\n]{0,2}";
        scalar.prop_recursive(5, 40, 8, move |inner| {
            let name = prop_oneof!["[a-c]", r"\\u006[1-3]", "[ -~]{0,10}"];
            let member = (blank, name, blank, inner.clone(), blank).prop_map(|(a, n, b, v, c)| format!("{a}\"{n}\"{b}:{v}{c}"));
            prop_oneof![
                proptest::collection::vec(member, 0..6).prop_map(|m| format!("{{{}}}", m.join(","))),
                proptest::collection::vec((blank, inner, blank).prop_map(|(a, v, b)| format!("{a}{v}{b}")), 0..6).prop_map(|m| format!("[{}]", m.join(","))),
            ]
        })
    }

    proptest! {
        #![proptest_config(crate::cases(2000))]

        #[test]
        fn the_scanner_accepts_and_finds_what_serde_json_does(text in value()) {
            check(text.as_bytes());
        }

        #[test]
        fn one_byte_more_less_or_other_is_judged_as_serde_json_judges_it(text in value(), at in any::<prop::sample::Index>(), byte: u8, what in 0..3) {
            let mut bytes = text.into_bytes();
            let at = at.index(bytes.len().max(1));
            match what {
                0 => bytes.insert(at, byte),
                1 => _ = (at < bytes.len()).then(|| bytes.remove(at)),
                _ => _ = bytes.get_mut(at).map(|b| *b = byte),
            }
            check(&bytes);
        }

        #[test]
        fn any_bytes_are_judged_as_serde_json_judges_them(bytes: Vec<u8>) {
            check(&bytes);
        }
    }

    #[test]
    fn a_string_of_any_length_ends_where_it_ends() {
        for len in 0..70 {
            for end in ["\"", "\\\"\"", "\u{e9}\"", "\u{1}\"", "\\", ""] {
                for behind in ["", "}", "\":1}"] {
                    check(format!("\"{}{end}{behind}", "x".repeat(len)).as_bytes());
                    check(format!("{{\"{}{end}{behind}", "x".repeat(len)).as_bytes());
                }
            }
        }
    }
}
