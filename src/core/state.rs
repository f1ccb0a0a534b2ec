//! The state: the ledger's record in Redis, one hash a partition, and the guard on it.
use super::encode::Encoder;
use super::rebuild::Rebuild;
use super::record::{Record, TopicPartition};
use super::reply::Reply;

/// The format of the hash that this version writes, in its field `version`.
pub const VERSION: i64 = 1;

/// The key of a state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateKey(pub Vec<u8>);

impl StateKey {
    /// Prefix, group, topic, partition, joined by `:`. What could be mistaken for a joint, or for a Cluster's hash
    /// tag, is escaped, so that no two can meet.
    pub fn partition(prefix: &str, group: &str, at: &TopicPartition) -> Self {
        Self(format!("{}:state:{}:{}:{}", escape(prefix), escape(group), escape(&at.topic), at.partition).into_bytes())
    }

    /// The key of what a group keeps beside its partitions' states.
    pub fn group(prefix: &str, group: &str, name: &str) -> Self {
        Self(format!("{}:state:{}::{name}", escape(prefix), escape(group)).into_bytes())
    }

    /// The key of the index of a route's keys.
    pub fn keys(prefix: &str, group: &str, route: &str) -> Self {
        Self(format!("{}:keys:{}:{}", escape(prefix), escape(group), escape(route)).into_bytes())
    }

    /// The key of what is kept of a request that is to be done once.
    pub fn once(prefix: &str, group: &str, request: &str) -> Self {
        Self(format!("{}:once:{}:{}", escape(prefix), escape(group), escape(request)).into_bytes())
    }

    /// The key under which a Redis keeps its store id.
    pub fn store_id(prefix: &str) -> Self {
        Self(format!("{}:store", escape(prefix)).into_bytes())
    }
}

pub(super) fn escape(text: &str) -> String {
    text.replace('%', "%25").replace(':', "%3A").replace('{', "%7B").replace('}', "%7D")
}

/// The last record that was settled, by which a recreated topic is told from the one we knew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    pub offset: i64,
    pub timestamp_ms: Option<i64>,
    pub fingerprint: u64,
}

impl Last {
    pub fn of(record: &Record) -> Self {
        Self { offset: record.offset, timestamp_ms: record.timestamp_ms, fingerprint: record.fingerprint() }
    }

    pub fn encode(self) -> String {
        format!("{} {} {:016x}", self.offset, self.timestamp_ms.map_or_else(|| "-".into(), |t| t.to_string()), self.fingerprint)
    }

    pub fn decode(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let offset = words.next()?.parse().ok()?;
        let timestamp_ms = match words.next()? {
            "-" => None,
            t => Some(t.parse().ok()?),
        };
        let fingerprint = u64::from_str_radix(words.next()?, 16).ok()?;
        words.next().is_none().then_some(Self { offset, timestamp_ms, fingerprint })
    }
}

/// A state as it stands in Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub version: Option<i64>,
    /// The position. Its absence, not the key's, means that the state was lost.
    pub offset: Option<i64>,
    pub epoch: i64,
    pub owner: Vec<u8>,
    /// Where the batch began whose replies nobody has looked at yet.
    pub unread: Option<i64>,
    pub last: Option<Last>,
    pub routes: Vec<u8>,
    /// Up to where records are applied anew after the state was lost.
    pub rebuild: Option<Rebuild>,
}

impl State {
    /// The fields as a claim writes them, empty where unknown, so that a batch's HSET adds none.
    pub fn fields(&self) -> [(&'static [u8], Vec<u8>); 8] {
        let number = |n: Option<i64>| n.map(|n| n.to_string()).unwrap_or_default().into_bytes();
        [
            (b"version", VERSION.to_string().into_bytes()),
            (b"epoch", self.epoch.to_string().into_bytes()),
            (b"owner", self.owner.clone()),
            (b"offset", number(self.offset)),
            (b"unread", number(self.unread)),
            (b"last", self.last.map(|l| l.encode()).unwrap_or_default().into_bytes()),
            (b"routes", self.routes.clone()),
            (b"rebuild", self.rebuild.map(Rebuild::encode).unwrap_or_default().into_bytes()),
        ]
    }

    /// Reads the answer to HGETALL.
    ///
    /// # Errors
    /// See [`Self::decode`].
    pub fn read(reply: &Reply) -> Result<Self, String> {
        let Reply::Array(items) = reply else { return Err(format!("HGETALL answered {reply:?}")) };
        let bytes = |r: &Reply| if let Reply::Text(t) = r { t.to_vec() } else { Vec::new() };
        let fields: Vec<_> = items.chunks_exact(2).map(|p| (bytes(&p[0]), bytes(&p[1]))).collect();
        Self::decode(&fields)
    }

    /// Reads the fields of the hash.
    ///
    /// # Errors
    /// The field that holds what this version can't read.
    pub fn decode(fields: &[(Vec<u8>, Vec<u8>)]) -> Result<Self, String> {
        let mut state = Self::default();
        for (name, value) in fields {
            let text = std::str::from_utf8(value).unwrap_or("\u{fffd}");
            let number = || text.parse::<i64>().map_err(|_| format!("field {} holds {text:?}, no number", String::from_utf8_lossy(name)));
            match name.as_slice() {
                b"version" => state.version = Some(number()?),
                b"offset" => state.offset = Some(number()?),
                b"epoch" => state.epoch = number()?,
                b"owner" => state.owner.clone_from(value),
                b"unread" if !value.is_empty() => state.unread = Some(number()?),
                b"last" if !value.is_empty() => state.last = Some(Last::decode(text).ok_or_else(|| format!("field last holds {text:?}"))?),
                b"routes" => state.routes.clone_from(value),
                b"rebuild" if !value.is_empty() => state.rebuild = Some(Rebuild::decode(text).ok_or_else(|| format!("field rebuild holds {text:?}"))?),
                _ => {}
            }
        }
        match state.version {
            Some(v) if v > VERSION => Err(format!("it has format version {v}; this bridge knows up to {VERSION}")),
            _ => Ok(state),
        }
    }
}

/// What the guard compares before a batch may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub owner: Vec<u8>,
    pub offset: i64,
    /// A Redis that goes back to before a letter was written, and not before its batch, shows it here alone.
    pub unread: Option<i64>,
}

