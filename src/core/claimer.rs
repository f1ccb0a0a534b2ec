//! Claims, as a machine without I/O: what Kafka says of a partition goes in, two exchanges with Redis come out, then
//! whether the partition is ours, and where it begins ([`super::claim`]).
//!
//! `WATCH`, read, weigh, `MULTI`, write epoch and owner, `EXEC`. A blind increment would be wrong: given up on and
//! delivered late, it fences its own sender.
use super::claim::{Commit, Decision, Facts, Guarantee, Memory, OnStateLost, decide};
use super::encode::Encoder;
use super::lane::{Check, Guard, Opening};
use super::record::TopicPartition;
use super::reply::{Class, Reply, triage};
use super::route::Route;
use super::state::{State, StateKey, VERSION};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long a log that ends before the position is given the benefit of the doubt.
const BEYOND_MAX: Duration = Duration::from_secs(30);

/// What all claims have in common.
#[derive(Clone, Debug)]
pub struct Settings {
    pub prefix: String,
    pub group: String,
    pub guarantee: Guarantee,
    pub on_state_lost: OnStateLost,
    pub routes: Arc<[Route]>,
    /// Of the writes; a change of it is a change of configuration.
    pub fingerprint: Vec<u8>,
    /// Ours, random.
    pub owner: Vec<u8>,
    /// The id that a Redis gets which has none, random.
    pub store_id: String,
}

/// A partition to become the owner of.
#[derive(Clone, Debug)]
pub struct Request {
    pub at: TopicPartition,
    pub generation: u64,
    /// What this process knows, if it owned the partition before.
    pub memory: Option<Memory>,
}

/// What Kafka knows of it.
#[derive(Clone, Debug)]
pub struct LogFacts {
    /// It holds `[low, high)`.
    pub low: i64,
    pub high: i64,
    pub commit: Option<Commit>,
    /// Where the group begins that has no position.
    pub start: i64,
    /// How many partitions the topic has.
    pub partitions: i32,
}

/// A claim that succeeded.
#[derive(Debug)]
pub struct Claimed {
    pub opening: Opening,
    /// Where to seek to: at or below the position, for what must be looked at again.
    pub begin: i64,
    pub epoch: i64,
    pub note: Option<String>,
    pub store_id: String,
}

/// How a claim ended.
#[derive(Debug)]
pub enum Outcome {
    Claimed(Box<Claimed>),
    Halt {
        code: &'static str,
        reason: String,
    },
    /// It is to be tried again after a while.
    Again {
        why: String,
    },
}

/// What the shell is to do next.
#[derive(Debug)]
pub enum Next {
    /// Send [`Claimer::outgoing`], read this many replies, call [`Claimer::answered`]. If the connection is lost, begin anew.
    Exchange {
        replies: usize,
    },
    /// Ask Kafka whether the topic's cleanup policy has compact, call [`Claimer::policy`].
    AskPolicy,
    Done(Outcome),
}

/// What Redis holds of a partition.
struct Found {
    state: State,
    store_id: Option<String>,
}

/// Whether a topic's cleanup policy has compact, or why that can't be read.
type Policy = Result<bool, String>;

enum Stage {
    Idle,
    Reading(Request, LogFacts),
    /// The state has a last record, which compaction may have removed.
    AskingPolicy(Request, LogFacts, Found),
    Taking(Box<Claimed>),
}

/// See the module's documentation. One claim at a time.
pub struct Claimer {
    settings: Settings,
    stage: Stage,
    out: Encoder,
    /// Since when a partition's log ends before its position.
    beyond: BTreeMap<TopicPartition, Duration>,
}

impl Claimer {
    pub fn new(settings: Settings) -> Self {
        Self { settings, stage: Stage::Idle, out: Encoder::default(), beyond: BTreeMap::new() }
    }

    /// The bytes of the exchange that was asked for.
    pub fn outgoing(&self) -> &[u8] {
        self.out.bytes()
    }

