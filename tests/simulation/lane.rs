//! A lane of the simulation: the real lane, its wire to Redis, and what its threads would do.
use super::net::Arrival;
use super::server::wire_bytes;
use super::world::Env;
use crate::core::lane::{Event, Input, Lane, Next};
use crate::core::letter::Letter;
use std::collections::VecDeque;

/// Over so many records a lane is full.
pub(crate) const ROOM: usize = 12;

/// A connection to Redis and the answer that is waited for.
#[derive(Default)]
pub(crate) struct Line {
    /// Of which process it is.
    life: usize,
    wire: Option<usize>,
    waiting: Option<usize>,
}

impl Line {
    pub(crate) fn of(life: usize) -> Self {
        Self { life, ..Self::default() }
    }

    pub(crate) fn send(&mut self, bytes: &[u8], replies: usize, env: &mut Env) {
        let wire = *self.wire.get_or_insert_with(|| env.net.connect(self.life));
        env.net.send(wire, bytes);
        self.waiting = Some(replies);
    }

    /// What has come of it; it may be that nobody wants to wait any longer.
    pub(crate) fn receive(&mut self, env: &mut Env) -> Arrival {
        let (Some(wire), Some(replies)) = (self.wire, self.waiting) else { return Arrival::Pending };
        let arrival = match env.net.receive(wire, replies) {
            Arrival::Pending if env.gives_up() => {
                env.trace(|| format!("wire {wire}: given up"));
                self.hang_up(env);
                Arrival::Broken
            }
            other => other,
        };
        match arrival {
            Arrival::Pending => {}
            Arrival::All(_) => self.waiting = None,
            Arrival::Broken => *self = Self::of(self.life),
        }
        arrival
    }

    pub(crate) fn hang_up(&mut self, env: &mut Env) {
        if let Some(wire) = self.wire.take() {
            let still = if env.faults.late { env.random.below(40) } else { 0 };
            env.net.hang_up(wire, still);
        }
        self.waiting = None;
    }
}

pub(crate) struct LaneThread {
    lane: Lane,
    pub(crate) inbox: VecDeque<Input>,
    line: Line,
    /// What the replies that it waits for take at least.
    bytes_min: usize,
    /// Records handed to it that have not left it.
    pub(crate) held: usize,
    undertaker: Undertaker,
}

/// The thread that produces a lane's letters.
enum Undertaker {
    Idle,
    Producing(Vec<Letter>),
    /// They are durable, and the lane has not heard of it.
    Done,
}

impl LaneThread {
    pub(crate) fn new(lane: Lane, life: usize) -> Self {
        Self { lane, inbox: VecDeque::new(), line: Line::of(life), bytes_min: 0, held: 0, undertaker: Undertaker::Idle }
    }

    /// A round of its thread; what it says.
    pub(crate) fn step(&mut self, env: &mut Env) -> Vec<Event> {
        let moment = env.moment();
        self.undertaker = match std::mem::replace(&mut self.undertaker, Undertaker::Idle) {
            Undertaker::Producing(letters) if !env.kafka.away && env.random.percent(30) => {
                env.kafka.letters.extend(letters.iter().map(|l| (l.record.at().partition, l.record.offset, l.code)));
                Undertaker::Done
            }
            Undertaker::Done if env.random.percent(50) => {
                self.lane.take(Input::Buried(Ok(())), moment.now);
                Undertaker::Idle
            }
            other => other,
        };
        if self.line.waiting.is_some() {
            match self.line.receive(env) {
                Arrival::Pending => return Vec::new(),
                Arrival::All(replies) => {
                    assert!(wire_bytes(&replies) >= self.bytes_min, "no reader sleeps for bytes that never come");
                    self.lane.answered(replies, moment.now, moment.jitter);
                }
                Arrival::Broken => {
                    self.lane.hung_up();
                    self.lane.lost("cut");
                }
            }
        } else {
            for _ in 0..env.random.below(self.inbox.len() + 1) {
                let Some(input) = self.inbox.pop_front() else { break };
                self.lane.take(input, moment.now);
            }
            match self.lane.next(moment.now) {
                Next::Exchange { replies, bytes_min } => {
                    self.bytes_min = bytes_min;
                    self.line.send(self.lane.outgoing(), replies, env);
                    if env.random.percent(70) {
                        self.lane.prepare(moment.now);
                    }
                }
                Next::Bury(letters) => {
                    assert!(matches!(self.undertaker, Undertaker::Idle), "letters are produced one list at a time");
                    self.undertaker = Undertaker::Producing(letters);
                }
                Next::Wait(_) => {}
            }
        }
        self.held -= self.lane.take_released().0;
        self.lane.take_events()
    }

    /// Its process is gone: what it sent may still arrive.
    pub(crate) fn hang_up(&mut self, env: &mut Env) {
        self.line.hang_up(env);
    }
}
