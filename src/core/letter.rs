//! Dead letters: a record, or some of its writes, that can't be applied, kept with the reason.
use super::encode::Encoder;
use super::record::Record;

/// One dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    pub record: Record,
    /// A stable word: `undecodable`, `condition-error`, `unrenderable`, `refused`, `outcome-unknown`.
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
        facts.extend(job.map(|job| ("job", job.to_owned())));
        facts
    }

    /// Appends the XADD that keeps the letter. A null key or payload has no field.
    pub fn encode(&self, stream: &str, maxlen: Option<u64>, job: Option<&str>, out: &mut Encoder) {
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
        for (name, value) in self.record.headers() {
            out.arg(format!("header.{name}").as_bytes());
            out.arg(value.unwrap_or_default());
        }
        for (name, bytes) in [("key", self.record.key()), ("payload", self.record.payload())] {
            if let Some(bytes) = bytes {
                out.arg(name.as_bytes());
                out.arg(bytes);
            }
        }
        out.finish();
    }
}
