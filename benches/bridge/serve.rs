//! The readers' side: requests a second beside what `redis-benchmark` reaches on as many connections, and live clients.
use crate::bed::{Bed, refresh};
use crate::meter::resident_kib;
use crate::report::{Part, Table, progress};
use crate::stats::{Spread, Times};
use crate::support::{daemon::Daemon, pass};
use crate::ticks::{pair, sent};
use crate::variant::Variant;
use futures_util::future::{Either, join_all, select};
use serde_json::json;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// As the original's figure is meant, one that queues little, and as `redis-benchmark` does by itself.
const CONNECTIONS: [usize; 3] = [1, 5, 50];
const ENTRIES: usize = 100;
const LISTENERS: usize = 2000;
/// Deliveries a second, to all listeners together.
const DELIVERIES: usize = 10_000;
/// The listeners are spread over so many pairs: many of a pair, and each with one of its own.
const PAIRS: [usize; 2] = [100, 2000];

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// How long an answer is, with its head; `None` before that is known. Nothing is looked at twice: a client that worked more than
/// `redis-benchmark` would measure itself.
fn length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&bytes[..head]).unwrap().to_ascii_lowercase();
    let length = text.lines().find_map(|l| l.strip_prefix("content-length: ").map(|n| n.parse::<usize>().unwrap()));
    Some(head + 4 + length.expect("an answer of known length"))
}

/// One request after the other on each connection, all of which are answered alike; how many a second, and how long each took.
fn load(port: u16, path: &str, connections: usize, time: Duration) -> (f64, Times) {
    let request: Arc<str> = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").into();
    let client = |request: Arc<str>| async move {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (mut times, mut bytes, mut whole) = (Vec::new(), Vec::with_capacity(64 << 10), None);
        let until = Instant::now() + time;
        while Instant::now() < until {
            let asked = Instant::now();
            stream.write_all(request.as_bytes()).await.unwrap();
            bytes.clear();
            while whole.is_none_or(|n| bytes.len() < n) {
                assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "the connection was closed");
                whole = whole.or_else(|| length(&bytes));
            }
            times.push(asked.elapsed());
            assert!(bytes.starts_with(b"HTTP/1.1 200 ") && Some(bytes.len()) == whole, "{}", String::from_utf8_lossy(&bytes));
        }
        times
    };
    let times = runtime().block_on(tokio::task::LocalSet::new().run_until(async {
        let clients: Vec<_> = (0..connections).map(|_| tokio::task::spawn_local(client(request.clone()))).collect();
        let mut all = Vec::new();
        for client in clients {
            all.extend(client.await.unwrap());
        }
        all
    }));
    (times.len() as f64 / time.as_secs_f64(), Times::of(times).expect("some were answered"))
}

/// What `redis-benchmark` reaches without pipelining: a second, and the median in ms.
fn ceiling(port: u16, key: &str, connections: usize, requests: usize) -> (f64, f64) {
    let (port, clients, requests) = (port.to_string(), connections.to_string(), requests.to_string());
    let output = Command::new("redis-benchmark").args(["-p", &port, "-c", &clients, "-n", &requests, "-q", "GET", key]).output().expect("redis-benchmark");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.split(['\r', '\n']).rfind(|l| l.contains("requests per second")).unwrap_or_else(|| panic!("{text}"));
    let (rate, p50) = line.split_once(" requests per second, p50=").unwrap_or_else(|| panic!("{line}"));
    let number = |text: Option<&str>| text.and_then(|t| t.parse().ok()).unwrap_or_else(|| panic!("{line}"));
    (number(rate.rsplit(' ').next()), number(p50.split(' ').next()))
}

/// What one round found on so many connections.
struct Round {
    connections: usize,
    redis: (f64, f64),
    latest: (f64, Times),
    history: (f64, Times),
}

/// As the bridge writes some updates.
fn update(redis: &mut redis::Connection, tick: &str, updates: &[(String, u64)]) {
    let mut writes = redis::pipe();
    writes.atomic();
    for (pair, sent) in updates {
        writes.cmd("XADD").arg(format!("volatility:{pair}")).arg(&["MAXLEN", "~", "1000", "*", "price", "42000.0"]).arg("sent").arg(sent).ignore();
        writes.cmd("SETEX").arg(format!("latest:{pair}")).arg(3600).arg(tick).ignore();
        writes.cmd("PUBLISH").arg(format!("volatility_updates:{pair}")).arg(tick).ignore();
    }
    writes.query::<()>(redis).unwrap();
}

