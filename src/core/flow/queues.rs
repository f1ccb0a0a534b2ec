//! What is to be done for which partitions: claims that are due, pauses, commits. A round of the poller costs as much as has
//! happened since the last one, however many partitions there are.
use super::{Flow, Moment, Phase};
use crate::core::claim::Memory;
use crate::core::record::TopicPartition;
use std::collections::BTreeSet;
use std::time::Duration;

/// Partitions that have to be looked at, by their generation. One that is looked at in vain does no harm.
#[derive(Debug, Default)]
pub(super) struct Queues {
    /// Claims to be asked for, by when.
    pub(super) due: BTreeSet<(Duration, u64)>,
    /// Those whose fetching may have to be paused or resumed.
    pub(super) unsynced: BTreeSet<u64>,
    /// A lane got full, or has room again, which concerns all of its partitions.
    pub(super) lanes_changed: bool,
    /// Those whose position Kafka may not know yet, or is to be asked about.
    pub(super) uncommitted: BTreeSet<u64>,
}

impl Flow {
    /// The partitions whose claim is due: each is asked for once.
    pub fn due_claims(&mut self, now: Duration) -> Vec<(TopicPartition, u64, Option<Memory>)> {
        let later = self.queues.due.split_off(&(now + Duration::from_nanos(1), 0));
        let mut due = Vec::new();
        for (_, generation) in std::mem::replace(&mut self.queues.due, later) {
            if let Some(entry) = self.of_mut(generation)
                && matches!(entry.phase, Phase::Claiming { due: Some(t) } if t <= now)
            {
                entry.phase = Phase::Claiming { due: None };
                due.push((entry.at.clone(), generation, entry.memory()));
            }
        }
        due
    }

    /// The partitions to pause, and to resume where their records go on, so that just those are fetched that are open, not held,
    /// and on a lane with room.
    pub fn sync_pauses(&mut self) -> (Vec<TopicPartition>, Vec<(TopicPartition, i64)>) {
        let mut unsynced = std::mem::take(&mut self.queues.unsynced);
        if std::mem::take(&mut self.queues.lanes_changed) {
            unsynced.extend(self.iter().map(|e| e.generation));
        }
        let full = self.full.clone();
        let (mut pause, mut resume) = (Vec::new(), Vec::new());
        for generation in unsynced {
            let Some(entry) = self.of_mut(generation) else { continue };
            let wanted = entry.phase != Phase::Open || entry.held || full[entry.lane];
            if wanted != entry.paused {
                entry.paused = wanted;
                if wanted { pause.push(entry.at.clone()) } else { resume.push((entry.at.clone(), entry.next)) }
            }
        }
        (pause, resume)
    }

    /// The partitions of these whose position Kafka does not know yet, or is to be asked about. Takes note that it will.
    pub fn to_commit(&mut self, now: Duration, of: impl Fn(&TopicPartition) -> bool) -> Vec<(TopicPartition, i64)> {
        let (mut commits, mut later) = (Vec::new(), BTreeSet::new());
        for generation in std::mem::take(&mut self.queues.uncommitted) {
            let Some(entry) = self.of_mut(generation) else { continue };
            let wanted = of(&entry.at);
            if !wanted || matches!(entry.phase, Phase::Confirming { due, asked: false } if due > now) {
                later.insert(generation);
            }
            if !wanted {
                continue;
            }
            // What was left unread is not settled yet.
            let Some(position) = entry.position().map(|p| entry.unread.unwrap_or(p)) else { continue };
            let asks = matches!(entry.phase, Phase::Confirming { due, asked: false } if due <= now);
            if let Phase::Confirming { asked, .. } = &mut entry.phase {
                *asked |= asks;
            }
            if entry.committed != Some(position) || asks {
                entry.committed = Some(position);
                commits.push((entry.at.clone(), position));
            }
        }
        self.queues.uncommitted.append(&mut later);
        commits
    }

    /// How the commit of a partition's position ended. A refused one is sent again.
    pub fn committed(&mut self, at: &TopicPartition, accepted: bool, moment: Moment) {
        let Some(entry) = self.entry_mut(at) else { return };
        let generation = entry.generation;
        if !accepted {
            entry.committed = None;
        }
        let asked = matches!(entry.phase, Phase::Confirming { asked: true, .. });
        if asked {
            entry.phase = if accepted {
                Phase::Claiming { due: Some(moment.now) }
            } else {
                Phase::Confirming { due: moment.now + entry.backoff.next(moment.jitter), asked: false }
            };
        }
        if !accepted {
            self.queues.uncommitted.insert(generation);
        } else if asked {
            self.queues.due.insert((moment.now, generation));
        }
    }
}
