//! How a refusal by Kafka ends. librdkafka reports once that it is refused, and never that it no longer is: so the bridge tries what
//! it was refused. A commit of what is settled asks for all that a member needs (its login, Read on the group, Read on the topic),
//! and changes nothing: each topic's positions are committed once more, and when Kafka has taken them all, the refusal is over.
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How long after the last refusal the first trial comes, and the next one after a trial that failed.
const QUIET: Duration = Duration::from_secs(5);

/// What shows beside the commits that nothing is refused any more.
#[derive(Clone, Copy, Debug)]
pub struct Elsewhere {
    /// The broker that refused the client has let it in, or another one where it is not known which it was.
    pub brokers: bool,
    /// Kafka shows all topics that a route names.
    pub topics: bool,
    /// The client is a member of its group: all of the proof where it has no partition.
    pub member: bool,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Refusal(Option<Trials>);

#[derive(Debug)]
struct Trials {
    due: Duration,
    /// The topic that is being tried.
    on: Option<Arc<str>>,
    /// Those that passed since the last refusal.
    passed: BTreeSet<Arc<str>>,
}

impl Trials {
    fn new(now: Duration) -> Self {
        Self { due: now + QUIET, on: None, passed: BTreeSet::new() }
    }
}

impl Refusal {
    /// A broker refused the client.
    pub fn refused(&mut self, now: Duration) {
        self.0 = Some(Trials::new(now));
    }

    /// Whether there is something to try.
    pub fn is_due(&self, now: Duration) -> bool {
        self.0.as_ref().is_some_and(|t| t.on.is_none() && now >= t.due)
    }

    /// The topic to try now, of those that the client has partitions of.
    pub fn next(&mut self, topics: impl IntoIterator<Item = Arc<str>>, now: Duration) -> Option<Arc<str>> {
        let trials = if self.is_due(now) { self.0.as_mut()? } else { return None };
        trials.on = topics.into_iter().find(|topic| !trials.passed.contains(topic));
        trials.on.clone()
    }

    /// How the trial ended, if one was made.
    pub fn tried(&mut self, accepted: bool, now: Duration) {
        let Some(trials) = &mut self.0 else { return };
        match trials.on.take() {
            Some(topic) if accepted => _ = trials.passed.insert(topic),
            Some(_) => *trials = Trials::new(now),
            None => {}
        }
    }

    /// Whether it is over by now: all topics of which the client has partitions passed, and nothing else speaks against it.
    pub fn is_over(&mut self, topics: impl IntoIterator<Item = Arc<str>>, elsewhere: Elsewhere, now: Duration) -> bool {
        let Some(trials) = self.0.as_ref().filter(|_| self.is_due(now)) else { return false };
        let mut topics = topics.into_iter().peekable();
        let proven = if topics.peek().is_some() { topics.all(|topic| trials.passed.contains(&topic)) } else { elsewhere.member };
        let over = proven && elsewhere.brokers && elsewhere.topics;
        if over {
            self.0 = None;
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Elsewhere = Elsewhere { brokers: true, topics: true, member: true };

    fn topics(names: &[&str]) -> Vec<Arc<str>> {
        names.iter().map(|n| Arc::from(*n)).collect()
    }

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_refusal_is_over_when_kafka_has_taken_a_commit_of_each_topic_and_not_before() {
        let mut refusal = Refusal::default();
        let both = topics(&["a", "b"]);
        assert!(refusal.next(both.clone(), secs(100)).is_none() && !refusal.is_over(both.clone(), WELL, secs(100)), "nothing was refused");
        refusal.refused(secs(100));
        assert_eq!(refusal.next(both.clone(), secs(104)), None, "not so shortly after it");
        assert_eq!(refusal.next(both.clone(), secs(105)).as_deref(), Some("a"));
        assert_eq!(refusal.next(both.clone(), secs(105)), None, "one at a time");
        refusal.tried(true, secs(106));
        assert!(!refusal.is_over(both.clone(), WELL, secs(106)), "b is still to be tried");
        assert_eq!(refusal.next(both.clone(), secs(106)).as_deref(), Some("b"));
        refusal.tried(true, secs(107));
        for held in [Elsewhere { brokers: false, ..WELL }, Elsewhere { topics: false, ..WELL }] {
            assert!(!refusal.is_over(both.clone(), held, secs(107)), "{held:?}");
        }
        // A partition that was assigned meanwhile.
        assert!(!refusal.is_over(topics(&["a", "b", "c"]), WELL, secs(107)));
        assert!(refusal.is_over(both.clone(), Elsewhere { member: false, ..WELL }, secs(107)));
        assert!(!refusal.is_over(both, WELL, secs(108)), "it ends once");
    }

    #[test]
    fn a_trial_that_fails_and_a_further_refusal_begin_all_trials_anew() {
        let mut refusal = Refusal::default();
        let both = topics(&["a", "b"]);
        refusal.refused(secs(0));
        refusal.next(both.clone(), secs(5));
        refusal.tried(true, secs(5));
        refusal.next(both.clone(), secs(5));
        refusal.tried(false, secs(6));
        assert_eq!(refusal.next(both.clone(), secs(10)), None);
        assert_eq!(refusal.next(both.clone(), secs(11)).as_deref(), Some("a"));
        refusal.refused(secs(11));
        refusal.tried(true, secs(12));
        assert_eq!(refusal.next(both.clone(), secs(12)), None, "what was asked before it proves nothing");
        assert_eq!(refusal.next(both, secs(16)).as_deref(), Some("a"));
    }

    #[test]
    fn without_a_partition_the_membership_is_the_proof() {
        let mut refusal = Refusal::default();
        refusal.refused(secs(0));
        assert!(!refusal.is_over(topics(&[]), WELL, secs(4)));
        assert!(!refusal.is_over(topics(&[]), Elsewhere { member: false, ..WELL }, secs(5)));
        assert!(refusal.is_over(topics(&[]), WELL, secs(5)));
    }
}
