//! The readers' side: requests a second beside what `redis-benchmark` reaches on as many connections, and live clients.
use crate::bed::{Bed, refresh};
use crate::meter::peak_kib;
use crate::report::{Part, Table, progress};
use crate::stats::{Spread, Times};
use crate::support::{daemon::Daemon, pass};
use crate::ticks::pair;
use crate::variant::Variant;
use serde_json::json;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const CONNECTIONS: usize = 50;
const PAIRS: u64 = 100;
const ENTRIES: usize = 100;
const LISTENERS: usize = 2000;
/// Deliveries a second, to all listeners together.
const DELIVERIES: usize = 10_000;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Where an answer ends: behind its head and as much as that says.
fn answered(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    assert!(head.starts_with("HTTP/1.1 200"), "{text}");
    let length = head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ").map(|n| n.parse::<usize>().unwrap()));
    body.len() >= length.expect("an answer of known length")
}

/// One request after the other on each connection; how many a second, and how long each took.
fn load(port: u16, path: &str, time: Duration) -> (f64, Times) {
    let request: Arc<str> = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").into();
    let times = runtime().block_on(async {
        let until = Instant::now() + time;
        let client = |request: Arc<str>| async move {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (mut times, mut bytes) = (Vec::new(), Vec::with_capacity(64 << 10));
            while Instant::now() < until {
                let asked = Instant::now();
                stream.write_all(request.as_bytes()).await.unwrap();
                bytes.clear();
                while !answered(&bytes) {
                    assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "the connection was closed");
                }
                times.push(asked.elapsed());
            }
            times
        };
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let clients: Vec<_> = (0..CONNECTIONS).map(|_| tokio::task::spawn_local(client(request.clone()))).collect();
                let mut all = Vec::new();
                for client in clients {
                    all.extend(client.await.unwrap());
                }
                all
            })
            .await
    });
    (times.len() as f64 / time.as_secs_f64(), Times::of(times).expect("some were answered"))
}

/// What `redis-benchmark` reaches without pipelining.
fn ceiling(port: u16, key: &str, requests: usize) -> f64 {
    let (port, clients, requests) = (port.to_string(), CONNECTIONS.to_string(), requests.to_string());
    let output = Command::new("redis-benchmark").args(["-p", &port, "-c", &clients, "-n", &requests, "-q", "GET", key]).output().expect("redis-benchmark");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.split(['\r', '\n']).rfind(|l| l.contains("requests per second")).unwrap_or_else(|| panic!("{text}"));
    line.split(" requests per second").next().and_then(|l| l.rsplit(' ').next()).and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}

/// What one round found: redis-benchmark's rate, then rate and times of latest and of history.
type Round = (f64, (f64, Times), (f64, Times));

/// As the bridge writes it.
fn update(redis: &mut redis::Connection, pair: &str, tick: &str, sent: u64) {
    let mut writes = redis::pipe();
    writes.atomic().cmd("XADD").arg(format!("volatility:{pair}")).arg(&["MAXLEN", "~", "1000", "*", "price", "42000.0"]).arg("sent").arg(sent).ignore();
    writes.cmd("SET").arg(format!("latest:{pair}")).arg(tick).ignore();
    writes.cmd("PUBLISH").arg(format!("volatility_updates:{pair}")).arg(tick).ignore();
    writes.query::<()>(redis).unwrap();
}

fn sent(text: &[u8]) -> impl Iterator<Item = u64> {
    const HEAD: &[u8] = br#""sent":"#;
    let places = text.windows(HEAD.len()).enumerate().filter(|(_, w)| *w == HEAD).map(|(at, _)| at + HEAD.len());
    places.map(|at| text[at..].iter().take_while(|b| b.is_ascii_digit()).fold(0, |n, d| n * 10 + u64::from(d - b'0')))
}

