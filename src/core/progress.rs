//! How many of the assigned partitions are open: whether the bridge is ready, and what is told while some are not.
use super::flow::{Entry, Phase};
use super::telling::Telling;
use std::time::Duration;

/// How often the partitions are counted.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// How long partitions may be opening before that is told.
const QUIET: Duration = Duration::from_secs(2);
/// The condition while some partitions are not open yet.
pub const CODE: &str = "partitions-opening";
const SUBJECT: &str = "partitions";

/// How many partitions are assigned, and how far they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    pub assigned: usize,
    /// Those whose records flow.
    pub open: usize,
    /// Those that are being claimed.
    pub opening: usize,
    /// Those of which no claim has ended yet.
    untried: usize,
}

impl Census {
    pub fn of<'a>(entries: impl Iterator<Item = &'a Entry>) -> Self {
        entries.fold(Self::default(), |sum, e| Self {
            assigned: sum.assigned + 1,
            open: sum.open + usize::from(e.phase == Phase::Open),
            opening: sum.opening + usize::from(matches!(e.phase, Phase::Claiming { .. } | Phase::Confirming { .. })),
            untried: sum.untried + usize::from(!e.tried),
        })
    }
}

/// What is known of how far the partitions are.
#[derive(Debug, Default)]
pub struct Progress {
    /// Each partition of the first assignment was opened, or could not be.
    opened: bool,
    count_due: Duration,
    /// Since when some are opening.
    since: Option<Duration>,
    told: bool,
}

impl Progress {
    /// Whether each partition of the first assignment was opened, or could not be. Later rebalances change nothing of that.
    pub fn opened(&self) -> bool {
        self.opened
    }

    /// Counts the partitions, now and then, and says what has to be told. The first assignment is there.
    pub fn look<'a>(&mut self, entries: impl Iterator<Item = &'a Entry>, now: Duration) -> Option<Telling> {
        let due = now >= self.count_due;
        if self.opened && !due {
            return None;
        }
        let census = Census::of(entries);
        self.opened |= census.untried == 0;
        if !due {
            return None;
        }
        self.count_due = now + COUNT_EVERY;
        if census.opening == 0 {
            self.since = None;
            return std::mem::take(&mut self.told).then(|| Telling::Clear { code: CODE, subject: SUBJECT.into() });
        }
        if now < *self.since.get_or_insert(now) + QUIET {
            return None;
        }
        self.told = true;
        let message = format!("{} of {} assigned partitions are open, {} are being opened", census.open, census.assigned, census.opening);
        let remedy = "nothing, while the count rises: it passes by itself";
        Some(Telling::Raise { code: CODE, subject: SUBJECT.into(), message, remedy })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::flow::{Flow, Moment};
    use crate::core::lane::Opening;
    use crate::core::record::TopicPartition;

    fn assigned(partitions: i32) -> (Flow, Vec<u64>) {
        let mut flow = Flow::new(1);
        (0..partitions).for_each(|p| flow.assign(TopicPartition::new("t", p)));
        let generations = flow.due_claims(Duration::ZERO).iter().map(|(_, generation, _)| *generation).collect();
        (flow, generations)
    }

    fn open(flow: &mut Flow, generation: u64) {
        let at = flow.of(generation).unwrap().at.clone();
        flow.opened(&Opening { generation, at, position: 0, guard: None, check: None, unread: None, through: [].into(), rebuild: None }, 0, 1);
    }

    #[test]
    fn the_first_assignment_is_opened_once_each_partition_was_tried() {
        let (mut flow, generations) = assigned(3);
        let mut progress = Progress::default();
        progress.look(flow.iter(), Duration::ZERO);
        open(&mut flow, generations[0]);
        flow.halt(generations[1], "poison", String::new());
        progress.look(flow.iter(), Duration::ZERO);
        assert!(!progress.opened(), "the third one was not tried yet");
        // Kafka does not answer about it.
        flow.reclaim(generations[2], false, Moment { now: Duration::ZERO, jitter: 0.0 });
        progress.look(flow.iter(), Duration::ZERO);
        assert!(progress.opened());
        flow.assign(TopicPartition::new("t", 3));
        progress.look(flow.iter(), Duration::ZERO);
        assert!(progress.opened(), "a later rebalance changes nothing");
    }

    #[test]
    fn how_many_partitions_are_open_is_told_while_that_takes_long_and_then_that_it_is_over() {
        let (mut flow, generations) = assigned(2);
        let mut progress = Progress::default();
        let mut look = |flow: &Flow, seconds| progress.look(flow.iter(), Duration::from_secs(seconds));
        open(&mut flow, generations[0]);
        assert!(look(&flow, 0).is_none() && look(&flow, 1).is_none());
        match look(&flow, 2) {
            Some(Telling::Raise { code: "partitions-opening", message, .. }) => assert_eq!(message, "1 of 2 assigned partitions are open, 1 are being opened"),
            other => panic!("{other:?}"),
        }
        open(&mut flow, generations[1]);
        assert!(matches!(look(&flow, 3), Some(Telling::Clear { code: CODE, .. })));
        assert!(look(&flow, 4).is_none());
    }
}
