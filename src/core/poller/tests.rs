//! The conditions that the poller tells: each begins, and ends.
use super::*;
use crate::core::lane::Opening;
use crate::core::refusal::Elsewhere;
use std::collections::BTreeSet;

const NOW: Moment = Moment { now: Duration::from_secs(100), jitter: 0.5 };

/// A poller, and the conditions that hold by what it tells.
struct Bench {
    poller: Poller,
    held: BTreeSet<(&'static str, String)>,
    committed: Vec<Vec<(TopicPartition, i64)>>,
    now: Moment,
}

impl Bench {
    fn new() -> Self {
        let poller = Poller::new(1, Guarantee::ExactlyOnce, Duration::from_secs(5));
        Self { poller, held: BTreeSet::new(), committed: Vec::new(), now: NOW }
    }

    fn heed(&mut self) {
        while let Some(action) = self.poller.next_action(false) {
            match action {
                Action::Tell(Telling::Raise { code, subject, .. } | Telling::Alert { code, subject, .. }) => _ = self.held.insert((code, subject)),
                Action::Tell(Telling::Clear { code, subject } | Telling::Leave { code, subject }) => _ = self.held.remove(&(code, subject)),
                Action::Tell(Telling::ClearSubject(of) | Telling::LeaveSubject(of)) => self.held.retain(|(_, subject)| *subject != of),
                Action::Seek(places) => self.poller.sought(places.into_iter().map(|(generation, ..)| (generation, Ok(()))), || self.now),
                Action::Commit { positions, awaited: true, .. } => self.committed.push(positions),
                _ => {}
            }
        }
    }

    fn note(&mut self, note: Note) {
        self.poller.note(note, self.now);
        self.heed();
    }

    fn later(&mut self, secs: u64) {
        self.now.now += Duration::from_secs(secs);
        self.poller.tick(self.now.now);
        self.heed();
    }

    fn generation(&self, at: &TopicPartition) -> u64 {
        self.poller.entry(&at.topic, at.partition).unwrap().generation
    }

    /// A partition is assigned, claimed and open.
    fn open(&mut self, at: &TopicPartition) {
        if self.poller.entry(&at.topic, at.partition).is_none() {
            self.poller.assigned(vec![at.clone()]);
        }
        self.later(60);
        let generation = self.generation(at);
        let through = Vec::new().into();
        let opening = Opening { generation, at: at.clone(), position: 7, guard: None, check: None, unread: None, through, rebuild: None };
        let claimed = Claimed { opening, begin: 7, epoch: 1, notices: Vec::new(), store_id: "store".into() };
        self.note(Note::Claim { generation, outcome: Outcome::Claimed(Box::new(claimed)) });
    }