    /// Begins a claim.
    pub fn begin(&mut self, request: Request, log: LogFacts, now: Duration) -> Next {
        if self.settings.guarantee == Guarantee::AtLeastOnce {
            // Without a state the position is ours alone, else Kafka's.
            let offset = request.memory.map(|m| m.position).or(log.commit.as_ref().map(|c| c.offset));
            let found = Found { state: State { offset, ..State::default() }, store_id: None };
            return match self.weigh(&request, &LogFacts { commit: None, ..log }, found, Ok(false), now) {
                Ok((claimed, _)) => Next::Done(Outcome::Claimed(claimed)),
                Err(outcome) => Next::Done(outcome),
            };
        }
        let (key, id, topics) = (self.key(&request.at), self.id_key(), self.topics_key());
        self.out.clear();
        self.out.command(&[b"WATCH", key.0.as_slice(), id.0.as_slice(), topics.as_bytes()]);
        self.out.command(&[b"HGETALL", key.0.as_slice()]);
        self.out.command(&[b"GET", id.0.as_slice()]);
        self.out.command(&[b"HGET", topics.as_bytes(), request.at.topic.as_bytes()]);
        self.stage = Stage::Reading(request, log);
        Next::Exchange { replies: self.out.commands() }
    }

    /// Takes the replies of the last exchange, all of them, in order.
    pub fn answered(&mut self, replies: &[Reply], now: Duration) -> Next {
        let done = match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Idle | Stage::AskingPolicy(..) => Outcome::Again { why: "nothing was asked of Redis".into() },
            Stage::Reading(request, log) => match self.read(request, log, replies, now) {
                Ok(next) => return next,
                Err(outcome) => outcome,
            },
            Stage::Taking(claimed) => match (refusal(replies), replies.last()) {
                (Some(outcome), _) => outcome,
                (None, Some(Reply::Array(_))) => Outcome::Claimed(claimed),
                _ => Outcome::Again { why: "another bridge claimed at the same time".into() },
            },
        };
        Next::Done(done)
    }

    fn read(&mut self, request: Request, mut log: LogFacts, replies: &[Reply], now: Duration) -> Result<Next, Outcome> {
        if let Some(outcome) = refusal(replies) {
            return Err(outcome);
        }
        let text = |r: &Reply| if let Reply::Text(t) = r { Some(String::from_utf8_lossy(t).into_owned()) } else { None };
        let state = decode_state(&replies[1]).map_err(|why| {
            let key = self.key(&request.at);
            Outcome::Halt { code: "state-unreadable", reason: format!("the state {} can't be read: {why}", String::from_utf8_lossy(&key.0)) }
        })?;
        let known = text(&replies[3]).and_then(|n| n.parse::<i32>().ok());
        // Partitions that came later than the group's first look at the topic begin at their earliest record, or what
        // came before their discovery is skipped.
        if known.is_some_and(|known| request.at.partition >= known) {
            log.start = log.low;
        }
        let found = Found { state, store_id: text(&replies[2]) };
        if found.state.last.or(request.memory.and_then(|m| m.last)).is_some() {
            self.stage = Stage::AskingPolicy(request, log, found);
            return Ok(Next::AskPolicy);
        }
        self.take(request, log, found, Ok(false), now)
    }

    /// Takes the answer to [`Next::AskPolicy`].
    pub fn policy(&mut self, compacted: Policy, now: Duration) -> Next {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::AskingPolicy(request, log, found) => self.take(request, log, found, compacted, now).unwrap_or_else(Next::Done),
            _ => Next::Done(Outcome::Again { why: "no policy was asked for".into() }),
        }
    }

    fn take(&mut self, request: Request, log: LogFacts, found: Found, compacted: Policy, now: Duration) -> Result<Next, Outcome> {
        let (claimed, state) = self.weigh(&request, &log, found, compacted, now)?;
        self.encode_take(&request.at, &claimed, &state, log.partitions);
        self.stage = Stage::Taking(claimed);
        Ok(Next::Exchange { replies: self.out.commands() })
    }

    /// Weighs the facts: what the claim will be, and the state as it is to be written.
    fn weigh(&mut self, request: &Request, log: &LogFacts, found: Found, compacted: Policy, now: Duration) -> Result<(Box<Claimed>, State), Outcome> {
        let facts = Facts {
            state: found.state,
            memory: request.memory,
            commit: log.commit.clone(),
            store_id: found.store_id,
            low: log.low,
            high: log.high,
            start: log.start,
            on_state_lost: self.settings.on_state_lost,
        };
        let (position, last, unread, note) = match decide(&facts) {
            Decision::Begin { position, last, unread, note } => (position, last, unread, note),
            Decision::Halt { code, reason } => return Err(Outcome::Halt { code, reason }),
            Decision::Beyond { position } => {
                let reason = format!("the log ends at {}, before the position {position}", log.high);
                let since = *self.beyond.entry(request.at.clone()).or_insert(now);
                return Err(if now < since + BEYOND_MAX {
                    Outcome::Again { why: reason }
                } else {
                    Outcome::Halt { code: "log-changed", reason: format!("{reason}: the topic was recreated or truncated") }
                });
            }
        };
        self.beyond.remove(&request.at);
        let mut state = facts.state;
        (state.last, state.unread) = (last, unread);
        state.epoch += 1;
        state.offset = Some(position);
        let marked = facts.commit.and_then(|c| c.ours).filter(|m| !m.store_id.is_empty());
        let store_id = facts.store_id.or(marked.map(|m| m.store_id)).unwrap_or_else(|| self.settings.store_id.clone());
        let (opening, begin, lost) = self.opening(request, &state, position, log.low, compacted);
        state.unread = opening.unread;
        Ok((Box::new(Claimed { opening, begin, epoch: state.epoch, note: lost.or(note), store_id }), state))
    }

    /// What the lane takes over, where to seek to, and what a person should know of records that are gone.
    fn opening(&self, request: &Request, state: &State, position: i64, low: i64, compacted: Policy) -> (Opening, i64, Option<String>) {
        let at = &request.at;
        let mut unread = state.unread.filter(|u| *u < position);
        let mut lost = None;
        if let Some(from) = unread.filter(|u| *u < low) {
            lost = Some(format!("outcome-unknown: the replies to {from}..{position} were never read, and Kafka no longer has the records below {low}"));
            unread = state.last.filter(|l| l.offset >= low).map(|_| low);
        }
        let check = state.last.filter(|l| l.offset >= low).map(|last| Check { last, compacted });
        let begin = [Some(position), unread, check.as_ref().map(|c| c.last.offset)].into_iter().flatten().min().unwrap_or(position).max(low);
        let routes = &self.settings.routes;
        let through = (0..routes.len()).filter(|r| routes[*r].matches(&at.topic)).collect::<Vec<_>>().into();
        let exactly = self.settings.guarantee == Guarantee::ExactlyOnce;
        let guard = exactly.then(|| Guard { key: self.key(at), owner: self.owner(request.generation) });
        (Opening { generation: request.generation, at: at.clone(), position, guard, check, unread, through }, begin, lost)
    }

    /// Epoch, owner and every other field, empty where unknown, so that a batch's HSET adds none.
    fn encode_take(&mut self, at: &TopicPartition, claimed: &Claimed, state: &State, partitions: i32) {
        let (key, id, topics) = (self.key(at), self.id_key(), self.topics_key());
        let number = |n: Option<i64>| n.map(|n| n.to_string()).unwrap_or_default().into_bytes();
        let fields: [(&[u8], Vec<u8>); 7] = [
            (b"version", VERSION.to_string().into_bytes()),
            (b"epoch", state.epoch.to_string().into_bytes()),
            (b"owner", self.owner(claimed.opening.generation)),
            (b"offset", number(state.offset)),
            (b"unread", number(state.unread)),
            (b"last", state.last.map(|l| l.encode()).unwrap_or_default().into_bytes()),
            (b"routes", self.settings.fingerprint.clone()),
        ];
        let out = &mut self.out;
        out.clear();
        out.command(&[b"MULTI"]);
        out.command(&[b"SET", id.0.as_slice(), claimed.store_id.as_bytes(), b"NX"]);
        out.command(&[b"HSETNX", topics.as_bytes(), at.topic.as_bytes(), partitions.to_string().as_bytes()]);
        out.arg(b"HSET");
        out.arg(&key.0);
        for (name, value) in &fields {
            out.arg(name);
            out.arg(value);
        }
        out.finish();
        out.command(&[b"EXEC"]);
    }

    /// Ours, and of this claim alone: a claim fences what an earlier one of the same process may still have on its way.
    fn owner(&self, generation: u64) -> Vec<u8> {
        [self.settings.owner.as_slice(), format!("-{generation}").as_bytes()].concat()
    }

    fn key(&self, at: &TopicPartition) -> StateKey {
        StateKey::partition(&self.settings.prefix, &self.settings.group, at)
    }

    fn id_key(&self) -> StateKey {
        StateKey::store_id(&self.settings.prefix)
    }

    /// How many partitions each topic had when the group first saw it.
    fn topics_key(&self) -> String {
        format!("{}:topics", String::from_utf8_lossy(&self.key(&TopicPartition::new("", 0)).0))
    }
}

