//! What Redis must hold of a job, and of the values that both a job and the bridges write. It knows the logs and nothing of
//! the code.
use super::job::{Job, NOW_MS, TTL_MS};
use super::kafka::Log;
use super::oracle::{firsts, number, start};
use super::server::Redis;
use super::world::World;
use std::collections::BTreeMap;

/// What all records are of; no stream can have the last of them, and its values are as the others'.
const NAMES: [&str; 4] = ["k0", "k1", "k2", "bad"];

/// A record that can be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Event {
    offset: i64,
    deletes: bool,
}

/// The records of a partition that can be decoded, by key: what both the bridges and a job make values of.
fn events(log: &Log, from: i64, until: i64) -> BTreeMap<String, Vec<Event>> {
    let mut all: BTreeMap<String, Vec<Event>> = NAMES.iter().map(|k| ((*k).to_owned(), Vec::new())).collect();
    for record in log.all().iter().filter(|r| r.payload() != Some(b"{") && (from..until).contains(&r.offset)) {
        let event = Event { offset: record.offset, deletes: record.payload().is_none() };
        all.entry(String::from_utf8_lossy(record.key().unwrap()).into_owned()).or_default().push(event);
    }
    all
}

/// Those of them that a job is to apply.
fn asked(job: &Job, log: &Log, from: i64, until: i64) -> BTreeMap<String, Vec<Event>> {
    let mut all = events(log, from, until);
    all.iter_mut().filter(|(name, _)| !crate::core::replay::plan::wanted(&job.plan.keys, Some(name.as_bytes()))).for_each(|(_, events)| events.clear());
    all
}

/// The offsets of the entries that a job has in a stream.
fn entries(redis: &Redis, of: &str, partition: i32, name: &str) -> Vec<i64> {
    redis.stream(&format!("{of}:{partition}:{name}")).iter().map(|e| number(&e[2]) - 1).collect()
}

