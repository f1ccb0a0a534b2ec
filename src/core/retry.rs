//! Back-off with jitter, for ever: the waits grow to a bound, the attempts do not end.
use std::time::Duration;

/// How long to wait before the next attempt.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The first wait, before jitter.
    pub const FIRST: Duration = Duration::from_millis(50);
    /// The longest wait, before jitter: what a recovered Redis waits for us at most.
    pub const LONGEST: Duration = Duration::from_secs(2);

    /// The next wait. `jitter` is from 0 to 1 and comes from outside; it takes up to half of the wait away.
    pub fn next(&mut self, jitter: f64) -> Duration {
        let grown = Self::FIRST.saturating_mul(1 << self.attempts.min(10)).min(Self::LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        grown.mul_f64(1.0 - 0.5 * jitter.clamp(0.0, 1.0))
    }

    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_never_end() {
        let mut backoff = Backoff::default();
        let mut before = Duration::ZERO;
        for _ in 0..2000 {
            let wait = backoff.next(0.0);
            assert!(wait >= before && wait <= Backoff::LONGEST);
            before = wait;
        }
        assert_eq!(before, Backoff::LONGEST);
        backoff.reset();
        assert_eq!(backoff.next(1.0), Backoff::FIRST / 2);
    }
}
