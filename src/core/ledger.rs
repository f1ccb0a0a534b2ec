//! The ledger: what has been settled of a partition, as a prefix that only grows.
use std::ops::Range;

/// What is settled of one assignment of a partition: everything below [`Ledger::position`].
///
/// | settled so far | range reported | becomes |
/// |---|---|---|
/// | up to 5 | 5..9 | up to 9 |
/// | up to 5 | 5..5 | up to 5 |
/// | up to 5 | 4..9 | an error: 4 would be settled twice |
/// | up to 5 | 6..9 | an error: 5 would be skipped |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    position: i64,
}

/// A range that does not continue the settled prefix: a bug, never an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotContiguous {
    pub position: i64,
    pub range: Range<i64>,
}

impl Ledger {
    pub fn new(position: i64) -> Self {
        Self { position }
    }

    /// The next offset to be settled.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// Takes a settled range. Its start is the position before it, so holes belong to the record after them.
    pub fn settle(&mut self, range: Range<i64>) -> Result<(), NotContiguous> {
        if range.start != self.position || range.end < range.start {
            return Err(NotContiguous { position: self.position, range });
        }
        self.position = range.end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_neither_overlaps_nor_skips() {
        let mut ledger = Ledger::new(5);
        ledger.settle(5..9).unwrap();
        ledger.settle(9..9).unwrap();
        assert!(ledger.settle(8..12).is_err());
        assert!(ledger.settle(10..12).is_err());
        assert_eq!(ledger.position(), 9);
    }
}
