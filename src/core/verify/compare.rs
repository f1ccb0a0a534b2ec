//! What is there, against what must be.
//!
//! | | equal means |
//! |---|---|
//! | a stream of one partition | it ends with the range's entries in their order, and some of the tail's; where it is shorter, it was trimmed as the write says |
//! | a stream of several | the same as a multiset: how their entries mingle is nobody's to say; of each, what came after an entry that is left is left, too |
//! | a stream that others may add to as well | the range's entries are among what is there, so; the rest is not judged |
//! | a value | what was written last in the range, or since, or what is newest by `newer_by`; it lives as long as the write says |
//!
//! What can't be told either way is no difference, and said.
use super::model::{Entries, Kept, Lives, Print, Stream, Value, Written};
use super::others::May;
use std::collections::HashMap;

/// What stands at a stream's key.
#[derive(Clone, Debug, Default)]
pub struct FoundStream {
    /// Its newest entries, the newest last: as many as the model has and one more, and all that reach back to the range's first.
    pub prints: Vec<Print>,
    /// How many entries it had when all these had been read. The bridge adds and trims meanwhile.
    pub length: usize,
    /// Whether an entry behind its first one was deleted by its id; `None`: the server does not say.
    pub deleted: Option<bool>,
}

/// What stands at a value's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundValue {
    pub print: Print,
    /// In milliseconds; `None`: it stays for ever.
    pub ttl: Option<i64>,
}

/// What comparing came to, where it is no difference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Equal {
    /// So many of the range's entries were trimmed.
    pub trimmed: usize,
    /// Whether they were trimmed or deleted can't be told.
    pub blind: bool,
    /// The value has expired.
    pub expired: bool,
    /// What else can't be told, and why.
    pub untold: Option<String>,
}

impl Equal {
    fn untold(why: impl Into<String>) -> Self {
        Self { untold: Some(why.into()), ..Self::default() }
    }
}

/// Compares a stream. `from_start`: nothing was ever before the range in its partitions. `may`: what others may have done to it.
///
/// # Errors
/// How they differ.
pub fn stream(expected: &Stream, found: &FoundStream, from_start: bool, may: &May) -> Result<Equal, String> {
    let whole = expected.whole || from_start;
    let sources: Vec<&Entries> = expected.sources.values().collect();
    let alone = match sources.as_slice() {
        [] if found.prints.is_empty() => return Ok(Equal::default()),
        [one] => sequence(one, found, whole).and_then(|missing| trimmed(missing, expected.kept, found)),
        several => multiset(several, found, whole).and_then(|missing| mingled(missing, expected.kept, found)),
    };
    let Err(why) = alone else { return alone };
    if may.end || may.set.is_some() {
        return Ok(Equal::untold(format!("{why}; what is left out of the range may have deleted it")));
    }
    let Some(kept) = may.add.map(|theirs| theirs.min(expected.kept)) else { return Err(why) };
    let (equal, matched) = match sources.as_slice() {
        [one] => {
            let missing = among(one, found)?;
            (trimmed(missing, kept, found)?, one.of_range - missing)
        }
        several => {
            let missing = multiset(several, found, false)?;
            (mingled(missing, kept, found)?, several.iter().map(|s| s.of_range).sum::<usize>() - missing)
        }
    };
    let beside = found.prints.len().saturating_sub(matched);
    let untold = (beside > 0).then(|| format!("{beside} other entries stand among the range's, which what is left out of it may have added"));
    Ok(Equal { untold, ..equal })
}

/// Whether trimming accounts for what is missing at the beginning.
fn trimmed(missing: usize, kept: Kept, found: &FoundStream) -> Result<Equal, String> {
    match kept {
        _ if missing == 0 => Ok(Equal::default()),
        Kept::All => Err(format!("{missing} entries are missing, and the write does not trim")),
        Kept::AtLeast(least) if found.length < least => {
            Err(format!("{missing} entries are missing: {} are left, and the write trims to {least} at the least", found.length))
        }
        Kept::Newest if found.length == 0 => Err(format!("{missing} entries are missing: none is left, and trimming by minid leaves the newest")),
        Kept::AtLeast(_) => Ok(Equal { trimmed: missing, ..Equal::default() }),
        Kept::Newest => Ok(Equal { trimmed: missing, blind: true, ..Equal::default() }),
    }
}

/// The same of a stream of several, where what is missing may have stood anywhere.
fn mingled(missing: usize, kept: Kept, found: &FoundStream) -> Result<Equal, String> {
    let equal = trimmed(missing, kept, found)?;
    Ok(match found.deleted {
        _ if missing == 0 => equal,
        Some(false) => equal,
        Some(true) => Equal {
            untold: Some(format!("{missing} entries are missing, and some were deleted by their ids (XDEL) from what is left: whether those are among them")),
            ..equal
        },
        None => Equal { blind: true, ..equal },
    })
}

