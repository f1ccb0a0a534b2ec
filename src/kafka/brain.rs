//! What the poller knows and does.
use super::poller::{Consumer, ROOM_WAIT_MAX};
use crate::app::{Clock, ToPoller};
use crate::core::claim::{Guarantee, Marked};
use crate::core::claimer::{Claimed, Request};
use crate::core::flow::{Entry, Flow, Phase};
use crate::core::lane::{Doubt, Event};
use crate::core::record::{Record, TopicPartition};
use crate::ops::conditions::Conditions;
use crate::ops::status::{PartitionStatus, Position};
use crate::sink::lane::{Input, Load};
use crossbeam_channel::{Receiver, Sender};
use rdkafka::consumer::{CommitMode, Consumer as _, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long a revoke waits for what is in flight.
const REVOKE_WAIT_MAX: Duration = Duration::from_millis(500);
/// How long settled offsets may wait for their commit.
const COMMIT_EVERY: Duration = Duration::from_millis(200);
/// How long Kafka may show an older commit than the one that was sent before that one is sent again.
const COMMIT_SEEN_MAX: Duration = Duration::from_secs(3);

/// How many refused seeks in a row are taken for a partition that is not ready yet.
const SEEKS_REFUSED_MAX: u32 = 1;

/// A lane, as the poller sees it.
pub struct LaneHandle {
    pub inbox: Sender<Input>,
    pub load: Arc<Load>,
}

/// The bounds of a lane's load.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    pub records: usize,
    pub bytes: usize,
}

/// How a stop ended.
#[derive(Clone, Debug)]
pub struct Drained {
    pub positions: Vec<Position>,
    /// Partitions with records that the lanes could not write in time.
    pub left: usize,
    pub fatal: Option<String>,
}

/// See the module's documentation.
pub struct Brain {
    pub flow: Flow,
    pub lanes: Vec<LaneHandle>,
    pub room: Room,
    pub inbox: Receiver<ToPoller>,
    pub claims: Sender<Request>,
    pub conditions: Conditions,
    pub clock: Clock,
    pub guarantee: Guarantee,
    pub drain_deadline: Duration,
    /// Counts the poller's rounds: the watchdog's proof of life.
    pub rounds: Arc<AtomicU64>,
    pub(crate) store_id: String,
    pub(crate) waiting: VecDeque<Box<Claimed>>,
    pub(crate) ends: HashMap<TopicPartition, i64>,
    pub(crate) committed_at: Duration,
    pub(crate) joined: bool,
    pub(crate) redis_seen: bool,
    pub(crate) stop: Option<Option<String>>,
    pub(crate) draining: Option<Draining>,
}

pub(crate) struct Draining {
    until: Duration,
    open: BTreeSet<u64>,
    left: usize,
}

impl Brain {
    /// Asks for a stop; with a reason where it is a failure.
    pub fn stop(&mut self, fatal: Option<String>) {
        self.stop.get_or_insert(fatal);
    }

    pub fn stopping(&self) -> bool {
        self.stop.is_some()
    }

    /// Whether records could flow: the group is joined, Redis has answered.
    pub fn ready(&self) -> bool {
        let away = ["redis-unreachable", "kafka-unreachable"].iter().any(|c| self.conditions.holds(c));
        self.joined && self.redis_seen && !away && !self.stopping()
    }

    /// Hands a record to its lane.
    pub fn record(&mut self, message: &BorrowedMessage<'_>) {
        let Some(entry) = self.flow.get(message.topic(), message.partition()).filter(|e| e.phase == Phase::Open) else { return };
        let (generation, lane) = (entry.generation, entry.lane);
        let headers = message.headers();
        let headers = headers.iter().flat_map(|h| h.iter()).map(|h| (h.key, h.value));
        let record = Record::copy(entry.at.clone(), message.offset(), message.timestamp().to_millis(), message.key(), message.payload(), headers);
        let handle = &self.lanes[lane];
        handle.load.records.fetch_add(1, Ordering::Relaxed);
        handle.load.bytes.fetch_add(record.weight(), Ordering::Relaxed);
        let _ = handle.inbox.send(Input::Record(generation, record));
        if self.over(lane, 1) {
            self.make_room(lane);
        }
    }

