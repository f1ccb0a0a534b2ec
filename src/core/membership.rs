//! The bridge's place in its group: what the client says of it goes in, what an operator is told comes out.
//!
//! ```text
//! coordinator sought ─▶ joining ─▶ (syncing) ─▶ joined ─▶ partitions, or none: a standby
//! ```
//!
//! While the bridge has partitions, nothing of this hinders it: a rebalance leaves it those that it keeps.
use super::telling::Telling;
use std::time::Duration;

/// How long a member without partitions waits to be let into its group before that is told. A group that has just begun is held
/// open for three seconds by default (group.initial.rebalance.delay.ms).
const WAITS_FOR: Duration = Duration::from_secs(3);
/// The same before the client asks to be let in: it does so only where Kafka has a topic for it, which the claimer looks for.
const BEGINS_FOR: Duration = Duration::from_secs(7);
/// How long a member has no partitions before somebody looks why. Two rebalances of a group give a new member its share.
const BARE_FOR: Duration = Duration::from_secs(4);
/// How long errors of which each passes by itself come again and again before that is told.
const ERRORS_FOR: Duration = Duration::from_secs(5);
/// After how long without an error what was told of it is over.
const QUIET_FOR: Duration = Duration::from_secs(5);

const GROUP: &str = "group";
const ERRORS: &str = "consumer";

/// How far the client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It looks for the broker that coordinates the group.
    Coordinator,
    /// It has not asked to be let in, or is about to ask again.
    Begins,
    /// It has asked, and the coordinator waits for other members.
    Joins,
    /// The members' shares are being made and given out.
    Syncs,
    Joined,
}

/// What the client's statistics say.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub step: Step,
    /// How many partitions it has.
    pub partitions: usize,
    /// How often it has asked for its share since it began (SyncGroup).
    pub syncs: i64,
    /// Another condition says already why it gets no further: no broker answers, a topic is missing.
    pub explained: bool,
}

/// What bounds a wait for other members.
#[derive(Clone, Debug)]
pub struct Terms {
    pub group: String,
    /// The classic protocol's: how long a dead member, and how long a slow one is waited for. `None`: the brokers say.
    pub waits: Option<(Duration, Duration)>,
    /// Between two heartbeats.
    pub heartbeat: Duration,
}

/// Errors that came one after the other.
#[derive(Debug)]
struct Errors {
    first: Duration,
    last: Duration,
    reason: String,
    told: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Membership {
    terms: Terms,
    /// Since when it has no partitions.
    bare: Option<Duration>,
    /// Since when it waits to be let in without partitions, and how often it had asked for its share by then.
    apart: Option<(Duration, i64)>,
    waits_told: bool,
    /// When the coordinator last refused it.
    refused: Option<Duration>,
    errors: Option<Errors>,
    step: Step,
}

impl Membership {
    pub fn new(terms: Terms) -> Self {
        Self { terms, bare: None, apart: None, waits_told: false, refused: None, errors: None, step: Step::Coordinator }
    }

    /// Kafka refuses what this member needs until a person does something: its coordinator (`group-refused`), or any broker
    /// (`kafka-unsupported`).
    pub fn refused(&mut self, code: &'static str, reason: &str, remedy: &'static str, now: Duration) -> Vec<Telling> {
        self.refused = Some(now);
        let message = format!("Kafka refuses this member of the group {}: {reason}", self.terms.group);
        let mut told = self.waits_over();
        told.push(Telling::Alert { code, subject: GROUP.into(), message, remedy });
        told
    }

    /// Kafka answered with an error that passes by itself.
    pub fn failed(&mut self, reason: &str, now: Duration) -> Option<Telling> {
        let kept = self.errors.take().filter(|e| now < e.last + QUIET_FOR || e.told);
        let errors = self.errors.insert(Errors { last: now, reason: reason.into(), ..kept.unwrap_or(Errors::begin(now)) });
        // Who waits for the group is told of it there.
        if now < errors.first + ERRORS_FOR || self.apart.is_some() {
            return None;
        }
        errors.told = true;
        Some(Telling::Raise {
            code: "kafka-errors",
            subject: ERRORS.into(),
            message: format!("Kafka answers with errors again and again; the last one: {reason}"),
            remedy: "the bridge asks again by itself; if it lasts, see the brokers' logs and the state of the topics' partitions",
        })
    }

    /// Takes the statistics' word; comes about once a second.
    pub fn seen(&mut self, place: Place, now: Duration) -> Vec<Telling> {
        self.step = place.step;
        self.bare = if place.partitions == 0 { self.bare.or(Some(now)) } else { None };
        let mut told = self.quiet(now);
        if place.partitions > 0 || place.step == Step::Joined {
            self.apart = None;
            told.extend(self.waits_over());
            return told;
        }
        let (since, syncs) = *self.apart.get_or_insert((now, place.syncs));
        let patience = if place.step == Step::Begins { BEGINS_FOR } else { WAITS_FOR };
        if place.explained || self.refused.is_some() {
            told.extend(self.waits_over());
        } else if self.waits_told || now >= since + patience {
            self.waits_told = true;
            told.push(self.waits(place.step, place.syncs - syncs));
        }
        told
    }

