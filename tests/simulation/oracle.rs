//! What Redis must hold in the end: each record settled exactly once and in order, a letter for each dead one and for
//! nothing else. It knows the logs and nothing of the bridge's code.
use super::job_oracle;
use super::kafka::{Log, PARTITIONS, is_bad};
use super::server::Redis;
use super::world::{LATE_START, World};
use std::collections::{BTreeMap, BTreeSet};

/// The keys that records have.
const NAMES: [&str; 3] = ["k0", "k1", "k2"];

/// What was applied of one partition: offsets by key of the record, in order.
fn applied(redis: &Redis, partition: i32) -> BTreeMap<String, Vec<i64>> {
    NAMES.iter().map(|name| ((*name).to_owned(), redis.stream(&format!("s:{partition}:{name}")).iter().map(|e| number(&e[2]) - 1).collect())).collect()
}

pub(super) fn number(bytes: &[u8]) -> i64 {
    std::str::from_utf8(bytes).unwrap().parse().unwrap()
}

/// The offsets that were to be applied, by key.
fn wanted(log: &Log) -> BTreeMap<String, Vec<i64>> {
    let mut wanted: BTreeMap<String, Vec<i64>> = NAMES.iter().map(|k| ((*k).to_owned(), Vec::new())).collect();
    for record in log.all().iter().filter(|r| !is_bad(r) && r.payload().is_some()) {
        let name = String::from_utf8_lossy(record.key().unwrap()).into_owned();
        wanted.entry(name).or_default().push(record.offset);
    }
    wanted
}

/// The letters of one partition: code and offset.
fn letters(world: &World, redis: &Redis, partition: i32) -> Vec<(String, i64)> {
    let field = |entry: &Vec<Vec<u8>>, name: &str| {
        let found = entry[1..].chunks(2).find(|p| p[0] == name.as_bytes()).expect("a letter has this field");
        String::from_utf8(found[1].clone()).unwrap()
    };
    let mut all: Vec<(String, i64)> = if world.env.faults.topic {
        world.env.kafka.letters.iter().filter(|(p, ..)| *p == partition).map(|(_, o, code)| ((*code).to_owned(), *o)).collect()
    } else {
        let ours = |e: &&Vec<Vec<u8>>| field(e, "partition") == partition.to_string();
        redis.stream("dead").iter().filter(ours).map(|e| (field(e, "code"), field(e, "offset").parse().unwrap())).collect()
    };
    all.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
    if world.env.faults.topic {
        all.dedup();
    }
    all
}

/// Keeps the first of each.
pub(super) fn firsts(offsets: &[i64]) -> Vec<i64> {
    let mut seen = BTreeSet::new();
    offsets.iter().copied().filter(|o| seen.insert(*o)).collect()
}

/// Where the records begin that are to be applied.
pub(super) fn start(world: &World, partition: i32) -> i64 {
    if world.env.faults.grows && partition < PARTITIONS - 1 { LATE_START } else { 0 }
}

/// At any moment, on every server: a key that has data is in the index.
fn indexed(world: &World) {
    for server in world.env.net.servers() {
        for name in NAMES.into_iter().filter(|name| server.text(&format!("i:{name}")).is_some()) {
            assert!(server.is_sorted_member(&super::bridge::index().0, name.as_bytes()), "{name} has data and is not in the index");
        }
    }
}

/// At any moment, on every server: the state is neither ahead of the data nor behind it.
pub(crate) fn consistent(world: &World) {
    indexed(world);
    let f = world.env.faults;
    // Where records may be applied twice or be denied, and where logs change, only the end tells.
    if f.evictions || f.denials || f.compaction || f.logs {
        return;
    }
    if let Some(job) = &world.job {
        job_oracle::consistent(world, job);
    }
    for (server, partition) in world.env.net.servers().flat_map(|s| (0..PARTITIONS).map(move |p| (s, p))) {
        let Some(position) = server.field(&super::world::key(partition).0, "offset").map(|o| o.parse::<i64>().unwrap()) else { continue };
        let found = applied(server, partition);
        for (name, mut wanted) in wanted(world.env.kafka.log(partition)) {
            wanted.retain(|o| *o < position && *o >= start(world, partition));
            assert_eq!(found[&name], wanted, "[{partition}] {name}: applied, and wanted below the state's position {position}");
        }
    }
}

/// At the end of a run.
pub(crate) fn judge(world: &World) {
    for partition in 0..PARTITIONS {
        judge_partition(world, partition);
    }
    if let Some(job) = &world.job {
        job_oracle::judge(world, job);
    }
}

fn judge_partition(world: &World, partition: i32) {
    let f = world.env.faults;
    let redis = world.env.net.master();
    let log = world.former.get(&partition).unwrap_or_else(|| world.env.kafka.log(partition));
    let found = applied(redis, partition);
    let letters = letters(world, redis, partition);
    // Where a partition is halted for good, it has come so far and no farther.
    let until = if world.condemned.contains_key(&partition) { world.position(partition).unwrap_or(0) } else { i64::MAX };
    let from = start(world, partition);
    let cut = |offsets: &[i64]| -> Vec<i64> { offsets.iter().copied().filter(|o| (from..until).contains(o)).collect() };
    let dead: BTreeSet<i64> = letters.iter().map(|(_, o)| *o).collect();
    for (name, wanted) in wanted(log) {
        let (mut found, mut wanted) = (found[&name].clone(), cut(&wanted));
        if f.evictions {
            found = firsts(&found);
        }
        if f.denials {
            wanted.retain(|o| !dead.contains(o) || found.contains(o));
        }
        if f.compaction {
            // What is gone from the log by now may have been applied before.
            assert!(found.is_sorted() && firsts(&found) == found, "[{partition}] {name}: {found:?}");
            found.retain(|o| wanted.contains(o));
        }
        assert_eq!(found, wanted, "[{partition}] {name}: applied, and wanted");
    }
    let mut kept: Vec<i64> = Vec::new();
    for (code, offset) in &letters {
        let known = log.all().iter().any(|r| r.offset == *offset);
        if code == "outcome-unknown" {
            assert!(f.explicit, "[{partition}] {offset}: a letter of unknown outcome without such a write");
        } else if known || !f.compaction {
            kept.push(*offset);
        }
    }
    let mut due: Vec<i64> = log.all().iter().filter(|r| is_bad(r)).map(|r| r.offset).filter(|o| *o >= from).collect();
    if world.condemned.contains_key(&partition) {
        // What it left unread is for a person to look at.
        let read = world.state(partition)["unread"].parse().unwrap_or(until);
        due.retain(|o| *o < read);
        kept.retain(|o| *o < read);
    }
    if f.logs {
        // The reply of what retention removed before it could be read again is told, and no letter can be written.
        due.retain(|o| *o >= log.low);
        kept.retain(|o| *o >= log.low);
    }
    if f.evictions {
        kept.dedup();
    }
    if f.denials {
        kept.dedup();
        kept.retain(|o| due.contains(o));
    }
    assert_eq!(kept, due, "[{partition}]: letters kept, and due");
}

/// After a partition's drain came to its end: what its state says is settled has been looked at, unless a former
/// owner's is still to be read again.
pub(crate) fn drained(world: &World, bridge: usize, partition: i32, before: &BTreeMap<String, String>) {
    let state = world.state(partition);
    if state["owner"].starts_with(&format!("owner-{}-", world.life(bridge))) && state != *before {
        assert_eq!(state["unread"], "", "[{partition}] was drained");
    }
}
