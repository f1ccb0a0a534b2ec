//! A producer that does not stop: ticks at a steady rate, and among them records that can't be applied.
use crate::support::kafka::{Produce, Producer};
use crate::support::letters;
use crate::support::process::joined;
use crate::support::redis_server::RedisServer;
use crate::support::sequence::{Ticks, tick};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Ticks a second.
const RATE: u64 = 2_000;
const KEYS: u64 = 64;
/// One in so many ticks is followed by a record that can't be decoded, and by one whose stream's key has the wrong type.
const POISON_EVERY: u64 = 500;
const STEP: Duration = Duration::from_millis(20);
/// The key whose stream is a string: [`prepare`] makes it one.
const OCCUPIED: &str = "W/USD";

/// What was produced.
#[derive(Debug, Default)]
pub(crate) struct Produced {
    pub(crate) ticks: Ticks,
    /// Of each of the two kinds.
    pub(crate) poison: u64,
}

pub(crate) struct Feed {
    stop: Arc<AtomicBool>,
    records: Arc<AtomicI64>,
    thread: JoinHandle<Produced>,
}

/// Makes the key of the wrong type.
pub(crate) fn prepare(redis: &RedisServer) {
    redis.command(&format!("SET volatility:{OCCUPIED} occupied"));
}

impl Feed {
    pub(crate) fn start(topic: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let records = Arc::new(AtomicI64::new(0));
        let (stopped, count, topic) = (stop.clone(), records.clone(), topic.to_owned());
        Self { stop, records, thread: std::thread::spawn(move || produce(&topic, &stopped, &count)) }
    }

    /// How many records were handed to the client so far, which is how far the positions must come, all together.
    pub(crate) fn records(&self) -> i64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Stops it, and waits until Kafka has everything.
    pub(crate) fn stop(self) -> Produced {
        self.stop.store(true, Ordering::Relaxed);
        joined("Kafka has everything that was produced", self.thread)
    }
}

fn produce(topic: &str, stopped: &AtomicBool, records: &AtomicI64) -> Produced {
    let producer = Producer::new();
    let mut produced = Produced::default();
    let begun = Instant::now();
    while !stopped.load(Ordering::Relaxed) {
        let due = u64::try_from(begun.elapsed().as_millis()).unwrap() * RATE / 1000;
        // After a stall of its own it goes on at its rate: it does not make up for lost time in one burst.
        for _ in 0..due.saturating_sub(produced.ticks.total).min(RATE / 10) {
            produced.ticks.produce_with(&producer, topic, 1, KEYS);
            if produced.ticks.total % POISON_EVERY == 0 {
                let (bad, refused) = (undecodable(produced.poison), tick(produced.poison));
                producer.send(topic, Produce::new("P0/USD", &bad));
                producer.send(topic, Produce::new(OCCUPIED, &refused));
                produced.poison += 1;
            }
        }
        records.store(i64::try_from(produced.records()).unwrap(), Ordering::Relaxed);
        std::thread::park_timeout(STEP);
    }
    producer.flush();
    produced
}

fn undecodable(n: u64) -> String {
    format!("{{\"poison\": {n}")
}

impl Produced {
    pub(crate) fn records(&self) -> u64 {
        self.ticks.total + 2 * self.poison
    }

    /// How many letters are missing, how many stand there too often; with a line for each.
    pub(crate) fn compare_letters(&self, redis: &RedisServer) -> (u64, u64, Vec<String>) {
        let mut found: BTreeMap<(String, Vec<u8>), u64> = BTreeMap::new();
        for letter in letters::read(redis, super::bed::LETTERS) {
            *found.entry((letter.text("code"), letter.bytes("payload").unwrap_or_default().to_vec())).or_default() += 1;
        }
        let (mut lost, mut doubled, mut lines) = (0, 0, Vec::new());
        for n in 0..self.poison {
            for (code, payload) in [("undecodable", undecodable(n)), ("refused", tick(n))] {
                let times = found.remove(&(code.to_owned(), payload.into_bytes())).unwrap_or_default();
                lost += u64::from(times == 0);
                doubled += times.saturating_sub(1);
                if times != 1 {
                    lines.push(format!("the letter {code} {n} stands there {times} times"));
                }
            }
        }
        for ((code, payload), times) in found {
            doubled += times;
            lines.push(format!("a letter that nobody is owed, {times} times: {code}: {}", String::from_utf8_lossy(&payload)));
        }
        (lost, doubled, lines)
    }
}
