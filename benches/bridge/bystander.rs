//! What another client of the same Redis feels while the bridge drains at full speed, against the pump at that rate.
use crate::bed::Bed;
use crate::drain::drain;
use crate::pump::Pump;
use crate::report::{Part, Table, progress};
use crate::stats::{Spread, Times, spreads, thousands};
use crate::support::pass;
use crate::ticks::Workload;
use crate::variant::Variant;
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// What another client's GET may take at p99, in ms (docs/performance.md, Targets).
const P99_MAX: f64 = 2.0;
/// How often the bystander asks.
const EVERY: Duration = Duration::from_micros(500);

/// The key is not there.
const REPLY: &[u8] = b"$-1\r\n";

/// GETs of one client: when each was sent, and when its reply was there. They are sent at their times, whether the last one
/// was answered or not: so a stall hits all that fall into it, and none waits for more than its own reply.
fn gets(port: u16, stop: &AtomicBool) -> Vec<(Instant, Instant)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut replies, (sent, asked)) = (stream.try_clone().unwrap(), mpsc::channel());
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut reply = [0; REPLY.len()];
            let answered = |asked| {
                replies.read_exact(&mut reply).expect("Redis answers");
                assert_eq!(reply, REPLY);
                (asked, Instant::now())
            };
            asked.into_iter().map(answered).collect()
        });
        let mut due = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            pass(due.saturating_duration_since(Instant::now()));
            // That this thread wakes up late is not Redis' doing.
            let now = Instant::now();
            stream.write_all(b"*2\r\n$3\r\nGET\r\n$9\r\nbystander\r\n").unwrap();
            sent.send(now).unwrap();
            due = now.max(due + EVERY);
        }
        drop(sent);
        reader.join().unwrap()
    })
}

/// What a bystander feels between two moments of `work`.
fn beside<T>(port: u16, work: impl FnOnce() -> T, between: impl Fn(&T) -> (Instant, Instant)) -> (T, Times) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let bystander = scope.spawn(|| gets(port, &stop));
        let done = work();
        stop.store(true, Ordering::Relaxed);
        let (from, to) = between(&done);
        let times = bystander.join().unwrap().into_iter().filter(|(asked, _)| (from..to).contains(asked)).map(|(asked, answered)| answered - asked);
        (done, Times::of(times).expect("a run lasts longer than a GET"))
    })
}

/// What one turn came to.
struct Turn {
    /// Records a second that the bridge drained, and that the pump was held to.
    rate: f64,
    /// The bystander's times beside the bridge.
    bridge: Times,
    /// And beside the pump.
    pump: Times,
}

/// A batch size, and its turns.
struct Curve {
    name: String,
    variant: Variant,
    turns: Vec<Turn>,
}

impl Curve {
    fn new(name: String, variant: Variant) -> Self {
        Self { name, variant, turns: Vec::new() }
    }

    fn turn(&self, bed: &Bed, topic: &str, records: u64) -> Turn {
        let redis = &bed.redis;
        let (drained, bridge) = beside(redis.port, || drain(redis, &self.variant, topic, records), |d| (d.run.from, d.run.to));
        let rate = drained.run.rate();
        let pump = Pump::new(&Workload::ticks(records.min(100_000)), &self.variant);
        let pumped = || pump.run(redis, &bed.address(), 1, records, Some(rate));
        let (_, pump) = beside(redis.port, pumped, |run| (run.from, run.to));
        Turn { rate, bridge, pump }
    }

    fn spreads(&self, pick: fn(&Turn) -> &Times) -> [String; 4] {
        spreads(self.turns.iter().map(|t| pick(t).figures())).map(|s| s.to_string())
    }

    /// The bystander's p99 beside the bridge by that beside the pump, and less it, turn by turn.
    fn p99_by_the_pump(&self) -> (Spread, Spread) {
        let of = |pick: fn(f64, f64) -> f64| Spread::of(self.turns.iter().map(|t| pick(t.bridge.p99, t.pump.p99)));
        (of(|bridge, pump| bridge / pump), of(|bridge, pump| bridge - pump))
    }
}

pub(crate) fn measure(bed: &Bed) -> Part {
    let records = bed.scale.share(2);
    let topic = bed.topic(&Workload::ticks(records));
    let mut curves = vec![Curve::new("the default".into(), Variant::reference())];
    curves.extend([150, 300, 600, 900, 1500].map(|n| Curve::new(format!("commands_max = {n}"), Variant::reference().commands_max(n))));
    for round in 1..=bed.scale.rounds {
        for curve in &mut curves {
            let turn = curve.turn(bed, &topic, records);
            let Turn { rate, bridge, pump } = &turn;
            progress(&format!("round {round}: {}: {rate:.0} records/s, GET p99 {:.2} ms, beside the pump {:.2} ms", curve.name, bridge.p99, pump.p99));
            curve.turns.push(turn);
        }
    }
    let title = |beside: &str| format!("Another client's GET beside {beside}, {records} ticks, {} turns", bed.scale.rounds);
    let mut beside_bridge = Table::new(title("the bridge in a full drain"), &[&["", "records/s"], &Times::HEAD[..]].concat());
    let mut beside_pump =
        Table::new(title("the pump at the bridge's rate"), &[&[""], &Times::HEAD[..], &["bridge's p99 by the pump's", "less it, ms"]].concat());
    for c in &curves {
        beside_bridge.row(&c.name, [thousands(c.turns.iter().map(|t| t.rate))].into_iter().chain(c.spreads(|t| &t.bridge)));
        let (ratio, difference) = c.p99_by_the_pump();
        // The difference may be next to nothing: it must tell whether it is what breaks the bound.
        let paired = [ratio.to_string(), difference.against(P99_MAX)];
        beside_pump.row(&c.name, c.spreads(|t| &t.pump).into_iter().chain(paired));
    }
    let of = |c: &Curve| {
        let turns: Vec<_> = c.turns.iter().map(|t| json!({ "rate": t.rate, "bridge": t.bridge, "pump": t.pump })).collect();
        let (ratio, difference) = c.p99_by_the_pump();
        json!({ "name": c.name, "turns": turns, "p99_ratio": ratio, "p99_difference_ms": difference })
    };
    let notes = vec![
        "Medians of the turns, in brackets the smallest and the largest. The pump sends plain pipelines through one connection; of those Redis serves 16 KiB, then other clients.".into(),
        format!(
            "The bridge's p99 by the pump's, and less it, are those of one turn. The difference is too wide to tell by a fifth of {P99_MAX} ms, the bound of the p99, or of itself where it is larger."
        ),
    ];
    Part { tables: vec![beside_bridge, beside_pump], notes, figures: curves.iter().map(of).collect() }
}
