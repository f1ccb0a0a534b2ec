//! The entries that stand behind what somebody has of a stream, and whether they continue it.
//!
//! Who follows gets each update once, or is told `gap`. A stream can lose entries before they are read: its oldest (trimmed), all
//! (deleted, expired, evicted), its newest (Redis came back as it had been). So each read shows that nothing is missing between
//! what somebody has and what it found:
//!
//! | they have | nothing is missing where |
//! |---|---|
//! | all up to an entry | that is still there: each read begins with it |
//! | all before a time, of which no entry is known | an entry from before is still there, or there is none behind it, or the stream has never lost any |
//!
//! What can't be shown is told as a gap. Whether a stream has lost any is told by Redis 7 to who may ask (`XINFO STREAM`).
use super::entry::{Id, Raw};
use super::live::{Key, Update, shown, update};
use super::offer::Offer;
use super::store::{Ask, Failure};
use axum::body::Bytes;
use redis::{Pipeline, RedisResult, Value};
use std::collections::HashMap;

/// Keys whose newest entries are remembered: of the last so many, and of up to as many before.
const KEYS_MAX: usize = 100_000;

/// What somebody has of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Had {
    /// All up to this entry.
    Entry(Id),
    /// All before this time, in ms, of which no entry is known.
    Before(u64),
}

impl Had {
    /// Where a read begins: with the entry itself, which must still be there.
    fn start(self) -> Id {
        match self {
            Self::Entry(id) => id,
            Self::Before(ms) => Id { ms, seq: 0 },
        }
    }

    /// The last place that belongs to it.
    fn end(self) -> Id {
        match self {
            Self::Entry(id) => id,
            Self::Before(ms) => Id { ms, seq: 0 }.before().unwrap_or_default(),
        }
    }

    /// Whether a page that was read from its start shows that nothing is missing.
    fn continued(self, page: &[Raw]) -> bool {
        match self {
            Self::Entry(id) => first_id(page) == Some(id),
            Self::Before(_) => page.is_empty(),
        }
    }
}

/// Where the page did not show that nothing is missing: what else the stream shows.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    /// Its newest entry before the place.
    newest: Option<Id>,
    /// Its first entry behind it, however far.
    first: Option<Id>,
    /// Whether it has never lost an entry.
    whole: bool,
}

/// That what came between may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    /// As an event.
    pub(super) frame: Bytes,
    /// The entry that is gone: who never had it may have all the same.
    gone: Option<Id>,
    /// Whether something may be missing for those, too.
    all: bool,
    /// The newest entry before it that is still there.
    pub(super) newest: Option<Id>,
}

impl Gap {
    /// What there is of one behind what somebody had.
    fn find(key: &[u8], had: Had, look: Look) -> Option<Self> {
        let all = look.newest.is_none() && look.first.is_some() && !look.whole;
        let gone = if let Had::Entry(id) = had { Some(id) } else { None };
        let first = look.first.map(|id| id.to_string());
        let told = serde_json::json!({"key": shown(key), "after": had.end().to_string(), "first": first});
        let frame = format!("event: gap\ndata: {told}\n\n").into();
        (all || gone.is_some()).then_some(Self { frame, gone, all, newest: look.newest })
    }

    /// Whether it is one for who has everything since a place, and nothing before.
    pub(super) fn is_for(&self, since: Id) -> bool {
        self.all || self.gone.is_some_and(|gone| since <= gone)
    }
}

/// What was read of one key.
#[derive(Debug)]
pub(super) struct Stretch {
    pub(super) gap: Option<Gap>,
    pub(super) updates: Vec<Update>,
    /// Whether there may be more behind it.
    pub(super) full: bool,
}

/// Reads the entries of some keys behind what is had of each, up to a time that does not belong to them; so many of each at most,
/// two at the least.
pub(super) async fn read(ask: &impl Ask, offers: &[Offer], keys: &[(Key, Had)], until: Option<u64>, count: usize) -> Result<Vec<Stretch>, Failure> {
    let until = until.map_or_else(|| "+".to_owned(), |ms| format!("({}", Id { ms, seq: 0 }));
    let mut range = Pipeline::new();
    for (key, had) in keys {
        range.cmd("XRANGE").arg(name(offers, key)).arg(had.start().to_string()).arg(&until).arg("COUNT").arg(count);
    }
    let pages = of_streams(ask, &mut range).await?;
    let doubtful: Vec<usize> = (0..keys.len()).filter(|n| !keys[*n].1.continued(&pages[*n])).collect();
    let there: Vec<(Key, Had)> = doubtful.iter().map(|n| keys[*n].clone()).collect();
    let looks = look(ask, offers, &there).await?;
    let mut looks: HashMap<usize, Look> = doubtful.into_iter().zip(looks).collect();
    let stretch = |(n, ((key, had), page)): (usize, (&(Key, Had), Vec<Raw>))| {
        let (full, had_it) = (page.len() == count, matches!(had, Had::Entry(_)) && had.continued(&page));
        let gap = looks.remove(&n).and_then(|look| Gap::find(&key.1, *had, look));
        let updates = page.iter().skip(usize::from(had_it)).filter_map(|raw| update(&key.1, raw, &offers[key.0])).collect();
        Stretch { gap, updates, full }
    };
    Ok(keys.iter().zip(pages).enumerate().map(stretch).collect())
}

