//! The records whose replies a crash left unread: applied for certain, but which of their writes were refused?
use super::burial::Burial;
use super::{Lane, Letters, Next, Stage};
use crate::core::decode::Scratch;
use crate::core::encode::Encoder;
use crate::core::letter::Letter;
use crate::core::record::Record;
use crate::core::reply::{Reply, first_error};
use crate::core::route::{self, Origin};
use crate::core::write::Refusable;
use std::time::Duration;

/// A partition's unread records, and what is asked about them.
pub(super) struct Recheck {
    generation: u64,
    records: Vec<Record>,
    /// What the types of keys decide: the answers come in this order.
    asked: Vec<Asked>,
    letters: Vec<Letter>,
}

enum Asked {
    /// Whether a write was refused: its key must be absent or of this type.
    Write { record: usize, origin: Origin, expected: &'static str },
    /// Whether a letter was, which went in its batch's own transaction: then the dead-letter stream is none now.
    Letter(Box<Letter>),
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
            self.recheck_answered(recheck, &[], now, 0.0);
            return Some(self.next(now));
        }
        Some(self.exchange(Stage::Rechecking(recheck), now))
    }

    /// Asks what must be asked about one record: no write of it is applied again.
    fn ask(&mut self, recheck: &mut Recheck, i: usize) {
        let Some(part) = self.parts.get(&recheck.generation) else { return };
        let record = &recheck.records[i];
        let mut origins = Vec::new();
        let (mut out, mut outcomes) = (Encoder::default(), Vec::new());
        let rendered = route::render(&self.settings.routes, &part.through, record, &mut out, |o| origins.push(o), &mut outcomes, &mut self.context);
        if let Err(poison) = rendered {
            let (code, route, reason) = self.describe(&poison);
            let route = self.settings.routes[route].name.clone();
            let (writes, failed) = (vec!["*".into()], vec!["all".into()]);
            let letter = Letter { record: record.clone(), code, reason, route, writes, failed, applied: Vec::new() };
            match &self.settings.letters {
                Letters::Stream { name, .. } => {
                    self.aux.command(&[b"TYPE", name.as_bytes()]);
                    recheck.asked.push(Asked::Letter(Box::new(letter)));
                }
                // A topic may lack it. Without a place for letters there is none to halt for: it was kept elsewhere then.
                Letters::Topic => recheck.letters.push(letter),
                Letters::Halt => {}
            }
            return;
        }
        for origin in origins {
            let route = &self.settings.routes[origin.route];
            let kind = &route.writes[origin.write].kind;
            let mut scratch = Scratch::default();
            let decoded = route.format.decode(record.payload(), &mut scratch);
            match (kind.refusable(), kind.key(record, decoded.document())) {
                (Refusable::Never, _) => {}
                (Refusable::ByType(expected), Some(key)) => {
                    self.aux.command(&[b"TYPE", key.as_slice()]);
                    recheck.asked.push(Asked::Write { record: i, origin, expected });
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
        let writes = vec![self.write_name(origin)];
        Letter { record: record.clone(), code, reason: reason.to_owned(), route: route.name.clone(), writes, failed, applied: Vec::new() }
    }

    pub(super) fn recheck_answered(&mut self, mut recheck: Recheck, replies: &[Reply], now: Duration, jitter: f64) {
        if let Some(error) = first_error(replies) {
            // Nothing was told: it is asked again, by the next owner if this one is letting go.
            if let Some(part) = self.parts.get_mut(&recheck.generation) {
                part.put_recheck_back(recheck.records);
            }
            return self.refused_whole(error, &[recheck.generation], now, jitter);
        }
        for (asked, reply) in std::mem::take(&mut recheck.asked).into_iter().zip(replies) {
            match (asked, reply) {
                (Asked::Letter(_), Reply::Text(found)) if found == b"stream" => {}
                (Asked::Letter(letter), _) => recheck.letters.push(*letter),
                (Asked::Write { expected, .. }, Reply::Text(found)) if found == b"none" || found == expected.as_bytes() => {}
                (Asked::Write { record, origin, expected }, reply) => {
                    let found = if let Reply::Text(found) = reply { String::from_utf8_lossy(found).into_owned() } else { format!("{reply:?}") };
                    let refused = format!("WRONGTYPE: the key holds a {found}, not a {expected}");
                    recheck.letters.push(self.uncertain(&recheck.records[record], origin, "refused", &refused));
                }
            }
        }
        if !recheck.letters.is_empty() {
            // What is below the position is settled now, too.
            let settle = self.parts.get(&recheck.generation).map(|p| (recheck.generation, p.position..p.position, None));
            let burial = Burial { letters: recheck.letters, settle: settle.into_iter().collect(), halts: Vec::new(), clear: vec![recheck.generation] };
            if self.settings.letters == Letters::Halt {
                let reason = format!(
                    "records below the position have writes that were refused or whose outcome is unknown, and no [dead_letter] is set: {}",
                    burial.letters[0].reason
                );
                self.halt(recheck.generation, "poison", reason);
            } else {
                self.owe(burial);
            }
        }
    }
}
