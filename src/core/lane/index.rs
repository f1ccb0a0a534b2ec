//! The index of keys: of which records' keys a route has data, kept by the transaction that writes the data.
//!
//! Each transaction names the keys that it writes data of, once each, in one ZADD a route, whether the index knows them
//! or not (data is what a reader finds by the record's key, and nothing else that a record may be written into): where it does, that costs Redis a look-up beside the key's other writes. So nothing is to be remembered of
//! what the index holds, and nothing of that can be wrong after a FLUSHALL, a claim, or another owner; and whoever finds
//! a key without data may take it out, in one step with that look, without telling a lane.
use super::Lane;
use super::batch::{Batch, Sent};
use crate::core::encode::Encoder;
use crate::core::route::Tombstone;
use crate::core::state::StateKey;
use std::collections::HashMap;

/// For each route the index of its keys, where it has one.
pub type Index = std::sync::Arc<[Option<StateKey>]>;

impl Lane {
    /// Keeps indexes.
    #[must_use]
    pub fn indexing(mut self, index: Option<Index>) -> Self {
        self.index = index;
        self
    }

    /// Adds to a rendered batch what it has for the indexes. An error of it is its first entry's that has the key.
    pub(super) fn add_to_index(&mut self, batch: &mut Batch) {
        let Some(index) = &self.index else { return };
        for (r, index) in index.iter().enumerate() {
            let Some(index) = index else { continue };
            let keys = self.keys_written(batch, r);
            if let Some(&entry) = keys.values().min() {
                add(index, keys.keys(), &mut self.tx);
                batch.commands.push(Sent::Begun { entry });
            }
        }
    }

    /// The keys of the records that a batch has data of, through one route, each with its first entry.
    fn keys_written<'b>(&self, batch: &'b Batch, r: usize) -> HashMap<&'b [u8], usize> {
        let route = &self.settings.routes[r];
        let deletes = route.tombstone != Tombstone::Write;
        let (mut keys, mut seen) = (HashMap::new(), None);
        for sent in &batch.commands {
            let Sent::Write { entry, origin } = *sent else { continue };
            // The writes of a record stand together.
            if origin.route != r || seen == Some(entry) || !route.writes[origin.write].kind.is_read_by_key() {
                continue;
            }
            seen = Some(entry);
            let record = &batch.entries[entry].pending.record;
            if let Some(key) = record.key().filter(|_| record.payload().is_some() || !deletes) {
                keys.entry(key).or_insert(entry);
            }
        }
        keys
    }
}

/// All have the same score: so they are in the order of their bytes.
fn add<'k>(index: &StateKey, keys: impl Iterator<Item = &'k &'k [u8]>, out: &mut Encoder) {
    out.arg(b"ZADD");
    out.arg(&index.0);
    for key in keys {
        out.arg(b"0");
        out.arg(key);
    }
    out.finish();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::condition::Condition;
    use crate::core::encode::parse_commands;
    use crate::core::lane::{Input, Letters, Next, Opening, Settings, Span, Tally};
    use crate::core::record::{Record, TopicPartition};
    use crate::core::route::Route;
    use crate::core::template::Template;
    use crate::core::write::{Kind, Write};
    use std::time::Duration;

    fn lane(index: Option<Index>) -> Lane {
        let template = |t: &str| Template::parse(t).unwrap();
        let set = Kind::Set { key: template("k:{key}"), value: template("{payload}"), ttl: None, collapse: true };
        let kept = Write { when: Some(Condition::parse("value.v > 0").unwrap()), ..Write::new(set) };
        let push = Write::new(Kind::Command(vec![template("RPUSH"), template("l:{key}"), template("{value.v}")]));
        let one = Write::new(Kind::Set { key: template("one"), value: template("{key}"), ttl: None, collapse: false });
        let route = |name: &str, tombstone, writes| Route { tombstone, ..Route::new(name, "t", writes) };
        let routes = [route("kept", Tombstone::Del, vec![push.clone(), kept, one]), route("other", Tombstone::Skip, vec![push])];
        let settings = Settings {
            routes: routes.into(),
            records_max: 100,
            commands_max: 1000,
            bytes_max: 1 << 20,
            linger: Duration::ZERO,
            letters: Letters::Stream { name: "dead".into(), maxlen: None },
            span: Span::Lane,
            route_limits: vec![None, None],
            limit: None,
        };
        let mut lane = Lane::new(settings, [Tally::default(), Tally::default()].into()).indexing(index);
        let opening = Opening {
            generation: 1,
            at: TopicPartition::new("t", 0),
            position: 0,
            guard: None,
            check: None,
            unread: None,
            through: [0, 1].into(),
            rebuild: None,
        };
        lane.take(Input::Open(opening.into()), Duration::ZERO);
        lane
    }

    fn sent(lane: &mut Lane) -> Vec<Vec<String>> {
        let record = |(offset, (key, payload)): (i64, (&str, Option<&str>))| {
            Record::copy(TopicPartition::new("t", 0), offset, None, Some(key.as_bytes()), payload.map(str::as_bytes), [])
        };
        let (written, elsewhere) = (Some(r#"{"v":1}"#), Some(r#"{"v":0}"#));
        let records = [("a", written), ("b", written), ("a", elsewhere), ("c", elsewhere), ("dead", Some("{}")), ("gone", None), ("a\r\n", written)];
        lane.take(Input::Records(1, (0..).zip(records).map(record).collect()), Duration::ZERO);
        let Next::Exchange { replies, .. } = lane.next(Duration::ZERO) else { panic!("there are records") };
        let commands = parse_commands(lane.outgoing()).unwrap();
        assert_eq!(commands.len(), replies);
        commands.into_iter().map(|c| c.into_iter().map(|a| String::from_utf8(a).unwrap()).collect()).collect()
    }

    #[test]
    fn a_transaction_names_each_key_that_it_writes_data_of_once_in_one_command() {
        let index = [Some(StateKey::keys("b", "g", "kept")), None].into();
        let commands = sent(&mut lane(Some(index)));
        let added: Vec<&Vec<String>> = commands.iter().filter(|c| c[0] == "ZADD").collect();
        assert_eq!((added.len(), added[0][1].as_str()), (1, "b:keys:g:kept"));
        let mut keys: Vec<&str> = added[0][2..].chunks(2).map(|p| p[1].as_str()).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["a", "a\r\n", "b"], "neither what is dead, nor what is deleted, nor what is written elsewhere alone");
    }

    #[test]
    fn without_an_index_nothing_is_added() {
        assert!(sent(&mut lane(None)).iter().all(|c| c[0] != "ZADD"));
    }
}
