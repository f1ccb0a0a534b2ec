//! A bridge of the simulation: the real poller, lanes and claimer, and what their threads would do.
use super::faults::Faults;
use super::kafka::{Client, Fetch, TOPIC, at};
use super::lane::{LaneThread, Line, ROOM};
use super::net::Arrival;
use super::world::{CommitRequest, Env};
use crate::core::claim::{Guarantee, OnStateLost};
use crate::core::claimer::{self, Claimer, Outcome, Request};
use crate::core::flow::{Moment, Phase};
use crate::core::lane::{Event, Input, Lane, Letters, Settings, Span, Tally};
use crate::core::poller::{Action, Note, Poller, Seen};
use crate::core::record::TopicPartition;
use crate::core::route::{Route, Tombstone};
use crate::core::state::StateKey;
use crate::core::telling::Telling;
use crate::core::template::Template;
use crate::core::write::{Fields, Kind, Write, Xadd};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// What no lane may ever hold: its room, and what a poll hands over before that is noticed.
const HELD_MAX: usize = ROOM + 1;

struct ClaimThread {
    claimer: Claimer,
    inbox: VecDeque<Request>,
    active: Option<Request>,
    line: Line,
}

/// See the module's documentation.
pub(crate) struct Bridge {
    id: usize,
    /// Which process it is: another one after each crash.
    pub(crate) life: usize,
    poller: Poller,
    lanes: Vec<LaneThread>,
    claims: ClaimThread,
    notes: VecDeque<Note>,
    client: Client,
    /// Generations of which a former owner left replies unread, from an offset of a partition on, until that is decided about.
    unread: BTreeMap<u64, (TopicPartition, i64)>,
    /// Generations that a lane let go of in order.
    closed: BTreeSet<u64>,
}

/// Where the keys are kept that have data.
pub(crate) fn index() -> StateKey {
    StateKey::keys("b", "g", "r")
}

fn routes(env: &Env) -> Arc<[Route]> {
    let template = |t: &str| Template::parse(t).unwrap();
    let xadd = |key: &str, id: &str| {
        let kind = Xadd { key: template(key), fields: Fields::All, id: template(id), trim: None, nomkstream: false, ahead_max_ms: 1000 };
        Write::new(Kind::Xadd(kind))
    };
    let mut writes = vec![xadd("s:{partition}:{key}", "*")];
    if env.faults.explicit {
        // Nothing tells after a crash whether this one was refused.
        writes.push(xadd("x:{partition}", "{value.o}-0"));
    }
    if env.faults.job {
        // What a job compares with what it would write.
        for key in ["v:{partition}:{key}", "m:{partition}:{key}"] {
            writes.push(Write::new(Kind::Set { key: template(key), value: template("{payload}"), ttl: None, collapse: false }));
        }
    }
    // What the index is about: data that is found by the record's key alone.
    writes.push(Write::new(Kind::Set { key: template("i:{key}"), value: template("{payload}"), ttl: None, collapse: false }));
    [Route { tombstone: Tombstone::Del, ..Route::new("r", TOPIC, writes) }].into()
}

impl Bridge {
    pub(crate) fn new(id: usize, env: &mut Env) -> Self {
        env.lives += 1;
        let lane = Settings {
            routes: routes(env),
            records_max: 1 + env.random.below(6),
            commands_max: 12,
            bytes_max: 1 << 20,
            linger: Duration::ZERO,
            letters: if env.faults.topic { Letters::Topic } else { Letters::Stream { name: "dead".into(), maxlen: None } },
            span: Span::Lane,
            route_limits: vec![None],
            limit: None,
        };
        let claims = claimer::Settings {
            prefix: "b".into(),
            group: "g".into(),
            guarantee: Guarantee::ExactlyOnce,
            on_state_lost: match env.faults {
                Faults { evictions: true, .. } => OnStateLost::Resume,
                Faults { flushes: true, .. } => OnStateLost::Rebuild,
                _ => OnStateLost::Halt,
            },
            routes: routes(env),
            fingerprints: Vec::new(),
            owner: format!("owner-{}", env.lives).into_bytes(),
            store_id: "store".into(),
        };
        let lanes = 1 + env.random.below(2);
        let thread = |_| LaneThread::new(Lane::new(lane.clone(), [Tally::default()].into()).indexing(Some([Some(index())].into())), env.lives);
        Self {
            id,
            life: env.lives,
            poller: Poller::new(lanes, Guarantee::ExactlyOnce, Duration::from_secs(5)),
            lanes: (0..lanes).map(thread).collect(),
            claims: ClaimThread { claimer: Claimer::new(claims), inbox: VecDeque::new(), active: None, line: Line::of(env.lives) },
            notes: VecDeque::new(),
            client: Client::default(),
            unread: BTreeMap::new(),
            closed: BTreeSet::new(),
        }
    }