/// The newest entries of some keys before what is had of each.
pub(super) async fn newest(ask: &impl Ask, offers: &[Offer], keys: &[(Key, Had)]) -> Result<Vec<Option<Id>>, Failure> {
    let mut last = Pipeline::new();
    for (key, had) in keys {
        let before = had.start().before().unwrap_or_default();
        last.cmd("XREVRANGE").arg(name(offers, key)).arg(before.to_string()).arg("-").arg("COUNT").arg(1);
    }
    let found = of_streams(ask, &mut last).await?;
    Ok(found.iter().map(|page| first_id(page)).collect())
}

async fn look(ask: &impl Ask, offers: &[Offer], keys: &[(Key, Had)]) -> Result<Vec<Look>, Failure> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let mut next = Pipeline::new();
    for (key, had) in keys {
        next.cmd("XRANGE").arg(name(offers, key)).arg(had.start().to_string()).arg("+").arg("COUNT").arg(1);
    }
    let (firsts, newest) = (of_streams(ask, &mut next).await?, newest(ask, offers, keys).await?);
    let look = |(newest, first): (Option<Id>, Vec<Raw>)| Look { newest, first: first_id(&first), whole: false };
    let mut looks: Vec<Look> = newest.into_iter().zip(firsts).map(look).collect();
    let mut info = Pipeline::new();
    let open: Vec<usize> = (0..keys.len()).filter(|n| looks[*n].newest.is_none() && looks[*n].first.is_some()).collect();
    if open.is_empty() {
        return Ok(looks);
    }
    open.iter().for_each(|n| _ = info.cmd("XINFO").arg("STREAM").arg(name(offers, &keys[*n].0)));
    let told: Vec<RedisResult<HashMap<String, Value>>> = ask.ask(info.ignore_errors()).await?;
    for (n, told) in open.into_iter().zip(told) {
        // Who may not ask, or asks an older Redis, does not know.
        let number = |name: &str| told.as_ref().ok()?.get(name).cloned().and_then(|v| redis::from_redis_value::<u64>(v).ok());
        looks[n].whole = number("entries-added").is_some_and(|added| number("length") == Some(added));
    }
    Ok(looks)
}

/// The pages that a pipeline asks for; what is no stream has none.
async fn of_streams(ask: &impl Ask, pipeline: &mut Pipeline) -> Result<Vec<Vec<Raw>>, Failure> {
    let found: Vec<RedisResult<Vec<Raw>>> = ask.ask(pipeline.ignore_errors()).await?;
    found.into_iter().map(|page| page.or_else(|e| if e.code() == Some("WRONGTYPE") { Ok(Vec::new()) } else { Err(e.into()) })).collect()
}

fn first_id(page: &[Raw]) -> Option<Id> {
    page.first().and_then(|(id, _)| id.parse().ok())
}

fn name(offers: &[Offer], (offer, key): &Key) -> Vec<u8> {
    offers[*offer].history.as_ref().map(|named| named.name(key)).unwrap_or_default()
}

/// The newest entry that was read of each key. Bounded: of two generations the younger one becomes the older when it is full, and
/// the older one is forgotten.
#[derive(Debug, Default)]
pub(super) struct Newest {
    young: HashMap<Key, Id>,
    old: HashMap<Key, Id>,
    /// All that was read of keys that were forgotten lies before this time.
    forgotten: u64,
}

impl Newest {
    /// What is had of a key by who has all before this time.
    pub(super) fn had(&self, key: &Key, upto: u64) -> Had {
        self.young.get(key).or_else(|| self.old.get(key)).map_or(Had::Before(upto.max(self.forgotten)), |id| Had::Entry(*id))
    }

