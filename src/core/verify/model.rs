//! What must be in Redis, gathered record after record.
//!
//! While a range is verified the bridge goes on: what it applied behind the range, up to where it was when Redis had been
//! looked at, may be there as well. Those records are the tail.
use crate::core::encode::{Encoded, Encoder};
use crate::core::record::Record;
use crate::core::replay::version::Version;
use crate::core::route::{self, Origin, Route};
use crate::core::write::{Effect, Kind, Trim, TrimBy, Ttl, Write};
use std::collections::{BTreeMap, HashMap, HashSet};
use xxhash_rust::xxh3::Xxh3;

/// A hash of what an entry or a value is, wide enough to stand for it.
pub type Print = u128;

/// Which records are being gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    Range,
    Tail,
}

/// What must be at a key.
#[derive(Clone, Debug)]
pub enum Expected {
    Stream(Stream),
    Value(Value),
    /// Writes that can't be followed have a part in it.
    Unknown,
}

/// The entries of a stream, by the partition that they come from.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    pub sources: BTreeMap<usize, Entries>,
    /// What its writes leave of it.
    pub kept: Kept,
    /// Nothing can stand before these entries: the key was deleted.
    pub whole: bool,
    pub ids: Ids,
}

/// What the writes of a stream say of its entries' ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ids {
    /// Nothing: Redis gives them.
    #[default]
    Given,
    /// The time in them, as `1766000000000-*`.
    Time,
    Whole,
}

impl Ids {
    /// What the id of an XADD says; `None`: it is none.
    fn of(id: &[u8]) -> Option<Self> {
        match id {
            b"*" => Some(Self::Given),
            _ if id.ends_with(b"-*") => number(&id[..id.len() - 2]).map(|_| Self::Time),
            _ => parts(id).map(|_| Self::Whole),
        }
    }

    /// What is compared of an entry's id.
    fn compared(self, id: &[u8]) -> Option<(u64, u64)> {
        match self {
            Self::Given => None,
            Self::Time => number(id.split(|b| *b == b'-').next()?).map(|time| (time, 0)),
            Self::Whole => parts(id),
        }
    }

    /// The print of an entry of such a stream.
    pub fn print<'f>(self, id: &[u8], fields: impl IntoIterator<Item = &'f [u8]>) -> Print {
        let mut hasher = Xxh3::new();
        if let Some((time, sequence)) = self.compared(id) {
            hasher.update(&time.to_le_bytes());
            hasher.update(&sequence.to_le_bytes());
        }
        // Where each ends.
        for field in fields {
            hasher.update(&(field.len() as u64).to_le_bytes());
            hasher.update(field);
        }
        hasher.digest128()
    }
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The time of an id, and what tells it from others of that time: 0 where it says nothing.
fn parts(id: &[u8]) -> Option<(u64, u64)> {
    match id.iter().position(|b| *b == b'-') {
        None => Some((number(id)?, 0)),
        Some(at) => Some((number(&id[..at])?, number(&id[at + 1..])?)),
    }
}

/// What trimming leaves of a stream at the least; of several writes the one that leaves the least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kept {
    /// By `minid`: the newest entry. Which of the others is not known: Redis gives the ids.
    Newest,
    /// So many of the newest.
    AtLeast(usize),
    #[default]
    All,
}

impl Kept {
    pub fn by(trim: Option<&Trim>) -> Self {
        match trim.map(|t| &t.by) {
            None => Self::All,
            Some(TrimBy::MaxLen(n)) => usize::try_from(*n).map_or(Self::All, Self::AtLeast),
            Some(TrimBy::MinId(_)) => Self::Newest,
        }
    }
}

/// Entries in their order: those of the range, then those of the tail.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    pub prints: Vec<Print>,
    pub of_range: usize,
}

/// What a key may hold: what each partition wrote last in the range, and all that it wrote since.
#[derive(Clone, Debug, Default)]
pub struct Value {
    pub last: BTreeMap<usize, Written>,
    /// What each partition wrote of the highest version, where the write has `newer_by`: a replay leaves it.
    pub newest: BTreeMap<usize, (Version, Written)>,
    pub later: Vec<Written>,
}

impl Value {
    /// All that may stand there.
    pub fn may_be(&self) -> impl Iterator<Item = &Written> {
        self.last.values().chain(&self.later).chain(self.newest.values().map(|(_, written)| written))
    }
}

/// What was written to a key once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Nothing,
    Value {
        print: Print,
        lives: Lives,
        /// The record's time, in milliseconds since the epoch.
        time: Option<i64>,
    },
}

/// How long a value lives, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lives {
    Forever,
    For(i64),
    Until(i64),
}

