//! A job of the simulation: the real run, claim and lanes, and what its processes would do; beside the bridges, on records
//! that they apply as well.
use super::kafka::TOPIC;
use super::lane::{LaneThread, Line, ROOM};
use super::net::Arrival;
use super::world::{Env, World};
use crate::core::claim::{Guarantee, OnStateLost};
use crate::core::claimer;
use crate::core::lane::{Lane, Letters, Settings, Tally};
use crate::core::record::Record;
use crate::core::replay::bounds::Held;
use crate::core::replay::claim::{Claim, How, Outcome, Wanted};
use crate::core::replay::completion::{Completion, Ended};
use crate::core::replay::job::Keys;
use crate::core::replay::plan::{Plan, Span};
use crate::core::replay::policy::{Ids, Options};
use crate::core::replay::run::Run;
use crate::core::replay::talk::{Next, Talk};
use crate::core::route::{Route, Tombstone};
use crate::core::template::Template;
use crate::core::write::{Effect, Fields, Kind, Ttl, Write, Xadd};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub(crate) fn keys() -> Keys {
    Keys::new("b", "j")
}

/// A job: what it is to do, and who works on it.
pub(crate) struct Job {
    pub(crate) plan: Plan,
    processes: Vec<Process>,
}

/// What time it is for a job; of its records, whose times are their offsets, some have expired.
pub(crate) const NOW_MS: i64 = 1020;
/// How long a value of a job stands from its record's time on.
pub(crate) const TTL_MS: i64 = 1000;

/// Streams that it begins, and streams to which it adds whatever is there; the values that the bridges write as well, by their
/// versions and where there is none; and values of its own, whose time counts from their records'.
fn routes() -> Arc<[Route]> {
    let template = |t: &str| Template::parse(t).unwrap();
    let add = |key: &str| Kind::Xadd(Xadd { key: template(key), fields: Fields::All, id: template("*"), trim: None, nomkstream: false, ahead_max_ms: 1000 });
    let set = |key: &str, ttl| Kind::Set { key: template(key), value: template("{payload}"), ttl, collapse: false };
    let from_record = Ttl::FromRecord(Box::new(Ttl::Fixed(TTL_MS.unsigned_abs())));
    let writes = vec![
        Write { effect: Effect::IfMissing, ..Write::new(add("r:{partition}:{key}")) },
        Write { effect: Effect::IfNewer(template("{value.o}")), ..Write::new(set("v:{partition}:{key}", None)) },
        Write { effect: Effect::IfMissing, ..Write::new(set("m:{partition}:{key}", None)) },
        Write::new(add("a:{partition}:{key}")),
        Write::new(set("t:{partition}:{key}", Some(from_record))),
    ];
    [Route { tombstone: Tombstone::Del, ..Route::new("r", TOPIC, writes) }].into()
}

struct Process {
    life: usize,
    run: Run,
    spans: Vec<Span>,
    lanes: Vec<LaneThread>,
    line: Line,
    settings: &'static claimer::Settings,
    keys: &'static Keys,
    /// How the first claim is made.
    how: Option<How>,
    claims: u64,
    claiming: Option<(Claim<'static>, Vec<(usize, Held)>)>,
    /// All is settled, and that is being told to Redis.
    completing: Option<Completion>,
    /// Where a partition's log last showed an end that is none.
    false_ends: BTreeMap<usize, i64>,
    /// It is over: complete, or stopped, halted, fenced, failed.
    ended: bool,
}

impl Process {
    fn new(plan: &Plan, how: How, env: &mut Env) -> Self {
        env.lives += 1;
        let lane = Settings {
            routes: routes(),
            records_max: 1 + env.random.below(6),
            commands_max: 24,
            bytes_max: 1 << 20,
            linger: Duration::ZERO,
            letters: Letters::Stream { name: "dead of a job".into(), maxlen: None },
            span: crate::core::lane::Span::Lane,
            route_limits: vec![None],
            limit: None,
        };
        let settings = claimer::Settings {
            prefix: "b".into(),
            group: "g".into(),
            guarantee: Guarantee::ExactlyOnce,
            on_state_lost: OnStateLost::Halt,
            routes: routes(),
            fingerprints: Vec::new(),
            owner: format!("owner-{}", env.lives).into_bytes(),
            store_id: "store".into(),
        };
        let lanes = 1 + env.random.below(2);
        let thread = |_| {
            let mut lane = Lane::new(lane.clone(), [Tally::default()].into()).replaying(keys());
            lane.set_wall_clock(NOW_MS);
            LaneThread::new(lane, env.lives)
        };
        Self {
            life: env.lives,
            run: Run::new(plan, lanes),
            spans: plan.spans.clone(),
            lanes: (0..lanes).map(thread).collect(),
            line: Line::of(env.lives),
            // As long as the process, which a claim of its own borrows from.
            settings: Box::leak(Box::new(settings)),
            keys: Box::leak(Box::new(keys())),
            how: Some(how),
            claims: 0,
            claiming: None,
            completing: None,
            false_ends: BTreeMap::new(),
            ended: false,
        }
    }

