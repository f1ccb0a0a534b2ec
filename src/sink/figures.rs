//! What Redis holds, in figures for /metrics and /status: its memory, and how long the streams of the routes are.
//!
//! A look is two exchanges. It asks for the length of each stream with a name of its own, and of `KEYS_MAX` streams at most of each
//! write whose streams are named by the record's key: those come from the route's index of keys, the next ones with each
//! look, and what is told is the last walk through all of them. So a look costs the same however many keys there are, and
//! the keyspace is never searched.
use super::connection::{Connection, Connector};
use super::failure::Failure;
use crate::config::Config;
use crate::config::serve::index;
use crate::core::encode::Encoder;
use crate::core::reply::Reply;
use crate::core::route::Route;
use crate::core::write::Kind;
use crate::ops::status::{RedisStatus, StreamStatus};
use parking_lot::Mutex;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Streams of one write that a look asks for.
const KEYS_MAX: usize = 500;

/// What was found last; nothing where Redis is away, or was not looked at yet.
pub type Seen = Mutex<Option<RedisStatus>>;

/// Where the names of some streams come from.
enum Names {
    One(Vec<u8>),
    /// An index of keys, and what stands before and behind the key.
    Keys {
        index: Vec<u8>,
        around: (Vec<u8>, Vec<u8>),
        walk: Walk,
    },
}

/// The streams of one write.
struct Streams {
    route: String,
    /// The template of their names.
    key: String,
    names: Names,
}

/// How many streams there are, and how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lengths {
    streams: u64,
    entries: u64,
    longest: u64,
}

impl Lengths {
    /// Counts a stream; an empty one is none.
    fn add(&mut self, entries: u64) {
        self.streams += u64::from(entries > 0);
        self.entries += entries;
        self.longest = self.longest.max(entries);
    }
}

/// A walk through an index, some keys at each look.
#[derive(Debug, Default)]
struct Walk {
    /// The last key that was looked at.
    after: Option<Vec<u8>>,
    /// Since the first key.
    sofar: Lengths,
    /// Of the last walk that came to the end.
    whole: Option<Lengths>,
}

impl Walk {
    /// Where the next keys begin, as ZRANGEBYLEX has it.
    fn from(&self) -> Vec<u8> {
        self.after.as_ref().map_or_else(|| b"-".to_vec(), |key| [b"(", key.as_slice()].concat())
    }

    /// Takes the lengths of the next keys, of which there could have been `KEYS_MAX`.
    fn take(&mut self, keys: Vec<Vec<u8>>, lengths: impl Iterator<Item = u64>) {
        lengths.for_each(|entries| self.sofar.add(entries));
        let full = keys.len() == KEYS_MAX;
        self.after = keys.into_iter().last().filter(|_| full);
        if self.after.is_none() {
            self.whole = Some(std::mem::take(&mut self.sofar));
        }
    }

    /// The last whole walk; before the first has ended, as far as it has come.
    fn lengths(&self) -> Lengths {
        self.whole.unwrap_or(self.sofar)
    }
}

/// Who looks, again and again.
pub struct Figures {
    connector: Connector,
    every: Duration,
    streams: Vec<Streams>,
    seen: Weak<Seen>,
    /// What Redis refused to tell, which was logged.
    refused: Option<String>,
}

impl Figures {
    /// Of what the routes and dead letters write.
    pub fn new(config: &Config, routes: &[Route], connector: Connector, seen: &Arc<Seen>) -> Self {
        let mut streams = Vec::new();
        if !config.dead_letter.stream.is_empty() {
            let name = config.dead_letter.stream.clone();
            streams.push(Streams { route: String::new(), names: Names::One(name.clone().into()), key: name });
        }
        let indexes = index(config, routes);
        for (r, (route, written)) in routes.iter().zip(&config.route).enumerate() {
            for (write, text) in route.writes.iter().zip(&written.write) {
                let (Kind::Xadd(xadd), Some(text)) = (&write.kind, &text.xadd) else { continue };
                let indexed = || indexes.as_ref().and_then(|i| i[r].clone()).zip(xadd.key.around_key());
                let names = match xadd.key.constant() {
                    Some(name) => Some(Names::One(name.to_vec())),
                    None => indexed().map(|(index, (before, behind))| Names::Keys {
                        index: index.0.clone(),
                        around: (before.to_vec(), behind.to_vec()),
                        walk: Walk::default(),
                    }),
                };
                // Two writes may have the same streams.
                let known = streams.iter().any(|s| s.route == route.name && s.key == text.key);
                streams.extend(names.filter(|_| !known).map(|names| Streams { route: route.name.clone(), key: text.key.clone(), names }));
            }
        }
        Self { connector, every: config.http.redis_every.0, streams, seen: Arc::downgrade(seen), refused: None }
    }

