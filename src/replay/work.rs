//! The loop of a job: claim, read, hand to the lanes, until the end or a stop.
use super::speed::Speed;
use super::store::Store;
use crate::app::{Clock, Shared, claim_settings};
use crate::config::validate::Valid;
use crate::core::claim::Start;
use crate::core::claimer::Settings;
use crate::core::lane::{Event, Tally};
use crate::core::poller::Note;
use crate::core::replay::bounds::Held;
use crate::core::replay::claim::{How, Outcome, Wanted};
use crate::core::replay::job::{Counts, Keys};
use crate::core::replay::plan::Plan;
use crate::core::replay::run::{Place, Run};
use crate::core::retry::Backoff;
use crate::kafka::log::KafkaLog;
use crate::kafka::poller::{BURST, BURST_BYTES};
use crate::kafka::range::{records, size};
use crate::kafka::ranges::{Ranges, Read};
use crate::ops::conditions::Conditions;
use crate::sink::claim::Log as _;
use crate::sink::connection::Connector;
use crate::sink::lane::{LaneHandle, Room};
use crossbeam_channel::{Receiver, unbounded};
use rdkafka::message::{BorrowedMessage, Message as _};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long to wait for a record, or for a lane.
const WAIT: Duration = Duration::from_millis(20);
/// How often a person is shown how far it is, and Redis told that somebody works on it.
const SHOW_EVERY: Duration = Duration::from_millis(500);
const BEAT_EVERY: Duration = Duration::from_secs(4);
/// After how long without a record Kafka is asked whether there are any.
const LOOK_AFTER: Duration = Duration::from_secs(5);

/// How a job's process ended.
#[derive(Debug)]
pub enum End {
    Complete,
    Stopped,
    /// Some partitions need a person.
    Halted,
    /// Another process has taken the job over.
    Fenced,
    Failed(String),
}

/// How far a job is.
#[derive(Clone, Debug, Serialize)]
pub struct Progress {
    /// Offsets settled, of how many.
    pub done: i64,
    pub total: i64,
    pub rate: f64,
    pub eta_seconds: Option<u64>,
    pub elapsed_seconds: f64,
    /// The partition that has most left.
    pub slowest: Option<Place>,
    pub counts: Counts,
    #[serde(skip)]
    pub places: Vec<Place>,
}

impl Progress {
    /// Offsets that Kafka deleted before this process read them.
    pub fn gone(&self) -> i64 {
        self.places.iter().map(|p| p.gone).sum()
    }
}

/// A topic that is read, and which part of the job each partition is.
struct Reader {
    ranges: Ranges,
    parts: HashMap<i32, usize>,
}

/// Messages of one partition that were read one after the other. What the machine has for the lanes beside goes after them.
#[derive(Default)]
struct Group<'r> {
    part: Option<usize>,
    /// The lane, and the generation.
    to: Option<(usize, u64)>,
    messages: Vec<BorrowedMessage<'r>>,
}

impl Group<'_> {
    fn hand_on(&mut self, run: &Run, lanes: &[LaneHandle]) {
        if let (Some(part), Some((lane, generation))) = (self.part, self.to.take()) {
            lanes[lane].hand(generation, records(run.at(part).clone(), &self.messages));
        }
        self.messages.clear();
    }
}

/// See the module's documentation.
pub struct Work {
    plan: Plan,
    keys: Keys,
    valid: Valid,
    settings: Settings,
    store: Store,
    log: KafkaLog,
    run: Run,
    lanes: Vec<LaneHandle>,
    notes: Receiver<Note>,
    readers: BTreeMap<String, Reader>,
    conditions: Conditions,
    clock: Clock,
    stop: Arc<AtomicBool>,
    speed: Speed,
    counts: Counts,
    claims: u64,
    read_at: Duration,
    failed: Option<String>,
    lettered: HashSet<String>,
}