fn refusal(replies: &[Reply]) -> Option<Outcome> {
    // The cause stands with the command that was refused, before EXECABORT.
    let error = replies.iter().find_map(|r| if let Reply::Error(e) = r { Some(e) } else { None })?;
    Some(match triage(error) {
        Class::Transient | Class::Capacity => Outcome::Again { why: error.clone() },
        _ => Outcome::Halt { code: "refused", reason: format!("Redis refuses the claim: {error}") },
    })
}

fn decode_state(reply: &Reply) -> Result<State, String> {
    let Reply::Array(items) = reply else { return Err(format!("HGETALL answered {reply:?}")) };
    let bytes = |r: &Reply| if let Reply::Text(t) = r { t.to_vec() } else { Vec::new() };
    let fields: Vec<_> = items.chunks_exact(2).map(|p| (bytes(&p[0]), bytes(&p[1]))).collect();
    State::decode(&fields)
}

#[cfg(test)]
mod tests {
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
            fingerprint: b"f".to_vec(),
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

    fn text(t: &str) -> Reply {
        Reply::Text(t.into())
    }

    /// The answer to the reading: the state's fields, the store's id, the topic's count.
    fn found(state: &[(&str, &str)], id: Reply, known: Reply) -> Vec<Reply> {
        vec![text("OK"), Reply::Array(state.iter().flat_map(|(n, v)| [text(n), text(v)]).collect()), id, known]
    }

