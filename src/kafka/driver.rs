//! What the poller's thread does with librdkafka: what comes from it goes into the core's machine, what the machine
//! asks for is done.
mod heard;

use super::poller::{Consumer, ROOM_WAIT_MAX};
use super::range::records;
use super::statistics::{Broker, Statistics};
use super::trouble::{GROUP_REFUSED, KAFKA_REFUSED};
use crate::app::Clock;
use crate::core::claimer::Request;
use crate::core::flow::{Entry, Moment, Phase};
use crate::core::membership::Membership;
use crate::core::poller::{Action, Note, Poller, Seen};
use crate::core::progress::{self, Census};
use crate::core::record::TopicPartition;
use crate::core::refusal::Elsewhere;
use crate::core::telling::Telling;
use crate::ops::conditions::Conditions;
use crate::ops::status::{PartitionStatus, Position};
use crate::sink::failure::Failure;
use crate::sink::lane::{LaneHandle, Room};
use crossbeam_channel::{Receiver, Sender};
use rdkafka::consumer::{CommitMode, Consumer as _, RebalanceProtocol};
use rdkafka::error::KafkaResult;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long seeks may take: librdkafka's main thread takes note of them, no broker is asked.
const SEEK_MAX: Duration = Duration::from_secs(3);
/// How long a revoke waits for what is in flight.
const REVOKE_WAIT_MAX: Duration = Duration::from_millis(500);

/// How long a stop asks Kafka what it leaves.
const LEFT_WAIT_MAX: Duration = Duration::from_secs(2);

/// How a stop ended.
#[derive(Clone, Debug)]
pub struct Drained {
    pub positions: Vec<Position>,
    /// Partitions with records that the lanes could not write in time.
    pub left: usize,
    /// Partitions that were being claimed, and of which Kafka did not say in time whether they have records.
    pub unknown: usize,
    pub fatal: Option<String>,
}

/// See the module's documentation.
pub struct Driver {
    pub poller: Poller,
    pub lanes: Vec<LaneHandle>,
    pub room: Room,
    pub inbox: Receiver<Note>,
    pub claims: Sender<Request>,
    /// To the thread that waits for commits; gone once the poller ends.
    pub commits: Option<Sender<TopicPartitionList>>,
    pub conditions: Conditions,
    pub clock: Clock,
    /// Set when Kafka does not know a topic; the claimer looks which.
    pub topic_missing: Arc<AtomicBool>,
    /// Set when a broker refused something, until the claimer has found that Kafka shows every topic that a route names.
    pub topic_refused: Arc<AtomicBool>,
    /// What was said at the last refusal: it may name the broker.
    pub refused_by: String,
    pub membership: Membership,
    /// Set while the bridge has no partitions and does not wait for the group; the claimer looks why.
    pub bare: Arc<AtomicBool>,
    /// What the last broker that could not be reached said.
    pub unreached: String,
    /// Why the group was last given up, as the statistics said.
    pub left_group: String,
    /// The latest, until they are looked at: what had been polled before them must have been handed on by then.
    pub statistics: Option<Statistics>,
    /// Counts the poller's rounds: the watchdog's proof of life.
    pub rounds: Arc<AtomicU64>,
}

impl Driver {
    /// Whether records could flow: the partitions that were assigned first are open, Redis has answered, neither is away, and Redis
    /// takes writes. A member that is in the group and has no partitions, since others have them all, is ready: it takes over. A partition
    /// about which Kafka does not answer is no reason while another one is open.
    pub fn ready(&self) -> bool {
        const HINDER: [&str; 7] = ["redis-unreachable", "redis-refused", "redis-refuses", "redis-oom", "kafka-unreachable", "group-waits", GROUP_REFUSED];
        const HINDER_ALL: [&str; 3] = ["kafka-unanswered", KAFKA_REFUSED, "redis-drops-us"];
        let held = |codes: &[&str]| codes.iter().any(|c| self.conditions.holds(c));
        self.poller.ready() && !held(&HINDER) && (!held(&HINDER_ALL) || self.census().open > 0)
    }

    /// How many partitions are assigned, and how far they are.
    pub fn census(&self) -> Census {
        Census::of(self.poller.entries())
    }

    fn moment(&self) -> Moment {
        moment(self.clock)
    }

