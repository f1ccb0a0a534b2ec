//! How fast a job goes, and how long it will take.
use std::collections::VecDeque;
use std::time::Duration;

/// Over how long the rate is averaged.
const WINDOW: Duration = Duration::from_secs(10);

/// Seen at these times, how many were done.
#[derive(Debug, Default)]
pub struct Speed(VecDeque<(Duration, i64)>);

impl Speed {
    pub fn see(&mut self, now: Duration, done: i64) {
        self.0.push_back((now, done));
        while self.0.len() > 2 && self.0[1].0 + WINDOW < now {
            self.0.pop_front();
        }
    }

    /// A second.
    #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
    pub fn rate(&self) -> f64 {
        match (self.0.front(), self.0.back()) {
            (Some((t0, n0)), Some((t1, n1))) if t1 > t0 => (n1 - n0) as f64 / (*t1 - *t0).as_secs_f64(),
            _ => 0.0,
        }
    }

    /// How long so many more will take; `None` where nothing moves.
    #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
    pub fn left(&self, more: i64) -> Option<Duration> {
        let rate = self.rate();
        (rate > 0.0).then(|| Duration::from_secs_f64((more as f64 / rate).min(1e9)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds_and_tells_what_is_left() {
        let mut speed = Speed::default();
        assert_eq!(speed.left(10), None);
        for s in 0..=20 {
            speed.see(Duration::from_secs(s), if s < 10 { 0 } else { i64::try_from(s - 10).unwrap() * 100 });
        }
        assert!((speed.rate() - 100.0).abs() < 10.0, "{}", speed.rate());
        assert!(speed.left(1_000).unwrap() < Duration::from_secs(12));
    }
}