impl Work {
    /// Starts the lanes. `valid` has the routes as the replay applies them.
    pub fn new(valid: Valid, plan: Plan, stop: Arc<AtomicBool>) -> Result<Self, String> {
        let config = Arc::new(valid.config.clone());
        let (to_poller, notes) = unbounded();
        let (clock, conditions, keys) = (Clock::start(), Conditions::default(), Keys::new(&config.redis.state_prefix, &plan.name));
        let connector = Connector::new(config.redis.clone());
        let shared = Shared { config: config.clone(), connector, conditions: conditions.clone(), to_poller, clock, job: Some(keys.clone()) };
        let tallies: Arc<[Tally]> = valid.lane.routes.iter().map(|_| Tally::default()).collect();
        let lanes = shared.lanes(&valid, &tallies)?;
        Ok(Self {
            settings: claim_settings(&config, valid.lane.routes.clone()),
            store: Store::new(&config.redis),
            log: KafkaLog::new(&config.kafka, Start::Earliest).map_err(|e| format!("Kafka: {e}"))?,
            run: Run::new(&plan, lanes.len()),
            lanes,
            notes,
            readers: BTreeMap::new(),
            conditions,
            clock,
            stop,
            speed: Speed::default(),
            counts: Counts::default(),
            claims: 0,
            read_at: Duration::ZERO,
            failed: None,
            lettered: HashSet::new(),
            valid,
            keys,
            plan,
        })
    }

    /// Works until the end; `show` is called every now and then.
    pub fn run(&mut self, how: How, mut show: impl FnMut(&Progress, &Conditions)) -> End {
        if let Some(end) = self.claim(how) {
            return end;
        }
        let (mut shown, mut beaten) = (Duration::ZERO, Duration::ZERO);
        let end = loop {
            let now = self.clock.now();
            if now >= beaten {
                beaten = now + BEAT_EVERY;
                let _ = self.store.beat(&self.keys);
            }
            if now >= shown {
                shown = now + SHOW_EVERY;
                self.counts = self.store.counts(&self.keys).unwrap_or(self.counts);
                show(&self.progress(), &self.conditions);
            }
            if self.stop.load(Ordering::Relaxed) {
                break self.drain();
            }
            if let Some(end) = self.step() {
                break end;
            }
        };
        self.counts = self.store.counts(&self.keys).unwrap_or(self.counts);
        if matches!(end, End::Complete)
            && let Err(e) = self.store.complete(&self.keys, jiff::Timestamp::now().as_millisecond())
        {
            return End::Failed(format!("all is applied, but that can't be written to Redis: {e}; --resume does"));
        }
        if !matches!(end, End::Fenced) {
            let _ = self.store.rest(&self.keys);
        }
        end
    }

    /// One round; `Some` at the end.
    fn step(&mut self) -> Option<End> {
        while let Ok(note) = self.notes.try_recv() {
            self.note(note);
        }
        self.hand_on();
        if let Some(why) = self.failed.take() {
            return Some(End::Failed(why));
        }
        if self.run.over() {
            return Some(if self.run.complete() { End::Complete } else { End::Halted });
        }
        if let Some(end) = self.claim(How::Keep) {
            return Some(end);
        }
        if self.readers.is_empty() || self.full() {
            if let Ok(note) = self.notes.recv_timeout(WAIT) {
                self.note(note);
            }
            return None;
        }
        self.read();
        if self.clock.now() >= self.read_at + LOOK_AFTER {
            self.look();
        }
        None
    }

    fn full(&self) -> bool {
        let room = Room::of(&self.valid.lane);
        self.lanes.iter().any(|lane| lane.fills(room))
    }

    fn note(&mut self, note: Note) {
        match note {
            Note::Lane(lane, Event::Trouble(trouble)) => match trouble {
                Some((code, message)) => self.conditions.raise(code, &format!("lane {lane}"), &message, "the job goes on by itself when Redis takes writes"),
                None => self.conditions.clear_subject(&format!("lane {lane}")),
            },
            Note::Lane(_, Event::Buried { route, code, reason }) => {
                if self.lettered.insert(route.clone()) {
                    tracing::warn!(code = "dead-letter", route, "the first dead letter of this job: {code}: {reason}");
                }
            }
            Note::Lane(_, event) => {
                if let Some((code, message)) = self.run.event(event) {
                    tracing::warn!(code, "{message}");
                }
            }
            Note::Fatal(why) => self.failed = Some(why),
            Note::Claim { .. } | Note::Committed(_) | Note::RedisUp => {}
        }
    }

