//! Names a Redis that does not answer, before its answer is given up: whoever waits for one is looked at from a thread of its own.
use super::failure::Failure;
use crate::ops::conditions::Conditions;
use parking_lot::Mutex;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How long an answer may be awaited before that is a condition.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// How often those who wait are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// See the module's documentation.
#[derive(Clone)]
pub struct Vigil {
    conditions: Conditions,
    address: Arc<str>,
    posts: Arc<Mutex<Vec<Weak<Post>>>>,
}

/// One who asks Redis: a lane, the claimer.
pub struct Post {
    holder: String,
    conditions: Conditions,
    waits: Mutex<Waits>,
}

#[derive(Default)]
struct Waits {
    since: Option<Instant>,
    told: bool,
}

impl Vigil {
    /// `address` is what it names.
    pub fn new(conditions: Conditions, address: &str) -> Self {
        Self { conditions, address: address.into(), posts: Arc::default() }
    }

    /// Somebody to be looked at, who holds conditions by this name.
    pub fn post(&self, holder: &str) -> Arc<Post> {
        let post = Arc::new(Post { holder: holder.into(), conditions: self.conditions.clone(), waits: Mutex::default() });
        self.posts.lock().push(Arc::downgrade(&post));
        post
    }

    /// Looks for as long as there is anybody to be looked at.
    pub fn run(&self) {
        while self.look(Instant::now()) {
            std::thread::park_timeout(LOOK_EVERY);
        }
    }

    fn look(&self, now: Instant) -> bool {
        let posts: Vec<Arc<Post>> = self.posts.lock().iter().filter_map(Weak::upgrade).collect();
        for post in &posts {
            let mut waits = post.waits.lock();
            if !waits.told && waits.since.is_some_and(|since| now.duration_since(since) >= SILENCE_MAX) {
                waits.told = true;
                let reason = format!("no answer for {} s", SILENCE_MAX.as_secs());
                Failure::unreachable(reason).at(&self.address).tell(&self.conditions, &post.holder);
            }
        }
        !posts.is_empty()
    }
}

impl Post {
    /// Asks Redis something, and waits for the answer. What was told of the waiting is over when it comes.
    pub fn wait<T>(&self, ask: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        self.waits.lock().since = Some(Instant::now());
        let answer = ask();
        let told = std::mem::take(&mut *self.waits.lock()).told;
        if told && answer.is_ok() {
            Failure::over(&self.conditions, &self.holder);
        }
        answer
    }

    /// What it holds conditions by.
    pub fn holder(&self) -> &str {
        &self.holder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_does_not_come_is_told_while_it_is_awaited_and_over_when_it_comes() {
        let conditions = Conditions::default();
        let vigil = Vigil::new(conditions.clone(), "h:6379");
        let post = vigil.post("claimer");
        let later = || Instant::now() + SILENCE_MAX;
        assert!(vigil.look(later()) && conditions.all().is_empty(), "nobody waits");
        let answer = post.wait(|| {
            vigil.look(Instant::now());
            assert!(conditions.all().is_empty(), "not yet");
            vigil.look(later());
            assert_eq!(conditions.all()[0].message, "h:6379: no answer for 2 s");
            Ok(())
        });
        assert!(answer.is_ok() && conditions.all().is_empty());
        let lost = post.wait(|| {
            vigil.look(later());
            Err::<(), _>(Failure::unreachable("gone"))
        });
        assert!(lost.is_err() && Failure::told(&conditions, "claimer"), "until it is connected again");
        drop(post);
        assert!(!vigil.look(later()), "nobody is left to be looked at");
    }
}
