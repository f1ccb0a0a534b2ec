//! Where a range begins and ends, as a person says it: half-open, as Kafka's offsets are.
use crate::core::words::counted;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::str::FromStr;

/// A place in a partition's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Earliest,
    Latest,
    Offset(i64),
    /// So many before the end.
    Before(i64),
}

/// The offsets that Kafka holds of a partition: `[low, high)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub low: i64,
    pub high: i64,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no offset: a number, earliest, latest, or -N for N records before the end");
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten().ok_or_else(wrong);
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            _ => match text.strip_prefix('-') {
                Some(before) => digits(before).map(Self::Before),
                None => digits(text).map(Self::Offset),
            },
        }
    }
}

impl Target {
    /// Its place in a log, the nearest where it lies outside.
    fn within(self, held: Held) -> Resolved {
        let Held { low, high } = held;
        let wanted = match self {
            Self::Earliest => low,
            Self::Latest => high,
            Self::Offset(offset) => offset,
            Self::Before(n) => high.saturating_sub(n),
        };
        let (mut outside, mut note) = (None, None);
        if !(low..=high).contains(&wanted) {
            match self {
                // So many as there are.
                Self::Before(n) => note = Some(format!("-{n} is more than Kafka holds, [{low}, {high}): it is the earliest, {low}")),
                _ => outside = Some(format!("{wanted} lies outside of what Kafka holds, [{low}, {high})")),
            }
        }
        Resolved { offset: wanted.clamp(low, high), outside, note }
    }
}

/// The same, for all partitions or for each of some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offsets {
    All(Target),
    Each(BTreeMap<i32, Target>),
}

impl FromStr for Offsets {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.contains(':') {
            return text.parse().map(Self::All);
        }
        let mut each = BTreeMap::new();
        for part in text.split(',') {
            let wrong = || format!("{part:?} is no PARTITION:OFFSET, such as 0:120000");
            let (partition, target) = part.split_once(':').ok_or_else(wrong)?;
            let partition = partition.parse::<u16>().map(i32::from).map_err(|_| wrong())?;
            if each.insert(partition, target.parse()?).is_some() {
                return Err(format!("partition {partition} stands twice in {text:?}"));
            }
        }
        Ok(Self::Each(each))
    }
}

impl Offsets {
    /// The target in one partition.
    ///
    /// # Errors
    /// It says nothing of this one.
    pub fn of(&self, partition: i32) -> Result<Target, String> {
        match self {
            Self::All(target) => Ok(*target),
            Self::Each(each) => each.get(&partition).copied().ok_or_else(|| "no offset is given for it".into()),
        }
    }
}

/// A moment: RFC 3339, milliseconds since the epoch, or a span back, as `-2h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    At(i64),
    /// So many milliseconds ago.
    Back(i64),
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no time: RFC 3339 as 2026-11-20T00:00:00Z, milliseconds since the epoch, or a span back as -2h");
        if let Some(span) = text.strip_prefix('-') {
            let span = humantime::parse_duration(span).map_err(|_| wrong())?;
            return i64::try_from(span.as_millis()).map(Self::Back).map_err(|_| wrong());
        }
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return text.parse().map(Self::At).map_err(|_| wrong());
        }
        text.parse::<Timestamp>().map(|t| Self::At(t.as_millisecond())).map_err(|_| wrong())
    }
}

impl Moment {
    /// In milliseconds since the epoch.
    pub fn at(self, now_ms: i64) -> i64 {
        match self {
            Self::At(ms) => ms,
            Self::Back(ms) => now_ms.saturating_sub(ms),
        }
    }
}

/// One end of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    Offsets(Offsets),
    /// The first record at or after this time, in milliseconds since the epoch.
    Time(i64),
}

impl Bound {
    /// The partitions that it names, where it does.
    pub fn named(&self) -> Option<Vec<i32>> {
        if let Self::Offsets(Offsets::Each(each)) = self { Some(each.keys().copied().collect()) } else { None }
    }

