//! Claims, exchange by exchange.
use super::*;
use crate::core::claim::Marked;
use crate::core::encode::parse_commands;

fn claimer(guarantee: Guarantee) -> Claimer {
    Claimer::new(Settings {
        prefix: "b".into(),
        group: "g".into(),
        guarantee,
        on_state_lost: OnStateLost::Halt,
        routes: [].into(),
        fingerprints: Vec::new(),
        owner: b"me".to_vec(),
        store_id: "fresh".into(),
    })
}

fn request(partition: i32) -> Request {
    Request { at: TopicPartition::new("t", partition), generation: 1, memory: None }
}

fn log() -> LogFacts {
    LogFacts { low: 2, high: 100, commit: None, start: 50, partitions: 4 }
}

fn bulk(t: &str) -> Reply {
    Reply::Text(t.into())
}

/// The answer to the reading: the state's fields, the store's id, the topic's count.
fn found(state: &[(&str, &str)], id: Reply, known: Reply) -> Vec<Reply> {
    let topic = Reply::Array(vec![known, Reply::Nil]);
    vec![bulk("OK"), Reply::Array(state.iter().flat_map(|(n, v)| [bulk(n), bulk(v)]).collect()), id, topic]
}

/// What the claim comes to when Redis takes it.
fn claim(c: &mut Claimer, request: Request, log: LogFacts, answer: &[Reply]) -> Outcome {
    let Next::Exchange { replies: 4 } = c.begin(request, log, Duration::ZERO) else { panic!("reads first") };
    let mut next = c.answered(answer, Duration::ZERO);
    if matches!(next, Next::AskPolicy) {
        next = c.policy(Ok(false), Duration::ZERO);
    }
    if matches!(next, Next::Exchange { replies: 6 }) {
        next = c.answered(&[bulk("OK"), bulk("QUEUED"), bulk("QUEUED"), bulk("QUEUED"), bulk("QUEUED"), Reply::Array(vec![])], Duration::ZERO);
    }
    match next {
        Next::Done(outcome) => outcome,
        other => panic!("two exchanges are enough: {other:?}"),
    }
}

#[test]
fn a_claim_counts_the_epoch_up_and_writes_every_field() {
    let mut c = claimer(Guarantee::ExactlyOnce);
    let state = [("offset", "7"), ("epoch", "3"), ("owner", "you"), ("unread", "5"), ("last", "6 - 00000000000000aa")];
    let Outcome::Claimed(claimed) = claim(&mut c, request(0), log(), &found(&state, bulk("id"), bulk("4"))) else { panic!("claimed") };
    assert_eq!((claimed.epoch, claimed.opening.position, claimed.begin, claimed.opening.unread), (4, 7, 5, Some(5)));
    assert_eq!(claimed.store_id, "id");
    let sent = parse_commands(c.outgoing()).unwrap();
    let fields: Vec<String> = sent[4][2..].iter().map(|a| String::from_utf8_lossy(a).into_owned()).collect();
    let expected = ["version", "1", "epoch", "4", "owner", "me-1", "offset", "7", "unread", "5", "last", "6 - 00000000000000aa", "routes", "", "rebuild", ""];
    assert_eq!(fields, expected);
}

#[test]
fn a_claim_that_another_came_before_is_tried_again() {
    let mut c = claimer(Guarantee::ExactlyOnce);
    c.begin(request(0), log(), Duration::ZERO);
    c.answered(&found(&[], Reply::Nil, Reply::Nil), Duration::ZERO);
    let next = c.answered(&[bulk("OK"), bulk("QUEUED"), bulk("QUEUED"), bulk("QUEUED"), bulk("QUEUED"), Reply::Nil], Duration::ZERO);
    assert!(matches!(next, Next::Done(Outcome::Again { .. })));
}

#[test]
fn a_partition_that_came_later_begins_at_its_first_record() {
    for (partition, known, position) in [(3, bulk("4"), 50), (4, bulk("4"), 2), (4, Reply::Nil, 50)] {
        let mut c = claimer(Guarantee::ExactlyOnce);
        let Outcome::Claimed(claimed) = claim(&mut c, request(partition), log(), &found(&[], Reply::Nil, known)) else { panic!("claimed") };
        assert_eq!((claimed.opening.position, claimed.store_id.as_str()), (position, "fresh"));
    }
}

#[test]
fn a_log_that_ends_before_the_position_is_given_time_and_then_halts() {
    let mut c = claimer(Guarantee::ExactlyOnce);
    let answer = found(&[("offset", "200")], Reply::Nil, Reply::Nil);
    for (at, again) in [(0, true), (29, true), (31, false)] {
        c.begin(request(0), log(), Duration::from_secs(at));
        let Next::Done(outcome) = c.answered(&answer, Duration::from_secs(at)) else { panic!("nothing is taken") };
        assert_eq!(matches!(outcome, Outcome::Again { .. }), again, "after {at} s");
        assert!(again || matches!(outcome, Outcome::Halt { code: "log-changed", .. }));
    }
}

#[test]
fn what_redis_refuses_waits_or_halts_by_its_class() {
    for (error, again) in [("LOADING Redis is loading", true), ("OOM command not allowed", true), ("NOPERM no permissions", false)] {
        let mut c = claimer(Guarantee::ExactlyOnce);
        c.begin(request(0), log(), Duration::ZERO);
        let Next::Done(outcome) = c.answered(&vec![Reply::Error(error.into()); 4], Duration::ZERO) else { panic!("refused") };
        assert_eq!(matches!(outcome, Outcome::Again { .. }), again, "{error}");
    }
    let mut c = claimer(Guarantee::ExactlyOnce);
    let outcome = claim(&mut c, request(0), log(), &found(&[("version", "2")], Reply::Nil, Reply::Nil));
    assert!(matches!(outcome, Outcome::Halt { code: "state-unreadable", .. }));
}

#[test]
fn at_least_once_begins_at_memory_then_at_the_commit_then_at_the_start() {
    let commit = Some(Commit { offset: 30, ours: Some(Marked { guarantee: Guarantee::AtLeastOnce, store_id: String::new() }) });
    let settled = |position| Some(Memory { position, unread: None, last: None, rebuild: None });
    for (memory, commit, position) in [(settled(40), commit.clone(), 40), (None, commit, 30)] {
        let mut c = claimer(Guarantee::AtLeastOnce);
        let Next::Done(Outcome::Claimed(claimed)) = c.begin(Request { memory, ..request(0) }, LogFacts { commit, ..log() }, Duration::ZERO) else {
            panic!("claimed")
        };
        assert_eq!((claimed.opening.position, claimed.opening.guard.is_none()), (position, true));
    }
    // A new group asks which partitions came later than its first look at the topic.
    for (partition, position) in [(3, 50), (4, 2)] {
        let mut c = claimer(Guarantee::AtLeastOnce);
        assert!(matches!(c.begin(request(partition), log(), Duration::ZERO), Next::Exchange { replies: 2 }));
        let Next::Done(Outcome::Claimed(claimed)) = c.answered(&[Reply::Int(0), bulk("4")], Duration::ZERO) else { panic!("claimed") };
        assert_eq!(claimed.opening.position, position);
    }
}
