//! Carries a rewind out: the core's exchanges, the records that were left unread, Kafka's commit.
use super::Plan;
use crate::app::{Clock, Shared, claim_settings};
use crate::config::Config;
use crate::config::validate::Valid;
use crate::core::claim::{Guarantee, Marked, Start};
use crate::core::claimer::{LogFacts, Request, Settings};
use crate::core::lane::{Event, Input, Opening, Tally};
use crate::core::poller::Note;
use crate::core::record::TopicPartition;
use crate::core::replay::bounds::{Bound, Held};
use crate::core::reply::Reply;
use crate::core::retry::Backoff;
use crate::core::rewind::{Next, Rewind};
use crate::core::state::{State, StateKey};
use crate::kafka::log::KafkaLog;
use crate::kafka::range::Range;
use crate::ops::conditions::Conditions;
use crate::sink::claim::Log as _;
use crate::sink::connection::{Connection, Connector};
use crossbeam_channel::{Receiver, unbounded};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a rewind that another claim comes before is tried.
const TRIES_MAX: u32 = 40;
/// How long looking at what was left unread may take.
const RESOLVE_MAX: Duration = Duration::from_secs(20);

/// See the module's documentation.
pub(super) struct Apply<'v> {
    valid: &'v Valid,
    topic: &'v str,
    settings: Settings,
    log: KafkaLog,
    redis: Connection,
    facts: BTreeMap<i32, LogFacts>,
}

impl<'v> Apply<'v> {
    pub(super) fn new(valid: &'v Valid, topic: &'v str) -> Result<Self, String> {
        let config = &valid.config;
        let log = KafkaLog::new(&config.kafka, Start::Earliest).map_err(|e| format!("Kafka: {e}"))?;
        let redis = Connector::new(config.redis.clone()).connect().map_err(|e| format!("Redis: {e}"))?;
        Ok(Self { valid, topic, settings: claim_settings(config, valid.lane.routes.clone()), log, redis, facts: BTreeMap::new() })
    }

    /// How many partitions the topic has.
    pub(super) fn partitions(&self) -> Result<i32, String> {
        match self.log.partitions(self.topic).map_err(|e| format!("Kafka: {e}"))? {
            0 => Err(format!("Kafka has no topic {:?}", self.topic)),
            n => Ok(n),
        }
    }

    /// What it means for a partition.
    pub(super) fn plan(&mut self, partition: i32, goal: &Bound) -> Result<Plan, String> {
        let at = self.at(partition);
        let facts = self.log.facts(std::slice::from_ref(&at)).pop().ok_or("Kafka: no answer")?.map_err(|e| format!("Kafka: {}", e.why))?;
        let held = Held { low: facts.low, high: facts.high };
        let found = match goal {
            Bound::Time(ms) => self.log.at_time(&at, *ms).map_err(|e| format!("Kafka: {at}: {e}"))?,
            Bound::Offsets(_) => None,
        };
        let place = goal.resolve(partition, held, found, true).map_err(|e| format!("{at}: {e}"))?;
        let note = match (goal, place.outside) {
            (Bound::Offsets(_), Some(outside)) => return Err(format!("{at}: {outside}")),
            // The earliest is the nearest to what was asked for.
            (_, outside) => outside.or(place.note),
        };
        let position = if self.exactly() {
            let key = self.settings.key(&at);
            let found = self.redis.command(&[b"HGETALL", key.0.as_slice()]).map_err(|e| format!("Redis: {e}"))?;
            State::read(&found).map_err(|e| format!("the state of {at} can't be read: {e}"))?.offset
        } else {
            facts.commit.as_ref().map(|c| c.offset)
        };
        self.facts.insert(partition, facts);
        Ok(Plan { partition, position, to: place.offset, note })
    }

    /// Sets the position in Redis; what a person should know of it.
    pub(super) fn set(&mut self, plan: &Plan) -> Result<Vec<String>, String> {
        let at = self.at(plan.partition);
        let mut notes = Vec::new();
        if !self.exactly() {
            return Ok(notes);
        }
        let low = self.facts[&plan.partition].low;
        let compacted = self.log.compacted(self.topic);
        let mut backoff = Backoff::default();
        for generation in 1..=u64::from(TRIES_MAX) {
            let settings = self.settings.clone();
            let mut rewind = Rewind::new(&settings, Request { at: at.clone(), generation, memory: None }, low, compacted.clone(), plan.to);
            let mut next = rewind.begin();
            loop {
                next = match next {
                    Next::Exchange { replies } => {
                        let answer = self.redis.exchange(rewind.outgoing(), replies).map_err(|e| format!("Redis: {e}; whether {at} was set is not known"))?;
                        rewind.answered(&answer)
                    }
                    Next::Resolve(opening, begin) => {
                        let (position, unread) = (opening.position, opening.unread.unwrap_or(opening.position));
                        if let Err(why) = self.resolve(*opening, begin) {
                            notes.push(format!(
                                "{at}: outcome-unknown: the replies to {unread}..{position} were never read, and nothing more can be told: {why}"
                            ));
                        }
                        rewind.resolved()
                    }
                    Next::Done => return Ok(notes),
                    Next::Failed(why) => return Err(format!("{at}: {why}")),
                    Next::Again => break,
                };
            }
            self.redis.command(&["UNWATCH"]).map_err(|e| format!("Redis: {e}"))?;
            // A busy bridge moves the state with each batch: another moment may fall between two of them.
            std::thread::park_timeout(backoff.next(rand::random()) / 10);
        }
        Err(format!("{at}: its bridge moved the state between reading and writing, {TRIES_MAX} times: stop the bridge, or try when it is less busy"))
    }

