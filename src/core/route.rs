//! Routes: topics → writes. What a record becomes.
use super::condition::{Condition, Fault, Fields, Subject};
use super::decode::{Decoded, Document, Format, Scratch};
use super::encode::Encoder;
use super::letter;
use super::record::Record;
pub use super::topics::Topics;
pub use super::write::OnConditionError;
use super::write::{Effect, Kind, Rendered, Write};
use std::collections::BTreeMap;

/// One entry of the configuration, compiled.
#[derive(Clone, Debug)]
pub struct Route {
    pub name: String,
    pub topics: Vec<Topics>,
    pub format: Format,
    pub tombstone: Tombstone,
    /// Whether it takes a record at all.
    pub when: Option<Condition>,
    /// Of that condition; each write has its own.
    pub on_condition_error: OnConditionError,
    pub writes: Vec<Write>,
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
    /// Conditions that could not be applied, and were taken as not holding.
    pub condition_errors: u32,
    /// The route's condition did not hold.
    pub unmet: bool,
    /// It is a dead letter, and came by a pattern.
    pub letter: bool,
}

impl Outcome {
    /// 1 where a rule drops the record: it is a tombstone of which nothing came, the route's condition did not hold, or it is a
    /// dead letter that a pattern let in.
    pub fn dropped(&self) -> u32 {
        u32::from(self.unmet || self.letter || self.tombstones > 0 && self.commands == 0)
    }
}

/// Why a record is dead before anything was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poison {
    pub route: usize,
    /// The write that it is about; `None`: all of the route.
    pub write: Option<usize>,
    pub cause: Cause,
    pub reason: String,
}

/// What could not be done with a dead record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Decode,
    Judge,
    Render,
}

impl Route {
    /// Of one topic, whose records are JSON, tombstones skipped, without a condition.
    pub fn new(name: &str, topic: &str, writes: Vec<Write>) -> Self {
        Self {
            name: name.into(),
            topics: vec![Topics::Name(topic.into())],
            format: Format::Json,
            tombstone: Tombstone::Skip,
            when: None,
            on_condition_error: OnConditionError::Dead,
            writes,
        }
    }

    pub fn matches(&self, topic: &str) -> bool {
        self.topics.iter().any(|t| t.matches(topic))
    }

    /// Whether it names this topic, in place of matching it by a pattern.
    fn names(&self, topic: &str) -> bool {
        self.topics.iter().any(|t| matches!(t, Topics::Name(name) if name == topic))
    }

    /// Whether it leaves a record out: a dead letter that came by a pattern is no user's data, whichever bridge wrote it.
    pub fn leaves_out(&self, record: &Record) -> bool {
        letter::is_letter(record) && !self.names(&record.at().topic)
    }

    /// Whether it deletes what its writes have set, in place of applying them.
    fn deletes(&self, record: &Record) -> bool {
        record.payload().is_none() && self.tombstone == Tombstone::Del
    }

    /// What its conditions are asked of.
    fn subject<'s>(&self, record: &'s Record, decoded: &Decoded<'s>) -> Subject<'s> {
        let fields = match (self.format, decoded) {
            _ if self.deletes(record) => Fields::Unknown,
            (Format::Json, Decoded::Fields(document)) => Fields::Of(*document),
            (Format::Json, Decoded::Dead(_)) => Fields::Unknown,
            (Format::Raw, _) | (_, Decoded::Opaque) => Fields::None,
        };
        Subject { record, fields }
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

/// What a condition of a route says of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged<'r> {
    /// Whose it is; `None`: the route's.
    pub write: Option<usize>,
    pub condition: &'r Condition,
    pub on_error: OnConditionError,
    pub finding: Finding,
}

/// Whether a condition holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    Holds,
    HoldsNot,
    /// See [`Fields::Unknown`].
    Unknown,
    /// It can't be applied, for this reason.
    Fault(String),
}

/// What the conditions of a route say of a record: the route's own, and where that one lets it through those of its writes.
pub fn judge<'r>(route: &'r Route, record: &Record) -> Vec<Judged<'r>> {
    if route.leaves_out(record) || record.payload().is_none() && route.tombstone == Tombstone::Skip {
        return Vec::new();
    }
    let mut scratch = Scratch::default();
    let decoded = if route.format == Format::Json { Format::Json.decode(record.payload(), &mut scratch) } else { Decoded::Opaque };
    let subject = route.subject(record, &decoded);
    let one = |write: Option<usize>, when: &'r Option<Condition>, on_error: OnConditionError| {
        let condition = when.as_ref()?;
        let finding = match condition.holds(&subject) {
            Ok(true) => Finding::Holds,
            Ok(false) => Finding::HoldsNot,
            Err(Fault::Unknown) => Finding::Unknown,
            Err(fault) => Finding::Fault(fault.to_string()),
        };
        Some(Judged { write, condition, on_error, finding })
    };
    let mut all = Vec::from_iter(one(None, &route.when, route.on_condition_error));
    if all.iter().all(|j| j.finding == Finding::Holds || j.finding == Finding::Unknown && route.deletes(record)) {
        all.extend(route.writes.iter().enumerate().filter_map(|(w, write)| one(Some(w), &write.when, write.on_condition_error)));
    }
    all
}

