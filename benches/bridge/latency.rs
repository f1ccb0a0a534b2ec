//! Latency at a steady load: from the producer's send to the subscriber's receipt and to the reader's of the stream,
//! beside a bare consumer of the same topic. All in this process, by one clock; a record carries when it was sent.
use crate::bed::{Bed, refresh};
use crate::pump::Pump;
use crate::report::{Part, Table, progress};
use crate::stats::{Spread, Times, median, spreads};
use crate::support::{eventually, kafka, pass, unique};
use crate::ticks::{Workload, pair, sent};
use crate::variant::Variant;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::json;
use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The load grows for so long, and what was sent before it is steady is not counted: caches are cold, connections new, and
/// what falls behind in the first moments of a high load would stand in the way of all that follows.
const WARM_UP: Duration = Duration::from_secs(5);
/// The pairs whose streams are read; every pair's channel is.
const STREAMS: u64 = 10;
/// How long a reader waits before it looks whether it is over.
const LOOK: Duration = Duration::from_millis(200);
const PARTITIONS: i32 = 8;
const PAIRS: u64 = 100;
/// What the bridge may add to a bare consumer's p50 and p99 at 10,000 records a second, in ms (docs/performance.md, Targets).
const ADDED_MAX: [f64; 2] = [0.3, 1.0];

/// When records were sent, and when they came: nanoseconds of the run's clock. The time of sending is the record's name.
type Arrivals = Vec<(u64, u64)>;

#[derive(Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn now(self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

/// Seconds at the full rate that come to as much as this time since the load began to grow.
fn steady(elapsed: Duration) -> f64 {
    let (elapsed, growing) = (elapsed.as_secs_f64(), WARM_UP.as_secs_f64());
    if elapsed < growing { elapsed * elapsed / growing / 2.0 } else { elapsed - growing / 2.0 }
}

/// What a producer sends, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Records a second.
    pub(crate) rate: f64,
    /// How long it waits for more records of a batch, as `linger.ms` takes it. At 0 each record is a request, of which Kafka answers
    /// 10,000 a second with most of a core.
    pub(crate) linger_ms: &'static str,
}

impl Load {
    /// Without waiting.
    pub(crate) fn of(rate: f64) -> Self {
        Self { rate, linger_ms: "0" }
    }
}

/// Sends this, in order, and returns how many.
fn produce(topic: &str, Load { rate, linger_ms }: Load, time: Duration, clock: Clock) -> u64 {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka::bootstrap()).set("linger.ms", linger_ms).set("enable.idempotence", "true");
    let producer: BaseProducer = config.create().unwrap();
    let (start, mut n) = (Instant::now(), 0u64);
    let mut last = 0;
    while start.elapsed() < time {
        let due = (steady(start.elapsed()) * rate) as u64;
        while n < due {
            let pair = pair(n % PAIRS);
            // No two have the same name.
            last = clock.now().max(last + 1);
            let payload = format!(
                r#"{{"sent":{last},"timestamp":"2025-12-06T14:00:00.000","pair":"{pair}","price":42055.10,"realized_vol":0.3512,"implied_vol":0.4021,"garch_forecast":0.3833}}"#
            );
            let partition = i32::try_from(n % PAIRS).unwrap() % PARTITIONS;
            let mut record = BaseRecord::to(topic).key(&pair).payload(&payload).partition(partition);
            // A machine that can't keep up sends less, which is told: what is late already counts from its name.
            while let Err((_, again)) = producer.send(record) {
                producer.poll(Duration::from_millis(1));
                record = again;
            }
            n += 1;
        }
        producer.poll(Duration::ZERO);
        pass(Duration::from_micros(100));
    }
    producer.flush(Duration::from_secs(30)).unwrap();
    n
}

/// A consumer without anything behind it.
fn consume(topic: &str, clock: Clock, stop: &AtomicBool) -> Arrivals {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka::bootstrap()).set("group.id", unique("bare")).set("fetch.queue.backoff.ms", "1");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut all = TopicPartitionList::new();
    (0..PARTITIONS).for_each(|p| all.add_partition_offset(topic, p, Offset::Beginning).unwrap());
    consumer.assign(&all).unwrap();
    let mut arrivals = Arrivals::new();
    while !stop.load(Ordering::Relaxed) {
        if let Some(Ok(message)) = consumer.poll(LOOK) {
            arrivals.push((sent(message.payload().unwrap()).next().unwrap(), clock.now()));
        }
    }
    arrivals
}

