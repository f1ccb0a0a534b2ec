//! The only wiring: threads, channels, and how they end.
//!
//! ```text
//! poller ──Input──▶ lane 1..n ──▶ Redis
//!   ▲  └─Request─▶ claimer ────▶ Redis, Kafka
//!   └─────Note─────┴─┘
//! ```
use crate::config::Config;
use crate::config::serve::index;
use crate::config::validate::Valid;
use crate::core::claimer;
use crate::core::fingerprint;
use crate::core::lane::{Lane, Letters, Tally};
use crate::core::latency;
use crate::core::membership::Membership;
use crate::core::poller::{Note, Poller};
use crate::core::replay::job::Keys;
use crate::core::route::{Route, Topics};
use crate::core::topics::ignored;
use crate::kafka::client;
use crate::kafka::driver::{Drained, Driver};
use crate::kafka::letters::LetterTopic;
use crate::kafka::log::KafkaLog;
use crate::kafka::poller::{self, Subscription};
use crate::ops::conditions::Conditions;
use crate::ops::http::Source;
use crate::ops::status::{LatencyStatus, RouteStatus, Status};
use crate::sink::claim::Claimer;
use crate::sink::connection::Connector;
use crate::sink::figures::{Figures, Seen};
use crate::sink::lane::{LaneHandle, Load, Room, Shell, Undertaker};
use crate::sink::vigil::Vigil;
use crossbeam_channel::{Sender, bounded, unbounded};
use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Messages to the poller that may wait.
const POLLER_INBOX: usize = 4096;
/// How long the poller or a lane may take for a round before it counts as stuck.
const STILL_MAX: Duration = Duration::from_secs(30);

/// The time since the process began: the only clock of the core's shells.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    pub fn start() -> Self {
        Self(Instant::now())
    }
    pub fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A running bridge.
pub struct Bridge {
    driver: Arc<Mutex<Driver>>,
    poller: JoinHandle<Drained>,
    pub view: Arc<View>,
    deadline: Duration,
}

/// A thread that turns, seen from outside.
struct Wheel {
    turns: Box<dyn Fn() -> u64 + Send>,
    seen: u64,
    moved: Instant,
}

impl Wheel {
    fn turns_within(&mut self, still_max: Duration) -> bool {
        let turns = (self.turns)();
        if turns != self.seen {
            (self.seen, self.moved) = (turns, Instant::now());
        }
        self.moved.elapsed() < still_max
    }
}

/// What turns: the lanes and the poller.
fn wheels(driver: &Driver) -> Vec<Wheel> {
    let loads: Vec<Arc<Load>> = driver.lanes.iter().map(|l| l.load.clone()).collect();
    let poller = driver.rounds.clone();
    let turns = loads.into_iter().map(|load| Box::new(move || load.rounds.load(Ordering::Relaxed)) as Box<dyn Fn() -> u64 + Send>);
    let turns = turns.chain([Box::new(move || poller.load(Ordering::Relaxed)) as Box<dyn Fn() -> u64 + Send>]);
    turns.map(|turns| Wheel { turns, seen: 0, moved: Instant::now() }).collect()
}

/// What can be seen of a running bridge from outside.
pub struct View {
    driver: Arc<Mutex<Driver>>,
    /// What turns while the bridge lives: the rounds of the poller and of the lanes, and when each last moved.
    wheels: Mutex<Vec<Wheel>>,
    /// How long one may stand still.
    still_max: Duration,
    conditions: Conditions,
    routes: Arc<[Route]>,
    tallies: Arc<[Tally]>,
    /// What Redis held when it was last looked at.
    redis: Arc<Seen>,
    clock: Clock,
}

