//! A lane's thread: hands records to the core, and the core's bytes to Redis.
use super::connection::{Connection, Connector};
use super::failure::Failure;
use super::preflight;
use super::vigil::Post;
use crate::app::Clock;
use crate::core::lane::{Event, Input, Lane, Next, Settings, Unburied};
use crate::core::letter::Letter;
use crate::core::poller::Note;
use crate::core::record::Record;
use crate::ops::conditions::Conditions;
use crossbeam_channel::{Receiver, Sender, TryRecvError, never, select};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// What a lane holds, counted up by the poller and down by the lane.
#[derive(Debug, Default)]
pub struct Load {
    pub records: AtomicUsize,
    pub bytes: AtomicUsize,
    /// Rounds of the lane's thread: what the watchdog takes for life.
    pub rounds: AtomicU64,
}

/// A lane, as those see it who feed it.
pub struct LaneHandle {
    pub inbox: Sender<Input>,
    pub load: Arc<Load>,
}

/// The bounds of a lane's load.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    records: usize,
    bytes: usize,
}

/// How many batches a lane may hold, queued and in flight, by their records and by their bytes. Kafka gives out a partition's
/// records by the thousand: with less room than that, the poller would wait for one lane while another one has nothing to do.
const RECORDS_HELD: usize = 10;
const BYTES_HELD: usize = 6;

impl Room {
    pub fn of(settings: &Settings) -> Self {
        Self { records: settings.records_max * RECORDS_HELD, bytes: settings.bytes_max.saturating_mul(BYTES_HELD) }
    }

    #[must_use]
    pub fn half(self) -> Self {
        Self { records: self.records / 2, bytes: self.bytes / 2 }
    }
}

impl LaneHandle {
    /// Hands records over, and counts them.
    pub fn hand(&self, generation: u64, records: Vec<Record>) {
        self.load.records.fetch_add(records.len(), Ordering::Relaxed);
        self.load.bytes.fetch_add(records.iter().map(Record::weight).sum(), Ordering::Relaxed);
        let _ = self.inbox.send(Input::Records(generation, records));
    }

    /// Whether what it holds fills this room.
    pub fn fills(&self, room: Room) -> bool {
        self.load.records.load(Ordering::Relaxed) >= room.records || self.load.bytes.load(Ordering::Relaxed) >= room.bytes
    }
}

/// Who makes letters durable in the dead-letter topic, on a thread of its own: one list at a time.
pub struct Undertaker {
    pub letters: Sender<Vec<Letter>>,
    pub buried: Receiver<Result<(), Vec<Unburied>>>,
}

/// A lane and what it works with.
pub struct Shell {
    pub id: usize,
    pub lane: Lane,
    pub connector: Connector,
    pub undertaker: Option<Undertaker>,
    pub inbox: Receiver<Input>,
    pub to_poller: Sender<Note>,
    pub load: Arc<Load>,
    pub conditions: Conditions,
    /// What looks whether Redis answers it.
    pub post: Arc<Post>,
    pub clock: Clock,
}

/// The lane's way to Redis.
#[derive(Default)]
struct Line {
    connection: Option<Connection>,
    /// Connections lost in the middle of an exchange, shortly one after the other, and the time of the last.
    losses: u32,
    lost_at: Duration,
    /// When Redis is asked again how long an argument may be; not on this connection where it does not tell.
    limit_due: Option<Duration>,
}

/// How many connections may be lost in the middle of an exchange, shortly one after the other, before it is told.
const LOSSES_MAX: u32 = 4;
/// What is told then: that connections can be made does not mean that what must be written gets through.
const LOSES: &str = "redis-drops-us";
/// How long after an answer that did not come the next loss counts as the same trouble.
const SHORTLY: Duration = Duration::from_secs(5);
/// How often Redis is asked how long an argument may be: CONFIG SET can change it. Lower than before it closes the connection, and
/// is asked at the next.
const LIMIT_EVERY: Duration = Duration::from_secs(10);
/// How often a lane that could not connect tries again while it has nothing to send.
const CONNECT_AGAIN: Duration = Duration::from_secs(1);

