//! How late records are when Redis has answered for them, by their own timestamps: what a route's readers feel of all that lies
//! before, the producer's lingering and Kafka among it.
//!
//! A timestamp is a producer's word, and may be wrong by a unit: seconds or microseconds in place of milliseconds. One such record
//! would add decades to the sum for good, so an implausible one is counted apart and is in no bucket.
use std::sync::atomic::{AtomicU64, Ordering};

/// The buckets' upper bounds, in milliseconds; one more holds what is above them.
pub const BOUNDS_MS: [u64; 14] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 60_000];

/// 2000-01-01: older than any Kafka. A present time in seconds, taken for milliseconds, is in 1970.
const EARLIEST_MS: i64 = 946_684_800_000;
/// How far ahead a producer's clock may be. One that is less ahead counts as no latency.
const AHEAD_MAX_MS: i64 = 24 * 3_600_000;

/// How late a record is; `None` where its timestamp is implausible.
fn late_ms(now_ms: i64, timestamp_ms: i64) -> Option<u64> {
    let plausible = (EARLIEST_MS..=now_ms.saturating_add(AHEAD_MAX_MS)).contains(&timestamp_ms);
    plausible.then(|| u64::try_from(now_ms.saturating_sub(timestamp_ms)).unwrap_or(0))
}

/// Counts by bucket, shared by the lanes.
#[derive(Debug, Default)]
pub struct Latency {
    counts: [AtomicU64; BOUNDS_MS.len() + 1],
    sum_ms: AtomicU64,
    implausible: AtomicU64,
}

impl Latency {
    /// Adds a batch's records by their timestamps; what is shared is touched once a bucket, not once a record.
    pub fn add(&self, now_ms: i64, timestamps_ms: impl IntoIterator<Item = i64>) {
        let (mut counts, mut sum, mut implausible) = ([0; BOUNDS_MS.len() + 1], 0u64, 0);
        for timestamp_ms in timestamps_ms {
            match late_ms(now_ms, timestamp_ms) {
                Some(ms) => {
                    counts[BOUNDS_MS.partition_point(|bound| *bound < ms)] += 1;
                    sum = sum.saturating_add(ms);
                }
                None => implausible += 1,
            }
        }
        if implausible > 0 {
            self.implausible.fetch_add(implausible, Ordering::Relaxed);
        }
        self.sum_ms.fetch_add(sum, Ordering::Relaxed);
        for (shared, n) in self.counts.iter().zip(counts).filter(|(_, n)| *n > 0) {
            shared.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// Records in each bucket since the start.
    pub fn counts(&self) -> Vec<u64> {
        self.counts.iter().map(|n| n.load(Ordering::Relaxed)).collect()
    }

    /// The sum of all, in milliseconds.
    pub fn sum_ms(&self) -> u64 {
        self.sum_ms.load(Ordering::Relaxed)
    }

    /// Records whose timestamps are implausible, which are in none of the above.
    pub fn implausible(&self) -> u64 {
        self.implausible.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_765_000_000_000;

    #[test]
    fn a_timestamp_in_another_unit_is_counted_apart_and_clocks_that_differ_are_not() {
        let latency = Latency::default();
        // In seconds, in microseconds, in nanoseconds; none that was set; what no clock shows.
        let implausible = [NOW / 1000, NOW * 1000, NOW * 1_000_000, 0, -1, i64::MIN, i64::MAX, EARLIEST_MS - 1, NOW + AHEAD_MAX_MS + 1];
        latency.add(NOW, implausible);
        assert_eq!((latency.implausible(), latency.sum_ms(), latency.counts().iter().sum::<u64>()), (9, 0, 0));
        // Ahead by less than a day: applied at once. Of years ago, as in a history: as late as it is.
        let years = 3 * 365 * 24 * 3_600_000;
        latency.add(NOW, [NOW + 1, NOW + AHEAD_MAX_MS, NOW - years]);
        assert_eq!((latency.implausible(), latency.sum_ms()), (9, years.unsigned_abs()));
        assert_eq!((latency.counts()[0], latency.counts()[14]), (2, 1));
    }

    #[test]
    fn a_record_is_counted_at_the_first_bound_that_it_does_not_pass() {
        let latency = Latency::default();
        latency.add(NOW, [0, 1, 2, 3, 60_000, 60_001].map(|late| NOW - late));
        latency.add(NOW, [NOW - 3]);
        let counts = latency.counts();
        assert_eq!((counts[0], counts[1], counts[2], counts[13], counts[14]), (2, 1, 2, 1, 1));
        assert_eq!((counts.iter().sum::<u64>(), latency.sum_ms()), (7, 120_010));
    }
}