impl Bridge {
    /// Starts all threads.
    ///
    /// # Errors
    /// A client of Kafka can't be made, as by a property that librdkafka does not know.
    pub fn start(valid: &Valid) -> Result<Self, String> {
        let config = Arc::new(valid.config.clone());
        let clock = Clock::start();
        let conditions = Conditions::default();
        let routes = valid.lane.routes.clone();
        let tallies: Arc<[Tally]> = routes.iter().map(|_| Tally::default()).collect();
        let (to_poller, inbox) = bounded(POLLER_INBOX);
        let (claims, requests) = unbounded();
        let shared = Shared::new(config.clone(), conditions.clone(), to_poller.clone(), clock, None);
        let lanes = shared.lanes(valid, &tallies)?;
        let [topic_missing, topic_refused, bare] = [(); 3].map(|()| Arc::new(AtomicBool::new(false)));
        let log = KafkaLog::new(&config.kafka, valid.start).map_err(|e| format!("Kafka: {e}"))?;
        let size = log.size(&routes);
        let claimer = Claimer {
            connector: shared.connector.clone(),
            config: config.clone(),
            routes: routes.clone(),
            claimer: claimer::Claimer::new(claim_settings(&config, routes.clone())),
            log,
            conditions: conditions.clone(),
            post: shared.vigil.post("claimer"),
            to_poller: to_poller.clone(),
            topic_missing: topic_missing.clone(),
            topic_refused: topic_refused.clone(),
            bare: bare.clone(),
            clock,
        };
        spawn("claimer", &to_poller, move || claimer.run(&requests))?;
        let (commits, to_commit) = bounded(1);
        let driver = Driver {
            poller: Poller::new(lanes.len(), config.redis.guarantee.into(), config.drain.deadline.0),
            lanes,
            room: Room::of(&valid.lane),
            inbox,
            claims,
            commits: Some(commits),
            conditions: conditions.clone(),
            clock,
            topic_missing,
            topic_refused,
            refused_by: String::new(),
            membership: Membership::new(client::terms(&config.kafka)),
            bare,
            unreached: String::new(),
            left_group: String::new(),
            statistics: None,
            rounds: Arc::new(AtomicU64::new(0)),
        };
        let driver = Arc::new(Mutex::new(driver));
        let wanted = Subscription { topics: &subscription(&routes), ignored: &ignored(&routes), size };
        let consumer = Arc::new(poller::subscribe(&config.kafka, &wanted, driver.clone()).map_err(|e| format!("Kafka: {e}"))?);
        let (committing, committer) = bounded(0);
        let (of_committer, told, notes) = (consumer.clone(), driver.clone(), to_poller.clone());
        spawn("committer", &to_poller, move || {
            poller::commit(&of_committer, &told, &to_commit, &notes);
            drop((of_committer, committing));
        })?;
        let redis = Arc::new(Seen::default());
        if config.http.enabled && !config.http.redis_every.0.is_zero() {
            let figures = Figures::new(&config, &routes, Connector::new(config.redis.clone()), &redis);
            spawn("figures", &to_poller, move || figures.run())?;
        }
        let of_poller = driver.clone();
        let polls = move || poller::run(consumer, &of_poller, &committer);
        let poller = std::thread::Builder::new().name("poller".into()).spawn(polls).map_err(|e| e.to_string())?;
        let wheels = wheels(&driver.lock());
        let still_max = STILL_MAX.max(2 * (config.redis.connect_timeout.0 + config.redis.response_timeout.0));
        let view = Arc::new(View { driver: driver.clone(), wheels: Mutex::new(wheels), still_max, conditions, routes, tallies, redis, clock });
        Ok(Self { driver, poller, view, deadline: config.drain.deadline.0 })
    }

    /// Asks for a drain.
    pub fn stop(&self) {
        self.driver.lock().poller.stop(None);
    }

    /// Something that asks for a drain, from any thread.
    pub fn stopper(&self) -> impl Fn() + Send + Sync + use<> {
        let driver = self.driver.clone();
        move || driver.lock().poller.stop(None)
    }

    /// Whether the poller has ended.
    pub fn finished(&self) -> bool {
        self.poller.is_finished()
    }

    /// Whether a stop was asked for.
    pub fn stopping(&self) -> bool {
        self.driver.lock().poller.stopping()
    }

    /// Waits for the end; `waiting` is called again and again meanwhile. Closing a consumer can hang in librdkafka: `None`
    /// where it did not end in time.
    pub fn join(self, mut waiting: impl FnMut()) -> Option<Drained> {
        let mut asked = None;
        while !self.poller.is_finished() {
            if self.driver.try_lock().is_some_and(|d| d.poller.stopping()) {
                let since = *asked.get_or_insert_with(Instant::now);
                if since.elapsed() > self.deadline + Duration::from_secs(10) {
                    return None;
                }
            }
            std::thread::park_timeout(Duration::from_millis(20));
            waiting();
        }
        self.poller.join().ok()
    }
}

impl View {
    /// Logs what still holds at the end of the process.
    pub fn leave(&self) {
        self.conditions.leave_all();
    }
}

impl Source for View {
    fn status(&self) -> Status {
        let (ready, census, partitions, guarantee) = {
            let driver = self.driver.lock();
            (driver.ready(), driver.census(), driver.partitions(), driver.poller.guarantee())
        };
        let routes = self.routes.iter().zip(self.tallies.iter()).map(|(route, t)| RouteStatus {
            name: route.name.clone(),
            records: t.records.load(Ordering::Relaxed),
            commands: t.commands.load(Ordering::Relaxed),
            dead: t.dead.load(Ordering::Relaxed),
            expired: t.expired.load(Ordering::Relaxed),
            tombstones: t.tombstones.load(Ordering::Relaxed),
            dropped: t.dropped.load(Ordering::Relaxed),
            condition_errors: t.condition_errors.load(Ordering::Relaxed),
            latency: LatencyStatus {
                bounds_ms: latency::BOUNDS_MS.to_vec(),
                counts: t.latency.counts(),
                sum_ms: t.latency.sum_ms(),
                implausible: t.latency.implausible(),
            },
        });
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            ready,
            guarantee: guarantee.to_string(),
            uptime_seconds: self.clock.now().as_secs(),
            partitions_assigned: census.assigned,
            partitions_open: census.open,
            partitions,
            routes: routes.collect(),
            redis: self.redis.lock().clone(),
            conditions: self.conditions.all(),
        }
    }

    fn ready(&self) -> bool {
        self.driver.lock().ready()
    }

    fn alive(&self) -> bool {
        self.wheels.lock().iter_mut().all(|wheel| wheel.turns_within(self.still_max))
    }
}