    /// Hands a burst of messages to their lanes. Kafka gives out one partition's after the other's: each run goes as one.
    pub fn messages(&mut self, burst: &[BorrowedMessage<'_>]) {
        for run in burst.chunk_by(|a, b| a.partition() == b.partition() && a.topic() == b.topic()) {
            let last = &run[run.len() - 1];
            let Some(entry) = self.poller.polled(last.topic(), last.partition(), last.offset()) else { continue };
            let (generation, lane) = (entry.generation, entry.lane);
            self.lanes[lane].hand(generation, records(entry.at.clone(), run));
            if self.lanes[lane].fills(self.room) {
                self.make_room(lane);
            }
        }
    }

    /// Waits a moment for a full lane, else marks it full, which pauses its partitions.
    fn make_room(&mut self, lane: usize) {
        let until = self.clock.now() + ROOM_WAIT_MAX;
        while self.lanes[lane].fills(self.room) && !self.poller.is_full(lane) {
            match self.inbox.recv_timeout(until.saturating_sub(self.clock.now())) {
                Ok(note) => self.poller.note(note, self.moment()),
                Err(_) => self.poller.set_full(lane, true),
            }
        }
    }

    /// Everything that is due.
    pub fn tick(&mut self, consumer: &Consumer) {
        self.rounds.fetch_add(1, Ordering::Relaxed);
        if let Some(statistics) = self.statistics.take() {
            self.look_at(consumer, &statistics);
        }
        while let Ok(note) = self.inbox.try_recv() {
            self.poller.note(note, self.moment());
        }
        for lane in 0..self.lanes.len() {
            if self.poller.is_full(lane) && !self.lanes[lane].fills(self.room.half()) {
                self.poller.set_full(lane, false);
            }
        }
        self.poller.tick(self.clock.now());
        self.perform(consumer, false);
    }

    /// Does what the machine asks for.
    fn perform(&mut self, consumer: &Consumer, calling_back: bool) {
        while let Some(action) = self.poller.next_action(calling_back) {
            let (what, done) = match action {
                Action::Pause(partitions) => ("pause", consumer.pause(&list(&partitions))),
                Action::Resume(places) => ("resume", resume(consumer, &places)),
                Action::Seek(places) => {
                    let sought = seek(consumer, list_at(places.iter().map(|(_, at, to)| (at, *to))));
                    let clock = self.clock;
                    self.poller.sought(places.iter().map(|(generation, ..)| *generation).zip(sought), || moment(clock));
                    continue;
                }
                Action::AssignAgain { at, to } => ("assign again", self.assign_again(consumer, &at, to)),
                Action::Commit { positions, mark, awaited } => ("commit", self.commit(consumer, &positions, &mark, awaited)),
                Action::Claim(request) => {
                    let _ = self.claims.send(request);
                    continue;
                }
                Action::ToLane(lane, input) => {
                    let _ = self.lanes[lane].inbox.send(input);
                    continue;
                }
                Action::Tell(telling) => {
                    self.tell(telling);
                    continue;
                }
            };
            if let Err(e) = done {
                tracing::debug!("{what}: {e}");
            }
        }
    }

    fn commit(&self, consumer: &Consumer, positions: &[(TopicPartition, i64)], mark: &str, awaited: bool) -> KafkaResult<()> {
        let offsets = commit_list(positions, mark);
        match self.commits.as_ref().filter(|_| awaited) {
            Some(commits) => {
                // One at a time, so there is room.
                let _ = commits.send(offsets);
                Ok(())
            }
            None => consumer.commit(&offsets, CommitMode::Async),
        }
    }

    fn tell(&self, telling: Telling) {
        match telling {
            // Redis or Kafka is why, and has a condition of its own.
            Telling::Raise { code: progress::CODE, subject, .. } if self.conditions.holds_of_a_server() => self.conditions.clear(progress::CODE, &subject),
            Telling::Raise { code, subject, message, remedy } => self.conditions.raise(code, &subject, &message, remedy),
            Telling::Alert { code, subject, message, remedy } => self.conditions.alert(code, &subject, &message, remedy),
            Telling::Clear { code, subject } => self.conditions.clear(code, &subject),
            Telling::ClearSubject(subject) => self.conditions.clear_subject(&subject),
            Telling::Leave { code, subject } => self.conditions.leave(code, &subject),
            Telling::LeaveSubject(subject) => self.conditions.leave_subject(&subject),
            Telling::Warn { code, message } => tracing::warn!(code, "{message}"),
            Telling::Claimed { at, position, epoch } => tracing::info!(partition = %at, position, epoch, "claimed"),
            Telling::LetGo { at, position } => tracing::info!(partition = %at, position, "let go"),
            Telling::Debug(text) => tracing::debug!("{text}"),
        }
    }

    /// A partition that librdkafka does not fetch any more (its offset was out of range) can't be sought either. It is
    /// assigned again: alone where the protocol allows, else with all others, which are then claimed again too.
    fn assign_again(&mut self, consumer: &Consumer, at: &TopicPartition, to: i64) -> KafkaResult<()> {
        if matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative) {
            let one = list_at([(at, to)]);
            consumer.incremental_unassign(&one).and_then(|()| consumer.incremental_assign(&one)).and_then(|()| consumer.pause(&one))
        } else {
            let places = self.poller.claim_all_again(self.moment());
            let all = list_at(places.iter().map(|(p, place)| (p, if p == at { to } else { *place })));
            consumer.assign(&all).and_then(|()| consumer.pause(&all))
        }
    }

