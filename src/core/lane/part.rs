//! One open partition of a lane.
use crate::core::encode::Encoder;
use crate::core::rebuild::{Begun, Rebuild};
use crate::core::record::{Record, TopicPartition};
use crate::core::replay::job::Counts;
use crate::core::reply::Reply;
use crate::core::state::{self, Expected, Guarded, Last, StateKey};
use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// A state in Redis and who we are in it. At-least-once has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    pub key: StateKey,
    pub owner: Vec<u8>,
}

/// What the first records read must prove: that this is the log we knew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub last: Last,
    /// Whether the topic's cleanup policy may have removed that record, or why nobody could tell us.
    pub compacted: Result<bool, String>,
}

impl Check {
    /// The record is gone: whether it may be.
    fn absent(&self) -> Result<(), String> {
        let gone = self.last.offset;
        match &self.compacted {
            Ok(true) => Ok(()),
            Ok(false) => {
                Err(format!("the record that was settled last, at offset {gone}, is gone, and the topic is not compacted: it was recreated or truncated"))
            }
            Err(why) => Err(format!(
                "the record that was settled last, at offset {gone}, is gone, and whether the topic is compacted can't be read ({why}): allow DescribeConfigs on the topic"
            )),
        }
    }
}

/// A claimed partition, as a lane takes it over.
#[derive(Clone, Debug)]
pub struct Opening {
    pub generation: u64,
    pub at: TopicPartition,
    /// The next offset to be settled; nothing below it is applied.
    pub position: i64,
    pub guard: Option<Guard>,
    pub check: Option<Check>,
    /// Where the batch began whose replies were left unread.
    pub unread: Option<i64>,
    /// The routes that match its topic.
    pub through: Arc<[usize]>,
    /// The rebuild that it is in the middle of.
    pub rebuild: Option<(Rebuild, Begun)>,
}

/// For how many records an empty queue has room.
const QUEUE_KEPT: usize = 64;

/// A record in a queue, and what an earlier attempt found out about it.
#[derive(Debug)]
pub(super) struct Pending {
    pub record: Record,
    /// Hardly ever there, and large.
    pub verdict: Option<Box<Verdict>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Redis refuses one of its commands for good: it is dead.
    Dead { route: usize, reason: String },
    /// It needs a person: the partition halts here.
    Halt { code: &'static str, reason: String },
}

pub(super) struct Part {
    pub at: TopicPartition,
    pub position: i64,
    pub guard: Option<Guard>,
    pub through: Arc<[usize]>,
    pub queue: VecDeque<Pending>,
    check: Option<Check>,
    /// Records below the position whose replies were left unread, until they are decided.
    recheck: Vec<Record>,
    recheck_from: Option<i64>,
    /// After the newest record that came in.
    newest: i64,
    /// Where Kafka has no record, behind all that came in.
    gap: Range<i64>,
    /// What stands as `unread` in the state.
    pub unread: Option<i64>,
    /// It is ours to empty.
    pub dirty: bool,
    /// When it last had a part in a batch.
    pub batched_at: Duration,
    /// When the guard was last read under WATCH on this connection.
    pub watched_at: Option<Duration>,
    /// When its state was last compared; `None` while there is a reason to doubt it.
    pub compared_at: Option<Duration>,
    /// A throttle holds the head of the queue back until then.
    pub hold_until: Option<Duration>,
    /// The head of the queue has passed the first so many of its limits.
    pub admitted: usize,
    /// The poller was told to fetch no more.
    pub held: bool,
    pub closing: bool,
    /// Dead letters of its last batch are not durable yet: nothing more of it goes until they are.
    pub owes_letters: bool,
    pub rebuild: Option<(Rebuild, Begun)>,
    /// What its letters changed in its job's counts, which its next transaction is to count.
    pub uncounted: Counts,
    /// Keys that rebuilds are known to have begun, as many as there is room for.
    begun: HashSet<Vec<u8>>,
}

/// How many keys a partition remembers as begun; the others are asked about again.
const BEGUN_MAX: usize = 10_000;

/// What became of a record that came in.
pub(super) enum Taken {
    Queued,
    /// It lies below the position and only served a check.
    Checked(Record),
    /// It is not the record that it should be.
    Halt(Record, String),
}

impl Part {
    pub(super) fn new(o: Opening, now: Duration) -> Self {
        Self {
            at: o.at,
            position: o.position,
            guard: o.guard,
            through: o.through,
            queue: VecDeque::new(),
            check: o.check,
            recheck: Vec::new(),
            recheck_from: o.unread,
            newest: o.position,
            gap: 0..0,
            unread: o.unread,
            dirty: o.unread.is_some(),
            batched_at: Duration::ZERO,
            watched_at: None,
            compared_at: Some(now),
            hold_until: None,
            admitted: 0,
            held: false,
            closing: false,
            owes_letters: false,
            rebuild: o.rebuild,
            uncounted: Counts::default(),
            begun: HashSet::new(),
        }
    }

