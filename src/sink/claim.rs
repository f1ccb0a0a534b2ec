//! The claimer's thread: asks Kafka, carries the core's exchanges to Redis, off the poller, one claim after the other.
use super::connection::{Connection, Connector};
use super::failure::{Failure, Kind};
use super::preflight::{For, eviction, preflight};
use super::vigil::Post;
use crate::app::Clock;
use crate::core::claimer::{self, LogFacts, Next, Outcome, Request};
use crate::core::poller::Note;
use crate::core::record::TopicPartition;
use crate::core::retry::Backoff;
use crate::core::route::{Route, Topics};
use crate::core::words::counted;
use crate::ops::conditions::Conditions;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often Redis is asked whether it is there while nothing is to be claimed.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How many claims at most are asked Kafka about at once. What it said must not be old when Redis is asked.
const CLAIMS_AT_ONCE: usize = 256;

/// Why Kafka did not say what a claim has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// The condition that holds meanwhile.
    pub code: &'static str,
    pub why: String,
}

/// What the claimer asks Kafka.
pub trait Log: Send {
    /// What Kafka knows of these partitions, in their order.
    fn facts(&self, of: &[TopicPartition]) -> Vec<Result<LogFacts, Unanswered>>;
    /// Whether the topic's cleanup policy has compact, or why that can't be read.
    fn compacted(&self, topic: &str) -> Result<bool, String>;
    /// What Kafka has of the topics that routes name or match.
    fn subscribed(&self, wanted: &[Topics]) -> Result<Subscribed, String>;
    /// How many members the group has; `None` where that can't be asked.
    fn members(&self) -> Option<usize>;
}

/// What Kafka has of the topics that routes name or match.
#[derive(Debug, Default)]
pub struct Subscribed {
    /// Names of topics that do not exist.
    pub missing: Vec<String>,
    /// Names of topics that this client may not see.
    pub refused: Vec<String>,
    /// The partitions of those that it sees.
    pub partitions: usize,
}

/// See the module's documentation.
pub struct Claimer<L> {
    pub connector: Connector,
    pub config: Arc<crate::config::Config>,
    pub routes: Arc<[Route]>,
    pub claimer: claimer::Claimer,
    pub log: L,
    pub conditions: Conditions,
    /// What looks whether Redis answers it.
    pub post: Arc<Post>,
    pub to_poller: Sender<Note>,
    /// Set when Kafka does not know a topic.
    pub topic_missing: Arc<AtomicBool>,
    /// Set when Kafka refused something, until it shows all topics that a route names.
    pub topic_refused: Arc<AtomicBool>,
    /// Set while the bridge has no partitions and does not wait for the group.
    pub bare: Arc<AtomicBool>,
    pub clock: Clock,
}

