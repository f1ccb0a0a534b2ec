//! Of several SETs of one key in a transaction the last: `collapse = true`. Within a transaction nobody sees the others, but
//! for keyspace notifications. A key that another command of the transaction names keeps all of them.
use super::Lane;
use super::batch::{Batch, Sent};
use crate::core::write::{Effect, Kind, Write};
use std::collections::{HashMap, HashSet};

impl Lane {
    /// Takes the SETs out of a rendered batch that a later one undoes.
    pub(super) fn collapse(&mut self, batch: &mut Batch) {
        let routes = batch.shares.iter().filter_map(|s| self.parts.get(&s.generation)).flat_map(|p| p.through.iter());
        if !routes.flat_map(|r| &self.settings.routes[*r].writes).any(Write::collapses) {
            return;
        }
        let write = |sent: &Sent| match sent {
            Sent::Write { origin, .. } => Some(&self.settings.routes[origin.route].writes[origin.write]),
            Sent::Letter { .. } | Sent::Begun { .. } => None,
        };
        let collapses = |sent: &Sent| write(sent).is_some_and(Write::collapses);
        // MULTI stands before them.
        let commands = || self.tx.encoded().skip(1).zip(&batch.commands).enumerate();
        let (mut named, mut last) = (HashSet::with_capacity(batch.commands.len()), HashMap::with_capacity(batch.commands.len()));
        let mut undone = vec![false; batch.commands.len()];
        for (_, (command, sent)) in commands().filter(|(_, (_, sent))| !collapses(sent)) {
            let keys = match write(sent).map(|w| &w.kind) {
                Some(Kind::Publish { .. }) => 0,
                // Any of its arguments may be a key.
                Some(Kind::Command(_)) => usize::MAX,
                _ => 1,
            };
            named.extend(command.args().skip(1).take(keys));
        }
        for (i, (command, _)) in commands().filter(|(_, (_, sent))| collapses(sent)) {
            let before = command.arg(1).filter(|key| !named.contains(key)).and_then(|key| last.insert(key, i));
            _ = before.map(|before| undone[before] = true);
        }
        batch.collapsed = self.leave_out(batch, |command| undone[command]);
    }
}

impl Write {
    /// Whether of several in one transaction the last of a key is enough. Where a replay compares, the newest is.
    fn collapses(&self) -> bool {
        self.effect == Effect::Apply && matches!(self.kind, Kind::Set { collapse: true, .. })
    }
}

#[cfg(test)]
mod tests {
    use crate::core::encode::parse_commands;
    use crate::core::lane::{Input, Lane, Letters, Next, Opening, Settings, Span, Tally};
    use crate::core::record::{Record, TopicPartition};
    use crate::core::replay::job::Keys;
    use crate::core::reply::Reply;
    use crate::core::route::Route;
    use crate::core::template::Template;
    use crate::core::write::{Kind, Write};
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    /// A lane, at-least-once, with a SET that collapses, a PUBLISH, and a command that names a key of the record's.
    fn lane(tallies: &Arc<[Tally]>) -> Lane {
        let template = |t: &str| Template::parse(t).unwrap();
        let set = Kind::Set { key: template("k:{key}"), value: template("{offset}"), ttl: None, collapse: true };
        let publish = Kind::Publish { channel: template("k:{key}"), message: template("{offset}") };
        let append = Kind::Command(vec![template("APPEND"), template("{value.other}"), template("x")]);
        let route = Route::new("r", "t", [set, publish, append].map(Write::new).into());
        let settings = Settings {
            routes: [route].into(),
            records_max: 100,
            commands_max: 1000,
            bytes_max: 1 << 20,
            linger: Duration::ZERO,
            letters: Letters::Halt,
            span: Span::Lane,
            route_limits: vec![None],
            limit: None,
        };
        let mut lane = Lane::new(settings, tallies.clone());
        let at = TopicPartition::new("t", 0);
        let opening = Opening { generation: 1, at, position: 0, guard: None, check: None, unread: None, through: [0].into(), rebuild: None };
        lane.take(Input::Open(opening.into()), Duration::ZERO);
        lane
    }

    #[test]
    fn only_the_last_set_of_a_key_is_sent_unless_another_command_names_the_key() {
        let tallies: Arc<[Tally]> = [Tally::default()].into();
        let mut lane = lane(&tallies);
        let record = |(offset, key): (i64, &str)| {
            let payload = if offset == 2 { r#"{"other":"k:b"}"# } else { r#"{"other":"elsewhere"}"# };
            Record::copy(TopicPartition::new("t", 0), offset, None, Some(key.as_bytes()), Some(payload.as_bytes()), [])
        };
        let records = (0..).zip(["a", "b", "a", "b", "c", "a"]).map(record).collect();
        lane.take(Input::Records(1, records), Duration::ZERO);
        let Next::Exchange { replies, .. } = lane.next(Duration::ZERO) else { panic!("there are records") };
        let sent = parse_commands(lane.outgoing()).unwrap();
        assert_eq!(sent.len(), replies);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let sets: Vec<(String, String)> = sent.iter().filter(|c| c[0] == b"SET").map(|c| (text(&c[1]), text(&c[2]))).collect();
        let expected = [("k:b", "1"), ("k:b", "3"), ("k:c", "4"), ("k:a", "5")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(sets, expected, "PUBLISH names a channel and no key");
        // MULTI, 4 SETs, 6 PUBLISHes, 6 APPENDs, EXEC.
        assert_eq!(sent.len(), 18);
        let mut answers = vec![Reply::OK; 17];
        answers.push(Reply::Array(vec![Reply::Int(1); 16]));
        lane.answered(answers, Duration::ZERO, 0.0);
        assert_eq!((tallies[0].records.load(Ordering::Relaxed), tallies[0].commands.load(Ordering::Relaxed)), (6, 16));
    }

    #[test]
    fn a_job_counts_a_set_that_a_later_one_undoes_as_applied() {
        let mut lane = lane(&[Tally::default()].into()).replaying(Keys::new("b", "j"));
        let record = |offset| Record::copy(TopicPartition::new("t", 0), offset, None, Some(b"a"), Some(br#"{"other":"elsewhere"}"#), []);
        lane.take(Input::Records(1, (0..3).map(record).collect()), Duration::ZERO);
        assert!(matches!(lane.next(Duration::ZERO), Next::Exchange { .. }));
        let sent = parse_commands(lane.outgoing()).unwrap();
        assert_eq!(sent.iter().filter(|c| c[0] == b"SET").count(), 1);
        let counted = |name: &[u8]| sent.iter().find(|c| c[0] == b"HINCRBY" && c[2] == name).map(|c| c[3].clone());
        assert_eq!((counted(b"records"), counted(b"applied")), (Some(b"3".to_vec()), Some(b"9".to_vec())), "three writes a record");
    }
}