    /// Whether it can't mean the same in several partitions.
    pub fn is_of_one(&self) -> bool {
        matches!(self, Self::Offsets(Offsets::All(Target::Offset(_))))
    }

    /// The place in one partition. `found`: the first record at or after the time, `None` where there is none. `begins`: a
    /// range begins there, and what was deleted before it may be of the range.
    ///
    /// # Errors
    /// It says nothing of this partition.
    pub fn resolve(&self, partition: i32, held: Held, found: Option<i64>, begins: bool) -> Result<Resolved, String> {
        let Held { low, high } = held;
        let place = |wanted: i64, outside: Option<String>| Resolved { offset: wanted.clamp(low, high), outside, note: None };
        match self {
            Self::Offsets(offsets) => Ok(offsets.of(partition)?.within(held)),
            Self::Time(_) if begins && low > 0 && low == high => Ok(Resolved {
                note: Some(format!("Kafka holds nothing of it any more: what was before {low} was deleted, whatever its time")),
                ..place(high, None)
            }),
            Self::Time(_) => {
                let outside = (begins && low > 0 && found.is_some_and(|f| f <= low))
                    .then(|| format!("a time before what Kafka still holds, [{low}, {high}): records of the range may have been deleted"));
                Ok(place(found.unwrap_or(high), outside))
            }
        }
    }
}

/// Where a bound lies in what Kafka holds of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Within what Kafka holds.
    pub offset: i64,
    /// It was asked for somewhere else: a range that is not clamped does not begin or end there.
    pub outside: Option<String>,
    /// What a person should know.
    pub note: Option<String>,
}

/// Those of a topic's partitions, of which there are so many, that the bounds and the list are about; all where nothing names some.
///
/// # Errors
/// They are about different ones, or about one that is not there; or a bound is of one, and these are several.
pub fn partitions(topic: &str, there: i32, list: Option<&[i32]>, bounds: &[&Bound]) -> Result<Vec<i32>, String> {
    let mut all: Option<Vec<i32>> = list.map(<[i32]>::to_vec);
    for named in bounds.iter().filter_map(|bound| bound.named()) {
        match &all {
            Some(known) if *known != named => {
                return Err(format!(
                    "the offsets are about partitions {named:?}, and --partition or the other end about {known:?}: all that names partitions must name the same"
                ));
            }
            _ => all = Some(named),
        }
    }
    if let Some(missing) = all.iter().flatten().find(|p| **p >= there) {
        return Err(format!("topic {topic} has {}: there is no {missing}", counted(there, "partition")));
    }
    let all = all.unwrap_or_else(|| (0..there).collect());
    if all.len() > 1 && bounds.iter().any(|bound| bound.is_of_one()) {
        return Err(OF_ONE.into());
    }
    Ok(all)
}

/// What is said of an offset without a partition where there are several.
pub const OF_ONE: &str = "an offset is a number of one partition: name it (--topic, --partition 3), give one for each (0:120000,3:450000), or use a time";

#[cfg(test)]
mod tests {
    use super::*;

    const HELD: Held = Held { low: 3, high: 9 };

    #[test]
    fn a_target_is_an_offset_within_the_log_or_a_mistake_that_says_so() {
        let within = |text: &str| Target::from_str(text).unwrap().within(HELD);
        for (text, to) in [("earliest", 3), ("latest", 9), ("5", 5), ("-2", 7), ("-6", 3), ("9", 9)] {
            assert_eq!(within(text), Resolved { offset: to, outside: None, note: None }, "{text}");
        }
        for (text, to) in [("2", 3), ("10", 9)] {
            let place = within(text);
            assert!(place.offset == to && place.note.is_none() && place.outside.unwrap().contains("[3, 9)"), "{text}");
        }
        for text in ["-7", "-100", "-9223372036854775807"] {
            let place = within(text);
            assert!(place.offset == 3 && place.outside.is_none() && place.note.unwrap().contains("the earliest, 3"), "{text}");
        }
        for text in ["soon", "", "-", "--2", "-+2", "+2", "1e3"] {
            assert!(Target::from_str(text).unwrap_err().contains("earliest"), "{text}");
        }
    }

