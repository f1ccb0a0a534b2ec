//! A condition asked of a record: where it stands, without a copy, unless a string has escapes or [`Text::Lower`] changes it.
use super::Fault;
use super::number::{Number, Undefined};
use super::tree::{Amount, Field, Place, Relation, Text, Truth};
use crate::core::decode::Document;
use crate::core::json;
use crate::core::record::Record;
use crate::core::reference::Reference;
use std::borrow::Cow;
use std::fmt;

/// What a condition is asked of.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'s> {
    pub record: &'s Record,
    pub fields: Fields<'s>,
}

/// The fields of a record's value.
#[derive(Clone, Copy, Debug)]
pub enum Fields<'s> {
    Of(Document<'s>),
    /// There is no value, or it has no fields.
    None,
    /// Nobody can tell: the value can't be decoded, or it is the one that a tombstone deletes.
    Unknown,
}

/// What stands at a reference.
enum Found<'s> {
    Truth(bool),
    Number(Number),
    Text(Cow<'s, str>),
    Other(Kind),
}

/// What a reference can hold, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Truth,
    Number,
    Text,
    Object,
    Array,
    /// No UTF-8.
    Bytes,
    /// Beyond what a double can hold.
    Huge,
    /// As the text of one.
    NoNumber,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truth => "true or false",
            Self::Number => "a number",
            Self::Text => "text",
            Self::Object => "an object",
            Self::Array => "an array",
            Self::Bytes => "bytes that are no UTF-8",
            Self::Huge => "a number beyond 1.8e308",
            Self::NoNumber => "text that is no number",
        })
    }
}

impl Found<'_> {
    fn kind(&self) -> Kind {
        match self {
            Self::Truth(_) => Kind::Truth,
            Self::Number(_) => Kind::Number,
            Self::Text(_) => Kind::Text,
            Self::Other(kind) => *kind,
        }
    }
}

/// What stands there; `None` where nothing does, or null, or a string that no text can hold.
#[inline]
fn find<'s>(reference: &'s Reference, subject: &Subject<'s>) -> Result<Option<Found<'s>>, Fault<'s>> {
    let bytes = |found: Option<&'s [u8]>| found.map(|b| std::str::from_utf8(b).map_or(Found::Other(Kind::Bytes), |t| Found::Text(t.into())));
    let number = |n: i64| Found::Number(Number::Whole(n.into()));
    let record = subject.record;
    Ok(match reference {
        Reference::Value(path) => match &subject.fields {
            Fields::Of(document) => document.find(path).and_then(read),
            Fields::None => None,
            Fields::Unknown => return Err(Fault::Unknown),
        },
        Reference::Key => bytes(record.key()),
        Reference::Payload => bytes(record.payload()),
        Reference::Header(name) => bytes(record.header(name)),
        Reference::Topic => Some(Found::Text(Cow::Borrowed(&record.at().topic))),
        Reference::Partition => Some(number(record.at().partition.into())),
        Reference::Offset => Some(number(record.offset)),
        Reference::Timestamp => record.timestamp_ms.map(number),
    })
}

/// A value of JSON.
#[inline]
fn read(value: &str) -> Option<Found<'_>> {
    Some(match value.as_bytes().first()? {
        b'n' => return None,
        b'"' => Found::Text(json::unescape(value)?),
        b't' => Found::Truth(true),
        b'f' => Found::Truth(false),
        b'{' => Found::Other(Kind::Object),
        b'[' => Found::Other(Kind::Array),
        _ => Number::read(value).map_or(Found::Other(Kind::Huge), Found::Number),
    })
}

/// The first of some references that has something.
#[inline]
fn first<'s>(references: &'s [Reference], subject: &Subject<'s>) -> Result<Option<(&'s Reference, Found<'s>)>, Fault<'s>> {
    for reference in references {
        if let Some(found) = find(reference, subject)? {
            return Ok(Some((reference, found)));
        }
    }
    Ok(None)
}

impl<T> Field<T> {
    /// What it comes to: what stands there, made of the right kind, or what stands in for it.
    #[inline]
    fn resolve<'s, V>(
        &'s self,
        subject: &Subject<'s>,
        needed: Kind,
        take: impl Fn(Found<'s>) -> Result<V, Kind>,
        default: impl Fn(&'s T) -> Result<V, Fault<'s>>,
    ) -> Result<V, Fault<'s>> {
        match (first(&self.references, subject)?, &self.default) {
            (Some((reference, found)), _) => take(found).map_err(|found| Fault::Unlike { reference, found, needed }),
            (None, Some(instead)) => default(instead),
            (None, None) => Err(Fault::Nothing(&self.references)),
        }
    }
}

