//! A job's lane beside a live bridge that writes the same keys, on random schedules: whatever comes between, nothing that
//! the live path wrote is overwritten, each record is applied once, and the counts say so.
#[path = "../../../../tests/simulation/random.rs"]
mod random;

use self::random::Random;
use super::*;
use crate::core::letter::Letter;
use crate::core::replay::job::Keys;
use std::collections::BTreeMap;

const RECORDS: i64 = 60;
const KEYS: usize = 4;
/// What the live bridge writes is newer than all of the range.
const LIVE: i64 = 1_000;

/// A job's lane, its Redis, and what the live bridge wrote last to each key.
struct Job {
    lane: Lane,
    /// Where entries get their ids from, and letters go.
    ids: &'static str,
    letters: Letters,
    /// The letters in the topic.
    produced: Vec<Letter>,
    redis: Redis,
    keys: Keys,
    generation: u64,
    now: Duration,
    written: i64,
    live: BTreeMap<String, i64>,
    /// Streams that the live bridge began, or the job.
    begun: BTreeMap<String, bool>,
}

fn write(kind: Kind, effect: Effect) -> Write {
    Write { effect, ..Write::new(kind) }
}

fn routes(ids: &str) -> Arc<[Route]> {
    let template = |t: &str| Template::parse(t).unwrap();
    let xadd = Xadd { key: template("s:{key}"), fields: Fields::All, id: template(ids), trim: None, nomkstream: false, ahead_max_ms: 1000 };
    let set = |key: &str| Kind::Set { key: template(key), value: template("{payload}"), ttl: None, collapse: false };
    let writes = vec![
        write(Kind::Xadd(xadd), Effect::IfMissing),
        write(set("newer:{key}"), Effect::IfNewer(template("{value.o}"))),
        write(set("missing:{key}"), Effect::IfMissing),
    ];
    [Route::new("r", "t", writes)].into()
}

fn key(offset: i64) -> String {
    format!("k{}", usize::try_from(offset * 7 / 3).unwrap() % KEYS)
}

impl Job {
    fn new(ids: &'static str, letters: Letters) -> Self {
        let keys = Keys::new("b", "j");
        let (redis, live, begun) = (Redis::default(), BTreeMap::new(), BTreeMap::new());
        let mut job = Self {
            lane: Self::lane(&keys, ids, &letters),
            ids,
            letters,
            produced: Vec::new(),
            redis,
            keys,
            generation: 0,
            now: Duration::ZERO,
            written: LIVE,
            live,
            begun,
        };
        for (field, value) in [("offset", "0"), ("unread", ""), ("last", "")] {
            job.redis.set_field(&job.keys.state(&at(0)).0, field, value);
        }
        job.open();
        job
    }

    fn lane(keys: &Keys, ids: &str, letters: &Letters) -> Lane {
        let (routes, tallies) = (routes(ids), [Tally::default()].into());
        let (records_max, bytes_max) = (7, 1 << 20);
        let limits = (vec![None], None);
        let settings = Settings {
            routes,
            records_max,
            commands_max: 100,
            bytes_max,
            linger: Duration::ZERO,
            letters: letters.clone(),
            span: Span::Lane,
            route_limits: limits.0,
            limit: limits.1,
        };
        Lane::new(settings, tallies).replaying(keys.clone())
    }