    /// What the claim comes to when Redis takes it.
    fn claim(c: &mut Claimer, request: Request, log: LogFacts, answer: &[Reply]) -> Outcome {
        let Next::Exchange { replies: 4 } = c.begin(request, log, Duration::ZERO) else { panic!("reads first") };
        let mut next = c.answered(answer, Duration::ZERO);
        if matches!(next, Next::AskPolicy) {
            next = c.policy(Ok(false), Duration::ZERO);
        }
        if matches!(next, Next::Exchange { replies: 5 }) {
            next = c.answered(&[text("OK"), text("QUEUED"), text("QUEUED"), text("QUEUED"), Reply::Array(vec![])], Duration::ZERO);
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
        let Outcome::Claimed(claimed) = claim(&mut c, request(0), log(), &found(&state, text("id"), text("4"))) else { panic!("claimed") };
        assert_eq!((claimed.epoch, claimed.opening.position, claimed.begin, claimed.opening.unread), (4, 7, 5, Some(5)));
        assert_eq!(claimed.store_id, "id");
        let sent = parse_commands(c.outgoing()).unwrap();
        let fields: Vec<String> = sent[3][2..].iter().map(|a| String::from_utf8_lossy(a).into_owned()).collect();
        let expected = ["version", "1", "epoch", "4", "owner", "me-1", "offset", "7", "unread", "5", "last", "6 - 00000000000000aa", "routes", "f"];
        assert_eq!(fields, expected);
    }

    #[test]
    fn a_claim_that_another_came_before_is_tried_again() {
        let mut c = claimer(Guarantee::ExactlyOnce);
        c.begin(request(0), log(), Duration::ZERO);
        c.answered(&found(&[], Reply::Nil, Reply::Nil), Duration::ZERO);
        let next = c.answered(&[text("OK"), text("QUEUED"), text("QUEUED"), text("QUEUED"), Reply::Nil], Duration::ZERO);
        assert!(matches!(next, Next::Done(Outcome::Again { .. })));
    }

    #[test]
    fn a_partition_that_came_later_begins_at_its_first_record() {
        for (partition, known, position) in [(3, text("4"), 50), (4, text("4"), 2), (4, Reply::Nil, 50)] {
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
    fn at_least_once_asks_redis_nothing_and_begins_at_memory_then_at_the_commit() {
        let commit = Some(Commit { offset: 30, ours: Some(Marked { guarantee: Guarantee::AtLeastOnce, store_id: String::new() }) });
        let settled = |position| Some(Memory { position, unread: None, last: None });
        for (memory, commit, position) in [(settled(40), commit.clone(), 40), (None, commit, 30), (None, None, 50)] {
            let mut c = claimer(Guarantee::AtLeastOnce);
            let Next::Done(Outcome::Claimed(claimed)) = c.begin(Request { memory, ..request(0) }, LogFacts { commit, ..log() }, Duration::ZERO) else {
                panic!("claimed")
            };
            assert_eq!((claimed.opening.position, claimed.opening.guard.is_none()), (position, true));
        }
    }
}
