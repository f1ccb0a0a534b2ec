//! Hashes, sets and sorted sets, element by element: a field, or a member with its score.
//!
//! Of each element that the range wrote the last write counts, as with a value: of each partition its last one, and all that
//! was written since. Elements that the range did not write are not judged.
use super::compare::Equal;
use super::model::{Pass, Print, print};
use super::others::May;
use crate::core::encode::Encoded;
use std::collections::{BTreeSet, HashMap};

/// What the elements belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    Hash,
    Set,
    Sorted,
}

impl Of {
    /// What one element is called.
    pub fn word(self) -> &'static str {
        if self == Self::Hash { "field" } else { "member" }
    }
}

/// What a command does to one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Put(Print),
    Remove,
    /// What it leaves depends on what stood there.
    Unfollowed,
}

/// Elements, and what is done to each, in the order of the command.
pub type Changes<'c> = Vec<(&'c [u8], Change)>;

/// What a command does to the elements of its key; `None`: it is no such command, or its arguments do not fit.
pub fn changes<'c>(name: &str, command: Encoded<'c>) -> Option<(Of, Changes<'c>)> {
    let args: Vec<&[u8]> = command.args().skip(2).collect();
    let each = |change: Change| args.iter().map(|a| (*a, change)).collect();
    let one = |at: usize| args.get(at).map(|a| vec![(*a, Change::Unfollowed)]);
    Some(match name {
        "HSET" | "HMSET" if args.len().is_multiple_of(2) => (Of::Hash, args.chunks_exact(2).map(|pair| (pair[0], Change::Put(print(Some(pair[1]))))).collect()),
        "HDEL" => (Of::Hash, each(Change::Remove)),
        "HSETNX" | "HINCRBY" | "HINCRBYFLOAT" => (Of::Hash, one(0)?),
        "SADD" => (Of::Set, each(Change::Put(0))),
        "SREM" => (Of::Set, each(Change::Remove)),
        "ZADD" => (Of::Sorted, scores(&args)?),
        "ZREM" => (Of::Sorted, each(Change::Remove)),
        "ZINCRBY" => (Of::Sorted, one(1)?),
        _ => return None,
    })
}

/// The members of a ZADD: by its options what it leaves may depend on what stood there.
fn scores<'c>(args: &[&'c [u8]]) -> Option<Vec<(&'c [u8], Change)>> {
    let options = args.iter().take_while(|a| ["NX", "XX", "GT", "LT", "CH", "INCR"].iter().any(|o| a.eq_ignore_ascii_case(o.as_bytes()))).count();
    let (options, pairs) = args.split_at(options);
    let plain = options.iter().all(|o| o.eq_ignore_ascii_case(b"CH"));
    let change = |score: &[u8]| score_print(score).filter(|_| plain).map_or(Change::Unfollowed, Change::Put);
    pairs.len().is_multiple_of(2).then(|| pairs.chunks_exact(2).map(|pair| (pair[1], change(pair[0]))).collect())
}

/// The print of a score, however it is written.
pub fn score_print(text: &[u8]) -> Option<Print> {
    let score: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    // Of the two zeros one.
    Some(u128::from((score + 0.0).to_bits()))
}

/// What is expected of the elements of one key.
#[derive(Clone, Debug)]
pub struct Members {
    pub of: Of,
    pub elements: HashMap<Vec<u8>, Element>,
    /// The partitions that deleted the key in the range.
    deleted_by: BTreeSet<usize>,
    /// A write lets the key expire: what is missing may be gone rightly.
    pub expires: bool,
}

/// What an element may be: `None` stands for removed.
#[derive(Clone, Debug, Default)]
pub struct Element {
    /// What each partition wrote last in the range.
    last: Vec<(usize, Option<Print>)>,
    later: Vec<Option<Print>>,
    pub unfollowed: bool,
}

impl Members {
    pub fn new(of: Of, deleted_by: impl IntoIterator<Item = usize>) -> Self {
        Self { of, elements: HashMap::new(), deleted_by: deleted_by.into_iter().collect(), expires: false }
    }

    pub fn change(&mut self, element: &[u8], change: Change, source: usize, pass: Pass) {
        let element = match pass {
            Pass::Tail => self.elements.get_mut(element),
            Pass::Range => Some(self.elements.entry(element.to_vec()).or_insert_with(|| Element {
                // The other partitions' DEL may have come later.
                last: self.deleted_by.iter().map(|source| (*source, None)).collect(),
                ..Element::default()
            })),
        };
        let Some(element) = element else { return };
        match change {
            Change::Put(print) => element.write(Some(print), source, pass),
            Change::Remove => element.write(None, source, pass),
            Change::Unfollowed => element.unfollowed = true,
        }
    }