    fn holds(&self, code: &str) -> bool {
        self.held.iter().any(|(held, _)| *held == code)
    }
}

fn at(topic: &str) -> TopicPartition {
    TopicPartition::new(topic, 0)
}

#[test]
fn what_a_partition_is_in_doubt_of_is_over_when_it_is_claimed_again() {
    for doubt in [Doubt::Fenced, Doubt::Moved, Doubt::StateLost] {
        let (mut bench, code) = (Bench::new(), doubt.code());
        bench.open(&at("t"));
        let generation = bench.generation(&at("t"));
        bench.note(Note::Lane(0, Event::Reclaim { generation, why: doubt.clone() }));
        assert!(bench.holds(code), "{code}");
        if doubt == Doubt::Fenced {
            // It waits for a commit that Kafka takes.
            bench.later(60);
            bench.note(Note::Committed(Ok(())));
        }
        bench.open(&at("t"));
        assert!(!bench.holds(code), "{code}: {:?}", bench.held);
    }
}

#[test]
fn what_a_claim_or_a_lane_meets_is_over_when_it_gets_through() {
    for code in ["kafka-unanswered", "redis-oom", "redis-refuses"] {
        let mut bench = Bench::new();
        bench.poller.assigned(vec![at("t")]);
        bench.later(1);
        let generation = bench.generation(&at("t"));
        bench.note(Note::Claim { generation, outcome: Outcome::Again { code: Some(code), why: "no".into() } });
        bench.note(Note::Lane(0, Event::Trouble(Some((code, "no".into())))));
        assert!(bench.holds(code), "{code}");
        bench.open(&at("t"));
        assert!(bench.holds(code), "{code}: the lane is still in it");
        bench.note(Note::Lane(0, Event::Trouble(None)));
        assert!(!bench.holds(code), "{code}: {:?}", bench.held);
    }
}

#[test]
fn a_halt_lasts_until_the_partition_is_let_go() {
    let lane = ["poison", "refused", "redis-hangs-up", "dead-letter-refused", "log-changed", "rebuild-survivor", "state-lost"];
    let claim = ["state-lost", "wrong-store", "history-gone", "log-changed", "state-unreadable"];
    for (code, by_claim) in lane.into_iter().map(|code| (code, false)).chain(claim.into_iter().map(|code| (code, true))) {
        let mut bench = Bench::new();
        if by_claim {
            bench.open(&at("t"));
            let generation = bench.generation(&at("t"));
            bench.note(Note::Lane(0, Event::Reclaim { generation, why: Doubt::Moved }));
            bench.later(60);
            let generation = bench.generation(&at("t"));
            bench.note(Note::Claim { generation, outcome: Outcome::Halt { code, reason: "no".into() } });
            assert!(!bench.holds("moved"), "{code}: the claim has ended");
        } else {
            bench.open(&at("t"));
            let generation = bench.generation(&at("t"));
            bench.note(Note::Lane(0, Event::Halt { generation, code, reason: "no".into() }));
        }
        bench.later(600);
        assert!(bench.holds(code), "{code}");
        bench.poller.revoked(&[at("t")], false, bench.now.now);
        bench.heed();
        assert!(!bench.holds(code), "{code}: {:?}", bench.held);
    }
}

#[test]
fn a_range_that_does_not_continue_the_ledger_is_a_bug() {
    let mut bench = Bench::new();
    bench.open(&at("t"));
    let generation = bench.generation(&at("t"));
    bench.note(Note::Lane(0, Event::Settled { generation, range: 9..10, last: None }));
    assert!(bench.holds("bug"));
    bench.open(&at("t"));
    assert!(bench.holds("bug"), "it is to be reported, whatever comes after it");
}

#[test]
fn a_refusal_is_over_when_what_is_settled_is_committed_once_more() {
    const WELL: Elsewhere = Elsewhere { brokers: true, topics: true, member: true };
    let mut bench = Bench::new();
    [at("a"), at("b")].iter().for_each(|at| bench.open(at));
    for _ in 0..2 {
        bench.later(1);
        bench.note(Note::Committed(Ok(())));
    }
    bench.committed.clear();
    // By the shell, which hears of it.
    bench.held.insert(("kafka-refused", "kafka".into()));
    bench.poller.refused(bench.now.now);
    bench.later(1);
    assert!(bench.committed.is_empty(), "not at once: {:?}", bench.committed);
    for (topic, accepted) in [("a", true), ("b", false), ("a", true), ("b", true)] {
        bench.poller.elsewhere(WELL, bench.now.now);
        bench.heed();
        assert!(bench.holds("kafka-refused"), "before {topic}");
        bench.later(6);
        // What Kafka refused is committed again as well.
        while bench.committed.first().is_some_and(|c| c.len() == 1 && c[0].0.topic.as_ref() != topic) {
            bench.committed.remove(0);
            bench.note(Note::Committed(Ok(())));
            bench.later(6);
        }
        assert_eq!(bench.committed, [vec![(at(topic), 7)]]);
        bench.committed.clear();
        bench.note(Note::Committed(if accepted { Ok(()) } else { Err("Topic authorization failed".into()) }));
    }
    bench.poller.elsewhere(WELL, bench.now.now);
    bench.heed();
    assert!(!bench.holds("kafka-refused"));
    bench.later(60);
    assert!(bench.committed.is_empty(), "nothing is left to try: {:?}", bench.committed);
}

#[test]
fn letters_are_told_by_the_minute_without_a_further_one_and_the_rest_at_the_end() {
    let mut poller = Poller::new(1, Guarantee::ExactlyOnce, Duration::from_secs(5));
    let told = |poller: &mut Poller| {
        let message = |action| if let Action::Tell(Telling::Warn { code: "dead-letter", message }) = action { Some(message) } else { None };
        std::iter::from_fn(|| poller.next_action(false)).filter_map(message).collect::<Vec<_>>()
    };
    let letter = |poller: &mut Poller, n: u64| {
        let (route, reason) = ("r".into(), "no".into());
        poller.note(Note::Lane(0, Event::Buried { route, code: "refused", reason }), Moment { now: Duration::from_secs(n), jitter: 0.0 });
    };
    (1..=3).for_each(|n| letter(&mut poller, n));
    assert_eq!(told(&mut poller).len(), 1);
    poller.tick(Duration::from_secs(61));
    assert!(told(&mut poller).concat().contains("3 dead letters"));
    letter(&mut poller, 62);
    poller.begin_drain(Duration::from_secs(63));
    assert!(poller.drained(Duration::from_secs(70)));
    assert!(told(&mut poller).concat().contains("4 dead letters since this process began, 1 of them"));
}
