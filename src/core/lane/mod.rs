//! A lane: the ordered path of some partitions from their queues into Redis, as a machine without I/O.
//!
//! ```text
//! take ──▶ queues ──▶ batch ──▶ [guard] ──▶ MULTI commands positions EXEC ──▶ [letters] ──▶ settled
//! ```
//! The shell asks [`Lane::next`] what to do, does it, and hands the answer back: one unanswered exchange at a time, so
//! one unanswered transaction per partition. What the rest of the bridge must know comes out as [`Event`]s.
//!
//! | file | concept |
//! |---|---|
//! | `mod` | the machine: parts, stages, what comes next |
//! | `terms` | its settings, what goes in, what comes out |
//! | `part` | one open partition: queue, guard, checks |
//! | `ahead` | the next batch, rendered while the last one is in flight |
//! | `index` | the index of keys, kept with the data |
//! | `collapse` | of several SETs of a key in a transaction the last |
//! | `batch` | from the queues to a transaction's bytes |
//! | `answer` | from the replies to what is settled, put back, reclaimed or halted |
//! | `burial` | dead letters that must be durable before their partitions go on |
//! | `doubt` | why a partition is claimed again |
//! | `recheck` | the records whose replies a crash left unread |
//! | `oversize` | records that are larger than Redis takes |
//! | `compare` | a replay's look at what stands in Redis before it writes |
//! | `survey` | a rebuild's look at the keys that it is about to write to |
mod ahead;
mod answer;
mod batch;
mod burial;
mod collapse;
mod compare;
mod doubt;
mod index;
mod oversize;
mod part;
mod recheck;
mod survey;
mod terms;
#[cfg(test)]
mod tests;

use self::batch::Batch;
use self::burial::Burial;
use self::compare::{Comparison, Job};
pub use self::doubt::Doubt;
pub use self::index::Index;
use self::oversize::Suspect;
pub use self::part::{Check, Guard, Opening};
use self::part::{Part, Pending};
use self::recheck::Recheck;
use self::survey::Survey;
pub use self::terms::{Event, Input, Letters, Next, Settings, Span, Tally, Unburied};
use super::encode::Encoder;
use super::record::{Record, TopicPartition};
use super::retry::Backoff;
use super::route::{self, Route};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How old a guard may be when its transaction is sent. On Redis 6.2 a full resync can escape WATCH.
const GUARD_AGE_MAX: Duration = Duration::from_secs(1);
/// How long a partition is idle before what marks its last batch as unread is cleared.
const IDLE_BEFORE_CLEAR: Duration = Duration::from_secs(1);
/// How often the states of quiet partitions are compared; a batch compares those of its own. So long a rewind waits for them.
const AUDIT_EVERY: Duration = Duration::from_secs(1);
/// How many states one audit compares, those first that were not compared for longest: with more partitions it takes longer to come
/// round, and costs no more.
const AUDIT_MAX: usize = 100;

enum Stage {
    Idle,
    /// The keys that a rebuilding batch would write to are being looked at.
    Surveying(Survey),
    /// None of them survived the loss.
    Surveyed(Batch),
    /// The keys that a replay would write to are being compared.
    Comparing(Comparison),
    /// Some would be written; their keys were not watched yet.
    Looked(Comparison),
    /// What is left of the batch may go.
    Compared(Batch),
    /// The guard of this batch is being read.
    Guarding(Batch),
    /// The batch's transaction is out.
    Committing(Batch),
    /// The guard of the letters' transaction is being read.
    GuardingBurial(Burial),
    /// The letters' transaction is out.
    Burying(Burial),
    /// The types of the keys of a recheck are being read.
    Rechecking(Recheck),
    Auditing(Vec<u64>),
}

