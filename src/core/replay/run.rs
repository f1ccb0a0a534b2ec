//! A job under way, as a machine without I/O: what is claimed, read, handed to the lanes, let go.
//!
//! ```text
//! claim ─▶ read ─▶ end (what is behind the last record is settled) ─▶ close ─▶ done
//!   ▲        │
//!   └─doubt◀─┘        halted: a person is needed, the others go on
//! ```
#[cfg(test)]
mod tests;

use super::bounds::Held;
use super::claim::Taken;
use super::end::{End, Shown};
use super::job::{Gap, gone};
use super::plan::Plan;
use crate::core::lane::{Doubt, Event, Input};
use crate::core::ledger::Ledger;
use crate::core::record::TopicPartition;
use serde::Serialize;
use std::collections::{BTreeSet, HashMap};

/// After so many offsets without a record of the keys that are asked for, the position moves on.
const PASSED_MAX: i64 = 10_000;

/// Where a partition is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Not ours, or not known to be any more.
    Doubtful,
    Reading,
    /// All was handed over; the position is on its way to the end.
    Ending,
    /// The end is settled; what marks the last batch as unread is being cleared.
    Closing,
    Done,
    Halted {
        code: &'static str,
        reason: String,
    },
    /// A stop left it where it is.
    Stopped,
}

/// One partition of the job.
#[derive(Debug)]
struct Part {
    at: TopicPartition,
    from: i64,
    to: i64,
    lane: usize,
    phase: Phase,
    generation: u64,
    ledger: Ledger,
    /// The next offset to be read.
    next: i64,
    /// A former process left replies unread, and nothing was settled since: the lane has yet to decide about them.
    unread: bool,
    end: End,
    /// Where the lane last learnt that there is nothing for it.
    passed: i64,
    /// How many offsets were settled by this process.
    settled: i64,
    /// Records that Kafka deleted before they were read.
    gone: Vec<Gap>,
}

/// How far a partition is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    pub topic: String,
    pub partition: i32,
    pub from: i64,
    pub to: i64,
    pub position: i64,
    /// `reading`, `done`, `stopped`, or what it halted for.
    pub phase: String,
    /// Why a person is needed.
    pub reason: Option<String>,
    /// Offsets that Kafka deleted before they were read by this process.
    pub gone: i64,
    #[serde(skip)]
    pub gaps: Vec<Gap>,
}

/// See the module's documentation.
pub struct Run {
    parts: Vec<Part>,
    of_generation: HashMap<u64, usize>,
    keys: BTreeSet<Vec<u8>>,
    clamp: bool,
    generation: u64,
    to_lanes: Vec<(usize, Input)>,
    /// Partitions that are read no further.
    leave: Vec<usize>,
    fenced: bool,
}

impl Run {
    pub fn new(plan: &Plan, lanes: usize) -> Self {
        let part = |(n, span): (usize, &super::plan::Span)| Part {
            at: span.at(),
            from: span.from,
            to: span.to,
            lane: n % lanes.max(1),
            phase: Phase::Doubtful,
            generation: 0,
            ledger: Ledger::new(span.from),
            next: span.from,
            unread: false,
            end: End::default(),
            passed: span.from,
            settled: 0,
            gone: Vec::new(),
        };
        Self {
            parts: plan.spans.iter().enumerate().map(part).collect(),
            of_generation: HashMap::new(),
            keys: plan.keys.iter().map(|k| k.as_bytes().to_vec()).collect(),
            clamp: plan.clamp,
            generation: 0,
            to_lanes: Vec::new(),
            leave: Vec::new(),
            fenced: false,
        }
    }

    /// Where a job that is carried on stands, by what Redis says before it is claimed.
    pub fn stands(&mut self, positions: &[Option<i64>]) {
        for (part, position) in self.parts.iter_mut().zip(positions) {
            part.ledger = Ledger::new(position.unwrap_or(part.from));
        }
    }

    /// The partitions that are to be claimed, with a generation for each.
    pub fn to_claim(&mut self) -> Vec<(usize, u64)> {
        let doubtful: Vec<usize> = (0..self.parts.len()).filter(|p| self.parts[*p].phase == Phase::Doubtful).collect();
        doubtful
            .into_iter()
            .map(|part| {
                self.generation += 1;
                (part, self.generation)
            })
            .collect()
    }

    pub fn at(&self, part: usize) -> &TopicPartition {
        &self.parts[part].at
    }

    pub fn lane(&self, part: usize) -> usize {
        self.parts[part].lane
    }

    /// Where a part's reading goes on.
    pub fn next(&self, part: usize) -> i64 {
        self.parts[part].next
    }

    pub fn from(&self, part: usize) -> i64 {
        self.parts[part].from
    }