    /// An entry was read.
    pub(super) fn raise(&mut self, key: &Key, id: Id) {
        if let Some(newest) = self.young.get_mut(key) {
            *newest = id.max(*newest);
            return;
        }
        let newest = self.old.remove(key).map_or(id, |before| before.max(id));
        if self.young.len() >= KEYS_MAX {
            let forgotten = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
            self.forgotten = forgotten.values().map(|id| id.ms + 1).fold(self.forgotten, u64::max);
        }
        self.young.insert(key.clone(), newest);
    }

    /// There was a gap: what is there still counts.
    pub(super) fn lower(&mut self, key: &Key, newest: Option<Id>) {
        self.old.remove(key);
        self.young.remove(key);
        newest.iter().for_each(|id| self.raise(key, *id));
    }

    /// Takes over what another has read.
    pub(super) fn merge(&mut self, other: &Self) {
        other.old.iter().chain(&other.young).for_each(|(key, id)| self.raise(key, *id));
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.old.keys().chain(self.young.keys())
    }

    pub(super) fn retain(&mut self, wanted: impl Fn(&Key) -> bool) {
        self.young.retain(|key, _| wanted(key));
        self.old.retain(|key, _| wanted(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> Id {
        Id { ms, seq: 0 }
    }

    fn page(ids: &[u64]) -> Vec<Raw> {
        ids.iter().map(|ms| (id(*ms).to_string(), Vec::new())).collect()
    }

    /// For whom there is a gap: who has the key from 1 on, who came at 8.
    fn gap(had: Had, read: &[u64], newest: Option<u64>, whole: bool) -> [bool; 2] {
        let page = page(read);
        let look = Look { newest: newest.map(id), first: first_id(&page), whole };
        let found = if had.continued(&page) { None } else { Gap::find(b"K", had, look) };
        [1, 8].map(|since| found.as_ref().is_some_and(|gap| gap.is_for(id(since))))
    }

    #[test]
    fn nothing_is_missing_behind_an_entry_that_is_still_there() {
        assert_eq!(gap(Had::Entry(id(5)), &[5], None, false), [false, false]);
        assert_eq!(gap(Had::Entry(id(5)), &[5, 9], None, false), [false, false]);
    }

    #[test]
    fn where_the_oldest_are_gone_each_is_told_and_where_the_newest_are_who_had_them() {
        assert_eq!(gap(Had::Entry(id(5)), &[9], None, false), [true, true], "trimmed");
        assert_eq!(gap(Had::Entry(id(5)), &[9], Some(3), false), [true, false], "as it had been");
        assert_eq!(gap(Had::Entry(id(5)), &[9], None, true), [true, false], "deleted, and begun anew");
        assert_eq!(gap(Had::Entry(id(5)), &[], None, false), [true, false], "deleted");
    }

    #[test]
    fn where_no_entry_is_known_one_from_before_or_a_whole_stream_shows_that_nothing_is_missing() {
        assert_eq!(gap(Had::Before(8), &[9], Some(3), false), [false, false]);
        assert_eq!(gap(Had::Before(8), &[9], None, true), [false, false]);
        assert_eq!(gap(Had::Before(8), &[], None, false), [false, false]);
        assert_eq!(gap(Had::Before(8), &[9], None, false), [true, true], "nobody can show it");
    }

    #[test]
    fn what_is_remembered_of_keys_is_bounded_and_the_last_is_there() {
        let (mut newest, key) = (Newest::default(), |n: u64| (0, n.to_string().into_bytes()));
        for n in 0..3 * KEYS_MAX as u64 {
            newest.raise(&key(n), id(n));
            newest.raise(&key(0), id(n));
        }
        assert!(newest.keys().count() <= 2 * KEYS_MAX);
        assert_eq!(newest.had(&key(0), 7), Had::Entry(id(3 * KEYS_MAX as u64 - 1)));
        let Had::Before(forgotten) = newest.had(&key(1), 7) else { panic!("its entry is forgotten") };
        assert!((2..3 * KEYS_MAX as u64).contains(&forgotten), "what was read of it is not read again: {forgotten}");
        assert_eq!(newest.had(&key(1), u64::MAX), Had::Before(u64::MAX));
        newest.raise(&key(0), id(1));
        assert_eq!(newest.had(&key(0), 7), Had::Entry(id(3 * KEYS_MAX as u64 - 1)), "it never falls by itself");
        newest.lower(&key(0), Some(id(5)));
        assert_eq!(newest.had(&key(0), 7), Had::Entry(id(5)));
    }
}
