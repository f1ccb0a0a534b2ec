//! Routes: topics → writes. What a record becomes.
use super::decode::{Decoded, Format, Scratch};
use super::encode::Encoder;
use super::record::Record;
use super::write::{Effect, Kind, Rendered, Write};

/// One entry of the configuration, compiled.
#[derive(Clone, Debug)]
pub struct Route {
    pub name: String,
    pub topics: Vec<Topics>,
    pub format: Format,
    pub tombstone: Tombstone,
    pub writes: Vec<Write>,
}

/// Which topics a route reads.
#[derive(Clone, Debug)]
pub enum Topics {
    Name(String),
    /// A pattern, `^` first, as librdkafka subscribes to it.
    Pattern(regex::Regex),
}

/// What a route does with a record that has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tombstone {
    Skip,
    /// DEL the keys of its set and setex writes.
    Del,
    /// Apply the writes all the same.
    Write,
}

/// Where a command of a batch comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    pub route: usize,
    pub write: usize,
}

/// What came of a record, counted per route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub commands: u32,
    pub expired: u32,
    pub tombstones: u32,
}

impl Outcome {
    /// Tombstones of which nothing came.
    pub fn dropped(&self) -> u32 {
        if self.commands == 0 { self.tombstones } else { 0 }
    }
}

/// Why a record is dead before anything was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poison {
    pub route: usize,
    /// The write that can't be rendered; `None` where the payload can't be decoded.
    pub write: Option<usize>,
    pub reason: String,
}

impl Topics {
    pub fn matches(&self, topic: &str) -> bool {
        match self {
            Self::Name(name) => name == topic,
            Self::Pattern(pattern) => pattern.is_match(topic),
        }
    }
}

impl Route {
    pub fn matches(&self, topic: &str) -> bool {
        self.topics.iter().any(|t| t.matches(topic))
    }

    /// What a tombstone deletes: never the key of a write that is left out.
    fn tombstone_writes(&self) -> impl Iterator<Item = (usize, Kind)> + '_ {
        self.writes.iter().enumerate().filter(|(_, w)| w.effect != Effect::Skip).filter_map(|(i, w)| match &w.kind {
            Kind::Set { key, .. } => Some((i, Kind::Del { key: key.clone() })),
            _ => None,
        })
    }
}

/// The routes that a topic's records go through, as indexes.
pub fn through(routes: &[Route], topic: &str) -> Vec<usize> {
    (0..routes.len()).filter(|r| routes[*r].matches(topic)).collect()
}

/// The routes as a rebuild applies them: what was published once is not published again.
pub fn without_publish(routes: &[Route]) -> std::sync::Arc<[Route]> {
    let mut routes = routes.to_vec();
    for write in routes.iter_mut().flat_map(|r| &mut r.writes).filter(|w| ["publish", "spublish"].contains(&w.kind.name().as_str())) {
        write.effect = Effect::Skip;
    }
    routes.into()
}

/// A key to which a record adds each time it is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grown {
    pub key: Vec<u8>,
    /// It is created where it is absent.
    pub creates: bool,
    /// The type without which the command is refused, where there is one.
    pub expected: Option<&'static str>,
}

/// The keys to which a record adds each time it is applied.
pub fn grown(routes: &[Route], through: &[usize], record: &Record) -> Vec<Grown> {
    let mut keys = Vec::new();
    for route in through.iter().map(|r| &routes[*r]).filter(|r| record.payload().is_some() || r.tombstone == Tombstone::Write) {
        let mut scratch = Scratch::default();
        let decoded = route.format.decode(record.payload(), &mut scratch);
        for kind in route.writes.iter().filter(|w| w.effect == Effect::Apply && w.kind.grows()).map(|w| &w.kind) {
            let creates = !matches!(kind, Kind::Xadd(x) if x.nomkstream);
            keys.extend(kind.key(record, decoded.document()).map(|key| Grown { key, creates, expected: kind.expects() }));
        }
    }
    keys
}

