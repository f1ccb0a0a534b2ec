//! A model of one Redis connection.
use crate::core::encode::parse_commands;
use crate::core::reply::Reply;
use std::collections::{BTreeMap, BTreeSet};

/// Just as much of a Redis as a lane speaks to.
#[derive(Default)]
pub(super) struct Redis {
    pub(super) hashes: BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>,
    pub(super) streams: BTreeMap<Vec<u8>, Vec<Vec<Vec<u8>>>>,
    /// Keys of another type.
    pub(super) occupied: BTreeSet<Vec<u8>>,
    watched: BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>,
    queued: Option<Vec<Vec<Vec<u8>>>>,
    aborted: Option<&'static str>,
    /// Every write is refused with this.
    pub(super) refuses: Option<&'static str>,
    /// Only this one is.
    pub(super) refuses_only: Option<&'static str>,
    /// Something that another client does before the next EXEC.
    pub(super) before_exec: Option<fn(&mut Redis)>,
}

impl Redis {
    pub(super) fn serve(&mut self, bytes: &[u8]) -> Vec<Reply> {
        parse_commands(bytes).unwrap().into_iter().map(|c| self.command(c)).collect()
    }

    fn command(&mut self, c: Vec<Vec<u8>>) -> Reply {
        let ok = Reply::Text(b"OK".to_vec());
        match c[0].as_slice() {
            b"MULTI" => {
                self.queued = Some(Vec::new());
                ok
            }
            b"EXEC" => self.exec(),
            _ if self.queued.is_some() => {
                let refused =
                    self.refuses.filter(|_| matches!(c[0].as_slice(), b"XADD" | b"HSET") && self.refuses_only.is_none_or(|only| only.as_bytes() == c[0]));
                if let Some(error) = refused {
                    self.aborted = Some(error);
                    return Reply::Error(error.into());
                }
                self.queued.as_mut().unwrap().push(c);
                Reply::Text(b"QUEUED".to_vec())
            }
            b"WATCH" => {
                for key in &c[1..] {
                    self.watched.insert(key.clone(), self.hashes.get(key).cloned().unwrap_or_default());
                }
                ok
            }
            b"UNWATCH" => {
                self.watched.clear();
                ok
            }
            b"HMGET" => {
                let hash = self.hashes.get(&c[1]);
                Reply::Array(c[2..].iter().map(|f| hash.and_then(|h| h.get(f)).map_or(Reply::Nil, |v| Reply::Text(v.clone()))).collect())
            }
            b"TYPE" => {
                let known = if self.occupied.contains(&c[1]) {
                    "string"
                } else if self.streams.contains_key(&c[1]) {
                    "stream"
                } else {
                    "none"
                };
                Reply::Text(known.into())
            }
            _ => self.apply(&c),
        }
    }

    fn exec(&mut self) -> Reply {
        if let Some(other) = self.before_exec.take() {
            other(self);
        }
        let moved = self.watched.iter().any(|(key, was)| self.hashes.get(key).cloned().unwrap_or_default() != *was);
        self.watched.clear();
        let queued = self.queued.take().unwrap();
        match self.aborted.take() {
            Some(_) => Reply::Error("EXECABORT Transaction discarded because of previous errors.".into()),
            None if moved => Reply::Nil,
            None => Reply::Array(queued.iter().map(|c| self.apply(c)).collect()),
        }
    }

    fn apply(&mut self, c: &[Vec<u8>]) -> Reply {
        match c[0].as_slice() {
            b"XADD" if self.occupied.contains(&c[1]) => Reply::Error("WRONGTYPE Operation against a key holding the wrong kind of value".into()),
            b"XADD" => {
                self.streams.entry(c[1].clone()).or_default().push(c[2..].to_vec());
                Reply::Text(b"1-1".to_vec())
            }
            b"HSET" => {
                let hash = self.hashes.entry(c[1].clone()).or_default();
                let added = c[2..].chunks(2).filter(|p| hash.insert(p[0].clone(), p[1].clone()).is_none()).count();
                Reply::Int(i64::try_from(added).unwrap())
            }
            other => panic!("{}", String::from_utf8_lossy(other)),
        }
    }

    pub(super) fn length(&self, key: &str) -> usize {
        self.streams.get(key.as_bytes()).map_or(0, Vec::len)
    }

    pub(super) fn field(&self, partition: i32, field: &str) -> String {
        String::from_utf8_lossy(&self.hashes[&super::state(partition).0][field.as_bytes()]).into_owned()
    }
}
