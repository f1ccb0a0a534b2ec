//! The claimer: a thread that becomes the owner of partitions, one after the other, off the poller.
//!
//! `WATCH`, read, weigh ([`crate::core::claim`]), `MULTI`, write epoch and owner, `EXEC`. A blind increment would be
//! wrong: given up on and delivered late, it fences its own sender.
use super::connection::{Connection, Connector, Failure};
use super::preflight::{Unfit, preflight};
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
use crossbeam_channel::{Receiver, Sender};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    /// Serves requests until their sender is gone.
    pub fn run(self, requests: &Receiver<Request>) {
        let mut connection: Option<Connection> = None;
        let mut backoff = Backoff::default();
        let mut beyond: HashMap<TopicPartition, Instant> = HashMap::new();
        while let Ok(request) = requests.recv() {
            let message = loop {
                if connection.is_none() {
                    match self.connect() {
                        Ok(c) => {
                            self.conditions.clear("redis-unreachable", "redis");
                            backoff.reset();
                            connection = Some(c);
                        }
                        Err(Unfit::Refused(problems)) => {
                            let _ = self.to_poller.send(ToPoller::Fatal(format!("this Redis can't serve: {}", problems.join("; "))));
                            return;
                        }
                        Err(Unfit::Failed(f)) if f.refused => {
                            let _ = self
                                .to_poller
                                .send(ToPoller::Fatal(format!("Redis refuses us: {f}. Check redis.user, redis.password or redis.password_file, and the ACL")));
                            return;
                        }
                        Err(Unfit::Failed(f)) => {
                            self.conditions.raise(
                                "redis-unreachable",
                                "redis",
                                &f.reason,
                                "records wait in Kafka; the bridge goes on by itself when Redis answers",
                            );
                            // Waiting here is waiting for Redis: no claim can succeed before. Stops at once with the bridge.
                            match self.to_poller.send_timeout(ToPoller::Waiting, Duration::from_secs(1)) {
                                Err(crossbeam_channel::SendTimeoutError::Disconnected(_)) => return,
                                _ => std::thread::park_timeout(backoff.next(rand::random())),
                            }
                            continue;
                        }
                    }
                }
                let Some(c) = connection.as_mut() else { continue };
                match self.claim(c, &request, &mut beyond) {
                    Ok(Outcome::Claimed(claimed)) => break ToPoller::Claimed(claimed),
                    Ok(Outcome::Halt(code, reason)) => break ToPoller::ClaimHalted { generation: request.generation, code, reason },
                    Ok(Outcome::Again(why)) => break ToPoller::ClaimFailed { generation: request.generation, why },
                    Err(_) => connection = None,
                }
            };
            if self.to_poller.send(message).is_err() {
                return;
            }
        }
    }

    fn connect(&self) -> Result<Connection, Unfit> {
        let mut connection = self.connector.connect()?;
        preflight(&mut connection, &self.config, &self.routes)?;
        Ok(connection)
    }

    fn claim(&self, redis: &mut Connection, request: &Request, beyond: &mut HashMap<TopicPartition, Instant>) -> Result<Outcome, Failure> {
        let at = &request.at;
        let exactly = self.config.redis.guarantee == crate::config::Guarantee::ExactlyOnce;
        let kafka = || -> Result<_, String> {
            let (low, high) = self.log.watermarks(at)?;
            Ok((low, high, self.log.committed(at)?))
        };
        let (low, high, commit) = match kafka() {
            Ok(facts) => facts,
            Err(why) => return Ok(Outcome::Again(format!("kafka: {why}"))),
        };
        let prefix = &self.config.redis.state_prefix;
        let key = StateKey::partition(prefix, &self.config.kafka.group, at);
        let id_key = StateKey::store_id(prefix);
        let (state, store_id) = if exactly {
            let mut out = Encoder::default();
            out.command(&[b"WATCH", key.0.as_slice(), id_key.0.as_slice()]);
            out.command(&[b"HGETALL", key.0.as_slice()]);
            out.command(&[b"GET", id_key.0.as_slice()]);
            let replies = redis.exchange(out.bytes(), 3)?;
            if let Some(outcome) = refusal(&replies) {
                return Ok(outcome);
            }
            let state = match decode_state(&replies[1]) {
                Ok(state) => state,
                Err(why) => return Ok(Outcome::Halt("state-unreadable", format!("the state {} can't be read: {why}", String::from_utf8_lossy(&key.0)))),
            };
            let id = if let Reply::Text(id) = &replies[2] { Some(String::from_utf8_lossy(id).into_owned()) } else { None };
            (state, id)
        } else {
            // Without a state the position is ours alone, else Kafka's.
            (State { offset: request.memory.or(commit.as_ref().map(|c| c.offset)), ..State::default() }, None)
        };
        let start = match self.start(redis, at, low, high, exactly && state.offset.is_none() && commit.is_none())? {
            Ok(start) => start,
            Err(why) => return Ok(Outcome::Again(format!("kafka: {why}"))),
        };
        let facts = Facts {
            memory: request.memory,
            commit: if exactly { commit } else { None },
            store_id: store_id.clone(),
            low,
            high,
            start,
            on_state_lost: match self.config.redis.on_state_lost {
                crate::config::OnStateLost::Halt => OnStateLost::Halt,
                crate::config::OnStateLost::Resume => OnStateLost::Resume,
            },
            state,
        };
        let (position, keep_checks, note) = match decide(&facts) {
            Decision::Begin { position, keep_checks, note } => (position, keep_checks, note),
            Decision::Halt { code, reason } => return Ok(Outcome::Halt(code, reason)),
            Decision::Beyond { position } => {
                let since = *beyond.entry(at.clone()).or_insert_with(Instant::now);
                return Ok(if since.elapsed() < BEYOND_MAX {
                    Outcome::Again(format!("the log ends at {high}, before the position {position}"))
                } else {
                    Outcome::Halt("log-changed", format!("the log ends at {high}, before the position {position}: the topic was recreated or truncated"))
                });
            }
        };
        beyond.remove(at);
        let mut state = facts.state;
        if !keep_checks {
            (state.last, state.unread) = (None, None);
        }
        let store_id = store_id.unwrap_or_else(|| {
            facts.commit.as_ref().and_then(|c| c.ours.as_ref()).filter(|m| !m.store_id.is_empty()).map_or_else(|| token(), |m| m.store_id.clone())
        });
        state.epoch += 1;
        if exactly && !self.take(redis, &key, &id_key, &store_id, &state, position)? {
            return Ok(Outcome::Again("another bridge claimed it at the same time".into()));
        }
        Ok(Outcome::Claimed(Box::new(self.opening(request, key, &state, position, low, exactly, note, store_id))))
    }

    #[allow(clippy::too_many_arguments, reason = "one call, all of them facts of one claim")]
    fn opening(
        &self,
        request: &Request,
        key: StateKey,
        state: &State,
        position: i64,
        low: i64,
        exactly: bool,
        mut note: Option<String>,
        store_id: String,
    ) -> Claimed {
        let at = &request.at;
        let mut unread = state.unread.filter(|u| *u < position);
        if let Some(from) = unread.filter(|u| *u < low) {
            note = Some(format!("outcome-unknown: the replies to {from}..{position} were never read, and Kafka no longer has the records below {low}"));
            unread = state.last.filter(|l| l.offset >= low).map(|_| low);
        }
        let check = state.last.filter(|l| l.offset >= low).map(|last| Check { last, compacted: self.log.compacted(&at.topic) });
        let begin = [Some(position), unread, check.as_ref().map(|c| c.last.offset)].into_iter().flatten().min().unwrap_or(position).max(low);
        let through = (0..self.routes.len()).filter(|r| self.routes[*r].matches(&at.topic)).collect::<Vec<_>>().into();
        let guard = exactly.then(|| Guard { key, owner: self.owner.clone() });
        let opening = Opening { generation: request.generation, at: at.clone(), position, guard, check, unread, through };
        Claimed { opening, begin, epoch: state.epoch, note, store_id, low }
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
    fn take(&self, redis: &mut Connection, key: &StateKey, id_key: &StateKey, store_id: &str, state: &State, position: i64) -> Result<bool, Failure> {
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
