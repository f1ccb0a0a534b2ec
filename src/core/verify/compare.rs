//! What is there, against what must be.
//!
//! | | equal means |
//! |---|---|
//! | a stream of one partition | it ends with the range's entries in their order, and some of the tail's; where it is shorter, it was trimmed as the write says |
//! | a stream of several | the same as a multiset: how their entries mingle is nobody's to say |
//! | a value | what was written last in the range, or since; it lives as long as the write says |
use super::model::{Entries, Lives, Print, Stream, Value, Written, kept_at_least};
use std::collections::HashMap;

/// What stands at a stream's key, its newest entries last: all, or more than the model has.
#[derive(Clone, Debug, Default)]
pub struct FoundStream {
    pub prints: Vec<Print>,
}

/// What stands at a value's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundValue {
    pub print: Print,
    /// In milliseconds; `None`: it stays for ever.
    pub ttl: Option<i64>,
}

/// What comparing came to, where it is no difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Equal {
    Yes,
    /// So many of the range's entries were trimmed.
    Trimmed(usize),
    /// The value has expired.
    Expired,
}

/// Compares a stream. `from_start`: nothing was ever before the range in its partitions.
///
/// # Errors
/// How they differ.
pub fn stream(expected: &Stream, found: &FoundStream, from_start: bool) -> Result<Equal, String> {
    let whole = expected.whole || from_start;
    let missing = match expected.sources.values().collect::<Vec<_>>().as_slice() {
        [] if found.prints.is_empty() => return Ok(Equal::Yes),
        [one] => sequence(one, found, whole)?,
        several => multiset(several, found, whole)?,
    };
    if missing == 0 {
        return Ok(Equal::Yes);
    }
    let Some(trim) = &expected.trim else { return Err(format!("{missing} entries are missing, and the write does not trim")) };
    match kept_at_least(Some(trim)) {
        Some(least) if found.prints.len() < least => {
            Err(format!("{missing} entries are missing: {} are left, and the write trims to {least} at the least", found.prints.len()))
        }
        _ => Ok(Equal::Trimmed(missing)),
    }
}

/// How many entries at the beginning are missing.
fn sequence(entries: &Entries, found: &FoundStream, whole: bool) -> Result<usize, String> {
    let Entries { prints, of_range } = entries;
    // How much of the tail is there: the bridge went on until it was looked at.
    let matched = |end: &usize| prints[..*end].iter().rev().zip(found.prints.iter().rev()).take_while(|(a, b)| a == b).count();
    let fits = |end: &usize| matched(end) == (*end).min(found.prints.len());
    let Some(end) = (*of_range..=prints.len()).find(fits) else {
        let best = (*of_range..=prints.len()).max_by_key(|end| matched(end)).unwrap_or(*of_range);
        let same = matched(&best);
        return Err(format!(
            "the entries part: the last {same} are equal, and the one before them is not ({} found, {} expected)",
            found.prints.len(),
            of_range
        ));
    };
    if whole && found.prints.len() > end {
        return Err(format!("there are entries before the first that no record accounts for ({} found, {end} expected)", found.prints.len()));
    }
    Ok(end.saturating_sub(found.prints.len()).min(*of_range))
}

fn multiset(sources: &[&Entries], found: &FoundStream, whole: bool) -> Result<usize, String> {
    let mut left: HashMap<Print, i64> = HashMap::new();
    found.prints.iter().for_each(|p| *left.entry(*p).or_default() += 1);
    let mut missing = 0;
    for print in sources.iter().flat_map(|s| &s.prints[..s.of_range]) {
        match left.get_mut(print) {
            Some(n) if *n > 0 => *n -= 1,
            _ => missing += 1,
        }
    }
    for print in sources.iter().flat_map(|s| &s.prints[s.of_range..]) {
        _ = left.get_mut(print).map(|n| *n -= 1);
    }
    let strange: i64 = left.values().filter(|n| **n > 0).sum();
    if whole && strange > 0 {
        return Err(format!("there are entries that no record accounts for ({strange} or more)"));
    }
    Ok(missing)
}

