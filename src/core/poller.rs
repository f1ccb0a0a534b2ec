//! The poller as a machine without I/O: what comes from Kafka, the lanes and the claimer goes in, what is to be done
//! comes out as [`Action`]s.
//!
//! ```text
//! assigned ─▶ claim ─▶ seek ─▶ open ─▶ (pause, resume, commit)* ─▶ closing ─▶ revoked
//!               ▲                │
//!               └─── doubt ◀─────┘
//! ```
mod drain;
#[cfg(test)]
mod end_tests;
mod refused;
mod telling;
#[cfg(test)]
mod tests;

use self::drain::Draining;
use super::claim::{Guarantee, Marked};
use super::claimer::{Claimed, Outcome, Request};
use super::flow::{Entry, Flow, Moment, Phase};
use super::lane::{Doubt, Event, Input};
use super::progress::Progress;
use super::record::TopicPartition;
use super::refusal::Refusal;
use super::telling::{ConditionErrors, Holder, Letters, Telling, Troubles, left_out};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// How long settled offsets may wait for their commit.
const COMMIT_EVERY: Duration = Duration::from_millis(200);
/// How many partitions are sought at once.
const SOUGHT_AT_ONCE: usize = 512;
/// How many refused seeks in a row are taken for a partition that is not ready yet.
const SEEKS_REFUSED_MAX: u32 = 1;

/// What comes to the poller from other threads.
#[derive(Debug)]
pub enum Note {
    Lane(usize, Event),
    Claim {
        generation: u64,
        outcome: Outcome,
    },
    /// How an awaited commit ended.
    Committed(Result<(), String>),
    /// Redis has answered for the first time.
    RedisUp,
    /// The bridge can't go on.
    Fatal(String),
}

/// What the shell is to do.
#[derive(Debug)]
pub enum Action {
    Pause(Vec<TopicPartition>),
    /// Fetch again, from these offsets on.
    Resume(Vec<(TopicPartition, i64)>),
    /// Seek each, for the claim of its generation, to its offset; then call [`Poller::sought`] once for all.
    Seek(Vec<(u64, TopicPartition, i64)>),
    /// The client fetches this partition no more and can't seek it: assign it again, paused.
    AssignAgain {
        at: TopicPartition,
        to: i64,
    },
    /// Commit, with this metadata. `awaited`: answer with [`Note::Committed`].
    Commit {
        positions: Vec<(TopicPartition, i64)>,
        mark: String,
        awaited: bool,
    },
    Claim(Request),
    ToLane(usize, Input),
    Tell(Telling),
}

/// What Kafka's statistics say of a partition.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Where the log ends for us: the last stable offset. Not known where the last fetch was out of range.
    pub end: Option<i64>,
    /// It is not fetched any more: its offset was out of range.
    pub stalled: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Poller {
    flow: Flow,
    guarantee: Guarantee,
    drain_deadline: Duration,
    store_id: String,
    /// Claims that wait for their seek.
    claimed: BTreeMap<u64, Box<Claimed>>,
    ends: HashMap<TopicPartition, i64>,
    /// The commit that is on its way.
    committing: Option<Vec<(TopicPartition, i64)>>,
    commit_due: Duration,
    joined: bool,
    progress: Progress,
    redis_seen: bool,
    troubles: Troubles,
    refusal: Refusal,
    letters: Letters,
    condition_errors: ConditionErrors,
    /// Topics of which it was told that dead letters in them are left out.
    left_out: BTreeSet<Arc<str>>,
    stop: Option<Option<String>>,
    draining: Option<Draining>,
    actions: VecDeque<Action>,
}

impl Poller {
    pub fn new(lanes: usize, guarantee: Guarantee, drain_deadline: Duration) -> Self {
        Self {
            flow: Flow::new(lanes),
            guarantee,
            drain_deadline,
            store_id: String::new(),
            claimed: BTreeMap::new(),
            ends: HashMap::new(),
            committing: None,
            commit_due: Duration::ZERO,
            joined: false,
            progress: Progress::default(),
            redis_seen: false,
            troubles: Troubles::default(),
            refusal: Refusal::default(),
            letters: Letters::default(),
            condition_errors: ConditionErrors::default(),
            left_out: BTreeSet::new(),
            stop: None,
            draining: None,
            actions: VecDeque::new(),
        }
    }

