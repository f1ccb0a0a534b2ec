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
            Err(e) => return not_json(payload, &format!("invalid UTF-8 at byte {}", e.valid_up_to())),
        };
        match Document::parse(text, scratch) {
            Ok(document) => Decoded::Fields(document),
            Err(e) => not_json(payload, &e.to_string()),
        }
    }
}

/// Why a payload is no JSON, and what it looks like instead.
#[cold]
fn not_json<'a>(payload: &[u8], why: &str) -> Decoded<'a> {
    let looks = looks_like(payload).map(|looks| format!(": {looks}")).unwrap_or_default();
    Decoded::Dead(format!("payload is not JSON: {why}{looks}"))
}

const COMPRESSED: &str = "let Kafka compress (compression.type of the producer), not the application";
const OTHER_FORMAT: &str = "produce JSON, or set decode = \"raw\" to move the bytes as they are";

/// What the first bytes of a payload say that it is, where that is known, and what to do.
fn looks_like(payload: &[u8]) -> Option<String> {
    const SIGNS: [(&[u8], &str, &str); 17] = [
        (b"\xef\xbb\xbf", "it begins with a UTF-8 byte order mark", "produce it without one (Python: encoding utf-8, not utf-8-sig)"),
        (b"\xff\xfe", "it is UTF-16, little-endian", "produce UTF-8"),
        (b"\xfe\xff", "it is UTF-16, big-endian", "produce UTF-8"),
        (b"\x1f\x8b", "it is compressed with gzip", COMPRESSED),
        (b"\x28\xb5\x2f\xfd", "it is compressed with zstd", COMPRESSED),
        (b"\x04\x22\x4d\x18", "it is compressed with LZ4", COMPRESSED),
        (b"\xff\x06\x00\x00sNaPpY", "it is compressed with Snappy", COMPRESSED),
        (b"\x82SNAPPY", "it is compressed with Snappy", COMPRESSED),
        (b"\x78\x01", "it is compressed with zlib", COMPRESSED),
        (b"\x78\x9c", "it is compressed with zlib", COMPRESSED),
        (b"\x78\xda", "it is compressed with zlib", COMPRESSED),
        (b"BZh", "it is compressed with bzip2", COMPRESSED),
        (b"Obj\x01", "it is an Avro container file", OTHER_FORMAT),
        (b"\xc3\x01", "it is Avro in its single-object encoding", OTHER_FORMAT),
        (b"PAR1", "it is a Parquet file", OTHER_FORMAT),
        (b"\xac\xed\x00\x05", "it is a serialized Java object", OTHER_FORMAT),
        (b"<", "it looks like XML", OTHER_FORMAT),
    ];
    if let Some((_, what, todo)) = SIGNS.iter().find(|(sign, ..)| payload.starts_with(sign)) {
        return Some(format!("{what}; {todo}"));
    }
    let text = |b: &u8| (0x20..0x7f).contains(b);
    match payload {
        [] => Some("it is empty; a record without a value is produced as null (a tombstone)".into()),
        [0, a, 0, b, ..] if text(a) && text(b) => Some("it is UTF-16, big-endian; produce UTF-8".into()),
        [a, 0, b, 0, ..] if text(a) && text(b) => Some("it is UTF-16, little-endian; produce UTF-8".into()),
        // Behind the id: JSON, Avro or Protobuf.
        [0, a, b, c, d, rest @ ..] => {
            let id = u32::from_be_bytes([*a, *b, *c, *d]);
            let inside = if rest.starts_with(b"{") { "; JSON follows it: a serializer without a registry would do" } else { "" };
            Some(format!(
                "it has the framing of Confluent's schema registry (a zero byte and schema id {id}){inside}; this build reads no such framing: {OTHER_FORMAT}"
            ))
        }
        [3, 0 | 5, rest @ ..] if rest.len() >= 16 => {
            Some(format!("it has the framing of AWS Glue's schema registry; this build reads no such framing: {OTHER_FORMAT}"))
        }
        [.., 0] => Some("it ends with a zero byte, as strings of C do; produce it without".into()),
        _ => looks_like_text(payload),
    }
}

