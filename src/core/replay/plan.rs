//! What a job will do, frozen when it begins: all that is needed to carry it on.
use super::policy::{self, Ids, Options, Planned};
use crate::core::record::TopicPartition;
use crate::core::words;
use serde::{Deserialize, Serialize};

/// The range of one partition: `[from, to)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub topic: String,
    pub partition: i32,
    pub from: i64,
    pub to: i64,
    /// The times of its first and its last record, in milliseconds since the epoch, where they have some.
    pub first_ms: Option<i64>,
    pub last_ms: Option<i64>,
    /// Where the live bridge was.
    pub live: Option<i64>,
}

impl Span {
    pub fn at(&self) -> TopicPartition {
        TopicPartition::new(self.topic.as_str(), self.partition)
    }

    /// How many offsets it has: records at most.
    pub fn len(&self) -> i64 {
        self.to - self.from
    }

    pub fn is_empty(&self) -> bool {
        self.from == self.to
    }

    /// Ends it where the live bridge is, where that is before its end; what a person should know of it.
    pub fn cut(&mut self) -> Option<String> {
        let live = self.live.filter(|live| *live < self.to && !self.is_empty())?;
        let (at, from, asked) = (self.at(), self.from, self.to);
        self.to = live.max(from);
        // Of which record it would be is not known any more.
        self.last_ms = None;
        Some(if self.is_empty() {
            self.first_ms = None;
            format!("{at}: nothing is left of {from}..{asked}: the live bridge is at {live}")
        } else {
            format!("{at}: cut at {live}, where the live bridge is: {live}..{asked} is left out")
        })
    }
}

/// A job's plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub name: String,
    pub created_ms: i64,
    pub spans: Vec<Span>,
    pub writes: Vec<Planned>,
    pub options: Options,
    /// Only records of these keys; empty: all.
    pub keys: Vec<String>,
    /// Records a second; `None`: no limit.
    pub rate: Option<u32>,
    /// Records that Kafka deletes meanwhile are passed over.
    pub clamp: bool,
    /// What a person should know.
    pub notes: Vec<String>,
}

