//! What a job keeps in Redis, beside a state a partition of the same kind as the live bridge's.
use crate::core::record::TopicPartition;
use crate::core::state::{StateKey, escape};
use serde::Serialize;

/// What is said of a job that was there.
pub const GONE: &str = "Redis has no such job: it was forgotten, or Redis was emptied";

/// The keys of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// What begins them all.
    space: String,
    name: String,
}

impl Keys {
    pub fn new(prefix: &str, name: &str) -> Self {
        Self { space: format!("{}:job:{}", escape(prefix), escape(name)), name: name.into() }
    }

    /// The job's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The set of all jobs' names.
    pub fn names(prefix: &str) -> StateKey {
        StateKey(format!("{}:jobs", escape(prefix)).into_bytes())
    }

    /// A hash: the frozen plan, and how far the job has come as a whole.
    pub fn job(&self) -> StateKey {
        StateKey(self.space.clone().into_bytes())
    }

    /// The state of one partition.
    pub fn state(&self, at: &TopicPartition) -> StateKey {
        self.below(&format!("state:{}:{}", escape(&at.topic), at.partition))
    }

    /// A hash: what the job last wrote to each key that it compares first.
    pub fn marks(&self) -> StateKey {
        self.below("marks")
    }

    /// A hash: how many there are of each outcome, counted in the transactions that bring them about.
    pub fn counts(&self) -> StateKey {
        self.below("counts")
    }

    /// Is there while a process works on the job.
    pub fn alive(&self) -> StateKey {
        self.below("alive")
    }

    fn below(&self, name: &str) -> StateKey {
        StateKey(format!("{}:{name}", self.space).into_bytes())
    }
}

/// Offsets of a partition that Kafka deleted before they were read: from the first to before the second.
pub type Gap = (i64, i64);

/// How many offsets are in the gaps of each of these partitions; a process that was killed may have met one that the next
/// one met again.
pub fn gone<'g>(partitions: impl IntoIterator<Item = &'g Vec<Gap>>) -> i64 {
    let of = |gaps: &Vec<Gap>| {
        let mut gaps = gaps.clone();
        gaps.sort_unstable();
        let (mut sum, mut reached) = (0, i64::MIN);
        for (from, to) in gaps {
            sum += (to - from.max(reached)).max(0);
            reached = reached.max(to);
        }
        sum
    };
    partitions.into_iter().map(of).sum()
}

/// The field of the job's hash that keeps a gap, whose value is its end.
pub fn gap_field(at: &TopicPartition, from: i64) -> String {
    format!("gone:{}:{}:{from}", at.topic, at.partition)
}

/// Reads a gap: the partition's part of the field, and the gap.
pub fn gap(field: &str, value: &str) -> Option<(String, Gap)> {
    let (at, from) = field.strip_prefix("gone:")?.rsplit_once(':')?;
    Some((at.into(), (from.parse().ok()?, value.parse().ok()?)))
}

/// How many there are of each outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub records: i64,
    /// Writes; also a SET that is not sent, for a later one of its transaction undoes it (`collapse`).
    pub applied: i64,
    /// Writes: a newer value stands there.
    pub older: i64,
    /// Writes: something stands there that can't be compared, or that the job did not begin.
    pub present: i64,
    /// Writes whose time to live has passed.
    pub expired: i64,
    /// Records dropped by a rule: tombstones that the route skips, records that its condition does not let through.
    pub dropped: i64,
    /// Letters.
    pub dead: i64,
    /// Conditions that could not be applied, and were taken as not holding.
    pub condition_errors: i64,
}

impl Counts {
    pub fn each(&self) -> [(&'static str, i64); 8] {
        [
            ("records", self.records),
            ("applied", self.applied),
            ("older", self.older),
            ("present", self.present),
            ("expired", self.expired),
            ("dropped", self.dropped),
            ("dead", self.dead),
            ("condition_errors", self.condition_errors),
        ]
    }

    /// Reads the fields of the hash.
    pub fn read(fields: impl IntoIterator<Item = (Vec<u8>, i64)>) -> Self {
        let mut counts = Self::default();
        for (name, n) in fields {
            match name.as_slice() {
                b"records" => counts.records = n,
                b"applied" => counts.applied = n,
                b"older" => counts.older = n,
                b"present" => counts.present = n,
                b"expired" => counts.expired = n,
                b"dropped" => counts.dropped = n,
                b"dead" => counts.dead = n,
                b"condition_errors" => counts.condition_errors = n,
                _ => {}
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_jobs_and_no_job_and_partition_share_a_key() {
        let keys = |name: &str| Keys::new("b", name);
        let at = TopicPartition::new("t", 0);
        let all = [keys("a").job(), keys("a").state(&at), keys("a").marks(), keys("a").counts(), keys("a").alive(), Keys::names("b"), keys("a:marks").job()];
        for (i, key) in all.iter().enumerate() {
            assert!(!all[..i].contains(key), "{key:?}");
        }
    }

    #[test]
    fn gaps_survive_their_fields_and_count_once() {
        let at = TopicPartition::new("t.x", 3);
        assert_eq!(gap(&gap_field(&at, 5), "9"), Some(("t.x:3".into(), (5, 9))));
        assert_eq!(gap("status", "begun"), None);
        // Met at 7, and after a kill, from further back, again.
        assert_eq!(gone([&vec![(7, 10), (5, 12), (20, 21)], &vec![(0, 3)], &Vec::new()]), 11);
    }

    #[test]
    fn counts_survive_their_fields() {
        let counts = Counts { records: 1, applied: 2, older: 3, present: 4, expired: 5, dropped: 6, dead: 7, condition_errors: 8 };
        assert_eq!(Counts::read(counts.each().map(|(name, n)| (name.into(), n))), counts);
    }
}
