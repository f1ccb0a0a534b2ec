//! Templates: literal text with holes, parsed once at start and rendered per record.
use super::decode::{Document, Step};
use super::record::{Record, TopicPartition};
use super::reference::Reference;
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

const HOLES: &str = "{key}, {payload}, {value.FIELD}, {header.NAME}, {topic}, {partition}, {offset}, {timestamp}";
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
    /// A text that says what is wrong and what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            let after = &rest[at + 1..];
            if let Some(next) = after.strip_prefix(brace) {
                literal.push_str(brace);
                rest = next;
            } else if brace == "}" {
                return Err(format!("a \"}}\" without its \"{{\" in {text:?} (write \"}}}}\" for the brace itself)"));
            } else {
                let end = hole_end(after).ok_or_else(|| format!("a hole without its \"}}\" in {text:?} (write \"{{{{\" for the brace itself)"))?;
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal).into_bytes()));
                }
                parts.push(parse_hole(&after[..end])?);
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

fn parse_hole(text: &str) -> Result<Part, String> {
    let (name, default) = split_default(text);
    let unknown = || {
        let head = name.split(['.', '[']).next().unwrap_or(name);
        let near = NAMES.iter().min_by_key(|n| strsim::damerau_levenshtein(n, head)).filter(|n| strsim::damerau_levenshtein(n, head) <= 2);
        let hint = near.map(|n| format!("; did you mean {{{n}}}?")).unwrap_or_default();
        format!("unknown hole {{{text}}}: allowed are {HOLES}, each with a default as {{key|default}}{hint}")
    };
    let hole = if let Some(hole) = Reference::plain(name) {
        hole
    } else if let Some(header) = name.strip_prefix("header.").filter(|h| !h.is_empty()) {
        let quoted = header.strip_prefix('"').and_then(|h| h.strip_suffix('"'));
        Reference::Header(quoted.unwrap_or(header).to_owned())
    } else if let Some(path) = name.strip_prefix("value") {
        Reference::Value(parse_path(path).ok_or_else(unknown)?)
    } else {
        return Err(unknown());
    };
    Ok(Part::Hole { hole, default: default.map(|d| d.as_bytes().to_vec()) })
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
        Template::parse(template)?.render(&record, document.as_ref(), &mut out).map_err(|e| e.to_string())?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn every_hole_renders_what_the_reference_says() {
        let json = r#"{"price":42000.0,"a":{"b":[5]},"a.b":"dot","s":"te\"xt"}"#;
        let all = r#"{{{key}}} {topic}/{partition}/{offset} {value.price} {value.a.b[0]} {value."a.b"} {value.s} {value.a} {header.h} {timestamp|-}"#;
        assert_eq!(render(all, Some(b"BTC/USD"), json).unwrap(), r#"{BTC/USD} t/3/7 42000.0 5 dot te"xt {"b":[5]} 2 -"#);
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
        for bad in ["{", "}", "{kye}", "{value}", "{value.}", "{header.}", "{value[x]}", "{value.a", "a}b"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
        assert!(Template::parse("{kye}").unwrap_err().contains("did you mean {key}?"));
    }
}