    #[test]
    fn bounds_resolve_alike_for_all_partitions_or_for_each() {
        let bound = |text: &str| Bound::Offsets(text.parse().unwrap());
        let resolve = |bound: Bound, found| bound.resolve(3, HELD, found, true).map(|place| (place.offset, place.outside.is_some()));
        assert_eq!(resolve(bound("0:5,3:-1"), None), Ok((8, false)));
        assert!(resolve(bound("0:5"), None).is_err());
        assert_eq!(resolve(bound("-100"), None), Ok((3, false)));
        for (text, to) in [("2", 3), ("100", 9)] {
            assert_eq!(resolve(bound(text), None), Ok((to, true)), "{text}");
        }
        assert_eq!(resolve(Bound::Time(7), Some(6)), Ok((6, false)));
        assert_eq!(resolve(Bound::Time(7), None), Ok((9, false)), "nothing at or after it: the end");
        for wrong in ["0:5,", "0:5,0:6", "a:5", "0:x", ":5", "-1:5"] {
            assert!(Offsets::from_str(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_before_what_kafka_still_holds_is_told_where_something_may_have_been_lost() {
        let at = |held: Held, found, begins| Bound::Time(7).resolve(0, held, found, begins).unwrap();
        assert!(at(HELD, Some(3), true).outside.unwrap().contains("[3, 9)"));
        assert_eq!(at(HELD, Some(3), false).outside, None, "where a range ends nothing before it is wanted");
        assert_eq!(at(Held { low: 0, high: 9 }, Some(0), true).outside, None, "nothing was ever deleted");
        let nothing = at(Held { low: 9, high: 9 }, None, true);
        assert_eq!((nothing.offset, nothing.outside), (9, None));
        assert!(nothing.note.unwrap().contains("deleted"));
    }

    #[test]
    fn moments_are_times_or_spans_back() {
        let at = |text: &str| Moment::from_str(text).map(|m| m.at(10_000_000));
        assert_eq!(at("1766000000000"), Ok(1_766_000_000_000));
        assert_eq!(at("-2h"), Ok(2_800_000));
        assert_eq!(at("1970-01-01T00:00:05Z"), Ok(5_000));
        assert_eq!(at("1970-01-01T02:00:05+02:00"), Ok(5_000));
        for wrong in ["2h", "yesterday", "", "-", "1970-01-01", "1970-01-01T00:00:05"] {
            assert!(at(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn both_ends_and_the_list_are_about_the_same_partitions() {
        let bound = |text: &str| Bound::Offsets(text.parse().unwrap());
        let of = |list: Option<&[i32]>, from: &str, to: &str| partitions("t", 4, list, &[&bound(from), &bound(to)]);
        assert_eq!(of(None, "earliest", "latest"), Ok(vec![0, 1, 2, 3]));
        assert_eq!(of(None, "0:1,3:2", "latest"), Ok(vec![0, 3]));
        assert_eq!(of(Some(&[1, 2]), "earliest", "-1"), Ok(vec![1, 2]));
        assert!(of(Some(&[1]), "0:1", "latest").is_err());
        assert!(of(None, "0:1", "1:1").is_err());
        assert!(of(Some(&[4]), "earliest", "latest").is_err_and(|e| e.contains("there is no 4")));
    }

    #[test]
    fn a_number_without_a_partition_is_of_a_topic_of_one_or_of_the_one_that_is_named() {
        let of = |there, list: Option<&[i32]>| partitions("t", there, list, &[&Bound::Offsets("5".parse().unwrap())]);
        assert_eq!(of(1, None), Ok(vec![0]));
        assert_eq!(of(2, Some(&[1])), Ok(vec![1]));
        assert_eq!(of(2, None), Err(OF_ONE.into()));
        assert_eq!(of(3, Some(&[0, 2])), Err(OF_ONE.into()));
    }
}