    /// A partition is ours; `held` is what Kafka has of it.
    pub fn claimed(&mut self, part: usize, taken: Taken, held: Held) {
        let p = &mut self.parts[part];
        let (position, generation) = (taken.opening.position, taken.opening.generation);
        p.ledger = Ledger::new(position);
        (p.generation, p.next, p.passed) = (generation, taken.begin, position);
        (p.unread, p.end) = (taken.opening.unread.is_some(), End::default());
        let settled = position >= p.to && !p.unread;
        if p.to > held.high && !settled {
            return p.phase = p.cut(held);
        }
        if position < held.low && position < p.to {
            if !self.clamp {
                let reason = history_gone(position, held);
                return p.phase = Phase::Halted { code: "history-gone", reason };
            }
            p.gone.push((position, held.low.min(p.to)));
        }
        p.phase = Phase::Reading;
        self.of_generation.insert(generation, part);
        self.to_lanes.push((p.lane, Input::Open(Box::new(taken.opening))));
        if settled {
            p.phase = Phase::Closing;
            self.to_lanes.push((p.lane, Input::Close(generation)));
        } else if p.next >= p.to {
            self.end(part);
        }
    }

    /// Where to read on, of the partitions of a topic that are to be read.
    pub fn places(&self, topic: &str) -> Vec<(usize, i32, i64)> {
        let read = |(_, p): &(usize, &Part)| *p.at.topic == *topic && p.phase == Phase::Reading;
        self.parts.iter().enumerate().filter(read).map(|(n, p)| (n, p.at.partition, p.next)).collect()
    }

    pub fn topics(&self) -> BTreeSet<String> {
        self.parts.iter().map(|p| p.at.topic.to_string()).collect()
    }

    /// A record was read. Its lane and generation, if it is for the lane.
    pub fn read(&mut self, part: usize, offset: i64, key: Option<&[u8]>) -> Option<(usize, u64)> {
        let p = &mut self.parts[part];
        if p.phase != Phase::Reading || offset < p.next {
            return None;
        }
        if offset >= p.to {
            self.end(part);
            return None;
        }
        p.next = offset + 1;
        p.end.record();
        let wanted = self.keys.is_empty() || key.is_some_and(|k| self.keys.contains(k));
        if wanted {
            p.passed = offset + 1;
            return Some((p.lane, p.generation));
        }
        if offset + 1 - p.passed >= PASSED_MAX {
            p.passed = offset + 1;
            self.to_lanes.push((p.lane, Input::Advance(p.generation, offset + 1)));
        }
        None
    }

    /// After a record was handed over: whether it was the last one.
    pub fn handed(&mut self, part: usize) {
        if self.parts[part].phase == Phase::Reading && self.parts[part].next >= self.parts[part].to {
            self.end(part);
        }
    }

    /// The log of a partition was read to its end, and then Kafka said what it holds. `Some`: it is to be read from here
    /// once more.
    pub fn ended(&mut self, part: usize, held: Held) -> Option<i64> {
        let p = &mut self.parts[part];
        if p.phase != Phase::Reading {
            return None;
        }
        match p.end.shown(p.next, p.to, held.high) {
            Shown::Cut => {
                let cut = p.cut(held);
                self.give_up(part, cut);
            }
            Shown::Again => return Some(p.next),
            Shown::Over => self.end(part),
        }
        None
    }

    /// There is no record between what was read and the end of the range. The lane judges the absence of the record that was
    /// settled last, and what was left unread.
    fn end(&mut self, part: usize) {
        self.leave.push(part);
        let p = &mut self.parts[part];
        if p.ledger.position() >= p.to && !p.unread {
            return self.close(part);
        }
        p.phase = Phase::Ending;
        self.to_lanes.push((p.lane, Input::Advance(p.generation, p.to)));
    }

    fn close(&mut self, part: usize) {
        let p = &mut self.parts[part];
        p.phase = Phase::Closing;
        self.to_lanes.push((p.lane, Input::Close(p.generation)));
    }

    /// Kafka no longer has what is to be read next. `false`: it has, and something else is wrong.
    pub fn out_of_range(&mut self, part: usize, held: Held) -> bool {
        let p = &mut self.parts[part];
        if p.phase != Phase::Reading || held.low <= p.next && p.to <= held.high {
            return false;
        }
        if p.to > held.high {
            let cut = p.cut(held);
            self.give_up(part, cut);
        } else if self.clamp {
            p.gone.push((p.next, held.low.min(p.to)));
            p.next = held.low;
            if p.next >= p.to {
                self.end(part);
            }
        } else {
            let reason = history_gone(p.next, held);
            self.halt(part, "history-gone", reason);
        }
        true
    }

    /// A person is needed; the position stays.
    pub fn halt(&mut self, part: usize, code: &'static str, reason: String) {
        self.give_up(part, Phase::Halted { code, reason });
    }

    fn give_up(&mut self, part: usize, phase: Phase) {
        let p = &mut self.parts[part];
        if matches!(p.phase, Phase::Reading | Phase::Ending | Phase::Closing) {
            self.to_lanes.push((p.lane, Input::Close(p.generation)));
            self.leave.push(part);
        }
        self.of_generation.remove(&p.generation);
        p.phase = phase;
    }