    fn over(&self, lane: usize, divisor: usize) -> bool {
        let load = &self.lanes[lane].load;
        load.records.load(Ordering::Relaxed) >= self.room.records / divisor || load.bytes.load(Ordering::Relaxed) >= self.room.bytes / divisor
    }

    /// Waits a moment for a full lane, else marks it full, which pauses its partitions.
    fn make_room(&mut self, lane: usize) {
        let until = self.clock.now() + ROOM_WAIT_MAX;
        while self.over(lane, 1) && !self.flow.is_full(lane) {
            let left = until.saturating_sub(self.clock.now());
            match self.inbox.recv_timeout(left) {
                Ok(message) => self.note(message),
                Err(_) => self.flow.set_full(lane, true),
            }
        }
    }

    /// Everything that is due.
    pub fn tick(&mut self, consumer: &Consumer) {
        self.rounds.fetch_add(1, Ordering::Relaxed);
        while let Ok(message) = self.inbox.try_recv() {
            self.note(message);
        }
        self.open_claimed(consumer);
        for lane in 0..self.lanes.len() {
            if self.flow.is_full(lane) && !self.over(lane, 2) {
                self.flow.set_full(lane, false);
            }
        }
        if self.draining.is_none() {
            for (at, generation, memory) in self.flow.due_claims(self.clock.now()) {
                let _ = self.claims.send(Request { at, generation, memory });
            }
        }
        let (pause, resume) = self.flow.sync_pauses();
        let report = |what: &str, result: KafkaResult<()>| {
            if let Err(e) = result {
                tracing::debug!("{what}: {e}");
            }
        };
        if !pause.is_empty() {
            report("pause", consumer.pause(&list(&pause)));
        }
        if !resume.is_empty() {
            report("resume", consumer.resume(&list(&resume)));
        }
        if self.clock.now() >= self.committed_at + COMMIT_EVERY {
            self.commit(consumer);
        }
    }

    /// Commits what is settled and not yet committed.
    fn commit(&mut self, consumer: &Consumer) {
        self.committed_at = self.clock.now();
        let positions = self.flow.to_commit();
        if positions.is_empty() {
            return;
        }
        let mark = Marked { guarantee: self.guarantee, store_id: self.store_id.clone() }.encode();
        let mut offsets = TopicPartitionList::with_capacity(positions.len());
        for (at, position) in &positions {
            if offsets.add_partition_offset(&at.topic, at.partition, Offset::Offset(*position)).is_ok()
                && let Some(mut element) = offsets.find_partition(&at.topic, at.partition)
            {
                element.set_metadata(&mark);
            }
        }
        // librdkafka tells nothing of an asynchronous commit's end; the statistics show what Kafka has.
        if let Err(e) = consumer.commit(&offsets, CommitMode::Async) {
            tracing::debug!("commit: {e}");
            positions.iter().for_each(|(at, _)| self.flow.uncommitted(&at.topic, at.partition));
        }
    }

    /// Takes a message that does not need the consumer; claims wait for [`Self::tick`].
    fn note(&mut self, message: ToPoller) {
        match message {
            ToPoller::Lane(lane, event) => self.lane_event(lane, event),
            ToPoller::Claimed(claimed) => {
                self.redis_seen = true;
                self.waiting.push_back(claimed);
            }
            ToPoller::ClaimHalted { generation, code, reason } => {
                self.redis_seen = true;
                self.halt(generation, code, &reason);
            }
            ToPoller::ClaimFailed { generation, why } => {
                tracing::debug!(generation, "claim: {why}");
                self.flow.reclaim(generation, self.clock.now(), rand::random());
            }
            ToPoller::RedisUp => self.redis_seen = true,
            ToPoller::Fatal(reason) => self.stop(Some(reason)),
        }
    }

