//! The claimer: a thread that becomes the owner of partitions, one after the other, off the poller.
//!
//! `WATCH`, read, weigh ([`crate::core::claim`]), `MULTI`, write epoch and owner, `EXEC`. A blind increment would be
//! wrong: given up on and delivered late, it fences its own sender.
use super::connection::{Connection, Connector, Failure};
use super::preflight::{Unfit, eviction, preflight};
use crate::app::ToPoller;
use crate::core::claim::{Commit, Decision, Facts, Guarantee, OnStateLost, decide};
use crate::core::encode::Encoder;
use crate::core::lane::{Check, Guard, Opening};
use crate::core::record::TopicPartition;
use crate::core::reply::Reply;
use crate::core::retry::Backoff;
use crate::core::route::Route;
use crate::core::state::{State, StateKey, VERSION};
use crate::ops::conditions::Conditions;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often Redis is asked whether it is there while nothing is to be claimed.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long a log that ends before the position is given the benefit of the doubt.
const BEYOND_MAX: Duration = Duration::from_secs(30);

/// What Kafka knows about a partition, asked by the claimer.
pub trait Log: Send {
    /// `[low, high)`.
    fn watermarks(&self, at: &TopicPartition) -> Result<(i64, i64), String>;
    fn committed(&self, at: &TopicPartition) -> Result<Option<Commit>, String>;
    /// Where the group begins that has no position.
    fn start(&self, at: &TopicPartition, low: i64, high: i64) -> Result<i64, String>;
    /// Whether the topic's cleanup policy has compact, or why that can't be read.
    fn compacted(&self, topic: &str) -> Result<bool, String>;
    fn partitions(&self, topic: &str) -> Result<i32, String>;
}

/// A partition to become the owner of.
#[derive(Clone, Debug)]
pub struct Request {
    pub at: TopicPartition,
    pub generation: u64,
    pub memory: Option<i64>,
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
    pub low: i64,
}

