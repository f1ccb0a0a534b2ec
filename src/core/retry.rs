//! Back-off with jitter: the waits grow to a bound. The attempts do not end, but where somebody gives up by the time.
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

/// Something that is tried again, by the time since the process began, and given up when it failed for long.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    since: Duration,
    at: Duration,
    backoff: Backoff,
}

impl Retry {
    /// Tried for the first time at this time.
    pub fn at(at: Duration) -> Self {
        Self { since: at, at, backoff: Backoff::default() }
    }

    pub fn due(&self, now: Duration) -> bool {
        now >= self.at
    }

    /// It failed. Whether it is tried again: it has not failed for so long yet. `jitter` is from 0 to 1.
    pub fn failed(&mut self, now: Duration, patience: Duration, jitter: f64) -> bool {
        self.at = now + self.backoff.next(jitter);
        now < self.since + patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_tried_again_after_growing_waits_and_given_up_after_a_while() {
        let patience = Duration::from_secs(30);
        let mut now = Duration::from_secs(100);
        let mut retry = Retry::at(now);
        let mut tries = 0;
        while retry.failed(now, patience, 0.0) {
            assert!(!retry.due(now));
            now += Backoff::LONGEST;
            assert!(retry.due(now));
            tries += 1;
        }
        assert_eq!((tries, now), (15, Duration::from_secs(130)));
    }

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
