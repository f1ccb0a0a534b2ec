//! The loop of a job: claim, read, hand to the lanes, until the end or a stop.
//!
//! | file | concept |
//! |---|---|
//! | `work` | the loop, and what is told of it |
//! | `claiming` | what is not ours is taken, beside all else |
//! | `reading` | from Kafka to the lanes; what Kafka says when nothing comes |
//! | `suspects` | partitions that may be what is wrong with their topic |
mod claiming;
mod reading;
mod suspects;

use self::claiming::Claiming;
use self::reading::Reader;
use self::suspects::Suspects;
use super::speed::Speed;
use super::store::{Store, Stored};
use crate::app::{Clock, Shared, claim_settings};
use crate::config::validate::Valid;
use crate::core::claim::Start;
use crate::core::claimer::Settings;
use crate::core::lane::{Event, Tally};
use crate::core::poller::Note;
use crate::core::replay::claim::How;
use crate::core::replay::job::{Counts, GONE, Keys};
use crate::core::replay::leave::Left;
use crate::core::replay::plan::Plan;
use crate::core::replay::run::{Place, Run};
use crate::core::retry::{Backoff, Retry};
use crate::core::telling::{Telling, left_out};
use crate::kafka::log::KafkaLog;
use crate::ops::conditions::Conditions;
use crate::sink::failure::Failure;
use crate::sink::lane::LaneHandle;
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded, unbounded};
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long what only a person can put right is waited for before the job ends without it.
const PERSON_MAX: Duration = Duration::from_secs(30);
/// How long to wait for a record, or for a lane.
const WAIT: Duration = Duration::from_millis(20);
/// How often a person is shown how far it is, and Redis told that somebody works on it.
const SHOW_EVERY: Duration = Duration::from_millis(500);
const BEAT_EVERY: Duration = Duration::from_secs(4);

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

/// See the module's documentation.
pub struct Work {
    plan: Plan,
    keys: Keys,
    valid: Valid,
    settings: Settings,
    store: Store,
    log: Arc<KafkaLog>,
    run: Run,
    lanes: Vec<LaneHandle>,
    notes: Receiver<Note>,
    readers: BTreeMap<String, Reader>,
    /// Topics that are to be read anew.
    anew: BTreeMap<String, Retry>,
    suspects: Suspects,
    conditions: Conditions,
    clock: Clock,
    stop: Arc<AtomicBool>,
    speed: Speed,
    counts: Counts,
    claiming: Claiming,
    /// When a record was last read, or looked for.
    read_at: Duration,
    /// Since when each lane is full.
    full_since: Vec<Option<Duration>>,
    /// When Redis is told next that somebody works on the job.
    beat_at: Duration,
    failed: Option<String>,
    lettered: HashSet<String>,
}

impl Work {
    /// Starts the lanes. `valid` has the routes as the replay applies them.
    pub fn new(valid: Valid, plan: Plan, stop: Arc<AtomicBool>) -> Result<Self, String> {
        let config = Arc::new(valid.config.clone());
        let (to_poller, notes) = unbounded();
        let (clock, conditions, keys) = (Clock::start(), Conditions::default(), Keys::new(&config.redis.state_prefix, &plan.name));
        let shared = Shared::new(config.clone(), conditions.clone(), to_poller, clock, Some(keys.clone()));
        let tallies: Arc<[Tally]> = valid.lane.routes.iter().map(|_| Tally::default()).collect();
        let lanes = shared.lanes(&valid, &tallies)?;
        Ok(Self {
            settings: claim_settings(&config, valid.lane.routes.clone()),
            store: Store::new(&config.redis),
            log: Arc::new(KafkaLog::new(&config.kafka, Start::Earliest).map_err(|e| format!("Kafka: {e}"))?),
            run: Run::new(&plan, lanes.len()),
            full_since: vec![None; lanes.len()],
            lanes,
            notes,
            readers: BTreeMap::new(),
            anew: BTreeMap::new(),
            suspects: Suspects::default(),
            conditions,
            clock,
            stop,
            speed: Speed::default(),
            counts: Counts::default(),
            claiming: Claiming::default(),
            read_at: Duration::ZERO,
            beat_at: Duration::ZERO,
            failed: None,
            lettered: HashSet::new(),
            valid,
            keys,
            plan,
        })
    }

