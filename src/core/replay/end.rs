//! Where a log ends, as who reads it is shown it.
//!
//! A leader that has just become one may show an end that is not the log's: an end is believed when Kafka says that the log
//! reaches as far as what is to be read, and the same end shows again.

/// The end that was shown last, without a record since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End(Option<i64>);

/// What an end means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The log ends before the range does, though it once reached there.
    Cut,
    /// It is to be read once more from where the reader is.
    Again,
    /// There is no record any more before the range's end.
    Over,
}

impl End {
    /// A record came.
    pub fn record(&mut self) {
        self.0 = None;
    }

    /// The log showed an end, when `next` was to be read of a range that ends at `to`; Kafka says that it holds all below `high`.
    pub fn shown(&mut self, next: i64, to: i64, high: i64) -> Shown {
        if to > high {
            Shown::Cut
        } else if self.0.replace(next) == Some(next) {
            Shown::Over
        } else {
            Shown::Again
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_believed_when_it_shows_again_without_a_record_between() {
        let mut end = End::default();
        assert_eq!(end.shown(10, 20, 20), Shown::Again);
        end.record();
        assert_eq!(end.shown(17, 20, 25), Shown::Again);
        assert_eq!(end.shown(17, 20, 19), Shown::Cut);
        assert_eq!(end.shown(17, 20, 25), Shown::Over);
    }
}
