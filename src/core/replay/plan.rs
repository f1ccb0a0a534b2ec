//! What a job will do, frozen when it begins: all that is needed to carry it on.
use super::policy::{Options, Planned};
use crate::core::record::TopicPartition;
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
mod tests {
    use super::*;

    #[test]
    fn a_job_gets_the_first_name_of_the_day_that_is_free() {
        let taken = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(name("v", "2026-11-23", &[]), "v-2026-11-23-1");
        assert_eq!(name("v", "2026-11-23", &taken(&["v-2026-11-23-1", "v-2026-11-23-3"])), "v-2026-11-23-2");
    }
}
