//! What templates and conditions ask of a record: its key, its value's fields, its headers, where and when it stands.
use super::decode::Step;
use std::fmt;

/// A part of a record, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    Key,
    Payload,
    /// A field of the decoded value.
    Value(Vec<Step>),
    /// The last header of that name.
    Header(String),
    Topic,
    Partition,
    Offset,
    /// In ms since the epoch.
    Timestamp,
}

impl Reference {
    /// Those that have no further name.
    pub fn plain(name: &str) -> Option<Self> {
        Some(match name {
            "key" => Self::Key,
            "payload" => Self::Payload,
            "topic" => Self::Topic,
            "partition" => Self::Partition,
            "offset" => Self::Offset,
            "timestamp" => Self::Timestamp,
            _ => return None,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("key"),
            Self::Payload => f.write_str("payload"),
            Self::Topic => f.write_str("topic"),
            Self::Partition => f.write_str("partition"),
            Self::Offset => f.write_str("offset"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Header(name) => {
                f.write_str("header")?;
                step(f, name)
            }
            Self::Value(path) => {
                f.write_str("value")?;
                path.iter().try_for_each(|s| match s {
                    Step::Field(name) => step(f, name),
                    Step::Index(i) => write!(f, "[{i}]"),
                })
            }
        }
    }
}

/// Whether a name needs no quotes.
pub fn is_bare(name: &str) -> bool {
    !name.is_empty() && name.chars().all(is_bare_char)
}

/// What a name without quotes may consist of.
pub fn is_bare_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The known name that a typo was probably meant to be, whatever its case.
pub fn nearest(names: &[&'static str], typo: &str) -> Option<&'static str> {
    let typo = typo.to_lowercase();
    let distance = |name: &&str| strsim::damerau_levenshtein(name, &typo);
    // Of a short name a second letter would leave too little.
    let far = if typo.chars().count() <= 4 { 1 } else { 2 };
    names.iter().copied().min_by_key(distance).filter(|name| distance(name) <= far)
}

fn step(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    if is_bare(name) { write!(f, ".{name}") } else { write!(f, ".\"{}\"", name.replace('"', "\"\"")) }
}
