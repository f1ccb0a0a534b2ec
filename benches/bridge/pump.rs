//! The ceiling: the very bytes of the commands that the bridge would send, without guard and position, encoded before
//! and pumped into Redis as fast as it takes them. They go as plain pipelines: no MULTI, which would cost Redis what
//! exactly-once costs. One thread writes a connection, another one counts its replies, so Redis never waits. It looks for
//! replies every now and then: a reader that sleeps on the socket is woken by each answer, and that costs Redis 2 to 7 hundredths
//! of what it can do (1,500,000 ticks, one and two connections, three turns, 2026-11-27).
use crate::bed::refresh;
use crate::meter::{self, Run};
use crate::support::pass;
use crate::support::redis_server::RedisServer;
use crate::ticks::Workload;
use crate::variant::Variant;
use kafka_redis_bridge::core::encode::Encoder;
use kafka_redis_bridge::core::lane::Settings;
use kafka_redis_bridge::core::route;
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// The most bytes that are encoded. What is more begins at the first record again: it is all the same to Redis.
const BYTES_MAX: usize = 512 << 20;

/// How often replies are looked for. Meanwhile some tens of KiB come, which the socket holds.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Some records' commands, as the bridge would render them: what goes in one write.
struct Chunk {
    bytes: Vec<u8>,
    records: u64,
    commands: usize,
}

impl Chunk {
    /// Ends where a batch of the bridge's would.
    fn render(workload: &Workload, from: u64, lane: &Settings, context: &mut route::Context) -> Self {
        let (mut out, mut outcomes, mut to) = (Encoder::default(), Vec::new(), from);
        let has_room = |out: &Encoder, records| records < lane.records_max as u64 && out.commands() < lane.commands_max && out.bytes().len() < lane.bytes_max;
        while to < workload.records && has_room(&out, to - from) {
            let (record, mark) = (workload.record(to).into_record("TOPIC", to.try_into().unwrap()), out.mark());
            route::render(&lane.routes, &[0], &record, &mut out, |_| {}, &mut outcomes, context).unwrap();
            if to > from && out.bytes().len() > lane.bytes_max {
                out.truncate(mark);
                break;
            }
            to += 1;
        }
        Self { bytes: out.bytes().to_vec(), records: to - from, commands: out.commands() }
    }
}

/// What is pumped.
pub(crate) struct Pump {
    chunks: Vec<Chunk>,
    marker: (&'static str, u64),
}

impl Pump {
    /// What this variant would send.
    pub(crate) fn new(workload: &Workload, variant: &Variant) -> Self {
        let (lane, mut context) = (variant.valid().unwrap().lane, route::Context::default());
        let (mut chunks, mut total, mut from) = (Vec::new(), 0, 0);
        while from < workload.records && total < BYTES_MAX {
            let chunk = Chunk::render(workload, from, &lane, &mut context);
            total += chunk.bytes.len();
            from += chunk.records;
            chunks.push(chunk);
        }
        Self { chunks, marker: variant.marker() }
    }

    /// Bytes of a record's commands.
    pub(crate) fn bytes_a_record(&self) -> f64 {
        self.chunks.iter().map(|c| c.bytes.len()).sum::<usize>() as f64 / self.chunks.iter().map(|c| c.records).sum::<u64>() as f64
    }

    /// Pumps at least so many records through so many connections into an empty Redis at `address`, and no more than `rate` a second.
    pub(crate) fn run(&self, redis: &RedisServer, address: &str, connections: usize, records: u64, rate: Option<f64>) -> Run {
        refresh(redis);
        let mut plan: Vec<Vec<&Chunk>> = vec![Vec::new(); connections];
        let mut planned = 0;
        for (n, chunk) in self.chunks.iter().cycle().enumerate() {
            if planned >= records {
                break;
            }
            plan[n % connections].push(chunk);
            planned += chunk.records;
        }
        let rate = rate.map(|rate| rate / connections as f64);
        std::thread::scope(|scope| {
            for chunks in &plan {
                let stream = TcpStream::connect(address).unwrap();
                stream.set_nodelay(true).unwrap();
                let commands = chunks.iter().map(|c| c.commands).sum();
                let replies = stream.try_clone().unwrap();
                scope.spawn(move || send(stream, chunks, rate));
                scope.spawn(move || count(replies, commands));
            }
            meter::run(redis, self.marker, planned, std::process::id())
        })
    }

    /// The best one of one connection and of as many as each of the variants uses that are compared with it.
    pub(crate) fn ceiling<'a>(&self, redis: &RedisServer, address: &str, variants: impl IntoIterator<Item = &'a Variant>, records: u64) -> Run {
        let connections: BTreeSet<usize> = variants.into_iter().map(Variant::connections).chain([1]).collect();
        let runs = connections.into_iter().map(|n| self.run(redis, address, n, records, None));
        runs.max_by(|a, b| a.rate().total_cmp(&b.rate())).unwrap()
    }
}

fn send(mut stream: TcpStream, chunks: &[&Chunk], rate: Option<f64>) {
    let start = Instant::now();
    let mut sent = 0;
    for chunk in chunks {
        if let Some(rate) = rate {
            pass((start + Duration::from_secs_f64(sent as f64 / rate)).saturating_duration_since(Instant::now()));
        }
        stream.write_all(&chunk.bytes).unwrap();
        sent += chunk.records;
    }
}

/// Reads until so many replies have come; none may be an error.
fn count(mut stream: TcpStream, mut left: usize) {
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut buffer = vec![0; 256 << 10];
    // Replies are single lines, but for a bulk string's (XADD's id), which is one line more.
    let (mut at_start, mut bulk) = (true, false);
    while left > 0 {
        pass(LOOK_EVERY);
        let n = stream.read(&mut buffer).unwrap();
        assert!(n > 0, "Redis closed the connection");
        for &byte in &buffer[..n] {
            if at_start && !bulk {
                assert_ne!(byte, b'-', "Redis refused a command");
                bulk = byte == b'$';
                left += usize::from(bulk);
            } else if at_start {
                bulk = false;
            }
            at_start = byte == b'\n';
            left -= usize::from(at_start);
        }
    }
}