    /// What is to be done next, in this order. `calling_back`: from a rebalance's callback, where no client seeks.
    pub fn next_action(&mut self, calling_back: bool) -> Option<Action> {
        let seeks = |a: &Action| matches!(a, Action::Seek(_) | Action::Resume(_) | Action::AssignAgain { .. });
        let next = self.actions.iter().position(|a| !(calling_back && seeks(a)))?;
        self.actions.remove(next)
    }

    /// Asks for a stop; with a reason where it is a failure.
    pub fn stop(&mut self, fatal: Option<String>) {
        self.stop.get_or_insert(fatal);
    }

    pub fn stopping(&self) -> bool {
        self.stop.is_some()
    }

    /// Why it failed, if it did.
    pub fn fatal(&self) -> Option<String> {
        self.stop.clone().flatten()
    }

    /// Whether records could flow: the group is joined, each partition of the first assignment was opened or could not be, and
    /// Redis has answered. A later rebalance changes nothing of that.
    pub fn ready(&self) -> bool {
        self.progress.opened() && self.redis_seen && !self.stopping()
    }

    pub fn guarantee(&self) -> Guarantee {
        self.guarantee
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.flow.iter()
    }

    pub fn entry(&self, topic: &str, partition: i32) -> Option<&Entry> {
        self.flow.get(topic, partition)
    }

