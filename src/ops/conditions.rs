//! Conditions: what is wrong now, by a stable code, since when, and what to do. Each is logged once when it begins and
//! once when it ends.
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
            message.clone_into(&mut condition.message);
            remedy.clone_into(&mut condition.remedy);
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
        self.leave(ALONE, code, subject);
    }

    /// A condition has passed for `holder`.
    pub fn leave(&self, holder: &str, code: &str, subject: &str) {
        let mut held = self.0.lock();
        let key = (code.to_owned(), subject.to_owned());
        let Some(Held { condition, by }) = held.get_mut(&key) else { return };
        if by.remove(holder) && by.is_empty() {
            tracing::info!(code, subject, since = condition.since, "{code} is over");
            held.remove(&key);
        }
    }

    /// Everything about a subject has passed: it was let go.
    pub fn clear_subject(&self, subject: &str) {
        let codes: Vec<String> = self.0.lock().keys().filter(|(_, s)| s == subject).map(|(c, _)| c.clone()).collect();
        codes.iter().for_each(|c| self.clear(c, subject));
    }

    pub fn all(&self) -> Vec<Condition> {
        self.0.lock().values().map(|held| held.condition.clone()).collect()
    }

    /// Whether it holds for `holder`.
    pub fn held_by(&self, holder: &str, code: &str, subject: &str) -> bool {
        self.0.lock().get(&(code.to_owned(), subject.to_owned())).is_some_and(|held| held.by.contains(holder))
    }

    /// Whether it holds for any subject.
    pub fn holds(&self, code: &str) -> bool {
        self.0.lock().keys().any(|(c, _)| c == code)
    }
}
