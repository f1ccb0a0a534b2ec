//! A model of one Redis: data, and connections with WATCH, MULTI and EXEC as the real one has them
//! (`tests/model.rs` compares the two). Each who uses it uses a part.
#![allow(dead_code)]
use crate::core::encode::parse_commands;
use crate::core::reply::Reply;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) type Command = Vec<Vec<u8>>;

/// A value of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
    /// Each entry's explicit id, or `*`, and its fields.
    Stream(Vec<Command>),
    Text(Vec<u8>),
    Set(BTreeSet<Vec<u8>>),
    /// Its members; all have the score 0.
    Sorted(BTreeSet<Vec<u8>>),
}

impl Value {
    fn name(&self) -> &'static str {
        match self {
            Self::Hash(_) => "hash",
            Self::Stream(_) => "stream",
            Self::Text(_) => "string",
            Self::Set(_) => "set",
            Self::Sorted(_) => "zset",
        }
    }
}

/// How many bytes replies take on the wire, at least: a text may also be a bulk string.
pub(crate) fn wire_bytes(replies: &[Reply]) -> usize {
    let one = |reply: &Reply| match reply {
        Reply::Nil => b"*-1\r\n".len(),
        Reply::Int(n) => n.to_string().len() + b":\r\n".len(),
        Reply::Text(text) => text.len() + b"+\r\n".len(),
        Reply::Array(all) => all.len().to_string().len() + b"*\r\n".len() + wire_bytes(all),
        Reply::Error(error) => error.len() + b"-\r\n".len(),
    };
    replies.iter().map(one).sum()
}

pub(crate) type Data = BTreeMap<Vec<u8>, Value>;

/// Where servers differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Dialect {
    Redis6,
    #[default]
    Redis7,
    Valkey8,
}

#[derive(Debug, Default)]
struct Connection {
    /// Each watched key, and how often it had been written to.
    watched: BTreeMap<Vec<u8>, u64>,
    queued: Option<Vec<Command>>,
    aborted: bool,
}