    fn lane_event(&mut self, lane: usize, event: Event) {
        match event {
            Event::Settled { generation, range } => {
                if let Err(e) = self.flow.settle(generation, range) {
                    tracing::error!(code = "bug", generation, "a settled range does not continue the ledger: {e:?}");
                    self.flow.reclaim(generation, self.clock.now(), rand::random());
                }
            }
            Event::Reclaim { generation, why } => {
                self.let_go(generation, true);
                if let Some(entry) = self.flow.of(generation) {
                    let subject = entry.at.to_string();
                    match why {
                        // Told by the claimer, for all partitions in one.
                        Doubt::Disconnected(_) => tracing::debug!(subject, "claiming again: {why}"),
                        _ => self.conditions.raise(why.code(), &subject, &format!("{subject}: {why}"), "it is claimed again by itself"),
                    }
                }
                self.flow.reclaim(generation, self.clock.now(), rand::random());
            }
            Event::Halt { generation, code, reason } => {
                self.let_go(generation, true);
                self.halt(generation, code, &reason);
            }
            Event::Hold { generation, hold } => self.flow.hold(generation, hold),
            Event::Closed { generation } => self.let_go(generation, false),
            Event::Trouble(Some((code, error))) => {
                let remedy = match code {
                    "redis-oom" => "Redis is at its maxmemory: give it more, shorten streams (maxlen), or set TTLs; the bridge resumes by itself",
                    _ => "the bridge retries by itself; see Redis' log if it lasts",
                };
                self.conditions.raise(code, &format!("lane {lane}"), &error, remedy);
            }
            Event::Trouble(None) => ["redis-oom", "redis-refuses"].iter().for_each(|c| self.conditions.clear(c, &format!("lane {lane}"))),
            Event::Buried { code, reason } => tracing::debug!(code, "dead letter: {reason}"),
        }
    }

    fn let_go(&mut self, generation: u64, left: bool) {
        if let Some(draining) = &mut self.draining
            && draining.open.remove(&generation)
        {
            draining.left += usize::from(left);
        }
    }

    fn halt(&mut self, generation: u64, code: &'static str, reason: &str) {
        if let Some(entry) = self.flow.of(generation) {
            let remedy = match code {
                "poison" => "set [dead_letter] to keep such records, or correct the route; then restart",
                "state-lost" => "set redis.on_state_lost, then restart",
                _ => "correct what the message names, then restart the bridge",
            };
            self.conditions.alert(code, &entry.at.to_string(), &format!("{} is halted: {reason}", entry.at), remedy);
        }
        self.flow.halt(generation, code, reason.to_owned());
    }

    /// Seeks the partitions whose claim succeeded, and lets their records flow.
    fn open_claimed(&mut self, consumer: &Consumer) {
        for _ in 0..self.waiting.len() {
            let Some(claimed) = self.waiting.pop_front() else { return };
            let generation = claimed.opening.generation;
            let Some(entry) = self.flow.of(generation).filter(|e| matches!(e.phase, Phase::Claiming { .. })) else { continue };
            let (at, lane) = (entry.at.clone(), entry.lane);
            let sought = consumer
                .seek_partitions(list_at([(&at, claimed.begin)]), Duration::from_secs(1))
                .and_then(|list| list.elements().iter().try_for_each(|e| e.error()));
            if let Err(e) = sought {
                tracing::debug!(partition = %at, "seek: {e}");
                if self.flow.seek_refused(generation) > SEEKS_REFUSED_MAX {
                    self.assign_again(consumer, &at, claimed.begin);
                }
                // Claimed again shortly, under a number of its own.
                self.flow.reclaim(generation, self.clock.now(), rand::random());
                continue;
            }
            if let Some(note) = &claimed.note {
                tracing::warn!(code = "claim", partition = %at, "{note}");
            }
            tracing::info!(partition = %at, position = claimed.opening.position, epoch = claimed.epoch, "claimed");
            self.store_id.clone_from(&claimed.store_id);
            self.conditions.clear_subject(&at.to_string());
            self.flow.opened(generation, claimed.opening.position, claimed.epoch);
            let _ = self.lanes[lane].inbox.send(Input::Open(Box::new(claimed.opening)));
        }
    }