impl Shell {
    /// Runs until the poller is gone.
    pub fn run(mut self) {
        let mut line = Line::default();
        let buried = self.undertaker.as_ref().map_or_else(never, |u| u.buried.clone());
        loop {
            self.load.rounds.fetch_add(1, Ordering::Relaxed);
            if let Ok(result) = buried.try_recv() {
                self.lane.take(Input::Buried(result), self.clock.now());
            }
            if !self.take_inputs() {
                return;
            }
            self.lane.set_wall_clock(jiff::Timestamp::now().as_millisecond());
            match self.lane.next(self.clock.now()) {
                Next::Exchange { replies, bytes_min } => self.exchange(&mut line, replies, bytes_min),
                Next::Bury(letters) => {
                    if self.undertaker.as_ref().is_none_or(|u| u.letters.send(letters).is_err()) {
                        // Its thread has panicked, which stops the bridge.
                        return;
                    }
                }
                Next::Wait(until) => {
                    if !self.report(&mut line) {
                        return;
                    }
                    if Failure::told(&self.conditions, self.post.holder()) {
                        let _ = self.connect(&mut line);
                    }
                    let wait = until.map_or(CONNECT_AGAIN, |t| t.saturating_sub(self.clock.now())).min(CONNECT_AGAIN);
                    let input = select! {
                        recv(self.inbox) -> input => input.ok(),
                        recv(buried) -> result => result.ok().map(Input::Buried),
                        default(wait) => continue,
                    };
                    let Some(input) = input else { return };
                    self.lane.take(input, self.clock.now());
                }
            }
            if !self.report(&mut line) {
                return;
            }
        }
    }

    /// Takes all that has come in; the poller bounds how much that can be.
    fn take_inputs(&mut self) -> bool {
        loop {
            match self.inbox.try_recv() {
                Ok(input) => self.lane.take(input, self.clock.now()),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn exchange(&mut self, line: &mut Line, replies: usize, bytes_min: usize) {
        let now = self.clock.now();
        let (connect, lane) = (self.connect(line), &mut self.lane);
        let made = connect.map(|c| {
            self.post.wait(|| {
                c.send(lane.outgoing())?;
                lane.prepare(now);
                c.receive(replies, bytes_min)
            })
        });
        match made {
            Ok(Ok(answer)) => {
                self.lane.set_wall_clock(jiff::Timestamp::now().as_millisecond());
                self.lane.answered(answer, self.clock.now(), rand::random());
            }
            Ok(Err(failure)) => {
                *line = Line { losses: line.losses + 1, lost_at: self.clock.now(), ..Line::default() };
                if !failure.is_silence() {
                    self.lane.hung_up();
                }
                if line.losses >= LOSSES_MAX {
                    let message = format!("{} connections were lost shortly one after the other, each with an exchange on its way: {failure}", line.losses);
                    let remedy = "if it lasts: see Redis' log; raise redis.response_timeout if it is slow";
                    self.conditions.meet(self.post.holder(), LOSES, "redis", &message, remedy, false);
                }
                self.lane.lost(&failure.reason);
            }
            Err(failure) => self.lane.lost(&failure.reason),
        }
    }

    /// The connection, made if there is none. That the claimer has one does not mean that a lane gets one.
    fn connect<'c>(&mut self, line: &'c mut Line) -> Result<&'c mut Connection, Failure> {
        let now = self.clock.now();
        if line.connection.is_none() || line.limit_due.is_some_and(|due| now >= due) {
            // Until it has answered it is not kept.
            let kept = line.connection.take();
            let anew = kept.is_none();
            let answered = self.post.wait(|| {
                let mut connection = kept.map_or_else(|| self.connector.connect(), Ok)?;
                let limit = preflight::bulk_max(&mut connection)?;
                Ok((connection, limit))
            });
            // That one was lost does not mean that the next can't be made.
            let tell = |failure: &Failure| failure.tell(&self.conditions, self.post.holder());
            let (connection, limit) = answered.inspect_err(|failure| _ = anew.then(|| tell(failure)))?;
            self.lane.set_bulk_max(limit);
            line.limit_due = limit.map(|_| now + LIMIT_EVERY);
            line.connection = Some(connection);
            Failure::over(&self.conditions, self.post.holder());
        }
        line.connection.as_mut().ok_or_else(|| Failure::unreachable("no connection"))
    }

    /// Hands on what came up. `false`: nobody listens any more.
    fn report(&mut self, line: &mut Line) -> bool {
        let (records, bytes) = self.lane.take_released();
        self.load.records.fetch_sub(records, Ordering::Relaxed);
        self.load.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if line.losses > 0 && self.clock.now() >= line.lost_at + self.connector.response_timeout() + SHORTLY {
            line.losses = 0;
            self.conditions.clear_for(self.post.holder(), LOSES, "redis");
        }
        self.lane.take_events().into_iter().all(|event: Event| self.to_poller.send(Note::Lane(self.id, event)).is_ok())
    }
}
