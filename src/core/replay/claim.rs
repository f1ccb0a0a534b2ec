//! A process takes a job's partitions, as a machine without I/O: the job's hash and the states are read under WATCH, and
//! epoch and owner are set in one transaction. Who had them is fenced: its next transaction moves nothing.
//!
//! | how | the job | the states |
//! |---|---|---|
//! | begin | must not be there | are written; where they are this process' own, a try before began it, and it is kept |
//! | take | must be there, and not complete | whoever owns them is fenced |
//! | keep | must be there | must still be this process' own |
use super::job::{GONE, Keys};
use super::talk::{Next, Talk};
use crate::core::claim::Notice;
use crate::core::claimer::{Request, Settings};
use crate::core::encode::Encoder;
use crate::core::lane::{Guard, Opening};
use crate::core::record::TopicPartition;
use crate::core::reply::{Class, Reply, first_error, triage};
use crate::core::state::{self, State};

/// How the partitions are taken.
#[derive(Clone, Debug)]
pub enum How {
    /// A new job, with what its hash begins with.
    Begin {
        names: Vec<u8>,
        name: String,
        fields: Vec<(&'static str, String)>,
    },
    Take,
    Keep,
}

/// A partition to take.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub at: TopicPartition,
    pub generation: u64,
    /// Where its range begins.
    pub from: i64,
    /// Where Kafka's log begins.
    pub low: i64,
    /// Whether compaction may have removed a record, or why nobody could tell.
    pub compacted: Result<bool, String>,
}

/// A partition that is taken.
#[derive(Debug)]
pub struct Taken {
    pub opening: Opening,
    /// Where to read from: at or below the position.
    pub begin: i64,
    pub notice: Option<Notice>,
}

/// How it ended.
#[derive(Debug)]
pub enum Outcome {
    Taken(Vec<Taken>),
    /// A job of that name is there already.
    Exists,
    /// There is no such job, or what it kept is gone.
    Gone(String),
    Complete,
    /// Another process has taken the job over.
    Fenced,
    /// It is to be tried again after a while.
    Again(String),
    Failed(String),
}

/// See the module's documentation.
pub struct Claim<'s> {
    settings: &'s Settings,
    keys: &'s Keys,
    wanted: Vec<Wanted>,
    how: How,
    /// Of this claim alone; it begins with the process' own token.
    owner: Vec<u8>,
    taking: Option<Vec<Taken>>,
    out: Encoder,
}

impl<'s> Claim<'s> {
    pub fn new(settings: &'s Settings, keys: &'s Keys, wanted: Vec<Wanted>, how: How, number: u64) -> Self {
        let owner = [settings.owner.as_slice(), format!("-{number}").as_bytes()].concat();
        Self { settings, keys, wanted, how, owner, taking: None, out: Encoder::default() }
    }
}

impl Talk for Claim<'_> {
    type Outcome = Outcome;

    fn outgoing(&self) -> &[u8] {
        self.out.bytes()
    }

    fn begin(&mut self) -> Next<Outcome> {
        self.out.clear();
        self.out.arg(b"WATCH");
        self.out.arg(&self.keys.job().0);
        self.wanted.iter().for_each(|w| self.out.arg(&self.keys.state(&w.at).0));
        self.out.finish();
        self.out.command(&[b"HGET".as_slice(), &self.keys.job().0, b"status"]);
        self.wanted.iter().for_each(|w| self.out.command(&[b"HGETALL".as_slice(), &self.keys.state(&w.at).0]));
        Next::Exchange { replies: self.out.commands() }
    }

    fn answered(&mut self, replies: &[Reply]) -> Next<Outcome> {
        if let Some(error) = first_error(replies) {
            return Next::Done(match triage(error) {
                Class::Transient | Class::Capacity => Outcome::Again(format!("Redis refuses: {error}")),
                _ => Outcome::Failed(format!("Redis refuses the claim: {error}")),
            });
        }
        match (self.taking.take(), replies.last()) {
            (Some(taken), Some(Reply::Array(_))) => Next::Done(Outcome::Taken(taken)),
            (Some(_), _) => Next::Done(Outcome::Again("another process claimed at the same time".into())),
            (None, _) => self.read(replies).unwrap_or_else(Next::Done),
        }
    }
}

