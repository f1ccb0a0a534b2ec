//! What a person is told: conditions that begin and end, what became of a partition, and how many letters there are.
use super::record::TopicPartition;
use super::words;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How often at most a route's dead letters are told.
const LETTERS_EVERY: Duration = Duration::from_secs(60);

/// What a person is told.
#[derive(Debug)]
pub enum Telling {
    /// A condition that passes by itself.
    Raise {
        code: &'static str,
        subject: String,
        message: String,
        remedy: &'static str,
    },
    /// A condition that needs a person.
    Alert {
        code: &'static str,
        subject: String,
        message: String,
        remedy: &'static str,
    },
    Clear {
        code: &'static str,
        subject: String,
    },
    /// Everything about a subject has passed.
    ClearSubject(String),
    /// Something happened that a person should know of, and it is over.
    Warn {
        code: &'static str,
        message: String,
    },
    /// A partition was claimed.
    Claimed {
        at: TopicPartition,
        position: i64,
        epoch: i64,
    },
    LetGo {
        at: TopicPartition,
        position: Option<i64>,
    },
    Debug(String),
}

/// Who is in trouble with a server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    Lane(usize),
    /// A partition that can't be claimed.
    Partition(TopicPartition),
}

/// Who is in which trouble: however many they are, it is told once when the first one meets it, and once when the last
/// one is out of it.
#[derive(Debug, Default)]
pub struct Troubles(BTreeMap<&'static str, BTreeSet<Holder>>);

impl Troubles {
    /// Somebody meets a trouble, named by its code; out of any other.
    pub fn meet(&mut self, holder: Holder, code: &'static str, message: &str) -> Vec<Telling> {
        let mut told = self.leave_but(&holder, Some(code));
        self.0.entry(code).or_default().insert(holder);
        let (subject, remedy) = match code {
            "redis-oom" => ("redis", "Redis is at its maxmemory: give it more, shorten streams (maxlen), or set TTLs; the bridge resumes by itself"),
            "kafka-unanswered" => ("kafka", "the partition is claimed as soon as Kafka answers; allow Describe and Read on topics and group to this client"),
            _ => ("redis", "the bridge retries by itself; see Redis' log if it lasts"),
        };
        told.push(Telling::Raise { code, subject: subject.into(), message: message.into(), remedy });
        told
    }

    /// Somebody is out of trouble, whichever it was.
    pub fn leave(&mut self, holder: &Holder) -> Vec<Telling> {
        self.leave_but(holder, None)
    }

    fn leave_but(&mut self, holder: &Holder, kept: Option<&str>) -> Vec<Telling> {
        let mut over = Vec::new();
        self.0.retain(|code, holders| {
            if kept != Some(*code) && holders.remove(holder) && holders.is_empty() {
                let subject = if code.starts_with("kafka") { "kafka" } else { "redis" };
                over.push(Telling::Clear { code, subject: subject.into() });
            }
            !holders.is_empty()
        });
        over
    }
}

/// Dead letters, told a route at most once a minute: the first one at once.
#[derive(Debug, Default)]
pub struct Letters(BTreeMap<String, (u64, Option<Duration>)>);

impl Letters {
    /// One more letter of a route.
    pub fn count(&mut self, route: &str, code: &str, reason: &str, now: Duration) -> Option<Telling> {
        let (count, told) = self.0.entry(route.to_owned()).or_default();
        *count += 1;
        if told.is_some_and(|told| now < told + LETTERS_EVERY) {
            return None;
        }
        *told = Some(now);
        let message = format!("route {route}: {} since the start; the last one ({code}): {reason}", words::counted(*count, "dead letter"));
        Some(Telling::Warn { code: "dead-letter", message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_that_many_meet_is_over_when_the_last_one_is_out_of_it() {
        let mut troubles = Troubles::default();
        let partition = Holder::Partition(TopicPartition::new("t", 0));
        for holder in [Holder::Lane(0), Holder::Lane(1), partition.clone()] {
            assert!(matches!(troubles.meet(holder, "redis-oom", "full").as_slice(), [Telling::Raise { code: "redis-oom", .. }]));
        }
        assert!(troubles.leave(&Holder::Lane(0)).is_empty());
        assert!(troubles.leave(&Holder::Lane(0)).is_empty(), "it left already");
        assert!(troubles.leave(&Holder::Lane(1)).is_empty());
        let other = troubles.meet(partition, "redis-refuses", "LOADING");
        assert!(matches!(other.as_slice(), [Telling::Clear { code: "redis-oom", .. }, Telling::Raise { code: "redis-refuses", .. }]), "{other:?}");
    }

    #[test]
    fn letters_are_told_at_once_and_then_by_the_minute() {
        let mut letters = Letters::default();
        let told = |letters: &mut Letters, secs| letters.count("r", "refused", "no", Duration::from_secs(secs)).is_some();
        assert!(told(&mut letters, 1));
        assert!(!told(&mut letters, 60));
        assert!(letters.count("s", "refused", "no", Duration::from_secs(60)).is_some(), "another route's");
        assert!(told(&mut letters, 61));
    }
}
