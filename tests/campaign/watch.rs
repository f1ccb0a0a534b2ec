//! Looks at the bridges' conditions all the time, as monitoring would: when each code was first seen.
use kafka_redis_bridge::cli::status::fetch;
use kafka_redis_bridge::ops::status::Status;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// How often: what a time to detect may be off by.
const EVERY: Duration = Duration::from_millis(25);

#[derive(Default)]
pub(crate) struct Watch(Arc<Seen>);

#[derive(Default)]
struct Seen {
    ports: [AtomicU16; 2],
    ended: AtomicBool,
    /// A code, when it appeared.
    codes: Mutex<Vec<(Instant, String)>>,
}

impl Watch {
    pub(crate) fn start() -> Self {
        let watch = Self::default();
        for bridge in 0..2 {
            let seen = watch.0.clone();
            std::thread::spawn(move || seen.look(bridge));
        }
        watch
    }

    /// A bridge listens at another port.
    pub(crate) fn at(&self, bridge: usize, port: u16) {
        self.0.ports[bridge].store(port, Ordering::Relaxed);
    }

    /// When one of these codes was first seen after `since`.
    pub(crate) fn first(&self, codes: &[&str], since: Instant) -> Option<Instant> {
        self.0.codes.lock().iter().find(|(at, code)| *at >= since && codes.contains(&code.as_str())).map(|(at, _)| *at)
    }

    /// All codes seen since.
    pub(crate) fn all(&self, since: Instant) -> BTreeSet<String> {
        self.0.codes.lock().iter().filter(|(at, _)| *at >= since).map(|(_, code)| code.clone()).collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Relaxed);
    }
}

impl Seen {
    fn look(&self, bridge: usize) {
        let mut before = BTreeSet::new();
        while !self.ended.load(Ordering::Relaxed) {
            let port = self.ports[bridge].load(Ordering::Relaxed);
            let status = fetch(&format!("127.0.0.1:{port}"), "/status").ok().and_then(|text| serde_json::from_str::<Status>(&text).ok());
            // A bridge that can't be asked shows nothing.
            let now: BTreeSet<String> = status.into_iter().flat_map(|s| s.conditions).map(|c| c.code).collect();
            let at = Instant::now();
            self.codes.lock().extend(now.difference(&before).map(|code| (at, code.clone())));
            before = now;
            std::thread::park_timeout(EVERY);
        }
    }
}