    /// Where a job that is carried on stands, by what Redis says before it is claimed.
    pub fn stands(&mut self, stored: &Stored) {
        self.run.stands(&stored.positions);
        self.counts = stored.counts;
    }

    /// Works until the end; `show` is called every now and then.
    pub fn run(&mut self, how: How, mut show: impl FnMut(&Progress)) -> End {
        self.claiming.begin(how);
        let mut shown = Duration::ZERO;
        let end = loop {
            let now = self.clock.now();
            self.beat();
            if now >= shown {
                shown = now + SHOW_EVERY;
                self.counts = self.store.counts(&self.keys).unwrap_or(self.counts);
                show(&self.progress());
            }
            if self.stopping() {
                break self.drain();
            }
            if let Some(end) = self.step() {
                break end;
            }
        };
        let end = if matches!(end, End::Complete) {
            self.completed()
        } else {
            self.counts = self.store.counts(&self.keys).unwrap_or(self.counts);
            end
        };
        self.leave(end)
    }

    /// Works on the job no more. Who is stopped, or halted, may not have noticed that another process has taken it over.
    fn leave(&mut self, end: End) -> End {
        let left = self.store.leave(&self.keys, &self.settings.owner, &self.run.taken());
        match (left, end) {
            (Ok(Left::Anothers), End::Stopped | End::Halted) => End::Fenced,
            (Ok(Left::Gone), End::Stopped | End::Halted) => End::Failed(GONE.into()),
            (_, end) => end,
        }
    }

    /// All is settled: that is told to Redis, which may have gone back since. It is waited for, unless a stop is asked for.
    fn completed(&mut self) -> End {
        let mut backoff = Backoff::default();
        loop {
            let why = match self.complete() {
                Ok(true) => return End::Complete,
                Ok(false) => return End::Failed("all was applied, and Redis does not hold all of it any more: it went back, or lost the job".into()),
                Err(why) => why,
            };
            let message = format!("all is applied, and that can't be written to Redis: {why}");
            self.conditions.raise(why.code(), "job", &message, "the job goes on by itself when Redis takes writes; one that is stopped is marked by --resume");
            let again = self.clock.now() + backoff.next(rand::random());
            while self.clock.now() < again {
                if self.stopping() {
                    return End::Stopped;
                }
                self.beat();
                std::thread::park_timeout(WAIT);
            }
        }
    }

    /// Marks the job as complete, and takes the counts that hold from then on: whether there are letters must not be guessed.
    fn complete(&mut self) -> Result<bool, Failure> {
        let complete = self.store.complete(&self.keys, &self.plan.spans, jiff::Timestamp::now().as_millisecond())?;
        self.counts = self.store.counts(&self.keys)?;
        self.conditions.clear_subject("job");
        Ok(complete)
    }

    /// Whether what ended so can be carried on: something is left, and Redis has the job.
    pub fn resumable(&mut self, end: &End) -> bool {
        let begun = self.claiming.taken();
        // A job of this name that this process did not begin is another's, unless that is not known.
        let left = matches!(end, End::Stopped) || begun && matches!(end, End::Halted | End::Failed(_));
        left && self.store.find(&self.plan.name).map_or(begun, |found| found.is_some_and(|job| job.status != "complete"))
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Asks Kafka, by a thread of its own. However long it takes, Redis is told meanwhile that somebody works on the job; `None`: a
    /// stop is asked for, and nobody waits for the answer, or there was no thread to be had.
    fn ask<T: Send + 'static>(&mut self, question: impl FnOnce(&KafkaLog) -> T + Send + 'static) -> Option<T> {
        let (log, (answer, answered)) = (self.log.clone(), bounded(1));
        std::thread::Builder::new().name("asks-kafka".into()).spawn(move || answer.send(question(&log))).ok()?;
        loop {
            match answered.recv_timeout(WAIT) {
                Ok(answer) => return Some(answer),
                Err(RecvTimeoutError::Timeout) if !self.stopping() => self.beat(),
                Err(_) => return None,
            }
        }
    }