/// The offset of the record whose payload stands as a key's value.
fn value(redis: &Redis, of: &str, partition: i32, name: &str) -> Option<i64> {
    let found = redis.text(&format!("{of}:{partition}:{name}"))?;
    found.strip_prefix(r#"{"o":"#)?.split(',').next()?.parse::<i64>().ok().map(|o| o - 1)
}

/// What these records make of a job's streams: of those that it begins, and of those to which it adds whatever is there.
fn streams(name: &str, events: &[Event]) -> [(&'static str, Vec<i64>); 2] {
    let all: Vec<i64> = events.iter().filter(|e| !e.deletes).map(|e| e.offset).collect();
    [("a", if name == "bad" { Vec::new() } else { all.clone() }), ("r", all)]
}

/// What these records make of a value whose time counts from theirs.
fn timed(events: &[Event]) -> Option<i64> {
    events.iter().fold(None, |stands, e| match e.deletes {
        true => None,
        false if e.offset + TTL_MS <= NOW_MS => stands,
        false => Some(e.offset),
    })
}

/// At any moment, on every server: the values are no older than what the bridges have applied, and a job has applied what is
/// below its positions, once.
pub(super) fn consistent(world: &World, job: &Job) {
    for (server, span) in world.env.net.servers().flat_map(|s| job.plan.spans.iter().map(move |span| (s, span))) {
        let p = span.partition;
        let log = world.env.kafka.log(p);
        let offset = |key: &[u8]| server.field(key, "offset").map(|o| o.parse::<i64>().unwrap());
        let position = offset(&super::job::keys().state(&span.at()).0).unwrap_or(span.from);
        let by_job = asked(job, log, span.from, position);
        for (name, mine) in &by_job {
            for (of, wanted) in streams(name, mine) {
                assert_eq!(entries(server, of, p, name), wanted, "[{p}] {of}, {name}: applied by the job, and wanted from {} to {position}", span.from);
            }
            assert_eq!(value(server, "t", p, name), timed(mine), "[{p}] {name}: the value by the records' time, at the job's position {position}");
        }
        let Some(bridges) = offset(&super::world::key(p).0) else { continue };
        for (name, live) in events(log, start(world, p), bridges) {
            for of in ["v", "m"] {
                let stands = value(server, of, p, &name);
                assert!(may_stand(stands, live.last(), &by_job[&name]), "[{p}] {of}, {name}: {stands:?} stands, and the bridges have applied {live:?}");
            }
        }
    }
}

/// Whether this may be the value of a key, after what the bridges have applied of it last and what the job has.
fn may_stand(stands: Option<i64>, live: Option<&Event>, by_job: &[Event]) -> bool {
    match (live, stands) {
        (Some(Event { offset, deletes: false }), Some(stands)) => stands >= *offset,
        // What the job wrote over it, it may delete.
        (Some(Event { offset, deletes: false }), None) => by_job.iter().any(|e| e.deletes && e.offset > *offset),
        (Some(Event { deletes: true, .. }), Some(stands)) => by_job.contains(&Event { offset: stands, deletes: false }),
        (Some(Event { deletes: true, .. }), None) | (None, _) => true,
    }
}

/// A job that is complete has applied each record of its range once, and counted it; and the newest value of each key stands.
pub(super) fn judge(world: &World, job: &Job) {
    let (f, redis) = (world.env.faults, world.env.net.master());
    let (mut records, mut dead, mut writes) = (0, Vec::new(), 0);
    for span in &job.plan.spans {
        let (p, log) = (span.partition, world.env.kafka.log(span.partition));
        let ours = |key: Option<&[u8]>| crate::core::replay::plan::wanted(&job.plan.keys, key);
        for record in log.all().iter().filter(|r| (span.from..span.to).contains(&r.offset) && ours(r.key())) {
            records += 1;
            dead.extend(super::kafka::is_bad(record).then_some((p, record.offset)));
            writes += match record.payload() {
                Some(b"{") => 0,
                // What it has set is deleted.
                None => 3,
                // One of them is refused.
                Some(_) => 5 - usize::from(record.key() == Some(b"bad")),
            };
        }
        let by_job = asked(job, log, span.from, span.to);
        for (name, live) in events(log, start(world, p), i64::MAX) {
            let mine = &by_job[&name];
            for (of, wanted) in streams(&name, mine) {
                let mut found = entries(redis, of, p, &name);
                if f.compaction {
                    assert!(found.is_sorted() && firsts(&found) == found, "[{p}] {of}, {name}: {found:?}");
                    found.retain(|o| wanted.contains(o));
                }
                assert_eq!(found, wanted, "[{p}] {of}, {name}: applied by the job, and wanted");
            }
            for of in ["v", "m"] {
                let stands = value(redis, of, p, &name);
                assert!(
                    may_stay(stands, live.last(), mine.last(), f.compaction),
                    "[{p}] {of}, {name}: {stands:?} stands, {live:?} is live, and the job's {mine:?}"
                );
            }
            if !f.compaction {
                assert_eq!(value(redis, "t", p, &name), timed(mine), "[{p}] {name}: the value by the records' time");
            }
        }
    }
    if f.compaction {
        return;
    }
    let field = |entry: &Vec<Vec<u8>>, name: &str| {
        let found = entry[1..].chunks(2).find(|p| p[0] == name.as_bytes()).expect("a letter has this field");
        number(&found[1])
    };
    let mut letters: Vec<(i32, i64)> =
        redis.stream("dead of a job").iter().map(|e| (i32::try_from(field(e, "partition")).unwrap(), field(e, "offset"))).collect();
    letters.sort_unstable();
    assert_eq!(letters, dead, "letters of the job, and due");
    let count = |name: &str| redis.field(&super::job::keys().counts().0, name).map_or(0, |n| n.parse::<usize>().unwrap());
    assert_eq!((count("records"), count("dead")), (records, dead.len()), "records and letters that the job counted");
    assert_eq!(count("applied") + count("older") + count("present") + count("expired"), writes, "writes that the job counted");
}

/// Whether this may be the value of a key once all is applied, by the last record of it that the bridges have, and the job.
fn may_stay(stands: Option<i64>, live: Option<&Event>, by_job: Option<&Event>, compaction: bool) -> bool {
    let of_job = by_job.filter(|e| !e.deletes).map(|e| e.offset);
    match live {
        // One that was applied before it was compacted away may be newer.
        Some(Event { offset, deletes: false }) => stands == Some(*offset) || compaction && stands > Some(*offset),
        // A key whose deletion lies behind the job's range may be written again.
        Some(Event { deletes: true, .. }) => stands.is_none() || stands == of_job || compaction,
        None => stands == of_job || compaction,
    }
}