/// What all lanes have in common.
pub(crate) struct Shared {
    pub(crate) config: Arc<Config>,
    pub(crate) connector: Connector,
    pub(crate) conditions: Conditions,
    pub(crate) to_poller: Sender<Note>,
    pub(crate) clock: Clock,
    /// The job that they work for.
    pub(crate) job: Option<Keys>,
    vigil: Vigil,
}

impl Shared {
    pub(crate) fn new(config: Arc<Config>, conditions: Conditions, to_poller: Sender<Note>, clock: Clock, job: Option<Keys>) -> Self {
        let connector = Connector::new(config.redis.clone());
        let vigil = Vigil::new(conditions.clone(), &connector.address());
        Self { config, connector, conditions, to_poller, clock, job, vigil }
    }

    /// Starts the lanes' threads.
    pub(crate) fn lanes(&self, valid: &Valid, tallies: &Arc<[Tally]>) -> Result<Vec<LaneHandle>, String> {
        let mut lanes = Vec::new();
        for id in 0..self.config.redis.lanes {
            // Bounded by the load that the poller keeps account of.
            let (input, inbox) = unbounded();
            let load = Arc::new(Load::default());
            let lane = Lane::new(valid.lane.clone(), tallies.clone()).indexing(index(&self.config, &valid.lane.routes));
            let shell = Shell {
                id,
                lane: if let Some(keys) = &self.job { lane.replaying(keys.clone()) } else { lane },
                connector: self.connector.clone(),
                undertaker: if valid.lane.letters == Letters::Topic { Some(self.undertaker(id)?) } else { None },
                inbox,
                to_poller: self.to_poller.clone(),
                load: load.clone(),
                conditions: self.conditions.clone(),
                post: self.vigil.post(&format!("lane {id}")),
                clock: self.clock,
            };
            spawn(&format!("lane-{id}"), &self.to_poller, move || shell.run())?;
            lanes.push(LaneHandle { inbox: input, load });
        }
        let vigil = self.vigil.clone();
        spawn("vigil", &self.to_poller, move || vigil.run())?;
        Ok(lanes)
    }

    /// Starts the thread that produces a lane's dead letters.
    fn undertaker(&self, lane: usize) -> Result<Undertaker, String> {
        let job = self.job.as_ref().map(|keys| keys.name().to_owned());
        let topic = LetterTopic::new(&self.config.kafka, &self.config.dead_letter.topic, self.conditions.clone(), format!("lane {lane}"), job);
        let topic = topic.map_err(|e| format!("the dead-letter topic's producer: {e}"))?;
        let ((letters, to_bury), (done, buried)) = (bounded(1), bounded(1));
        spawn(&format!("letters-{lane}"), &self.to_poller, move || topic.run(&to_bury, &done))?;
        Ok(Undertaker { letters, buried })
    }
}

/// Starts a thread whose panic, a bug, stops the bridge: without it partitions would stand still in silence.
fn spawn(name: &str, to_poller: &Sender<Note>, run: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let (what, to_poller) = (name.to_owned(), to_poller.clone());
    let guarded = move || {
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            let _ = to_poller.send(Note::Fatal(format!("a bug: the thread {what} panicked; its message stands above")));
        }
    };
    std::thread::Builder::new().name(name.into()).spawn(guarded).map(drop).map_err(|e| format!("thread {name}: {e}"))
}

/// What to subscribe to: each name and pattern once.
pub fn subscription(routes: &[Route]) -> Vec<String> {
    let mut topics: Vec<String> = routes
        .iter()
        .flat_map(|r| &r.topics)
        .map(|t| match t {
            Topics::Name(name) => name.clone(),
            Topics::Pattern(pattern) => pattern.as_str().to_owned(),
        })
        .collect();
    topics.sort();
    topics.dedup();
    topics
}

/// What all claims have in common: who we are, under which keys.
pub(crate) fn claim_settings(config: &Config, routes: Arc<[Route]>) -> claimer::Settings {
    claimer::Settings {
        prefix: config.redis.state_prefix.clone(),
        group: config.kafka.group.clone(),
        guarantee: config.redis.guarantee.into(),
        on_state_lost: config.redis.on_state_lost.into(),
        routes,
        fingerprints: config.route.iter().map(fingerprint).collect(),
        owner: token().into_bytes(),
        store_id: token(),
    }
}

/// A random token: an owner's, a store's.
fn token() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// A fingerprint of a route's writes, without what is said of replays. What the route lets through is a part of each.
fn fingerprint(route: &crate::config::Route) -> String {
    let live = |w: &crate::config::Write| crate::config::Write { replay: None, newer_by: None, ..w.clone() };
    let when = route.when.as_deref().map(|when| format!(" when {when}")).unwrap_or_default();
    let writes: Vec<String> = route.write.iter().map(|w| serde_json::to_string(&live(w)).unwrap_or_default() + &when).collect();
    fingerprint::route(&route.name, writes.iter().map(String::as_str))
}
