//! What is there, against what must be.
//!
//! | | equal means |
//! |---|---|
//! | a stream of one partition | it ends with the range's entries in their order, and some of the tail's; where it is shorter, it was trimmed as the write says |
//! | a stream of several | the same as a multiset: how their entries mingle is nobody's to say; of each, what came after an entry that is left is left, too; and behind the first ones of the range nothing stands more often than it was written |
//! | a stream that others may add to as well | the range's entries are among what is there, so; the rest is not judged |
//! | a value | what was written last in the range, or since, or what is newest by `newer_by`; it lives as long as the write says |
//!
//! What can't be told either way is no difference, and said.
#[cfg(test)]
mod tests;

use super::model::{Entries, Kept, Lives, Print, Stream, Value, Written};
use super::others::May;
use crate::core::words;
use std::collections::{BTreeSet, HashMap};

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

/// Compares a stream. `older`: the sources that may have added something before the range; `None`: nothing was ever before it.
/// `may`: what others may have done to it.
///
/// # Errors
/// How they differ.
pub fn stream(expected: &Stream, found: &FoundStream, older: Option<&BTreeSet<usize>>, may: &May) -> Result<Equal, String> {
    let whole = expected.whole || older.is_none();
    let sources: Vec<&Entries> = expected.sources.values().collect();
    let alone = match sources.as_slice() {
        [] if found.prints.is_empty() => return Ok(Equal::default()),
        [one] if older.into_iter().flatten().all(|source| expected.sources.contains_key(source)) => {
            sequence(one, found, whole).and_then(|missing| trimmed(missing, expected.kept, found))
        }
        // Older entries of others may stand among those of one.
        several => {
            let equal = multiset(several, found, whole).and_then(|missing| mingled(missing, expected.kept, found));
            equal.and_then(|equal| match older {
                Some(older) if !whole => once(expected, found, older, equal),
                _ => Ok(equal),
            })
        }
    };
    let Err(why) = alone else { return alone };
    if may.end || may.set.is_some() {
        return Ok(Equal::untold(format!("{why}; records that were left out of the range may have deleted it")));
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
    let untold = (beside > 0).then(|| {
        format!("beside the range's entries there {}, which others may have added", if beside == 1 { "is 1 more".into() } else { format!("are {beside} more") })
    });
    Ok(Equal { untold, ..equal })
}

/// Whether trimming accounts for what is missing at the beginning.
fn trimmed(missing: usize, kept: Kept, found: &FoundStream) -> Result<Equal, String> {
    let gone = words::missing(missing, "entry");
    match kept {
        _ if missing == 0 => Ok(Equal::default()),
        Kept::All => Err(format!("{gone}, and the write does not trim")),
        Kept::AtLeast(least) if found.length < least => Err(format!("{gone}: {} left, and the write trims to {least} at the least", found.length)),
        Kept::Newest if found.length == 0 => Err(format!("{gone}: none is left, and trimming by minid leaves the newest")),
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
            untold: Some(format!(
                "{}, and some were deleted by their ids (XDEL) from what is left: whether those are among them",
                words::missing(missing, "entry")
            )),
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
    let copies = copies(sources.iter().flat_map(|s| &s.prints));
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
        return Err(format!("{}, and older ones of the same partition are there", words::missing(inside, "entry")));
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

/// Whether no entry stands there more often than it was written, in a stream of several whose older entries are not known.
/// Behind an entry of the range nothing older of its source can come: where that is so of all sources, all is known.
fn once(expected: &Stream, found: &FoundStream, older: &BTreeSet<usize>, equal: Equal) -> Result<Equal, String> {
    let most = copies(expected.sources.values().flat_map(|s| &s.prints));
    let there = copies(&found.prints);
    let last: HashMap<Print, usize> = found.prints.iter().enumerate().map(|(at, p)| (*p, at)).collect();
    // Where those of its entries stand last that no other looks like.
    let places = |entries: &Entries, up_to: usize| -> Vec<(Print, usize)> {
        entries.prints[..up_to].iter().filter(|p| most[*p] == 1).filter_map(|p| Some((*p, *last.get(p)?))).collect()
    };
    let first_of = |source: &usize| expected.sources.get(source).and_then(|s| places(s, s.of_range).into_iter().map(|(_, at)| at).min());
    if let Some(from) = older.iter().try_fold(0, |from, source| Some(from.max(first_of(source)?))) {
        let beyond: usize = copies(&found.prints[from..]).into_iter().map(|(p, n)| n.saturating_sub(most.get(&p).copied().unwrap_or(0))).sum();
        // One of two that stands behind what came after it is not the one of the two that was written then.
        let late = expected.sources.values().map(|source| {
            let (mut late, mut next) = (0, usize::MAX);
            for (print, at) in places(source, source.prints.len()).into_iter().rev() {
                match there[&print] {
                    1 => next = next.min(at),
                    _ => late += usize::from(at >= from && at > next),
                }
            }
            late
        });
        match beyond.max(late.sum()) {
            0 => {}
            n => {
                return Err(format!(
                    "no record accounts for {} behind the range's first ones, or what was written once stands there twice",
                    words::counted(n, "entry")
                ));
            }
        }
    }
    let twice: usize = there.into_iter().filter_map(|(p, n)| Some(n.saturating_sub(*most.get(&p)?))).sum();
    let why = || {
        format!(
            "{} like one of the range: older, or that one stands there twice",
            if twice == 1 { "1 entry looks".into() } else { format!("{twice} entries look") }
        )
    };
    Ok(if twice > 0 && equal.untold.is_none() { Equal { untold: Some(why()), ..equal } } else { equal })
}

/// How often each stands there.
fn copies<'p>(prints: impl IntoIterator<Item = &'p Print>) -> HashMap<Print, usize> {
    let mut copies = HashMap::new();
    prints.into_iter().for_each(|p| *copies.entry(*p).or_default() += 1);
    copies
}

/// What times to live are judged by, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// When the value was looked at.
    pub now: i64,
    /// How far one may be off.
    pub tolerance: i64,
    /// How far producers' clocks are known to be ahead: a record may have been written so long before its time.
    pub ahead: i64,
}

/// Compares a value.
///
/// # Errors
/// How they differ.
pub fn value(expected: &Value, found: Option<FoundValue>, times: Times, may: &May) -> Result<Equal, String> {
    let alone = sole_value(expected, found, Times { ahead: 0, ..times });
    let Err(why) = alone else { return alone };
    if let Ok(equal) = sole_value(expected, found, times) {
        let why = format!("{why}; clocks of producers are up to {} ms ahead", times.ahead);
        return Ok(Equal { untold: Some(why), ..equal });
    }
    let shorter =
        |lives: u64| expected.may_be().any(|w| !matches!(w, Written::Value { lives: Lives::For(ms), .. } if u64::try_from(*ms).is_ok_and(|ms| ms <= lives)));
    let theirs = may.end || may.set.is_some_and(|lives| found.is_some() || (lives < u64::MAX && shorter(lives)));
    if theirs { Ok(Equal::untold(format!("{why}; records that were left out of the range may have done that"))) } else { Err(why) }
}

fn sole_value(expected: &Value, found: Option<FoundValue>, times: Times) -> Result<Equal, String> {
    let Times { now, tolerance, ahead } = times;
    let candidates = || expected.may_be();
    let Some(found) = found else {
        let expired = || Equal { expired: true, ..Equal::default() };
        let gone = |w: &Written| match *w {
            Written::Nothing => Some(Equal::default()),
            Written::Value { lives: Lives::Until(at), .. } => (at <= now + tolerance + ahead).then_some(expired()),
            // It was written at this time at the earliest.
            Written::Value { lives: Lives::For(ms), time, .. } => time.is_none_or(|t| t + ms <= now + tolerance + ahead).then_some(expired()),
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
            let least = time.filter(|t| *t <= now).map_or(0, |t| ms - (now - t));
            ttl <= ms + tolerance && ttl >= least - tolerance - ahead
        }
        (Lives::Until(at), Some(ttl)) => (-tolerance..=tolerance + ahead).contains(&(at - now - ttl)),
    };
    if same.iter().any(lives) {
        return Ok(Equal::default());
    }
    let ttl = found.ttl.map_or_else(|| "for ever".into(), |ms| format!("for {ms} ms"));
    Err(format!("the value is right, and lives {ttl}, where the write says {:?}", same[0].0))
}
