//! What Kafka says is wrong without saying of which partition: of any that gives nothing from then on.
use crate::kafka::trouble::Trouble;
use std::collections::HashMap;
use std::time::Duration;

/// What is suspected, since when Kafka answers and the partition gives nothing.
struct Suspicion {
    trouble: Trouble,
    why: String,
    since: Duration,
}

/// The partitions of a job that may be in trouble, by their place among its parts.
#[derive(Default)]
pub(super) struct Suspects(HashMap<usize, Suspicion>);

impl Suspects {
    /// Something is wrong with one of these. What is suspected already stays as it is.
    pub(super) fn told(&mut self, parts: impl IntoIterator<Item = usize>, trouble: Trouble, why: &str, now: Duration) {
        for part in parts {
            self.0.entry(part).or_insert_with(|| Suspicion { trouble, why: why.to_owned(), since: now });
        }
    }

    /// A partition gave a record, or its end: it is not the one. `Some`: it was a suspect.
    pub(super) fn clear(&mut self, part: usize) -> Option<Trouble> {
        // Asked for each record, and hardly ever is there any.
        if self.0.is_empty() { None } else { self.0.remove(&part).map(|s| s.trouble) }
    }

    /// It could not give anything until now: its time begins anew.
    pub(super) fn excuse(&mut self, part: usize, now: Duration) {
        _ = self.0.get_mut(&part).map(|s| s.since = now);
    }

    /// What is wrong with a partition that has given nothing for so long.
    pub(super) fn stuck(&self, part: usize, now: Duration, patience: Duration) -> Option<(Trouble, String)> {
        self.0.get(&part).filter(|s| now >= s.since + patience).map(|s| (s.trouble, s.why.clone()))
    }

    /// Whether any of these is suspected of this.
    pub(super) fn any(&self, parts: impl IntoIterator<Item = usize>, code: &str) -> bool {
        parts.into_iter().any(|part| self.0.get(&part).is_some_and(|s| s.trouble.code == code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::types::RDKafkaErrorCode;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn told() -> Suspects {
        let mut suspects = Suspects::default();
        suspects.told([0, 1, 2], Trouble::of(RDKafkaErrorCode::BadMessage).unwrap(), "damaged", secs(0));
        suspects
    }

    #[test]
    fn of_the_partitions_of_a_topic_in_trouble_only_those_are_stuck_that_gave_nothing_since() {
        let mut suspects = told();
        assert_eq!(suspects.clear(1).map(|t| t.code), Some("kafka-corrupt"));
        assert!(suspects.clear(1).is_none());
        let stuck = |suspects: &Suspects, at| (0..3).filter(|part| suspects.stuck(*part, at, PATIENCE).is_some()).collect::<Vec<_>>();
        assert_eq!(stuck(&suspects, secs(29)), [0usize; 0]);
        assert_eq!(stuck(&suspects, secs(30)), [0, 2]);
        assert!(suspects.any([1, 2], "kafka-corrupt") && !suspects.any([1], "kafka-corrupt") && !suspects.any([2], "kafka-refused"));
    }

    #[test]
    fn time_in_which_a_partition_can_give_nothing_does_not_count_and_being_told_again_does_not_begin_it_anew() {
        let mut suspects = told();
        suspects.excuse(0, secs(29));
        suspects.excuse(7, secs(29));
        suspects.told([0, 2], Trouble::of(RDKafkaErrorCode::SSL).unwrap(), "refused", secs(29));
        assert!(suspects.stuck(0, secs(58), PATIENCE).is_none());
        assert_eq!(suspects.stuck(0, secs(59), PATIENCE).unwrap().1, "damaged");
        assert!(suspects.stuck(2, secs(30), PATIENCE).is_some());
    }
}