/// The entries of the pair that is asked for.
fn fill(redis: &mut redis::Connection, tick: &str) {
    let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(tick).unwrap();
    let fields: Vec<String> = fields.into_iter().flat_map(|(name, value)| [name, value.as_str().map_or_else(|| value.to_string(), str::to_owned)]).collect();
    let mut writes = redis::pipe();
    writes.cmd("DEL").arg(format!("volatility:{}", pair(0))).ignore();
    for _ in 0..ENTRIES {
        writes.cmd("XADD").arg(format!("volatility:{}", pair(0))).arg("*").arg(&fields).ignore();
    }
    writes.cmd("SETEX").arg(format!("latest:{}", pair(0))).arg(3600).arg(tick).ignore();
    writes.query::<()>(redis).unwrap();
}

/// What live clients of so many pairs found.
struct Live {
    pairs: usize,
    times: Times,
    /// The server's memory when all listen, and the largest in the first and in the second half of the time, in KiB.
    resident: [u64; 3],
}

/// What one listener gets, until it is over: how long each update took. Counts itself once it is open, and each update.
async fn listen(port: u16, pair: String, start: Instant, open: &AtomicUsize, received: &AtomicU64, mut over: watch::Receiver<bool>) -> Vec<Duration> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!("GET /api/v1/streaming/{pair}/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let over = async { over.wait_for(|over| *over).await.map(drop) };
    let mut over = std::pin::pin!(over);
    let (mut times, mut bytes, mut begun) = (Vec::new(), Vec::new(), false);
    loop {
        match select(std::pin::pin!(stream.read_buf(&mut bytes)), over.as_mut()).await {
            Either::Left((read, _)) => assert!(read.unwrap() > 0, "a listener was dropped"),
            Either::Right(_) => return times,
        }
        let now = start.elapsed().as_nanos() as u64;
        if !begun && bytes.windows(11).any(|w| w == b"event: open") {
            begun = true;
            open.fetch_add(1, Ordering::Relaxed);
        }
        let whole = bytes.windows(4).rposition(|w| w == b"\r\n\r\n" || w == b"}}\n\n").map_or(0, |at| at + 4);
        let before = times.len();
        times.extend(sent(&bytes[..whole]).map(|sent| Duration::from_nanos(now.saturating_sub(sent))));
        received.fetch_add((times.len() - before) as u64, Ordering::Relaxed);
        bytes.drain(..whole);
    }
}

/// Live clients at a steady rate: the time from when an update was due to be written to its receipt, which also counts what a
/// late write costs.
fn live(bed: &Bed, daemon: &Daemon, tick: &str, pairs: usize) -> Live {
    let (start, port) = (Instant::now(), daemon.http);
    let (open, received) = (AtomicUsize::new(0), AtomicU64::new(0));
    let (end, over) = watch::channel(false);
    let each = LISTENERS / pairs;
    std::thread::scope(|scope| {
        let listening = scope.spawn(|| {
            runtime().block_on(async {
                let listener = |n: usize| listen(port, pair((n % pairs) as u64), start, &open, &received, over.clone());
                join_all((0..LISTENERS).map(listener)).await.concat()
            })
        });
        crate::support::eventually("all listen", 60, || open.load(Ordering::Relaxed) == LISTENERS);
        let at_first = resident_kib(daemon.pid());
        let mut redis = bed.redis.connect();
        let rate = (DELIVERIES / each) as f64;
        let time = Duration::from_secs(bed.scale.seconds);
        let (began, mut n, mut halves, mut looked) = (Instant::now(), 0u64, [0u64; 2], Duration::ZERO);
        while began.elapsed() < time {
            let upto = (began.elapsed().as_secs_f64() * rate) as u64;
            let due = |n: u64| ((began - start).as_secs_f64() + n as f64 / rate) * 1e9;
            let updates: Vec<(String, u64)> = (n..upto).map(|n| (pair(n % pairs as u64), due(n) as u64)).collect();
            if !updates.is_empty() {
                update(&mut redis, tick, &updates);
            }
            n = upto.max(n);
            if began.elapsed() > looked {
                looked += Duration::from_millis(250);
                let half = &mut halves[usize::from(began.elapsed() > time / 2)];
                *half = resident_kib(daemon.pid()).max(*half);
            }
            pass(Duration::from_millis(1));
        }
        crate::support::eventually("each listener gets each update of its pair", 30, || received.load(Ordering::Relaxed) >= n * each as u64);
        end.send_replace(true);
        let times = listening.join().unwrap();
        assert_eq!(times.len() as u64, n * each as u64, "each listener got each update of its pair once");
        Live { pairs, times: Times::of(times).expect("updates came"), resident: [at_first, halves[0], halves[1]] }
    })
}