impl Claim<'_> {
    fn read(&mut self, replies: &[Reply]) -> Result<Next<Outcome>, Outcome> {
        let [_, status, states @ ..] = replies else { return Err(Outcome::Failed("nothing was asked of Redis".into())) };
        let ours = |state: &State| state.owner.starts_with(&self.settings.owner);
        match (&self.how, status) {
            (How::Begin { .. }, Reply::Nil) => {}
            // What was answered to a former try was lost.
            (How::Begin { .. }, _) if states.iter().all(|reply| State::read(reply).is_ok_and(|state| ours(&state))) => self.how = How::Keep,
            (How::Begin { .. }, _) => return Err(Outcome::Exists),
            (_, Reply::Nil) => return Err(Outcome::Gone(GONE.into())),
            (_, Reply::Text(status)) if *status == b"complete".to_vec() => return Err(Outcome::Complete),
            _ => {}
        }
        let mut taken = Vec::new();
        let mut written = Vec::new();
        for (wanted, reply) in self.wanted.iter().zip(states) {
            let mut state = State::read(reply).map_err(|why| Outcome::Failed(format!("the state of {} can't be read: {why}", wanted.at)))?;
            match &self.how {
                How::Begin { .. } => state = State { offset: Some(wanted.from), ..State::default() },
                _ if state.offset.is_none() => return Err(Outcome::Gone(format!("the job's state of {} is gone from Redis", wanted.at))),
                How::Keep if !ours(&state) => return Err(Outcome::Fenced),
                How::Keep | How::Take => {}
            }
            state.epoch += 1;
            state.owner.clone_from(&self.owner);
            taken.push(self.opening(wanted, &mut state));
            written.push((wanted.at.clone(), state));
        }
        self.encode(&written);
        self.taking = Some(taken);
        Ok(Next::Exchange { replies: self.out.commands() })
    }

    fn opening(&self, wanted: &Wanted, state: &mut State) -> Taken {
        let request = Request { at: wanted.at.clone(), generation: wanted.generation, memory: None };
        let (mut opening, begin, notice) = self.settings.opening(&request, self.owner.clone(), state, wanted.low, wanted.compacted.clone());
        opening.guard = Some(Guard { key: self.keys.state(&wanted.at), owner: self.owner.clone() });
        opening.rebuild = None;
        state.unread = opening.unread;
        Taken { opening, begin, notice }
    }

    fn encode(&mut self, states: &[(TopicPartition, State)]) {
        let out = &mut self.out;
        out.clear();
        out.command(&[b"MULTI"]);
        if let How::Begin { names, name, fields } = &self.how {
            out.command(&[b"SADD", names.as_slice(), name.as_bytes()]);
            out.arg(b"HSET");
            out.arg(&self.keys.job().0);
            for (field, value) in fields {
                out.arg(field.as_bytes());
                out.arg(value.as_bytes());
            }
            out.finish();
        }
        for (at, state) in states {
            // Up to the last record: a job's state names no routes, and knows no rebuild.
            state::write(&self.keys.state(at), &state.fields()[..6], out);
        }
        out.command(&[b"EXEC"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::claim::{Guarantee, OnStateLost};
    use crate::core::encode::parse_commands;

    fn settings() -> Settings {
        Settings {
            prefix: "b".into(),
            group: "g".into(),
            guarantee: Guarantee::AtLeastOnce,
            on_state_lost: OnStateLost::Halt,
            routes: [].into(),
            fingerprints: Vec::new(),
            owner: b"me".to_vec(),
            store_id: String::new(),
        }
    }

    fn wanted() -> Vec<Wanted> {
        vec![Wanted { at: TopicPartition::new("t", 0), generation: 1, from: 3, low: 0, compacted: Ok(false) }]
    }

    fn text(t: &str) -> Reply {
        Reply::Text(t.into())
    }

    fn found(fields: &[(&str, &str)]) -> Reply {
        Reply::Array(fields.iter().flat_map(|(n, v)| [text(n), text(v)]).collect())
    }

    fn sent(claim: &Claim<'_>) -> Vec<Vec<String>> {
        let words = |c: Vec<Vec<u8>>| c.iter().map(|a| String::from_utf8_lossy(a).into_owned()).collect();
        parse_commands(claim.outgoing()).unwrap().into_iter().map(words).collect()
    }

    /// Asked, and answered with this status and this state.
    fn after(how: How, status: Reply, state: &[(&str, &str)], look: impl FnOnce(&mut Claim<'_>, Next<Outcome>)) {
        let (settings, keys) = (settings(), Keys::new("b", "j"));
        let mut claim = Claim::new(&settings, &keys, wanted(), how, 7);
        claim.begin();
        let next = claim.answered(&[text("OK"), status, found(state)]);
        look(&mut claim, next);
    }

    #[test]
    fn a_job_begins_with_its_plan_and_its_states_in_one_transaction() {
        let how = || How::Begin { names: b"b:jobs".to_vec(), name: "j".into(), fields: vec![("plan", "{}".into()), ("status", "begun".into())] };
        after(how(), Reply::Nil, &[], |claim, next| {
            assert!(matches!(next, Next::Exchange { replies: 5 }));
            let sent = sent(claim);
            assert_eq!(sent[1], ["SADD", "b:jobs", "j"]);
            assert_eq!(sent[2], ["HSET", "b:job:j", "plan", "{}", "status", "begun"]);
            assert_eq!(sent[3][1..10], ["b:job:j:state:t:0", "version", "1", "epoch", "1", "owner", "me-7", "offset", "3"]);
            let replies = [text("OK"), text("QUEUED"), text("QUEUED"), text("QUEUED"), Reply::Array(Vec::new())];
            let Next::Done(Outcome::Taken(taken)) = claim.answered(&replies) else { panic!("taken") };
            assert_eq!((taken[0].opening.position, taken[0].begin), (3, 3));
            assert_eq!(taken[0].opening.guard.as_ref().unwrap().key.0, b"b:job:j:state:t:0", "under at-least-once as well");
        });
        after(how(), text("stopped"), &[], |_, next| assert!(matches!(next, Next::Done(Outcome::Exists))));
    }

    #[test]
    fn a_job_that_a_try_before_began_whose_answer_was_lost_is_kept_and_one_of_another_process_is_not() {
        let how = || How::Begin { names: b"b:jobs".to_vec(), name: "j".into(), fields: vec![("status", "begun".into())] };
        after(how(), text("begun"), &[("offset", "3"), ("epoch", "1"), ("owner", "me-6")], |claim, next| {
            assert!(matches!(next, Next::Exchange { replies: 3 }), "its plan stands: {next:?}");
            assert_eq!(sent(claim)[1][4..10], ["epoch", "2", "owner", "me-7", "offset", "3"]);
        });
        after(how(), text("begun"), &[("offset", "3"), ("owner", "you-6")], |_, next| assert!(matches!(next, Next::Done(Outcome::Exists))));
    }

    #[test]
    fn a_job_is_carried_on_where_it_was_and_its_former_process_is_fenced() {
        let state = [("offset", "9"), ("epoch", "4"), ("owner", "you-1"), ("unread", "7"), ("last", "8 - 0000000000000001")];
        after(How::Take, text("begun"), &state, |claim, _| {
            assert_eq!(sent(claim)[1][4..12], ["epoch", "5", "owner", "me-7", "offset", "9", "unread", "7"]);
            let Next::Done(Outcome::Taken(taken)) = claim.answered(&[text("OK"), text("QUEUED"), Reply::Array(Vec::new())]) else { panic!("taken") };
            assert_eq!((taken[0].opening.position, taken[0].begin, taken[0].opening.unread), (9, 7, Some(7)));
        });
        after(How::Keep, text("begun"), &state, |_, next| assert!(matches!(next, Next::Done(Outcome::Fenced))));
        after(How::Keep, text("begun"), &[("offset", "9"), ("owner", "me-3")], |_, next| assert!(matches!(next, Next::Exchange { .. })));
        after(How::Take, text("complete"), &state, |_, next| assert!(matches!(next, Next::Done(Outcome::Complete))));
        after(How::Take, Reply::Nil, &state, |_, next| assert!(matches!(next, Next::Done(Outcome::Gone(_)))));
        after(How::Take, text("begun"), &[("epoch", "4")], |_, next| assert!(matches!(next, Next::Done(Outcome::Gone(_)))));
    }

    #[test]
    fn of_two_processes_that_take_a_job_at_once_one_tries_again() {
        after(How::Take, text("begun"), &[("offset", "9")], |claim, _| {
            assert!(matches!(claim.answered(&[text("OK"), text("QUEUED"), Reply::Nil]), Next::Done(Outcome::Again(_))));
        });
    }
}
