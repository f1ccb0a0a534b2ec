//! A rebuild: what was applied before the state was lost is applied anew, from the start of the log up to the commit.
//!
//! PUBLISH is left out. What grows with each write (a stream, a list, a counter) may have survived the loss, and would be
//! doubled: so a rebuild writes only to keys that began since. Those are kept as a set in Redis, written in the same
//! transaction as what begins them.
use super::encode::Encoder;
use super::record::TopicPartition;
use super::state::StateKey;
use std::collections::BTreeSet;

/// How long the set of the keys begun outlives its last addition, in seconds. Where it is gone too early, a rebuild
/// that is not over halts; nothing is ever doubled for it.
const KEPT_SECONDS: &[u8] = b"2592000";

/// What is left of a rebuild, as the state keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rebuild {
    /// The commit that the group had come to: from there on records are new.
    pub until: i64,
    /// The partition had a state since its Redis was last emptied, so keys that its neighbours began since may hold
    /// records of its own: only what this rebuild itself began counts. It is named by its first epoch.
    pub alone: Option<i64>,
}

impl Rebuild {
    pub fn encode(self) -> String {
        format!("{} {}", self.until, self.alone.map_or_else(|| "-".into(), |epoch| epoch.to_string()))
    }

    pub fn decode(text: &str) -> Option<Self> {
        let (until, alone) = text.split_once(' ')?;
        let alone = if alone == "-" { None } else { Some(alone.parse().ok()?) };
        Some(Self { until: until.parse().ok()?, alone })
    }
}

/// The keys that rebuilds began, as one partition sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// The set.
    pub key: StateKey,
    /// Where the partition's rebuild stands alone, what marks the keys that it began.
    alone: Option<String>,
}

impl Begun {
    pub fn new(prefix: &str, group: &str, at: &TopicPartition, rebuild: Rebuild) -> Self {
        let alone = rebuild.alone.map(|epoch| format!("{}:{}:{epoch}:", at.topic, at.partition));
        Self { key: StateKey::group(prefix, group, "begun"), alone }
    }

    /// The member that tells whether the partition may write to a key that is there.
    pub fn member(&self, key: &[u8]) -> Vec<u8> {
        [self.alone.as_deref().unwrap_or("all:").as_bytes(), key].concat()
    }

    /// Appends the one command that keeps keys as begun, and the one that keeps the set from staying for ever.
    pub fn keep(&self, keys: &BTreeSet<&[u8]>, out: &mut Encoder) {
        out.arg(b"SADD");
        out.arg(&self.key.0);
        for key in keys {
            out.arg(&self.member(key));
        }
        // Who had no state since may trust them as well.
        for key in keys.iter().filter(|_| self.alone.is_some()) {
            out.arg(&[b"all:", *key].concat());
        }
        out.finish();
        out.command(&[b"EXPIRE", self.key.0.as_slice(), KEPT_SECONDS]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_rebuild_survives_its_encoding() {
        for rebuild in [Rebuild { until: 0, alone: None }, Rebuild { until: 7, alone: Some(3) }] {
            assert_eq!(Rebuild::decode(&rebuild.encode()), Some(rebuild));
        }
        assert_eq!(Rebuild::decode("7"), None);
    }

    #[test]
    fn a_rebuild_alone_trusts_no_key_that_a_neighbour_began() {
        let begun = |alone| Begun::new("b", "g", &TopicPartition::new("t", 1), Rebuild { until: 9, alone });
        assert_eq!(begun(None).member(b"s"), b"all:s");
        assert_eq!(begun(Some(4)).member(b"s"), b"t:1:4:s");
        assert_ne!(begun(Some(4)).member(b"s"), begun(Some(5)).member(b"s"));
    }
}