/// A subscriber of all channels. It does not parse RESP: a message's payload names its record.
fn subscribe(port: u16, clock: Clock, stop: &AtomicBool) -> Arrivals {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(LOOK)).unwrap();
    stream.write_all(b"PSUBSCRIBE volatility_updates:*\r\n").unwrap();
    let (mut arrivals, mut buffer, mut end) = (Arrivals::new(), vec![0; 256 << 10], 0);
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer[end..]) {
            Ok(0) => break,
            Ok(n) => end += n,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(_) => break,
        }
        let (now, mut from) = (clock.now(), 0);
        // A payload ends with its brace; what is cut off waits for the rest.
        while let Some(len) = buffer[from..end].iter().position(|b| *b == b'}') {
            arrivals.extend(sent(&buffer[from..from + len]).next().map(|sent| (sent, now)));
            from += len + 1;
        }
        buffer.copy_within(from..end, 0);
        end -= from;
    }
    arrivals
}

type Entries = Vec<(String, Vec<(String, HashMap<String, String>)>)>;

/// A reader of some streams, entry after entry.
fn read(port: u16, clock: Clock, stop: &AtomicBool) -> Arrivals {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/0")).unwrap();
    let mut connection = client.get_connection().unwrap();
    let mut places: Vec<(String, String)> = (0..STREAMS).map(|n| (format!("volatility:{}", pair(n)), "0".to_owned())).collect();
    let mut arrivals = Arrivals::new();
    while !stop.load(Ordering::Relaxed) {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(1000).arg("BLOCK").arg(LOOK.as_millis() as u64).arg("STREAMS");
        places.iter().for_each(|(stream, _)| _ = command.arg(stream));
        places.iter().for_each(|(_, id)| _ = command.arg(id));
        let found: Option<Entries> = command.query(&mut connection).unwrap();
        let now = clock.now();
        for (stream, entries) in found.into_iter().flatten() {
            arrivals.extend(entries.iter().map(|(_, fields)| (fields["sent"].parse::<u64>().unwrap(), now)));
            if let (Some(place), Some((id, _))) = (places.iter_mut().find(|(name, _)| *name == stream), entries.last()) {
                place.1.clone_from(id);
            }
        }
    }
    arrivals
}

/// What one run came to.
struct Turn {
    consumer: Times,
    subscriber: Times,
    stream: Times,
    /// The subscriber's time by that of the bare consumer, record by record.
    added: Times,
    /// Of what was sent.
    received: f64,
    sent_a_second: f64,
}

/// How long what was sent after the warm-up took, from a moment of each to its arrival.
fn times(arrivals: &Arrivals, from: impl Fn(u64) -> Option<u64>) -> Times {
    let counted = arrivals.iter().filter(|(sent, _)| u128::from(*sent) > WARM_UP.as_nanos());
    let took = counted.filter_map(|(sent, came)| Some(Duration::from_nanos(came.saturating_sub(from(*sent)?))));
    Times::of(took).expect("something came after the warm-up")
}

/// From the producer's send to the subscriber's receipt, beside what `neighbour` starts and ends with its value.
pub(crate) fn to_the_subscriber<N>(bed: &Bed, load: Load, neighbour: impl Fn() -> N) -> Times {
    turn(bed, load, neighbour).subscriber
}

fn turn<N>(bed: &Bed, load: Load, neighbour: impl Fn() -> N) -> Turn {
    refresh(&bed.redis);
    let topic = unique("latency");
    kafka::create(&topic, PARTITIONS, &[]);
    let variant = Variant::reference();
    let bridge = variant.setup(&topic, &bed.redis.url()).start();
    eventually("all partitions are open", 60, || bridge.open() == PARTITIONS as usize);
    let _neighbour = neighbour();
    let (stop, clock, port) = (AtomicBool::new(false), Clock(Instant::now()), bed.redis.port);
    let time = WARM_UP + Duration::from_secs(bed.scale.seconds);
    let (produced, bare, subscriber, stream) = std::thread::scope(|scope| {
        let bare = scope.spawn(|| consume(&topic, clock, &stop));
        let subscriber = scope.spawn(|| subscribe(port, clock, &stop));
        let stream = scope.spawn(|| read(port, clock, &stop));
        let produced = produce(&topic, load, time, clock);
        // What has not come by then is told as a share; an overloaded machine must not hold everything up.
        pass(Duration::from_secs(2));
        stop.store(true, Ordering::Relaxed);
        (produced, bare.join().unwrap(), subscriber.join().unwrap(), stream.join().unwrap())
    });
    let came: HashMap<u64, u64> = bare.iter().copied().collect();
    Turn {
        added: times(&subscriber, |sent| came.get(&sent).copied()),
        consumer: times(&bare, Some),
        received: subscriber.len() as f64 / produced as f64,
        subscriber: times(&subscriber, Some),
        stream: times(&stream, Some),
        sent_a_second: produced as f64 / steady(time),
    }
}

