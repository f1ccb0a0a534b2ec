//! Decoding: a payload's fields, found by path, with the very text that stood in the record.
use super::json::{self, Field, Invalid};
use std::borrow::Cow;

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

/// Where the fields of one record after the other are noted, so that none costs an allocation.
#[derive(Debug, Default)]
pub struct Scratch(Vec<Field>);

/// A validated JSON value. Nested values stay text until a path asks for them.
#[derive(Clone, Copy, Debug)]
pub struct Document<'a> {
    text: &'a str,
    /// Of an object.
    fields: &'a [Field],
    value: &'a str,
}

/// A step of a path: `.name` or `[3]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Field(String),
    Index(usize),
}

impl Format {
    /// Decodes the payload of a record that is no tombstone.
    pub fn decode<'a>(self, payload: Option<&'a [u8]>, scratch: &'a mut Scratch) -> Decoded<'a> {
        let (Self::Json, Some(payload)) = (self, payload) else { return Decoded::Opaque };
        let text = match std::str::from_utf8(payload) {
            Ok(text) => text,
            Err(e) => return Decoded::Dead(format!("payload is not JSON: invalid UTF-8 at byte {}", e.valid_up_to())),
        };
        match Document::parse(text, scratch) {
            Ok(document) => Decoded::Fields(document),
            Err(e) => Decoded::Dead(format!("payload is not JSON: {e}")),
        }
    }
}

impl<'a> Decoded<'a> {
    pub fn document(&self) -> Option<&Document<'a>> {
        if let Self::Fields(document) = self { Some(document) } else { None }
    }
}

impl<'a> Document<'a> {
    pub fn parse(text: &'a str, scratch: &'a mut Scratch) -> Result<Self, Invalid> {
        scratch.0.clear();
        let value = json::scan(text, &mut scratch.0)?;
        Ok(Self { text, fields: &scratch.0, value: &text[value] })
    }

    /// The top-level fields in the record's order, each with its value as it stood; `None` where the value is no object.
    #[inline]
    pub fn fields(&self) -> Option<impl Iterator<Item = (Cow<'a, str>, &'a str)>> {
        let Self { text, fields, value } = *self;
        value.starts_with('{').then(|| fields.iter().map(move |f| (f.name(text), &text[f.value.clone()])))
    }

    /// The value at a path as text: a string unescaped, anything else as it stood; `None` where nothing is, or null.
    pub fn get(&self, path: &[Step]) -> Option<Cow<'a, str>> {
        text_of(self.find(path)?)
    }

    /// The value at a path as it stood.
    pub fn find(&self, path: &[Step]) -> Option<&'a str> {
        let (first, rest) = path.split_first()?;
        let mut value = match first {
            Step::Field(name) => json::find(self.text, self.fields, name)?,
            step @ Step::Index(_) => descend(self.value, step)?,
        };
        for step in rest {
            value = descend(value, step)?;
        }
        Some(value)
    }
}

/// A JSON value as a stream field or a hole shows it; `None` for null and for a string that no UTF-8 text can hold.
#[inline]
pub fn text_of(value: &str) -> Option<Cow<'_, str>> {
    match value.as_bytes().first() {
        Some(b'"') => json::unescape(value),
        Some(b'n') => None,
        _ => Some(Cow::Borrowed(value)),
    }
}

fn descend<'a>(value: &'a str, step: &Step) -> Option<&'a str> {
    match step {
        Step::Field(name) => json::member(value, name),
        Step::Index(i) => json::element(value, *i),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(json: &str, path: &[Step]) -> Option<String> {
        Document::parse(json, &mut Scratch::default()).unwrap().get(path).map(Cow::into_owned)
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
            assert!(matches!(Format::Json.decode(Some(bad), &mut Scratch::default()), Decoded::Dead(_)), "{bad:?}");
        }
        assert!(matches!(Format::Raw.decode(Some(b"\xff"), &mut Scratch::default()), Decoded::Opaque));
    }

    #[test]
    fn a_string_that_no_text_can_hold_is_nothing_and_a_repeated_name_means_its_last() {
        assert_eq!(get(r#"{"a":"\ud800","b":1,"b":"2"}"#, &[field("a")]), None);
        assert_eq!(get(r#"{"a":"\ud800","b":1,"\u0062":"2"}"#, &[field("b")]).as_deref(), Some("2"));
        assert_eq!(get(r#"{"a":{"b":1,"b":"2"}}"#, &[field("a"), field("b")]).as_deref(), Some("2"));
        assert_eq!(get(r#"[1,"two"]"#, &[Step::Index(1)]).as_deref(), Some("two"));
    }
}
