//! The batch after the one in flight, rendered while Redis works on that one: between two transactions of a lane there is
//! little left to do.
//!
//! It holds records and nothing else: its guard and its positions are of the time when it is sent. Whatever befalls a
//! partition first (a record put back, letters owed, a halt, a reclaim) returns its records to their queues.
use super::batch::Batch;
use super::{Lane, Stage};
use std::time::Duration;

impl Lane {
    /// Renders the next batch, once the bytes of [`Lane::outgoing`] are written. Not if less than a whole one is queued:
    /// what comes in meanwhile can still go with it.
    pub fn prepare(&mut self, now: Duration) {
        let rebuilds = || self.parts.values().any(|p| p.rebuild.is_some());
        if matches!(self.stage, Stage::Committing(_)) && self.ahead.is_none() && self.queued() >= self.whole && !rebuilds() {
            self.ahead = self.collect(now);
        }
    }

    /// The next batch as it is sent: that of [`Lane::prepare`], or what is queued now; and the partitions that are idle.
    pub(super) fn next_batch(&mut self, now: Duration) -> Option<Batch> {
        let mut batch = match self.ahead.take() {
            Some(batch) => batch,
            None => self.collect(now)?,
        };
        for share in &mut batch.shares {
            share.from = self.parts[&share.generation].position;
        }
        // A busy lane is never idle, but some of its partitions may be.
        let idle: Vec<u64> = self.idle_parts(now).into_iter().filter(|g| batch.shares.iter().all(|s| s.generation != *g)).collect();
        batch.clear(&self.parts, &idle);
        Some(batch)
    }

    /// Returns what was prepared to the queues.
    pub(super) fn unprepare(&mut self) {
        if let Some(batch) = self.ahead.take() {
            self.return_records(batch);
        }
    }
}