/// See the module's documentation.
pub struct Model {
    routes: std::sync::Arc<[Route]>,
    /// The routes that are asked about, as indexes.
    chosen: Vec<usize>,
    pub keys: HashMap<Vec<u8>, Expected>,
    /// Keys that nothing that is asked about has written yet.
    unasked: HashSet<Vec<u8>>,
    /// How often each command came that is not compared.
    pub uncompared: BTreeMap<String, u64>,
    pub records: u64,
    /// Records that can't be rendered, of which nothing is expected.
    pub dead: u64,
    /// How far a record's time in the range lies ahead of ours, in milliseconds: so far ahead is a producer's clock at the least.
    pub ahead_ms: i64,
    context: route::Context,
    now_ms: i64,
    /// Some values live from their record's time on.
    timed: bool,
}

impl Model {
    /// All routes, for what one makes of a record another may undo; and which of them are asked about.
    pub fn new(routes: std::sync::Arc<[Route]>, chosen: Vec<usize>, now_ms: i64) -> Self {
        let timed = routes.iter().flat_map(|r| &r.writes).any(|w| matches!(&w.kind, Kind::Set { ttl: Some(Ttl::FromRecord(_)), .. }));
        let (keys, unasked, uncompared) = (HashMap::new(), HashSet::new(), BTreeMap::new());
        Self { routes, chosen, keys, unasked, uncompared, records: 0, dead: 0, ahead_ms: 0, context: route::Context::default(), now_ms, timed }
    }

    /// Takes a record of the partition `source`, whose topic goes through these routes. `asked`: it is one of those that are
    /// asked about; the others count where they write the same keys.
    pub fn take(&mut self, record: &Record, through: &[usize], source: usize, pass: Pass, asked: bool) {
        // As it was rendered when it was young: what has expired since was written all the same.
        self.context.now_ms = record.timestamp_ms.filter(|_| self.timed).map_or(self.now_ms, |time| time.saturating_add(1));
        if pass == Pass::Range {
            self.ahead_ms = record.timestamp_ms.map_or(self.ahead_ms, |time| self.ahead_ms.max(time.saturating_sub(self.now_ms)));
        }
        let (mut out, mut origins, mut outcomes) = (Encoder::default(), Vec::new(), Vec::new());
        let rendered = route::render(&self.routes, through, record, &mut out, |o| origins.push(o), &mut outcomes, &mut self.context);
        if pass == Pass::Range && asked {
            self.records += 1;
            self.dead += u64::from(rendered.is_err());
        }
        for (origin, command) in origins.into_iter().zip(out.encoded()).filter(|_| rendered.is_ok()) {
            let asked = asked && self.chosen.contains(&origin.route);
            self.command(origin, command, record, source, pass, asked);
        }
    }

    /// Keeps the keys that something that is asked about wrote in the range, now that all of it was taken.
    pub fn narrow(&mut self) {
        let unasked = std::mem::take(&mut self.unasked);
        self.keys.retain(|key, _| !unasked.contains(key));
    }

    fn command(&mut self, origin: Origin, command: Encoded<'_>, record: &Record, source: usize, pass: Pass, asked: bool) {
        let routes = self.routes.clone();
        let Write { kind, effect, .. } = &routes[origin.route].writes[origin.write];
        let Some(key) = command.arg(1).map(<[u8]>::to_vec).filter(|_| command.arg(0) != Some(b"PUBLISH")) else { return };
        if pass == Pass::Tail && !self.keys.contains_key(&key) {
            return;
        }
        if asked {
            self.unasked.remove(&key);
        } else if !self.keys.contains_key(&key) {
            self.unasked.insert(key.clone());
        }
        match (command.arg(0), kind) {
            (Some(b"XADD"), Kind::Xadd(x)) if !x.nomkstream => {
                let id = command.arg(x.id_at()).unwrap_or_default();
                self.entry(key, id, fields(command), Kept::by(x.trim.as_ref()), source, pass);
            }
            (Some(b"SET"), _) => {
                let print = print(command.arg(2));
                let lives = lives(command);
                let version = if let Effect::IfNewer(by) = effect { Version::of(command.arg(2).unwrap_or_default(), by) } else { None };
                self.value(key, Written::Value { print, lives, time: record.timestamp_ms }, version, source, pass);
            }
            (Some(b"DEL"), _) => self.delete(key, source, pass),
            (name, _) => {
                let name = String::from_utf8_lossy(name.unwrap_or_default()).to_uppercase();
                *self.uncompared.entry(name).or_default() += u64::from(pass == Pass::Range && asked);
                self.keys.insert(key, Expected::Unknown);
            }
        }
    }

    fn entry(&mut self, key: Vec<u8>, id: &[u8], fields: Vec<&[u8]>, kept: Kept, source: usize, pass: Pass) {
        let ids = Ids::of(id);
        let begun = || Expected::Stream(Stream { ids: ids.unwrap_or_default(), ..Stream::default() });
        let expected = self.keys.entry(key).or_insert_with(begun);
        // A stream of which some ids are said, and some are not, is not followed.
        let Expected::Stream(stream) = expected else { return *expected = Expected::Unknown };
        if ids != Some(stream.ids) {
            return *expected = Expected::Unknown;
        }
        stream.kept = stream.kept.min(kept);
        let entries = stream.sources.entry(source).or_default();
        entries.prints.push(stream.ids.print(id, fields));
        entries.of_range += usize::from(pass == Pass::Range);
    }