    /// Whether somebody should look why it has no partitions: it is in the group, or has not asked to be let in. A refusal says why.
    pub fn bare(&self, now: Duration) -> bool {
        self.refused.is_none() && matches!(self.step, Step::Begins | Step::Joined) && self.bare.is_some_and(|since| now >= since + BARE_FOR)
    }

    /// What is over since no error has come for a while.
    fn quiet(&mut self, now: Duration) -> Vec<Telling> {
        let mut told = Vec::new();
        // A heartbeat that is refused comes again with the next one.
        let quiet = QUIET_FOR.max(self.terms.heartbeat.saturating_mul(2));
        if self.step == Step::Joined && self.refused.is_some_and(|at| now >= at + quiet) {
            self.refused = None;
            told.extend(["group-refused", "kafka-unsupported"].map(|code| Telling::Clear { code, subject: GROUP.into() }));
        }
        if self.errors.as_ref().is_some_and(|e| now >= e.last + quiet)
            && let Some(Errors { told: true, .. }) = self.errors.take()
        {
            told.push(Telling::Clear { code: "kafka-errors", subject: ERRORS.into() });
        }
        told
    }

    fn waits_over(&mut self) -> Vec<Telling> {
        let told = std::mem::take(&mut self.waits_told);
        told.then(|| Telling::Clear { code: "group-waits", subject: GROUP.into() }).into_iter().collect()
    }

    fn waits(&self, step: Step, syncs: i64) -> Telling {
        let group = &self.terms.group;
        let mut message = match step {
            _ if syncs > 1 => {
                format!(
                    "the group {group} is not joined: its coordinator has accepted this bridge {syncs} times and then refused it its partitions (SyncGroup)"
                )
            }
            Step::Coordinator => {
                format!("the group {group} is not joined: no broker coordinates it yet, or that broker is not reached")
            }
            Step::Begins => format!("the group {group} is not joined: this bridge tries again to join it, or its topics do not exist yet"),
            Step::Joins | Step::Syncs | Step::Joined => {
                format!("the group {group} is not joined yet: its coordinator waits for other members. {}", self.bound())
            }
        };
        if let Some(errors) = &self.errors {
            message += &format!("; the last error: {}", errors.reason);
        }
        Telling::Raise {
            code: "group-waits",
            subject: GROUP.into(),
            message,
            remedy: "it goes on by itself; if it lasts, see who is in the group: kafka-consumer-groups.sh --describe --members --group GROUP",
        }
    }