    /// The code of what holds a partition up, as far as the poller knows.
    pub fn held_by(&self, entry: &Entry) -> Option<&'static str> {
        match &entry.phase {
            Phase::Open => self.troubles.of(&Holder::Lane(entry.lane)),
            Phase::Claiming { .. } => self.troubles.of(&Holder::Partition(entry.at.clone())),
            Phase::Halted { code, .. } => Some(code),
            Phase::Confirming { .. } | Phase::Closing => None,
        }
    }

    /// Where a partition's log ends, as far as is known. The statistics may be older than what was settled since.
    pub fn end(&self, at: &TopicPartition) -> Option<i64> {
        let settled = self.entry(&at.topic, at.partition).and_then(Entry::position);
        self.ends.get(at).map(|end| settled.map_or(*end, |position| position.max(*end)))
    }

    /// Some records of a partition were polled, the last one at this offset. The partition, if they are wanted.
    pub fn polled(&mut self, topic: &str, partition: i32, offset: i64) -> Option<&Entry> {
        self.flow.polled(topic, partition, offset)
    }

    /// Whether a lane may take more.
    pub fn set_full(&mut self, lane: usize, full: bool) {
        self.flow.set_full(lane, full);
    }

    pub fn is_full(&self, lane: usize) -> bool {
        self.flow.is_full(lane)
    }

    /// The group was joined, and these partitions were assigned, paused.
    pub fn assigned(&mut self, partitions: Vec<TopicPartition>) {
        self.joined = true;
        partitions.into_iter().for_each(|at| self.flow.assign(at));
    }

    /// Everything that is due.
    pub fn tick(&mut self, now: Duration) {
        if self.draining.is_none() {
            for (at, generation, memory) in self.flow.due_claims(now) {
                self.act(Action::Claim(Request { at, generation, memory }));
            }
        }
        self.tell_letters(now, false);
        self.sync_pauses();
        if self.joined {
            let told = self.progress.look(self.flow.iter(), now);
            self.tell_all(told);
        }
        if now >= self.commit_due && self.committing.is_none() {
            self.commit_due = now + COMMIT_EVERY;
            let positions = self.flow.to_commit(now, |_| true);
            if !positions.is_empty() {
                self.committing = Some(positions.clone());
                self.commit(positions, true);
            }
        }
        if self.committing.is_none() && self.draining.is_none() && self.refusal.is_due(now) {
            self.try_refused(now);
        }
    }

    fn sync_pauses(&mut self) {
        let (pause, resume) = self.flow.sync_pauses();
        if !pause.is_empty() {
            self.act(Action::Pause(pause));
        }
        if !resume.is_empty() {
            self.act(Action::Resume(resume));
        }
    }

    fn commit(&mut self, positions: Vec<(TopicPartition, i64)>, awaited: bool) {
        let mark = Marked { guarantee: self.guarantee, store_id: self.store_id.clone() }.encode();
        self.act(Action::Commit { positions, mark, awaited });
    }

    /// Takes what another thread has to say.
    pub fn note(&mut self, note: Note, moment: Moment) {
        match note {
            Note::Lane(lane, event) => self.lane_event(lane, event, moment),
            Note::Claim { generation, outcome } => {
                self.redis_seen = true;
                self.claim_ended(generation, outcome, moment);
            }
            Note::Committed(result) => {
                if let Err(why) = &result {
                    self.tell(Telling::Debug(format!("commit: {why}")));
                }
                for (at, _) in self.committing.take().unwrap_or_default() {
                    self.flow.committed(&at, result.is_ok(), moment);
                }
                self.refusal.tried(result.is_ok(), moment.now);
            }
            Note::RedisUp => self.redis_seen = true,
            Note::Fatal(reason) => self.stop(Some(reason)),
        }
    }

    fn claim_ended(&mut self, generation: u64, outcome: Outcome, moment: Moment) {
        let Some(entry) = self.flow.of(generation).filter(|e| matches!(e.phase, Phase::Claiming { .. })) else { return };
        match outcome {
            Outcome::Claimed(claimed) => {
                let place = (generation, entry.at.clone(), claimed.begin);
                match self.actions.back_mut() {
                    Some(Action::Seek(places)) if places.len() < SOUGHT_AT_ONCE => places.push(place),
                    _ => self.act(Action::Seek(vec![place])),
                }
                self.claimed.insert(generation, claimed);
            }
            Outcome::Halt { code, reason } => self.halt(generation, code, reason),
            Outcome::Again { code, why } => {
                let text = format!("claim of {}: {why}", entry.at);
                let holder = Holder::Partition(entry.at.clone());
                let told = match code {
                    Some(code) => self.troubles.meet(holder, code, &text),
                    None => self.troubles.leave(&holder),
                };
                self.tell_all(told);
                self.tell(Telling::Debug(text));
                self.flow.reclaim(generation, false, moment);
            }
        }
    }

    /// How the seeks of one action ended. The records of the partitions that were sought flow.
    pub fn sought(&mut self, results: impl IntoIterator<Item = (u64, Result<(), String>)>, mut moment: impl FnMut() -> Moment) {
        results.into_iter().for_each(|(generation, result)| self.sought_one(generation, result, moment()));
        self.sync_pauses();
    }

    fn sought_one(&mut self, generation: u64, result: Result<(), String>, moment: Moment) {
        let Some(claimed) = self.claimed.remove(&generation) else { return };
        let Some(entry) = self.flow.of(generation).filter(|e| matches!(e.phase, Phase::Claiming { .. })) else { return };
        let (at, lane) = (entry.at.clone(), entry.lane);
        if let Err(why) = result {
            self.tell(Telling::Debug(format!("seek of {at}: {why}")));
            if self.flow.seek_refused(generation) > SEEKS_REFUSED_MAX {
                self.act(Action::AssignAgain { at, to: claimed.begin });
            }
            // Claimed again shortly, under a number of its own.
            return self.flow.reclaim(generation, false, moment);
        }
        let Claimed { opening, begin, epoch, notices, store_id } = *claimed;
        self.store_id = store_id;
        self.tell(Telling::ClearSubject(at.to_string()));
        self.out_of_trouble(&Holder::Partition(at.clone()));
        self.tell_all(notices.into_iter().map(|n| Telling::Warn { code: n.code, message: format!("{at}: {}", n.text) }));
        self.tell(Telling::Claimed { at, position: opening.position, epoch });
        self.flow.opened(&opening, begin, epoch);
        self.act(Action::ToLane(lane, Input::Open(Box::new(opening))));
    }

    fn lane_event(&mut self, lane: usize, event: Event, moment: Moment) {
        match event {
            Event::Settled { generation, range, last } => {
                if let Err(e) = self.flow.settle(generation, range, last) {
                    let (subject, message) = (format!("lane {lane}"), format!("a settled range does not continue the ledger: {e:?}"));
                    self.tell(Telling::Alert { code: "bug", subject, message, remedy: "please report it; the partition is claimed again" });
                    self.claim_again(generation, moment);
                }
            }
            Event::Reclaim { generation, why } => {
                self.lane_let_go(generation, true);
                if let Some(entry) = self.flow.of(generation) {
                    let subject = entry.at.to_string();
                    let message = format!("{subject}: {why}");
                    self.tell(match why {
                        // Told by the claimer, for all partitions in one.
                        Doubt::Disconnected(_) => Telling::Debug(message),
                        _ => Telling::Raise { code: why.code(), subject, message, remedy: "it is claimed again by itself" },
                    });
                }
                self.flow.reclaim(generation, why == Doubt::Fenced, moment);
            }
            Event::Halt { generation, code, reason } => {
                self.lane_let_go(generation, true);
                self.halt(generation, code, reason);
            }
            Event::Hold { generation, hold } => self.flow.hold(generation, hold),
            Event::Closed { generation, left } => self.lane_let_go(generation, left),
            Event::Trouble(Some((code, message))) => {
                let told = self.troubles.meet(Holder::Lane(lane), code, &message);
                self.tell_all(told);
            }
            Event::Trouble(None) => self.out_of_trouble(&Holder::Lane(lane)),
            Event::ConditionError { whose, message } => {
                let told = self.condition_errors.meet(whose, message);
                self.tell_all(told);
            }
            Event::Buried { route, code, reason } => {
                self.letters.count(&route, code, reason);
                self.tell_letters(moment.now, false);
            }
            Event::LeftOut { at, offset } => {
                if self.left_out.insert(at.topic.clone()) {
                    self.tell(left_out(&at, offset));
                }
            }
        }
    }

    fn halt(&mut self, generation: u64, code: &'static str, reason: String) {
        if let Some(at) = self.flow.of(generation).map(|e| e.at.clone()) {
            self.out_of_trouble(&Holder::Partition(at.clone()));
            // What it was in doubt of is decided.
            self.tell(Telling::ClearSubject(at.to_string()));
            let remedy = match code {
                "poison" => "set [dead_letter] to keep such records, or correct the route; then restart",
                "redis-hangs-up" => {
                    "raise proto-max-bulk-len of Redis, or what a proxy before it lets through; or allow +config|get to the bridge's user: then such a record becomes a dead letter; then restart"
                }
                "state-lost" => "set redis.on_state_lost, then restart",
                "history-gone" => "set where it goes on: kafka-redis-bridge rewind --topic TOPIC --partition N --to-offset earliest; then restart",
                _ => "correct what the message names, then restart the bridge",
            };
            self.tell(Telling::Alert { code, subject: at.to_string(), message: format!("{at} is halted: {reason}"), remedy });
        }
        self.flow.halt(generation, code, reason);
    }

    /// Takes a partition from its lane and claims it again.
    fn claim_again(&mut self, generation: u64, moment: Moment) {
        if let Some(lane) = self.flow.of(generation).map(|e| e.lane) {
            self.act(Action::ToLane(lane, Input::Close(generation)));
        }
        self.flow.reclaim(generation, false, moment);
    }

    /// All of them, since the client was told to begin anew; returns where each is to be assigned.
    pub fn claim_all_again(&mut self, moment: Moment) -> Vec<(TopicPartition, i64)> {
        let open: Vec<u64> = self.flow.iter().filter(|e| e.phase == Phase::Open).map(|e| e.generation).collect();
        open.into_iter().for_each(|g| self.claim_again(g, moment));
        self.flow.iter().map(|e| (e.at.clone(), e.position().unwrap_or(0))).collect()
    }

    /// Where to assign a partition of which no more is known: an offset as such, since a logical one is looked up while
    /// the claim runs, and librdkafka 2.12 lets that answer undo the seek which came in between (tried: records were
    /// skipped in silence). It is not fetched from there: the partition is paused, and sought when it is claimed.
    pub fn place(&self, topic: &str, partition: i32) -> i64 {
        self.end(&TopicPartition::new(topic, partition)).unwrap_or(0)
    }

    /// Takes the statistics' word on a partition. Returns whether its log goes on behind its position although all of its
    /// records are settled: what is there may be no record, so call [`Self::passed`].
    pub fn seen(&mut self, topic: &str, partition: i32, seen: Seen, moment: Moment) -> bool {
        let Some(entry) = self.flow.get(topic, partition) else { return false };
        let (at, generation, position) = (entry.at.clone(), entry.generation, entry.position());
        let idle = entry.phase == Phase::Open && !entry.is_busy();
        if let Some(end) = seen.end {
            self.ends.insert(at, end);
        }
        if idle && seen.stalled {
            // The claim finds what Kafka still has.
            self.claim_again(generation, moment);
            return false;
        }
        idle && position < seen.end
    }

    /// The client has handed out everything of a partition that lies below this offset, since the partition was last
    /// sought: what is no record by now (transaction markers, aborted records, compacted ones) will never be one.
    pub fn passed(&mut self, topic: &str, partition: i32, offset: i64) {
        let Some(entry) = self.flow.get(topic, partition).filter(|e| e.phase == Phase::Open && !e.is_busy()) else { return };
        if entry.position().is_some_and(|position| position < offset) {
            self.act(Action::ToLane(entry.lane, Input::Advance(entry.generation, offset)));
        }
    }

    /// Partitions are about to be taken away: what was not sent is discarded. Returns the generations of which a lane
    /// has yet to say that it let go; wait for them, bounded, then call [`Self::revoked`].
    pub fn closing(&mut self, partitions: &[TopicPartition]) -> BTreeSet<u64> {
        let mut open = BTreeSet::new();
        for at in partitions {
            if let Some((lane, generation)) = self.flow.closing(&at.topic, at.partition) {
                open.insert(generation);
                self.act(Action::ToLane(lane, Input::Close(generation)));
            }
        }
        open
    }

    /// Which generation a note says that its lane let go of.
    pub fn lets_go(note: &Note) -> Option<u64> {
        match note {
            Note::Lane(_, Event::Closed { generation, .. } | Event::Reclaim { generation, .. } | Event::Halt { generation, .. }) => Some(*generation),
            _ => None,
        }
    }

    /// Partitions are taken away. `lost`: somebody else has them already, and a commit is no longer ours to make.
    pub fn revoked(&mut self, partitions: &[TopicPartition], lost: bool, now: Duration) {
        let all: HashSet<&TopicPartition> = partitions.iter().collect();
        let positions = self.flow.to_commit(now, |at| !lost && all.contains(at));
        if !positions.is_empty() {
            self.commit(positions, false);
        }
        for at in partitions {
            let Some(entry) = self.flow.get(&at.topic, at.partition) else { continue };
            self.lane_let_go(entry.generation, true);
            let Some(entry) = self.flow.remove(&at.topic, at.partition) else { continue };
            self.claimed.remove(&entry.generation);
            self.tell(Telling::LetGo { at: at.clone(), position: entry.position() });
            let left = self.troubles.forget(&Holder::Partition(at.clone()));
            self.tell_all(left);
            self.tell(Telling::LeaveSubject(at.to_string()));
        }
    }

    fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }
}