    /// A lane decides about the records whose replies nobody read, and empties `unread`.
    fn resolve(&mut self, opening: Opening, begin: i64) -> Result<(), String> {
        let (to_poller, notes) = unbounded();
        let config = Config { redis: crate::config::Redis { lanes: 1, ..self.valid.config.redis.clone() }, ..self.valid.config.clone() };
        let shared = Shared::new(Arc::new(config), Conditions::default(), to_poller, Clock::start(), None);
        let tallies: Arc<[Tally]> = self.valid.lane.routes.iter().map(|_| Tally::default()).collect();
        let lane = shared.lanes(self.valid, &tallies)?.pop().ok_or("no lane was made")?;
        let (at, generation, position) = (opening.at.clone(), opening.generation, opening.position);
        let _ = lane.inbox.send(Input::Open(Box::new(opening)));
        let mut range = Range::new(&self.valid.config.kafka, at.clone(), begin).map_err(|e| e.to_string())?;
        while let Some(record) = range.next(RESOLVE_MAX)? {
            // Nothing at or above the position is applied here.
            if record.offset >= position {
                break;
            }
            let last = record.offset + 1 >= position;
            lane.hand(generation, vec![record]);
            if last {
                break;
            }
        }
        self.wait_resolved(&at, &notes)
    }

    fn wait_resolved(&mut self, at: &TopicPartition, notes: &Receiver<Note>) -> Result<(), String> {
        let (key, until) = (self.settings.key(at), Instant::now() + RESOLVE_MAX);
        while Instant::now() < until {
            match notes.recv_timeout(Duration::from_millis(100)) {
                Ok(Note::Lane(_, Event::Halt { reason, .. })) => return Err(reason),
                Ok(Note::Lane(_, Event::Reclaim { why, .. })) => return Err(why.to_string()),
                _ => {}
            }
            let unread = self.redis.command(&[b"HGET", key.0.as_slice(), b"unread"]).map_err(|e| e.to_string())?;
            if matches!(&unread, Reply::Text(t) if t.is_empty()) {
                return Ok(());
            }
        }
        Err("it took too long".into())
    }

    /// Commits the positions to Kafka, which it takes only while the group has no members: a running bridge does it itself.
    pub(super) fn commit(&mut self, plans: &[Plan]) -> Result<String, String> {
        let store = StateKey::store_id(&self.settings.prefix);
        if self.exactly() {
            // Where no bridge was yet: a commit without an id would be taken for another store's.
            let named = self.redis.command(&[b"SET".as_slice(), &store.0, self.settings.store_id.as_bytes(), b"NX"]);
            named.map_err(|e| format!("Redis: {e}"))?;
        }
        let store_id = match self.redis.command(&[b"GET", store.0.as_slice()]) {
            Ok(Reply::Text(id)) => String::from_utf8_lossy(&id).into_owned(),
            _ => String::new(),
        };
        let mark = Marked { guarantee: self.settings.guarantee, store_id }.encode();
        let positions: Vec<_> = plans.iter().map(|p| (self.at(p.partition), p.to)).collect();
        match self.log.commit(&positions, &mark) {
            Ok(()) => Ok("set, and committed to Kafka; the bridge goes on there when it starts".into()),
            Err(why) if self.exactly() => Ok(format!(
                "set; a running bridge takes it up within two seconds, and a second later for each further 100 quiet partitions of a lane. It commits the position itself: Kafka takes that from no one else while the group has a member ({why})"
            )),
            Err(why) => Err(format!("under at-least-once only Kafka's commit can be set, which it takes while no bridge runs: {why}. Stop the bridge first")),
        }
    }

    fn exactly(&self) -> bool {
        self.settings.guarantee == Guarantee::ExactlyOnce
    }

    fn at(&self, partition: i32) -> TopicPartition {
        TopicPartition::new(self.topic, partition)
    }
}
