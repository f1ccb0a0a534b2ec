//! The end: the lanes write what they hold, and what is left is counted.
use super::{Action, Poller};
use crate::core::flow::{Entry, Moment, Phase};
use crate::core::lane::Input;
use crate::core::record::TopicPartition;
use std::collections::BTreeSet;
use std::time::Duration;

/// What a stop waits for.
#[derive(Debug)]
pub(super) struct Draining {
    until: Duration,
    open: BTreeSet<u64>,
    /// Partitions that left with records unwritten.
    left: usize,
    /// Partitions that were being claimed, and how far they are settled: they are not fetched, so whether they have records
    /// is not known here.
    doubtful: Vec<(TopicPartition, Option<i64>)>,
}

impl Poller {
    /// Stops fetching; the lanes write what they hold, and let go.
    pub fn begin_drain(&mut self, now: Duration) {
        let all: Vec<TopicPartition> = self.flow.iter().map(|e| e.at.clone()).collect();
        let claiming = self.flow.iter().filter(|e| matches!(e.phase, Phase::Claiming { .. } | Phase::Confirming { .. }));
        // Of a last batch nobody knows what came of it, as when Redis is away.
        let (busy, idle): (Vec<&Entry>, Vec<&Entry>) = claiming.partition(|e| e.leaves_records());
        let (left, doubtful) = (busy.len(), idle.into_iter().map(|e| (e.at.clone(), e.position())).collect());
        let open = all.iter().filter_map(|at| self.flow.closing(&at.topic, at.partition)).map(|(_, g)| g).collect();
        self.sync_pauses();
        for lane in 0..self.flow.lanes() {
            self.act(Action::ToLane(lane, Input::Drain));
        }
        self.draining = Some(Draining { until: now + self.drain_deadline, open, left, doubtful });
    }

    /// Whether the drain has ended: everything is written, or its time is over. The last commit goes out with it, and
    /// the client's close waits for it.
    pub fn drained(&mut self, now: Duration) -> bool {
        let ended = self.draining.as_ref().is_none_or(|d| d.open.is_empty() || now >= d.until);
        if ended {
            for (at, _) in self.committing.take().unwrap_or_default() {
                // Its answer comes too late to be heard.
                self.flow.committed(&at, false, Moment { now, jitter: 0.0 });
            }
            let positions = self.flow.to_commit(now, |_| true);
            if !positions.is_empty() {
                self.commit(positions, false);
            }
            self.tell_letters(now, true);
        }
        ended
    }

    /// How many partitions have records that the lanes could not write before the end, or a last batch of which nobody knows
    /// what came of it.
    pub fn left(&self) -> usize {
        let unanswered = |d: &Draining| d.open.iter().filter(|g| self.flow.of(**g).is_some_and(Entry::leaves_records)).count();
        self.draining.as_ref().map_or(0, |d| d.left + unanswered(d))
    }

    /// The partitions of which Kafka is to be asked whether they have records, and how far each is settled.
    pub fn doubtful(&self) -> &[(TopicPartition, Option<i64>)] {
        self.draining.as_ref().map_or(&[], |d| &d.doubtful)
    }

    pub(super) fn lane_let_go(&mut self, generation: u64, left: bool) {
        // Of a partition that was claimed again a moment ago the lane may have nothing yet.
        let left = self.flow.of(generation).is_some_and(|e| e.is_owed() || left && e.leaves_records());
        if let Some(draining) = &mut self.draining
            && draining.open.remove(&generation)
        {
            draining.left += usize::from(left);
        }
    }
}