impl Plan {
    /// How many offsets it has in all.
    pub fn len(&self) -> i64 {
        self.spans.iter().map(Span::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.spans.iter().all(Span::is_empty)
    }

    /// The writes that the plan leaves out though they could be applied, and how they are applied; a PUBLISH that is left out is
    /// named only where nothing else is left.
    pub fn left_out(&self) -> Option<String> {
        let skipped = |w: &&Planned| w.does == "skip" && w.meaning != policy::BY_WRITE;
        let nothing = self.writes.iter().all(|w| w.does == "skip");
        let listed = self.writes.iter().filter(skipped).filter(|w| nothing || !["publish", "spublish"].contains(&w.command.as_str()));
        let listed: Vec<String> = listed.map(|w| words::write(&w.route, w.write, &w.command)).collect();
        match (nothing, listed.is_empty()) {
            (false, true) => None,
            (true, true) => Some("this job applies nothing: --write leaves out every write".into()),
            (nothing, false) => {
                let what = if nothing { "this job applies nothing: it leaves out" } else { "this job leaves out" };
                Some(format!("{what} {}. To apply a write, set replay = \"apply\" on it in the configuration", listed.join("; ")))
            }
        }
    }

    /// What it does to all writes alike, as a person reads it.
    pub fn terms(&self) -> Vec<String> {
        let mut terms = Vec::new();
        if !self.keys.is_empty() {
            terms.push(format!("only records of the keys {}", self.keys.join(", ")));
        }
        if !self.options.target_prefix.is_empty() {
            terms.push(format!("all keys are written with {:?} before them", self.options.target_prefix));
        }
        if self.options.ids == Ids::Timestamp {
            terms.push("entries get their ids from the records' time".into());
        }
        terms.extend(self.rate.map(|rate| format!("at most {rate} records/s")));
        if self.clamp {
            terms.push("what Kafka deletes before it is read is passed over".into());
        }
        terms
    }
}

/// How many offsets of some spans are settled where these are the positions.
pub fn settled(spans: &[Span], positions: &[Option<i64>]) -> i64 {
    spans.iter().zip(positions).map(|(span, position)| position.unwrap_or(span.from) - span.from).sum()
}

/// Whether a record is one of those that are asked for by their keys; without any, all are.
pub fn wanted(keys: &[String], key: Option<&[u8]>) -> bool {
    keys.is_empty() || key.is_some_and(|k| keys.iter().any(|key| key.as_bytes() == k))
}

/// The name of the day's next job of a route: the first that is free.
pub fn name(route: &str, day: &str, taken: &[String]) -> String {
    let named = |n: u32| format!("{route}-{day}-{n}");
    (1..).map(named).find(|name| !taken.contains(name)).unwrap_or_else(|| named(0))
}

#[cfg(test)]
impl Plan {
    /// One that asks for nothing but these ranges.
    pub(crate) fn of(spans: Vec<Span>) -> Self {
        let options = Options { target_prefix: String::new(), append: false, ids: Ids::Write, writes: Vec::new() };
        Self { name: "j".into(), created_ms: 0, spans, writes: Vec::new(), options, keys: Vec::new(), rate: None, clamp: false, notes: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_is_said_and_what_was_not_is_not() {
        let mut plan = Plan::of(Vec::new());
        assert_eq!(plan.terms(), [""; 0]);
        (plan.keys, plan.rate, plan.clamp) = (vec!["a".into(), "b".into()], Some(9), true);
        plan.options = Options { target_prefix: "x:".into(), ids: Ids::Timestamp, ..plan.options };
        let terms = plan.terms().join("\n");
        for said in ["keys a, b", "\"x:\" before them", "the records' time", "at most 9 records/s", "passed over"] {
            assert!(terms.contains(said), "{said}: {terms}");
        }
    }

    #[test]
    fn what_the_plan_leaves_out_is_named_with_what_applies_it() {
        let write =
            |write: usize, command: &str, does: &str| Planned { route: "r".into(), write, command: command.into(), does: does.into(), meaning: String::new() };
        let left_out = |writes: Vec<Planned>| Plan { writes, ..Plan::of(Vec::new()) }.left_out();
        assert_eq!(left_out(vec![write(1, "set", "if-missing"), write(2, "publish", "skip")]), None);
        let hset = write(2, "hset", "skip");
        let set = " To apply a write, set replay = \"apply\" on it in the configuration";
        assert_eq!(left_out(vec![write(1, "set", "if-missing"), hset.clone()]), Some(format!("this job leaves out route r, write 2 (hset).{set}")));
        let all = left_out(vec![write(1, "publish", "skip"), hset.clone()]);
        assert_eq!(all, Some(format!("this job applies nothing: it leaves out route r, write 1 (publish); route r, write 2 (hset).{set}")));
        let asked = Planned { meaning: policy::BY_WRITE.into(), ..hset };
        assert_eq!(left_out(vec![write(1, "set", "if-missing"), asked]), None, "as was asked for");
    }

    #[test]
    fn a_range_that_is_cut_where_the_live_bridge_is_says_so() {
        let cut = |live| {
            let mut span = Span { topic: "t".into(), partition: 0, from: 10, to: 20, first_ms: Some(1), last_ms: Some(2), live };
            let told = span.cut();
            ((span.from, span.to), span.first_ms, span.last_ms, told)
        };
        for live in [None, Some(20), Some(25)] {
            assert_eq!(cut(live), ((10, 20), Some(1), Some(2), None));
        }
        assert_eq!(cut(Some(15)), ((10, 15), Some(1), None, Some("t[0]: cut at 15, where the live bridge is: 15..20 is left out".into())));
        for live in [10, 4] {
            let told = format!("t[0]: nothing is left of 10..20: the live bridge is at {live}");
            assert_eq!(cut(Some(live)), ((10, 10), None, None, Some(told)));
        }
    }

    #[test]
    fn what_is_settled_is_counted_from_where_each_range_begins() {
        let span = |from, to| Span { topic: "t".into(), partition: 0, from, to, first_ms: None, last_ms: None, live: None };
        assert_eq!(settled(&[span(10, 20), span(5, 9), span(0, 3)], &[Some(14), None, Some(3)]), 7);
    }

    #[test]
    fn a_job_gets_the_first_name_of_the_day_that_is_free() {
        let taken = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(name("v", "2026-11-23", &[]), "v-2026-11-23-1");
        assert_eq!(name("v", "2026-11-23", &taken(&["v-2026-11-23-1", "v-2026-11-23-3"])), "v-2026-11-23-2");
    }
}