/// What comparing a guard's answer came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guarded {
    Holds,
    /// Somebody else owns the partition now.
    Fenced,
    /// Ours, but elsewhere: Redis went back, or a rewind.
    Moved,
    /// The position is gone.
    Lost,
}

/// Appends the HSET of some of [`State::fields`].
pub fn write(key: &StateKey, fields: &[(&'static [u8], Vec<u8>)], out: &mut Encoder) {
    out.arg(b"HSET");
    out.arg(&key.0);
    for (name, value) in fields {
        out.arg(name);
        out.arg(value);
    }
    out.finish();
}

/// Appends the read of a guard: the owner, the position, and what is unread.
pub fn read_guard(key: &StateKey, out: &mut Encoder) {
    out.command(&[b"HMGET", key.0.as_slice(), b"owner", b"offset", b"unread"]);
}

/// Compares the answer to [`read_guard`].
pub fn check_guard(reply: &Reply, expected: &Expected) -> Guarded {
    let Reply::Array(values) = reply else { return Guarded::Lost };
    let text = |n: Option<i64>| n.map(|n| n.to_string()).unwrap_or_default().into_bytes();
    match values.as_slice() {
        [_, Reply::Nil, _] => Guarded::Lost,
        [Reply::Nil, ..] => Guarded::Fenced,
        [Reply::Text(owner), ..] if *owner != expected.owner => Guarded::Fenced,
        [_, Reply::Text(offset), Reply::Text(unread)] if *offset == text(Some(expected.offset)) && *unread == text(expected.unread) => Guarded::Holds,
        _ => Guarded::Moved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_partitions_share_a_state_and_no_brace_makes_a_hash_tag() {
        let key = |group: &str, topic: &str| StateKey::partition("bridge", group, &TopicPartition::new(topic, 0)).0;
        assert_ne!(key("a:b", "c"), key("a", "b:c"));
        assert_ne!(key("a%3Ab", "c"), key("a:b", "c"));
        assert!(!key("{a}", "{t}").contains(&b'{'));
    }

    #[test]
    fn the_last_record_survives_its_encoding() {
        for last in [Last { offset: 7, timestamp_ms: None, fingerprint: 1 }, Last { offset: 0, timestamp_ms: Some(-5), fingerprint: u64::MAX }] {
            assert_eq!(Last::decode(&last.encode()), Some(last));
        }
        assert_eq!(Last::decode("7 - "), None);
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let field = |n: &str, v: &str| (n.as_bytes().to_vec(), v.as_bytes().to_vec());
        assert!(State::decode(&[field("version", "2")]).unwrap_err().contains("version 2"));
        let state = State::decode(&[field("offset", "5"), field("unread", ""), field("later", "x")]).unwrap();
        assert_eq!((state.offset, state.unread), (Some(5), None));
    }

    #[test]
    fn a_guard_tells_fenced_moved_and_lost_apart() {
        let expected = Expected { owner: b"me".to_vec(), offset: 5, unread: None };
        let answer = |values: [Option<&str>; 3]| Reply::Array(values.map(|v| v.map_or(Reply::Nil, |t| Reply::Text(t.into()))).into());
        for (values, guarded) in [
            ([Some("me"), Some("5"), Some("")], Guarded::Holds),
            ([Some("you"), Some("5"), Some("")], Guarded::Fenced),
            ([None, Some("5"), Some("")], Guarded::Fenced),
            ([Some("me"), Some("4"), Some("")], Guarded::Moved),
            ([Some("me"), Some("5"), Some("3")], Guarded::Moved),
            ([None, None, None], Guarded::Lost),
        ] {
            assert_eq!(check_guard(&answer(values), &expected), guarded, "{values:?}");
        }
    }
}
