//! What a lane is told, and what it tells: its settings, what goes in, what comes out.
use super::{Doubt, Opening};
use crate::core::latency::Latency;
use crate::core::letter::Letter;
use crate::core::record::{Record, TopicPartition};
use crate::core::route::Route;
use crate::core::state::Last;
use crate::core::throttle::Throttle;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// What one transaction may span. Cluster adds "one slot".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// All partitions of the lane.
    Lane,
}

/// Where dead letters go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Letters {
    /// Nowhere: a poison record halts its partition.
    Halt,
    /// A stream in the same Redis, exactly once.
    Stream { name: String, maxlen: Option<u64> },
    /// A Kafka topic, at least once.
    Topic,
}

/// A lane's settings, all from the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    pub routes: Arc<[Route]>,
    pub records_max: usize,
    /// No further record begins in a batch that has so many commands.
    pub commands_max: usize,
    pub bytes_max: usize,
    pub linger: Duration,
    pub letters: Letters,
    pub span: Span,
    /// One a route, then the one of all.
    pub route_limits: Vec<Option<Throttle>>,
    pub limit: Option<Throttle>,
}

/// Counts of a route, shared by the lanes.
#[derive(Debug, Default)]
pub struct Tally {
    pub records: AtomicU64,
    pub commands: AtomicU64,
    pub dead: AtomicU64,
    pub expired: AtomicU64,
    pub tombstones: AtomicU64,
    pub dropped: AtomicU64,
    pub condition_errors: AtomicU64,
    pub latency: Latency,
}

/// What comes into a lane.
#[derive(Debug)]
pub enum Input {
    /// A claimed partition. Its records follow under the same generation.
    Open(Box<Opening>),
    /// Some records of a partition, in order.
    Records(u64, Vec<Record>),
    /// Between a partition's position and this offset there is no record.
    Advance(u64, i64),
    /// Let a partition go: what was not sent is discarded. Answered by [`Event::Closed`].
    Close(u64),
    /// The letters of [`Next::Bury`] are durable, or why they can't be.
    Buried(Result<(), Vec<Unburied>>),
    /// Write what the queues hold, then let every partition go.
    Drain,
}

/// A partition whose letters can't be produced, and why.
pub type Unburied = (TopicPartition, String);

/// What the rest of the bridge must know.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// These offsets are applied, dead-lettered or dropped by a rule.
    Settled {
        generation: u64,
        range: Range<i64>,
        /// The last record of the range, if it has one.
        last: Option<Last>,
    },
    /// Nothing more is known of this partition's state in Redis: claim it again, and read from there.
    Reclaim { generation: u64, why: Doubt },
    /// A person is needed. The position stays.
    Halt { generation: u64, code: &'static str, reason: String },
    /// Fetch no more of this partition for now, or go on.
    Hold { generation: u64, hold: bool },
    /// Let go, after [`Input::Close`] or [`Input::Drain`]. `left`: what came of its last batch is for the next owner to find
    /// out.
    Closed { generation: u64, left: bool },
    /// Redis refuses everything for now, for this reason; `None`: it no longer does.
    Trouble(Option<(&'static str, String)>),
    /// For the first time, one of these could not be applied to a record and was taken as not holding.
    ConditionError { whose: String, message: String },
    /// A dead letter became durable.
    Buried { route: String, code: &'static str, reason: String },
    /// A pattern let in the dead letter at this offset: it is dropped. Once for each topic.
    LeftOut { at: TopicPartition, offset: i64 },
}

/// What the shell is to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Send [`super::Lane::outgoing`], read this many replies, which take that many bytes at least, call [`super::Lane::answered`] (or [`super::Lane::lost`]).
    Exchange { replies: usize, bytes_min: usize },
    /// Make these durable in the dead-letter topic, beside all else, then hand in [`Input::Buried`].
    Bury(Vec<Letter>),
    /// Nothing to do before this time, unless something comes in.
    Wait(Option<Duration>),
}
