//! What else may have written a key: the records of partitions that are not read.
//!
//! Told by the templates of the writes. What a key is made of is not known of records that nobody read, so a hole may be any
//! text, but for the topic and the partition.
use super::model::Kept;
use crate::core::record::TopicPartition;
use crate::core::route::{Route, Tombstone, through};
use crate::core::template::Template;
use crate::core::write::{Kind, Ttl};
use std::collections::BTreeSet;

/// What others may have done to a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct May {
    /// Entries, trimming the stream to this.
    pub add: Option<Kept>,
    /// Another value, which lives so many milliseconds at the least.
    pub set: Option<u64>,
    /// Deletes it, lets it expire, or does what can't be followed.
    pub end: bool,
}

impl May {
    fn or(self, other: Self) -> Self {
        let add = [self.add, other.add].into_iter().flatten().min();
        let set = [self.set, other.set].into_iter().flatten().min();
        Self { add, set, end: self.end || other.end }
    }
}

/// The keys of a write: texts that are known, and `None` for any text.
type Pattern = Vec<Option<Vec<u8>>>;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Others(BTreeSet<(Pattern, May)>);

impl Others {
    /// Of the records of these partitions.
    pub fn new<'a>(routes: &[Route], unread: impl IntoIterator<Item = &'a TopicPartition>) -> Self {
        Self::by(routes, unread, |_| true)
    }

    /// Of the records of a partition, by the writes whose keys do not have the record's: that keeps partitions apart.
    pub fn shared(routes: &[Route], at: &TopicPartition) -> Self {
        Self::by(routes, [at], |key| !key.has_key())
    }

    fn by<'a>(routes: &[Route], partitions: impl IntoIterator<Item = &'a TopicPartition>, counts: impl Fn(&Template) -> bool) -> Self {
        let mut all = BTreeSet::new();
        for at in partitions {
            for route in through(routes, &at.topic).into_iter().map(|r| &routes[r]) {
                let keyed = route.writes.iter().flat_map(|w| keys(&w.kind).filter(|key| counts(key)).map(|key| (key, &w.kind)));
                all.extend(keyed.map(|(key, kind)| (key.pieces(at), may(kind, route.tombstone))));
            }
        }
        Self(all)
    }

    /// What they may have done to this key.
    pub fn of(&self, key: &[u8]) -> May {
        self.0.iter().filter(|(pattern, _)| matches(pattern, key)).fold(May::default(), |all, (_, may)| all.or(*may))
    }
}

/// What its keys are made of: of a command that may write more than one, each argument.
fn keys(kind: &Kind) -> impl Iterator<Item = &Template> {
    let more = match kind {
        Kind::Command(args) if !kind.writes_one_key() => args.get(2..).unwrap_or_default(),
        _ => &[],
    };
    kind.key_template().into_iter().chain(more)
}

/// What a write may do to its key.
fn may(kind: &Kind, tombstone: Tombstone) -> May {
    let may = May::default();
    match kind {
        Kind::Xadd(x) => May { add: Some(Kept::by(x.trim.as_ref())), ..may },
        Kind::Set { ttl, .. } => {
            let lives = match ttl {
                None => u64::MAX,
                Some(Ttl::Fixed(ms)) => *ms,
                Some(Ttl::Rendered(_) | Ttl::FromRecord(_)) => 0,
            };
            May { set: Some(lives), end: tombstone == Tombstone::Del, ..may }
        }
        Kind::Publish { .. } => may,
        Kind::Del { .. } | Kind::Command(_) => May { end: true, ..may },
    }
}