    pub(super) fn take(&mut self, record: Record) -> Taken {
        if self.gap.contains(&record.offset) {
            let reason = format!("a record came at offset {}, where Kafka had shown none up to {}", record.offset, self.gap.end);
            return Taken::Halt(record, reason);
        }
        self.newest = self.newest.max(record.offset + 1);
        let checked = match &self.check {
            Some(check) if record.offset == check.last.offset => {
                if Last::of(&record) == check.last {
                    Ok(())
                } else {
                    Err(format!("another record stands at offset {} than the one that was settled: the topic was recreated or truncated", record.offset))
                }
            }
            Some(check) if record.offset > check.last.offset => check.absent(),
            _ => Ok(()),
        };
        if let Err(reason) = checked {
            return Taken::Halt(record, reason);
        }
        _ = self.check.take_if(|check| check.last.offset <= record.offset);
        if record.offset >= self.position {
            self.queue.push_back(Pending { record, verdict: None });
            Taken::Queued
        } else if self.recheck_from.is_some_and(|from| record.offset >= from) {
            self.recheck.push(record.clone());
            Taken::Checked(record)
        } else {
            Taken::Checked(record)
        }
    }

    /// Whether a record is applied anew.
    pub(super) fn rebuilds(&self, offset: i64) -> bool {
        self.rebuild.as_ref().is_some_and(|(rebuild, _)| offset < rebuild.until)
    }

    pub(super) fn knows_begun(&self, key: &[u8]) -> bool {
        self.begun.contains(key)
    }

    pub(super) fn remember_begun(&mut self, key: Vec<u8>) {
        if self.begun.len() >= BEGUN_MAX {
            self.begun.clear();
        }
        self.begun.insert(key);
    }

    /// Whether it has records that wait for a throttle, or for letters on their way.
    pub(super) fn is_held_up(&self, now: Duration) -> bool {
        self.owes_letters || !self.queue.is_empty() && self.hold_until.is_some_and(|t| t > now)
    }

    /// Whether its records may go into a batch.
    pub(super) fn ready(&self, now: Duration) -> bool {
        self.decided() && self.hold_until.is_none_or(|t| now >= t) && !self.queue.is_empty()
    }

    /// There is no record between the newest one and this offset: the one that was to be met again is gone.
    ///
    /// # Errors
    /// That it may not be.
    pub(super) fn advance(&mut self, to: i64) -> Result<(), String> {
        self.gap = self.newest..to;
        self.check.take_if(|check| check.last.offset < to).map_or(Ok(()), |check| check.absent())
    }

    /// Where its position may move to without a record.
    pub(super) fn may_advance(&self) -> Option<i64> {
        (self.gap.end > self.position && self.queue.is_empty() && self.decided()).then_some(self.gap.end)
    }

    /// The next record. An emptied queue gives its memory back: Kafka gives out a partition's records by the thousand, and
    /// each partition has its turn.
    pub(super) fn pop(&mut self) -> Option<Pending> {
        let pending = self.queue.pop_front();
        if self.queue.is_empty() {
            self.queue.shrink_to(QUEUE_KEPT);
        }
        pending
    }

    /// Whether it is ours to go on with, and nothing below its position is left to look at.
    pub(super) fn decided(&self) -> bool {
        !self.closing && !self.owes_letters && self.check.is_none() && self.recheck_from.is_none()
    }

    /// Whether all records of the unread range are here: the last settled record, which is checked, ends it.
    pub(super) fn may_recheck(&self) -> bool {
        !self.closing && self.check.is_none() && self.recheck_from.is_some()
    }

    /// The records to decide about.
    pub(super) fn take_recheck(&mut self) -> Option<Vec<Record>> {
        if !self.may_recheck() {
            return None;
        }
        self.recheck_from = None;
        Some(std::mem::take(&mut self.recheck))
    }

    /// The records that could not be decided about yet.
    pub(super) fn put_recheck_back(&mut self, records: Vec<Record>) {
        if self.closing {
            self.dirty = false;
            return;
        }
        self.recheck_from = Some(records.first().map_or(self.position, |r| r.offset));
        self.recheck = records;
    }

    /// Gives a recheck up; `unread` stays in the state, so that the next claim finds it.
    pub(super) fn abandon_recheck(&mut self) {
        self.recheck.clear();
        if self.recheck_from.take().is_some() {
            self.dirty = false;
        }
    }

    /// Whether `unread` may be emptied: all its replies were looked at.
    pub(super) fn may_clear(&self) -> bool {
        self.dirty && !self.owes_letters && self.recheck_from.is_none()
    }

    pub(super) fn read_guard(&self, out: &mut Encoder) {
        if let Some(guard) = &self.guard {
            state::read_guard(&guard.key, out);
        }
    }

    /// Compares a guard's answer with what we know.
    pub(super) fn check_guard(&self, reply: &Reply) -> Guarded {
        match &self.guard {
            Some(guard) => state::check_guard(reply, &Expected { owner: guard.owner.clone(), offset: self.position, unread: self.unread }),
            None => Guarded::Holds,
        }
    }
}
