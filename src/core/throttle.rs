//! Records a second, by governor. Whoever is over the limit waits as a paused partition, never as a sleeping lane.
use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A clock that is told the time: the core has none of its own.
#[derive(Clone, Debug, Default)]
struct Told(Arc<AtomicU64>);

impl Clock for Told {
    type Instant = Nanos;
    fn now(&self) -> Nanos {
        self.0.load(Ordering::Relaxed).into()
    }
}

/// A limit that all lanes share.
#[derive(Clone, Debug)]
pub struct Throttle {
    clock: Told,
    limiter: Arc<RateLimiter<NotKeyed, InMemoryState, Told, NoOpMiddleware<Nanos>>>,
}

impl Throttle {
    pub fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        let clock = Told::default();
        let quota = Quota::per_second(per_second).allow_burst(burst);
        Self { limiter: Arc::new(RateLimiter::direct_with_clock(quota, clock.clone())), clock }
    }

    /// Admits one record at `now` (since the process began), or says when to ask again.
    pub fn admit(&self, now: Duration) -> Result<(), Duration> {
        let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        self.clock.0.fetch_max(nanos, Ordering::Relaxed);
        self.limiter.check().map_err(|until| {
            let at: Nanos = until.earliest_possible();
            Duration::from_nanos(at.duration_since(Nanos::from(0)).as_u64())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_a_minute_no_more_than_the_rate_and_the_burst_pass() {
        let n = |n| NonZeroU32::new(n).unwrap();
        let throttle = Throttle::new(n(100), n(500));
        let passed = (0..60_000).filter(|ms| throttle.admit(Duration::from_millis(*ms)).is_ok()).count();
        assert!((6_400..=6_501).contains(&passed), "{passed}");
    }

    #[test]
    fn who_is_refused_is_told_when_to_come_back() {
        let one = NonZeroU32::MIN;
        let throttle = Throttle::new(one, one);
        throttle.admit(Duration::ZERO).unwrap();
        let at = throttle.admit(Duration::from_millis(1)).unwrap_err();
        assert!(throttle.admit(at).is_ok());
    }
}