    /// The key is deleted.
    pub fn delete(&mut self, source: usize, pass: Pass) {
        self.elements.values_mut().for_each(|e| e.write(None, source, pass));
        if pass == Pass::Range {
            self.deleted_by.insert(source);
        }
    }

    /// How many elements are not compared.
    pub fn unfollowed(&self) -> usize {
        self.elements.values().filter(|e| e.unfollowed).count()
    }
}

impl Element {
    fn write(&mut self, what: Option<Print>, source: usize, pass: Pass) {
        match (pass, self.last.iter_mut().find(|(s, _)| *s == source)) {
            (Pass::Tail, _) => self.later.push(what),
            (Pass::Range, Some((_, last))) => *last = what,
            (Pass::Range, None) => self.last.push((source, what)),
        }
    }

    fn may_be(&self, what: Option<Print>) -> bool {
        self.last.iter().map(|(_, last)| last).chain(&self.later).any(|w| *w == what)
    }
}

/// Compares the elements of a key. `found`: those that are there, and what they are.
///
/// # Errors
/// How they differ.
pub fn members(expected: &Members, found: &HashMap<Vec<u8>, Print>, may: &May) -> Result<Equal, String> {
    let judged = expected.elements.iter().filter(|(_, e)| !e.unfollowed);
    let mut wrong: Vec<(&[u8], bool, bool)> = judged
        .map(|(name, element)| (name.as_slice(), element, found.get(name).copied()))
        .filter(|(_, element, found)| !element.may_be(*found))
        .map(|(name, element, found)| (name, found.is_some(), element.may_be(None)))
        .collect();
    wrong.sort_unstable();
    let Some((name, there, removed)) = wrong.first() else { return Ok(Equal::default()) };
    let what = match (there, removed, expected.of) {
        (false, ..) => "is missing",
        (true, true, _) => "is there, though it was removed",
        (true, false, Of::Sorted) => "has another score",
        (true, false, _) => "has another value",
    };
    let more = if wrong.len() > 1 { format!(" ({} of the {} {}s differ)", wrong.len(), expected.elements.len(), expected.of.word()) } else { String::new() };
    let why = format!("{} {:?} {what}{more}", expected.of.word(), String::from_utf8_lossy(name));
    let untold = |because: &str| Ok(Equal { untold: Some(format!("{why}; {because}")), ..Equal::default() });
    if may.end || may.set.is_some() {
        return untold("records that were left out of the range may have done that");
    }
    if expected.expires && wrong.iter().all(|(_, there, _)| !there) {
        return untold("a write lets the key expire, and what is missing may have expired");
    }
    Err(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::encode::Encoder;

    const ALONE: May = May { add: None, set: None, end: false };

    /// What stands there after commands of partitions, each in the range or behind it.
    fn folded(commands: &[(usize, Pass, &str)]) -> Members {
        let mut members: Option<Members> = None;
        for (source, pass, text) in commands {
            let words: Vec<&[u8]> = text.split(' ').map(str::as_bytes).collect();
            let mut out = Encoder::default();
            out.command(&words);
            let command = out.encoded().next().unwrap();
            let name = String::from_utf8_lossy(words[0]).into_owned();
            if name == "DEL" {
                members.as_mut().unwrap().delete(*source, *pass);
                continue;
            }
            let (of, changes) = changes(&name, command).unwrap();
            let members = members.get_or_insert_with(|| Members::new(of, []));
            changes.into_iter().for_each(|(element, change)| members.change(element, change, *source, *pass));
        }
        members.unwrap()
    }

    fn hash(fields: &[(&str, &str)]) -> HashMap<Vec<u8>, Print> {
        fields.iter().map(|(f, v)| (f.as_bytes().to_vec(), print(Some(v.as_bytes())))).collect()
    }

    fn told(expected: &Members, found: &HashMap<Vec<u8>, Print>, may: &May) -> Result<bool, String> {
        members(expected, found, may).map(|equal| equal.untold.is_some())
    }

    #[test]
    fn of_each_field_the_last_write_counts_and_fields_of_others_do_not() {
        use Pass::{Range, Tail};
        let e =
            folded(&[(0, Range, "HSET h a 1 b 1"), (0, Range, "HSET h a 2"), (0, Range, "HSET h c 1"), (0, Range, "HDEL h c"), (0, Tail, "HSET h b 7 x 1")]);
        assert_eq!(told(&e, &hash(&[("a", "2"), ("b", "1"), ("foreign", "9")]), &ALONE), Ok(false));
        assert_eq!(told(&e, &hash(&[("a", "2"), ("b", "7")]), &ALONE), Ok(false), "written since");
        for (found, why) in [
            (hash(&[("a", "1"), ("b", "1")]), "field \"a\" has another value"),
            (hash(&[("a", "2")]), "field \"b\" is missing"),
            (hash(&[("a", "2"), ("b", "1"), ("c", "1")]), "field \"c\" is there, though it was removed"),
            (hash(&[]), "field \"a\" is missing (2 of the 3 fields differ)"),
        ] {
            assert_eq!(told(&e, &found, &ALONE), Err(why.into()));
        }
        assert_eq!(told(&e, &hash(&[]), &May { end: true, ..ALONE }), Ok(true), "others may have deleted it");
    }

    #[test]
    fn a_deleted_key_has_none_of_its_fields_and_of_two_partitions_either_may_have_come_last() {
        use Pass::{Range, Tail};
        let deleted = folded(&[(0, Range, "HSET h a 1 b 1"), (0, Range, "DEL h"), (0, Range, "HSET h a 1")]);
        assert_eq!(told(&deleted, &hash(&[("a", "1")]), &ALONE), Ok(false));
        assert!(told(&deleted, &hash(&[("a", "1"), ("b", "1")]), &ALONE).is_err());
        let two = folded(&[(0, Range, "HSET h a 1"), (1, Range, "DEL h"), (0, Range, "HSET h b 1"), (1, Range, "HSET h a 2")]);
        for (found, equal) in
            [(&[("a", "1"), ("b", "1")][..], true), (&[("a", "2")], true), (&[("a", "2"), ("b", "1")], true), (&[("a", "3")], false), (&[("b", "1")], false)]
        {
            assert_eq!(told(&two, &hash(found), &ALONE).is_ok(), equal, "{found:?}");
        }
        let since = folded(&[(0, Range, "HSET h a 1"), (1, Tail, "DEL h")]);
        assert!(told(&since, &hash(&[]), &ALONE).is_ok() && told(&since, &hash(&[("a", "1")]), &ALONE).is_ok());
    }

    #[test]
    fn what_depends_on_what_stood_there_is_not_compared_and_a_key_that_expires_may_be_gone() {
        let e = folded(&[(0, Pass::Range, "HSET h a 1"), (0, Pass::Range, "HINCRBY h n 1"), (0, Pass::Range, "HSETNX h first 1")]);
        assert_eq!((e.unfollowed(), told(&e, &hash(&[("a", "1")]), &ALONE)), (2, Ok(false)));
        let e = Members { expires: true, ..e };
        assert_eq!(told(&e, &hash(&[]), &ALONE), Ok(true));
        assert!(told(&e, &hash(&[("a", "2")]), &ALONE).is_err(), "what is there did not expire");
    }

    #[test]
    fn members_of_sets_are_there_or_not_and_those_of_sorted_sets_have_their_score() {
        let set = folded(&[(0, Pass::Range, "SADD s a b"), (0, Pass::Range, "SREM s a")]);
        let found = |names: &[&str]| names.iter().map(|n| (n.as_bytes().to_vec(), 0)).collect::<HashMap<_, _>>();
        assert_eq!(told(&set, &found(&["b"]), &ALONE), Ok(false));
        assert_eq!(told(&set, &found(&["a"]), &ALONE), Err("member \"a\" is there, though it was removed (2 of the 2 members differ)".into()));
        let sorted = folded(&[(0, Pass::Range, "ZADD z 1 a 2.50 b"), (0, Pass::Range, "ZADD z CH 1e1 a"), (0, Pass::Range, "ZADD z NX 1 c")]);
        let scores =
            |scores: &[(&str, &str)]| scores.iter().map(|(n, s)| (n.as_bytes().to_vec(), score_print(s.as_bytes()).unwrap())).collect::<HashMap<_, _>>();
        assert_eq!((sorted.unfollowed(), told(&sorted, &scores(&[("a", "10"), ("b", "2.5")]), &ALONE)), (1, Ok(false)));
        assert_eq!(told(&sorted, &scores(&[("a", "1"), ("b", "2.5")]), &ALONE), Err("member \"a\" has another score".into()));
    }
}
