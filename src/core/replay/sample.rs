//! Which records are shown where only so many are asked for: of each partition alike, and what one has not got is given to the
//! others, which are read on from where they were.
use super::plan::Span;
use std::num::NonZeroUsize;

/// A partition that may have more.
#[derive(Debug)]
struct Open {
    span: Span,
    /// How many more of it are shown before the others have had their share.
    share: usize,
}

/// What is to come after a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    On,
    /// No more of this partition in this round.
    Enough,
    /// Those are all that were asked for.
    All,
}

/// See the module's documentation. `None` of records to be shown is all of them.
#[derive(Debug)]
pub struct Sample {
    left: usize,
    open: Vec<Open>,
}

impl Sample {
    pub fn new(records: Option<NonZeroUsize>, spans: &[Span]) -> Self {
        let open = spans.iter().filter(|s| !s.is_empty()).map(|s| Open { span: s.clone(), share: usize::MAX });
        Self { left: records.map_or(usize::MAX, NonZeroUsize::get), open: open.collect() }
    }

    /// The ranges that are to be read to their ends, or until they are told to be enough; none at the end.
    pub fn round(&mut self) -> Vec<Span> {
        let share = self.left.div_ceil(self.open.len().max(1));
        self.open.iter_mut().for_each(|open| open.share = share);
        self.open.iter().map(|open| open.span.clone()).collect()
    }

    /// A record of a range is shown.
    pub fn shown(&mut self, topic: &str, partition: i32, offset: i64) -> Then {
        self.left = self.left.saturating_sub(1);
        let Some(open) = self.open.iter_mut().find(|o| o.span.partition == partition && o.span.topic == topic) else { return Then::Enough };
        open.share = open.share.saturating_sub(1);
        open.span.from = offset + 1;
        match (self.left, open.share) {
            (0, _) => Then::All,
            (_, 0) => Then::Enough,
            _ => Then::On,
        }
    }

    /// The ranges were read: of those that had less than their share there is no more.
    pub fn rounded(&mut self) {
        self.open.retain(|open| open.share == 0 && !open.span.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many are shown of each partition that has so many records, at every second offset.
    fn shown(records: usize, has: &[i64]) -> Vec<usize> {
        let place = |p: usize| i32::try_from(p).unwrap();
        let span = |(p, n): (usize, &i64)| Span { topic: "t".into(), partition: place(p), from: 10, to: 10 + 2 * n, first_ms: None, last_ms: None, live: None };
        let spans: Vec<Span> = has.iter().enumerate().map(span).collect();
        let mut sample = Sample::new(NonZeroUsize::new(records), &spans);
        let mut shown = vec![Vec::new(); has.len()];
        loop {
            let round = sample.round();
            if round.is_empty() {
                break;
            }
            for span in round {
                for offset in (span.from..span.to).filter(|o| o % 2 == 1) {
                    shown[usize::try_from(span.partition).unwrap()].push(offset);
                    match sample.shown("t", span.partition, offset) {
                        Then::On => {}
                        Then::Enough => break,
                        Then::All => return shown.iter().map(Vec::len).collect(),
                    }
                }
            }
            sample.rounded();
        }
        assert!(shown.iter().all(|offsets| offsets.is_sorted_by(|a, b| a < b)), "none is shown twice: {shown:?}");
        shown.iter().map(Vec::len).collect()
    }

    #[test]
    fn as_many_are_shown_as_were_asked_for_if_the_range_has_them_and_of_each_partition_alike() {
        for (records, has, expected) in [
            (6, &[10, 10, 10][..], [2, 2, 2]),
            (7, &[10, 10, 10], [3, 3, 1]),
            (20, &[1, 100, 2], [1, 17, 2]),
            (20, &[0, 100, 0], [0, 20, 0]),
            (20, &[3, 4, 5], [3, 4, 5]),
            (1, &[3, 4, 5], [1, 0, 0]),
            (0, &[3, 4, 5], [3, 4, 5]),
        ] {
            assert_eq!(shown(records, has), expected, "{records} of {has:?}");
        }
    }
}
