//! What `verify` found, as a person or a script reads it.
use super::super::{Exit, Output, print};
use crate::core::replay::plan::Span;
use crate::core::verify::compare::Equal;
use crate::core::verify::members::Of;
use crate::core::verify::model::{Expected, Model};
use crate::core::words::counted;
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
    /// Hashes, sets and sorted sets, and the fields and members of them that the range wrote.
    collections: u64,
    elements: u64,
    different: u64,
    differences: Vec<Told>,
    /// Keys of which something can't be told.
    untold: u64,
    untold_of: Vec<Told>,
    /// How often each command came that can't be followed.
    uncompared: BTreeMap<String, u64>,
    /// What that leaves out.
    uncompared_keys: u64,
    uncompared_fields: u64,
    uncompared_members: u64,
    /// How many keys are not compared for each reason.
    uncompared_for: BTreeMap<String, u64>,
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
                Expected::Unknown(why) => {
                    report.uncompared_keys += 1;
                    *report.uncompared_for.entry(why.to_string()).or_default() += 1;
                }
                Expected::Members(members) => {
                    report.collections += 1;
                    let left_out = members.unfollowed() as u64;
                    report.elements += members.elements.len() as u64 - left_out;
                    if members.of == Of::Hash { report.uncompared_fields += left_out } else { report.uncompared_members += left_out }
                }
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

    /// What could not be compared, where there is something.
    fn left_out(&self) -> Option<String> {
        let counts = [(self.uncompared_keys, "key"), (self.uncompared_fields, "field"), (self.uncompared_members, "member")];
        let mut parts: Vec<String> = counts.into_iter().filter(|(n, _)| *n > 0).map(|(n, noun)| counted(n, noun)).collect();
        parts.extend(Some(self.untold).filter(|n| *n > 0).map(|n| format!("parts of {}", counted(n, "key"))));
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// Differences come before what could not be compared.
    pub(super) fn exit(&self) -> Exit {
        match self.left_out() {
            _ if self.different > 0 => Exit::Different,
            Some(_) => Exit::NotCompared,
            None => Exit::Done,
        }
    }

    pub(super) fn show(&self, output: Output, spans: &[Span]) {
        let verdict = match self.exit() {
            Exit::Different => "different",
            Exit::NotCompared => "not compared",
            _ => "equal",
        };
        if output == Output::Json {
            let equal = self.exit() == Exit::Done;
            return print::line(format_args!("{:#}", json!({"equal": equal, "verdict": verdict, "ranges": spans, "found": self})));
        }
        for span in spans {
            let live = span.live.map_or_else(String::new, |l| format!(", the live bridge is at {l}"));
            print::line(format_args!("{:<24} from {} to {}{live}", span.at().to_string(), span.from, span.to));
        }
        self.notes.iter().for_each(|note| print::line(format_args!("note: {note}")));
        print::line(format_args!("{}, {} of them dead", counted(self.records, "record"), self.dead));
        print::line(format_args!(
            "{} of {}, {} of them trimmed; {}, {} of them expired",
            counted(self.streams, "stream"),
            counted(self.entries, "entry"),
            self.trimmed,
            counted(self.values, "value"),
            self.expired
        ));
        if self.collections > 0 {
            print::line(format_args!("{} of hashes and sets, {} of them", counted(self.collections, "key"), counted(self.elements, "element")));
        }
        if self.trimmed_or_deleted > 0 {
            print::line(format_args!("of the trimmed {} may as well have been deleted: that can't be told", self.trimmed_or_deleted));
        }
        self.uncompared.iter().filter(|(_, n)| **n > 0).for_each(|(name, n)| print::line(format_args!("not compared: {} of {name}", counted(*n, "command"))));
        self.uncompared_for.iter().for_each(|(why, n)| print::line(format_args!("not compared: {}: {why}", counted(*n, "key"))));
        for (n, noun, writes) in
            [(self.uncompared_fields, "field", "HSETNX or HINCRBY"), (self.uncompared_members, "member", "ZINCRBY, or ZADD with an option,")]
        {
            if n > 0 {
                print::line(format_args!("not compared: {}: what {writes} leaves depends on the value before", counted(n, noun)));
            }
        }
        self.untold_of.iter().for_each(|t| print::line(format_args!("can't be told {}: {}", t.key, t.what)));
        self.differences.iter().for_each(|d| print::line(format_args!("DIFFERENT {}: {}", d.key, d.what)));
        let differ = if self.different == 1 { "differs" } else { "differ" };
        print::line(match (self.different, self.left_out()) {
            (0, None) => "equal".to_owned(),
            (0, Some(left_out)) => format!("what was compared is equal; not compared: {left_out}{}", self.advice()),
            (n, None) => format!("{} {differ}", counted(n, "key")),
            (n, Some(left_out)) => format!("{} {differ}; not compared: {left_out}", counted(n, "key")),
        });
    }

    /// What lets `verify` compare more.
    fn advice(&self) -> &'static str {
        if self.untold > 0 { ". A range that leaves no partition and no topic out, and begins where the log does, tells more" } else { "" }
    }
}