/// The keys to which a record adds each time that the commands of these origins are applied.
pub fn grown(routes: &[Route], origins: &[Origin], record: &Record) -> Vec<Grown> {
    let mut scratch = Scratch::default();
    let through: Vec<usize> = origins.iter().map(|o| o.route).collect();
    let decoded = decode(routes, &through, record, &mut scratch);
    let mut keys = Vec::new();
    for origin in origins {
        let route = &routes[origin.route];
        let kind = &route.writes[origin.write].kind;
        if kind.grows() {
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
    /// The conditions that could not be applied and were taken as not holding, by route and write; each with the first
    /// record and the reason, until somebody takes that to tell it.
    pub unapplied: BTreeMap<(usize, Option<usize>), Option<String>>,
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
    let Context { scratch, now_ms, unapplied } = context;
    let mark = out.mark();
    let decoded = decode(routes, through, record, scratch);
    for &r in through {
        let mut rendering =
            Rendering { index: r, route: &routes[r], record, decoded: &decoded, now_ms: *now_ms, unapplied: &mut *unapplied, outcome: Outcome::default() };
        if let Err((write, cause, reason)) = rendering.run(out, |write| on_command(Origin { route: r, write })) {
            out.truncate(mark);
            return Err(Poison { route: r, write, cause, reason });
        }
        outcomes.push((r, rendering.outcome));
    }
    Ok(())
}

/// What its routes make of a record's payload.
fn decode<'a>(routes: &[Route], through: &[usize], record: &'a Record, scratch: &'a mut Scratch) -> Decoded<'a> {
    let json = through.iter().any(|r| routes[*r].format == Format::Json);
    if json { Format::Json.decode(record.payload(), scratch) } else { Decoded::Opaque }
}

/// One record on its way through one route.
struct Rendering<'a> {
    index: usize,
    route: &'a Route,
    record: &'a Record,
    decoded: &'a Decoded<'a>,
    now_ms: i64,
    unapplied: &'a mut BTreeMap<(usize, Option<usize>), Option<String>>,
    outcome: Outcome,
}

/// The write that it is about, what could not be done, and why.
type Failed = (Option<usize>, Cause, String);

impl<'a> Rendering<'a> {
    fn run(&mut self, out: &mut Encoder, mut on_command: impl FnMut(usize)) -> Result<(), Failed> {
        let (route, record) = (self.route, self.record);
        if route.leaves_out(record) {
            self.outcome.letter = true;
            return Ok(());
        }
        let tombstone = record.payload().is_none() && route.tombstone != Tombstone::Write;
        self.outcome.tombstones += u32::from(tombstone);
        if tombstone && route.tombstone == Tombstone::Skip {
            return Ok(());
        }
        let subject = route.subject(record, self.decoded);
        if !self.applies(None, route.when.as_ref(), route.on_condition_error, &subject)? {
            self.outcome.unmet = true;
            return Ok(());
        }
        let document = self.document()?;
        for (w, write) in route.writes.iter().enumerate() {
            let (mark, left_out) = (out.mark(), write.effect == Effect::Skip);
            let delete = match &write.kind {
                _ if !tombstone => None,
                Kind::Set { key, .. } => Some(Kind::Del { key: key.clone() }),
                _ => continue,
            };
            if !self.applies(Some(w), write.when.as_ref(), write.on_condition_error, &subject)? {
                continue;
            }
            match delete.as_ref().unwrap_or(&write.kind).render(record, document, self.now_ms, out) {
                // It is rendered all the same: a record that is dead for it in the live path is so wherever it is applied again.
                Ok(_) if left_out => out.truncate(mark),
                Ok(Rendered::Command) => {
                    self.outcome.commands += 1;
                    on_command(w);
                }
                Ok(Rendered::Expired) => self.outcome.expired += 1,
                Err(reason) => return Err((Some(w), Cause::Render, reason)),
            }
        }
        Ok(())
    }

    /// Whether what stands under a condition is applied.
    fn applies(&mut self, write: Option<usize>, when: Option<&Condition>, on_error: OnConditionError, subject: &Subject<'_>) -> Result<bool, Failed> {
        let Some(condition) = when else { return Ok(true) };
        match (condition.holds(subject), on_error) {
            (Ok(holds), _) => Ok(holds),
            // What a value once let in, its end lets out.
            (Err(Fault::Unknown), _) if self.route.deletes(self.record) => Ok(true),
            (Err(Fault::Unknown), _) => Err(self.undecoded()),
            (Err(fault), OnConditionError::Skip) => {
                self.outcome.condition_errors += 1;
                let first =
                    || Some(format!("the condition {:?} can't be applied to {}, offset {}: {fault}", condition.text(), self.record.at(), self.record.offset));
                self.unapplied.entry((self.index, write)).or_insert_with(first);
                Ok(false)
            }
            (Err(fault), OnConditionError::Dead) => Err((write, Cause::Judge, format!("the condition {:?} can't be applied: {fault}", condition.text()))),
        }
    }

    fn document(&self) -> Result<Option<&'a Document<'a>>, Failed> {
        match (self.route.format, self.decoded) {
            (Format::Json, Decoded::Fields(document)) => Ok(Some(document)),
            (Format::Json, Decoded::Dead(_)) => Err(self.undecoded()),
            (Format::Raw, _) | (_, Decoded::Opaque) => Ok(None),
        }
    }

    fn undecoded(&self) -> Failed {
        let reason = if let Decoded::Dead(reason) = self.decoded { reason.clone() } else { String::new() };
        (None, Cause::Decode, reason)
    }
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
        let set =
            |key: &str, effect| Write { effect, ..Write::new(Kind::Set { key: template(key), value: template("{payload}"), ttl: None, collapse: false }) };
        let writes = vec![set("left:{key}", Effect::Skip), set("applied:{key}", Effect::Apply), set("compared:{key}", Effect::IfMissing)];
        let route = Route { tombstone: Tombstone::Del, ..Route::new("r", "t", writes) };
        let record = Record::copy(TopicPartition::new("t", 0), 0, None, Some(b"k"), None, []);
        let (mut out, mut origins) = (Encoder::default(), Vec::new());
        render(&[route], &[0], &record, &mut out, |o| origins.push(o.write), &mut Vec::new(), &mut Context::default()).unwrap();
        let sent = parse_commands(out.bytes()).unwrap();
        assert_eq!(sent, [[&b"DEL"[..], b"applied:k"], [b"DEL", b"compared:k"]].map(|c| c.map(<[u8]>::to_vec).to_vec()));
        assert_eq!(origins, [1, 2]);
    }

    /// A route under a condition, with a write of its own condition and one without.
    fn conditional(on_condition_error: OnConditionError) -> Route {
        let template = |t: &str| Template::parse(t).unwrap();
        let when = |text: &str| Some(Condition::parse(text).unwrap());
        let alert = Write { when: when("value.vol > 0.5"), on_condition_error, ..Write::new(Kind::Command(vec![template("INCR"), template("alerts")])) };
        let set = Write::new(Kind::Set { key: template("k:{key}"), value: template("{payload}"), ttl: None, collapse: false });
        Route { when: when("key != 'test' and value.on ?? true"), on_condition_error, ..Route::new("r", "t", vec![alert, set]) }
    }

    /// Which writes a record becomes, or why it is dead; and what is counted.
    fn become_of(route: &Route, key: &str, payload: Option<&str>) -> (Result<Vec<usize>, (Cause, String)>, Outcome, usize) {
        let record = Record::copy(TopicPartition::new("t", 0), 0, None, Some(key.as_bytes()), payload.map(str::as_bytes), []);
        let (mut out, mut origins, mut outcomes) = (Encoder::default(), Vec::new(), Vec::new());
        let routes = std::slice::from_ref(route);
        let done = render(routes, &[0], &record, &mut out, |o| origins.push(o), &mut outcomes, &mut Context::default());
        let writes = done.map(|()| origins.iter().map(|o| o.write).collect()).map_err(|p| (p.cause, p.reason));
        (writes, outcomes.first().map(|(_, o)| *o).unwrap_or_default(), grown(routes, &origins, &record).len())
    }

    #[test]
    fn a_condition_that_does_not_hold_drops_the_record_or_leaves_the_write_out() {
        let route = conditional(OnConditionError::Dead);
        let expect = |key: &str, payload: &str, writes: &[usize], dropped: u32, grows: usize| {
            let (found, outcome, grown) = become_of(&route, key, Some(payload));
            assert_eq!(found, Ok(writes.to_vec()), "{payload}");
            assert_eq!((outcome.dropped(), outcome.condition_errors, outcome.commands as usize, grown), (dropped, 0, writes.len(), grows), "{payload}");
        };
        expect("a", r#"{"vol":0.6}"#, &[0, 1], 0, 1);
        // What is left out adds to nothing that a rebuild would have to look at.
        expect("a", r#"{"vol":0.5}"#, &[1], 0, 0);
        expect("a", r#"{"vol":0.6,"on":false}"#, &[], 1, 0);
        expect("test", r#"{"vol":0.6}"#, &[], 1, 0);
        expect("test", "no JSON", &[], 1, 0);
    }

    #[test]
    fn a_condition_that_can_not_be_applied_kills_the_record_or_is_skipped_and_counted() {
        let (dead, skip) = (conditional(OnConditionError::Dead), conditional(OnConditionError::Skip));
        for (payload, reason) in [
            (r#"{"vol":"high"}"#, "the condition \"value.vol > 0.5\" can't be applied: value.vol is text where a number is needed"),
            (
                r#"{"on":1,"vol":1}"#,
                "the condition \"key != 'test' and value.on ?? true\" can't be applied: value.on is a number where true or false is needed",
            ),
        ] {
            assert_eq!(become_of(&dead, "a", Some(payload)).0, Err((Cause::Judge, reason.into())));
        }
        let (writes, outcome, _) = become_of(&skip, "a", Some(r#"{"vol":"high"}"#));
        assert_eq!((writes, outcome.dropped(), outcome.condition_errors), (Ok(vec![1]), 0, 1));
        let (writes, outcome, _) = become_of(&skip, "a", Some(r#"{"on":1,"vol":1}"#));
        assert_eq!((writes, outcome.dropped(), outcome.condition_errors), (Ok(vec![]), 1, 1));
        // Each condition has its own word: by default a filter that can't be applied keeps the record, an alert lets the rest go on.
        let mut apart = conditional(OnConditionError::Dead);
        apart.writes[0].on_condition_error = OnConditionError::Skip;
        for payload in [r#"{"vol":"high"}"#, "{}"] {
            let (writes, outcome, _) = become_of(&apart, "a", Some(payload));
            assert_eq!((writes, outcome.dropped(), outcome.condition_errors), (Ok(vec![1]), 0, 1), "{payload}");
        }
        assert_eq!(become_of(&apart, "a", Some(r#"{"on":1,"vol":1}"#)).0.unwrap_err().0, Cause::Judge);
        // Nothing can be told of what is no JSON, and that is no matter of the condition.
        assert_eq!(become_of(&skip, "a", Some("{")).0.unwrap_err().0, Cause::Decode);
    }

    #[test]
    fn a_tombstone_deletes_unless_something_else_than_the_value_decides_against_it() {
        let route = Route { tombstone: Tombstone::Del, ..conditional(OnConditionError::Dead) };
        let (writes, outcome, _) = become_of(&route, "a", None);
        assert_eq!((writes, outcome.dropped()), (Ok(vec![1]), 0));
        let (writes, outcome, _) = become_of(&route, "test", None);
        assert_eq!((writes, outcome.dropped(), outcome.tombstones), (Ok(vec![]), 1, 1));
        let route = Route { tombstone: Tombstone::Skip, ..route };
        assert_eq!(become_of(&route, "a", None).1, Outcome { tombstones: 1, ..Outcome::default() });
        // There is no field: 0.5 can't be compared with it.
        let route = Route { tombstone: Tombstone::Write, ..route };
        assert_eq!(become_of(&route, "a", None).0.unwrap_err().0, Cause::Judge);
    }

    #[test]
    fn a_record_that_is_dead_for_a_write_is_dead_where_that_write_is_left_out() {
        let template = |t: &str| Template::parse(t).unwrap();
        let push = Write { effect: Effect::Skip, ..Write::new(Kind::Publish { channel: template("c"), message: template("{value.price}") }) };
        let set = Write::new(Kind::Set { key: template("k:{key}"), value: template("{payload}"), ttl: None, collapse: false });
        let route = Route::new("r", "t", vec![push, set]);
        assert_eq!(become_of(&route, "k", Some(r#"{"price":1}"#)).0, Ok(vec![1]));
        assert!(become_of(&route, "k", Some("{}")).0.is_err_and(|(cause, _)| cause == Cause::Render));
    }
}