impl Connection {
    /// Whether a watched key has been written to.
    fn moved(&self, writes: &BTreeMap<Vec<u8>, u64>) -> bool {
        self.watched.iter().any(|(key, seen)| writes.get(key).copied().unwrap_or_default() != *seen)
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Redis {
    pub(crate) data: Data,
    /// Commands are refused with this: all of them if it is LOADING or BUSY, else those that write.
    pub(crate) refuses: Option<&'static str>,
    /// Only this command is.
    pub(crate) refuses_only: Option<&'static str>,
    /// XADDs to keys that begin so fail with NOPERM where they run: the ACL changed after they were queued.
    pub(crate) denies: Option<&'static str>,
    pub(crate) dialect: Dialect,
    /// Something that another client does before the next EXEC.
    pub(crate) before_exec: Option<fn(&mut Redis)>,
    connections: BTreeMap<usize, Connection>,
    writes: BTreeMap<Vec<u8>, u64>,
}

fn ok() -> Reply {
    Reply::OK
}

fn is(command: &Command, names: &[&str]) -> bool {
    names.iter().any(|n| n.as_bytes() == command[0])
}

/// The time in an explicit id.
fn number(id: &[u8]) -> Option<u64> {
    std::str::from_utf8(id).ok().and_then(|t| t.split('-').next()?.parse().ok())
}

impl Redis {
    pub(crate) fn new(dialect: Dialect, data: Data) -> Self {
        Self { dialect, data, ..Self::default() }
    }

    /// Serves encoded commands on one connection.
    pub(crate) fn serve(&mut self, connection: usize, bytes: &[u8]) -> Vec<Reply> {
        parse_commands(bytes).expect("whole commands").into_iter().map(|c| self.command(connection, c)).collect()
    }

    /// The owners of the states whose positions a connection's queued commands would move. A claim brings its own owner.
    pub(crate) fn owners_of_queued_positions(&self, connection: usize) -> Vec<String> {
        let queued = self.connections.get(&connection).and_then(|c| c.queued.as_deref()).unwrap_or_default();
        let moves = |c: &&Command| is(c, &["HSET"]) && c.get(2).is_some_and(|field| field == b"offset");
        queued.iter().filter(moves).filter_map(|c| self.field(&c[1], "owner")).collect()
    }

    /// A connection is gone, with what it watched and queued.
    pub(crate) fn drop_connection(&mut self, connection: usize) {
        self.connections.remove(&connection);
    }

    /// Another client writes a field of a hash.
    pub(crate) fn set_field(&mut self, key: &[u8], field: &str, value: &str) {
        self.apply(&vec![b"HSET".to_vec(), key.to_vec(), field.into(), value.into()]);
    }

    /// A key is evicted, or deleted by another client.
    pub(crate) fn remove(&mut self, key: &[u8]) {
        if self.data.remove(key).is_some() {
            self.wrote(key);
        }
    }

    /// All data becomes other, older data.
    pub(crate) fn go_back(&mut self, data: Data) {
        let keys: Vec<Vec<u8>> = self.data.keys().chain(data.keys()).cloned().collect();
        keys.iter().for_each(|key| self.wrote(key));
        self.data = data;
    }

    /// Why a command is refused before it is looked at. A full Redis lets nothing be queued, reads neither.
    fn refusal(&self, c: &Command, queues: bool) -> Option<Reply> {
        let error = self.refuses?;
        // EXPIRE, DEL and UNLINK take no memory.
        let writes = is(c, &["XADD", "HSET", "HSETNX", "HINCRBY", "SET", "SADD", "ZADD"]) || is(c, &["EXPIRE", "DEL", "UNLINK"]) && !error.starts_with("OOM");
        let all = error.starts_with("LOADING") || error.starts_with("BUSY") || error.starts_with("OOM") && queues && self.dialect != Dialect::Valkey8;
        let hit = self.refuses_only.map_or(writes || all && !is(c, &["MULTI", "EXEC", "UNWATCH", "WATCH"]), |only| is(c, &[only]));
        hit.then(|| Reply::Error(error.into()))
    }

    pub(crate) fn command(&mut self, connection: usize, c: Command) -> Reply {
        let refusal = self.refusal(&c, self.connections.get(&connection).is_some_and(|s| s.queued.is_some()));
        let writes = &self.writes;
        let state = self.connections.entry(connection).or_default();
        match c[0].as_slice() {
            b"MULTI" if state.queued.is_some() => return Reply::Error("ERR MULTI calls can not be nested".into()),
            b"MULTI" => state.queued = Some(Vec::new()),
            b"EXEC" => return self.exec(connection),
            b"WATCH" if state.queued.is_some() => return Reply::Error("ERR WATCH inside MULTI is not allowed".into()),
            b"WATCH" => {
                for key in &c[1..] {
                    state.watched.entry(key.clone()).or_insert_with(|| writes.get(key).copied().unwrap_or_default());
                }
            }
            _ if refusal.is_some() => {
                state.aborted |= state.queued.is_some();
                return refusal.unwrap_or(Reply::Nil);
            }
            _ if state.queued.is_some() => {
                // What can't be executed any more is not kept, from 7.0 on.
                if !state.aborted && (self.dialect == Dialect::Redis6 || !state.moved(writes)) {
                    state.queued.get_or_insert_default().push(c);
                }
                return Reply::QUEUED;
            }
            b"UNWATCH" => state.watched.clear(),
            _ => return self.apply(&c),
        }
        ok()
    }

    fn exec(&mut self, connection: usize) -> Reply {
        if let Some(other) = self.before_exec.take() {
            other(self);
        }
        let state = self.connections.remove(&connection).unwrap_or_default();
        let moved = state.moved(&self.writes);
        let Connection { watched, queued, aborted } = state;
        let Some(queued) = queued else {
            self.connections.insert(connection, Connection { watched, queued: None, aborted: false });
            return Reply::Error("ERR EXEC without MULTI".into());
        };
        let previous = Reply::Error("EXECABORT Transaction discarded because of previous errors.".into());
        if aborted && self.dialect == Dialect::Valkey8 {
            return previous;
        }
        // What began to be refused after it was queued.
        if let Some(Reply::Error(error)) = queued.iter().find_map(|c| self.refusal(c, false)) {
            return Reply::Error(format!("EXECABORT Transaction discarded because of: {}", error.strip_prefix('-').unwrap_or(&error)));
        }
        if aborted {
            return previous;
        }
        if moved {
            return Reply::Nil;
        }
        let denied = |c: &Command| {
            let hit = self.denies.is_some_and(|d| is(c, &["XADD"]) && c[1].starts_with(d.as_bytes()));
            hit.then(|| "NOPERM No permissions to access a key".to_owned())
        };
        let denied: Vec<_> = queued.iter().map(denied).collect();
        Reply::Array(queued.iter().zip(denied).map(|(c, denied)| denied.map_or_else(|| self.apply(c), Reply::Error)).collect())
    }

    fn wrote(&mut self, key: &[u8]) {
        *self.writes.entry(key.to_vec()).or_default() += 1;
    }

    fn apply(&mut self, c: &Command) -> Reply {
        self.try_apply(c).unwrap_or_else(|| Reply::Error("WRONGTYPE Operation against a key holding the wrong kind of value".into()))
    }

    fn hash(&self, key: &[u8]) -> Option<Option<&BTreeMap<Vec<u8>, Vec<u8>>>> {
        match self.data.get(key) {
            None => Some(None),
            Some(Value::Hash(hash)) => Some(Some(hash)),
            Some(_) => None,
        }
    }

    fn hash_mut(&mut self, key: &[u8]) -> Option<&mut BTreeMap<Vec<u8>, Vec<u8>>> {
        match self.data.entry(key.to_vec()).or_insert_with(|| Value::Hash(BTreeMap::new())) {
            Value::Hash(hash) => Some(hash),
            _ => None,
        }
    }

    /// `None`: the key holds another type.
    fn try_apply(&mut self, c: &Command) -> Option<Reply> {
        let text = |t: Option<&Vec<u8>>| t.map_or(Reply::Nil, |t| Reply::Text(t.as_slice().into()));
        let key = &c[1];
        Some(match c[0].as_slice() {
            b"HMGET" => {
                let hash = self.hash(key)?;
                Reply::Array(c[2..].iter().map(|f| text(hash.and_then(|h| h.get(f)))).collect())
            }
            b"HGETALL" => Reply::Array(
                self.hash(key)?.into_iter().flatten().flat_map(|(f, v)| [Reply::Text(f.as_slice().into()), Reply::Text(v.as_slice().into())]).collect(),
            ),
            b"HGET" => text(self.hash(key)?.and_then(|h| h.get(&c[2]))),
            b"GET" => match self.data.get(key) {
                None => Reply::Nil,
                Some(Value::Text(t)) => Reply::Text(t.as_slice().into()),
                Some(_) => return None,
            },
            b"TYPE" => Reply::Text(self.data.get(key).map_or("none", Value::name).into()),
            b"XADD" => return self.xadd(c),
            b"XREVRANGE" => return self.newest(c),
            b"SADD" => {
                let Value::Set(set) = self.data.entry(key.clone()).or_insert_with(|| Value::Set(BTreeSet::new())) else { return None };
                let added = c[2..].iter().filter(|m| set.insert((*m).clone())).count();
                if added > 0 {
                    self.wrote(key);
                }
                Reply::Int(i64::try_from(added).unwrap_or_default())
            }
            b"ZADD" => return self.zadd(c),
            b"SISMEMBER" => match self.data.get(key) {
                None => Reply::Int(0),
                Some(Value::Set(set)) => Reply::Int(set.contains(&c[2]).into()),
                Some(_) => return None,
            },
            // Longer than any run.
            b"EXPIRE" => {
                let there = self.data.contains_key(key);
                if there {
                    self.wrote(key);
                }
                Reply::Int(there.into())
            }
            b"HSET" => {
                let hash = self.hash_mut(key)?;
                let added = c[2..].chunks(2).filter(|p| hash.insert(p[0].clone(), p[1].clone()).is_none()).count();
                self.wrote(key);
                Reply::Int(i64::try_from(added).unwrap_or_default())
            }
            b"HINCRBY" => return self.count(c),
            b"DEL" | b"UNLINK" => {
                let there = self.data.contains_key(key);
                self.remove(key);
                Reply::Int(there.into())
            }
            b"HSETNX" => {
                let hash = self.hash_mut(key)?;
                let absent = !hash.contains_key(&c[2]);
                if absent {
                    hash.insert(c[2].clone(), c[3].clone());
                    self.wrote(key);
                }
                Reply::Int(absent.into())
            }
            b"SET" if is(&c[c.len() - 1..].to_vec(), &["NX"]) && self.data.contains_key(key) => Reply::Nil,
            b"SET" => {
                self.wrote(key);
                self.data.insert(key.clone(), Value::Text(c[2].clone()));
                ok()
            }
            other => panic!("the model does not know {}", String::from_utf8_lossy(other)),
        })
    }

    /// ZADD key score member ...; all have one score.
    fn zadd(&mut self, c: &Command) -> Option<Reply> {
        let Value::Sorted(sorted) = self.data.entry(c[1].clone()).or_insert_with(|| Value::Sorted(BTreeSet::new())) else { return None };
        let added = c[2..].chunks(2).filter(|p| sorted.insert(p[1].clone())).count();
        if added > 0 {
            self.wrote(&c[1]);
        }
        Some(Reply::Int(i64::try_from(added).unwrap_or_default()))
    }

    /// HINCRBY key field n.
    fn count(&mut self, c: &Command) -> Option<Reply> {
        let number = |t: &[u8]| std::str::from_utf8(t).ok().and_then(|t| t.parse::<i64>().ok()).unwrap_or_default();
        let hash = self.hash_mut(&c[1])?;
        let sum = hash.get(&c[2]).map_or(0, |n| number(n)) + number(&c[3]);
        hash.insert(c[2].clone(), sum.to_string().into_bytes());
        self.wrote(&c[1]);
        Some(Reply::Int(sum))
    }

    /// XREVRANGE key to from COUNT n, of ids without their second half.
    fn newest(&self, c: &Command) -> Option<Reply> {
        let entries = match self.data.get(&c[1]) {
            None => &[][..],
            Some(Value::Stream(entries)) => entries,
            Some(_) => return None,
        };
        let texts = |words: &[Vec<u8>]| Reply::Array(words.iter().map(|w| Reply::Text(w.as_slice().into())).collect());
        let within = |e: &&Command| number(&e[0]).is_some_and(|n| number(&c[3]) <= Some(n) && Some(n) <= number(&c[2]));
        let count = usize::try_from(number(&c[5]).unwrap_or_default()).unwrap_or_default();
        let found = entries.iter().rev().filter(within).take(count);
        Some(Reply::Array(found.map(|e| Reply::Array(vec![Reply::Text(e[0].as_slice().into()), texts(&e[1..])])).collect()))
    }

    /// XADD key id field value ...; an explicit id is `ms-0` or `ms-*` here, and below any that the server gives.
    fn xadd(&mut self, c: &Command) -> Option<Reply> {
        let top = match self.data.get(&c[1]) {
            None => None,
            Some(Value::Stream(entries)) => entries.last().map(|e| number(&e[0]).unwrap_or(u64::MAX)),
            Some(_) => return None,
        };
        let id = number(&c[2]);
        if id.is_some() && (id < top || id == top && !c[2].ends_with(b"-*")) {
            return Some(Reply::Error("ERR The ID specified in XADD is equal or smaller than the target stream top item".into()));
        }
        self.wrote(&c[1]);
        if let Value::Stream(entries) = self.data.entry(c[1].clone()).or_insert_with(|| Value::Stream(Vec::new())) {
            entries.push(c[2..].to_vec());
        }
        Some(Reply::Text(c[2].as_slice().into()))
    }

    pub(crate) fn stream(&self, key: &str) -> &[Command] {
        match self.data.get(key.as_bytes()) {
            Some(Value::Stream(entries)) => entries,
            _ => &[],
        }
    }

    pub(crate) fn text(&self, key: &str) -> Option<String> {
        match self.data.get(key.as_bytes()) {
            Some(Value::Text(text)) => Some(String::from_utf8_lossy(text).into_owned()),
            _ => None,
        }
    }

    pub(crate) fn is_sorted_member(&self, key: &[u8], member: &[u8]) -> bool {
        matches!(self.data.get(key), Some(Value::Sorted(members)) if members.contains(member))
    }

    pub(crate) fn length(&self, key: &str) -> usize {
        self.stream(key).len()
    }

    pub(crate) fn field(&self, key: &[u8], field: &str) -> Option<String> {
        self.hash(key)??.get(field.as_bytes()).map(|v| String::from_utf8_lossy(v).into_owned())
    }

    /// Another client makes a key a text.
    pub(crate) fn occupy(&mut self, key: &[u8]) {
        self.data.insert(key.to_vec(), Value::Text(b"occupied".to_vec()));
    }
}
