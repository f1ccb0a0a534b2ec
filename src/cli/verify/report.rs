//! What `verify` found, as a person or a script reads it.
use super::super::{Output, print};
use crate::core::replay::plan::Span;
use crate::core::verify::compare::Equal;
use crate::core::verify::model::{Expected, Model};
use serde::Serialize;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};

#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    records: u64,
    /// Records that can't be rendered, of which nothing is expected.
    dead: u64,
    streams: u64,
    entries: u64,
    /// Entries of the range that are no longer there, as their write says.
    trimmed: u64,
    /// Those of them that may as well have been deleted.
    trimmed_or_deleted: u64,
    values: u64,
    /// Values that have expired.
    expired: u64,
    pub(super) different: u64,
    differences: Vec<Told>,
    /// Keys of which something can't be told.
    untold: u64,
    untold_of: Vec<Told>,
    /// How often each command came that is not compared, and how many keys that leaves out.
    uncompared: BTreeMap<String, u64>,
    uncompared_keys: u64,
    /// What a person should know of the range.
    notes: Vec<String>,
}

/// What is said of a key.
#[derive(Debug, Serialize)]
struct Told {
    key: String,
    what: String,
}

impl Report {
    /// `show`: of how many keys what differs, or can't be told, is said.
    pub(super) fn new(model: &Model, found: HashMap<Vec<u8>, Result<Equal, String>>, notes: Vec<String>, show: usize) -> Self {
        let mut report = Self { records: model.records, dead: model.dead, uncompared: model.uncompared.clone(), notes, ..Self::default() };
        for expected in model.keys.values() {
            match expected {
                Expected::Unknown => report.uncompared_keys += 1,
                Expected::Stream(stream) => {
                    report.streams += 1;
                    report.entries += stream.sources.values().map(|s| s.of_range as u64).sum::<u64>();
                }
                Expected::Value(_) => report.values += 1,
            }
        }
        let mut found: Vec<(Vec<u8>, Result<Equal, String>)> = found.into_iter().collect();
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (key, found) in found {
            let told = |what: String| Told { key: String::from_utf8_lossy(&key).into_owned(), what };
            match found {
                Ok(equal) => {
                    report.trimmed += equal.trimmed as u64;
                    report.trimmed_or_deleted += if equal.blind { equal.trimmed as u64 } else { 0 };
                    report.expired += u64::from(equal.expired);
                    report.untold += u64::from(equal.untold.is_some());
                    report.untold_of.extend(equal.untold.filter(|_| report.untold_of.len() < show).map(told));
                }
                Err(what) => {
                    report.different += 1;
                    report.differences.extend(Some(what).filter(|_| report.differences.len() < show).map(told));
                }
            }
        }
        report
    }

    pub(super) fn show(&self, output: Output, spans: &[Span]) {
        if output == Output::Json {
            return print::line(format_args!("{:#}", json!({"equal": self.different == 0, "ranges": spans, "found": self})));
        }
        for span in spans {
            let live = span.live.map_or_else(String::new, |l| format!(", the live bridge is at {l}"));
            print::line(format_args!("{:<24} from {} to {}{live}", span.at().to_string(), span.from, span.to));
        }
        self.notes.iter().for_each(|note| print::line(format_args!("note: {note}")));
        print::line(format_args!("{} records, {} of them dead", self.records, self.dead));
        print::line(format_args!(
            "{} streams of {} entries, {} of them trimmed; {} values, {} of them expired",
            self.streams, self.entries, self.trimmed, self.values, self.expired
        ));
        if self.trimmed_or_deleted > 0 {
            print::line(format_args!("of the trimmed {} may as well have been deleted: that can't be told", self.trimmed_or_deleted));
        }
        self.uncompared.iter().for_each(|(name, n)| print::line(format_args!("not compared: {n} times {name}")));
        if self.uncompared_keys > 0 {
            print::line(format_args!("not compared: {} keys, for what else writes them", self.uncompared_keys));
        }
        self.untold_of.iter().for_each(|t| print::line(format_args!("can't be told {}: {}", t.key, t.what)));
        self.differences.iter().for_each(|d| print::line(format_args!("DIFFERENT {}: {}", d.key, d.what)));
        let differ = |n: u64| if n == 1 { "key differs" } else { "keys differ" };
        let verdict = match (self.different, self.untold) {
            (0, 0) => "equal".to_owned(),
            (0, n) => {
                format!(
                    "equal, as far as it can be told: of {n} of the keys not all can be. A range that leaves no partition and no topic out, and begins where the log does, tells more"
                )
            }
            (n, 0) => format!("{n} {}", differ(n)),
            (n, more) => format!("{n} {}; of {more} others not all can be told", differ(n)),
        };
        print::line(verdict);
    }
}