/// See the module's documentation.
pub struct Lane {
    settings: Settings,
    /// The routes as a rebuild applies them.
    rebuilding: Arc<[Route]>,
    tallies: Arc<[Tally]>,
    parts: BTreeMap<u64, Part>,
    stage: Stage,
    /// The batch after the one in flight; its bytes are in `tx`, since those of what is in flight are written.
    ahead: Option<Batch>,
    /// How many records fill a batch, by the last one.
    whole: usize,
    /// Letters that wait to be made durable, or for that to be tried again.
    burial: Option<Burial>,
    /// Letters that are on their way into the dead-letter topic.
    producing: Option<Burial>,
    tx: Encoder,
    aux: Encoder,
    context: route::Context,
    events: Vec<Event>,
    /// Topics of which it was told that letters in them are left out.
    left_out: BTreeSet<Arc<str>>,
    released: (usize, usize),
    backoff: Backoff,
    wait_until: Option<Duration>,
    /// What Redis refuses everything with for now, as it was told.
    troubled: Option<&'static str>,
    unwatch: bool,
    sent_at: Duration,
    audit_due: Duration,
    queued_since: Option<Duration>,
    turn: u64,
    draining: bool,
    job: Option<Job>,
    index: Option<Index>,
    /// How long an argument may be, where Redis tells it.
    bulk_max: Option<usize>,
    /// What was in flight when Redis closed the connection.
    suspects: BTreeMap<TopicPartition, Suspect>,
}

impl Lane {
    pub fn new(settings: Settings, tallies: Arc<[Tally]>) -> Self {
        Self {
            rebuilding: route::without_publish(&settings.routes),
            whole: settings.records_max,
            settings,
            tallies,
            parts: BTreeMap::new(),
            stage: Stage::Idle,
            ahead: None,
            burial: None,
            producing: None,
            tx: Encoder::default(),
            aux: Encoder::default(),
            context: route::Context::default(),
            events: Vec::new(),
            left_out: BTreeSet::new(),
            released: (0, 0),
            backoff: Backoff::default(),
            wait_until: None,
            troubled: None,
            unwatch: false,
            sent_at: Duration::ZERO,
            audit_due: AUDIT_EVERY,
            queued_since: None,
            turn: 0,
            draining: false,
            job: None,
            index: None,
            bulk_max: None,
            suspects: BTreeMap::new(),
        }
    }

    /// What time the wall clock shows, in ms since the epoch: what explicit stream ids are compared with.
    pub fn set_wall_clock(&mut self, now_ms: i64) {
        self.context.now_ms = now_ms;
    }

    pub fn take(&mut self, input: Input, now: Duration) {
        match input {
            Input::Open(opening) => _ = self.parts.insert(opening.generation, Part::new(*opening, now)),
            Input::Records(generation, records) => records.into_iter().for_each(|record| self.push(generation, record, now)),
            Input::Advance(generation, to) => {
                if let Some(Err(reason)) = self.parts.get_mut(&generation).map(|p| p.advance(to)) {
                    self.halt(generation, "log-changed", reason);
                }
            }
            Input::Close(generation) => self.close(generation),
            Input::Buried(result) => self.produced(result),
            Input::Drain => self.draining = true,
        }
    }

    /// Takes a record. One of an older generation is discarded: it is no hole, and not ours to settle.
    fn push(&mut self, generation: u64, record: Record, now: Duration) {
        let Some(part) = self.parts.get_mut(&generation).filter(|p| !p.closing) else {
            return self.release(&record);
        };
        match part.take(record) {
            part::Taken::Queued => {
                self.queued_since.get_or_insert(now);
                self.hold_if_full(generation);
            }
            part::Taken::Checked(record) => self.release(&record),
            part::Taken::Halt(record, reason) => {
                self.release(&record);
                self.halt(generation, "log-changed", reason);
            }
        }
    }

    fn close(&mut self, generation: u64) {
        let by_topic = self.settings.letters == Letters::Topic;
        match self.parts.get_mut(&generation) {
            // Its letters may be on their way for long; `unread` keeps them for the next owner.
            Some(part) if part.owes_letters && by_topic => {
                part.closing = true;
                self.reclaim(generation, Doubt::Moved);
            }
            Some(part) => {
                part.closing = true;
                self.discard_queue(generation);
            }
            None => self.events.push(Event::Closed { generation, left: false }),
        }
    }

    /// The bytes of the exchange that [`Self::next`] asked for.
    pub fn outgoing(&self) -> &[u8] {
        match self.stage {
            Stage::Committing(_) => self.tx.bytes(),
            _ => self.aux.bytes(),
        }
    }

    /// What came up since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Records and bytes that left the lane for good since the last call.
    pub fn take_released(&mut self) -> (usize, usize) {
        std::mem::take(&mut self.released)
    }

