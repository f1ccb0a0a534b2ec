//! What stands in Redis at the keys that are verified.
use crate::core::encode::Encoder;
use crate::core::reply::Reply;
use crate::core::verify::compare::{FoundStream, FoundValue};
use crate::core::verify::model::{Expected, Model, Print, print, print_fields};
use crate::sink::connection::Connection;
use std::collections::HashMap;

/// How many keys, and entries, are asked for at once.
const KEYS_MAX: usize = 200;
const ENTRIES_MAX: usize = 500;

/// A stream's newest entries, the newest first, and the id before which the next ones are.
struct Entries {
    prints: Vec<Print>,
    before: Vec<u8>,
    /// There are no older ones.
    whole: bool,
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Look {
    streams: HashMap<Vec<u8>, Result<Entries, String>>,
    values: HashMap<Vec<u8>, Result<Option<FoundValue>, String>>,
}

impl Look {
    /// Looks at all keys of a model.
    pub(super) fn take(redis: &mut Connection, model: &Model) -> Result<Self, String> {
        let mut look = Self::default();
        let values: Vec<&Vec<u8>> = model.keys.iter().filter(|(_, e)| matches!(e, Expected::Value(_))).map(|(k, _)| k).collect();
        for keys in values.chunks(KEYS_MAX) {
            let mut out = Encoder::default();
            for key in keys {
                out.command(&[b"GET", key.as_slice()]);
                out.command(&[b"PTTL", key.as_slice()]);
            }
            let replies = redis.exchange(out.bytes(), out.commands()).map_err(|e| format!("Redis: {e}"))?;
            for (key, reply) in keys.iter().zip(replies.chunks_exact(2)) {
                look.values.insert((*key).clone(), value(reply)?);
            }
        }
        look.further(redis, model)?;
        Ok(look)
    }

    /// Looks at older entries of the streams, until there are more than the model has: it knows of newer ones now.
    pub(super) fn further(&mut self, redis: &mut Connection, model: &Model) -> Result<(), String> {
        for (key, expected) in &model.keys {
            let Expected::Stream(stream) = expected else { continue };
            let wanted = stream.sources.values().map(|s| s.prints.len()).sum::<usize>();
            let begun = self.streams.remove(key).unwrap_or_else(|| Ok(Entries { prints: Vec::new(), before: b"+".to_vec(), whole: false }));
            let read = match begun {
                Ok(entries) => older(redis, key, entries, wanted)?,
                Err(why) => Err(why),
            };
            self.streams.insert(key.clone(), read);
        }
        Ok(())
    }

    pub(super) fn stream(&self, key: &[u8]) -> Result<FoundStream, String> {
        let entries = self.streams.get(key).ok_or("it was not looked at")?.as_ref().map_err(Clone::clone)?;
        Ok(FoundStream { prints: entries.prints.iter().rev().copied().collect() })
    }

    pub(super) fn value(&self, key: &[u8]) -> Result<Option<FoundValue>, String> {
        self.values.get(key).ok_or("it was not looked at")?.clone()
    }
}

/// A key of another type is a difference; any other refusal ends it all.
fn refusal<T>(error: &str) -> Result<Result<T, String>, String> {
    if error.starts_with("WRONGTYPE") { Ok(Err("the key holds something of another type".into())) } else { Err(format!("Redis refuses: {error}")) }
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

/// Goes on to older entries, until there is one more than `wanted`, where there are so many.
fn older(redis: &mut Connection, key: &[u8], mut entries: Entries, wanted: usize) -> Result<Result<Entries, String>, String> {
    while !entries.whole && entries.prints.len() <= wanted {
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
        entries.prints.extend(page.iter().map(|entry| print_fields(fields(entry))));
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
