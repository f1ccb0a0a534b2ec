//! The hot lane in pieces: `make bench-core`.
#![allow(clippy::unwrap_used, reason = "benchmarks")]
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use kafka_redis_bridge::config::{load, validate};
use kafka_redis_bridge::core::condition::{Condition, Fields, Subject};
use kafka_redis_bridge::core::decode::{Document, Format, Scratch, Step};
use kafka_redis_bridge::core::encode::Encoder;
use kafka_redis_bridge::core::ledger::Ledger;
use kafka_redis_bridge::core::record::{Record, TopicPartition};
use kafka_redis_bridge::core::resp::Decoder;
use kafka_redis_bridge::core::route::{self, Route};
use std::sync::Arc;

const TICK: &str = r#"{"timestamp":"2025-12-06T14:00:00","pair":"BTC/USD","price":42000.0,"realized_vol":0.35,"implied_vol":0.40,"garch_forecast":0.38,"spread":0.05,"venue":"exchange-one"}"#;

fn main() {
    // What takes some tens of nanoseconds can't be timed one by one.
    divan::Divan::default().sample_size(500).config_with_args().main();
}

fn reference() -> Arc<[Route]> {
    let loaded = load::load_text(include_str!("../config/bridge.toml"), "config/bridge.toml", &[]).unwrap();
    validate::validate(&loaded).unwrap().lane.routes
}

#[divan::bench]
fn decode_tick(b: Bencher<'_, '_>) {
    let mut scratch = Scratch::default();
    b.bench_local(|| drop(black_box(Format::Json.decode(Some(black_box(TICK.as_bytes())), &mut scratch))));
}

#[divan::bench]
fn decode_tick_and_get(b: Bencher<'_, '_>) {
    let path = [Step::Field("spread".into())];
    let mut scratch = Scratch::default();
    b.bench_local(|| drop(black_box(Document::parse(black_box(TICK), &mut scratch).unwrap().get(&path))));
}

#[divan::bench]
fn render_three_writes(b: Bencher<'_, '_>) {
    let routes = reference();
    let record = Record::copy(TopicPartition::new("volatility", 0), 7, Some(1), Some(b"BTC/USD"), Some(TICK.as_bytes()), []);
    let mut out = Encoder::default();
    let (mut outcomes, mut context) = (Vec::new(), route::Context::default());
    b.bench_local(|| {
        out.clear();
        outcomes.clear();
        route::render(&routes, &[0], black_box(&record), &mut out, |o| _ = black_box(o), &mut outcomes, &mut context).unwrap();
        black_box(out.bytes().len())
    });
}

/// A condition of a tick that was decoded. The reference workload's: one field and a number.
#[divan::bench(args = ["value.realized_vol > 0.50", "value.realized_vol > 0.50 or value.spread > 0.10", "key == 'BTC/USD' and value.price / 2 > abs(value.spread - 1)", "matches(key, '^(BTC|ETH)/USD$')"])]
fn condition(b: Bencher<'_, '_>, text: &str) {
    let condition = Condition::parse(text).unwrap();
    let record = Record::copy(TopicPartition::new("volatility", 0), 7, Some(1), Some(b"BTC/USD"), Some(TICK.as_bytes()), []);
    let mut scratch = Scratch::default();
    let subject = Subject { record: &record, fields: Fields::Of(Document::parse(TICK, &mut scratch).unwrap()) };
    b.bench_local(|| black_box(&condition).holds(black_box(&subject)).unwrap());
}

/// As many look-ups as fields: their cost must not be that of comparing each with each.
#[divan::bench(sample_size = 100)]
fn get_each_of_fifty_fields(b: Bencher<'_, '_>) {
    let names: Vec<String> = (0..50).map(|i| format!("field_{i:02}")).collect();
    let text = format!("{{{}}}", names.iter().map(|n| format!("\"{n}\":42000.25")).collect::<Vec<_>>().join(","));
    let paths: Vec<[Step; 1]> = names.into_iter().map(|n| [Step::Field(n)]).collect();
    let mut scratch = Scratch::default();
    b.bench_local(|| {
        let document = Document::parse(black_box(&text), &mut scratch).unwrap();
        paths.iter().for_each(|path| drop(black_box(document.get(path))));
    });
}

#[divan::bench]
fn encode_setex(b: Bencher<'_, '_>) {
    let mut out = Encoder::default();
    b.bench_local(|| {
        out.clear();
        out.command(&[&b"SET"[..], b"latest:BTC/USD", black_box(TICK.as_bytes()), b"EX", b"3600"]);
        black_box(out.bytes().len())
    });
}

/// A thousand of one kind as one read hands them over.
fn replies(b: Bencher<'_, '_>, one: &[u8]) {
    let wire = one.repeat(1000);
    let (mut decoder, mut replies) = (Decoder::default(), Vec::new());
    b.counter(ItemsCount::new(1000usize)).bench_local(|| {
        decoder.feed(black_box(&wire));
        replies.clear();
        decoder.decode(&mut replies).unwrap();
        black_box(&replies);
    });
}

#[divan::bench(sample_size = 10)]
fn a_thousand_replies_queued(b: Bencher<'_, '_>) {
    replies(b, b"+QUEUED\r\n");
}

#[divan::bench(sample_size = 10)]
fn a_thousand_replies_int(b: Bencher<'_, '_>) {
    replies(b, b":1\r\n");
}

#[divan::bench(sample_size = 10)]
fn a_thousand_replies_id(b: Bencher<'_, '_>) {
    replies(b, b"$15\r\n1701878400000-0\r\n");
}

/// Three replies QUEUED and an EXEC's array of three, of 500 records.
#[divan::bench(sample_size = 10)]
fn replies_of_500_records(b: Bencher<'_, '_>) {
    let wire = [b"+QUEUED\r\n".repeat(1500), b"*1500\r\n".to_vec(), b"$15\r\n1701878400000-0\r\n+OK\r\n:1\r\n".repeat(500)].concat();
    let (mut decoder, mut replies) = (Decoder::default(), Vec::new());
    b.counter(ItemsCount::new(500usize)).bench_local(|| {
        decoder.feed(black_box(&wire));
        replies.clear();
        decoder.decode(&mut replies).unwrap();
        black_box(&replies);
    });
}

#[divan::bench]
fn ledger_settles(b: Bencher<'_, '_>) {
    let mut ledger = Ledger::new(0);
    b.bench_local(|| {
        let at = ledger.position();
        ledger.settle(black_box(at..at + 500)).unwrap();
    });
}
