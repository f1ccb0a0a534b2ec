//! Conditions: what is wrong now, by a stable code, since when, and what to do. Each is logged once when it begins and
//! once when it ends: as over, or as left behind by a bridge that has no more to do with it.
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One condition that holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// `redis-unreachable`, `redis-oom`, `kafka-unreachable`, `poison`, `state-lost`, ...
    pub code: String,
    /// What it is about: `redis`, `kafka`, a partition, a lane.
    pub subject: String,
    pub message: String,
    pub remedy: String,
    /// RFC 3339.
    pub since: String,
    /// Whether a person is needed; else it passes by itself.
    pub needs_person: bool,
}

impl Condition {
    /// It ends for this bridge only.
    fn tell_left(&self, why: &str) {
        let Self { code, subject, message, remedy, since, needs_person } = self;
        if *needs_person {
            tracing::warn!(code, subject, since, remedy, "{why} while {code} still holds, and it is not mended: {message}");
        } else {
            tracing::info!(code, subject, since, "{why} while {code} still holds: {message}");
        }
    }
}

/// All conditions that hold.
#[derive(Clone, Debug, Default)]
pub struct Conditions(Arc<Mutex<BTreeMap<(String, String), Held>>>);

/// A condition, and those for whom it holds: it is told when the first of them meets it, and is over when the last one is out.
#[derive(Debug)]
struct Held {
    condition: Condition,
    by: BTreeSet<String>,
}

/// Who holds a condition that has one holder.
const ALONE: &str = "";

impl Conditions {
    /// A condition that passes by itself.
    pub fn raise(&self, code: &str, subject: &str, message: &str, remedy: &str) {
        self.meet(ALONE, code, subject, message, remedy, false);
    }

    /// A condition that needs a person.
    pub fn alert(&self, code: &str, subject: &str, message: &str, remedy: &str) {
        self.meet(ALONE, code, subject, message, remedy, true);
    }

    /// A condition that several may meet: `holder` is one of them.
    pub fn meet(&self, holder: &str, code: &str, subject: &str, message: &str, remedy: &str, needs_person: bool) {
        let mut held = self.0.lock();
        let key = (code.to_owned(), subject.to_owned());
        if let Some(Held { condition, by }) = held.get_mut(&key) {
            by.insert(holder.into());
            // What it comes from may change while it holds, and with it what is to be done.
            message.clone_into(&mut condition.message);
            remedy.clone_into(&mut condition.remedy);
            if needs_person && !condition.needs_person {
                tracing::error!(code, subject, remedy, "{message}");
            }
            condition.needs_person = needs_person;
            return;
        }
        let since = jiff::Timestamp::now().to_string();
        let condition = Condition { code: code.into(), subject: subject.into(), message: message.into(), remedy: remedy.into(), since, needs_person };
        held.insert(key, Held { condition, by: BTreeSet::from([holder.into()]) });
        if needs_person {
            tracing::error!(code, subject, remedy, "{message}");
        } else {
            tracing::warn!(code, subject, remedy, "{message}");
        }
    }

    /// A condition has passed.
    pub fn clear(&self, code: &str, subject: &str) {
        self.clear_for(ALONE, code, subject);
    }

    /// A condition has passed for `holder`.
    pub fn clear_for(&self, holder: &str, code: &str, subject: &str) {
        let mut held = self.0.lock();
        let key = (code.to_owned(), subject.to_owned());
        let Some(Held { condition, by }) = held.get_mut(&key) else { return };
        if by.remove(holder) && by.is_empty() {
            tracing::info!(code, subject, since = condition.since, "{code} is over");
            held.remove(&key);
        }
    }

    /// Everything about a subject has passed.
    pub fn clear_subject(&self, subject: &str) {
        self.codes(subject).iter().for_each(|c| self.clear(c, subject));
    }

    /// A condition is no longer this bridge's to report. Nothing says that it has passed.
    pub fn leave(&self, code: &str, subject: &str) {
        if let Some(held) = self.0.lock().remove(&(code.to_owned(), subject.to_owned())) {
            held.condition.tell_left("the partition was released");
        }
    }

    /// A subject was let go, with everything that is wrong with it.
    pub fn leave_subject(&self, subject: &str) {
        self.codes(subject).iter().for_each(|c| self.leave(c, subject));
    }

    /// The process ends, with everything that still holds.
    pub fn leave_all(&self) {
        std::mem::take(&mut *self.0.lock()).values().for_each(|held| held.condition.tell_left("the process ends"));
    }

    fn codes(&self, subject: &str) -> Vec<String> {
        self.0.lock().keys().filter(|(_, s)| s == subject).map(|(c, _)| c.clone()).collect()
    }

    pub fn all(&self) -> Vec<Condition> {
        self.0.lock().values().map(|held| held.condition.clone()).collect()
    }

    /// Whether it holds for `holder`.
    pub fn held_by(&self, holder: &str, code: &str, subject: &str) -> bool {
        self.0.lock().get(&(code.to_owned(), subject.to_owned())).is_some_and(|held| held.by.contains(holder))
    }

    /// Whether one about Redis or Kafka holds.
    pub fn holds_of_a_server(&self) -> bool {
        self.0.lock().keys().any(|(c, _)| c.starts_with("redis-") || c.starts_with("kafka-"))
    }

    /// Whether it holds for any subject.
    pub fn holds(&self, code: &str) -> bool {
        self.0.lock().keys().any(|(c, _)| c == code)
    }
}