    /// Hands the lanes what is for them, and reads no further what is not to be read.
    fn hand_on(&mut self) {
        for (lane, input) in self.run.take_inputs() {
            let _ = self.lanes[lane].inbox.send(input);
        }
        for part in self.run.take_left() {
            let at = self.run.at(part).clone();
            if let Some(reader) = self.readers.get_mut(&*at.topic)
                && reader.parts.remove(&at.partition).is_some()
            {
                reader.ranges.leave(at.partition);
            }
        }
        self.readers.retain(|_, reader| !reader.parts.is_empty());
    }

    /// Claims what is not ours, however long it takes. `Some`: it can't go on.
    fn claim(&mut self, mut how: How) -> Option<End> {
        let parts = self.run.to_claim();
        if parts.is_empty() {
            return None;
        }
        let mut backoff = Backoff::default();
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return if matches!(how, How::Keep) { None } else { Some(End::Stopped) };
            }
            self.claims += 1;
            let why = match self.try_claim(&parts, how.clone()) {
                Ok(Outcome::Taken(_)) => return None,
                Ok(Outcome::Exists) => return Some(End::Failed(format!("a job {} is there already: start again", self.plan.name))),
                Ok(Outcome::Gone(why)) => return Some(End::Failed(why)),
                Ok(Outcome::Complete) => return Some(End::Failed(format!("the job {} is complete", self.plan.name))),
                Ok(Outcome::Fenced) => {
                    self.run.fence();
                    return Some(End::Fenced);
                }
                Ok(Outcome::Failed(why)) => return Some(End::Failed(why)),
                Ok(Outcome::Again(why)) | Err(why) => why,
            };
            // What was lost may have been done: then it is ours to keep.
            if let How::Begin { .. } = how
                && self.store.find(&self.plan.name).is_ok_and(|found| found.is_some())
            {
                how = How::Keep;
            }
            let code = if why.starts_with("Kafka") { "kafka-unanswered" } else { "redis-unreachable" };
            self.conditions.raise(code, "job", &why, "the job goes on by itself");
            std::thread::park_timeout(backoff.next(rand::random()));
        }
    }

    /// One claim of all these; they are read from where it says.
    fn try_claim(&mut self, parts: &[(usize, u64)], how: How) -> Result<Outcome, String> {
        let (mut wanted, mut held) = (Vec::new(), Vec::new());
        for (part, generation) in parts {
            let at = self.run.at(*part).clone();
            let (low, high) = self.log.watermarks(&at).map_err(|e| format!("Kafka: {at}: {e}"))?;
            held.push(Held { low, high });
            wanted.push(Wanted { generation: *generation, from: self.run.from(*part), low, compacted: self.log.compacted(&at.topic), at });
        }
        let taken = match self.store.claim(&self.settings, &self.keys, wanted, how, self.claims).map_err(|e| e.to_string())? {
            Outcome::Taken(taken) => taken,
            other => return Ok(other),
        };
        self.conditions.clear_subject("job");
        let mut topics = HashSet::new();
        for (((part, _), taken), held) in parts.iter().zip(taken).zip(held) {
            topics.insert(self.run.at(*part).topic.to_string());
            if let Some(notice) = &taken.notice {
                tracing::warn!(code = notice.code, "{}: {}", self.run.at(*part), notice.text);
            }
            self.run.claimed(*part, taken, held);
        }
        self.hand_on();
        topics.iter().try_for_each(|topic| self.read_anew(topic))?;
        Ok(Outcome::Taken(Vec::new()))
    }

    /// Reads a topic from where its partitions are.
    fn read_anew(&mut self, topic: &str) -> Result<(), String> {
        self.readers.remove(topic);
        let places = self.run.places(topic);
        if !places.is_empty() {
            let ranges = Ranges::new(&self.valid.config.kafka, topic, places.iter().map(|(_, partition, next)| (*partition, *next)));
            let parts = places.iter().map(|(part, partition, _)| (*partition, *part)).collect();
            self.readers.insert(topic.to_owned(), Reader { ranges: ranges.map_err(|e| format!("Kafka: {e}"))?, parts });
        }
        self.read_at = self.clock.now();
        Ok(())
    }

    fn read(&mut self) {
        let mut out_of_range = Vec::new();
        let mut timeout = WAIT / u32::try_from(self.readers.len()).unwrap_or(1);
        for (topic, reader) in &self.readers {
            // Kafka gives out one partition's records after the other's: each run goes as one.
            let (mut group, mut bytes) = (Group::default(), 0);
            for _ in 0..BURST {
                let read = reader.ranges.next(timeout);
                timeout = Duration::ZERO;
                match read {
                    Read::Record(message) => {
                        let Some(part) = reader.parts.get(&message.partition()).copied() else { continue };
                        self.read_at = self.clock.now();
                        bytes += size(&message);
                        if group.part != Some(part) {
                            group.hand_on(&self.run, &self.lanes);
                            group.part = Some(part);
                        }
                        if let Some(to) = self.run.read(part, message.offset(), message.key()) {
                            group.to = Some(to);
                            group.messages.push(message);
                        }
                        self.run.handed(part);
                        if bytes >= BURST_BYTES {
                            break;
                        }
                    }
                    Read::End(partition) => {
                        if let Some(part) = reader.parts.get(&partition) {
                            self.run.ended(*part);
                        }
                    }
                    Read::OutOfRange => {
                        out_of_range.push(topic.clone());
                        break;
                    }
                    Read::Trouble(why) => {
                        tracing::debug!("{topic}: {why}");
                        break;
                    }
                    Read::Nothing => break,
                }
            }
            group.hand_on(&self.run, &self.lanes);
        }
        for topic in out_of_range {
            self.look_at(&topic);
        }
    }

    /// Nothing comes: asks Kafka what it has.
    fn look(&mut self) {
        self.read_at = self.clock.now();
        let topics: Vec<String> = self.readers.keys().cloned().collect();
        topics.iter().for_each(|topic| self.look_at(topic));
    }

    fn look_at(&mut self, topic: &str) {
        let mut moved = false;
        for (part, ..) in self.run.places(topic) {
            let at = self.run.at(part).clone();
            match self.log.watermarks(&at) {
                Ok((low, high)) => {
                    self.conditions.clear("kafka-unanswered", topic);
                    moved |= self.run.out_of_range(part, Held { low, high });
                }
                Err(why) if self.log.partitions(topic).is_ok_and(|n| n <= at.partition) => {
                    self.run.halt(part, "topic-missing", format!("Kafka has no {at} any more ({why}): the topic was deleted"));
                }
                Err(why) => self.conditions.raise("kafka-unanswered", topic, &format!("{at}: {why}"), "the job goes on by itself when Kafka answers"),
            }
        }
        self.hand_on();
        if moved && let Err(why) = self.read_anew(topic) {
            self.failed = Some(why);
        }
    }

    /// Reads no more; what is in flight is settled, within the deadline.
    fn drain(&mut self) -> End {
        self.readers.clear();
        self.run.stop();
        let deadline = self.clock.now() + self.valid.config.drain.deadline.0;
        loop {
            self.hand_on();
            if self.run.let_go() || self.clock.now() >= deadline {
                break;
            }
            if let Ok(note) = self.notes.recv_timeout(WAIT) {
                self.note(note);
            }
        }
        if self.run.complete() { End::Complete } else { End::Stopped }
    }

    /// How far it is.
    pub fn progress(&mut self) -> Progress {
        let places = self.run.progress();
        let done = places.iter().map(|p| p.position - p.from).sum();
        let total = self.plan.len();
        let now = self.clock.now();
        self.speed.see(now, done);
        let slowest = places.iter().filter(|p| p.position < p.to).max_by_key(|p| p.to - p.position).cloned();
        Progress {
            done,
            total,
            rate: self.speed.rate(),
            eta_seconds: self.speed.left(total - done).map(|d| d.as_secs()),
            elapsed_seconds: now.as_secs_f64(),
            slowest,
            counts: self.counts,
            places,
        }
    }
}