/// What else is written in the place of JSON.
fn looks_like_text(payload: &[u8]) -> Option<String> {
    // Of a large one the beginning will do.
    let text = String::from_utf8_lossy(&payload[..payload.len().min(1 << 16)]);
    let mut lines = text.lines().filter(|l| !l.trim().is_empty());
    let valid = |line: &str| json::scan(line, &mut Vec::new()).is_ok();
    let looks = if text.contains('\u{fffd}') && text.trim_start().starts_with(['{', '[', '"']) {
        "its text is not UTF-8 (Latin-1 perhaps); produce UTF-8"
    } else if lines.by_ref().take(2).filter(|l| valid(l)).count() == 2 {
        "it holds several JSON values, one a line; produce one record for each"
    } else if ["NaN", "Infinity"].iter().any(|word| text.contains(word)) {
        "JSON has no NaN and no Infinity; produce null or a text"
    } else if ["{'", "['", "None", "True", "False"].iter().any(|word| text.contains(word)) {
        "it looks like Python's repr; produce json.dumps(...)"
    } else {
        return None;
    };
    Some(looks.into())
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
    fn what_is_something_else_than_json_is_named_with_what_to_do() {
        let utf16 = |text: &str, bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
        for (payload, looks) in [
            (b"\xef\xbb\xbf{}".to_vec(), "a UTF-8 byte order mark; produce it without one"),
            ([b"\xff\xfe".to_vec(), utf16("{}", u16::to_le_bytes)].concat(), "UTF-16, little-endian; produce UTF-8"),
            ([b"\xfe\xff".to_vec(), utf16("{}", u16::to_be_bytes)].concat(), "UTF-16, big-endian; produce UTF-8"),
            (utf16("{\"a\":1}", u16::to_le_bytes), "UTF-16, little-endian"),
            (utf16("{\"a\":1}", u16::to_be_bytes), "UTF-16, big-endian"),
            (b"\0\0\0\x01\x02\x06abc".to_vec(), "Confluent's schema registry (a zero byte and schema id 258); this build reads no such framing"),
            (b"\0\0\0\0\x07{\"a\":1}".to_vec(), "schema id 7); JSON follows it"),
            ([&b"\x03\x00"[..], &[9; 16], b"x"].concat(), "AWS Glue's schema registry"),
            (b"\x1f\x8b\x08\0".to_vec(), "compressed with gzip; let Kafka compress"),
            (b"\x28\xb5\x2f\xfd\0".to_vec(), "compressed with zstd"),
            (b"x\x9c\x01".to_vec(), "compressed with zlib"),
            (b"Obj\x01\x04".to_vec(), "an Avro container file; produce JSON, or set decode = \"raw\""),
            (b"\xc3\x01abcdefgh".to_vec(), "Avro in its single-object encoding"),
            (b"<tick/>".to_vec(), "XML"),
            (b"".to_vec(), "it is empty"),
            (b"{}\0".to_vec(), "ends with a zero byte"),
            (b"{\"a\":1}\n{\"a\":2}\n".to_vec(), "several JSON values, one a line"),
            (b"{\"a\":\"M\xfcnchen\"}".to_vec(), "not UTF-8 (Latin-1 perhaps)"),
            (b"{\"a\":NaN}".to_vec(), "no NaN"),
            (b"{'a': 1}".to_vec(), "Python's repr"),
        ] {
            let mut scratch = Scratch::default();
            let decoded = Format::Json.decode(Some(&payload), &mut scratch);
            assert!(matches!(&decoded, Decoded::Dead(why) if why.starts_with("payload is not JSON: ") && why.contains(looks)), "{looks}: {decoded:?}");
        }
        // What says nothing of itself is told with its place alone.
        for plain in [&b"nojson"[..], b"{\"a\":", b"\xff", b"xyz"] {
            assert!(looks_like(plain).is_none(), "{plain:?}");
        }
    }

    #[test]
    fn a_string_that_no_text_can_hold_is_nothing_and_a_repeated_name_means_its_last() {
        assert_eq!(get(r#"{"a":"\ud800","b":1,"b":"2"}"#, &[field("a")]), None);
        assert_eq!(get(r#"{"a":"\ud800","b":1,"\u0062":"2"}"#, &[field("b")]).as_deref(), Some("2"));
        assert_eq!(get(r#"{"a":{"b":1,"b":"2"}}"#, &[field("a"), field("b")]).as_deref(), Some("2"));
        assert_eq!(get(r#"[1,"two"]"#, &[Step::Index(1)]).as_deref(), Some("two"));
    }
}