    /// Looks for as long as somebody wants to know.
    pub fn run(mut self) {
        let mut connection = None;
        while let Some(seen) = self.seen.upgrade() {
            let found = match connection.take().map_or_else(|| self.connector.connect(), Ok) {
                Ok(mut fresh) => self.look(&mut fresh).inspect(|_| connection = Some(fresh)),
                Err(e) => Err(e),
            };
            // The lanes tell that Redis is away, and why.
            let found = found.inspect_err(|e| tracing::debug!("Redis is not looked at: {e}"));
            *seen.lock() = found.ok();
            drop(seen);
            std::thread::park_timeout(self.every);
        }
    }

    /// One look.
    fn look(&mut self, connection: &mut Connection) -> Result<RedisStatus, Failure> {
        let mut ask = Encoder::default();
        ask.command(&["INFO", "memory"]);
        for streams in &self.streams {
            match &streams.names {
                Names::One(name) => ask.command(&[b"XLEN".as_slice(), name]),
                Names::Keys { index, walk, .. } => {
                    ask.command(&[b"ZRANGEBYLEX".as_slice(), index, &walk.from(), b"+", b"LIMIT", b"0", KEYS_MAX.to_string().as_bytes()]);
                }
            }
        }
        let mut replies = connection.exchange(ask.bytes(), 1 + self.streams.len())?.into_iter();
        let memory = replies.next().map(|reply| self.told(reply)).and_then(text).unwrap_or_default();
        let figure = |name: &str| memory.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok());
        let mut found = RedisStatus {
            looked_at_ms: jiff::Timestamp::now().as_millisecond(),
            used_memory_bytes: figure("used_memory"),
            maxmemory_bytes: figure("maxmemory"),
            streams: Vec::new(),
        };
        let replies: Vec<Reply> = replies.map(|reply| self.told(reply)).collect();
        for (at, reply) in replies.into_iter().enumerate() {
            let lengths = match reply {
                Reply::Int(entries) => {
                    let mut one = Lengths::default();
                    one.add(u64::try_from(entries).unwrap_or_default());
                    one
                }
                Reply::Array(keys) => self.walk(connection, at, keys)?,
                _ => continue,
            };
            let Lengths { streams: count, entries, longest } = lengths;
            let Streams { route, key, .. } = &self.streams[at];
            found.streams.push(StreamStatus { route: route.clone(), key: key.clone(), count, entries, longest });
        }
        Ok(found)
    }

    /// Asks for the next lengths of a walk.
    fn walk(&mut self, connection: &mut Connection, at: usize, keys: Vec<Reply>) -> Result<Lengths, Failure> {
        let keys: Vec<Vec<u8>> = keys.into_iter().filter_map(|key| if let Reply::Text(key) = key { Some(key.to_vec()) } else { None }).collect();
        let Names::Keys { around: (before, behind), .. } = &self.streams[at].names else { return Ok(Lengths::default()) };
        let mut ask = Encoder::default();
        keys.iter().for_each(|key| ask.command(&[b"XLEN".as_slice(), &[before, key.as_slice(), behind].concat()]));
        let replies = connection.exchange(ask.bytes(), keys.len())?;
        let lengths: Vec<u64> =
            replies.into_iter().map(|reply| if let Reply::Int(n) = self.told(reply) { u64::try_from(n).unwrap_or_default() } else { 0 }).collect();
        let Names::Keys { walk, .. } = &mut self.streams[at].names else { return Ok(Lengths::default()) };
        walk.take(keys, lengths.into_iter());
        Ok(walk.lengths())
    }

    /// Logs what is refused, once: a figure is left out, and all else goes on.
    fn told(&mut self, reply: Reply) -> Reply {
        if let Reply::Error(error) = &reply
            && self.refused.is_none()
        {
            tracing::info!("figures of Redis are left out of /metrics, since it refuses to tell them ({error}); INFO, XLEN and ZRANGEBYLEX are asked for");
            self.refused = Some(error.clone());
        }
        reply
    }
}

fn text(reply: Reply) -> Option<String> {
    if let Reply::Text(bytes) = reply { Some(String::from_utf8_lossy(&bytes).into_owned()) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_takes_some_keys_at_a_time_and_tells_the_last_one_that_was_whole() {
        let keys = |from: usize, count: usize| (from..from + count).map(|n| format!("{n:04}").into_bytes()).collect::<Vec<_>>();
        let mut walk = Walk::default();
        assert_eq!(walk.from(), b"-");
        walk.take(keys(0, KEYS_MAX), (0..KEYS_MAX).map(|_| 2));
        assert_eq!((walk.from(), walk.lengths().entries), (b"(0499".to_vec(), 2 * KEYS_MAX as u64), "as far as it has come");
        walk.take(keys(KEYS_MAX, 3), [7, 0, 1].into_iter());
        let whole = Lengths { streams: KEYS_MAX as u64 + 2, entries: 2 * KEYS_MAX as u64 + 8, longest: 7 };
        assert_eq!((walk.from(), walk.lengths()), (b"-".to_vec(), whole), "an empty stream is none");
        walk.take(keys(0, KEYS_MAX), (0..KEYS_MAX).map(|_| 9));
        assert_eq!(walk.lengths(), whole, "the next one is not whole yet");
        walk.take(Vec::new(), [].into_iter());
        assert_eq!(walk.lengths().longest, 9, "an end without keys is one, too");
    }
}