    /// Partitions were assigned, paused: they are claimed off the poller's thread.
    pub fn assigned(&mut self, assigned: &TopicPartitionList) {
        self.poller.assigned(partitions(assigned));
    }

    /// Partitions are taken away: what was not sent is discarded, what is in flight is waited for, bounded.
    pub fn revoke(&mut self, consumer: &Consumer, revoked: &TopicPartitionList) {
        let revoked = partitions(revoked);
        let mut open = self.poller.closing(&revoked);
        self.perform(consumer, true);
        // While Redis is in trouble nothing is waited for: the state resolves it at the next claim.
        let troubled = ["redis-unreachable", "redis-oom", "redis-refuses"].iter().any(|c| self.conditions.holds(c));
        let until = self.clock.now() + if troubled { Duration::ZERO } else { REVOKE_WAIT_MAX };
        while !open.is_empty() {
            let Ok(note) = self.inbox.recv_timeout(until.saturating_sub(self.clock.now())) else { break };
            if let Some(generation) = Poller::lets_go(&note) {
                open.remove(&generation);
            }
            self.poller.note(note, self.moment());
        }
        self.poller.revoked(&revoked, consumer.assignment_lost(), self.clock.now());
        self.perform(consumer, true);
    }

    fn look_at(&mut self, consumer: &Consumer, statistics: &Statistics) {
        let mut behind = false;
        for (name, topic) in &statistics.topics {
            for (number, p) in &topic.partitions {
                let end = [p.ls_offset, p.hi_offset].into_iter().find(|offset| *offset >= 0);
                let seen = Seen { end, stalled: p.fetch_state == "none" };
                behind |= self.poller.seen(name, *number, seen, self.moment());
            }
        }
        if behind {
            self.passed(consumer);
        }
        let up = |b: &Broker| b.state == "UP";
        let any_up = statistics.brokers.values().any(up);
        if any_up {
            self.conditions.clear("kafka-unreachable", "kafka");
        }
        // A broker that a client is told of by its address alone gets another name when it is known.
        let named = |b: &&Broker| self.refused_by.contains(&b.name) && !b.name.ends_with("/bootstrap");
        let elsewhere = Elsewhere {
            brokers: any_up && statistics.brokers.values().filter(named).all(up),
            topics: !self.topic_refused.load(Ordering::Relaxed),
            member: statistics.cgrp.as_ref().is_some_and(|group| group.state == "up" && group.join_state == "steady"),
        };
        self.poller.elsewhere(elsewhere, self.clock.now());
        self.look_at_group(statistics);
    }

    /// Tells how far librdkafka has handed out each partition. It counts the markers of transactions, which it keeps to
    /// itself, in their place among the records, and forgets it all at a seek.
    fn passed(&mut self, consumer: &Consumer) {
        match consumer.position() {
            Ok(positions) => {
                for element in positions.elements() {
                    if let Offset::Offset(offset) = element.offset() {
                        self.poller.passed(element.topic(), element.partition(), offset);
                    }
                }
            }
            Err(e) => tracing::debug!("position: {e}"),
        }
    }

    /// Stops fetching; the lanes write what they hold, and let go.
    pub fn begin_drain(&mut self, consumer: &Consumer) {
        self.poller.begin_drain(self.clock.now());
        self.perform(consumer, false);
    }

    /// Whether the drain has ended.
    pub fn drained(&mut self, consumer: &Consumer) -> bool {
        let ended = self.poller.drained(self.clock.now());
        self.perform(consumer, false);
        ended
    }