    /// Takes the partition as a process does that begins or carries on, and hands over all that is to be read.
    fn open(&mut self) {
        let state = self.keys.state(&at(0));
        self.generation += 1;
        let owner = format!("me-{}", self.generation);
        self.redis.set_field(&state.0, "owner", &owner);
        let number = |field: &str| self.redis.field(&state.0, field).and_then(|t| t.parse::<i64>().ok());
        let (position, unread) = (number("offset").unwrap(), number("unread"));
        let guard = Some(Guard { key: state, owner: owner.into_bytes() });
        let opening = Opening { generation: self.generation, at: at(0), position, guard, check: None, unread, through: [0].into(), rebuild: None };
        self.lane.take(Input::Open(opening.into()), self.now);
        for offset in unread.unwrap_or(position)..RECORDS {
            let payload = format!(r#"{{"o":{offset}}}"#);
            let record = Record::copy(at(0), offset, Some(offset / 3), Some(key(offset).as_bytes()), Some(payload.as_bytes()), []);
            self.lane.take(Input::Records(self.generation, vec![record]), self.now);
        }
    }

    /// The live bridge applies a record of its own.
    fn live(&mut self, random: &mut Random) {
        let key = format!("k{}", random.below(KEYS));
        self.written += 1;
        let value = format!(r#"{{"o":{}}}"#, self.written);
        let words = |words: &[&str]| words.iter().map(|w| w.as_bytes().to_vec()).collect::<Vec<_>>();
        let stream = format!("s:{key}");
        let absent = !self.redis.data.contains_key(stream.as_bytes());
        if absent && random.percent(30) {
            // Of another type than the job would write.
            self.redis.command(9, words(&["SET", &stream, "text"]));
        } else {
            self.redis.command(9, words(&["XADD", &stream, "*", "o", &self.written.to_string()]));
        }
        if absent {
            self.begun.insert(stream, false);
        }
        for kind in ["newer", "missing"] {
            let name = format!("{kind}:{key}");
            self.redis.command(9, words(&["SET", &name, &value]));
            self.live.insert(name, self.written);
        }
    }

    fn value(&self, key: &str) -> Option<i64> {
        match self.redis.data.get(key.as_bytes())? {
            server::Value::Text(text) => String::from_utf8_lossy(text).trim_start_matches(r#"{"o":"#).trim_end_matches('}').parse().ok(),
            _ => None,
        }
    }

    fn count(&self, name: &str) -> i64 {
        self.redis.field(&self.keys.counts().0, name).and_then(|n| n.parse().ok()).unwrap_or(0)
    }

    fn holds(&self) {
        for (key, newest) in &self.live {
            assert_eq!(self.value(key), Some(*newest), "{key}: what the live bridge wrote is overwritten");
        }
    }

    /// One step of the lane; whether it waits.
    fn step(&mut self, answered: bool) -> bool {
        match self.lane.next(self.now) {
            Next::Exchange { replies, .. } => {
                let before: Vec<String> = (0..KEYS).map(|k| format!("s:k{k}")).filter(|s| !self.redis.data.contains_key(s.as_bytes())).collect();
                let answers = self.redis.serve(0, self.lane.outgoing());
                assert_eq!(answers.len(), replies);
                for stream in before.into_iter().filter(|s| self.redis.data.contains_key(s.as_bytes())) {
                    self.begun.insert(stream, true);
                }
                if answered {
                    // As the shell does, once the bytes are written.
                    self.lane.prepare(self.now);
                    self.lane.answered(answers, self.now, 0.0);
                }
                false
            }
            Next::Bury(letters) => {
                self.produced.extend(letters);
                if answered {
                    self.lane.take(Input::Buried(Ok(())), self.now);
                }
                false
            }
            Next::Wait(_) => true,
        }
    }

    /// The process is killed, whether its last exchange was answered or not; another one carries on.
    fn kill(&mut self, random: &mut Random) {
        if random.percent(50) {
            self.step(false);
        }
        self.redis.drop_connection(0);
        self.lane = Self::lane(&self.keys, self.ids, &self.letters);
        self.open();
    }

    /// To the end of the records, and then until nothing is left unread.
    fn run(&mut self, random: &mut Random, live: usize, kills: usize) {
        for _ in 0..10_000 {
            let (position, unread) = (self.state("offset"), self.state("unread"));
            let settled = position == RECORDS.to_string();
            if !settled && random.percent(live) {
                self.live(random);
            }
            if !settled && random.percent(kills) {
                self.kill(random);
            }
            let waits = self.step(true);
            self.holds();
            if waits && settled && unread.is_empty() {
                return;
            }
            if self.lane.take_events().iter().any(|e| matches!(e, Event::Reclaim { .. })) {
                self.open();
            }
            self.now += if waits && settled { IDLE_BEFORE_CLEAR } else { MS };
        }
        panic!("it never ends");
    }

    fn state(&self, field: &str) -> String {
        self.redis.field(&self.keys.state(&at(0)).0, field).unwrap()
    }

    /// The offsets of the letters about a stream.
    fn letters(&self, stream: &str) -> Vec<i64> {
        let about = |o: &i64| format!("s:{}", key(*o)) == stream;
        if self.letters == Letters::Topic {
            // There at least once.
            return self.produced.iter().map(|l| l.record.offset).filter(about).collect::<std::collections::BTreeSet<i64>>().into_iter().collect();
        }
        let offset = |letter: &server::Command| letter.windows(2).find(|w| w[0] == b"offset").map(|w| String::from_utf8_lossy(&w[1]).parse::<i64>().unwrap());
        self.redis.stream("dead").iter().filter_map(offset).filter(about).collect()
    }

    /// Each record once, in order, in the streams that the job began, and in no other.
    fn expect(&self) {
        for k in 0..KEYS {
            let stream = format!("s:k{k}");
            let number = |e: &server::Command| String::from_utf8_lossy(&e[2]).parse::<i64>().unwrap();
            let found: Vec<i64> = self.redis.stream(&stream).iter().map(number).filter(|o| *o < LIVE).collect();
            let expected: Vec<i64> =
                if self.begun.get(&stream) == Some(&true) { (0..RECORDS).filter(|o| key(*o) == format!("k{k}")).collect() } else { Vec::new() };
            // What Redis refused because of its id has a letter, and nothing else has.
            let mut all = [found, self.letters(&stream)].concat();
            all.sort_unstable();
            assert_eq!(all, expected, "{stream}");
            let last = (0..RECORDS).rev().find(|o| key(*o) == format!("k{k}"));
            for kind in ["newer", "missing"] {
                let name = format!("{kind}:k{k}");
                assert_eq!(self.value(&name), self.live.get(&name).copied().or(last), "{name}");
            }
        }
        assert_eq!(self.count("records"), RECORDS);
        assert_eq!(self.count("applied") + self.count("older") + self.count("present") + self.count("dead"), 3 * RECORDS);
        let letters: usize = (0..KEYS).map(|k| self.letters(&format!("s:k{k}")).len()).sum();
        assert_eq!(self.count("dead"), i64::try_from(letters).unwrap());
        assert!(self.ids != "*" || self.count("dead") == 0, "nothing can be refused");
    }
}

#[test]
fn whatever_comes_between_the_live_values_stand_and_each_record_is_applied_once() {
    for seed in 0..400 {
        let mut random = Random::new(seed);
        let (live, kills) = ([0, 3, 20, 60][random.below(4)], [0, 0, 3, 10][random.below(4)]);
        let letters = if random.percent(50) { Letters::Topic } else { stream() };
        let mut job = Job::new(["*", "{timestamp}-*", "{timestamp}-*"][random.below(3)], letters);
        job.run(&mut random, live, kills);
        job.expect();
    }
}

#[test]
fn alone_the_job_applies_all_in_one_look_a_batch() {
    let mut job = Job::new("*", stream());
    job.run(&mut Random::new(1), 0, 0);
    job.expect();
    assert_eq!((job.count("applied"), job.count("older"), job.count("present")), (3 * RECORDS, 0, 0));
    assert!(job.begun.values().all(|ours| *ours) && job.begun.len() == KEYS);
}