    /// What a lane says. `Some`: a person should know of it.
    pub fn event(&mut self, event: Event) -> Option<(&'static str, String)> {
        let part = self.of_generation.get(event_generation(&event)?).copied()?;
        let p = &mut self.parts[part];
        match event {
            Event::Settled { range, .. } => {
                // Nothing is settled before what was left unread is decided about.
                p.unread = false;
                p.settled += range.end - range.start;
                if let Err(wrong) = p.ledger.settle(range) {
                    self.halt(part, "bug", format!("a settled range does not continue the position: {wrong:?}"));
                } else if p.phase == Phase::Ending && p.ledger.position() >= p.to {
                    self.close(part);
                }
            }
            Event::Reclaim { why, .. } => {
                self.of_generation.remove(&p.generation);
                self.leave.push(part);
                // Whether it is, the claim will tell.
                let told = matches!(why, Doubt::Moved | Doubt::StateLost).then(|| (why.code(), format!("{}: {why}", p.at)));
                p.phase = if p.phase == Phase::Stopped { Phase::Stopped } else { Phase::Doubtful };
                return told;
            }
            Event::Halt { code, reason, .. } => {
                self.of_generation.remove(&p.generation);
                self.leave.push(part);
                let told = (code, format!("{}: {reason}", p.at));
                p.phase = Phase::Halted { code, reason };
                return Some(told);
            }
            Event::Closed { left, .. } => {
                self.of_generation.remove(&p.generation);
                p.phase = match p.phase {
                    Phase::Closing | Phase::Stopped if !left && p.ledger.position() >= p.to => Phase::Done,
                    Phase::Stopped => Phase::Stopped,
                    _ => Phase::Doubtful,
                };
            }
            Event::Hold { .. } | Event::Trouble(_) | Event::Buried { .. } | Event::LeftOut { .. } | Event::ConditionError { .. } => {}
        }
        None
    }

    /// How many offsets were settled by this process, and not by one before it.
    pub fn settled(&self) -> i64 {
        self.parts.iter().map(|p| p.settled).sum()
    }

    /// The partitions that this process has claimed.
    pub fn taken(&self) -> Vec<TopicPartition> {
        self.parts.iter().filter(|p| p.generation > 0).map(|p| p.at.clone()).collect()
    }

    /// Another process has taken the job over.
    pub fn fence(&mut self) {
        self.fenced = true;
        self.of_generation.clear();
    }

    pub fn is_fenced(&self) -> bool {
        self.fenced
    }

    /// Reads no more: what is in flight is settled, and what was not sent is left to the next process.
    pub fn stop(&mut self) {
        for p in &mut self.parts {
            if matches!(p.phase, Phase::Reading | Phase::Ending) {
                self.to_lanes.push((p.lane, Input::Close(p.generation)));
            }
            if !matches!(p.phase, Phase::Done | Phase::Halted { .. }) {
                p.phase = Phase::Stopped;
            }
        }
    }

    /// Whether no lane holds anything of the job any more.
    pub fn let_go(&self) -> bool {
        self.of_generation.is_empty()
    }

    /// Whether nothing is left to be done by us.
    pub fn over(&self) -> bool {
        self.parts.iter().all(|p| matches!(p.phase, Phase::Done | Phase::Halted { .. })) || self.fenced
    }

    pub fn complete(&self) -> bool {
        self.parts.iter().all(|p| p.phase == Phase::Done)
    }

    /// What is to be handed to the lanes.
    pub fn take_inputs(&mut self) -> Vec<(usize, Input)> {
        std::mem::take(&mut self.to_lanes)
    }

    /// Partitions that are read no further.
    pub fn take_left(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.leave)
    }

    /// How far each partition is.
    pub fn progress(&self) -> Vec<Place> {
        let place = |p: &Part| {
            let (phase, reason) = match &p.phase {
                Phase::Doubtful | Phase::Reading | Phase::Ending | Phase::Closing => ("reading", None),
                Phase::Done => ("done", None),
                Phase::Stopped => ("stopped", None),
                Phase::Halted { code, reason } => (*code, Some(reason.clone())),
            };
            let position = p.ledger.position();
            Place {
                topic: p.at.topic.to_string(),
                partition: p.at.partition,
                from: p.from,
                to: p.to,
                position,
                phase: phase.into(),
                reason,
                gone: gone([&p.gone]),
                gaps: p.gone.clone(),
            }
        };
        self.parts.iter().map(place).collect()
    }
}

impl Part {
    /// The log ends before the range does: it once reached there.
    fn cut(&self, held: Held) -> Phase {
        let reason = format!("the log ends at {}, before the end of the job's range, {}: the topic was recreated or truncated", held.high, self.to);
        Phase::Halted { code: "log-changed", reason }
    }
}

fn history_gone(next: i64, held: Held) -> String {
    format!("the next record is at {next}, and Kafka only holds [{}, {}): carry on without the others by --clamp", held.low, held.high)
}

fn event_generation(event: &Event) -> Option<&u64> {
    match event {
        Event::Settled { generation, .. }
        | Event::Reclaim { generation, .. }
        | Event::Halt { generation, .. }
        | Event::Hold { generation, .. }
        | Event::Closed { generation, .. } => Some(generation),
        Event::Trouble(_) | Event::Buried { .. } | Event::LeftOut { .. } | Event::ConditionError { .. } => None,
    }
}