enum Outcome {
    Claimed(Box<Claimed>),
    Halt(&'static str, String),
    Again(String),
}

impl Outcome {
    fn message(self, generation: u64) -> ToPoller {
        match self {
            Self::Claimed(claimed) => ToPoller::Claimed(claimed),
            Self::Halt(code, reason) => ToPoller::ClaimHalted { generation, code, reason },
            Self::Again(why) => ToPoller::ClaimFailed { generation, why },
        }
    }
}

/// See the module's documentation.
pub struct Claimer<L> {
    pub connector: Connector,
    pub config: Arc<crate::config::Config>,
    pub routes: Arc<[Route]>,
    pub fingerprint: Vec<u8>,
    pub owner: Vec<u8>,
    pub log: L,
    pub conditions: Conditions,
    pub to_poller: Sender<ToPoller>,
}

impl<L: Log> Claimer<L> {
    /// Serves requests until their sender is gone. Connects at once: whether Redis is there shows before the first claim.
    pub fn run(self, requests: &Receiver<Request>) {
        let mut queue = VecDeque::new();
        let Some(mut redis) = self.connected(requests, &mut queue, true) else { return };
        if self.to_poller.send(ToPoller::RedisUp).is_err() {
            return;
        }
        let mut beyond = HashMap::new();
        loop {
            let request = match queue.pop_front().map_or_else(|| requests.recv_timeout(LOOK_EVERY), Ok) {
                Ok(request) => Some(request),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let done = match &request {
                Some(request) => self.claim(&mut redis, request, &mut beyond).map(|outcome| Some(outcome.message(request.generation))),
                None => self.look(&mut redis).map(|()| None),
            };
            match done {
                Ok(message) => {
                    if message.is_some_and(|m| self.to_poller.send(m).is_err()) {
                        return;
                    }
                }
                Err(_) => {
                    queue.extend(request);
                    let Some(again) = self.connected(requests, &mut queue, false) else { return };
                    redis = again;
                }
            }
        }
    }

    /// Connects, however long it takes; requests that come meanwhile are queued. `None`: nobody needs it any more, or
    /// (`first`) this Redis can never serve.
    fn connected(&self, requests: &Receiver<Request>, queue: &mut VecDeque<Request>, first: bool) -> Option<Connection> {
        let mut backoff = Backoff::default();
        loop {
            let (reason, remedy, person) = match self.connect() {
                Ok(connection) => {
                    self.conditions.clear_subject("redis");
                    return Some(connection);
                }
                Err(Unfit::Refused(problems)) => (format!("this Redis can't serve: {}", problems.join("; ")), "correct what the message names", true),
                Err(Unfit::Failed(f)) if f.refused => {
                    (format!("Redis refuses us: {f}"), "check redis.user, redis.password or redis.password_file, and the ACL", true)
                }
                Err(Unfit::Failed(f)) => (f.reason, "records wait in Kafka; the bridge goes on by itself when Redis answers", false),
            };
            match person {
                true if first => {
                    let _ = self.to_poller.send(ToPoller::Fatal(format!("{reason}. What to do: {remedy}")));
                    return None;
                }
                true => self.conditions.alert("redis-refused", "redis", &reason, remedy),
                false => self.conditions.raise("redis-unreachable", "redis", &reason, remedy),
            }
            let until = Instant::now() + backoff.next(rand::random());
            loop {
                match requests.recv_deadline(until) {
                    Ok(request) => queue.push_back(request),
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return None,
                }
            }
        }
    }

    /// Whether Redis is still there, and still keeps what it must.
    fn look(&self, redis: &mut Connection) -> Result<(), Failure> {
        match eviction(redis, &self.config)? {
            Some(why) => self.conditions.alert("redis-evicts", "redis", &why, "set another maxmemory-policy: CONFIG SET maxmemory-policy noeviction"),
            None => self.conditions.clear("redis-evicts", "redis"),
        }
        Ok(())
    }

    fn connect(&self) -> Result<Connection, Unfit> {
        let mut connection = self.connector.connect()?;
        preflight(&mut connection, &self.config, &self.routes)?;
        Ok(connection)
    }

    fn claim(&self, redis: &mut Connection, request: &Request, beyond: &mut HashMap<TopicPartition, Instant>) -> Result<Outcome, Failure> {
        let at = &request.at;
        let exactly = self.config.redis.guarantee == crate::config::Guarantee::ExactlyOnce;
        let facts = match self.facts(redis, request, exactly)? {
            Ok(facts) => facts,
            Err(outcome) => return Ok(outcome),
        };
        let (position, keep_checks, note) = match decide(&facts) {
            Decision::Begin { position, keep_checks, note } => (position, keep_checks, note),
            Decision::Halt { code, reason } => return Ok(Outcome::Halt(code, reason)),
            Decision::Beyond { position } => {
                let reason = format!("the log ends at {}, before the position {position}", facts.high);
                let since = *beyond.entry(at.clone()).or_insert_with(Instant::now);
                return Ok(if since.elapsed() < BEYOND_MAX {
                    Outcome::Again(reason)
                } else {
                    Outcome::Halt("log-changed", format!("{reason}: the topic was recreated or truncated"))
                });
            }
        };
        beyond.remove(at);
        let mut state = facts.state;
        if !keep_checks {
            (state.last, state.unread) = (None, None);
        }
        state.epoch += 1;
        let store_id = facts.store_id.unwrap_or_else(|| {
            let marked = facts.commit.and_then(|c| c.ours).filter(|m| !m.store_id.is_empty());
            marked.map_or_else(token, |m| m.store_id)
        });
        if exactly && !self.take(redis, at, &store_id, &state, position)? {
            return Ok(Outcome::Again("another bridge claimed it at the same time".into()));
        }
        let (opening, begin, lost) = self.opening(request, &state, position, facts.low, exactly);
        Ok(Outcome::Claimed(Box::new(Claimed { opening, begin, epoch: state.epoch, note: lost.or(note), store_id, low: facts.low })))
    }

    /// Asks Kafka and Redis all that a claim weighs. The state stays under WATCH.
    fn facts(&self, redis: &mut Connection, request: &Request, exactly: bool) -> Result<Result<Facts, Outcome>, Failure> {
        let at = &request.at;
        let kafka = || -> Result<_, String> {
            let (low, high) = self.log.watermarks(at)?;
            Ok((low, high, self.log.committed(at)?))
        };
        let (low, high, commit) = match kafka() {
            Ok(facts) => facts,
            Err(why) => return Ok(Err(Outcome::Again(format!("kafka: {why}")))),
        };
        let (state, store_id) = if exactly {
            match self.read(redis, at)? {
                Ok(read) => read,
                Err(outcome) => return Ok(Err(outcome)),
            }
        } else {
            // Without a state the position is ours alone, else Kafka's.
            (State { offset: request.memory.or(commit.as_ref().map(|c| c.offset)), ..State::default() }, None)
        };
        let start = match self.start(redis, at, low, high, exactly && state.offset.is_none() && commit.is_none())? {
            Ok(start) => start,
            Err(why) => return Ok(Err(Outcome::Again(format!("kafka: {why}")))),
        };
        let on_state_lost = match self.config.redis.on_state_lost {
            crate::config::OnStateLost::Halt => OnStateLost::Halt,
            crate::config::OnStateLost::Resume => OnStateLost::Resume,
        };
        let commit = if exactly { commit } else { None };
        Ok(Ok(Facts { state, memory: request.memory, commit, store_id, low, high, start, on_state_lost }))
    }

    /// Reads the state under WATCH, and the store's id.
    fn read(&self, redis: &mut Connection, at: &TopicPartition) -> Result<Result<(State, Option<String>), Outcome>, Failure> {
        let (key, id_key) = self.keys(at);
        let mut out = Encoder::default();
        out.command(&[b"WATCH", key.0.as_slice(), id_key.0.as_slice()]);
        out.command(&[b"HGETALL", key.0.as_slice()]);
        out.command(&[b"GET", id_key.0.as_slice()]);
        let replies = redis.exchange(out.bytes(), 3)?;
        if let Some(outcome) = refusal(&replies) {
            return Ok(Err(outcome));
        }
        let id = if let Reply::Text(id) = &replies[2] { Some(String::from_utf8_lossy(id).into_owned()) } else { None };
        Ok(match decode_state(&replies[1]) {
            Ok(state) => Ok((state, id)),
            Err(why) => Err(Outcome::Halt("state-unreadable", format!("the state {} can't be read: {why}", String::from_utf8_lossy(&key.0)))),
        })
    }

    fn keys(&self, at: &TopicPartition) -> (StateKey, StateKey) {
        let prefix = &self.config.redis.state_prefix;
        (StateKey::partition(prefix, &self.config.kafka.group, at), StateKey::store_id(prefix))
    }

    /// What the lane takes over, where to seek to, and what a person should know of records that are gone.
    fn opening(&self, request: &Request, state: &State, position: i64, low: i64, exactly: bool) -> (Opening, i64, Option<String>) {
        let at = &request.at;
        let mut unread = state.unread.filter(|u| *u < position);
        let mut lost = None;
        if let Some(from) = unread.filter(|u| *u < low) {
            lost = Some(format!("outcome-unknown: the replies to {from}..{position} were never read, and Kafka no longer has the records below {low}"));
            unread = state.last.filter(|l| l.offset >= low).map(|_| low);
        }
        let check = state.last.filter(|l| l.offset >= low).map(|last| Check { last, compacted: self.log.compacted(&at.topic) });
        let begin = [Some(position), unread, check.as_ref().map(|c| c.last.offset)].into_iter().flatten().min().unwrap_or(position).max(low);
        let through = (0..self.routes.len()).filter(|r| self.routes[*r].matches(&at.topic)).collect::<Vec<_>>().into();
        let guard = exactly.then(|| Guard { key: self.keys(at).0, owner: self.owner.clone() });
        (Opening { generation: request.generation, at: at.clone(), position, guard, check, unread, through }, begin, lost)
    }

    /// Where a partition begins of which neither a state nor a commit is known. Partitions that came later than the
    /// group's first look at the topic begin at their earliest record, or what came before their discovery is skipped.
    fn start(&self, redis: &mut Connection, at: &TopicPartition, low: i64, high: i64, first: bool) -> Result<Result<i64, String>, Failure> {
        if first {
            let count = match self.log.partitions(&at.topic) {
                Ok(n) => n,
                Err(why) => return Ok(Err(why)),
            };
            let key = format!(
                "{}:topics",
                String::from_utf8_lossy(&StateKey::partition(&self.config.redis.state_prefix, &self.config.kafka.group, &TopicPartition::new("", 0)).0)
            );
            // Under the claim's WATCH, which reads on other keys do not touch.
            redis.command(&["HSETNX", &key, &*at.topic, &count.to_string()])?;
            if let Reply::Text(known) = redis.command(&["HGET", &key, &*at.topic])?
                && String::from_utf8_lossy(&known).parse::<i32>().is_ok_and(|known| at.partition >= known)
            {
                return Ok(Ok(low));
            }
        }
        Ok(self.log.start(at, low, high))
    }

    /// Writes epoch, owner and every other field, empty where unknown. `false`: the state moved meanwhile.
    fn take(&self, redis: &mut Connection, at: &TopicPartition, store_id: &str, state: &State, position: i64) -> Result<bool, Failure> {
        let (key, id_key) = self.keys(at);
        let mut out = Encoder::default();
        out.command(&[b"MULTI"]);
        out.command(&[b"SET", id_key.0.as_slice(), store_id.as_bytes(), b"NX"]);
        let fields: [(&[u8], Vec<u8>); 7] = [
            (b"version", VERSION.to_string().into_bytes()),
            (b"epoch", state.epoch.to_string().into_bytes()),
            (b"owner", self.owner.clone()),
            (b"offset", position.to_string().into_bytes()),
            (b"unread", state.unread.map(|u| u.to_string()).unwrap_or_default().into_bytes()),
            (b"last", state.last.map(|l| l.encode()).unwrap_or_default().into_bytes()),
            (b"routes", self.fingerprint.clone()),
        ];
        out.arg(b"HSET");
        out.arg(&key.0);
        for (name, value) in &fields {
            out.arg(name);
            out.arg(value);
        }
        out.finish();
        out.command(&[b"EXEC"]);
        let replies = redis.exchange(out.bytes(), 4)?;
        match &replies[3] {
            Reply::Array(_) => Ok(true),
            Reply::Nil => Ok(false),
            other => Err(Failure { reason: format!("the claim was refused: {other:?}"), refused: false }),
        }
    }
}

fn refusal(replies: &[Reply]) -> Option<Outcome> {
    use crate::core::reply::{Class, triage};
    let error = replies.iter().find_map(|r| if let Reply::Error(e) = r { Some(e) } else { None })?;
    Some(match triage(error) {
        Class::Transient | Class::Capacity => Outcome::Again(error.clone()),
        _ => Outcome::Halt("refused", format!("Redis refuses the claim: {error}")),
    })
}

fn decode_state(reply: &Reply) -> Result<State, String> {
    let Reply::Array(items) = reply else { return Err(format!("HGETALL answered {reply:?}")) };
    let bytes = |r: &Reply| if let Reply::Text(t) = r { t.clone() } else { Vec::new() };
    let fields: Vec<_> = items.chunks_exact(2).map(|p| (bytes(&p[0]), bytes(&p[1]))).collect();
    State::decode(&fields)
}

/// A random token: an owner's, a store's.
pub fn token() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// How a claim's mode shows in a commit's mark.
pub fn guarantee(config: &crate::config::Redis) -> Guarantee {
    match config.guarantee {
        crate::config::Guarantee::ExactlyOnce => Guarantee::ExactlyOnce,
        crate::config::Guarantee::AtLeastOnce => Guarantee::AtLeastOnce,
    }
}