    /// One thread does one thing.
    fn step(&mut self, env: &mut Env) {
        self.hand_on();
        match env.random.below(6) {
            _ if self.run.complete() => self.complete(env),
            0 => self.claim(env),
            1..=2 => self.read(env),
            _ => {
                let lane = env.random.below(self.lanes.len());
                self.lane(lane, env);
            }
        }
        self.ended |= self.run.over() && !self.run.complete();
    }

    fn complete(&mut self, env: &mut Env) {
        let next = match &mut self.completing {
            None => {
                // Another connection than that of a claim, on which keys may be watched.
                self.line = Line::of(self.life);
                self.completing.insert(Completion::new(self.keys, &self.spans, 0)).begin()
            }
            Some(completion) => match self.line.receive(env) {
                Arrival::Pending => return,
                Arrival::All(replies) => completion.answered(&replies),
                // It is tried once more.
                Arrival::Broken => return self.completing = None,
            },
        };
        match (next, &self.completing) {
            (Next::Exchange { replies }, Some(completion)) => self.line.send(completion.outgoing(), replies, env),
            (Next::Done(Ended::Again | Ended::Refused(_)), _) => self.completing = None,
            (Next::Done(ended), _) => {
                env.trace(|| format!("job: {ended:?}"));
                self.ended = true;
            }
            _ => {}
        }
    }

    fn hand_on(&mut self) {
        for (lane, input) in self.run.take_inputs() {
            self.lanes[lane].inbox.push_back(input);
        }
        // What is read is asked of the run each time.
        drop(self.run.take_left());
    }

    fn lane(&mut self, lane: usize, env: &mut Env) {
        for event in self.lanes[lane].step(env) {
            if let Some((code, why)) = self.run.event(event) {
                assert_ne!(code, "bug", "{why}");
                env.trace(|| format!("job: {code}: {why}"));
            }
        }
    }

    fn claim(&mut self, env: &mut Env) {
        let next = match &mut self.claiming {
            None if env.kafka.away => return,
            None => {
                let parts = self.run.to_claim();
                if parts.is_empty() {
                    return;
                }
                self.claims += 1;
                let held = |part: usize| {
                    let log = env.kafka.log(self.run.at(part).partition);
                    Held { low: log.low, high: log.end }
                };
                let wanted = |(part, generation): &(usize, u64)| Wanted {
                    at: self.run.at(*part).clone(),
                    generation: *generation,
                    from: self.run.from(*part),
                    low: held(*part).low,
                    compacted: Ok(env.kafka.compacted),
                };
                let how = self.how.clone().unwrap_or(How::Keep);
                let mut claim = Claim::new(self.settings, self.keys, parts.iter().map(wanted).collect(), how, self.claims);
                let next = claim.begin();
                self.claiming = Some((claim, parts.iter().map(|(part, _)| (*part, held(*part))).collect()));
                next
            }
            Some((claim, _)) => match self.line.receive(env) {
                Arrival::Pending => return,
                Arrival::All(replies) => claim.answered(&replies),
                Arrival::Broken => return self.claiming = None,
            },
        };
        let Some((claim, _)) = &self.claiming else { return };
        match next {
            Next::Exchange { replies } => self.line.send(claim.outgoing(), replies, env),
            Next::Done(Outcome::Taken(taken)) => {
                self.how = None;
                for ((part, held), taken) in self.claiming.take().into_iter().flat_map(|(_, held)| held).zip(taken) {
                    self.run.claimed(part, taken, held);
                }
            }
            Next::Done(outcome) => {
                self.claiming = None;
                // A new connection watches nothing.
                self.line = Line::of(self.life);
                env.trace(|| format!("job: {outcome:?}"));
                if !matches!(outcome, Outcome::Again(_)) {
                    self.ended = true;
                }
            }
        }
    }

    /// Kafka gives some records of each partition, or the end of its log, which now and then is none.
    fn read(&mut self, env: &mut Env) {
        if env.kafka.away {
            return;
        }
        for (part, partition, next) in self.run.places(TOPIC) {
            if self.lanes[self.run.lane(part)].held >= ROOM {
                continue;
            }
            let n = 1 + env.random.below(6);
            let log = env.kafka.log(partition);
            let held = Held { low: log.low, high: log.end };
            let records: Vec<Record> = log.from(next).take(n).cloned().collect();
            let ends = records.is_empty() || env.random.percent(5) && self.false_ends.insert(part, next) != Some(next);
            if ends {
                self.run.ended(part, held);
                continue;
            }
            for record in records {
                if let Some((lane, generation)) = self.run.read(part, record.offset, record.key()) {
                    self.lanes[lane].held += 1;
                    self.lanes[lane].inbox.push_back(crate::core::lane::Input::Records(generation, vec![record]));
                }
                self.run.handed(part);
            }
            self.hand_on();
        }
    }

