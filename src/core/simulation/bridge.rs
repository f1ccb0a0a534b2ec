//! A bridge of the simulation: the real flow, lane and claimer, and what their shells would do.
use super::model::Redis;
use super::random::Random;
use crate::core::claim::{Commit, Guarantee, Marked, OnStateLost};
use crate::core::claimer::{self, Claimer, LogFacts, Outcome, Request};
use crate::core::decode::Format;
use crate::core::flow::{Flow, Phase};
use crate::core::lane::{Event, Lane, Letters, Next, Settings, Span, Tally};
use crate::core::record::{Record, TopicPartition};
use crate::core::route::{Route, Tombstone, Topics};
use crate::core::template::Template;
use crate::core::write::{Effect, Fields, Kind, Write, Xadd};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const TOPIC: &str = "t";

/// What became of the bytes of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Answered,
    /// The connection broke before they arrived.
    Lost,
    /// They were applied, and the answer was lost.
    Unanswered,
    /// Nobody waits for them any more, and they will still be applied.
    Late,
}

/// What Kafka holds, as far as a bridge can ask.
pub(crate) struct Kafka {
    pub(crate) logs: Vec<Vec<Record>>,
    pub(crate) commits: BTreeMap<i32, (i64, String)>,
}

impl Kafka {
    pub(crate) fn end(&self, partition: i32) -> i64 {
        self.log(partition).last().map_or(0, |r| r.offset + 1)
    }

    fn log(&self, partition: i32) -> &[Record] {
        &self.logs[usize::try_from(partition).unwrap()]
    }

    fn facts(&self, partition: i32) -> LogFacts {
        let commit = self.commits.get(&partition).map(|(offset, mark)| Commit { offset: *offset, ours: Marked::decode(mark) });
        LogFacts { low: 0, high: self.end(partition), commit, start: 0, partitions: i32::try_from(self.logs.len()).unwrap() }
    }
}

/// Commands that will be applied although nobody waits for them: connection, bytes.
pub(crate) type Late = Vec<(usize, Vec<u8>)>;

pub(crate) struct Bridge {
    pub(crate) flow: Flow,
    pub(crate) lane: Lane,
    claimer: Claimer,
    claims: VecDeque<Request>,
    /// A claim's exchange that is to be made.
    claiming: Option<(Request, usize)>,
    /// The next offset to fetch, by generation.
    fetch: BTreeMap<u64, (i32, i64)>,
    store_id: String,
    /// The connections of the lane and of the claimer.
    connections: [usize; 2],
    pub(crate) now: Duration,
    /// Where a dead-letter topic stands: partition and offset of each letter.
    pub(crate) buried: Vec<(i32, i64)>,
}

fn routes() -> Arc<[Route]> {
    let template = |t: &str| Template::parse(t).unwrap();
    let xadd = Xadd { key: template("s:{partition}:{key}"), fields: Fields::All, id: template("*"), trim: None, nomkstream: false };
    let writes = vec![Write { kind: Kind::Xadd(xadd), effect: Effect::Apply }];
    [Route { name: "r".into(), topics: vec![Topics::Name(TOPIC.into())], format: Format::Json, tombstone: Tombstone::Skip, writes }].into()
}

impl Bridge {
    pub(crate) fn new(owner: &str, letters: Letters, connections: [usize; 2], now: Duration) -> Self {
        let lane = Settings {
            routes: routes(),
            records_max: 4,
            bytes_max: 1 << 20,
            linger: Duration::ZERO,
            letters,
            span: Span::Lane,
            route_limits: vec![None],
            limit: None,
        };
        let claims = claimer::Settings {
            prefix: "b".into(),
            group: "g".into(),
            guarantee: Guarantee::ExactlyOnce,
            on_state_lost: OnStateLost::Halt,
            routes: routes(),
            fingerprint: Vec::new(),
            owner: owner.into(),
            store_id: "store".into(),
        };
        Self {
            flow: Flow::new(1),
            lane: Lane::new(lane, [Tally::default()].into()),
            claimer: Claimer::new(claims),
            claims: VecDeque::new(),
            claiming: None,
            fetch: BTreeMap::new(),
            store_id: String::new(),
            connections,
            now,
            buried: Vec::new(),
        }
    }

    /// Sends bytes on one of its connections; `None`: no answer will come, and the connection is a new one.
    fn exchange(
        &mut self,
        which: usize,
        bytes: &[u8],
        redis: &mut Redis,
        late: &mut Late,
        fate: Fate,
        fresh: &mut usize,
    ) -> Option<Vec<crate::core::reply::Reply>> {
        let connection = self.connections[which];
        if fate == Fate::Answered {
            return Some(redis.serve(connection, bytes));
        }
        match fate {
            Fate::Unanswered => drop(redis.serve(connection, bytes)),
            Fate::Late => late.push((connection, bytes.to_vec())),
            Fate::Answered | Fate::Lost => {}
        }
        if fate != Fate::Late {
            redis.drop_connection(connection);
        }
        *fresh += 1;
        self.connections[which] = *fresh;
        None
    }

