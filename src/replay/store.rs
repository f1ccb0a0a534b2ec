//! The job in Redis: begun, found again, counted, forgotten.
use crate::config;
use crate::core::claimer::Settings;
use crate::core::encode::Encoder;
use crate::core::record::TopicPartition;
use crate::core::replay::claim::{Claim, How, Outcome, Wanted};
use crate::core::replay::completion::{Completion, Ended};
use crate::core::replay::job::{Counts, Gap, Keys, gap, gap_field, gone};
use crate::core::replay::leave::{Leave, Left};
use crate::core::replay::plan::{Plan, Span};
use crate::core::replay::run::Place;
use crate::core::replay::talk::{Next, Talk};
use crate::core::reply::{Reply, first_error};
use crate::sink::connection::{Connection, Connector};
use crate::sink::failure::Failure;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// How often a job that others write to meanwhile is marked as complete, or let go of.
const TRIES_MAX: u32 = 5;
/// How long a job counts as worked on after its process last said so.
const ALIVE_MS: &str = "15000";

/// All that is needed to carry a job on: its plan, and the routes as they were configured when it began.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Frozen {
    pub plan: Plan,
    pub routes: Vec<config::Route>,
}

/// A job as Redis has it.
#[derive(Clone, Debug, Serialize)]
pub struct Stored {
    pub name: String,
    /// `running`, `stopped`, `complete`, or `unreadable`.
    pub status: String,
    #[serde(skip)]
    pub frozen: Option<Frozen>,
    pub plan: Option<Plan>,
    pub counts: Counts,
    /// Offsets that Kafka deleted before they were read.
    pub gone: i64,
    /// The position of each of the plan's spans.
    pub positions: Vec<Option<i64>>,
    pub ended_ms: Option<i64>,
}

/// Where the jobs are kept; connects again by itself.
pub struct Store {
    connector: Connector,
    connection: Option<Connection>,
    prefix: String,
}

impl Store {
    pub fn new(redis: &config::Redis) -> Self {
        Self { connector: Connector::new(redis.clone()), connection: None, prefix: redis.state_prefix.clone() }
    }

    pub fn connection(&mut self) -> Result<&mut Connection, Failure> {
        if self.connection.is_none() {
            self.connection = Some(self.connector.connect()?);
        }
        self.connection.as_mut().ok_or_else(|| Failure::unreachable("no connection"))
    }

    fn exchange(&mut self, bytes: &[u8], replies: usize) -> Result<Vec<Reply>, Failure> {
        let answer = self.connection()?.exchange(bytes, replies);
        if answer.is_err() {
            self.connection = None;
        }
        answer
    }

    fn ask(&mut self, commands: &[&[&[u8]]]) -> Result<Vec<Reply>, Failure> {
        let mut out = Encoder::default();
        commands.iter().for_each(|command| out.command(command));
        let replies = self.exchange(out.bytes(), commands.len())?;
        accepted(&replies)?;
        Ok(replies)
    }

    fn settle<T: Talk>(&mut self, mut talk: T) -> Result<T::Outcome, Failure> {
        let mut next = talk.begin();
        loop {
            match next {
                Next::Exchange { replies } => {
                    let answer = self.exchange(talk.outgoing(), replies)?;
                    next = talk.answered(&answer);
                }
                Next::Done(outcome) => return Ok(outcome),
            }
        }
    }

    /// Takes a job's partitions. On a failure nobody knows whether it was done.
    pub fn claim(&mut self, settings: &Settings, keys: &Keys, wanted: Vec<Wanted>, how: How, number: u64) -> Result<Outcome, Failure> {
        let outcome = self.settle(Claim::new(settings, keys, wanted, how, number))?;
        if !matches!(outcome, Outcome::Taken(_)) {
            self.ask(&[&[b"UNWATCH"]])?;
        }
        Ok(outcome)
    }

    /// The names of all jobs.
    pub fn names(&mut self) -> Result<Vec<String>, Failure> {
        let names = Keys::names(&self.prefix);
        let replies = self.ask(&[&[b"SMEMBERS", &names.0]])?;
        let Some(Reply::Array(names)) = replies.first() else { return Ok(Vec::new()) };
        let mut names: Vec<String> = names.iter().filter_map(text).collect();
        names.sort();
        Ok(names)
    }

    /// All jobs.
    pub fn all(&mut self) -> Result<Vec<Stored>, Failure> {
        let names = self.names()?;
        // One may be forgotten between the two.
        names.iter().filter_map(|name| self.find(name).transpose()).collect()
    }

    /// A job; `None` where there is none of that name.
    pub fn find(&mut self, name: &str) -> Result<Option<Stored>, Failure> {
        let keys = Keys::new(&self.prefix, name);
        let (job, alive) = (keys.job(), keys.alive());
        let replies = self.ask(&[&[b"HGETALL", &job.0], &[b"EXISTS", &alive.0]])?;
        let Some(Reply::Array(fields)) = replies.first() else { return Ok(None) };
        let mut fields: HashMap<String, String> = fields.chunks_exact(2).filter_map(|pair| Some((text(&pair[0])?, text(&pair[1])?))).collect();
        let (plan, status, ended) = (fields.remove("plan"), fields.remove("status"), fields.remove("ended"));
        let mut gaps: BTreeMap<String, Vec<Gap>> = BTreeMap::new();
        for (at, one) in fields.iter().filter_map(|(field, value)| gap(field, value)) {
            gaps.entry(at).or_default().push(one);
        }
        let Some(status) = status else { return Ok(None) };
        let frozen: Option<Frozen> = plan.and_then(|p| serde_json::from_str(&p).ok());
        let alive = replies.get(1) == Some(&Reply::Int(1));
        let status = match status.as_str() {
            _ if frozen.is_none() => "unreadable",
            "complete" => "complete",
            _ if alive => "running",
            _ => "stopped",
        };
        let spans: Vec<TopicPartition> = frozen.iter().flat_map(|f| f.plan.spans.iter().map(|s| s.at())).collect();
        let positions = self.positions(&keys, &spans)?;
        let counts = self.counts(&keys)?;
        let plan = frozen.as_ref().map(|f| f.plan.clone());
        let ended_ms = ended.and_then(|e| e.parse().ok());
        Ok(Some(Stored { name: name.into(), status: status.into(), plan, frozen, counts, gone: gone(gaps.values()), positions, ended_ms }))
    }