/// How many entries at the beginning are missing.
fn sequence(entries: &Entries, found: &FoundStream, whole: bool) -> Result<usize, String> {
    let Entries { prints, of_range } = entries;
    // How much of the tail is there: the bridge went on until it was looked at.
    let matched = |end: &usize| prints[..*end].iter().rev().zip(found.prints.iter().rev()).take_while(|(a, b)| a == b).count();
    let fits = |end: &usize| matched(end) == (*end).min(found.prints.len());
    // Where entries repeat, several ends fit: one by which nothing strange stands there comes first.
    let beyond = found.prints.len().clamp(*of_range, prints.len());
    let Some(end) = (beyond..=prints.len()).find(fits).or_else(|| (*of_range..beyond).find(fits)) else {
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

/// How many entries at the beginning are missing, where others stand among them.
fn among(entries: &Entries, found: &FoundStream) -> Result<usize, String> {
    let range = &entries.prints[..entries.of_range];
    let mut there = found.prints.iter().rev();
    let in_order = range.iter().rev().take_while(|print| there.any(|p| p == *print)).count();
    let missing = range.len() - in_order;
    if first_kept(&[entries], found)[0] < missing {
        return Err(format!("entries are missing, or out of order: the last {in_order} of the range's {} are there in their order", range.len()));
    }
    Ok(missing)
}

/// For each source, the first of its entries in the range that is certainly there: no other entry looks the same.
fn first_kept(sources: &[&Entries], found: &FoundStream) -> Vec<usize> {
    let mut copies: HashMap<Print, usize> = HashMap::new();
    sources.iter().flat_map(|s| &s.prints).for_each(|p| *copies.entry(*p).or_default() += 1);
    let there: HashMap<Print, ()> = found.prints.iter().map(|p| (*p, ())).collect();
    let certain = |p: &Print| copies[p] == 1 && there.contains_key(p);
    sources.iter().map(|s| s.prints[..s.of_range].iter().position(certain).unwrap_or(s.of_range)).collect()
}

/// How many entries are missing.
fn multiset(sources: &[&Entries], found: &FoundStream, whole: bool) -> Result<usize, String> {
    let mut left: HashMap<Print, i64> = HashMap::new();
    found.prints.iter().for_each(|p| *left.entry(*p).or_default() += 1);
    let mut take = |print: &Print| match left.get_mut(print) {
        Some(n) if *n > 0 => {
            *n -= 1;
            false
        }
        _ => true,
    };
    // A trim takes the oldest: what its own partition added after an entry that is left must be left.
    let kept = first_kept(sources, found);
    let inside = sources.iter().zip(&kept).flat_map(|(s, first)| &s.prints[*first..s.of_range]).filter(|p| take(p)).count();
    if inside > 0 {
        return Err(format!("{inside} entries are missing, and older ones of the same partition are there"));
    }
    let missing = sources.iter().zip(&kept).flat_map(|(s, first)| &s.prints[..*first]).filter(|p| take(p)).count();
    for print in sources.iter().flat_map(|s| &s.prints[s.of_range..]) {
        _ = left.get_mut(print).map(|n| *n -= 1);
    }
    let strange: i64 = left.values().filter(|n| **n > 0).sum();
    if whole && strange > 0 {
        return Err(format!("there are entries that no record accounts for ({strange} or more)"));
    }
    Ok(missing)
}

/// Compares a value, `tolerance` being allowed of its time to live, in milliseconds; it was looked at at this time.
///
/// # Errors
/// How they differ.
pub fn value(expected: &Value, found: Option<FoundValue>, now_ms: i64, tolerance: i64, may: &May) -> Result<Equal, String> {
    let alone = sole_value(expected, found, now_ms, tolerance);
    let Err(why) = alone else { return alone };
    let shorter =
        |lives: u64| expected.may_be().any(|w| !matches!(w, Written::Value { lives: Lives::For(ms), .. } if u64::try_from(*ms).is_ok_and(|ms| ms <= lives)));
    let theirs = may.end || may.set.is_some_and(|lives| found.is_some() || (lives < u64::MAX && shorter(lives)));
    if theirs { Ok(Equal::untold(format!("{why}; what is left out of the range may have done that"))) } else { Err(why) }
}

fn sole_value(expected: &Value, found: Option<FoundValue>, now_ms: i64, tolerance: i64) -> Result<Equal, String> {
    let candidates = || expected.may_be();
    let Some(found) = found else {
        let expired = || Equal { expired: true, ..Equal::default() };
        let gone = |w: &Written| match *w {
            Written::Nothing => Some(Equal::default()),
            Written::Value { lives: Lives::Until(at), .. } => (at <= now_ms + tolerance).then_some(expired()),
            // It was written at this time at the earliest.
            Written::Value { lives: Lives::For(ms), time, .. } => time.is_none_or(|t| t + ms <= now_ms + tolerance).then_some(expired()),
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
            // A time ahead of ours says nothing of when it was written.
            let least = time.filter(|t| *t <= now_ms).map_or(0, |t| ms - (now_ms - t));
            ttl <= ms + tolerance && ttl >= least - tolerance
        }
        (Lives::Until(at), Some(ttl)) => (at - now_ms - ttl).abs() <= tolerance,
    };
    if same.iter().any(lives) {
        return Ok(Equal::default());
    }
    let ttl = found.ttl.map_or_else(|| "for ever".into(), |ms| format!("for {ms} ms"));
    Err(format!("the value is right, and lives {ttl}, where the write says {:?}", same[0].0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: May = May { add: None, set: None, end: false };
    const BESIDE: May = May { add: Some(Kept::All), ..ALONE };

    fn entries(range: &[Print], tail: &[Print]) -> Entries {
        Entries { prints: [range, tail].concat(), of_range: range.len() }
    }

    fn expected(sources: &[Entries], kept: Kept) -> Stream {
        Stream { sources: sources.iter().cloned().enumerate().collect(), kept, whole: false }
    }

    fn found(prints: &[Print]) -> FoundStream {
        FoundStream { prints: prints.to_vec(), length: prints.len(), deleted: Some(false) }
    }

    #[test]
    fn a_stream_of_one_partition_ends_with_its_entries_in_order() {
        let one = |range: &[Print], tail: &[Print]| expected(&[entries(range, tail)], Kept::All);
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
            // All look the same.
            (one(&[1, 1], &[1]), found(&[1, 1, 1]), true, true),
            (one(&[1, 1], &[1]), found(&[1, 1, 1, 1]), true, false),
        ] {
            assert_eq!(stream(&e, &f, from_start, &ALONE).is_ok(), equal, "{e:?} {f:?}");
        }
    }

    #[test]
    fn a_trimmed_stream_keeps_as_many_as_the_write_says() {
        let e = expected(&[entries(&[1, 2, 3, 4], &[])], Kept::AtLeast(2));
        assert_eq!(stream(&e, &found(&[2, 3, 4]), true, &ALONE), Ok(Equal { trimmed: 1, ..Equal::default() }));
        assert!(stream(&e, &found(&[4]), true, &ALONE).unwrap_err().contains("trims to 2"));
        // The bridge added another, and trimmed, while it was read from its end on.
        let trimmed_meanwhile = FoundStream { length: 2, ..found(&[4]) };
        assert_eq!(stream(&e, &trimmed_meanwhile, true, &ALONE), Ok(Equal { trimmed: 3, ..Equal::default() }));
    }

    #[test]
    fn behind_minid_the_newest_is_left_and_of_the_others_nothing_is_told() {
        let e = expected(&[entries(&[1, 2, 3], &[])], Kept::Newest);
        assert_eq!(stream(&e, &found(&[3]), true, &ALONE), Ok(Equal { trimmed: 2, blind: true, ..Equal::default() }));
        assert_eq!(stream(&e, &found(&[1, 2, 3]), true, &ALONE), Ok(Equal::default()));
        assert!(stream(&e, &found(&[]), true, &ALONE).unwrap_err().contains("none is left"));
        assert!(stream(&e, &found(&[1, 3]), true, &ALONE).is_err());
    }

    #[test]
    fn entries_of_several_partitions_may_mingle() {
        let e = expected(&[entries(&[1, 2], &[9]), entries(&[3, 3], &[])], Kept::All);
        for (f, equal) in
            [(vec![3, 1, 3, 2], true), (vec![1, 2, 3, 3, 9], true), (vec![1, 2, 3], false), (vec![1, 2, 3, 3, 3], false), (vec![1, 2, 3, 3, 7], false)]
        {
            assert_eq!(stream(&e, &found(&f), true, &ALONE).is_ok(), equal, "{f:?}");
        }
        assert!(stream(&e, &found(&[7, 1, 2, 3, 3]), false, &ALONE).is_ok(), "it may be older than the range");
    }

    #[test]
    fn what_was_deleted_in_the_midst_of_mingled_entries_is_no_trimming() {
        let e = expected(&[entries(&[1, 2, 3], &[]), entries(&[4, 5, 5], &[])], Kept::AtLeast(2));
        let trimmed = |trimmed| Ok(Equal { trimmed, ..Equal::default() });
        assert_eq!(stream(&e, &found(&[2, 5, 5, 3]), true, &ALONE), trimmed(2));
        assert!(stream(&e, &found(&[1, 5, 5, 3]), true, &ALONE).unwrap_err().contains("older ones of the same partition"));
        assert!(stream(&e, &found(&[4, 5, 3]), true, &ALONE).is_err());
        // 2 may have been trimmed, were it not that 1, older or not, was deleted by its id.
        let deleted = FoundStream { deleted: Some(true), ..found(&[4, 3, 5, 5]) };
        assert!(stream(&e, &deleted, true, &ALONE).unwrap().untold.unwrap().contains("XDEL"));
        let old_server = FoundStream { deleted: None, ..found(&[4, 3, 5, 5]) };
        assert_eq!(stream(&e, &old_server, true, &ALONE), Ok(Equal { trimmed: 2, blind: true, ..Equal::default() }));
    }

    #[test]
    fn where_others_may_add_the_ranges_entries_are_among_what_is_there_and_the_rest_is_not_judged() {
        let one = expected(&[entries(&[1, 2, 3], &[4])], Kept::All);
        let several = expected(&[entries(&[1, 2], &[]), entries(&[3], &[])], Kept::All);
        for (e, f, other) in [(&one, vec![1, 2, 3], 0), (&one, vec![7, 1, 8, 2, 3, 9], 3), (&several, vec![7, 3, 1, 9, 2], 2)] {
            assert!(other == 0 || stream(e, &found(&f), true, &ALONE).is_err(), "alone it differs: {f:?}");
            let equal = stream(e, &found(&f), true, &BESIDE).unwrap();
            let told = equal.untold.map_or(String::new(), |why| why);
            assert!(equal.trimmed == 0 && told.starts_with(&if other > 0 { format!("{other} other entries") } else { String::new() }), "{f:?}: {told}");
        }
        for (e, f) in [(&one, vec![7, 1, 3, 9]), (&one, vec![1, 3, 2, 9]), (&one, vec![7, 2, 3]), (&several, vec![1, 9, 3]), (&several, vec![9])] {
            assert!(stream(e, &found(&f), true, &BESIDE).is_err(), "{f:?}");
        }
        let trims = May { add: Some(Kept::AtLeast(2)), ..May::default() };
        assert_eq!(stream(&one, &found(&[9, 3]), true, &trims).unwrap().trimmed, 2, "they trim it, too");
        assert!(stream(&one, &found(&[1, 9, 3]), true, &trims).is_err(), "but from its beginning");
        let ends = May { end: true, ..May::default() };
        assert!(stream(&one, &found(&[]), true, &ends).unwrap().untold.unwrap().contains("may have deleted it"));
    }

    #[test]
    fn a_value_is_the_last_one_or_a_later_one_and_lives_as_long_as_it_must() {
        let written = |print: Print, lives: Lives| Written::Value { print, lives, time: Some(1_000) };
        let e = |lives: Lives| Value { last: [(0, written(1, lives))].into(), later: vec![written(2, lives)], ..Value::default() };
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
            assert_eq!(value(&e(lives), found, 5_000, 100, &ALONE).is_ok(), equal, "{lives:?} {found:?}");
        }
        let deleted = Value { last: [(0, Written::Nothing)].into(), ..Value::default() };
        assert_eq!(value(&deleted, None, 0, 0, &ALONE), Ok(Equal::default()));
        assert!(value(&deleted, at(1, None), 0, 0, &ALONE).is_err());
    }

    #[test]
    fn a_value_that_others_may_have_written_is_not_judged_and_one_that_is_gone_is() {
        let e = Value { last: [(0, Written::Value { print: 1, lives: Lives::For(9_000), time: Some(1_000) })].into(), ..Value::default() };
        let other = Some(FoundValue { print: 7, ttl: Some(5_000) });
        let told = |found, may: May| value(&e, found, 2_000, 0, &may).map(|equal| equal.untold.is_some());
        let sets = |lives| May { set: Some(lives), ..May::default() };
        assert_eq!((told(other, ALONE).is_err(), told(other, sets(9_000))), (true, Ok(true)));
        assert!(told(None, sets(9_000)).is_err(), "theirs would live as long");
        assert_eq!(told(None, sets(8_999)), Ok(true), "theirs may have expired");
        assert_eq!(told(None, May { end: true, ..May::default() }), Ok(true));
        let same = Some(FoundValue { print: 1, ttl: Some(8_500) });
        assert_eq!(told(same, sets(1)), Ok(false));
    }
}