    fn value(&mut self, key: Vec<u8>, written: Written, version: Option<Version>, source: usize, pass: Pass) {
        let expected = self.keys.entry(key).or_insert_with(|| Expected::Value(Value::default()));
        let Expected::Value(value) = expected else { return *expected = Expected::Unknown };
        match pass {
            Pass::Range => {
                value.last.insert(source, written);
                match version {
                    // Of equal ones a job leaves the last that it wrote.
                    Some(version) if value.newest.get(&source).is_none_or(|(newest, _)| version >= *newest) => {
                        value.newest.insert(source, (version, written));
                    }
                    None if written == Written::Nothing => _ = value.newest.remove(&source),
                    _ => {}
                }
            }
            Pass::Tail => value.later.push(written),
        }
    }

    fn delete(&mut self, key: Vec<u8>, source: usize, pass: Pass) {
        match self.keys.get_mut(&key) {
            Some(Expected::Stream(stream)) if pass == Pass::Range && stream.sources.keys().all(|s| *s == source) => {
                *stream = Stream { kept: stream.kept, ids: stream.ids, whole: true, ..Stream::default() };
            }
            Some(Expected::Stream(_)) => _ = self.keys.insert(key, Expected::Unknown),
            _ => self.value(key, Written::Nothing, None, source, pass),
        }
    }
}

/// The fields of an XADD: what stands behind its id.
fn fields(command: Encoded<'_>) -> Vec<&[u8]> {
    let mut args = command.args().skip(2).peekable();
    args.next_if(|a| *a == b"NOMKSTREAM");
    if args.next_if(|a| *a == b"MAXLEN" || *a == b"MINID").is_some() {
        // `~` or `=`, and the threshold.
        args.by_ref().take(2).for_each(drop);
        if args.next_if(|a| *a == b"LIMIT").is_some() {
            args.next();
        }
    }
    args.skip(1).collect()
}

fn lives(command: Encoded<'_>) -> Lives {
    let number = || std::str::from_utf8(command.arg(4)?).ok()?.parse::<i64>().ok();
    match (command.arg(3), number()) {
        (Some(b"EX"), Some(s)) => Lives::For(s * 1000),
        (Some(b"PX"), Some(ms)) => Lives::For(ms),
        (Some(b"PXAT"), Some(ms)) => Lives::Until(ms),
        _ => Lives::Forever,
    }
}

/// The print of a value.
pub fn print(value: Option<&[u8]>) -> Print {
    xxhash_rust::xxh3::xxh3_128(value.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::TopicPartition;
    use crate::core::template::Template;
    use crate::core::write::{Fields, Xadd};

    #[test]
    fn of_an_id_that_a_write_says_its_time_is_compared_or_all_of_it() {
        let print = |ids: Ids, id: &str| ids.print(id.as_bytes(), [b"a".as_slice(), b"b"]);
        for (said, ids, same, other) in [
            ("*", Ids::Given, "7-1", None),
            ("5-*", Ids::Time, "5-9", Some("6-0")),
            ("5-3", Ids::Whole, "5-3", Some("5-4")),
            ("5", Ids::Whole, "5-0", Some("5-1")),
        ] {
            assert_eq!(Ids::of(said.as_bytes()), Some(ids), "{said}");
            assert_eq!(print(ids, said), print(ids, same), "{said}");
            assert!(other.is_none_or(|other| print(ids, said) != print(ids, other)), "{said}");
        }
        assert_eq!((Ids::of(b"x-*"), Ids::of(b"-1")), (None, None));
    }

    #[test]
    fn a_stream_of_which_only_some_ids_are_said_is_not_followed() {
        let xadd = |id: &str| {
            let (key, id) = (Template::parse("s").unwrap(), Template::parse(id).unwrap());
            Write::new(Kind::Xadd(Xadd { key, fields: Fields::All, id, trim: None, nomkstream: false, ahead_max_ms: 1_000 }))
        };
        for (ids, followed) in [(["*", "*"], true), (["{timestamp}-*", "{timestamp}-*"], true), (["*", "{timestamp}-*"], false)] {
            let routes = [Route::new("r", "t", ids.map(xadd).into())];
            let mut model = Model::new(routes.into(), vec![0], 100);
            model.take(&Record::copy(TopicPartition::new("t", 0), 0, Some(107), None, Some(br#"{"a":1}"#), []), &[0], 0, Pass::Range, true);
            assert_eq!(matches!(model.keys[b"s".as_slice()], Expected::Stream(_)), followed, "{ids:?}");
            assert_eq!(model.ahead_ms, 7);
        }
    }
}