    /// Where a partition is halted for good, and why.
    pub(crate) fn halted(&self, partition: i32) -> Option<&'static str> {
        match self.poller.entry(TOPIC, partition)?.phase {
            Phase::Halted { code, .. } => Some(code),
            _ => None,
        }
    }

    /// How it sees a partition.
    pub(crate) fn standing(&self, partition: i32) -> String {
        let phase = self.poller.entry(TOPIC, partition).map(|e| (&e.phase, e.position()));
        format!("{phase:?}, fetches {:?}", self.client.fetches.get(&partition))
    }

    pub(crate) fn assign(&mut self, partition: i32) {
        self.client.assign(partition, self.poller.place(TOPIC, partition));
        self.poller.assigned(vec![at(partition)]);
    }

    /// One thread does one thing.
    pub(crate) fn step(&mut self, env: &mut Env) {
        match env.random.below(10) {
            0..=1 => self.poll(env),
            2 => self.fetch(env),
            3..=4 => self.claim(env),
            5 => self.statistics(env),
            _ => {
                let lane = env.random.below(self.lanes.len());
                self.lane(lane, env);
            }
        }
    }

    /// A round of the poller's thread.
    fn poll(&mut self, env: &mut Env) {
        for _ in 0..env.random.below(4) {
            let Some(record) = self.client.poll() else { break };
            let Some((generation, lane)) = self.poller.polled(TOPIC, record.at().partition, record.offset).map(|e| (e.generation, e.lane)) else { continue };
            let thread = &mut self.lanes[lane];
            thread.held += 1;
            assert!(thread.held <= HELD_MAX, "a lane holds {} records", thread.held);
            thread.inbox.push_back(Input::Records(generation, vec![record]));
            if thread.held >= ROOM {
                self.poller.set_full(lane, true);
                self.tick(env);
            }
        }
        self.tick(env);
    }

    fn tick(&mut self, env: &mut Env) {
        self.take_notes(env);
        for lane in 0..self.lanes.len() {
            if self.poller.is_full(lane) && self.lanes[lane].held < ROOM / 2 {
                self.poller.set_full(lane, false);
            }
        }
        self.poller.tick(env.now);
        self.perform(env, false);
    }

    fn take_notes(&mut self, env: &mut Env) {
        for _ in 0..env.random.below(self.notes.len() + 1) {
            let Some(note) = self.notes.pop_front() else { break };
            self.take_note(note, env);
        }
    }

    fn take_note(&mut self, note: Note, env: &mut Env) {
        if let Note::Lane(_, Event::Settled { generation, .. } | Event::Reclaim { generation, .. } | Event::Halt { generation, .. }) = &note {
            self.unread.remove(generation);
        }
        if let Note::Lane(_, Event::Closed { generation, left: false }) = &note {
            self.closed.insert(*generation);
        }
        self.poller.note(note, env.moment());
    }

    pub(crate) fn hear(&mut self, note: Note) {
        self.notes.push_back(note);
    }

    fn perform(&mut self, env: &mut Env, calling_back: bool) {
        while let Some(action) = self.poller.next_action(calling_back) {
            match action {
                Action::Pause(partitions) => self.each(&partitions, |f| f.paused = true),
                Action::Resume(places) => {
                    for (at, next) in places {
                        let open = self.poller.entry(TOPIC, at.partition).is_some_and(|e| e.phase == Phase::Open);
                        if let Some(fetch) = self.client.fetches.get_mut(&at.partition) {
                            fetch.resume(next, open);
                        }
                    }
                }
                Action::Seek(places) => {
                    let mut sought = Vec::new();
                    for (generation, at, to) in places {
                        let fetch = self.client.fetches.get_mut(&at.partition).filter(|f| !f.stalled && !env.seek_is_refused());
                        sought.push((generation, fetch.map(|f| f.seek(to)).ok_or_else(|| "Local: Erroneous state".to_owned())));
                    }
                    self.poller.sought(sought, || env.moment());
                }
                Action::AssignAgain { at, to } => {
                    if env.faults.eager {
                        for (at, place) in self.poller.claim_all_again(env.moment()) {
                            self.client.assign(at.partition, place);
                        }
                    }
                    self.client.assign(at.partition, to);
                }
                Action::Commit { positions, mark, awaited } => {
                    for (at, unread) in self.unread.values() {
                        let above = positions.iter().find(|(of, position)| of == at && position > unread);
                        assert!(above.is_none(), "{above:?} is committed before it is decided about what was left unread from {unread} on");
                    }
                    env.commits.push_back(CommitRequest { bridge: self.id, life: self.life, positions, mark, awaited });
                }
                Action::Claim(request) => self.claims.inbox.push_back(request),
                Action::ToLane(lane, input) => {
                    if let Input::Open(opening) = &input {
                        // An older generation of the partition commits nothing more.
                        self.unread.retain(|_, (at, _)| *at != opening.at);
                        self.unread.extend(opening.unread.map(|unread| (opening.generation, (opening.at.clone(), unread))));
                    }
                    self.lanes[lane].inbox.push_back(input);
                }
                Action::Tell(Telling::Alert { code: "bug", message, .. }) => panic!("{message}"),
                Action::Tell(Telling::Debug(text)) => env.trace(|| format!("bridge {}: {text}", self.id)),
                Action::Tell(telling) => env.trace(|| format!("bridge {}: {telling:?}", self.id)),
            }
        }
    }

    fn each(&mut self, partitions: &[TopicPartition], act: impl Fn(&mut Fetch)) {
        for at in partitions {
            self.client.fetches.get_mut(&at.partition).map(&act);
        }
    }

    /// The client library's fetching thread.
    fn fetch(&mut self, env: &mut Env) {
        if env.kafka.away {
            return;
        }
        self.client.fetch(&env.kafka, &mut env.random);
    }

    fn statistics(&mut self, env: &mut Env) {
        if !env.random.percent(20) {
            return;
        }
        let seen = |(p, f): (&i32, &Fetch)| (*p, Seen { end: (!f.stalled).then_some(env.kafka.log(*p).end), stalled: f.stalled });
        let all: Vec<(i32, Seen)> = self.client.fetches.iter().map(seen).collect();
        let mut behind = false;
        for (partition, seen) in all {
            behind |= self.poller.seen(TOPIC, partition, seen, env.moment());
        }
        for (partition, offset) in self.client.fetches.iter().filter(|_| behind).filter_map(|(p, f)| Some((*p, f.passed?))) {
            self.poller.passed(TOPIC, partition, offset);
        }
        self.perform(env, false);
    }

    /// A round of the claimer's thread.
    fn claim(&mut self, env: &mut Env) {
        let claims = &mut self.claims;
        let mut next = match &claims.active {
            None => {
                let Some(request) = claims.inbox.pop_front() else { return };
                claims.active = Some(request.clone());
                if env.kafka.away {
                    claimer::Next::Done(Outcome::Again { code: Some("kafka-unanswered"), why: "Kafka is away".into() })
                } else {
                    let facts = env.kafka.facts(request.at.partition);
                    claims.claimer.begin(request, facts, env.now)
                }
            }
            Some(_) => match claims.line.receive(env) {
                Arrival::Pending => return,
                Arrival::All(replies) => claims.claimer.answered(&replies, env.now),
                Arrival::Broken => return claims.inbox.extend(claims.active.take()),
            },
        };
        if matches!(next, claimer::Next::AskPolicy) {
            next = claims.claimer.policy(Ok(env.kafka.compacted), env.now);
        }
        match next {
            claimer::Next::Exchange { replies } => claims.line.send(claims.claimer.outgoing(), replies, env),
            claimer::Next::Done(outcome) => {
                let generation = claims.active.take().expect("a claim has ended").generation;
                self.notes.push_back(Note::Claim { generation, outcome });
            }
            claimer::Next::AskPolicy => unreachable!("just answered"),
        }
    }

    /// A round of a lane's thread.
    fn lane(&mut self, n: usize, env: &mut Env) {
        self.notes.extend(self.lanes[n].step(env).into_iter().map(|e| Note::Lane(n, e)));
    }

    /// Partitions are taken away: what is in flight is waited for through so many steps. `lost`: somebody else may have
    /// them already.
    pub(crate) fn revoke(&mut self, partitions: &[i32], lost: bool, steps: usize, env: &mut Env) {
        let partitions: Vec<TopicPartition> = partitions.iter().map(|p| at(*p)).collect();
        let mut open = self.poller.closing(&partitions);
        self.perform(env, true);
        for _ in 0..steps {
            env.net.serve(&mut env.random);
            for lane in 0..self.lanes.len() {
                self.lane(lane, env);
            }
            while let Some(note) = self.notes.pop_front() {
                Poller::lets_go(&note).map(|g| open.remove(&g));
                self.take_note(note, env);
            }
            if open.is_empty() {
                break;
            }
        }
        self.poller.revoked(&partitions, lost, env.now);
        self.perform(env, true);
        for at in partitions {
            self.client.fetches.remove(&at.partition);
            self.unread.retain(|_, (of, _)| *of != at);
        }
    }

    /// Stops, with a drain of so many steps. The partitions whose drain came to its end.
    pub(crate) fn drain(&mut self, steps: usize, env: &mut Env) -> Vec<i32> {
        let open: Vec<(i32, u64)> = self.poller.entries().filter(|e| e.phase == Phase::Open).map(|e| (e.at.partition, e.generation)).collect();
        self.poller.begin_drain(env.now);
        self.perform(env, false);
        for _ in 0..steps {
            env.now += Duration::from_millis(env.random.below(40).try_into().unwrap());
            env.net.serve(&mut env.random);
            self.step(env);
            if self.poller.drained(env.now) {
                self.perform(env, false);
                return open.into_iter().filter(|(_, generation)| self.closed.contains(generation)).map(|(partition, _)| partition).collect();
            }
        }
        Vec::new()
    }

    /// Killed: what it sent may still arrive.
    pub(crate) fn die(&mut self, env: &mut Env) {
        self.lanes.iter_mut().for_each(|l| l.hang_up(env));
        self.claims.line.hang_up(env);
    }
}

impl Env {
    pub(crate) fn moment(&mut self) -> Moment {
        Moment { now: self.now, jitter: 0.5 }
    }
}
