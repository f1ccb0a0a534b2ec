//! Dead letters: a record, or some of its writes, that can't be applied, kept with the reason.
use super::encode::Encoder;
use super::record::Record;

/// What the header names of a letter begin with in the dead-letter topic.
pub const HEADER: &str = "dead.";

/// The names of a letter's facts. A header of such a name, behind [`HEADER`], is of an older letter, and is not carried on.
const FACTS: [&str; 12] = ["code", "reason", "route", "write", "topic", "partition", "offset", "timestamp", "failed", "applied", "origin", "job"];

/// One dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    pub record: Record,
    /// A stable word: `undecodable`, `condition-error`, `unrenderable`, `too-large`, `refused`, `outcome-unknown`.
    pub code: &'static str,
    /// What a person needs to know.
    pub reason: String,
    pub route: String,
    /// The writes that were not applied, as route/number, by which a repeated letter is known; `*` for all of the record.
    pub writes: Vec<String>,
    /// The writes that were refused, with their replies, and those that stand.
    pub failed: Vec<String>,
    pub applied: Vec<String>,
}

impl Letter {
    /// What stands beside the original bytes, as names and texts. `job`: the replay that met the record.
    pub fn facts(&self, job: Option<&str>) -> Vec<(&'static str, String)> {
        let r = &self.record;
        let mut facts = vec![
            ("code", self.code.into()),
            ("reason", self.reason.clone()),
            ("route", self.route.clone()),
            ("write", self.writes.join(",")),
            ("topic", r.at().topic.to_string()),
            ("partition", r.at().partition.to_string()),
            ("offset", r.offset.to_string()),
            ("timestamp", r.timestamp_ms.map(|t| t.to_string()).unwrap_or_default()),
            ("failed", self.failed.join("; ")),
            ("applied", self.applied.join("; ")),
        ];
        facts.extend(origin(r).map(|origin| ("origin", origin)));
        facts.extend(job.map(|job| ("job", job.to_owned())));
        facts
    }

    /// The record's own headers: without what an older letter said.
    pub fn headers(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.record.headers().filter(|(name, _)| name.strip_prefix(HEADER).is_none_or(|fact| !FACTS.contains(&fact)))
    }

    /// Appends the XADD that keeps the letter. A null key or payload has no field; what is longer than Redis takes (`bulk_max`) has
    /// none either, and is named in `omitted`.
    pub fn encode(&self, stream: &str, maxlen: Option<u64>, job: Option<&str>, bulk_max: usize, out: &mut Encoder) {
        out.arg(b"XADD");
        out.arg(stream.as_bytes());
        if let Some(n) = maxlen {
            out.arg(b"MAXLEN");
            out.arg(b"~");
            out.arg_number(n);
        }
        out.arg(b"*");
        for (name, text) in self.facts(job) {
            out.arg(name.as_bytes());
            out.arg(text.as_bytes());
        }
        let headers = self.headers().map(|(name, value)| (format!("header.{name}"), value.unwrap_or_default()));
        let rest = [("key", self.record.key()), ("payload", self.record.payload())].into_iter().filter_map(|(name, bytes)| Some((name.to_owned(), bytes?)));
        let mut omitted = Vec::new();
        for (name, bytes) in headers.chain(rest) {
            if bytes.len() > bulk_max {
                omitted.push(format!("{name} ({} bytes)", bytes.len()));
                continue;
            }
            out.arg(name.as_bytes());
            out.arg(bytes);
        }
        if !omitted.is_empty() {
            out.arg(b"omitted");
            out.arg(omitted.join(", ").as_bytes());
        }
        out.finish();
    }
}

/// Whether a record is a bridge's dead letter, read from a dead-letter topic. A letter that was put back into the topic that it came
/// from is a record again.
pub fn is_letter(record: &Record) -> bool {
    let said = |fact| header(record, fact);
    said("code").is_some() && said("offset").is_some() && said("topic").is_some_and(|topic| topic != *record.at().topic)
}

/// Where a record stood at first that has been a letter: `topic[partition]@offset`.
fn origin(record: &Record) -> Option<String> {
    let place = || Some(format!("{}[{}]@{}", header(record, "topic")?, header(record, "partition")?, header(record, "offset")?));
    header(record, "origin").or_else(place)
}

/// What the headers of a letter say.
fn header(record: &Record, fact: &str) -> Option<String> {
    let of = |(name, value): (&str, Option<&[u8]>)| value.filter(|_| name.strip_prefix(HEADER) == Some(fact)).map(|v| String::from_utf8_lossy(v).into_owned());
    record.headers().filter_map(of).last()
}

#[cfg(test)]
mod tests {
    use super::super::record::TopicPartition;
    use super::*;

    fn record(topic: &str, offset: i64, headers: &[(String, String)]) -> Record {
        let headers = headers.iter().map(|(name, value)| (name.as_str(), Some(value.as_bytes())));
        Record::copy(TopicPartition::new(topic, 3), offset, Some(7), Some(b"k"), Some(b"v"), headers)
    }

    /// The letter of a record, as its topic keeps it.
    fn kept(record: Record, topic: &str, offset: i64) -> Record {
        let (route, reason) = ("r".to_owned(), "no JSON".to_owned());
        let letter = Letter { record, code: "undecodable", reason, route, writes: vec!["*".into()], failed: vec!["all".into()], applied: Vec::new() };
        let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
        let facts = letter.facts(None).into_iter().map(|(name, value)| (format!("{HEADER}{name}"), value));
        let headers: Vec<_> = facts.chain(letter.headers().map(|(name, value)| (name.to_owned(), text(value)))).collect();
        self::record(topic, offset, &headers)
    }

    #[test]
    fn a_letter_of_a_letter_does_not_nest_and_knows_where_the_record_stood_first() {
        let first = kept(record("p.in", 5, &[("trace".into(), "a".into()), ("dead.line".into(), "b".into())]), "p.dead", 0);
        assert!(is_letter(&first));
        assert_eq!((first.headers().count(), header(&first, "origin")), (12, None));
        let mut again = first;
        for round in 1..50 {
            again = kept(again, "q.dead", round);
            assert_eq!((again.headers().count(), header(&again, "origin").as_deref()), (13, Some("p.in[3]@5")), "round {round}");
        }
        assert_eq!((header(&again, "topic").as_deref(), header(&again, "offset").as_deref()), (Some("q.dead"), Some("48")), "where it was read last");
        let own: Vec<_> = again.headers().filter(|(name, _)| ["trace", "dead.line"].contains(name)).collect();
        assert_eq!(own, [("trace", Some(&b"a"[..])), ("dead.line", Some(b"b"))], "the producer's own headers stay");
    }

    #[test]
    fn a_letter_that_is_put_back_where_it_came_from_is_a_record_again() {
        let letter = kept(record("p.in", 5, &[]), "p.dead", 0);
        let headers: Vec<_> = letter.headers().map(|(n, v)| (n.to_owned(), String::from_utf8_lossy(v.unwrap()).into_owned())).collect();
        assert!(!is_letter(&record("p.in", 9, &headers)));
        assert!(is_letter(&record("p.other", 9, &headers)));
        assert!(!is_letter(&record("p.in", 5, &[("dead.topic".into(), "x".into())])), "one header alone makes no letter");
    }
}