/// Live clients at a steady rate: the time from before the write to the receipt, and the server's peak memory before and after.
fn live(bed: &Bed, daemon: &Daemon) -> (Times, u64, u64) {
    let (start, port, over) = (Instant::now(), daemon.http, AtomicBool::new(false));
    let open = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let listening = scope.spawn(|| {
            runtime().block_on(async {
                let listener = |n: usize| {
                    let (open, over) = (&open, &over);
                    async move {
                        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                        let request = format!("GET /api/v1/streaming/{}/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", pair(n as u64 % PAIRS));
                        stream.write_all(request.as_bytes()).await.unwrap();
                        let (mut times, mut bytes, mut begun) = (Vec::new(), Vec::new(), false);
                        while !over.load(Ordering::Relaxed) {
                            match tokio::time::timeout(Duration::from_millis(200), stream.read_buf(&mut bytes)).await {
                                Ok(read) => assert!(read.unwrap() > 0, "a listener was dropped"),
                                Err(_) => continue,
                            }
                            let now = start.elapsed().as_nanos() as u64;
                            if !begun && bytes.windows(11).any(|w| w == b"event: open") {
                                begun = true;
                                open.fetch_add(1, Ordering::Relaxed);
                            }
                            let whole = bytes.windows(4).rposition(|w| w == b"\r\n\r\n" || w == b"}}\n\n").map_or(0, |at| at + 4);
                            times.extend(sent(&bytes[..whole]).map(|sent| Duration::from_nanos(now.saturating_sub(sent))));
                            bytes.drain(..whole);
                        }
                        times
                    }
                };
                let all = futures_util::future::join_all((0..LISTENERS).map(listener)).await;
                all.concat()
            })
        });
        crate::support::eventually("all listen", 60, || open.load(Ordering::Relaxed) == LISTENERS);
        let before = peak_kib(daemon.pid());
        let mut redis = bed.redis.connect();
        let rate = (DELIVERIES * PAIRS as usize / LISTENERS) as f64;
        let (began, mut n) = (Instant::now(), 0u64);
        while began.elapsed() < Duration::from_secs(bed.scale.seconds) {
            let due = (began.elapsed().as_secs_f64() * rate) as u64;
            while n < due {
                update(&mut redis, &pair(n % PAIRS), "{}", start.elapsed().as_nanos() as u64);
                n += 1;
            }
            pass(Duration::from_millis(1));
        }
        pass(Duration::from_secs(1));
        over.store(true, Ordering::Relaxed);
        let times = listening.join().unwrap();
        assert_eq!(times.len() as u64, n * (LISTENERS as u64 / PAIRS), "each listener got each update of its pair once");
        (Times::of(times).expect("updates came"), before, peak_kib(daemon.pid()))
    })
}

pub(crate) fn measure(bed: &Bed) -> Part {
    refresh(&bed.redis);
    let topic = crate::support::unique("serve");
    crate::support::kafka::create(&topic, 1, &[]);
    let daemon = Variant::reference().setup(&topic, &bed.redis.url()).extra("[serve]\nenabled = true\n").start();
    daemon.wait_ready();
    let tick = r#"{"timestamp":"2025-12-06T14:00:00","price":42000.0,"realized_vol":0.35,"implied_vol":0.40,"garch_forecast":0.38,"spread":0.05}"#;
    let mut redis = bed.redis.connect();
    (0..ENTRIES).for_each(|_| update(&mut redis, &pair(0), tick, 0));
    let time = Duration::from_secs(bed.scale.seconds.min(5));
    let latest = format!("/api/v1/streaming/{}/latest", pair(0));
    let history = format!("/api/v1/streaming/{}/history?count={ENTRIES}", pair(0));
    let mut rounds: Vec<Round> = Vec::new();
    for round in 1..=bed.scale.rounds {
        let redis = ceiling(bed.redis.port, &format!("latest:{}", pair(0)), 200_000);
        let (gets, histories) = (load(daemon.http, &latest, time), load(daemon.http, &history, time));
        progress(&format!("serve {round}: redis-benchmark {redis:.0}/s, latest {:.0}/s, history {:.0}/s", gets.0, histories.0));
        rounds.push((redis, gets, histories));
    }
    let mut requests = Table::new("Requests, one after the other on 50 connections", &["what", "a second", "of redis-benchmark's GET", "p50 ms", "p99 ms"]);
    let each = |pick: &dyn Fn(&Round) -> f64| Spread::of(rounds.iter().map(pick));
    requests.rows.push(vec!["redis-benchmark GET".into(), each(&|r| r.0).to_string(), "1".into(), String::new(), String::new()]);
    for (name, of) in [("latest", 1), ("history of 100", 2)] {
        let pick = move |r: &Round| if of == 1 { r.1 } else { r.2 };
        let times = |p: fn(&Times) -> f64| each(&move |r| p(&pick(r).1)).to_string();
        requests.rows.push(vec![
            name.into(),
            each(&move |r| pick(r).0).to_string(),
            each(&move |r| pick(r).0 / r.0).to_string(),
            times(|t| t.p50),
            times(|t| t.p99),
        ]);
    }
    let (times, before, after) = live(bed, &daemon);
    let mut listeners = Table::new(
        format!("{LISTENERS} live clients, {DELIVERIES} updates a second to all of them"),
        &["p50 ms", "p99 ms", "max ms", "peak MiB before", "after"],
    );
    let mib = |kib: u64| format!("{:.1}", kib as f64 / 1024.0);
    listeners.rows.push(vec![format!("{:.2}", times.p50), format!("{:.2}", times.p99), format!("{:.2}", times.max), mib(before), mib(after)]);
    let figures = json!({"rounds": rounds.iter().map(|(c, g, h)| json!({"redis": c, "latest": g, "history": h})).collect::<Vec<_>>(), "live": times, "peak_kib": [before, after]});
    let notes = vec!["The client shares the machine with the server and Redis, and takes its part of it.".into()];
    Part { tables: vec![requests, listeners], notes, figures }
}
