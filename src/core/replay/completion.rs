//! A job is marked as complete where its states say so, as a machine without I/O: they are read under WATCH, for Redis may have
//! gone back to before its end since the last batch was answered, and then a job that is complete could not be carried on.
use super::job::Keys;
use super::plan::Span;
use super::talk::{Next, Talk};
use crate::core::encode::Encoder;
use crate::core::reply::{Reply, first_error};
use crate::core::state::{State, StateKey};

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    Complete,
    /// Redis does not hold all that was settled.
    Behind,
    /// Somebody wrote the job or its states meanwhile.
    Again,
    Refused(String),
}

/// See the module's documentation.
pub struct Completion {
    keys: Keys,
    /// The state of each partition, and where its range ends.
    states: Vec<(StateKey, i64)>,
    now_ms: i64,
    marking: bool,
    out: Encoder,
}

impl Completion {
    pub fn new(keys: &Keys, spans: &[Span], now_ms: i64) -> Self {
        let states = spans.iter().map(|span| (keys.state(&span.at()), span.to)).collect();
        Self { keys: keys.clone(), states, now_ms, marking: false, out: Encoder::default() }
    }
}

impl Talk for Completion {
    type Outcome = Ended;

    fn outgoing(&self) -> &[u8] {
        self.out.bytes()
    }

    fn begin(&mut self) -> Next<Ended> {
        self.out.arg(b"WATCH");
        self.out.arg(&self.keys.job().0);
        self.states.iter().for_each(|(key, _)| self.out.arg(&key.0));
        self.out.finish();
        self.out.command(&[b"HGET".as_slice(), &self.keys.job().0, b"status"]);
        self.states.iter().for_each(|(key, _)| self.out.command(&[b"HGETALL".as_slice(), &key.0]));
        Next::Exchange { replies: self.out.commands() }
    }

    fn answered(&mut self, replies: &[Reply]) -> Next<Ended> {
        if let Some(error) = first_error(replies) {
            return Next::Done(Ended::Refused(error.to_owned()));
        }
        if self.marking {
            return Next::Done(if matches!(replies.last(), Some(Reply::Array(_))) { Ended::Complete } else { Ended::Again });
        }
        let settled = |((_, to), reply): (&(StateKey, i64), &Reply)| {
            State::read(reply).is_ok_and(|state| state.unread.is_none() && state.offset.is_some_and(|position| position >= *to))
        };
        match replies {
            [_, Reply::Text(_), states @ ..] if states.len() == self.states.len() && self.states.iter().zip(states).all(settled) => {}
            _ => return Next::Done(Ended::Behind),
        }
        let (job, marks, now) = (self.keys.job(), self.keys.marks(), self.now_ms.to_string());
        self.marking = true;
        self.out.clear();
        self.out.command(&[b"MULTI"]);
        self.out.command(&[b"HSET".as_slice(), &job.0, b"status", b"complete", b"ended", now.as_bytes()]);
        // What it wrote last to each key is of no more use.
        self.out.command(&[b"UNLINK".as_slice(), &marks.0]);
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

    /// What comes of it where Redis holds this.
    fn after(status: Reply, offset: &str, unread: &str) -> (Completion, Next<Ended>) {
        let span = Span { topic: "t".into(), partition: 0, from: 3, to: 9, first_ms: None, last_ms: None, live: None };
        let mut completion = Completion::new(&Keys::new("b", "j"), &[span], 5);
        assert_eq!(completion.begin(), Next::Exchange { replies: 3 });
        let state = Reply::Array([("offset", offset), ("unread", unread)].iter().flat_map(|(n, v)| [text(n), text(v)]).collect());
        let next = completion.answered(&[text("OK"), status, state]);
        (completion, next)
    }

    #[test]
    fn a_job_is_complete_where_redis_holds_all_that_was_settled() {
        let (mut completion, next) = after(text("begun"), "9", "");
        assert_eq!(next, Next::Exchange { replies: 4 });
        let sent = parse_commands(completion.outgoing()).unwrap();
        assert_eq!(sent[1], [b"HSET".as_slice(), b"b:job:j", b"status", b"complete", b"ended", b"5"]);
        assert_eq!(sent[2], [b"UNLINK".as_slice(), b"b:job:j:marks"]);
        let queued = || [text("OK"), text("QUEUED"), text("QUEUED")];
        let exec = |completion: &mut Completion, reply| completion.answered(&[queued().as_slice(), &[reply]].concat());
        assert_eq!(exec(&mut completion, Reply::Nil), Next::Done(Ended::Again));
        assert_eq!(exec(&mut completion, Reply::Array(Vec::new())), Next::Done(Ended::Complete));
    }

    #[test]
    fn a_redis_that_went_back_or_was_emptied_has_no_complete_job() {
        for (status, offset, unread) in [(text("begun"), "8", ""), (text("begun"), "9", "7"), (text("begun"), "", ""), (Reply::Nil, "9", "")] {
            assert_eq!(after(status, offset, unread).1, Next::Done(Ended::Behind), "{offset} {unread}");
        }
    }
}
