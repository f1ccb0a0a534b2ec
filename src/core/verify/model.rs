//! What must be in Redis, gathered record after record.
//!
//! While a range is verified the bridge goes on: what it applied behind the range, up to where it was when Redis had been
//! looked at, may be there as well. Those records are the tail.
#[cfg(test)]
mod tests;

use super::members::{Members, changes};
use crate::core::encode::{Encoded, Encoder};
use crate::core::record::Record;
use crate::core::replay::version::Version;
use crate::core::route::{self, Origin, Route};
use crate::core::write::{Effect, Kind, Trim, TrimBy, Ttl, Write};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
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
    Members(Members),
    /// Not compared, for this reason.
    Unknown(Arc<str>),
}

impl Expected {
    /// Another kind of write has a part in it.
    fn mixed(&mut self) {
        if !matches!(self, Self::Unknown(_)) {
            *self = Self::Unknown(KINDS.into());
        }
    }
}

/// Reasons for which a key is not compared.
const KINDS: &str = "writes of different kinds share it";
const IDS: &str = "only some of its entries get ids from their writes";
const DELETED: &str = "several partitions add to it and delete it";

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
    /// The writes that are asked about.
    chosen: Vec<Origin>,
    pub keys: HashMap<Vec<u8>, Expected>,
    /// Keys that nothing that is asked about has written yet.
    unasked: HashSet<Vec<u8>>,
    /// What commands name that may write more keys than their first: by each, which command it was.
    touched: HashMap<Vec<u8>, Arc<str>>,
    /// How often each command came that can't be followed.
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
    /// All routes, for what one makes of a record another may undo; and which of their writes are asked about.
    pub fn new(routes: std::sync::Arc<[Route]>, chosen: Vec<Origin>, now_ms: i64) -> Self {
        let timed = routes.iter().flat_map(|r| &r.writes).any(|w| matches!(&w.kind, Kind::Set { ttl: Some(Ttl::FromRecord(_)), .. }));
        let (keys, unasked, touched, uncompared) = (HashMap::new(), HashSet::new(), HashMap::new(), BTreeMap::new());
        Self { routes, chosen, keys, unasked, touched, uncompared, records: 0, dead: 0, ahead_ms: 0, context: route::Context::default(), now_ms, timed }
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
            let asked = asked && self.chosen.contains(&origin);
            self.command(origin, command, record, source, pass, asked);
        }
    }

    /// Keeps the keys that something that is asked about wrote in the range, now that all of it was taken.
    pub fn narrow(&mut self) {
        let unasked = std::mem::take(&mut self.unasked);
        self.keys.retain(|key, _| !unasked.contains(key));
        for (key, why) in std::mem::take(&mut self.touched) {
            _ = self.keys.get_mut(&key).map(|expected| *expected = Expected::Unknown(why));
        }
    }

    fn command(&mut self, origin: Origin, command: Encoded<'_>, record: &Record, source: usize, pass: Pass, asked: bool) {
        let routes = self.routes.clone();
        let Write { kind, effect, .. } = &routes[origin.route].writes[origin.write];
        let name = String::from_utf8_lossy(command.arg(0).unwrap_or_default()).to_uppercase();
        let (step, most) = match name.as_str() {
            "PUBLISH" | "SPUBLISH" => return,
            "DEL" | "UNLINK" => (1, usize::MAX),
            "MSET" => (2, usize::MAX),
            _ => (1, 1),
        };
        for (n, key) in command.args().skip(1).step_by(step).take(most).enumerate() {
            if !self.concerns(key, pass, asked) {
                continue;
            }
            let key = key.to_vec();
            match (name.as_str(), kind) {
                ("XADD", Kind::Xadd(x)) if !x.nomkstream => {
                    let id = command.arg(x.id_at()).unwrap_or_default();
                    self.entry(key, id, fields(command), Kept::by(x.trim.as_ref()), source, pass);
                }
                ("DEL" | "UNLINK", _) => self.delete(key, source, pass),
                ("MSET", _) => {
                    let written = Written::Value { print: print(command.arg(2 * n + 2)), lives: Lives::Forever, time: record.timestamp_ms };
                    self.value(key, written, None, source, pass);
                }
                _ => {
                    if let Some((value, lives)) = set(&name, command) {
                        let version = if let Effect::IfNewer(by) = effect { Version::of(value, by) } else { None };
                        let written = Written::Value { print: print(Some(value)), lives, time: record.timestamp_ms };
                        self.value(key, written, version, source, pass);
                    } else if !self.members(&key, &name, command, source, pass) {
                        *self.uncompared.entry(name.clone()).or_default() += u64::from(pass == Pass::Range && asked);
                        self.unfollowed(key, &name, kind, command);
                    }
                }
            }
        }
    }

    /// Whether a key is to be followed; what is asked about counts from here on.
    fn concerns(&mut self, key: &[u8], pass: Pass, asked: bool) -> bool {
        let known = self.keys.contains_key(key);
        if asked {
            self.unasked.remove(key);
        } else if !known && pass == Pass::Range {
            self.unasked.insert(key.to_vec());
        }
        known || pass == Pass::Range
    }

    /// Takes what a command does to the elements of a hash, a set or a sorted set. `false`: it can't be followed.
    fn members(&mut self, key: &[u8], name: &str, command: Encoded<'_>, source: usize, pass: Pass) -> bool {
        let expires = matches!(name, "EXPIRE" | "PEXPIRE" | "EXPIREAT" | "PEXPIREAT");
        if expires || name == "PERSIST" {
            let Some(Expected::Members(members)) = self.keys.get_mut(key) else { return false };
            members.expires |= expires;
            return true;
        }
        let Some((of, changes)) = changes(name, command) else { return false };
        let expected = self.keys.entry(key.to_vec()).or_insert_with(|| Expected::Members(Members::new(of, [])));
        match expected {
            // Nothing is left of the value: the key was deleted.
            Expected::Value(value) if pass == Pass::Range && value.may_be().all(|w| *w == Written::Nothing) => {
                *expected = Expected::Members(Members::new(of, value.last.keys().copied()));
            }
            Expected::Members(members) if members.of == of => {}
            Expected::Unknown(_) => {}
            _ => *expected = Expected::Unknown(KINDS.into()),
        }
        if let Expected::Members(members) = expected {
            changes.into_iter().for_each(|(element, change)| members.change(element, change, source, pass));
        }
        true
    }

    /// A command that can't be followed writes this key, and perhaps others that it names.
    fn unfollowed(&mut self, key: Vec<u8>, name: &str, kind: &Kind, command: Encoded<'_>) {
        let why: Arc<str> = format!("what {name} leaves can't be told").into();
        self.keys.insert(key, Expected::Unknown(why.clone()));
        if !kind.writes_one_key() {
            for arg in command.args().skip(2) {
                match self.keys.get_mut(arg) {
                    Some(expected) => *expected = Expected::Unknown(why.clone()),
                    None => _ = self.touched.insert(arg.to_vec(), why.clone()),
                }
            }
        }
    }

    fn entry(&mut self, key: Vec<u8>, id: &[u8], fields: Vec<&[u8]>, kept: Kept, source: usize, pass: Pass) {
        let ids = Ids::of(id);
        let begun = || Expected::Stream(Stream { ids: ids.unwrap_or_default(), ..Stream::default() });
        let expected = self.keys.entry(key).or_insert_with(begun);
        // A stream of which some ids are said, and some are not, is not followed.
        let Expected::Stream(stream) = expected else { return expected.mixed() };
        if ids != Some(stream.ids) {
            return *expected = Expected::Unknown(IDS.into());
        }
        stream.kept = stream.kept.min(kept);
        let entries = stream.sources.entry(source).or_default();
        entries.prints.push(stream.ids.print(id, fields));
        entries.of_range += usize::from(pass == Pass::Range);
    }

    fn value(&mut self, key: Vec<u8>, written: Written, version: Option<Version>, source: usize, pass: Pass) {
        let expected = self.keys.entry(key).or_insert_with(|| Expected::Value(Value::default()));
        let Expected::Value(value) = expected else { return expected.mixed() };
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
            Some(Expected::Stream(_)) => _ = self.keys.insert(key, Expected::Unknown(DELETED.into())),
            Some(Expected::Members(members)) => members.delete(source, pass),
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

/// The value that a command sets, and how long it lives; `None`: it sets none, or what it leaves depends on what stood there.
fn set<'c>(name: &str, command: Encoded<'c>) -> Option<(&'c [u8], Lives)> {
    let number = |at: usize| std::str::from_utf8(command.arg(at)?).ok()?.parse::<i64>().ok();
    let (value, lives) = match name {
        "SET" => {
            let unit = command.arg(3).map(<[u8]>::to_ascii_uppercase);
            let lives = match unit.as_deref() {
                None => Lives::Forever,
                Some(b"EX") => Lives::For(number(4)?.checked_mul(1000)?),
                Some(b"PX") => Lives::For(number(4)?),
                Some(b"EXAT") => Lives::Until(number(4)?.checked_mul(1000)?),
                Some(b"PXAT") => Lives::Until(number(4)?),
                Some(_) => return None,
            };
            (2, Some(lives).filter(|_| command.arg(5).is_none())?)
        }
        "SETEX" => (3, Lives::For(number(2)?.checked_mul(1000)?)),
        "PSETEX" => (3, Lives::For(number(2)?)),
        "GETSET" => (2, Lives::Forever),
        _ => return None,
    };
    Some((command.arg(value)?, lives))
}

/// The print of a value.
pub fn print(value: Option<&[u8]>) -> Print {
    xxhash_rust::xxh3::xxh3_128(value.unwrap_or_default())
}
