//! What stands in Redis at the keys that are verified.
use crate::core::encode::Encoder;
use crate::core::reply::Reply;
use crate::core::verify::compare::{FoundStream, FoundValue};
use crate::core::verify::members::{Members, Of, score_print};
use crate::core::verify::model::{Expected, Model, Print, Stream, print};
use crate::sink::connection::Connection;
use std::collections::HashMap;

/// How many keys, and entries, are asked for at once.
const KEYS_MAX: usize = 200;
const ENTRIES_MAX: usize = 500;

/// The elements that stand at a key, of those that are expected.
type Elements = HashMap<Vec<u8>, Print>;

/// What stood at a key, and when that was, in milliseconds since the epoch.
type Seen = (Option<FoundValue>, i64);

/// A stream's newest entries, the newest first, and the id before which the next ones are.
struct Entries {
    prints: Vec<Print>,
    before: Vec<u8>,
    /// There are no older ones.
    whole: bool,
    length: usize,
    deleted: Option<bool>,
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Look {
    streams: HashMap<Vec<u8>, Result<Entries, String>>,
    values: HashMap<Vec<u8>, Result<Seen, String>>,
    members: HashMap<Vec<u8>, Result<Elements, String>>,
}

impl Look {
    /// Looks at these keys of a model.
    pub(super) fn take(redis: &mut Connection, model: &Model, keys: &[Vec<u8>]) -> Result<Self, String> {
        let mut look = Self::default();
        let values: Vec<&Vec<u8>> = keys.iter().filter(|k| matches!(model.keys.get(*k), Some(Expected::Value(_)))).collect();
        for keys in values.chunks(KEYS_MAX) {
            let mut out = Encoder::default();
            for key in keys {
                out.command(&[b"GET", key.as_slice()]);
                out.command(&[b"PTTL", key.as_slice()]);
            }
            let replies = redis.exchange(out.bytes(), out.commands()).map_err(|e| format!("Redis: {e}"))?;
            let now_ms = jiff::Timestamp::now().as_millisecond();
            for (key, reply) in keys.iter().zip(replies.chunks_exact(2)) {
                look.values.insert((*key).clone(), value(reply)?.map(|found| (found, now_ms)));
            }
        }
        let members = |k| if let Some(Expected::Members(members)) = model.keys.get(k) { Some((k, members)) } else { None };
        look.members = elements(redis, &keys.iter().filter_map(members).collect::<Vec<_>>())?;
        look.further(redis, model, keys)?;
        Ok(look)
    }

    /// Looks at older entries of the streams, until there are more than the model has, and all that the range has: it
    /// knows of newer ones now.
    pub(super) fn further(&mut self, redis: &mut Connection, model: &Model, keys: &[Vec<u8>]) -> Result<(), String> {
        let streams: Vec<(&Vec<u8>, &Stream)> =
            keys.iter().filter_map(|k| if let Some(Expected::Stream(s)) = model.keys.get(k) { Some((k, s)) } else { None }).collect();
        for (key, stream) in &streams {
            let nothing = || Entries { prints: Vec::new(), before: b"+".to_vec(), whole: false, length: 0, deleted: None };
            let read = match self.streams.remove(*key).unwrap_or_else(|| Ok(nothing())) {
                Ok(entries) => older(redis, key, entries, stream)?,
                Err(why) => Err(why),
            };
            self.streams.insert((*key).clone(), read);
        }
        for streams in streams.chunks(KEYS_MAX) {
            let mut out = Encoder::default();
            for (key, _) in streams {
                out.command(&[b"XLEN".as_slice(), key]);
                out.command(&[b"XINFO".as_slice(), b"STREAM", key]);
            }
            let replies = redis.exchange(out.bytes(), out.commands()).map_err(|e| format!("Redis: {e}"))?;
            for ((key, _), reply) in streams.iter().zip(replies.chunks_exact(2)) {
                let Some(Ok(entries)) = self.streams.get_mut(*key) else { continue };
                entries.deleted = deleted(&reply[1]);
                match &reply[0] {
                    Reply::Int(n) => entries.length = usize::try_from(*n).unwrap_or(0),
                    Reply::Error(error) => drop(refusal::<()>(error)?),
                    other => return Err(format!("XLEN answered {other:?}")),
                }
            }
        }
        Ok(())
    }

    pub(super) fn stream(&self, key: &[u8]) -> Result<FoundStream, String> {
        let entries = self.streams.get(key).ok_or("it was not looked at")?.as_ref().map_err(Clone::clone)?;
        Ok(FoundStream { prints: entries.prints.iter().rev().copied().collect(), length: entries.length, deleted: entries.deleted })
    }

    pub(super) fn members(&self, key: &[u8]) -> Result<&Elements, String> {
        self.members.get(key).ok_or("it was not looked at")?.as_ref().map_err(Clone::clone)
    }