/// What rendering one record after the other works with.
#[derive(Debug, Default)]
pub struct Context {
    pub scratch: Scratch,
    /// What time it is, in ms since the epoch.
    pub now_ms: i64,
}

/// Renders all that a record becomes through the routes given (indexes into `routes`), in their order; it is decoded once.
/// Each command's origin is handed to `on_command`; each route's outcome is appended to `outcomes`.
///
/// # Errors
/// A record of which one write can't be rendered is dead as a whole: nothing of it is left in the encoder.
pub fn render(
    routes: &[Route],
    through: &[usize],
    record: &Record,
    out: &mut Encoder,
    mut on_command: impl FnMut(Origin),
    outcomes: &mut Vec<(usize, Outcome)>,
    context: &mut Context,
) -> Result<(), Poison> {
    let Context { scratch, now_ms } = context;
    let mark = out.mark();
    let json = through.iter().any(|r| routes[*r].format == Format::Json);
    let decoded = if json { Format::Json.decode(record.payload(), scratch) } else { Decoded::Opaque };
    for &r in through {
        let route = &routes[r];
        let mut outcome = Outcome::default();
        let mut one = |out: &mut Encoder, w: usize, kind: &Kind, doc| match kind.render(record, doc, *now_ms, out) {
            Ok(Rendered::Command) => {
                outcome.commands += 1;
                on_command(Origin { route: r, write: w });
                Ok(())
            }
            Ok(Rendered::Expired) => {
                outcome.expired += 1;
                Ok(())
            }
            Err(reason) => Err(Poison { route: r, write: Some(w), reason }),
        };
        let done = if record.payload().is_none() && route.tombstone != Tombstone::Write {
            outcome.tombstones += 1;
            match route.tombstone {
                Tombstone::Del => route.tombstone_writes().try_for_each(|(w, kind)| one(out, w, &kind, None)),
                Tombstone::Skip | Tombstone::Write => Ok(()),
            }
        } else {
            let doc = match (route.format, &decoded) {
                (Format::Json, Decoded::Fields(doc)) => Ok(Some(doc)),
                (Format::Json, Decoded::Dead(reason)) => Err(Poison { route: r, write: None, reason: reason.clone() }),
                (Format::Raw, _) | (_, Decoded::Opaque) => Ok(None),
            };
            doc.and_then(|doc| {
                let applied = route.writes.iter().enumerate().filter(|(_, w)| w.effect != Effect::Skip);
                applied.into_iter().try_for_each(|(w, write)| one(out, w, &write.kind, doc))
            })
        };
        if let Err(poison) = done {
            out.truncate(mark);
            return Err(poison);
        }
        outcomes.push((r, outcome));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::encode::parse_commands;
    use crate::core::record::TopicPartition;
    use crate::core::template::Template;

    #[test]
    fn a_tombstone_deletes_no_key_of_a_write_that_is_left_out() {
        let template = |t: &str| Template::parse(t).unwrap();
        let set = |key: &str, effect| Write { kind: Kind::Set { key: template(key), value: template("{payload}"), ttl: None, collapse: false }, effect };
        let route = Route {
            name: "r".into(),
            topics: vec![Topics::Name("t".into())],
            format: Format::Json,
            tombstone: Tombstone::Del,
            writes: vec![set("left:{key}", Effect::Skip), set("applied:{key}", Effect::Apply), set("compared:{key}", Effect::IfMissing)],
        };
        let record = Record::copy(TopicPartition::new("t", 0), 0, None, Some(b"k"), None, []);
        let (mut out, mut origins) = (Encoder::default(), Vec::new());
        render(&[route], &[0], &record, &mut out, |o| origins.push(o.write), &mut Vec::new(), &mut Context::default()).unwrap();
        let sent = parse_commands(out.bytes()).unwrap();
        assert_eq!(sent, [[&b"DEL"[..], b"applied:k"], [b"DEL", b"compared:k"]].map(|c| c.map(<[u8]>::to_vec).to_vec()));
        assert_eq!(origins, [1, 2]);
    }
}