    /// How long the wait for other members can take.
    fn bound(&self) -> String {
        match self.terms.waits {
            Some((dead, slow)) => format!(
                "It waits for a dead member until that one's session ends, {} s at most (session.timeout.ms), and for a slow one {} s at most (max.poll.interval.ms)",
                dead.as_secs_f64(),
                slow.as_secs_f64()
            ),
            None => {
                "It waits for a dead member until that one's session ends, which the brokers set (group.consumer.session.timeout.ms, 45 s by default)".into()
            }
        }
    }
}

impl Errors {
    fn begin(now: Duration) -> Self {
        Self { first: now, last: now, reason: String::new(), told: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership() -> Membership {
        let waits = Some((Duration::from_secs(6), Duration::from_secs(300)));
        Membership::new(Terms { group: "g".into(), waits, heartbeat: Duration::from_secs(2) })
    }

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn place(step: Step, partitions: usize) -> Place {
        Place { step, partitions, syncs: 0, explained: false }
    }

    /// The codes that were raised (+) or cleared (-).
    fn codes(told: &[Telling]) -> Vec<String> {
        let code = |t: &Telling| match t {
            Telling::Raise { code, .. } | Telling::Alert { code, .. } => format!("+{code}"),
            Telling::Clear { code, .. } => format!("-{code}"),
            other => format!("{other:?}"),
        };
        told.iter().map(code).collect()
    }

    fn message(told: &[Telling]) -> String {
        told.iter().map(|t| if let Telling::Raise { message, .. } | Telling::Alert { message, .. } = t { message.as_str() } else { "" }).collect()
    }

    #[test]
    fn a_wait_for_other_members_is_told_after_three_seconds_with_its_bound_and_is_over_when_joined() {
        let mut m = membership();
        for second in 0..3 {
            assert!(m.seen(place(Step::Joins, 0), secs(second)).is_empty());
        }
        let told = m.seen(place(Step::Joins, 0), secs(3));
        assert_eq!(codes(&told), ["+group-waits"]);
        assert!(message(&told).contains("6 s at most (session.timeout.ms)") && message(&told).contains("300 s at most"), "{}", message(&told));
        assert_eq!(codes(&m.seen(place(Step::Joined, 0), secs(4))), ["-group-waits"]);
        assert!(m.seen(place(Step::Joined, 3), secs(5)).is_empty());
    }

    #[test]
    fn who_keeps_its_partitions_through_a_rebalance_waits_for_nothing() {
        let mut m = membership();
        for second in 0..60 {
            assert!(m.seen(place(Step::Joins, 2), secs(second)).is_empty());
        }
        assert!(!m.bare(secs(60)));
    }

    #[test]
    fn what_another_condition_explains_is_not_told_twice() {
        let mut m = membership();
        let explained = Place { explained: true, ..place(Step::Coordinator, 0) };
        assert!((0..60).all(|second| m.seen(explained, secs(second)).is_empty()));
        assert_eq!(codes(&m.seen(place(Step::Coordinator, 0), secs(60))), ["+group-waits"]);
        assert_eq!(codes(&m.seen(explained, secs(61))), ["-group-waits"]);
    }

    #[test]
    fn a_refusal_is_told_at_once_and_over_when_the_group_is_joined_and_no_other_came() {
        let mut m = membership();
        m.seen(place(Step::Joins, 0), secs(0));
        assert_eq!(codes(&m.seen(place(Step::Joins, 0), secs(3))), ["+group-waits"]);
        assert_eq!(codes(&m.refused("group-refused", "no", "allow it", secs(4))), ["-group-waits", "+group-refused"]);
        assert!(m.seen(place(Step::Begins, 0), secs(30)).is_empty(), "it still is not in the group");
        m.refused("group-refused", "no", "allow it", secs(31));
        assert!(m.seen(place(Step::Joined, 1), secs(35)).is_empty(), "another heartbeat may be refused");
        assert_eq!(codes(&m.seen(place(Step::Joined, 1), secs(36))), ["-group-refused", "-kafka-unsupported"]);
        assert!(m.seen(place(Step::Joined, 1), secs(37)).is_empty());
    }

    #[test]
    fn errors_that_pass_are_told_where_they_last_and_over_when_no_more_come() {
        let mut m = membership();
        m.seen(place(Step::Joined, 1), secs(0));
        assert!(m.failed("storage", secs(1)).is_none());
        assert!(m.failed("storage", secs(60)).is_none(), "that was another time");
        assert!((61..65).all(|second| m.failed("storage", secs(second)).is_none()));
        let told: Vec<Telling> = m.failed("storage", secs(65)).into_iter().collect();
        assert_eq!(codes(&told), ["+kafka-errors"]);
        assert!(message(&told).ends_with("storage"));
        assert!(m.seen(place(Step::Joined, 1), secs(66)).is_empty());
        assert_eq!(codes(&m.seen(place(Step::Joined, 1), secs(70))), ["-kafka-errors"]);
        assert!(m.failed("storage", secs(71)).is_none());
    }

    #[test]
    fn errors_on_the_way_into_the_group_are_told_with_the_wait() {
        let mut m = membership();
        m.seen(place(Step::Joins, 0), secs(0));
        assert!((0..9).all(|second| m.failed("the coordinator loads", secs(second)).is_none()));
        assert!(message(&m.seen(place(Step::Coordinator, 0), secs(9))).ends_with("the last error: the coordinator loads"));
    }

    #[test]
    fn a_share_that_is_asked_for_again_and_again_is_named() {
        let mut m = membership();
        m.seen(Place { syncs: 3, ..place(Step::Syncs, 0) }, secs(0));
        let told = m.seen(Place { syncs: 5, ..place(Step::Begins, 0) }, secs(7));
        assert!(message(&told).contains("accepted this bridge 2 times"), "{}", message(&told));
        let told = m.seen(Place { syncs: 6, ..place(Step::Joins, 0) }, secs(8));
        assert!(message(&told).contains("accepted this bridge 3 times"), "{}", message(&told));
    }

    #[test]
    fn why_it_has_no_partitions_is_looked_for_once_it_is_in_the_group_or_has_nothing_to_ask_for() {
        let mut m = membership();
        m.seen(place(Step::Joins, 0), secs(0));
        assert!(!m.bare(secs(30)));
        m.seen(place(Step::Joined, 0), secs(31));
        assert!(m.bare(secs(31)));
        m.seen(place(Step::Joined, 1), secs(32));
        assert!(!m.bare(secs(60)));
        m.seen(place(Step::Begins, 0), secs(61));
        assert!(!m.bare(secs(64)) && m.bare(secs(65)));
    }
}