    /// The report of a stop. No more commits are made.
    pub fn finish(&mut self, consumer: &Consumer) -> Drained {
        self.commits = None;
        let position = |e: &Entry| Position { partition: e.at.to_string(), position: e.position(), end: self.poller.end(&e.at) };
        let (left, unknown) = left(consumer, self.poller.doubtful());
        Drained { positions: self.poller.entries().map(position).collect(), left: self.poller.left() + left, unknown, fatal: self.poller.fatal() }
    }

    /// What keeps an open partition's lane from Redis, where the lane has met it.
    fn without_redis(&self, entry: &Entry) -> Option<&'static str> {
        let lane = format!("lane {}", entry.lane);
        Failure::CODES.into_iter().find(|code| entry.phase == Phase::Open && self.conditions.held_by(&lane, code, "redis"))
    }

    /// What /status shows of the partitions.
    pub fn partitions(&self) -> Vec<PartitionStatus> {
        let status = |e: &Entry| {
            let (position, end) = (e.position(), self.poller.end(&e.at));
            let held_by = self.poller.held_by(e).or_else(|| self.without_redis(e));
            PartitionStatus {
                topic: e.at.topic.to_string(),
                partition: e.at.partition,
                position,
                end,
                lag: position.zip(end).map(|(p, end)| (end - p).max(0)),
                epoch: e.epoch,
                lane: e.lane,
                phase: match &e.phase {
                    Phase::Claiming { .. } => "claiming",
                    Phase::Confirming { .. } => "confirming",
                    Phase::Open if held_by.is_some() => "waiting",
                    Phase::Open => "open",
                    Phase::Halted { .. } => "halted",
                    Phase::Closing => "closing",
                }
                .into(),
                held_by: held_by.map(Into::into),
            }
        };
        let mut all: Vec<_> = self.poller.entries().map(status).collect();
        all.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        all
    }
}

fn moment(clock: Clock) -> Moment {
    Moment { now: clock.now(), jitter: rand::random() }
}

/// How many of these partitions have records behind where they are settled, or else behind the group's commit, and of how many
/// Kafka does not say in time.
fn left(consumer: &Consumer, partitions: &[(TopicPartition, Option<i64>)]) -> (usize, usize) {
    let until = Instant::now() + LEFT_WAIT_MAX;
    let (mut left, mut unknown) = (0, 0);
    for (at, position) in partitions {
        let patience = || until.saturating_duration_since(Instant::now());
        let committed = || {
            let found = consumer.committed_offsets(list(std::slice::from_ref(at)), patience()).ok()?;
            found.elements().first().and_then(|e| if let Offset::Offset(offset) = e.offset() { Some(offset) } else { None })
        };
        let begin = position.or_else(|| (!patience().is_zero()).then(committed).flatten());
        let end = begin.filter(|_| !patience().is_zero()).and_then(|_| consumer.fetch_watermarks(&at.topic, at.partition, patience()).ok());
        match (begin, end) {
            (Some(begin), Some((_, end))) => left += usize::from(begin < end),
            _ => unknown += 1,
        }
    }
    (left, unknown)
}

/// Seeks, and says of each place how that ended.
fn seek(consumer: &Consumer, places: TopicPartitionList) -> Vec<Result<(), String>> {
    let count = places.count();
    match consumer.seek_partitions(places, SEEK_MAX) {
        Ok(sought) => sought.elements().iter().map(|e| e.error().map_err(|e| e.to_string())).collect(),
        Err(e) => vec![Err(e.to_string()); count],
    }
}

/// Lets fetch again, from these offsets on. They are where librdkafka would go on, but a resume does not wake its fetching thread,
/// which looks once a second where nothing else is fetched from that broker; a seek does (librdkafka 2.12, measured).
fn resume(consumer: &Consumer, places: &[(TopicPartition, i64)]) -> KafkaResult<()> {
    let places = list_at(places.iter().map(|(at, next)| (at, *next)));
    consumer.resume(&places)?;
    for refused in seek(consumer, places).into_iter().filter_map(Result::err) {
        tracing::debug!("resume: {refused}");
    }
    Ok(())
}

/// Positions as a commit carries them, with this metadata.
pub(super) fn commit_list(positions: &[(TopicPartition, i64)], mark: &str) -> TopicPartitionList {
    let offsets = list_at(positions.iter().map(|(at, position)| (at, *position)));
    for mut element in offsets.elements() {
        element.set_metadata(mark);
    }
    offsets
}

fn partitions(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements().iter().map(|e| TopicPartition::new(e.topic(), e.partition())).collect()
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
