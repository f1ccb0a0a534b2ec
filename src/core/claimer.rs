//! Claims, as a machine without I/O: what Kafka says of a partition goes in, two exchanges with Redis come out, then
//! whether the partition is ours, and where it begins ([`super::claim`]).
//!
//! `WATCH`, read, weigh, `MULTI`, write epoch and owner, `EXEC`. A blind increment would be wrong: given up on and
//! delivered late, it fences its own sender.
#[cfg(test)]
mod tests;

use super::claim::{Commit, Decision, Facts, Guarantee, Memory, Notice, OnStateLost, REWINDING, decide};
use super::encode::Encoder;
use super::fingerprint;
use super::lane::{Check, Guard, Opening};
use super::rebuild::Begun;
use super::record::TopicPartition;
use super::reply::{Class, Reply, first_error, triage};
use super::route::{self, Route};
use super::state::{self, State, StateKey};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long a log that ends before the position is given the benefit of the doubt, and a rewind its time.
const PATIENCE: Duration = Duration::from_secs(30);

/// What all claims have in common.
#[derive(Clone, Debug)]
pub struct Settings {
    pub prefix: String,
    pub group: String,
    pub guarantee: Guarantee,
    pub on_state_lost: OnStateLost,
    pub routes: Arc<[Route]>,
    /// Of each route's writes; a change of it is a change of configuration.
    pub fingerprints: Vec<String>,
    /// Ours, random.
    pub owner: Vec<u8>,
    /// The id that a Redis gets which has none, random.
    pub store_id: String,
}

impl Settings {
    /// The key of a partition's state.
    pub fn key(&self, at: &TopicPartition) -> StateKey {
        StateKey::partition(&self.prefix, &self.group, at)
    }

    /// What the lane takes over under this owner's token, where to seek to, and what a person should know of records that
    /// are gone. `low` is where Kafka's log begins.
    pub(super) fn opening(&self, request: &Request, owner: Vec<u8>, state: &State, low: i64, compacted: Policy) -> (Opening, i64, Option<Notice>) {
        let (at, position) = (&request.at, state.offset.unwrap_or(low));
        let mut unread = state.unread.filter(|u| *u < position);
        let mut lost = None;
        if let Some(from) = unread.filter(|u| *u < low) {
            let text = format!("the replies to {from}..{position} were never read, and Kafka no longer has the records below {low}");
            lost = Some(Notice::new("outcome-unknown", text));
            unread = state.last.filter(|l| l.offset >= low).map(|_| low);
        }
        let check = state.last.filter(|l| l.offset >= low).map(|last| Check { last, compacted });
        let begin = [Some(position), unread, check.as_ref().map(|c| c.last.offset)].into_iter().flatten().min().unwrap_or(position).max(low);
        let through = route::through(&self.routes, &at.topic).into();
        let exactly = self.guarantee == Guarantee::ExactlyOnce;
        let guard = exactly.then(|| Guard { key: self.key(at), owner });
        let rebuild = state.rebuild.map(|r| (r, Begun::new(&self.prefix, &self.group, at, r)));
        (Opening { generation: request.generation, at: at.clone(), position, guard, check, unread, through, rebuild }, begin, lost)
    }
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
    pub notices: Vec<Notice>,
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
        /// The condition that holds meanwhile, if it is one.
        code: Option<&'static str>,
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
    /// The partition had a state since this Redis was last emptied.
    known: bool,
}

/// Whether a topic's cleanup policy has compact, or why that can't be read.
pub(super) type Policy = Result<bool, String>;

enum Stage {
    Idle,
    Reading(Request, LogFacts),
    /// At-least-once: how many partitions the topic had at first is being asked.
    Counting(Request, LogFacts),
    /// The state has a last record, which compaction may have removed.
    AskingPolicy(Request, LogFacts, Found),
    Taking(Box<Claimed>),
}

/// See the module's documentation. One claim at a time.
pub struct Claimer {
    settings: Settings,
    stage: Stage,
    out: Encoder,
    /// Since when a partition is waited for, whose log ends before its position, or which is being rewound.
    waiting: BTreeMap<TopicPartition, Duration>,
}

impl Claimer {
    pub fn new(settings: Settings) -> Self {
        Self { settings, stage: Stage::Idle, out: Encoder::default(), waiting: BTreeMap::new() }
    }

    /// The bytes of the exchange that was asked for.
    pub fn outgoing(&self) -> &[u8] {
        self.out.bytes()
    }