    fn positions(&mut self, keys: &Keys, spans: &[TopicPartition]) -> Result<Vec<Option<i64>>, Failure> {
        let mut out = Encoder::default();
        spans.iter().for_each(|at| out.command(&[b"HGET".as_slice(), &keys.state(at).0, b"offset"]));
        let replies = self.exchange(out.bytes(), spans.len())?;
        Ok(replies.iter().map(|r| text(r).and_then(|t| t.parse().ok())).collect())
    }

    pub fn counts(&mut self, keys: &Keys) -> Result<Counts, Failure> {
        let replies = self.ask(&[&[b"HGETALL", &keys.counts().0]])?;
        let Some(Reply::Array(fields)) = replies.first() else { return Ok(Counts::default()) };
        let fields = fields.chunks_exact(2).filter_map(|pair| Some((text(&pair[0])?.into_bytes(), text(&pair[1])?.parse().ok()?)));
        Ok(Counts::read(fields))
    }

    /// Says that a process works on the job.
    pub fn beat(&mut self, keys: &Keys) -> Result<(), Failure> {
        self.ask(&[&[b"SET", &keys.alive().0, b"1", b"PX", ALIVE_MS.as_bytes()]]).map(drop)
    }

    /// This process, which has claimed these partitions by tokens that begin so, works on the job no more. Where another one does,
    /// what says so stays.
    pub fn leave(&mut self, keys: &Keys, owner: &[u8], taken: &[TopicPartition]) -> Result<Left, Failure> {
        for _ in 0..TRIES_MAX {
            match self.settle(Leave::new(keys, owner, taken))? {
                Left::Again => {}
                left => return Ok(left),
            }
        }
        Ok(Left::Again)
    }

    /// Keeps what Kafka deleted before it was read, of these partitions.
    pub fn passed_over(&mut self, keys: &Keys, places: &[Place]) -> Result<(), Failure> {
        let job = keys.job();
        let mut out = Encoder::default();
        for place in places {
            let at = TopicPartition::new(place.topic.as_str(), place.partition);
            for (from, to) in &place.gaps {
                out.command(&[b"HSET".as_slice(), &job.0, gap_field(&at, *from).as_bytes(), to.to_string().as_bytes()]);
            }
        }
        // A connection that was idle for long may be gone.
        let _ = self.ask(&[&[b"EXISTS", &job.0]]);
        let replies = self.exchange(out.bytes(), out.commands())?;
        accepted(&replies)
    }

    /// Marks a job as complete. `false`: Redis does not hold all that was settled, and it is not.
    pub fn complete(&mut self, keys: &Keys, spans: &[Span], now_ms: i64) -> Result<bool, Failure> {
        // A connection that was idle for long may be gone.
        let _ = self.ask(&[&[b"EXISTS", &keys.job().0]]);
        for _ in 0..TRIES_MAX {
            let ended = self.settle(Completion::new(keys, spans, now_ms))?;
            self.ask(&[&[b"UNWATCH"]])?;
            match ended {
                Ended::Complete => return Ok(true),
                Ended::Behind => return Ok(false),
                Ended::Again => {}
                Ended::Refused(error) => return Err(Failure::unreachable(format!("Redis refuses: {error}"))),
            }
        }
        Err(Failure::unreachable("somebody else writes the job's state"))
    }

    /// Removes all that is kept of a job; nothing of what it wrote.
    pub fn forget(&mut self, stored: &Stored) -> Result<(), Failure> {
        let keys = Keys::new(&self.prefix, &stored.name);
        let mut out = Encoder::default();
        out.command(&[b"MULTI"]);
        out.command(&[b"SREM".as_slice(), &Keys::names(&self.prefix).0, stored.name.as_bytes()]);
        out.arg(b"UNLINK");
        [keys.job(), keys.marks(), keys.counts(), keys.alive()].iter().for_each(|key| out.arg(&key.0));
        stored.plan.iter().flat_map(|p| &p.spans).for_each(|span| out.arg(&keys.state(&span.at()).0));
        out.finish();
        out.command(&[b"EXEC"]);
        let replies = self.exchange(out.bytes(), 4)?;
        accepted(&replies)
    }
}

fn accepted(replies: &[Reply]) -> Result<(), Failure> {
    match first_error(replies) {
        Some(error) => Err(Failure::unreachable(format!("Redis refuses: {error}"))),
        None => Ok(()),
    }
}

fn text(reply: &Reply) -> Option<String> {
    if let Reply::Text(t) = reply { Some(String::from_utf8_lossy(t).into_owned()) } else { None }
}