impl<L: Log> Claimer<L> {
    /// Serves requests until their sender is gone. Connects at once: whether Redis is there shows before the first claim.
    pub fn run(mut self, requests: &Receiver<Request>) {
        let mut queue = VecDeque::new();
        let Some(mut redis) = self.connected(requests, &mut queue, true) else { return };
        if self.to_poller.send(Note::RedisUp).is_err() {
            return;
        }
        loop {
            match queue.pop_front().map_or_else(|| requests.recv_timeout(LOOK_EVERY), Ok) {
                Ok(request) => queue.push_front(request),
                Err(RecvTimeoutError::Timeout) => self.look_for_topics(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            queue.extend(requests.try_iter());
            let done = if queue.is_empty() { self.look(&mut redis) } else { self.claim_some(&mut redis, &mut queue) };
            if done.is_err() {
                let Some(again) = self.connected(requests, &mut queue, false) else { return };
                redis = again;
            }
        }
    }

    /// Asks Kafka about some of the claims that wait, at once, and carries one after the other to Redis. What could not be carried
    /// there stays in the queue.
    fn claim_some(&mut self, redis: &mut Connection, queue: &mut VecDeque<Request>) -> Result<(), Failure> {
        let asked: Vec<_> = queue.iter().take(CLAIMS_AT_ONCE).map(|r| r.at.clone()).collect();
        for facts in self.log.facts(&asked) {
            let Some(request) = queue.front() else { break };
            let outcome = match facts {
                Ok(log) => self.claim(redis, request, log)?,
                Err(Unanswered { code, why }) => Outcome::Again { code: Some(code), why: format!("Kafka: {why}") },
            };
            // A poller that is gone shows at the next request.
            let _ = self.to_poller.send(Note::Claim { generation: request.generation, outcome });
            queue.pop_front();
        }
        Ok(())
    }

    /// Connects, however long it takes; requests that come meanwhile are queued. `None`: nobody needs it any more, or
    /// (`first`) this Redis can never serve.
    fn connected(&self, requests: &Receiver<Request>, queue: &mut VecDeque<Request>, first: bool) -> Option<Connection> {
        let mut backoff = Backoff::default();
        loop {
            match self.post.wait(|| self.connect()) {
                Ok((connection, notes)) => {
                    for note in notes.iter().filter(|_| first) {
                        tracing::warn!(code = "redis-unchecked", "{note}");
                    }
                    Failure::over(&self.conditions, self.post.holder());
                    return Some(connection);
                }
                Err(failure) if failure.kind == Kind::Refused && first => {
                    let _ = self.to_poller.send(Note::Fatal(format!(
                        "Redis refuses this bridge: {}. What to do: {}",
                        failure.to_string().trim_end_matches('.'),
                        failure.remedy
                    )));
                    return None;
                }
                Err(failure) => failure.tell(&self.conditions, self.post.holder()),
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

    /// Which of the topics that a route names do not exist or are not ours to see, while there are such; and why the bridge has no
    /// partitions, while it has none.
    fn look_for_topics(&self) {
        let bare = self.bare.load(Ordering::Relaxed);
        if !bare && !self.topic_missing.load(Ordering::Relaxed) && !self.topic_refused.load(Ordering::Relaxed) {
            return;
        }
        let wanted: Vec<Topics> = self.routes.iter().flat_map(|r| r.topics.iter().cloned()).collect();
        let found = match self.log.subscribed(&wanted) {
            Ok(found) => found,
            Err(why) => return tracing::debug!("what Kafka has of the topics: {why}"),
        };
        let patterns = wanted.iter().filter_map(|t| if let Topics::Pattern(pattern) = t { Some(pattern.as_str()) } else { None });
        let unmatched: Vec<&str> = patterns.filter(|_| found.partitions == 0).collect();
        match (found.missing.as_slice(), unmatched.as_slice()) {
            ([], []) => self.conditions.clear("topic-missing", "kafka"),
            (missing, unmatched) => {
                let named = (!missing.is_empty()).then(|| format!("Kafka has no topic {}, which a route names", missing.join(", ")));
                let matched = (!unmatched.is_empty()).then(|| format!("no topic that this client sees matches {}", unmatched.join(", ")));
                let message = named.into_iter().chain(matched).collect::<Vec<_>>().join("; ");
                self.conditions.raise("topic-missing", "kafka", &message, "create it, or allow Describe and Read on it; the bridge takes it up by itself");
            }
        }
        if found.refused.is_empty() {
            self.conditions.clear("kafka-refused", "topics");
        } else {
            let message = format!("Kafka does not let this client see the topic {}, which a route names", found.refused.join(", "));
            self.conditions.alert("kafka-refused", "topics", &message, "allow Describe and Read on it to this client");
        }
        self.topic_missing.store(!found.missing.is_empty() || !unmatched.is_empty(), Ordering::Relaxed);
        self.topic_refused.store(!found.refused.is_empty(), Ordering::Relaxed);
        if bare && found.partitions > 0 {
            let message = standby(self.log.members(), found.partitions);
            self.conditions.raise("no-partitions", "group", &message, "a standby bridge needs nothing: it takes over when a member leaves. Otherwise see who has the partitions: kafka-consumer-groups.sh --describe --members --group GROUP");
        }
    }

    /// Whether Redis is still there, and still keeps what it must.
    fn look(&self, redis: &mut Connection) -> Result<(), Failure> {
        match self.post.wait(|| eviction(redis, &self.config))? {
            Some(why) => self.conditions.alert("redis-evicts", "redis", &why, "set another maxmemory-policy: CONFIG SET maxmemory-policy noeviction"),
            None => self.conditions.clear("redis-evicts", "redis"),
        }
        Ok(())
    }

    fn connect(&self) -> Result<(Connection, Vec<String>), Failure> {
        let mut connection = self.connector.connect()?;
        let server = preflight(&mut connection, &self.config, &self.routes, For::Bridge)?;
        Ok((connection, server.notes))
    }

    fn claim(&mut self, redis: &mut Connection, request: &Request, log: LogFacts) -> Result<Outcome, Failure> {
        let mut next = self.claimer.begin(request.clone(), log, self.clock.now());
        loop {
            match next {
                Next::Done(outcome) => return Ok(outcome),
                Next::AskPolicy => next = self.claimer.policy(self.log.compacted(&request.at.topic), self.clock.now()),
                Next::Exchange { replies } => {
                    let answer = self.post.wait(|| redis.exchange(self.claimer.outgoing(), replies))?;
                    next = self.claimer.answered(&answer, self.clock.now());
                }
            }
        }
    }
}

/// Why a member of the group has no partitions.
fn standby(members: Option<usize>, partitions: usize) -> String {
    match members {
        Some(members) if members > partitions => format!("this bridge stands by: the group has {members} members for {}", counted(partitions, "partition")),
        Some(members) if members > 1 => format!(
            "this bridge has no partitions: the group's {members} members share {}, and the others have them all; every member must read the same topics",
            counted(partitions, "partition")
        ),
        _ => format!("this bridge has no partitions yet: its topics have {}, and the group's coordinator has given it none", counted(partitions, "partition")),
    }
}