    /// SIGTERM: what is in flight is settled, within so many steps.
    fn stop(&mut self, steps: usize, env: &mut Env) {
        self.run.stop();
        for _ in 0..steps {
            self.hand_on();
            env.net.serve(&mut env.random);
            let lane = env.random.below(self.lanes.len());
            self.lane(lane, env);
            if self.run.let_go() {
                break;
            }
        }
        self.ended = !self.run.complete();
    }

    /// Killed: what it sent may still arrive.
    fn die(mut self, env: &mut Env) {
        self.lanes.iter_mut().for_each(|l| l.hang_up(env));
        self.line.hang_up(env);
    }
}

impl World {
    /// What is there of the topic, or some of it, is to be applied again.
    pub(super) fn plan_job(&mut self) {
        let env = &mut self.env;
        let present = env.kafka.present;
        let mut span = |partition: i32| {
            let log = env.kafka.log(partition);
            let (low, end) = (log.low, log.end);
            let mut below = |n: i64| i64::try_from(env.random.below(usize::try_from(n).unwrap())).unwrap();
            let from = low + below((end - low).min(5) + 1);
            let to = if below(2) == 0 { end } else { from + below(end - from + 1) };
            Span { topic: TOPIC.into(), partition, from, to, first_ms: None, last_ms: None, live: None }
        };
        let spans: Vec<Span> = (0..present).map(&mut span).collect();
        let keys = if self.env.random.percent(20) { vec!["k0".to_owned(), "bad".into()] } else { Vec::new() };
        self.env.trace(|| format!("a job of {:?}, keys {keys:?}", spans.iter().map(|s| (s.from, s.to)).collect::<Vec<_>>()));
        let options = Options { target_prefix: String::new(), append: false, ids: Ids::Write, writes: Vec::new() };
        let plan = Plan { name: "j".into(), created_ms: 0, spans, writes: Vec::new(), options, keys, rate: None, clamp: false, notes: Vec::new() };
        self.job = Some(Job { plan, processes: Vec::new() });
    }

    /// Whether Redis has the job, and that it is complete.
    pub(super) fn job_status(&self) -> Option<String> {
        self.env.net.master().field(&keys().job().0, "status")
    }

    /// A process begins the job, or carries it on.
    pub(super) fn start_job(&mut self) {
        let how = match self.job_status().as_deref() {
            Some("complete") => return,
            Some(_) => How::Take,
            None => How::Begin { names: Keys::names("b").0, name: "j".into(), fields: vec![("plan", "{}".into()), ("status", "begun".into())] },
        };
        let Some(job) = &mut self.job else { return };
        self.env.trace(|| format!("a process of the job: {how:?}"));
        job.processes.push(Process::new(&job.plan, how, &mut self.env));
    }

    pub(super) fn job_is_worked_on(&self) -> bool {
        self.job.as_ref().is_some_and(|job| !job.processes.is_empty())
    }

    /// One of its processes does one thing.
    pub(super) fn work_on_job(&mut self) {
        let Some(n) = self.some_process() else { return };
        let Some(job) = &mut self.job else { return };
        job.processes[n].step(&mut self.env);
        self.end_of(n);
    }

    /// A process is killed, or stopped, or another one is started beside it.
    pub(super) fn befall_job(&mut self) {
        let what = self.env.random.below(3);
        let n = self.some_process();
        match (what, n, &mut self.job) {
            (0, Some(n), Some(job)) => {
                self.env.trace(|| "the job is killed".into());
                job.processes.swap_remove(n).die(&mut self.env);
            }
            (1, Some(n), Some(job)) => {
                self.env.trace(|| "the job is stopped".into());
                let steps = self.env.random.below(200);
                job.processes[n].stop(steps, &mut self.env);
                self.end_of(n);
            }
            (_, _, Some(job)) if job.processes.len() < 2 => self.start_job(),
            _ => {}
        }
    }

    pub(super) fn kill_job(&mut self) {
        let Some(job) = &mut self.job else { return };
        for process in std::mem::take(&mut job.processes) {
            process.die(&mut self.env);
        }
    }

    fn some_process(&mut self) -> Option<usize> {
        let count = self.job.as_ref().map_or(0, |job| job.processes.len());
        (count > 0).then(|| self.env.random.below(count))
    }

    fn end_of(&mut self, n: usize) {
        let Some(job) = &mut self.job else { return };
        if job.processes[n].ended {
            job.processes.swap_remove(n).die(&mut self.env);
        }
    }
}