/// The requests, as a table.
fn requests(rounds: &[Round]) -> Table {
    let mut table =
        Table::new("Requests, one after the other on each connection", &["connections", "what", "a second", "of redis-benchmark's GET", "p50 ms", "p99 ms"]);
    for connections in CONNECTIONS {
        let of = || rounds.iter().filter(move |r| r.connections == connections);
        let each = |pick: &dyn Fn(&Round) -> f64| Spread::of(of().map(pick)).to_string();
        let redis = [each(&|r| r.redis.0), "1".into(), each(&|r| r.redis.1), String::new()];
        let latest = [each(&|r| r.latest.0), each(&|r| r.latest.0 / r.redis.0), each(&|r| r.latest.1.p50), each(&|r| r.latest.1.p99)];
        let history = [each(&|r| r.history.0), each(&|r| r.history.0 / r.redis.0), each(&|r| r.history.1.p50), each(&|r| r.history.1.p99)];
        for (what, cells) in [("redis-benchmark GET", redis), ("latest", latest), ("history of 100", history)] {
            table.row(connections, [what.into()].into_iter().chain(cells));
        }
    }
    table
}

pub(crate) fn measure(bed: &Bed) -> Part {
    refresh(&bed.redis);
    let topic = crate::support::unique("serve");
    crate::support::kafka::create(&topic, 1, &[]);
    let daemon = Variant::reference().setup(&topic, &bed.redis.url()).extra("[serve]\nenabled = true\n").start();
    daemon.wait_ready();
    let tick = r#"{"timestamp":"2025-12-06T14:00:00","price":42000.0,"realized_vol":0.35,"implied_vol":0.40,"garch_forecast":0.38,"spread":0.05}"#;
    // Before the requests: what those leave in the server's memory is not to hide what the listeners take.
    let lives: Vec<Live> = PAIRS.iter().map(|pairs| live(bed, &daemon, tick, *pairs)).collect();
    let mut redis = bed.redis.connect();
    fill(&mut redis, tick);
    let time = Duration::from_secs(bed.scale.seconds.min(3));
    let latest = format!("/api/v1/streaming/{}/latest", pair(0));
    let history = format!("/api/v1/streaming/{}/history?count={ENTRIES}", pair(0));
    let mut rounds: Vec<Round> = Vec::new();
    for turn in 1..=bed.scale.rounds {
        for connections in CONNECTIONS {
            let redis = ceiling(bed.redis.port, &format!("latest:{}", pair(0)), connections, if connections == 1 { 50_000 } else { 200_000 });
            let (latest, history) = (load(daemon.http, &latest, connections, time), load(daemon.http, &history, connections, time));
            progress(&format!("serve {turn}, {connections}: redis-benchmark {:.0}/s, latest {:.0}/s, history {:.0}/s", redis.0, latest.0, history.0));
            rounds.push(Round { connections, redis, latest, history });
        }
    }
    let mut listeners = Table::new(
        format!("{LISTENERS} live clients, {DELIVERIES} updates a second to all of them"),
        &["pairs", "writes a second", "p50 ms", "p99 ms", "max ms", "MiB when all listen", "in the first half", "in the second half"],
    );
    for Live { pairs, times, resident } in &lives {
        let figures =
            [times.p50, times.p99, times.max].map(|ms| format!("{ms:.2}")).into_iter().chain(resident.map(|kib| format!("{:.1}", kib as f64 / 1024.0)));
        listeners.row(pairs, [(DELIVERIES * pairs / LISTENERS).to_string()].into_iter().chain(figures));
    }
    let figures = json!({
        "rounds": rounds.iter().map(|r| json!({"connections": r.connections, "redis": r.redis, "latest": r.latest, "history": r.history})).collect::<Vec<_>>(),
        "live": lives.iter().map(|l| json!({"pairs": l.pairs, "times": l.times, "resident_kib": l.resident})).collect::<Vec<_>>(),
    });
    let notes = vec![
        "Each client asks again when it has its answer, so on 50 connections a time is that of a queue: at a rate of R no median is below 50 / R. On one and on five it is that of an answer.".into(),
        "The clients share the machine with the server and Redis, and take their part of it: redis-benchmark is one thread beside Redis, these are one thread beside the server and Redis.".into(),
    ];
    Part { tables: vec![requests(&rounds), listeners], notes, figures }
}
