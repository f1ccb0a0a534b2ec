//! Conditions: what is wrong now, by a stable code, since when, and what to do. Each is logged once when it begins and
//! once when it ends: as over, or as left behind by a bridge that has no more to do with it.
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
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
            tracing::warn!(code, subject, since, remedy, "{why} while {code} holds; it is not mended: {message}");
        } else {
            tracing::info!(code, subject, since, "{why} while {code} holds: {message}");
        }
    }
}

/// All conditions that hold.
#[derive(Clone, Debug, Default)]
pub struct Conditions(Arc<Mutex<BTreeMap<(String, String), Condition>>>);

impl Conditions {
    /// A condition that passes by itself.
    pub fn raise(&self, code: &str, subject: &str, message: &str, remedy: &str) {
        self.add(code, subject, message, remedy, false);
    }

    /// A condition that needs a person.
    pub fn alert(&self, code: &str, subject: &str, message: &str, remedy: &str) {
        self.add(code, subject, message, remedy, true);
    }

    fn add(&self, code: &str, subject: &str, message: &str, remedy: &str, needs_person: bool) {
        let mut held = self.0.lock();
        let key = (code.to_owned(), subject.to_owned());
        if let Some(condition) = held.get_mut(&key) {
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
        held.insert(key, Condition { code: code.into(), subject: subject.into(), message: message.into(), remedy: remedy.into(), since, needs_person });
        if needs_person {
            tracing::error!(code, subject, remedy, "{message}");
        } else {
            tracing::warn!(code, subject, remedy, "{message}");
        }
    }

    /// A condition has passed.
    pub fn clear(&self, code: &str, subject: &str) {
        if let Some(condition) = self.0.lock().remove(&(code.to_owned(), subject.to_owned())) {
            tracing::info!(code, subject, since = condition.since, "{code} is over");
        }
    }

    /// Everything about a subject has passed.
    pub fn clear_subject(&self, subject: &str) {
        self.codes(subject).iter().for_each(|c| self.clear(c, subject));
    }

    /// A condition is no longer this bridge's to report. Nothing says that it has passed.
    pub fn leave(&self, code: &str, subject: &str) {
        if let Some(condition) = self.0.lock().remove(&(code.to_owned(), subject.to_owned())) {
            condition.tell_left("this bridge has let go of what it held up");
        }
    }

    /// A subject was let go, with everything that is wrong with it.
    pub fn leave_subject(&self, subject: &str) {
        self.codes(subject).iter().for_each(|c| self.leave(c, subject));
    }

    /// The process ends, with everything that still holds.
    pub fn leave_all(&self) {
        std::mem::take(&mut *self.0.lock()).values().for_each(|condition| condition.tell_left("the process ends"));
    }

    fn codes(&self, subject: &str) -> Vec<String> {
        self.0.lock().keys().filter(|(_, s)| s == subject).map(|(c, _)| c.clone()).collect()
    }

    pub fn all(&self) -> Vec<Condition> {
        self.0.lock().values().cloned().collect()
    }

    /// Whether it holds for this subject.
    pub fn held(&self, code: &str, subject: &str) -> bool {
        self.0.lock().contains_key(&(code.to_owned(), subject.to_owned()))
    }

    /// Whether it holds for any subject.
    pub fn holds(&self, code: &str) -> bool {
        self.0.lock().keys().any(|(c, _)| c == code)
    }
}