    /// The connection is gone, and with it all that was known of the states: every partition is claimed again.
    pub fn lost(&mut self, why: &str) {
        let batch = match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Surveying(Survey { batch, .. }) | Stage::Surveyed(batch) | Stage::Guarding(batch) | Stage::Committing(batch) => Some(batch),
            Stage::Comparing(c) | Stage::Looked(c) => Some(c.batch),
            Stage::Compared(batch) => Some(batch),
            _ => None,
        };
        for entry in batch.into_iter().flat_map(|b| b.entries) {
            self.release(&entry.pending.record);
        }
        self.burial = None;
        self.unwatch = false;
        let generations: Vec<u64> = self.parts.keys().copied().collect();
        for generation in generations {
            self.reclaim(generation, Doubt::Disconnected(why.to_owned()));
        }
    }

    /// What to do next. `now` is the time since the process began.
    pub fn next(&mut self, now: Duration) -> Next {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            // Its guard has just been read and holds.
            stage @ (Stage::Committing(_) | Stage::Burying(_)) => return self.exchange(stage, now),
            // What came in meanwhile may have halted one of its partitions.
            Stage::Surveyed(batch) | Stage::Compared(batch) | Stage::Looked(Comparison { batch, .. })
                if batch.generations().iter().any(|g| !self.parts.contains_key(g)) =>
            {
                self.drop_watches();
                self.unbuild(batch);
            }
            Stage::Surveyed(batch) => return self.send_rebuilding(batch, now),
            Stage::Looked(comparison) => return self.question(comparison, now),
            Stage::Compared(batch) => return self.send_batch(batch, now),
            _ => {}
        }
        if let Some(until) = self.wait_until {
            if now < until {
                return Next::Wait(Some(until));
            }
            self.wait_until = None;
        }
        if let Some(next) = self.next_burial(now) {
            return next;
        }
        if let Some(next) = self.next_recheck(now) {
            return next;
        }
        if let Some(next) = self.next_audit(now) {
            return next;
        }
        if let Some(next) = self.let_go(now) {
            return next;
        }
        match self.next_batch(now) {
            Some(batch) if self.job.is_some() => self.compare(batch, now),
            Some(batch) if batch.grown.is_empty() => self.send_batch(batch, now),
            Some(batch) => self.survey(batch, now),
            None => self.idle(now),
        }
    }

    /// Lets the closing partitions go, however busy the others are; what marks their last batch as unread is cleared first.
    fn let_go(&mut self, now: Duration) -> Option<Next> {
        let closing: Vec<u64> = self.parts.iter().filter(|(_, p)| p.closing && !p.dirty && !p.owes_letters).map(|(g, _)| *g).collect();
        for generation in closing {
            // What a former owner left unread and was not decided about stands in the state.
            let left = self.parts.remove(&generation).is_some_and(|p| p.guard.is_some() && p.unread.is_some());
            self.events.push(Event::Closed { generation, left });
        }
        let dirty: Vec<u64> = self.parts.iter().filter(|(_, p)| p.closing && p.may_clear()).map(|(g, _)| *g).collect();
        (!dirty.is_empty()).then(|| self.send_batch(Batch::clearing(&self.parts, &dirty), now))
    }

    /// Nothing to write: a drain ends, `unread` is cleared, or the next thing to happen is waited for.
    fn idle(&mut self, now: Duration) -> Next {
        if self.parts.is_empty() {
            // Those whom it held up are gone: whether it lasts, nobody here will learn.
            self.out_of_trouble();
        }
        if self.draining {
            // What a throttle or letters on their way hold up is written when they let it, as long as the drain lasts.
            let done: Vec<u64> = self.parts.iter().filter(|(_, p)| !p.is_held_up(now)).map(|(g, _)| *g).collect();
            for generation in done {
                _ = self.parts.get_mut(&generation).map(|p| p.closing = true);
                self.discard_queue(generation);
            }
            if let Some(next) = self.let_go(now) {
                return next;
            }
        }
        let idle = self.idle_parts(now);
        if !idle.is_empty() {
            let batch = Batch::clearing(&self.parts, &idle);
            return self.send_batch(batch, now);
        }
        let linger = self.queued_since.map(|t| t + self.settings.linger).filter(|t| *t > now);
        let clear = self.parts.values().filter(|p| p.may_clear()).map(|p| p.batched_at + IDLE_BEFORE_CLEAR).min();
        let audit = self.parts.values().any(|p| p.guard.is_some()).then_some(self.audit_due);
        let held = self.parts.values().filter(|p| p.decided()).filter_map(|p| p.hold_until.filter(|_| !p.queue.is_empty())).min();
        Next::Wait([linger, clear, audit, held].into_iter().flatten().min())
    }

    /// The partitions whose last batch was long enough ago to clear what marks it as unread, and those that have only
    /// their position to move.
    fn idle_parts(&self, now: Duration) -> Vec<u64> {
        let idle = |p: &Part| p.may_advance().is_some() || p.may_clear() && now >= p.batched_at + IDLE_BEFORE_CLEAR;
        self.parts.iter().filter(|(_, p)| idle(p)).map(|(g, _)| *g).collect()
    }

    fn next_audit(&mut self, now: Duration) -> Option<Next> {
        if now < self.audit_due {
            return None;
        }
        self.audit_due = now + AUDIT_EVERY;
        let owned = self.parts.iter().filter(|(_, p)| p.guard.is_some() && !p.closing);
        let due = |p: &Part| p.compared_at.is_none_or(|at| now >= at + AUDIT_EVERY);
        let mut due: Vec<(Option<Duration>, u64)> = owned.filter(|(_, p)| due(p)).map(|(g, p)| (p.compared_at, *g)).collect();
        due.sort_unstable();
        let doubted = due.iter().take_while(|(at, _)| at.is_none()).count();
        due.truncate(doubted.max(AUDIT_MAX));
        if due.is_empty() {
            return None;
        }
        self.aux.clear();
        for (_, generation) in &due {
            self.parts[generation].read_guard(&mut self.aux);
        }
        Some(self.exchange(Stage::Auditing(due.into_iter().map(|(_, g)| g).collect()), now))
    }

    /// Has every state compared at once.
    fn audit_all(&mut self, now: Duration) {
        self.audit_due = now;
        self.parts.values_mut().for_each(|p| p.compared_at = None);
    }

    fn exchange(&mut self, stage: Stage, now: Duration) -> Next {
        let (replies, bytes_min) = match &stage {
            Stage::Committing(batch) => (self.tx.commands(), batch.reply_bytes_min(self.tx.commands())),
            _ => (self.aux.commands(), 1),
        };
        self.stage = stage;
        self.sent_at = now;
        Next::Exchange { replies, bytes_min }
    }

    fn release(&mut self, record: &Record) {
        self.released.0 += 1;
        self.released.1 += record.weight();
    }

    fn discard_queue(&mut self, generation: u64) {
        self.unprepare();
        let Some(part) = self.parts.get_mut(&generation) else { return };
        let dropped: Vec<Pending> = part.queue.drain(..).collect();
        part.abandon_recheck();
        dropped.iter().for_each(|p| self.release(&p.record));
    }

    /// Gives a partition up, to be claimed again.
    fn reclaim(&mut self, generation: u64, why: Doubt) {
        self.discard_queue(generation);
        if let Some(part) = self.parts.remove(&generation) {
            self.events.push(if part.closing { Event::Closed { generation, left: true } } else { Event::Reclaim { generation, why } });
        }
    }

    fn halt(&mut self, generation: u64, code: &'static str, reason: String) {
        self.discard_queue(generation);
        if self.parts.remove(&generation).is_some() {
            self.events.push(Event::Halt { generation, code, reason });
        }
    }

    /// Asks for no more of a partition that a throttle holds back, before it fills the lane.
    fn hold_if_full(&mut self, generation: u64) {
        let share = (self.settings.records_max * 4 / self.parts.len().max(1)).max(16);
        let part = self.parts.get_mut(&generation).expect("just looked up");
        if !part.held && part.hold_until.is_some() && part.queue.len() >= share {
            part.held = true;
            self.events.push(Event::Hold { generation, hold: true });
        }
    }

    fn count(&self, route: usize, add: impl Fn(&Tally) -> (&AtomicU64, u64)) {
        let (counter, n) = add(&self.tallies[route]);
        counter.fetch_add(n, Ordering::Relaxed);
    }
}
