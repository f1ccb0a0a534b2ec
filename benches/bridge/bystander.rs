//! What another client of the same Redis feels while the bridge drains at full speed, against the pump at that rate.
use crate::bed::Bed;
use crate::drain::drain;
use crate::pump::{Pace, Pump};
use crate::report::{Part, Table, progress};
use crate::stats::{Times, median, thousands};
use crate::support::pass;
use crate::ticks::Workload;
use crate::variant::Variant;
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

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

/// By batch size: the bridge's rate, and the bystander's times beside the bridge and beside the pump, by turns.
struct Curve {
    name: String,
    variant: Variant,
    bridge: Vec<(f64, Times)>,
    pump: Vec<Times>,
}

pub(crate) fn measure(bed: &Bed) -> Part {
    let workload = Workload::ticks(bed.scale.share(2));
    let topic = bed.topic(&workload);
    let new = |name: String, variant| Curve { name, variant, bridge: Vec::new(), pump: Vec::new() };
    let mut curves = vec![new("the default".into(), Variant::reference())];
    curves.extend([50, 100, 150, 200, 500, 1000].map(|n| new(format!("commands_max = {}", 3 * n), Variant::reference().batch(n))));
    let address = format!("127.0.0.1:{}", bed.redis.port);
    for round in 1..=bed.scale.rounds {
        for curve in &mut curves {
            let (drained, felt) = beside(bed.redis.port, || drain(&bed.redis, &curve.variant, &topic, workload.records), |d| (d.run.from, d.run.to));
            let rate = drained.run.rate();
            let pump = Pump::new(&Workload::ticks(workload.records.min(100_000)), &curve.variant);
            let pumped = || pump.run(&bed.redis, &address, 1, workload.records, Some(Pace { rate }));
            let (_, beside_pump) = beside(bed.redis.port, pumped, |run| (run.from, run.to));
            progress(&format!("round {round}: {}: {rate:.0} records/s, GET p99 {:.2} ms, beside the pump {:.2} ms", curve.name, felt.p99, beside_pump.p99));
            curve.bridge.push((rate, felt));
            curve.pump.push(beside_pump);
        }
    }
    let head = ["", "records/s", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "beside the pump p50 ms", "pump p99 ms", "pump max ms"];
    let mut table = Table::new(format!("Another client's GET during a full drain of {} ticks, {} turns", workload.records, bed.scale.rounds), &head);
    for c in &curves {
        let felt = |pick: fn(&Times) -> f64| format!("{:.2}", median(c.bridge.iter().map(|(_, t)| pick(t))));
        let beside = |pick: fn(&Times) -> f64| format!("{:.2}", median(c.pump.iter().map(pick)));
        table.rows.push(vec![
            c.name.clone(),
            thousands(c.bridge.iter().map(|(rate, _)| *rate)),
            felt(|t| t.p50),
            felt(|t| t.p99),
            felt(|t| t.p999),
            felt(|t| t.max),
            beside(|t| t.p50),
            beside(|t| t.p99),
            beside(|t| t.max),
        ]);
    }
    let figures = curves.iter().map(|c| json!({ "name": c.name, "bridge": c.bridge, "pump": c.pump })).collect();
    let note =
        "Medians of the turns. The pump sends plain pipelines at the bridge's rate through one connection; of those Redis serves 16 KiB, then other clients.";
    Part { tables: vec![table], notes: vec![note.into()], figures }
}