    /// A partition that librdkafka does not fetch any more (its offset was out of range) can't be sought either. It is
    /// assigned again: alone where the protocol allows, else with all others, which are then claimed again too.
    fn assign_again(&mut self, consumer: &Consumer, at: &TopicPartition, begin: i64) {
        let done = if matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative) {
            let one = list_at([(at, begin)]);
            let done = consumer.incremental_unassign(&one).and_then(|()| consumer.incremental_assign(&one));
            done.and_then(|()| consumer.pause(&one))
        } else {
            self.flow.iter().filter(|e| e.phase == Phase::Open).map(|e| e.generation).collect::<Vec<_>>().into_iter().for_each(|g| self.claim_again(g));
            let all = list_at(self.flow.iter().map(|e| (&e.at, if e.at == *at { begin } else { e.memory().unwrap_or(0) })));
            consumer.assign(&all).and_then(|()| consumer.pause(&all))
        };
        tracing::debug!(partition = %at, "assigned again at {begin}: {done:?}");
    }

    /// Takes an open partition from its lane and claims it again.
    fn claim_again(&mut self, generation: u64) {
        if let Some(entry) = self.flow.of(generation) {
            let _ = self.lanes[entry.lane].inbox.send(Input::Close(generation));
        }
        self.flow.reclaim(generation, self.clock.now(), rand::random());
    }

    /// Where to assign a partition of which no more is known: an offset as such, since a logical one is looked up while
    /// the claim runs, and librdkafka 2.12 lets that answer undo the seek which came in between (tried: records were
    /// skipped in silence). It is not fetched from there: the partition is paused, and sought when it is claimed.
    pub fn place(&self, topic: &str, partition: i32) -> i64 {
        self.ends.get(&TopicPartition::new(topic, partition)).copied().unwrap_or(0)
    }

    /// Partitions were assigned: they are claimed off the poller's thread.
    pub fn assign(&mut self, assigned: &TopicPartitionList) {
        self.joined = true;
        if assigned.count() == 0 {
            return;
        }
        for element in assigned.elements() {
            self.flow.assign(TopicPartition::new(element.topic(), element.partition()));
        }
        self.conditions.clear("topic-missing", "kafka");
    }

    /// Partitions are taken away: what was not sent is discarded, what is in flight is waited for, bounded.
    pub fn revoke(&mut self, consumer: &Consumer, revoked: &TopicPartitionList) {
        if revoked.count() == 0 {
            return;
        }
        let elements = revoked.elements();
        let mut open = BTreeSet::new();
        for element in &elements {
            if let Some((lane, generation)) = self.flow.closing(element.topic(), element.partition()) {
                open.insert(generation);
                let _ = self.lanes[lane].inbox.send(Input::Close(generation));
            }
        }
        // While Redis is in trouble nothing is waited for: the state resolves it at the next claim.
        let troubled = ["redis-unreachable", "redis-oom", "redis-refuses"].iter().any(|c| self.conditions.holds(c));
        let until = self.clock.now() + if troubled { Duration::ZERO } else { REVOKE_WAIT_MAX };
        while !open.is_empty() {
            let Ok(message) = self.inbox.recv_timeout(until.saturating_sub(self.clock.now())) else { break };
            if let ToPoller::Lane(_, Event::Closed { generation } | Event::Reclaim { generation, .. } | Event::Halt { generation, .. }) = &message {
                open.remove(generation);
            }
            self.note(message);
        }
        if !consumer.assignment_lost() {
            self.commit(consumer);
        }
        for element in &elements {
            if let Some(entry) = self.flow.remove(element.topic(), element.partition()) {
                self.let_go(entry.generation, true);
                tracing::info!(partition = %entry.at, position = entry.memory(), "let go");
                self.conditions.clear_subject(&entry.at.to_string());
            }
        }
    }

    pub fn statistics(&mut self, statistics: &Statistics) {
        for (name, topic) in &statistics.topics {
            for (number, partition) in topic.partitions.iter().filter(|(_, p)| p.hi_offset >= 0) {
                if self.flow.get(name, *number).is_some() {
                    let end = if partition.ls_offset >= 0 { partition.ls_offset } else { partition.hi_offset };
                    self.ends.insert(TopicPartition::new(name.as_str(), *number), end);
                    self.flow.seen_committed(name, *number, partition.committed_offset, self.clock.now(), COMMIT_SEEN_MAX);
                }
                // Its offset was out of range: the claim finds what Kafka still has.
                let stalled = self.flow.get(name, *number).filter(|e| e.phase == Phase::Open && partition.fetch_state == "none");
                if let Some(generation) = stalled.map(|e| e.generation) {
                    self.claim_again(generation);
                }
            }
        }
        if statistics.brokers.values().any(|b| b.state == "UP") {
            self.conditions.clear("kafka-unreachable", "kafka");
        }
    }

    pub fn client_error(&mut self, error: &KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => {
                self.conditions.raise("kafka-unreachable", "kafka", reason, "the bridge goes on by itself when a broker answers; check kafka.brokers")
            }
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed | RDKafkaErrorCode::SSL) => {
                self.conditions.alert("kafka-refused", "kafka", reason, "check security.protocol, ssl.* and sasl.* in kafka.properties");
            }
            Some(RDKafkaErrorCode::Fatal) => self.stop(Some(format!("Kafka: {reason}"))),
            _ => tracing::debug!("librdkafka: {error}: {reason}"),
        }
    }

    pub fn poll_error(&mut self, error: &KafkaError) {
        match error {
            KafkaError::MessageConsumptionFatal(code) => self.stop(Some(format!("Kafka: {code}"))),
            KafkaError::MessageConsumption(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                self.conditions.raise("topic-missing", "kafka", "a topic that a route names does not exist", "create it; the bridge takes it up by itself");
            }
            KafkaError::MessageConsumption(RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::GroupAuthorizationFailed) => {
                self.conditions.alert("kafka-refused", "kafka", &error.to_string(), "allow Read on the topics and the group to this client");
            }
            other => tracing::debug!("poll: {other}"),
        }
    }

    /// Stops fetching; the lanes write what they hold, and let go.
    pub fn begin_drain(&mut self, consumer: &Consumer) {
        let all: Vec<TopicPartition> = self.flow.iter().map(|e| e.at.clone()).collect();
        if !all.is_empty() {
            let _ = consumer.pause(&list(&all));
        }
        let open = all.iter().filter_map(|at| self.flow.closing(&at.topic, at.partition)).map(|(_, g)| g).collect();
        for lane in &self.lanes {
            let _ = lane.inbox.send(Input::Drain);
        }
        self.draining = Some(Draining { until: self.clock.now() + self.drain_deadline, open, left: 0 });
    }

    /// Whether the drain has ended: everything is written, or its time is over. The last commit goes out with it, and
    /// the consumer's close waits for it.
    pub fn drained(&mut self, consumer: &Consumer) -> bool {
        let now = self.clock.now();
        let ended = self.draining.as_ref().is_none_or(|d| d.open.is_empty() || now >= d.until);
        if ended {
            self.commit(consumer);
        }
        ended
    }

    /// The report of a stop.
    pub fn finish(&mut self) -> Drained {
        let left = self.draining.as_ref().map_or(0, |d| d.left + d.open.len());
        let positions = self.flow.iter().map(|e| self.position(e)).collect();
        Drained { positions, left, fatal: self.stop.clone().flatten() }
    }

    fn position(&self, e: &Entry) -> Position {
        Position { partition: e.at.to_string(), position: e.memory(), end: self.ends.get(&e.at).copied() }
    }

    /// What /status shows of the partitions.
    pub fn partitions(&self) -> Vec<PartitionStatus> {
        let status = |e: &Entry| PartitionStatus {
            topic: e.at.topic.to_string(),
            partition: e.at.partition,
            position: e.memory(),
            end: self.ends.get(&e.at).copied(),
            lag: e.memory().zip(self.ends.get(&e.at)).map(|(p, end)| (end - p).max(0)),
            epoch: e.epoch,
            lane: e.lane,
            phase: match &e.phase {
                Phase::Claiming { .. } => "claiming",
                Phase::Open => "open",
                Phase::Halted { .. } => "halted",
                Phase::Closing => "closing",
            }
            .into(),
        };
        let mut all: Vec<_> = self.flow.iter().map(status).collect();
        all.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        all
    }
}

fn list_at<'a>(partitions: impl IntoIterator<Item = (&'a TopicPartition, i64)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (at, offset) in partitions {
        let added = list.add_partition_offset(&at.topic, at.partition, Offset::Offset(offset));
        added.expect("an offset is never negative");
    }
    list
}

fn list(partitions: &[TopicPartition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for at in partitions {
        list.add_partition(&at.topic, at.partition);
    }
    list
}
