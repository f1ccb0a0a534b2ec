//! A model of one Redis: data, and connections with WATCH, MULTI and EXEC as the real one has them.
use crate::core::encode::parse_commands;
use crate::core::reply::Reply;
use std::collections::{BTreeMap, BTreeSet};

type Command = Vec<Vec<u8>>;

/// What is stored.
#[derive(Clone, Debug, Default)]
pub(crate) struct Data {
    pub(crate) hashes: BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>,
    pub(crate) streams: BTreeMap<Vec<u8>, Vec<Command>>,
    pub(crate) texts: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Keys of another type.
    pub(crate) occupied: BTreeSet<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Connection {
    /// Each watched key, and how often it had been written to.
    watched: BTreeMap<Vec<u8>, u64>,
    queued: Option<Vec<Command>>,
    aborted: bool,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Redis {
    pub(crate) data: Data,
    /// Every write is refused with this while it is being queued.
    pub(crate) refuses: Option<&'static str>,
    /// Only this command is.
    pub(crate) refuses_only: Option<&'static str>,
    /// Something that another client does before the next EXEC.
    pub(crate) before_exec: Option<fn(&mut Redis)>,
    connections: BTreeMap<usize, Connection>,
    writes: BTreeMap<Vec<u8>, u64>,
}

impl Redis {
    /// Serves encoded commands on one connection.
    pub(crate) fn serve(&mut self, connection: usize, bytes: &[u8]) -> Vec<Reply> {
        parse_commands(bytes).expect("whole commands").into_iter().map(|c| self.command(connection, c)).collect()
    }

    /// A connection is gone, with what it watched and queued.
    pub(crate) fn drop_connection(&mut self, connection: usize) {
        self.connections.remove(&connection);
    }

    /// Data and state go back together; every connection is gone.
    pub(crate) fn restart_with(&mut self, data: Data) {
        self.data = data;
        self.connections.clear();
    }

    /// Another client writes a field of a hash.
    pub(crate) fn set_field(&mut self, key: &[u8], field: &str, value: &str) {
        self.apply(&vec![b"HSET".to_vec(), key.to_vec(), field.into(), value.into()]);
    }

    fn command(&mut self, connection: usize, c: Command) -> Reply {
        let writes = self.writes.clone();
        let state = self.connections.entry(connection).or_default();
        match c[0].as_slice() {
            b"MULTI" => state.queued = Some(Vec::new()),
            b"EXEC" => return self.exec(connection),
            _ if state.queued.is_some() => {
                let write = matches!(c[0].as_slice(), b"XADD" | b"HSET" | b"HSETNX" | b"SET");
                if let Some(error) = self.refuses.filter(|_| write && self.refuses_only.is_none_or(|only| only.as_bytes() == c[0])) {
                    state.aborted = true;
                    return Reply::Error(error.into());
                }
                state.queued.get_or_insert_default().push(c);
                return Reply::Text(b"QUEUED".to_vec());
            }
            b"WATCH" => {
                for key in &c[1..] {
                    state.watched.entry(key.clone()).or_insert_with(|| writes.get(key).copied().unwrap_or_default());
                }
            }
            b"UNWATCH" => state.watched.clear(),
            _ => return self.apply(&c),
        }
        Reply::Text(b"OK".to_vec())
    }

    fn exec(&mut self, connection: usize) -> Reply {
        if let Some(other) = self.before_exec.take() {
            other(self);
        }
        let state = self.connections.remove(&connection).unwrap_or_default();
        let moved = state.watched.iter().any(|(key, seen)| self.writes.get(key).copied().unwrap_or_default() != *seen);
        if state.aborted {
            return Reply::Error("EXECABORT Transaction discarded because of previous errors.".into());
        }
        match state.queued {
            None => Reply::Error("ERR EXEC without MULTI".into()),
            Some(_) if moved => Reply::Nil,
            Some(queued) => Reply::Array(queued.iter().map(|c| self.apply(c)).collect()),
        }
    }

    fn wrote(&mut self, key: &[u8]) {
        *self.writes.entry(key.to_vec()).or_default() += 1;
    }

    fn apply(&mut self, c: &Command) -> Reply {
        let text = |t: Option<&Vec<u8>>| t.map_or(Reply::Nil, |t| Reply::Text(t.clone()));
        let hash = self.data.hashes.get(&c[1]);
        match c[0].as_slice() {
            b"HMGET" => Reply::Array(c[2..].iter().map(|f| text(hash.and_then(|h| h.get(f)))).collect()),
            b"HGETALL" => Reply::Array(hash.into_iter().flatten().flat_map(|(f, v)| [Reply::Text(f.clone()), Reply::Text(v.clone())]).collect()),
            b"HGET" => text(hash.and_then(|h| h.get(&c[2]))),
            b"GET" => text(self.data.texts.get(&c[1])),
            b"TYPE" => {
                let known = match &c[1] {
                    key if self.data.occupied.contains(key) => "string",
                    key if self.data.streams.contains_key(key) => "stream",
                    _ => "none",
                };
                Reply::Text(known.into())
            }
            b"XADD" if self.data.occupied.contains(&c[1]) => Reply::Error("WRONGTYPE Operation against a key holding the wrong kind of value".into()),
            b"XADD" => {
                self.wrote(&c[1]);
                self.data.streams.entry(c[1].clone()).or_default().push(c[2..].to_vec());
                Reply::Text(b"1-1".to_vec())
            }
            b"HSET" => {
                self.wrote(&c[1]);
                let hash = self.data.hashes.entry(c[1].clone()).or_default();
                let added = c[2..].chunks(2).filter(|p| hash.insert(p[0].clone(), p[1].clone()).is_none()).count();
                Reply::Int(i64::try_from(added).unwrap_or_default())
            }
            b"HSETNX" if hash.is_some_and(|h| h.contains_key(&c[2])) => Reply::Int(0),
            b"HSETNX" => {
                self.wrote(&c[1]);
                self.data.hashes.entry(c[1].clone()).or_default().insert(c[2].clone(), c[3].clone());
                Reply::Int(1)
            }
            // SET key value NX.
            b"SET" if self.data.texts.contains_key(&c[1]) => Reply::Nil,
            b"SET" => {
                self.wrote(&c[1]);
                self.data.texts.insert(c[1].clone(), c[2].clone());
                Reply::Text(b"OK".to_vec())
            }
            other => panic!("the model does not know {}", String::from_utf8_lossy(other)),
        }
    }

    pub(crate) fn length(&self, key: &str) -> usize {
        self.data.streams.get(key.as_bytes()).map_or(0, Vec::len)
    }

    pub(crate) fn field(&self, key: &[u8], field: &str) -> Option<String> {
        self.data.hashes.get(key)?.get(field.as_bytes()).map(|v| String::from_utf8_lossy(v).into_owned())
    }
}