/// `added_max` is what the bridge may add at the first of the percentiles, where there is a bound.
fn table(title: String, turns: &[Turn], added_max: &[f64]) -> Table {
    let mut table = Table::new(title, &[&[""], &Times::HEAD[..]].concat());
    let of = |pick: fn(&Turn) -> [f64; 4]| spreads(turns.iter().map(pick));
    let subscriber = of(|t| t.subscriber.figures());
    table.row("to a bare consumer", of(|t| t.consumer.figures()));
    table.row("to the subscriber", subscriber);
    table.row("to the stream's reader", of(|t| t.stream.figures()));
    // What is added may be next to nothing, and then twice as much in the next turn makes no difference to anybody. It must tell
    // whether the bound is kept; where there is none, how much of the subscriber's time it is.
    let added =
        |spreads: [Spread; 4]| -> [String; 4] { std::array::from_fn(|n| spreads[n].against(added_max.get(n).copied().unwrap_or(subscriber[n].median))) };
    table.row("subscriber behind consumer, by record", added(of(|t| t.added.figures())));
    let [p50, p99, p999, _] = added(of(|t| std::array::from_fn(|n| t.subscriber.figures()[n] - t.consumer.figures()[n])));
    table.row("subscriber less consumer", [p50, p99, p999, "-".into()]);
    table
}

pub(crate) fn measure(bed: &Bed) -> Part {
    let (workload, variant) = (Workload::ticks(bed.scale.share(10)), Variant::reference());
    let ceiling = Pump::new(&workload, &variant).ceiling(&bed.redis, &bed.address(), [&variant], bed.scale.share(2)).rate();
    let (mut tables, mut notes, mut figures) = (Vec::new(), Vec::new(), Vec::new());
    // Kafka's just-in-time compiler takes most of a core in the first seconds of such a load.
    let _warm_up = turn(bed, Load::of(10_000.0), || ());
    let cases = [
        ("10,000 records/s, linger 0".to_owned(), Load::of(10_000.0), &ADDED_MAX[..]),
        ("10,000 records/s, linger 0.5 ms".to_owned(), Load { rate: 10_000.0, linger_ms: "0.5" }, &ADDED_MAX[..]),
        (format!("half of the ceiling, {:.0} records/s, linger 0", ceiling / 2.0), Load::of(ceiling / 2.0), &[]),
    ];
    for (name, load, added_max) in cases {
        let turns: Vec<Turn> = (0..bed.scale.rounds).map(|_| turn(bed, load, || ())).collect();
        let (received, sent) = (median(turns.iter().map(|t| t.received)), median(turns.iter().map(|t| t.sent_a_second)));
        notes.push(format!("At {name}: {sent:.0} records/s were sent, {:.1} % of them had come two seconds after the last.", received * 100.0));
        progress(&format!("{name}: {:?}", turns.iter().map(|t| t.subscriber.p50).collect::<Vec<_>>()));
        let all: Vec<_> = turns.iter().map(|t| json!({ "consumer": t.consumer, "subscriber": t.subscriber, "stream": t.stream, "added": t.added })).collect();
        figures.push(json!({ "rate": load.rate, "linger_ms": load.linger_ms, "turns": all }));
        tables.push(table(format!("Latency at {name}, {} turns of {} s", turns.len(), bed.scale.seconds), &turns, added_max));
    }
    let [p50, p99] = ADDED_MAX;
    notes.push(format!(
        "Medians of the turns, in brackets the smallest and the largest. What is added, by record or between the percentiles, is too wide to tell by a fifth of the bound at 10,000 records/s ({p50} ms at p50, {p99} ms at p99), else of the subscriber's own time; or of itself where that is larger."
    ));
    notes.push("Producer (all replicas acknowledge), bare consumer, subscriber, reader, Kafka, Redis and the bridge share the cores.".into());
    Part { tables, notes, figures: figures.into() }
}