    /// Tells Redis that somebody works on the job.
    fn beat(&mut self) {
        let now = self.clock.now();
        if self.claiming.taken() && now >= self.beat_at {
            self.beat_at = now + BEAT_EVERY;
            let _ = self.store.beat(&self.keys);
        }
    }

    /// One round; `Some` at the end.
    fn step(&mut self) -> Option<End> {
        if let Some(failed) = self.heed() {
            return Some(failed);
        }
        if self.run.over() {
            return Some(if self.run.complete() { End::Complete } else { End::Halted });
        }
        if let Some(end) = self.claim() {
            return Some(end);
        }
        self.read_due();
        if self.may_read() {
            self.read();
            self.look();
        } else {
            // What is not read gives nothing.
            self.read_at = self.clock.now();
            if let Ok(note) = self.notes.recv_timeout(WAIT) {
                self.note(note);
            }
        }
        None
    }

    /// Takes what the lanes say, and hands them what is for them. `Some`: something has failed, whatever else is asked for.
    fn heed(&mut self) -> Option<End> {
        while let Ok(note) = self.notes.try_recv() {
            self.note(note);
        }
        self.hand_on();
        self.failed.take().map(End::Failed)
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
            Note::Lane(_, Event::LeftOut { at, offset }) => {
                if let Telling::Warn { code, message } = left_out(&at, offset) {
                    tracing::warn!(code, "{message}");
                }
            }
            Note::Lane(_, Event::ConditionError { whose, message }) => {
                if self.lettered.insert(whose) {
                    tracing::warn!(code = "condition-error", "{message}");
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

    /// Reads no more; what is in flight is settled, within the deadline.
    fn drain(&mut self) -> End {
        self.readers.clear();
        self.run.stop();
        let deadline = self.clock.now() + self.valid.config.drain.deadline.0;
        loop {
            if let Some(failed) = self.heed() {
                return failed;
            }
            self.beat();
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
        let done: i64 = places.iter().map(|p| p.position - p.from).sum();
        let total = self.plan.len();
        let now = self.clock.now();
        self.speed.see(now, self.run.settled());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::load_text;
    use crate::config::validate::validate;
    use crate::core::replay::plan::Span;

    /// A job of a partition, where neither Kafka nor Redis answers.
    fn work() -> Work {
        let text = "[kafka]\nbrokers = [\"127.0.0.1:1\"]\ngroup = \"g\"\n[redis]\nurl = \"redis://127.0.0.1:1\"\n\
            [[route]]\nname = \"r\"\ntopics = [\"t\"]\n[[route.write]]\nset = { key = \"k\", value = \"v\" }\n";
        let valid = validate(&load_text(text, "bridge.toml", &[]).unwrap()).unwrap();
        let plan = Plan::of(vec![Span { topic: "t".into(), partition: 0, from: 0, to: 9, first_ms: None, last_ms: None, live: None }]);
        Work::new(valid, plan, Arc::new(AtomicBool::new(true))).unwrap()
    }

    #[test]
    fn a_failure_is_told_though_a_stop_was_asked_for() {
        assert!(matches!(work().run(How::Take, |_| {}), End::Stopped));
        let mut work = work();
        work.note(Note::Fatal("a thread panicked".into()));
        let end = work.run(How::Take, |_| {});
        assert!(matches!(&end, End::Failed(why) if why == "a thread panicked"), "{end:?}");
    }
}
