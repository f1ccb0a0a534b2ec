//! A process lets go of a job, as a machine without I/O: that somebody works on it is taken back only where the states are still
//! this process' own, which are read under WATCH. Where another one has taken them since, the sign of life is that one's.
use super::job::Keys;
use super::talk::{Next, Talk};
use crate::core::encode::Encoder;
use crate::core::record::TopicPartition;
use crate::core::reply::{Reply, first_error};
use crate::core::state::{State, StateKey};

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nobody works on the job any more.
    Ours,
    /// Another process has taken the job over.
    Anothers,
    /// Redis has no such states any more.
    Gone,
    /// Somebody wrote the states meanwhile.
    Again,
    Refused(String),
}

/// See the module's documentation.
pub struct Leave<'k> {
    keys: &'k Keys,
    /// What the token of each claim of this process begins with.
    owner: &'k [u8],
    states: Vec<StateKey>,
    leaving: bool,
    out: Encoder,
}

impl<'k> Leave<'k> {
    /// `taken`: the partitions that this process has claimed.
    pub fn new(keys: &'k Keys, owner: &'k [u8], taken: &[TopicPartition]) -> Self {
        Self { keys, owner, states: taken.iter().map(|at| keys.state(at)).collect(), leaving: false, out: Encoder::default() }
    }
}

impl Talk for Leave<'_> {
    type Outcome = Left;

    fn outgoing(&self) -> &[u8] {
        self.out.bytes()
    }

    fn begin(&mut self) -> Next<Left> {
        // Of a job of which nothing was taken, what says that somebody works on it may be another's.
        if self.states.is_empty() {
            return Next::Done(Left::Ours);
        }
        self.out.arg(b"WATCH");
        self.states.iter().for_each(|key| self.out.arg(&key.0));
        self.out.finish();
        self.states.iter().for_each(|key| self.out.command(&[b"HGETALL".as_slice(), &key.0]));
        Next::Exchange { replies: self.out.commands() }
    }

    fn answered(&mut self, replies: &[Reply]) -> Next<Left> {
        if let Some(error) = first_error(replies) {
            return Next::Done(Left::Refused(error.to_owned()));
        }
        if self.leaving {
            return Next::Done(if matches!(replies.last(), Some(Reply::Array(_))) { Left::Ours } else { Left::Again });
        }
        let states: Vec<State> = match replies.iter().skip(1).map(State::read).collect() {
            Ok(states) => states,
            Err(why) => return Next::Done(Left::Refused(why)),
        };
        if states.iter().any(|state| state.offset.is_none()) {
            return Next::Done(Left::Gone);
        }
        if states.iter().any(|state| !state.owner.starts_with(self.owner)) {
            return Next::Done(Left::Anothers);
        }
        self.leaving = true;
        self.out.clear();
        self.out.command(&[b"MULTI"]);
        self.out.command(&[b"DEL".as_slice(), &self.keys.alive().0]);
        self.out.command(&[b"EXEC"]);
        Next::Exchange { replies: self.out.commands() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::encode::parse_commands;

    fn text(t: &str) -> Reply {
        Reply::Text(t.into())
    }

    /// What comes of it where Redis holds this of two partitions.
    fn after(states: [&[(&str, &str)]; 2], look: impl FnOnce(&mut Leave<'_>, Next<Left>)) {
        let keys = Keys::new("b", "j");
        let mut leave = Leave::new(&keys, b"me", &[TopicPartition::new("t", 0), TopicPartition::new("t", 1)]);
        assert_eq!(leave.begin(), Next::Exchange { replies: 3 });
        let found = |fields: &[(&str, &str)]| Reply::Array(fields.iter().flat_map(|(n, v)| [text(n), text(v)]).collect());
        let next = leave.answered(&[text("OK"), found(states[0]), found(states[1])]);
        look(&mut leave, next);
    }

    const OURS: &[(&str, &str)] = &[("offset", "9"), ("owner", "me-3")];

    #[test]
    fn the_sign_of_life_is_removed_only_where_no_other_process_has_taken_the_job() {
        after([OURS, OURS], |leave, next| {
            assert_eq!(next, Next::Exchange { replies: 3 });
            assert_eq!(parse_commands(leave.outgoing()).unwrap()[1], [b"DEL".as_slice(), b"b:job:j:alive"]);
            let queued = [text("OK"), text("QUEUED")];
            assert_eq!(leave.answered(&[queued.as_slice(), &[Reply::Array(Vec::new())]].concat()), Next::Done(Left::Ours));
        });
        after([OURS, OURS], |leave, _| {
            assert_eq!(leave.answered(&[text("OK"), text("QUEUED"), Reply::Nil]), Next::Done(Left::Again), "taken over in between");
        });
        after([OURS, &[("offset", "9"), ("owner", "you-1")]], |_, next| assert_eq!(next, Next::Done(Left::Anothers)));
        after([OURS, &[]], |_, next| assert_eq!(next, Next::Done(Left::Gone)));
    }

    #[test]
    fn a_process_that_has_taken_nothing_removes_nothing() {
        let keys = Keys::new("b", "j");
        let mut leave = Leave::new(&keys, b"me", &[]);
        assert_eq!((leave.begin(), leave.outgoing()), (Next::Done(Left::Ours), b"".as_slice()));
    }
}
