//! Templates: literal text with holes, parsed once at start and rendered per record.
use super::condition::Mistake;
use super::decode::{Document, Step};
use super::record::{Record, TopicPartition};
use super::reference::{Reference, is_bare, nearest};
use std::fmt;

/// A parsed template. `{{` and `}}` stand for the braces themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Vec<u8>),
    Hole { hole: Reference, default: Option<Vec<u8>> },
}

const HOLES: &str = "{key}, {payload}, {value.FIELD}, {value.LIST[0]}, {value.\"a.b\"}, {header.NAME}, {topic}, {partition}, {offset}, \
                     {timestamp}; each with a default as {key|none}; {{ and }} for the braces themselves";
const NAMES: [&str; 8] = ["key", "payload", "value", "header", "topic", "partition", "offset", "timestamp"];

/// A hole that found nothing in a record: the record is dead for that reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing(String);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the record has nothing for {{{}}}", self.0)
    }
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// The first mistake.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            let after = &rest[at + 1..];
            let column = text[..text.len() - rest.len() + at].chars().count() + 1;
            let mistake = |found: String, (allowed, nearest): (String, Option<String>)| Mistake { column, found, allowed, nearest };
            if let Some(next) = after.strip_prefix(brace) {
                literal.push_str(brace);
                rest = next;
            } else if brace == "}" {
                return Err(mistake("a \"}\" without its \"{\"".into(), ("a hole such as {key}, or }} for the brace itself".into(), None)));
            } else {
                let Some(end) = hole_end(after) else {
                    return Err(mistake("a hole without its \"}\"".into(), ("a hole such as {key}, or {{ for the brace itself".into(), None)));
                };
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal).into_bytes()));
                }
                let hole = &after[..end];
                parts.push(parse_hole(hole).ok_or_else(|| mistake(format!("the unknown hole {{{hole}}}"), instead(hole)))?);
                rest = &after[end + 1..];
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal.into_bytes()));
        }
        Ok(Self { parts })
    }

    /// The template's text where no record is needed for it.
    pub fn constant(&self) -> Option<&[u8]> {
        match self.parts.as_slice() {
            [] => Some(b""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// A hole by the look of it that is literal text, since its braces are doubled, as other template languages write their holes.
    pub fn literal_hole(&self) -> Option<String> {
        self.parts.iter().find_map(|part| {
            let Part::Literal(text) = part else { return None };
            let text = std::str::from_utf8(text).ok()?;
            let inner = text[text.find('{')? + 1..].split_once('}')?.0.trim();
            parse_hole(inner).map(|_| format!("{{{inner}}}"))
        })
    }

    /// What it renders to, where that stands in the template or the record as a whole.
    pub fn whole<'a>(&'a self, record: &'a Record) -> Option<&'a [u8]> {
        match self.parts.as_slice() {
            [Part::Literal(text)] => Some(text),
            [Part::Hole { hole: Reference::Key, .. }] => record.key(),
            [Part::Hole { hole: Reference::Payload, .. }] => record.payload(),
            _ => None,
        }
    }

    /// The text that every rendering begins with.
    pub fn prefix(&self) -> &[u8] {
        if let Some(Part::Literal(text)) = self.parts.first() { text } else { b"" }
    }

    /// What every rendering matches, as Redis' patterns go.
    pub fn pattern(&self) -> Vec<u8> {
        let escaped = |text: &[u8]| text.iter().flat_map(|b| if b"*?[]^\\".contains(b) { vec![b'\\', *b] } else { vec![*b] }).collect::<Vec<u8>>();
        self.parts.iter().flat_map(|p| if let Part::Literal(text) = p { escaped(text) } else { b"*".to_vec() }).collect()
    }

    /// A rendering to be, with the same text in the place of each hole.
    pub fn sample(&self, hole: &[u8]) -> Vec<u8> {
        self.parts.iter().flat_map(|p| if let Part::Literal(text) = p { text } else { hole }).copied().collect()
    }

    /// What it renders to for the records of a partition: the texts that are known; `None` stands for any text.
    pub fn pieces(&self, at: &TopicPartition) -> Vec<Option<Vec<u8>>> {
        let piece = |part: &Part| match part {
            Part::Literal(text) => Some(text.clone()),
            Part::Hole { hole: Reference::Topic, .. } => Some(at.topic.as_bytes().to_vec()),
            Part::Hole { hole: Reference::Partition, .. } => Some(at.partition.to_string().into_bytes()),
            Part::Hole { .. } => None,
        };
        self.parts.iter().map(piece).collect()
    }

    /// Whether records of two keys never render to the same.
    pub fn tells_keys_apart(&self) -> bool {
        self.around_key().is_some()
    }

    /// Whether it has the record's key: that comes from one partition, unless who produces it says otherwise.
    pub fn has_key(&self) -> bool {
        self.parts.iter().any(|p| matches!(p, Part::Hole { hole: Reference::Key, .. }))
    }

    /// Whether a hole asks for a field of the decoded value.
    pub fn needs_fields(&self) -> bool {
        self.parts.iter().any(|p| matches!(p, Part::Hole { hole: Reference::Value(_), .. }))
    }

    /// Whether all of its holes, one at the least, ask for fields of the decoded value.
    pub fn is_of_fields(&self) -> bool {
        self.needs_fields() && self.parts.iter().all(|p| matches!(p, Part::Literal(_) | Part::Hole { hole: Reference::Value(_), .. }))
    }

    /// The texts before and behind the record's key, where it is made of that and of text alone: so a key tells the
    /// rendering, and the rendering the key. A default would stand for records without a key.
    pub fn around_key(&self) -> Option<(&[u8], &[u8])> {
        let key = |part: &Part| matches!(part, Part::Hole { hole: Reference::Key, default: None });
        match self.parts.as_slice() {
            [hole] if key(hole) => Some((b"", b"")),
            [Part::Literal(before), hole] if key(hole) => Some((before, b"")),
            [hole, Part::Literal(behind)] if key(hole) => Some((b"", behind)),
            [Part::Literal(before), hole, Part::Literal(behind)] if key(hole) => Some((before, behind)),
            _ => None,
        }
    }

    /// The same template behind a literal text.
    pub fn behind(&self, prefix: &str) -> Self {
        let mut parts = self.parts.clone();
        match parts.first_mut() {
            Some(Part::Literal(text)) => drop(text.splice(0..0, prefix.bytes())),
            _ => parts.insert(0, Part::Literal(prefix.into())),
        }
        Self { parts }
    }

    /// Appends the rendered bytes to `out`.
    pub fn render(&self, record: &Record, document: Option<&Document<'_>>, out: &mut Vec<u8>) -> Result<(), Missing> {
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.extend_from_slice(text),
                Part::Hole { hole, default } => {
                    if !fill(hole, record, document, out) {
                        out.extend_from_slice(default.as_ref().ok_or_else(|| Missing(hole.to_string()))?);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Appends what a hole stands for; whether there was something.
fn fill(hole: &Reference, record: &Record, document: Option<&Document<'_>>, out: &mut Vec<u8>) -> bool {
    let bytes = |out: &mut Vec<u8>, found: Option<&[u8]>| found.map(|b| out.extend_from_slice(b)).is_some();
    let number = |out: &mut Vec<u8>, found: Option<i64>| found.map(|n| out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes())).is_some();
    match hole {
        Reference::Key => bytes(out, record.key()),
        Reference::Payload => bytes(out, record.payload()),
        Reference::Value(path) => document.and_then(|d| d.get(path)).map(|t| out.extend_from_slice(t.as_bytes())).is_some(),
        Reference::Header(name) => bytes(out, record.header(name)),
        Reference::Topic => bytes(out, Some(record.at().topic.as_bytes())),
        Reference::Partition => number(out, Some(record.at().partition.into())),
        Reference::Offset => number(out, Some(record.offset)),
        Reference::Timestamp => number(out, record.timestamp_ms),
    }
}

/// Where a hole ends; braces inside quotes belong to a field's name.
fn hole_end(text: &str) -> Option<usize> {
    let mut quoted = false;
    text.char_indices().find_map(|(i, c)| {
        quoted ^= c == '"';
        (c == '}' && !quoted).then_some(i)
    })
}

fn parse_hole(text: &str) -> Option<Part> {
    let (name, default) = split_default(text);
    let hole = if let Some(hole) = Reference::plain(name) {
        hole
    } else if let Some(header) = name.strip_prefix("header.").filter(|h| !h.is_empty()) {
        let quoted = header.strip_prefix('"').and_then(|h| h.strip_suffix('"'));
        Reference::Header(quoted.unwrap_or(header).to_owned())
    } else {
        Reference::Value(parse_path(name.strip_prefix("value")?)?)
    };
    Some(Part::Hole { hole, default: default.map(|d| d.as_bytes().to_vec()) })
}

/// What is allowed in the place of an unknown hole, and what it was probably meant to be.
fn instead(text: &str) -> (String, Option<String>) {
    let (name, _) = split_default(text);
    let head = name.split(['.', '[', ' ']).next().unwrap_or(name);
    let behind = &text[head.len()..];
    match head {
        _ if text.trim() != text => ("no blanks in a hole".into(), Some(format!("{{{}}}", text.trim())).filter(|hole| Template::parse(hole).is_ok())),
        "value" => ("a field behind {value, such as {value.price} or {value.list[0]}; {payload} is the whole value".into(), None),
        "header" => ("one name behind {header, such as {header.venue}".into(), None),
        _ if Reference::plain(head).is_some() => (format!("{{{head}}} with nothing behind it but a default, such as {{{head}|none}}"), None),
        _ => {
            let near = nearest(&NAMES, head).map(|n| format!("{{{n}{behind}}}"));
            // What is no hole by itself is probably the name of a field.
            let field = || Some(format!("{{value.{head}{behind}}}")).filter(|_| is_bare(head));
            (HOLES.into(), near.or_else(field).filter(|hole| Template::parse(hole).is_ok()))
        }
    }
}

fn split_default(text: &str) -> (&str, Option<&str>) {
    let mut quoted = false;
    let bar = text.char_indices().find_map(|(i, c)| {
        quoted ^= c == '"';
        (c == '|' && !quoted).then_some(i)
    });
    bar.map_or((text, None), |i| (&text[..i], Some(&text[i + 1..])))
}

/// `.a.b[0]."c.d"` as steps; `None` where it is no path.
fn parse_path(mut text: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    while !text.is_empty() {
        if let Some(rest) = text.strip_prefix(".\"") {
            let end = rest.find('"')?;
            steps.push(Step::Field(rest[..end].to_owned()));
            text = &rest[end + 1..];
        } else if let Some(rest) = text.strip_prefix('.') {
            let end = rest.find(['.', '[', '"']).unwrap_or(rest.len());
            if end == 0 {
                return None;
            }
            steps.push(Step::Field(rest[..end].to_owned()));
            text = &rest[end..];
        } else if let Some(rest) = text.strip_prefix('[') {
            let end = rest.find(']')?;
            steps.push(Step::Index(rest[..end].parse().ok()?));
            text = &rest[end + 1..];
        } else {
            return None;
        }
    }
    (!steps.is_empty()).then_some(steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::decode::Scratch;
    use crate::core::record::TopicPartition;

    fn render(template: &str, key: Option<&[u8]>, payload: &str) -> Result<String, String> {
        let record = Record::copy(TopicPartition::new("t", 3), 7, None, key, Some(payload.as_bytes()), [("h", Some(&b"1"[..])), ("h", Some(&b"2"[..]))]);
        let mut scratch = Scratch::default();
        let document = Document::parse(payload, &mut scratch).ok();
        let mut out = Vec::new();
        Template::parse(template).unwrap().render(&record, document.as_ref(), &mut out).map_err(|e| e.to_string())?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn every_hole_renders_what_the_reference_says() {
        let json = r#"{"price":42000.0,"a":{"b":[5]},"a.b":"dot","s":"te\"xt"}"#;
        let all = r#"{{{key}}} {topic}/{partition}/{offset} {value.price} {value.a.b[0]} {value."a.b"} {value.s} {value.a} {header.h} {timestamp|-}"#;
        assert_eq!(render(all, Some(b"BTC/USD"), json).unwrap(), r#"{BTC/USD} t/3/7 42000.0 5 dot te"xt {"b":[5]} 2 -"#);
    }

    #[test]
    fn a_hole_with_doubled_braces_is_found_to_be_text() {
        for (text, hole) in [
            ("s:{{key}}", Some("{key}")),
            ("{{ value.id }}", Some("{value.id}")),
            ("{{{key}}}", None),
            ("{\u{7b}tag}}:{key}", None),
            ("{{}}", None),
            ("plain", None),
        ] {
            assert_eq!(Template::parse(text).unwrap().literal_hole().as_deref(), hole, "{text}");
        }
    }

    #[test]
    fn nothing_found_is_a_reason_unless_there_is_a_default() {
        assert_eq!(render("{key}", None, "{}").unwrap_err(), "the record has nothing for {key}");
        assert_eq!(render("{value.a|none}", None, "{}").unwrap(), "none");
        assert_eq!(render("{value.a|}", None, "{}").unwrap(), "");
        assert!(render("{header.x}", None, "{}").unwrap_err().contains("{header.x}"));
    }

    #[test]
    fn a_key_and_text_tell_the_key_from_the_rendering() {
        let around = |t: &str| Template::parse(t).unwrap().around_key().map(|(b, a)| [b, a].map(|t| String::from_utf8_lossy(t).into_owned()));
        assert_eq!(around("latest:{key}"), Some(["latest:".into(), String::new()]));
        assert_eq!(around("a{{{key}}}b"), Some(["a{".into(), "}b".into()]));
        for other in ["latest", "{key}{key}", "{key|none}", "{topic}:{key}", "{value.pair}"] {
            assert_eq!(around(other), None, "{other}");
        }
    }

    #[test]
    fn what_could_never_render_is_refused_with_what_is_allowed() {
        for (bad, column, found, allowed, nearest) in [
            ("{", 1, "a hole without its \"}\"", "{{ for the brace itself", None),
            ("}", 1, "a \"}\" without its \"{\"", "}} for the brace itself", None),
            ("\u{e9}}b", 2, "a \"}\" without its \"{\"", "}} for the brace itself", None),
            ("{value.a", 1, "a hole without its \"}\"", "{{ for the brace itself", None),
            ("a:{kye}", 3, "the unknown hole {kye}", "{key}, {payload}, {value.FIELD}", Some("{key}")),
            ("{valu.id}", 1, "the unknown hole {valu.id}", "{header.NAME}", Some("{value.id}")),
            ("{vlaue.list[0]|none}", 1, "the unknown hole {vlaue.list[0]|none}", "{key|none}", Some("{value.list[0]|none}")),
            ("{price}", 1, "the unknown hole {price}", "{value.FIELD}", Some("{value.price}")),
            ("{order.id|0}", 1, "the unknown hole {order.id|0}", "{value.FIELD}", Some("{value.order.id|0}")),
            ("{ key }", 1, "the unknown hole { key }", "no blanks", Some("{key}")),
            ("{a b}", 1, "the unknown hole {a b}", "{value.FIELD}", Some("{value.a b}")),
            ("{}", 1, "the unknown hole {}", "{value.FIELD}", None),
            ("{value}", 1, "the unknown hole {value}", "{payload} is the whole value", None),
            ("{value.}", 1, "the unknown hole {value.}", "a field behind {value", None),
            ("{value[x]}", 1, "the unknown hole {value[x]}", "{value.list[0]}", None),
            ("{header}", 1, "the unknown hole {header}", "one name behind {header", None),
            ("{header.}", 1, "the unknown hole {header.}", "one name behind {header", None),
            ("{key.x}", 1, "the unknown hole {key.x}", "{key} with nothing behind it", None),
        ] {
            let mistake = Template::parse(bad).expect_err(bad);
            assert_eq!((mistake.column, mistake.found.as_str(), mistake.nearest.as_deref()), (column, found, nearest), "{bad}");
            assert!(mistake.allowed.contains(allowed), "{bad}: {mistake:?}");
        }
    }
}