impl Truth {
    /// Whether it holds.
    ///
    /// # Errors
    /// It can't be told of this record. A list with `and` is false all the same where one of its parts is, one with `or` true.
    pub fn holds<'s>(&'s self, subject: &Subject<'s>) -> Result<bool, Fault<'s>> {
        Ok(match self {
            Self::Constant(constant) => *constant,
            Self::Field(field) => {
                let take = |found: Found<'_>| if let Found::Truth(truth) = found { Ok(truth) } else { Err(found.kind()) };
                field.resolve(subject, Kind::Truth, take, |default| default.holds(subject))?
            }
            Self::Not(what) => !what.holds(subject)?,
            Self::All(parts) => !decided(parts, false, subject)?,
            Self::Any(parts) => decided(parts, true, subject)?,
            Self::Has(reference) => find(reference, subject)?.is_some(),
            Self::Numbers(relation, a, b) => relation.holds(a.number(subject)?.cmp(&b.number(subject)?)),
            Self::Texts(relation, a, b) => relation.holds(a.text(subject)?.cmp(&b.text(subject)?)),
            Self::Truths(alike, a, b) => (a.holds(subject)? == b.holds(subject)?) == *alike,
            Self::Fields(relation, a, b) => compare(*relation, a, b, subject)?,
            Self::Within(place, text, part) => {
                let (text, part) = (text.text(subject)?, part.text(subject)?);
                match place {
                    Place::Anywhere => text.contains(&*part),
                    Place::Start => text.starts_with(&*part),
                    Place::End => text.ends_with(&*part),
                }
            }
            Self::Matches(text, pattern) => pattern.0.is_match(&text.text(subject)?),
        })
    }
}

/// Whether one of the parts is this; what can't be told of the others is no matter then.
fn decided<'s>(parts: &'s [Truth], by: bool, subject: &Subject<'s>) -> Result<bool, Fault<'s>> {
    let mut fault = None;
    for part in parts {
        match part.holds(subject) {
            Ok(found) if found == by => return Ok(true),
            Ok(_) => {}
            Err(why) => fault = fault.or(Some(why)),
        }
    }
    fault.map_or(Ok(false), Err)
}

/// Compares what shows with the record what it is.
fn compare<'s>(relation: Relation, a: &'s [Reference], b: &'s [Reference], subject: &Subject<'s>) -> Result<bool, Fault<'s>> {
    let there = |references| first(references, subject)?.ok_or(Fault::Nothing(references));
    let ((reference, a), (_, b)) = (there(a)?, there(b)?);
    let order = match (&a, &b) {
        (Found::Number(a), Found::Number(b)) => a.cmp(b),
        (Found::Text(a), Found::Text(b)) => a.cmp(b),
        (Found::Truth(a), Found::Truth(b)) if !relation.orders() => a.cmp(b),
        _ => return Err(Fault::Apart { relation, reference, found: a.kind(), with: b.kind() }),
    };
    Ok(relation.holds(order))
}

impl Amount {
    pub(super) fn number<'s>(&'s self, subject: &Subject<'s>) -> Result<Number, Fault<'s>> {
        match self {
            Self::Constant(number) => Ok(*number),
            Self::Field(field) => {
                let take = |found: Found<'_>| if let Found::Number(number) = found { Ok(number) } else { Err(found.kind()) };
                field.resolve(subject, Kind::Number, take, |default| default.number(subject))
            }
            Self::Negative(what) => Ok(what.number(subject)?.negated()),
            Self::Operation(operator, a, b) => a.number(subject)?.calculate(*operator, b.number(subject)?).map_err(|why| match why {
                Undefined::DivisionByZero => Fault::DivisionByZero(b),
                Undefined::TooLarge => Fault::TooLarge(self),
            }),
            Self::Absolute(what) => Ok(what.number(subject)?.absolute()),
            Self::Length(text) => Ok(Number::Whole(text.text(subject)?.chars().count() as i128)),
            Self::Parsed(field) => {
                let take = |found: Found<'_>| match found {
                    Found::Number(number) => Ok(number),
                    Found::Text(text) => parse(&text),
                    other => Err(other.kind()),
                };
                let default = |text: &'s Text| {
                    let text = text.text(subject)?;
                    parse(&text).map_err(|found| Fault::Unlike { reference: &field.references[0], found, needed: Kind::Number })
                };
                field.resolve(subject, Kind::Number, take, default)
            }
        }
    }
}

/// The number that a text is the JSON of, blanks around it aside.
fn parse(text: &str) -> Result<Number, Kind> {
    let text = text.trim_ascii();
    let begins = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    let whole = begins && json::scan(text, &mut Vec::new()).is_ok();
    if whole { Number::read(text).ok_or(Kind::Huge) } else { Err(Kind::NoNumber) }
}

impl Text {
    fn text<'s>(&'s self, subject: &Subject<'s>) -> Result<Cow<'s, str>, Fault<'s>> {
        match self {
            Self::Constant(text) => Ok(Cow::Borrowed(text)),
            Self::Field(field) => {
                let take = |found: Found<'s>| if let Found::Text(text) = found { Ok(text) } else { Err(found.kind()) };
                field.resolve(subject, Kind::Text, take, |default| default.text(subject))
            }
            Self::Lower(text) => {
                let text = text.text(subject)?;
                Ok(if text.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase()) { text } else { Cow::Owned(text.to_lowercase()) })
            }
        }
    }
}