/// Compares a value, `tolerance` being allowed of its time to live, in milliseconds.
///
/// # Errors
/// How they differ.
pub fn value(expected: &Value, found: Option<FoundValue>, now_ms: i64, tolerance: i64) -> Result<Equal, String> {
    let candidates = || expected.last.values().chain(&expected.later);
    let Some(found) = found else {
        let gone = |w: &Written| match *w {
            Written::Nothing => Some(Equal::Yes),
            Written::Value { lives: Lives::Until(at), .. } => (at <= now_ms + tolerance).then_some(Equal::Expired),
            // It was written at this time at the earliest.
            Written::Value { lives: Lives::For(ms), time, .. } => time.is_none_or(|t| t + ms <= now_ms + tolerance).then_some(Equal::Expired),
            Written::Value { lives: Lives::Forever, .. } => None,
        };
        return candidates().find_map(gone).ok_or_else(|| "nothing is there".into());
    };
    let same: Vec<(Lives, Option<i64>)> = candidates()
        .filter_map(|w| match *w {
            Written::Value { print, lives, time } if print == found.print => Some((lives, time)),
            _ => None,
        })
        .collect();
    if same.is_empty() {
        return Err("another value is there".into());
    }
    let lives = |(lives, time): &(Lives, Option<i64>)| match (lives, found.ttl) {
        (Lives::Forever, ttl) => ttl.is_none(),
        (_, None) => false,
        (Lives::For(ms), Some(ttl)) => {
            let least = time.map_or(0, |t| ms - (now_ms - t));
            ttl <= ms + tolerance && ttl >= least - tolerance
        }
        (Lives::Until(at), Some(ttl)) => (at - now_ms - ttl).abs() <= tolerance,
    };
    if same.iter().any(lives) {
        return Ok(Equal::Yes);
    }
    let ttl = found.ttl.map_or_else(|| "for ever".into(), |ms| format!("for {ms} ms"));
    Err(format!("the value is right, and lives {ttl}, where the write says {:?}", same[0].0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::write::{Trim, TrimBy};

    fn entries(range: &[Print], tail: &[Print]) -> Entries {
        Entries { prints: [range, tail].concat(), of_range: range.len() }
    }

    fn expected(sources: &[Entries], maxlen: Option<u64>) -> Stream {
        let trim = maxlen.map(|n| Trim { by: TrimBy::MaxLen(n), exact: false, limit: None });
        Stream { sources: sources.iter().cloned().enumerate().collect(), trim, whole: false }
    }

    fn found(prints: &[Print]) -> FoundStream {
        FoundStream { prints: prints.to_vec() }
    }

    #[test]
    fn a_stream_of_one_partition_ends_with_its_entries_in_order() {
        let one = |range: &[Print], tail: &[Print]| expected(&[entries(range, tail)], None);
        for (e, f, from_start, equal) in [
            (one(&[1, 2, 3], &[]), found(&[1, 2, 3]), true, true),
            (one(&[1, 2, 3], &[4, 5]), found(&[1, 2, 3, 4]), true, true),
            (one(&[2, 3], &[]), found(&[1, 2, 3]), false, true),
            (one(&[2, 3], &[]), found(&[1, 2, 3]), true, false),
            (one(&[1, 2, 3], &[]), found(&[1, 3, 2]), true, false),
            (one(&[1, 2, 3], &[]), found(&[1, 2, 2, 3]), true, false),
            (one(&[1, 2, 3], &[]), found(&[2, 3]), true, false),
            (one(&[1, 2, 3], &[]), found(&[1, 2]), true, false),
            (one(&[1, 2], &[]), found(&[]), true, false),
            (one(&[], &[]), found(&[]), true, true),
        ] {
            assert_eq!(stream(&e, &f, from_start).is_ok(), equal, "{e:?} {f:?}");
        }
    }

    #[test]
    fn a_trimmed_stream_keeps_as_many_as_the_write_says() {
        let e = expected(&[entries(&[1, 2, 3, 4], &[])], Some(2));
        assert_eq!(stream(&e, &found(&[2, 3, 4]), true), Ok(Equal::Trimmed(1)));
        assert!(stream(&e, &found(&[4]), true).unwrap_err().contains("trims to 2"));
    }

    #[test]
    fn entries_of_several_partitions_may_mingle() {
        let e = expected(&[entries(&[1, 2], &[9]), entries(&[3, 3], &[])], None);
        for (f, equal) in
            [(vec![3, 1, 3, 2], true), (vec![1, 2, 3, 3, 9], true), (vec![1, 2, 3], false), (vec![1, 2, 3, 3, 3], false), (vec![1, 2, 3, 3, 7], false)]
        {
            assert_eq!(stream(&e, &found(&f), true).is_ok(), equal, "{f:?}");
        }
        assert!(stream(&e, &found(&[7, 1, 2, 3, 3]), false).is_ok(), "it may be older than the range");
    }

    #[test]
    fn a_value_is_the_last_one_or_a_later_one_and_lives_as_long_as_it_must() {
        let written = |print: Print, lives: Lives| Written::Value { print, lives, time: Some(1_000) };
        let e = |lives: Lives| Value { last: [(0, written(1, lives))].into(), later: vec![written(2, lives)] };
        let at = |print: Print, ttl: Option<i64>| Some(FoundValue { print, ttl });
        for (lives, found, equal) in [
            (Lives::Forever, at(1, None), true),
            (Lives::Forever, at(2, None), true),
            (Lives::Forever, at(3, None), false),
            (Lives::Forever, at(1, Some(5)), false),
            (Lives::Forever, None, false),
            (Lives::For(10_000), at(1, Some(6_000)), true),
            (Lives::For(10_000), at(1, Some(10_000)), true),
            (Lives::For(10_000), at(1, Some(12_000)), false),
            (Lives::For(10_000), at(1, Some(3_000)), false),
            (Lives::For(10_000), at(1, None), false),
            (Lives::For(10_000), None, false),
            (Lives::For(3_000), None, true),
            (Lives::Until(9_000), at(1, Some(4_000)), true),
            (Lives::Until(9_000), at(1, Some(6_000)), false),
            (Lives::Until(4_000), None, true),
        ] {
            assert_eq!(value(&e(lives), found, 5_000, 100).is_ok(), equal, "{lives:?} {found:?}");
        }
        let deleted = Value { last: [(0, Written::Nothing)].into(), later: Vec::new() };
        assert_eq!(value(&deleted, None, 0, 0), Ok(Equal::Yes));
        assert!(value(&deleted, at(1, None), 0, 0).is_err());
    }
}