    pub(super) fn value(&self, key: &[u8]) -> Result<Seen, String> {
        self.values.get(key).ok_or("it was not looked at")?.clone()
    }
}

/// A key of another type is a difference; any other refusal ends it all.
fn refusal<T>(error: &str) -> Result<Result<T, String>, String> {
    if error.starts_with("WRONGTYPE") { Ok(Err("the key holds something of another type".into())) } else { Err(format!("Redis refuses: {error}")) }
}

/// Asks for the expected elements of these keys, so many at once.
fn elements(redis: &mut Connection, keys: &[(&Vec<u8>, &Members)]) -> Result<HashMap<Vec<u8>, Result<Elements, String>>, String> {
    let mut all: HashMap<Vec<u8>, Result<Elements, String>> = keys.iter().map(|(key, _)| ((*key).clone(), Ok(Elements::new()))).collect();
    let compared = |(key, members): &(&'_ Vec<u8>, &'_ Members)| {
        let (key, of) = ((*key).clone(), members.of);
        let names = members.elements.iter().filter(|(_, e)| !e.unfollowed).map(|(name, _)| name.clone());
        names.map(|name| (key.clone(), of, name)).collect::<Vec<_>>()
    };
    let mut asked = keys.iter().flat_map(compared).peekable();
    while asked.peek().is_some() {
        let page: Vec<(Vec<u8>, Of, Vec<u8>)> = asked.by_ref().take(ENTRIES_MAX).collect();
        let mut out = Encoder::default();
        for (key, of, name) in &page {
            let ask: &[u8] = match of {
                Of::Hash => b"HGET",
                Of::Set => b"SISMEMBER",
                Of::Sorted => b"ZSCORE",
            };
            out.command(&[ask, key, name]);
        }
        let replies = redis.exchange(out.bytes(), out.commands()).map_err(|e| format!("Redis: {e}"))?;
        for ((key, of, name), reply) in page.into_iter().zip(&replies) {
            let there = match (reply, of) {
                (Reply::Nil | Reply::Int(0), _) => Ok(None),
                (Reply::Int(_), Of::Set) => Ok(Some(0)),
                (Reply::Text(score), Of::Sorted) => Ok(score_print(score)),
                (Reply::Text(value), Of::Hash) => Ok(Some(print(Some(value)))),
                (Reply::Error(error), _) => refusal(error)?,
                (other, _) => return Err(format!("an element was answered by {other:?}")),
            };
            match (there, all.get_mut(&key)) {
                (Ok(Some(there)), Some(Ok(found))) => _ = found.insert(name, there),
                (Err(why), Some(found)) => *found = Err(why),
                _ => {}
            }
        }
    }
    Ok(all)
}

fn value(replies: &[Reply]) -> Result<Result<Option<FoundValue>, String>, String> {
    match (&replies[0], &replies[1]) {
        (Reply::Error(error), _) | (_, Reply::Error(error)) => refusal(error),
        // It expired between the two.
        (Reply::Nil, _) | (_, Reply::Int(-2)) => Ok(Ok(None)),
        (Reply::Text(value), Reply::Int(ttl)) => Ok(Ok(Some(FoundValue { print: print(Some(value)), ttl: (*ttl >= 0).then_some(*ttl) }))),
        (other, _) => Err(format!("GET answered {other:?}")),
    }
}

/// Goes on to older entries, until there is one more than the model has, and each of the range; where there are so many.
fn older(redis: &mut Connection, key: &[u8], mut entries: Entries, stream: &Stream) -> Result<Result<Entries, String>, String> {
    let wanted = stream.sources.values().map(|s| s.prints.len()).sum::<usize>();
    let mut lacking: HashMap<Print, i64> = HashMap::new();
    stream.sources.values().flat_map(|s| &s.prints[..s.of_range]).for_each(|p| *lacking.entry(*p).or_default() += 1);
    let mut strike = |prints: &[Print]| {
        for print in prints {
            if let Some(n) = lacking.get_mut(print) {
                *n -= 1;
                if *n == 0 {
                    lacking.remove(print);
                }
            }
        }
        !lacking.is_empty()
    };
    let mut lacks = strike(&entries.prints);
    while !entries.whole && (lacks || entries.prints.len() <= wanted) {
        let count = ENTRIES_MAX.to_string();
        let reply = redis.command(&[b"XREVRANGE", key, entries.before.as_slice(), b"-", b"COUNT", count.as_bytes()]).map_err(|e| format!("Redis: {e}"))?;
        let page = match reply {
            Reply::Array(page) => page,
            Reply::Error(error) => return refusal(&error),
            other => return Err(format!("XREVRANGE answered {other:?}")),
        };
        match page.last().and_then(id) {
            Some(last) => entries.before = [b"(".as_slice(), last].concat(),
            None => entries.whole = true,
        }
        let before = entries.prints.len();
        entries.prints.extend(page.iter().map(|entry| stream.ids.print(id(entry).unwrap_or_default(), fields(entry))));
        lacks = strike(&entries.prints[before..]);
    }
    Ok(Ok(entries))
}

fn id(entry: &Reply) -> Option<&[u8]> {
    match entry {
        Reply::Array(parts) => parts.first().and_then(|id| if let Reply::Text(id) = id { Some(&**id) } else { None }),
        _ => None,
    }
}

fn fields(entry: &Reply) -> impl Iterator<Item = &[u8]> {
    let parts = if let Reply::Array(parts) = entry { parts.as_slice() } else { &[] };
    let fields = if let Some(Reply::Array(fields)) = parts.get(1) { fields.as_slice() } else { &[] };
    fields.iter().filter_map(|f| if let Reply::Text(text) = f { Some(&**text) } else { None })
}

/// Whether an entry behind a stream's first one was deleted by its id, as XINFO STREAM says since Redis 7.0.
fn deleted(info: &Reply) -> Option<bool> {
    let Reply::Array(fields) = info else { return None };
    let field = |name: &[u8]| fields.chunks_exact(2).find(|pair| matches!(&pair[0], Reply::Text(t) if **t == *name)).map(|pair| &pair[1]);
    let number = |id: &[u8]| {
        let (ms, seq) = std::str::from_utf8(id).ok()?.split_once('-')?;
        Some((ms.parse::<u64>().ok()?, seq.parse::<u64>().ok()?))
    };
    let Reply::Text(last) = field(b"max-deleted-entry-id")? else { return None };
    let Some(first) = field(b"first-entry").and_then(id) else { return Some(false) };
    Some(number(last)? > number(first)?)
}