fn matches(pattern: &[Option<Vec<u8>>], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((Some(known), rest)) => text.strip_prefix(known.as_slice()).is_some_and(|text| matches(rest, text)),
        // Several in a row are one.
        Some((None, rest)) if matches!(rest.first(), Some(None)) => matches(rest, text),
        Some((None, [])) => true,
        Some((None, rest)) => (0..=text.len()).any(|at| matches(rest, &text[at..])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::write::{Fields, Trim, TrimBy, Write, Xadd};

    fn template(text: &str) -> Template {
        Template::parse(text).unwrap()
    }

    fn xadd(key: &str, maxlen: Option<u64>) -> Kind {
        let trim = maxlen.map(|n| Trim { by: TrimBy::MaxLen(n), exact: true, limit: None });
        Kind::Xadd(Xadd { key: template(key), fields: Fields::All, id: template("*"), trim, nomkstream: false, ahead_max_ms: 1 })
    }

    fn others(kinds: Vec<Kind>, tombstone: Tombstone) -> Others {
        let writes = kinds.into_iter().map(Write::new).collect();
        let routes = [Route { tombstone, ..Route::new("r", "t", writes) }];
        Others::new(&routes, &[TopicPartition::new("t", 1), TopicPartition::new("t", 12), TopicPartition::new("unread", 0)])
    }

    #[test]
    fn what_may_have_written_a_key_is_told_by_the_templates_of_partitions_that_are_not_read() {
        let set = |key: &str| Kind::Set { key: template(key), value: template("v"), ttl: Some(Ttl::Fixed(1)), collapse: false };
        let may = |kind: Kind, key: &str| others(vec![kind], Tombstone::Skip).of(key.as_bytes());
        assert_eq!(may(xadd("all", None), "all").add, Some(Kept::All));
        assert_eq!(may(xadd("all", None), "al"), May::default());
        assert_eq!(may(xadd("s:{key}:x", Some(5)), "s:a:b:x").add, Some(Kept::AtLeast(5)));
        assert_eq!(may(xadd("s:{key}:x", None), "s:a:b"), May::default());
        assert_eq!(may(xadd("{topic}:{partition}:{key}", None), "t:0:a"), May::default(), "another partition's");
        assert_eq!(may(xadd("{topic}:{partition}:{key}", None), "t:12:a").add, Some(Kept::All));
        assert_eq!(may(set("l:{key}"), "l:a"), May { set: Some(1), ..May::default() });
        assert!(others(vec![set("l:{key}")], Tombstone::Del).of(b"l:a").end);
        assert!(may(Kind::Command(vec![template("RENAME"), template("l:{key}{value.x}")]), "l:a").end);
        let words = |words: &[&str]| Kind::Command(words.iter().map(|w| template(w)).collect());
        assert!(may(words(&["MSET", "a", "1", "b:{key}", "2"]), "b:x").end, "its second key");
        assert_eq!(may(words(&["HSET", "h", "b:{key}", "2"]), "b:x"), May::default(), "a field is no key");
        assert_eq!(may(Kind::Publish { channel: template("c"), message: template("m") }, "c"), May::default());
        let both = others(vec![xadd("s", Some(5)), xadd("{key}", Some(3)), set("other")], Tombstone::Skip);
        assert_eq!(both.of(b"s"), May { add: Some(Kept::AtLeast(3)), ..May::default() }, "the least that is kept");
    }

    #[test]
    fn partitions_share_the_keys_of_writes_that_do_not_have_the_records_key() {
        let writes = ["all", "of:{partition}", "s:{key}"].map(|key| Write::new(xadd(key, None)));
        let shared = Others::shared(&[Route::new("r", "t", writes.into())], &TopicPartition::new("t", 1));
        assert_eq!(["all", "of:1", "of:0", "s:a"].map(|key| shared.of(key.as_bytes()).add.is_some()), [true, true, false, false]);
    }

    #[test]
    fn keys_are_told_apart_by_a_template_of_the_key_alone() {
        for (text, apart) in [("s:{key}", true), ("{key}", true), ("all", false), ("{key|none}", false), ("{key}:{value.x}", false), ("{partition}", false)] {
            assert_eq!(template(text).tells_keys_apart(), apart, "{text}");
        }
    }
}
