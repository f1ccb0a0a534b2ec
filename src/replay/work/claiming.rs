//! What is not ours is taken: one try after the other, with a wait between, beside all else that the job does.
use super::{End, PERSON_MAX, Work};
use crate::core::replay::claim::{How, Outcome, Wanted};
use crate::core::retry::Backoff;
use crate::kafka::trouble::Trouble;
use crate::sink::claim::Log as _;
use std::collections::HashSet;
use std::time::Duration;

/// How far the taking is.
#[derive(Default)]
pub(super) struct Claiming {
    /// How the first claim is made; `None` once it succeeded: then what was taken is kept.
    first: Option<How>,
    taken: bool,
    claims: u64,
    backoff: Backoff,
    /// When it is tried next.
    at: Duration,
    /// Since when a person is needed for it.
    stuck_since: Option<Duration>,
}

/// What came of a try.
enum Tried {
    Taken,
    /// The job can't go on.
    Ended(End),
    /// A stop is asked for.
    Left,
}

/// Why it is to be tried again.
struct Again {
    code: &'static str,
    why: String,
    remedy: &'static str,
    /// It does not pass by itself.
    person: bool,
}

impl Again {
    fn by_itself(code: &'static str, why: String) -> Self {
        Self { code, why, remedy: "the job goes on by itself", person: false }
    }
}

impl Claiming {
    pub(super) fn begin(&mut self, how: How) {
        // A job that is carried on is there already.
        self.taken = !matches!(how, How::Begin { .. });
        self.first = Some(how);
    }

    /// Whether the job is there.
    pub(super) fn taken(&self) -> bool {
        self.taken
    }
}

impl Work {
    /// Tries to claim what is not ours, if it is time. `Some`: the job can't go on.
    pub(super) fn claim(&mut self) -> Option<End> {
        let now = self.clock.now();
        if now < self.claiming.at {
            return None;
        }
        let parts = self.run.to_claim();
        if parts.is_empty() {
            return None;
        }
        self.claiming.claims += 1;
        let how = self.claiming.first.clone().unwrap_or(How::Keep);
        let again = match self.try_claim(&parts, how) {
            Ok(Tried::Taken) => {
                (self.claiming.first, self.claiming.taken, self.claiming.stuck_since) = (None, true, None);
                self.claiming.backoff.reset();
                // A process that was fenced by this may have said at the same moment that nobody works on the job.
                self.beat_at = Duration::ZERO;
                return None;
            }
            Ok(Tried::Ended(end)) => return Some(end),
            Ok(Tried::Left) => return None,
            Err(again) => again,
        };
        self.claiming.at = self.clock.now() + self.claiming.backoff.next(rand::random());
        if !again.person {
            self.claiming.stuck_since = None;
            self.conditions.raise(again.code, "job", &again.why, again.remedy);
            return None;
        }
        self.conditions.alert(again.code, "job", &again.why, again.remedy);
        if now < *self.claiming.stuck_since.get_or_insert(now) + PERSON_MAX {
            return None;
        }
        let why = format!("{}. What to do: {}", again.why, again.remedy);
        if self.claiming.first.as_ref().is_some_and(|how| matches!(how, How::Begin { .. })) {
            return Some(End::Failed(why));
        }
        parts.iter().for_each(|(part, _)| self.run.halt(*part, again.code, why.clone()));
        None
    }

    /// One claim of all these; they are read from where it says.
    fn try_claim(&mut self, parts: &[(usize, u64)], how: How) -> Result<Tried, Again> {
        let (mut wanted, mut held) = (Vec::new(), Vec::new());
        for (part, generation) in parts {
            let at = self.run.at(*part).clone();
            let about = at.clone();
            let Some(answer) = self.ask(move |log| log.held(&about).map(|held| (held, log.compacted(&about.topic)))) else { return Ok(Tried::Left) };
            let (there, compacted) = match answer {
                Ok(answer) => answer,
                Err((Some(Trouble { code: "topic-missing", .. }), why)) if !matches!(how, How::Begin { .. }) => {
                    self.gone(*part, &why);
                    continue;
                }
                Err((Some(Trouble { code, remedy }), why)) => return Err(Again { code, why: format!("Kafka: {at}: {why}"), remedy, person: true }),
                Err((None, why)) => return Err(Again::by_itself("kafka-unanswered", format!("Kafka: {at}: {why}"))),
            };
            held.push((*part, there));
            wanted.push(Wanted { generation: *generation, from: self.run.from(*part), low: there.low, compacted, at });
        }
        if wanted.is_empty() {
            return Ok(Tried::Taken);
        }
        let claimed = self.store.claim(&self.settings, &self.keys, wanted, how, self.claiming.claims);
        let taken = match claimed.map_err(|e| Again::by_itself(e.code(), e.to_string()))? {
            Outcome::Taken(taken) => taken,
            Outcome::Exists => return Ok(Tried::Ended(End::Failed(format!("a job {} is there already: start again", self.plan.name)))),
            Outcome::Complete => return Ok(Tried::Ended(End::Failed(format!("the job {} is complete", self.plan.name)))),
            Outcome::Gone(why) | Outcome::Failed(why) => return Ok(Tried::Ended(End::Failed(why))),
            Outcome::Fenced => {
                self.run.fence();
                return Ok(Tried::Ended(End::Fenced));
            }
            Outcome::Again(why) => return Err(Again::by_itself("redis-unreachable", why)),
        };
        self.conditions.clear_subject("job");
        let mut topics = HashSet::new();
        for ((part, held), taken) in held.into_iter().zip(taken) {
            topics.insert(self.run.at(part).topic.to_string());
            if let Some(notice) = &taken.notice {
                tracing::warn!(code = notice.code, "{}: {}", self.run.at(part), notice.text);
            }
            self.run.claimed(part, taken, held);
        }
        self.hand_on();
        topics.iter().for_each(|topic| self.read_anew(topic));
        Ok(Tried::Taken)
    }

    /// A partition's topic was deleted.
    pub(super) fn gone(&mut self, part: usize, why: &str) {
        let reason = format!(
            "Kafka has no {} any more ({why}): the topic was deleted. What was applied stays; if the topic is not restored: jobs forget {}",
            self.run.at(part),
            self.plan.name
        );
        self.run.halt(part, "topic-missing", reason);
    }
}
