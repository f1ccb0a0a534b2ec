//! Decoding: a payload's fields, found by path, with the very text that stood in the record.
use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// How a route reads its payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Raw,
}

/// What decoding made of a payload. A schema registry adds `Wait` (its partition pauses) when it comes.
#[derive(Debug)]
pub enum Decoded<'a> {
    Fields(Document<'a>),
    /// Nothing to decode: raw payloads, tombstones.
    Opaque,
    Dead(String),
}

/// A validated JSON value. Nested values stay text until a path asks for them.
#[derive(Debug)]
pub enum Document<'a> {
    Object(Vec<(Cow<'a, str>, &'a RawValue)>),
    Other(&'a RawValue),
}

/// A step of a path: `.name` or `[3]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Field(String),
    Index(usize),
}

impl Format {
    /// Decodes the payload of a record that is no tombstone.
    pub fn decode(self, payload: Option<&[u8]>) -> Decoded<'_> {
        let (Self::Json, Some(payload)) = (self, payload) else { return Decoded::Opaque };
        let text = match std::str::from_utf8(payload) {
            Ok(text) => text,
            Err(e) => return Decoded::Dead(format!("payload is not JSON: invalid UTF-8 at byte {}", e.valid_up_to())),
        };
        match Document::parse(text) {
            Ok(document) => Decoded::Fields(document),
            Err(e) => Decoded::Dead(format!("payload is not JSON: {e}")),
        }
    }
}

impl<'a> Document<'a> {
    pub fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        if text.trim_start().starts_with('{') {
            let mut de = serde_json::Deserializer::from_str(text);
            let fields = de.deserialize_map(Fields)?;
            de.end()?;
            Ok(Self::Object(fields))
        } else {
            serde_json::from_str(text).map(Self::Other)
        }
    }

    /// The value at a path as text: a string unescaped, anything else as it stood; `None` where nothing is, or null.
    pub fn get(&self, path: &[Step]) -> Option<Cow<'a, str>> {
        let (first, rest) = path.split_first()?;
        let mut raw = match (self, first) {
            // The last of repeated names wins, as JSON parsers have it.
            (Self::Object(fields), Step::Field(name)) => fields.iter().rev().find(|(n, _)| n == name)?.1,
            (Self::Other(raw), step) => descend(raw, step)?,
            (Self::Object(_), Step::Index(_)) => return None,
        };
        for step in rest {
            raw = descend(raw, step)?;
        }
        text_of(raw)
    }
}

/// A JSON value as a stream field or a hole shows it; `None` for null and for a string that no UTF-8 text can hold.
pub fn text_of(raw: &RawValue) -> Option<Cow<'_, str>> {
    match raw.get().as_bytes().first() {
        Some(b'"') => {
            let inner = &raw.get()[1..raw.get().len() - 1];
            if inner.contains('\\') { serde_json::from_str::<String>(raw.get()).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
        }
        Some(b'n') => None,
        _ => Some(Cow::Borrowed(raw.get())),
    }
}

fn descend<'a>(raw: &'a RawValue, step: &Step) -> Option<&'a RawValue> {
    match step {
        Step::Field(name) => match Document::parse(raw.get()).ok()? {
            Document::Object(fields) => fields.into_iter().rev().find(|(n, _)| n == name).map(|(_, v)| v),
            Document::Other(_) => None,
        },
        Step::Index(i) => serde_json::from_str::<Vec<&RawValue>>(raw.get()).ok()?.get(*i).copied(),
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::with_capacity(8);
        while let Some(Name(name)) = map.next_key()? {
            fields.push((name, map.next_value()?));
        }
        Ok(fields)
    }
}

/// A field's name, borrowed where no escape stands in it (serde's own `Cow` always copies).
struct Name<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Name<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field name")
            }
            fn visit_borrowed_str<E>(self, v: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(v)))
            }
            fn visit_str<E>(self, v: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(v.to_owned())))
            }
        }
        d.deserialize_str(V)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(json: &str, path: &[Step]) -> Option<String> {
        Document::parse(json).unwrap().get(path).map(Cow::into_owned)
    }
    fn field(name: &str) -> Step {
        Step::Field(name.into())
    }

    #[test]
    fn numbers_keep_the_text_that_stood_in_the_record() {
        assert_eq!(get(r#"{"price": 42055.10}"#, &[field("price")]).as_deref(), Some("42055.10"));
        assert_eq!(get(r#"{"price": 1E2}"#, &[field("price")]).as_deref(), Some("1E2"));
    }

    #[test]
    fn paths_reach_nested_values_and_miss_quietly() {
        let json = r#"{"a":{"b":[10,{"c.d":"x\n"}]},"z":null}"#;
        let path = [field("a"), field("b"), Step::Index(1), field("c.d")];
        assert_eq!(get(json, &path).as_deref(), Some("x\n"));
        assert_eq!(get(json, &[field("a"), field("b")]).as_deref(), Some(r#"[10,{"c.d":"x\n"}]"#));
        assert_eq!(get(json, &[field("z")]), None);
        assert_eq!(get(json, &[field("a"), Step::Index(0)]), None);
    }

    #[test]
    fn what_is_not_json_is_dead_with_the_place() {
        for bad in [&b""[..], b"{", b"{\"a\":1,}", b"\xff", b"{}x", b"nul"] {
            assert!(matches!(Format::Json.decode(Some(bad)), Decoded::Dead(_)), "{bad:?}");
        }
        assert!(matches!(Format::Raw.decode(Some(b"\xff")), Decoded::Opaque));
    }

    #[test]
    fn deep_nesting_neither_overflows_the_stack_nor_passes_for_an_object() {
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        let _ = Format::Json.decode(Some(deep.as_bytes()));
        let inside = format!("{{\"a\":{deep}}}");
        let _ = Format::Json.decode(Some(inside.as_bytes()));
    }
}
