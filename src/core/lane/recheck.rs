//! The records whose replies a crash left unread: applied for certain, but which of their writes were refused?
use super::{Burial, Lane, Letters, Next, Stage};
use crate::core::decode::Decoded;
use crate::core::encode::Encoder;
use crate::core::letter::Letter;
use crate::core::record::Record;
use crate::core::reply::Reply;
use crate::core::route::{self, Origin};
use crate::core::write::Refusable;
use std::time::Duration;

/// A partition's unread records, and what is asked about them.
pub(super) struct Recheck {
    generation: u64,
    records: Vec<Record>,
    /// Which record's write is decided by the type of which key: the answers come in this order.
    asked: Vec<(usize, Origin, &'static str)>,
    letters: Vec<Letter>,
}

impl Lane {
    pub(super) fn next_recheck(&mut self, now: Duration) -> Option<Next> {
        let generation = *self.parts.iter().find(|(_, p)| p.may_recheck())?.0;
        let records = self.parts.get_mut(&generation)?.take_recheck()?;
        self.aux.clear();
        let mut recheck = Recheck { generation, records, asked: Vec::new(), letters: Vec::new() };
        for i in 0..recheck.records.len() {
            self.ask(&mut recheck, i);
        }
        if recheck.asked.is_empty() {
            self.recheck_answered(recheck, &[]);
            return Some(self.next(now));
        }
        Some(self.exchange(Stage::Rechecking(recheck), now))
    }

    /// Asks what must be asked about one record: no write of it is applied again.
    fn ask(&mut self, recheck: &mut Recheck, i: usize) {
        let Some(part) = self.parts.get(&recheck.generation) else { return };
        let record = &recheck.records[i];
        let mut origins = Vec::new();
        let rendered = route::render(&self.settings.routes, &part.through, record, &mut Encoder::default(), |o| origins.push(o), &mut Vec::new());
        if let Err(poison) = rendered {
            // To a stream its letter went in the batch's own transaction; a topic may lack it.
            if self.settings.letters == Letters::Topic {
                let (code, route, reason) = self.describe(&poison);
                recheck.letters.push(Letter {
                    record: record.clone(),
                    code,
                    reason,
                    route: self.settings.routes[route].name.clone(),
                    failed: vec!["all".into()],
                    applied: Vec::new(),
                });
            }
            return;
        }
        for origin in origins {
            let route = &self.settings.routes[origin.route];
            let kind = &route.writes[origin.write].kind;
            let decoded = route.format.decode(record.payload());
            let doc = if let Decoded::Fields(doc) = &decoded { Some(doc) } else { None };
            match (kind.refusable(), kind.key(record, doc)) {
                (Refusable::Never, _) => {}
                (Refusable::ByType(expected), Some(key)) => {
                    self.aux.command(&[b"TYPE", key.as_slice()]);
                    recheck.asked.push((i, origin, expected));
                }
                _ => recheck.letters.push(self.uncertain(
                    record,
                    origin,
                    "outcome-unknown",
                    "a crash came before the reply was read, and nothing in Redis tells whether this write was refused",
                )),
            }
        }
    }

    fn uncertain(&self, record: &Record, origin: Origin, code: &'static str, reason: &str) -> Letter {
        let route = &self.settings.routes[origin.route];
        let failed = vec![format!("{} write {} ({})", route.name, origin.write + 1, route.writes[origin.write].kind.name())];
        Letter { record: record.clone(), code, reason: reason.to_owned(), route: route.name.clone(), failed, applied: Vec::new() }
    }

    pub(super) fn recheck_answered(&mut self, mut recheck: Recheck, replies: &[Reply]) {
        for ((i, origin, expected), reply) in recheck.asked.iter().zip(replies) {
            let refused = match reply {
                Reply::Text(found) if found == b"none" || found == expected.as_bytes() => continue,
                Reply::Text(found) => format!("WRONGTYPE: the key holds a {}, not a {expected}", String::from_utf8_lossy(found)),
                other => format!("the key's type can't be read: {other:?}"),
            };
            let letter = self.uncertain(&recheck.records[*i], *origin, "refused", &refused);
            recheck.letters.push(letter);
        }
        if !recheck.letters.is_empty() {
            let burial = Burial { letters: recheck.letters, settle: Vec::new(), halts: Vec::new(), clear: vec![recheck.generation] };
            if self.settings.letters == Letters::Halt {
                let reason = format!(
                    "records below the position have writes that were refused or whose outcome is unknown, and no [dead_letter] is set: {}",
                    burial.letters[0].reason
                );
                self.halt(recheck.generation, "poison", reason);
            } else {
                self.burial = Some(burial);
            }
        }
    }
}
