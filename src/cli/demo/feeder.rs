//! Volatility ticks, at a steady rate: a random walk for each pair.
use rand::Rng as _;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The pairs, which are the records' keys: librdkafka's partitioner (CRC32) puts two of them on each of the demo's four partitions.
pub(super) const PAIRS: [&str; 8] = ["BTC/USD", "ETH/USD", "NEO/USD", "ADA/USD", "LTC/USD", "DOT/USD", "AVAX/USD", "DOGE/USD"];
/// Between two bursts.
const STEP: Duration = Duration::from_millis(10);

/// A running feeder.
pub(super) struct Feeder {
    produced: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

struct Tick {
    price: f64,
    realized_vol: f64,
}

impl Tick {
    /// The next tick of the walk, as the reference workload has it.
    fn next(&mut self, random: &mut impl rand::Rng) -> String {
        self.price = (self.price * (1.0 + random.random_range(-0.0005..0.0005))).max(0.01);
        self.realized_vol = (self.realized_vol + random.random_range(-0.002..0.002)).clamp(0.05, 0.95);
        let round = |v: f64| (v * 1e4).round() / 1e4;
        json!({
            "timestamp": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S").to_string(),
            "price": (self.price * 100.0).round() / 100.0,
            "realized_vol": round(self.realized_vol),
            "implied_vol": round(self.realized_vol + 0.05),
            "garch_forecast": round(self.realized_vol + 0.03),
            "spread": round(random.random_range(0.01..0.12)),
        })
        .to_string()
    }
}

impl Feeder {
    /// Feeds `rate` ticks a second, until it is stopped.
    pub(super) fn start(brokers: &str, topic: &str, rate: u64) -> Result<Self, String> {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("linger.ms", "5")
            .set("enable.idempotence", "true")
            .create()
            .map_err(|e| format!("the feeder: {e}"))?;
        let (produced, over, topic) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)), topic.to_owned());
        let (count, end) = (produced.clone(), over.clone());
        let feed = move || {
            let mut random = rand::rng();
            let mut ticks: Vec<Tick> = (0..PAIRS.len()).map(|_| Tick { price: random.random_range(1.0..50_000.0), realized_vol: 0.35 }).collect();
            let begun = Instant::now();
            while !end.load(Ordering::Relaxed) {
                let due = (begun.elapsed().as_secs_f64() * rate as f64) as u64;
                while count.load(Ordering::Relaxed) < due && !end.load(Ordering::Relaxed) {
                    let pair = random.random_range(0..PAIRS.len());
                    let payload = ticks[pair].next(&mut random);
                    match producer.send(BaseRecord::to(&topic).key(PAIRS[pair]).payload(&payload)) {
                        Ok(()) => drop(count.fetch_add(1, Ordering::Relaxed)),
                        Err(_) => producer.poll(STEP),
                    }
                }
                producer.poll(Duration::ZERO);
                std::thread::park_timeout(STEP);
            }
            let _ = producer.flush(Duration::from_secs(5));
        };
        let thread = std::thread::Builder::new().name("feeder".into()).spawn(feed).map_err(|e| e.to_string())?;
        Ok(Self { produced, over, thread })
    }

    pub(super) fn produced(&self) -> u64 {
        self.produced.load(Ordering::Relaxed)
    }

    /// Stops; how many ticks it produced.
    pub(super) fn stop(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
        self.produced.load(Ordering::Relaxed)
    }
}
