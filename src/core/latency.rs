//! How late records are when Redis has answered for them, by their own timestamps: what a route's readers feel of all that lies
//! before, the producer's lingering and Kafka among it.
use std::sync::atomic::{AtomicU64, Ordering};

/// The buckets' upper bounds, in milliseconds; one more holds what is above them.
pub const BOUNDS_MS: [u64; 14] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 60_000];

/// Counts by bucket, shared by the lanes.
#[derive(Debug, Default)]
pub struct Latency {
    counts: [AtomicU64; BOUNDS_MS.len() + 1],
    sum_ms: AtomicU64,
}

impl Latency {
    /// Adds a batch's records; what is shared is touched once a bucket, not once a record.
    pub fn add(&self, late_ms: impl IntoIterator<Item = u64>) {
        let (mut counts, mut sum) = ([0; BOUNDS_MS.len() + 1], 0u64);
        for ms in late_ms {
            counts[BOUNDS_MS.partition_point(|bound| *bound < ms)] += 1;
            sum = sum.saturating_add(ms);
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_counted_at_the_first_bound_that_it_does_not_pass() {
        let latency = Latency::default();
        latency.add([0, 1, 2, 3, 60_000, 60_001]);
        latency.add([3]);
        let counts = latency.counts();
        assert_eq!((counts[0], counts[1], counts[2], counts[13], counts[14]), (2, 1, 2, 1, 1));
        assert_eq!((counts.iter().sum::<u64>(), latency.sum_ms()), (7, 120_010));
    }
}