    /// Begins a claim.
    pub fn begin(&mut self, request: Request, log: LogFacts, now: Duration) -> Next {
        if self.settings.guarantee == Guarantee::AtLeastOnce {
            // Without a state the position is ours alone, else Kafka's.
            return self.begin_without_state(request, log, now);
        }
        let (key, id, topics) = (self.settings.key(&request.at), self.id_key(), self.topics_key());
        self.out.clear();
        self.out.command(&[b"WATCH", key.0.as_slice(), id.0.as_slice(), topics.0.as_slice()]);
        self.out.command(&[b"HGETALL", key.0.as_slice()]);
        self.out.command(&[b"GET", id.0.as_slice()]);
        self.out.command(&[b"HMGET", topics.0.as_slice(), request.at.topic.as_bytes(), known_field(&request.at).as_bytes()]);
        self.stage = Stage::Reading(request, log);
        Next::Exchange { replies: self.out.commands() }
    }

    /// Takes the replies of the last exchange, all of them, in order.
    pub fn answered(&mut self, replies: &[Reply], now: Duration) -> Next {
        let done = match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Idle | Stage::AskingPolicy(..) => Outcome::Again { code: None, why: "nothing was asked of Redis".into() },
            Stage::Counting(request, mut log) => match refusal(replies) {
                Some(outcome) => outcome,
                None => {
                    begin_late(&request, &mut log, replies.last());
                    return self.done_without_state(&request, log, State::default(), now);
                }
            },
            Stage::Reading(request, log) => match self.read(request, log, replies, now) {
                Ok(next) => return next,
                Err(outcome) => outcome,
            },
            Stage::Taking(claimed) => match (refusal(replies), replies.last()) {
                (Some(outcome), _) => outcome,
                (None, Some(Reply::Array(_))) => Outcome::Claimed(claimed),
                _ => Outcome::Again { code: None, why: "another bridge claimed at the same time".into() },
            },
        };
        Next::Done(done)
    }

    fn read(&mut self, request: Request, mut log: LogFacts, replies: &[Reply], now: Duration) -> Result<Next, Outcome> {
        if let Some(outcome) = refusal(replies) {
            return Err(outcome);
        }
        let state = State::read(&replies[1]).map_err(|why| {
            let key = self.settings.key(&request.at);
            Outcome::Halt { code: "state-unreadable", reason: format!("the state {} can't be read: {why}", String::from_utf8_lossy(&key.0)) }
        })?;
        let Reply::Array(topic) = &replies[3] else {
            return Err(Outcome::Again { code: None, why: format!("HMGET answered {:?}", replies[3]) });
        };
        begin_late(&request, &mut log, topic.first());
        let known = topic.get(1).and_then(text).is_some();
        let found = Found { state, store_id: text(&replies[2]), known };
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
            _ => Next::Done(Outcome::Again { code: None, why: "no policy was asked for".into() }),
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
        if found.state.owner.starts_with(REWINDING) && self.is_patient(&request.at, now) {
            return Err(Outcome::Again { code: None, why: "a rewind is under way".into() });
        }
        let facts = Facts {
            state: found.state,
            memory: request.memory,
            commit: log.commit.clone(),
            store_id: found.store_id,
            known: found.known,
            low: log.low,
            high: log.high,
            start: log.start,
            on_state_lost: self.settings.on_state_lost,
        };
        let (position, last, unread, rebuild, notice) = match decide(&facts) {
            Decision::Begin { position, last, unread, rebuild, notice } => (position, last, unread, rebuild, notice),
            Decision::Halt { code, reason } => return Err(Outcome::Halt { code, reason }),
            Decision::Beyond { position } => {
                let reason = format!("the log ends at {}, before the position {position}", log.high);
                return Err(if self.is_patient(&request.at, now) {
                    Outcome::Again { code: None, why: reason }
                } else {
                    self.waiting.remove(&request.at);
                    Outcome::Halt { code: "log-changed", reason: format!("{reason}: the topic was recreated or truncated") }
                });
            }
        };
        self.waiting.remove(&request.at);
        let mut state = facts.state;
        (state.last, state.unread, state.rebuild) = (last, unread, rebuild);
        state.epoch += 1;
        state.offset = Some(position);
        let marked = facts.commit.and_then(|c| c.ours).filter(|m| !m.store_id.is_empty());
        let store_id = facts.store_id.or(marked.map(|m| m.store_id)).unwrap_or_else(|| self.settings.store_id.clone());
        state.owner = self.owner(request.generation);
        let (opening, begin, lost) = self.settings.opening(request, state.owner.clone(), &state, log.low, compacted);
        state.unread = opening.unread;
        let routes = self.fingerprint(&opening);
        let changed = fingerprint::added(&String::from_utf8_lossy(&state.routes), &routes).map(|added| changed(&request.at, position, &added));
        state.routes = routes.into_bytes();
        let notices = [lost, notice, changed].into_iter().flatten().collect();
        Ok((Box::new(Claimed { opening, begin, epoch: state.epoch, notices, store_id }), state))
    }

    fn encode_take(&mut self, at: &TopicPartition, claimed: &Claimed, state: &State, partitions: i32) {
        let (key, id, topics) = (self.settings.key(at), self.id_key(), self.topics_key());
        let out = &mut self.out;
        out.clear();
        out.command(&[b"MULTI"]);
        out.command(&[b"SET", id.0.as_slice(), claimed.store_id.as_bytes(), b"NX"]);
        out.command(&[b"HSETNX", topics.0.as_slice(), at.topic.as_bytes(), partitions.to_string().as_bytes()]);
        out.command(&[b"HSETNX", topics.0.as_slice(), known_field(at).as_bytes(), b"1"]);
        state::write(&key, &state.fields(), out);
        out.command(&[b"EXEC"]);
    }

    /// Whether it is too early to give a partition up.
    fn is_patient(&mut self, at: &TopicPartition, now: Duration) -> bool {
        now < *self.waiting.entry(at.clone()).or_insert(now) + PATIENCE
    }

    /// Of the writes that are applied to a partition.
    fn fingerprint(&self, opening: &Opening) -> String {
        let all: Vec<&str> = opening.through.iter().filter_map(|r| self.settings.fingerprints.get(*r)).map(String::as_str).collect();
        all.join(" ")
    }

    /// At-least-once has no state: where it begins is known to us, else to Kafka. Only a new group asks Redis which
    /// partitions came later than its first look at the topic.
    fn begin_without_state(&mut self, request: Request, log: LogFacts, now: Duration) -> Next {
        if request.memory.is_none() && log.commit.is_none() {
            let topics = self.topics_key();
            self.out.clear();
            self.out.command(&[b"HSETNX", topics.0.as_slice(), request.at.topic.as_bytes(), log.partitions.to_string().as_bytes()]);
            self.out.command(&[b"HGET", topics.0.as_slice(), request.at.topic.as_bytes()]);
            self.stage = Stage::Counting(request, log);
            return Next::Exchange { replies: self.out.commands() };
        }
        let offset = request.memory.map(|m| m.position).or(log.commit.as_ref().map(|c| c.offset));
        let state = State { offset, last: request.memory.and_then(|m| m.last), ..State::default() };
        self.done_without_state(&request, log, state, now)
    }

    fn done_without_state(&mut self, request: &Request, log: LogFacts, state: State, now: Duration) -> Next {
        let found = Found { state, store_id: None, known: false };
        // A last record that is gone is no reason to halt where nothing but order is promised of what was applied.
        match self.weigh(request, &LogFacts { commit: None, ..log }, found, Ok(true), now) {
            Ok((claimed, _)) => Next::Done(Outcome::Claimed(claimed)),
            Err(outcome) => Next::Done(outcome),
        }
    }

    /// Ours, and of this claim alone: a claim fences what an earlier one of the same process may still have on its way.
    fn owner(&self, generation: u64) -> Vec<u8> {
        [self.settings.owner.as_slice(), format!("-{generation}").as_bytes()].concat()
    }

    fn id_key(&self) -> StateKey {
        StateKey::store_id(&self.settings.prefix)
    }

    /// How many partitions each topic had when the group first saw it, and which partitions have had a state since.
    fn topics_key(&self) -> StateKey {
        StateKey::group(&self.settings.prefix, &self.settings.group, "topics")
    }
}

