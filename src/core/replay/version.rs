//! Which of two values is newer: by a number or a time that a template finds in each of them.
use crate::core::decode::{Document, Scratch};
use crate::core::record::{Record, TopicPartition};
use crate::core::template::Template;
use jiff::Timestamp;
use jiff::civil::DateTime;
use std::cmp::Ordering;

/// What a value says of its age. Numbers are compared with numbers, times with times.
#[derive(Clone, Debug, PartialEq)]
pub enum Version {
    Whole(i128),
    Real(f64),
    /// Nanoseconds since the epoch.
    Time(i128),
}

impl Version {
    /// A whole number of any sign, a decimal one, RFC 3339, or the same without an offset, which is UTC.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Ok(whole) = text.parse() {
            return Some(Self::Whole(whole));
        }
        if let Some(real) = text.parse::<f64>().ok().filter(|r| r.is_finite()) {
            return Some(Self::Real(real));
        }
        let time = text.parse::<Timestamp>().or_else(|_| text.parse::<DateTime>().and_then(|d| d.to_zoned(jiff::tz::TimeZone::UTC)).map(|z| z.timestamp()));
        time.ok().map(|t| Self::Time(t.as_nanosecond()))
    }

    /// What a template finds in a value; `None` where that is nothing that can be compared.
    pub fn of(value: &[u8], newer_by: &Template) -> Option<Self> {
        let mut scratch = Scratch::default();
        let document = Document::parse(std::str::from_utf8(value).ok()?, &mut scratch).ok()?;
        // The template asks for fields alone.
        let none = Record::copy(TopicPartition::new("", 0), 0, None, None, None, []);
        let mut found = Vec::new();
        newer_by.render(&none, Some(&document), &mut found).ok()?;
        Self::parse(std::str::from_utf8(&found).ok()?)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        #[allow(clippy::cast_precision_loss, reason = "beside a number that is none")]
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) | (Self::Time(a), Self::Time(b)) => a.partial_cmp(b),
            (Self::Real(a), Self::Real(b)) => a.partial_cmp(b),
            (Self::Whole(a), Self::Real(b)) => (*a as f64).partial_cmp(b),
            (Self::Real(a), Self::Whole(b)) => a.partial_cmp(&(*b as f64)),
            (Self::Time(_), _) | (_, Self::Time(_)) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_each_compared_exactly_and_never_with_the_other() {
        let order = |a: &str, b: &str| Version::parse(a)?.partial_cmp(&Version::parse(b)?);
        for (older, newer) in [
            ("9", "10"),
            ("-2", "-1"),
            ("1766000000000000001", "1766000000000000002"),
            ("1.5", "2"),
            ("1e3", "1000.5"),
            ("2025-12-06T14:00:00", "2025-12-06T14:00:01"),
            ("2025-12-06T14:00:00.000000001Z", "2025-12-06T14:00:00.000000002Z"),
            ("2025-12-06T14:00:00+02:00", "2025-12-06T13:00:00Z"),
            ("2025-12-06T14:00:00", "2025-12-06T14:00:00.5Z"),
        ] {
            assert_eq!(order(older, newer), Some(Ordering::Less), "{older} {newer}");
            assert_eq!(order(newer, older), Some(Ordering::Greater), "{older} {newer}");
        }
        assert_eq!(order("2025-12-06T14:00:00", "2025-12-06T14:00:00Z"), Some(Ordering::Equal));
        for (a, b) in [("5", "2025-12-06T14:00:00"), ("soon", "5"), ("", "5"), ("NaN", "5"), ("inf", "5")] {
            assert_eq!(order(a, b), None, "{a} {b}");
        }
    }

    #[test]
    fn the_version_stands_in_the_value_or_there_is_none() {
        let by = Template::parse("{value.t}").unwrap();
        assert_eq!(Version::of(br#"{"t":7}"#, &by), Some(Version::Whole(7)));
        for without in [&br#"{"u":7}"#[..], b"7", b"{", b"\xff", br#"{"t":null}"#, br#"{"t":"x"}"#] {
            assert_eq!(Version::of(without, &by), None, "{without:?}");
        }
    }
}
