//! What a person is told: conditions that begin and end, what became of a partition, and how many letters there are.
use super::record::TopicPartition;
use super::words::counted;
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
    /// Nobody here meets it any more, since they let go of their partitions; nothing says that it has passed.
    Leave {
        code: &'static str,
        subject: String,
    },
    /// A subject was let go, with everything that is wrong with it.
    LeaveSubject(String),
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
            "kafka-unanswered" => (
                "kafka",
                "the partition is claimed as soon as Kafka answers; if it lasts, see whether the broker that the message is about is up, and whether kafka-topics --describe shows a leader of the partition",
            ),
            "kafka-refused" => {
                ("kafka", "allow Describe and Read on the topics, and Read on the group, to this client; the partition is then claimed by itself")
            }
            _ => ("redis", "the bridge retries by itself; see Redis' log if it lasts"),
        };
        let (subject, message) = (subject.into(), message.into());
        told.push(if code == "kafka-refused" { Telling::Alert { code, subject, message, remedy } } else { Telling::Raise { code, subject, message, remedy } });
        told
    }

    /// Which trouble somebody is in.
    pub fn of(&self, holder: &Holder) -> Option<&'static str> {
        self.0.iter().find(|(_, holders)| holders.contains(holder)).map(|(code, _)| *code)
    }

    /// Somebody is out of trouble, whichever it was.
    pub fn leave(&mut self, holder: &Holder) -> Vec<Telling> {
        self.leave_but(holder, None)
    }

    /// Somebody is gone, in whatever trouble.
    pub fn forget(&mut self, holder: &Holder) -> Vec<Telling> {
        let gone = |told| if let Telling::Clear { code, subject } = told { Telling::Leave { code, subject } } else { told };
        self.leave(holder).into_iter().map(gone).collect()
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

/// The dead letters of each route: the first one is told at once, later ones once a minute together, and what is left at the end.
#[derive(Debug, Default)]
pub struct Letters(BTreeMap<String, Lettered>);

/// The dead letters of one route.
#[derive(Debug, Default)]
struct Lettered {
    count: u64,
    /// How many of these were told, and when.
    told: u64,
    told_at: Option<Duration>,
    /// The code and the reason of the last one.
    last: (&'static str, String),
}

/// Conditions that could not be applied: each is told once, however many lanes meet it.
#[derive(Debug, Default)]
pub struct ConditionErrors(BTreeSet<String>);

impl ConditionErrors {
    /// The condition of a route or write could not be applied.
    pub fn meet(&mut self, whose: String, message: String) -> Option<Telling> {
        self.0.insert(whose).then_some(Telling::Warn { code: "condition-error", message })
    }
}

impl Letters {
    /// One more letter of a route.
    pub fn count(&mut self, route: &str, code: &'static str, reason: String) {
        let of = self.0.entry(route.to_owned()).or_default();
        of.count += 1;
        of.last = (code, reason);
    }

    /// What is to be told now; `all`: of each letter, however shortly ago its route was told.
    pub fn due(&mut self, now: Duration, all: bool) -> Vec<Telling> {
        let due = |of: &Lettered| of.count > of.told && (all || of.told_at.is_none_or(|told| now >= told + LETTERS_EVERY));
        let told = |(route, of): (&String, &mut Lettered)| {
            let (count, more, (code, reason)) = (of.count, of.count - of.told, &of.last);
            let since = if of.told == 0 { String::new() } else { format!(", {more} of them since the last such line") };
            let message = format!("route {route}: {} since this process began{since}; the last one ({code}): {reason}", counted(count, "dead letter"));
            (of.told, of.told_at) = (count, Some(now));
            Telling::Warn { code: "dead-letter", message }
        };
        self.0.iter_mut().filter(|(_, of)| due(of)).map(told).collect()
    }
}

/// A dead letter was left out that a pattern let in.
pub fn left_out(at: &TopicPartition, offset: i64) -> Telling {
    let (headers, topic) = (super::letter::HEADER, &at.topic);
    let message = format!(
        "{at}, offset {offset}: dropped, since it is a dead letter (headers {headers}*) and only a pattern matches {topic}. Further ones are \
         only counted, as dropped. To apply dead letters, name the topic in the route's topics"
    );
    Telling::Warn { code: "letter-left-out", message }
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
    fn a_trouble_whose_last_holder_is_gone_is_left_and_not_over() {
        let mut troubles = Troubles::default();
        let [one, other] = [0, 1].map(|p| Holder::Partition(TopicPartition::new("t", p)));
        for holder in [&one, &other] {
            troubles.meet(holder.clone(), "redis-oom", "full");
        }
        assert!(troubles.forget(&one).is_empty(), "the other one still meets it");
        let told = troubles.forget(&other);
        assert!(matches!(told.as_slice(), [Telling::Leave { code: "redis-oom", subject }] if subject == "redis"), "{told:?}");
    }

    #[test]
    fn letters_are_told_at_once_then_by_the_minute_and_the_last_count_is_the_whole() {
        let mut letters = Letters::default();
        let count = |letters: &mut Letters, route: &str, n: u64| (1..=n).for_each(|n| letters.count(route, "refused", format!("no {n}")));
        let due = |letters: &mut Letters, secs, all| {
            let message = |t| if let Telling::Warn { code: "dead-letter", message } = t { message } else { panic!("{t:?}") };
            letters.due(Duration::from_secs(secs), all).into_iter().map(message).collect::<Vec<_>>()
        };
        assert!(due(&mut letters, 0, true).is_empty(), "there is none");
        count(&mut letters, "r", 1);
        assert_eq!(due(&mut letters, 1, false), ["route r: 1 dead letter since this process began; the last one (refused): no 1"]);
        count(&mut letters, "r", 603);
        assert!(due(&mut letters, 60, false).is_empty(), "it was told within the minute");
        count(&mut letters, "s", 2);
        assert_eq!(due(&mut letters, 60, false), ["route s: 2 dead letters since this process began; the last one (refused): no 2"]);
        // Without a further letter, too.
        let more = "route r: 604 dead letters since this process began, 603 of them since the last such line; the last one (refused): no 603";
        assert_eq!(due(&mut letters, 61, false), [more]);
        assert!(due(&mut letters, 200, true).is_empty(), "each was told");
        count(&mut letters, "r", 1);
        assert_eq!(due(&mut letters, 62, true).len(), 1, "the end tells what is left");
    }
}