/// Where it is kept that a partition has had a state; no topic's name has a colon.
fn known_field(at: &TopicPartition) -> String {
    format!("{}:{}", at.topic, at.partition)
}

fn text(reply: &Reply) -> Option<String> {
    if let Reply::Text(t) = reply { Some(String::from_utf8_lossy(t).into_owned()) } else { None }
}

/// Partitions that came later than the group's first look at the topic, `count`, begin at their earliest record, or
/// what came before their discovery is skipped.
fn begin_late(request: &Request, log: &mut LogFacts, count: Option<&Reply>) {
    let count = count.and_then(text).and_then(|n| n.parse::<i32>().ok());
    if count.is_some_and(|count| request.at.partition >= count) {
        log.start = log.low;
    }
}

fn changed(at: &TopicPartition, position: i64, added: &str) -> Notice {
    let text = format!(
        "the configuration has changed: {added} was not applied to the records below {position}; to apply it to them: kafka-redis-bridge replay --topic {} --partition {} --from-offset earliest --to-offset {position} --write ROUTE/N",
        at.topic, at.partition
    );
    Notice::new("routes-changed", text)
}

fn refusal(replies: &[Reply]) -> Option<Outcome> {
    let error = first_error(replies)?;
    Some(match triage(error) {
        Class::Transient => Outcome::Again { code: Some("redis-refuses"), why: error.to_owned() },
        Class::Capacity => Outcome::Again { code: Some("redis-oom"), why: error.to_owned() },
        _ => Outcome::Halt { code: "refused", reason: format!("Redis refuses the claim: {error}") },
    })
}
