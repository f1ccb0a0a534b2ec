//! The records whose replies a crash left unread: applied for certain, but which of their writes were refused?
//!
//! Of a job's writes that were compared first, nobody knows any more which went. But what went was looked at under WATCH, so
//! its key's type refused none of it: what is left to ask about is entries with ids of their own, in streams that the job
//! began. Where it did not begin the stream, none went.
use super::burial::Burial;
use super::{Lane, Letters, Next, Stage};
use crate::core::decode::Scratch;
use crate::core::encode::{Encoded, Encoder};
use crate::core::letter::Letter;
use crate::core::record::Record;
use crate::core::replay::decide::BEGUN;
use crate::core::reply::{Class, Reply, first_error, triage};
use crate::core::route::{self, Origin};
use crate::core::write::{Kind, Refusable};
use std::collections::BTreeMap;
use std::time::Duration;

/// A partition's unread records, and what is asked about them.
pub(super) struct Recheck {
    generation: u64,
    records: Vec<Record>,
    /// What the types of keys decide: the answers come in this order.
    asked: Vec<Asked>,
    /// A job's entries with ids of their own, by their stream and their time. These answers come after the others.
    entries: BTreeMap<Place, Vec<Entry>>,
    letters: Vec<Letter>,
}

/// A stream, and a time in it.
type Place = (Vec<u8>, Vec<u8>);
/// Names and values.
type Fields = Vec<Vec<u8>>;

/// An entry that may have gone.
struct Entry {
    record: usize,
    origin: Origin,
    fields: Fields,
}

enum Asked {
    /// Whether a write was refused: its key must be absent or of this type.
    Write { record: usize, origin: Origin, expected: &'static str },
    /// Whether a letter was, which went in its batch's own transaction: then the dead-letter stream is none now.
    Letter(Box<Letter>),
}

const UNKNOWN: &str = "a crash came before the reply was read, and nothing in Redis tells whether this write was refused";

/// Of an XADD its stream and the time in its id, and its fields.
fn parts(command: Encoded<'_>, id_at: usize) -> (Place, Fields) {
    let arg = |n| command.arg(n).unwrap_or_default();
    let id = arg(id_at);
    let time = id.strip_suffix(b"-*").unwrap_or(id);
    ((arg(1).to_vec(), time.to_vec()), command.args().skip(id_at + 1).map(<[u8]>::to_vec).collect())
}

/// The fields of an entry of a stream, as XREVRANGE answers.
fn fields_of(entry: &Reply) -> Fields {
    let text = |r: &Reply| if let Reply::Text(t) = r { t.to_vec() } else { Vec::new() };
    match entry {
        Reply::Array(pair) => pair.get(1).map(|f| if let Reply::Array(fields) = f { fields.iter().map(text).collect() } else { Vec::new() }),
        _ => None,
    }
    .unwrap_or_default()
}

/// The error of an answer that tells nothing. That the key is no stream, or the id none, does tell.
fn untold(replies: &[Reply]) -> Option<&str> {
    replies.iter().find_map(|r| if let Reply::Error(e) = r { Some(e.as_str()) } else { None }.filter(|e| triage(e) != Class::Permanent))
}

impl Lane {
    pub(super) fn next_recheck(&mut self, now: Duration) -> Option<Next> {
        let generation = *self.parts.iter().find(|(_, p)| p.may_recheck())?.0;
        let records = self.parts.get_mut(&generation)?.take_recheck()?;
        self.aux.clear();
        let mut recheck = Recheck { generation, records, asked: Vec::new(), entries: BTreeMap::new(), letters: Vec::new() };
        for i in 0..recheck.records.len() {
            self.ask(&mut recheck, i);
        }
        self.ask_about_entries(&recheck);
        if recheck.asked.is_empty() && recheck.entries.is_empty() {
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
        for (origin, command) in origins.into_iter().zip(out.encoded()) {
            let route = &self.settings.routes[origin.route];
            let write = &route.writes[origin.write];
            if write.effect.compares() {
                if let (Refusable::Unknown, Kind::Xadd(xadd)) = (write.kind.refusable(), &write.kind) {
                    let (stream, fields) = parts(command, xadd.id_at());
                    recheck.entries.entry(stream).or_default().push(Entry { record: i, origin, fields });
                }
                continue;
            }
            let kind = &write.kind;
            let mut scratch = Scratch::default();
            let decoded = route.format.decode(record.payload(), &mut scratch);
            match (kind.refusable(), kind.key(record, decoded.document())) {
                (Refusable::Never, _) => {}
                (Refusable::ByType(expected), Some(key)) => {
                    self.aux.command(&[b"TYPE", key.as_slice()]);
                    recheck.asked.push(Asked::Write { record: i, origin, expected });
                }
                _ => recheck.letters.push(self.uncertain(record, origin, "outcome-unknown", UNKNOWN)),
            }
        }
    }

    /// Whether the job began the stream, and what stands at that time, the newest first.
    fn ask_about_entries(&mut self, recheck: &Recheck) {
        let Some(job) = &self.job else { return };
        for ((stream, time), entries) in &recheck.entries {
            self.aux.command(&[b"HGET".as_slice(), &job.keys.marks().0, stream]);
            self.aux.command(&[b"XREVRANGE".as_slice(), stream, time, time, b"COUNT", entries.len().to_string().as_bytes()]);
        }
    }

    /// Those entries that should stand and do not: letters.
    fn missing(&self, recheck: &Recheck, entries: &[Entry], begun: &Reply, found: &Reply) -> Vec<Letter> {
        // A key of another type: none went, or whoever put it there took them away.
        let other = matches!(found, Reply::Error(e) if e.starts_with("WRONGTYPE"));
        if other || !matches!(begun, Reply::Text(mark) if *mark == BEGUN) {
            return Vec::new();
        }
        let mut stand = if let Reply::Array(found) = found { found.iter().map(fields_of).collect() } else { Vec::new() };
        let missing = entries.iter().filter(|entry| match stand.iter().position(|fields| *fields == entry.fields) {
            Some(at) => {
                stand.swap_remove(at);
                false
            }
            None => true,
        });
        missing.map(|e| self.uncertain(&recheck.records[e.record], e.origin, "outcome-unknown", UNKNOWN)).collect()
    }

    fn uncertain(&self, record: &Record, origin: Origin, code: &'static str, reason: &str) -> Letter {
        let route = &self.settings.routes[origin.route];
        let failed = vec![format!("{} write {} ({})", route.name, origin.write + 1, route.writes[origin.write].kind.name())];
        let writes = vec![self.write_name(origin)];
        Letter { record: record.clone(), code, reason: reason.to_owned(), route: route.name.clone(), writes, failed, applied: Vec::new() }
    }

    pub(super) fn recheck_answered(&mut self, mut recheck: Recheck, replies: &[Reply], now: Duration, jitter: f64) {
        let (replies, of_entries) = replies.split_at(recheck.asked.len().min(replies.len()));
        if let Some(error) = first_error(replies).or_else(|| untold(of_entries)) {
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
        for (entries, answer) in std::mem::take(&mut recheck.entries).values().zip(of_entries.chunks_exact(2)) {
            let missing = self.missing(&recheck, entries, &answer[0], &answer[1]);
            recheck.letters.extend(missing);
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