    /// One step of the claimer's thread.
    pub(crate) fn claim(&mut self, kafka: &Kafka, redis: &mut Redis, late: &mut Late, fate: Fate, fresh: &mut usize) {
        let due = self.flow.due_claims(self.now);
        self.claims.extend(due.into_iter().map(|(at, generation, memory)| Request { at, generation, memory }));
        let next = match self.claiming.take() {
            None => {
                let Some(request) = self.claims.pop_front() else { return };
                let facts = kafka.facts(request.at.partition);
                (self.claimer.begin(request.clone(), facts, self.now), request)
            }
            Some((request, _)) => {
                let bytes = self.claimer.outgoing().to_vec();
                let Some(answer) = self.exchange(1, &bytes, redis, late, fate, fresh) else { return self.claims.push_front(request) };
                (self.claimer.answered(&answer, self.now), request)
            }
        };
        let (mut next, request) = next;
        if matches!(next, claimer::Next::AskPolicy) {
            next = self.claimer.policy(Ok(false), self.now);
        }
        match next {
            claimer::Next::Exchange { replies } => self.claiming = Some((request, replies)),
            claimer::Next::Done(outcome) => self.claimed(outcome, request.generation),
            claimer::Next::AskPolicy => unreachable!("just answered"),
        }
    }

    fn claimed(&mut self, outcome: Outcome, generation: u64) {
        if !self.flow.of(generation).is_some_and(|e| matches!(e.phase, Phase::Claiming { .. })) {
            return;
        }
        match outcome {
            Outcome::Claimed(claimed) => {
                self.store_id.clone_from(&claimed.store_id);
                self.flow.opened(generation, claimed.opening.position, claimed.epoch);
                self.fetch.insert(generation, (claimed.opening.at.partition, claimed.begin));
                self.lane.open(claimed.opening);
            }
            Outcome::Again { .. } => self.flow.reclaim(generation, self.now, 0.5),
            Outcome::Halt { code, reason } => panic!("halted: {code}: {reason}"),
        }
    }

    /// Hands a few records of each open partition to the lane.
    pub(crate) fn fetch(&mut self, kafka: &Kafka, random: &mut Random) {
        self.fetch.retain(|generation, _| self.flow.of(*generation).is_some());
        for (generation, (partition, next)) in &mut self.fetch {
            if !self.flow.of(*generation).is_some_and(|e| e.phase == Phase::Open) {
                continue;
            }
            let from = kafka.log(*partition).partition_point(|r| r.offset < *next);
            for record in kafka.log(*partition)[from..].iter().take(random.below(6)) {
                *next = record.offset + 1;
                self.lane.push(*generation, record.clone(), self.now);
            }
        }
    }

    /// One step of the lane's thread. Whether it had something to do.
    pub(crate) fn step(&mut self, redis: &mut Redis, late: &mut Late, fate: Fate, fresh: &mut usize) -> bool {
        let busy = match self.lane.next(self.now) {
            Next::Exchange { replies } => {
                let bytes = self.lane.outgoing().to_vec();
                match self.exchange(0, &bytes, redis, late, fate, fresh) {
                    Some(answer) => {
                        assert_eq!(answer.len(), replies);
                        self.lane.answered(answer, self.now, 0.5);
                    }
                    None => self.lane.lost("cut"),
                }
                true
            }
            Next::Bury(letters) => {
                self.buried.extend(letters.iter().map(|l| (l.record.at.partition, l.record.offset)));
                self.lane.letters_durable();
                true
            }
            Next::Wait(_) => false,
        };
        for event in self.lane.take_events() {
            match event {
                Event::Settled { generation, range } => self.flow.settle(generation, range).expect("a settled range continues the ledger"),
                Event::Reclaim { generation, .. } => self.flow.reclaim(generation, self.now, 0.5),
                Event::Halt { code, reason, .. } => panic!("halted: {code}: {reason}"),
                Event::Hold { .. } | Event::Closed { .. } | Event::Trouble(_) | Event::Buried { .. } => {}
            }
        }
        busy
    }

    /// What is settled and not yet committed, with our mark.
    pub(crate) fn take_commits(&mut self) -> Vec<(TopicPartition, i64, String)> {
        let mark = Marked { guarantee: Guarantee::ExactlyOnce, store_id: self.store_id.clone() }.encode();
        self.flow.to_commit().into_iter().map(|(at, position)| (at, position, mark.clone())).collect()
    }

    /// Writes what the lane holds, through `steps` steps, and lets go.
    pub(crate) fn drain(&mut self, redis: &mut Redis, late: &mut Late, steps: usize, fresh: &mut usize) {
        self.lane.drain();
        for _ in 0..steps {
            self.step(redis, late, Fate::Answered, fresh);
        }
    }

    /// A partition is taken away: what is in flight is waited for through `steps` steps.
    pub(crate) fn let_go(&mut self, partition: i32, redis: &mut Redis, late: &mut Late, steps: usize, fresh: &mut usize) {
        if let Some((_, generation)) = self.flow.closing(TOPIC, partition) {
            self.lane.close(generation);
        }
        for _ in 0..steps {
            self.step(redis, late, Fate::Answered, fresh);
        }
    }

    /// Both connections are gone.
    pub(crate) fn disconnect(&mut self, redis: &mut Redis, fresh: &mut usize) {
        for connection in &mut self.connections {
            redis.drop_connection(*connection);
            *fresh += 1;
            *connection = *fresh;
        }
        self.lane.lost("Redis restarted");
        if let Some((request, _)) = self.claiming.take() {
            self.claims.push_front(request);
        }
        for event in self.lane.take_events() {
            if let Event::Reclaim { generation, .. } = event {
                self.flow.reclaim(generation, self.now, 0.5);
            }
        }
    }
}
