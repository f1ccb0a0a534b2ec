//! A rewind, as a machine without I/O: an operator sets where a partition goes on. It goes through the state and its
//! epoch, so that a running bridge takes it up at once, and two can't disagree.
//!
//! ```text
//! take (fences the owner, who waits) ─▶ [what was left unread is decided] ─▶ offset set, last emptied ─▶ the owner claims
//! ```
use super::claim::{REWINDING, REWOUND};
use super::claimer::{Policy, Request, Settings};
use super::encode::Encoder;
use super::lane::Opening;
use super::reply::{Reply, first_error};
use super::state::{self, State, StateKey};

/// What the shell is to do next.
#[derive(Debug)]
pub enum Next {
    /// Send [`Rewind::outgoing`], read this many replies, call [`Rewind::answered`].
    Exchange {
        replies: usize,
    },
    /// Records are to be looked at whose replies nobody read: hand this to a lane with the records from there on up to its
    /// position, and call [`Rewind::resolved`] when it has emptied `unread`, or why it can't.
    Resolve(Box<Opening>, i64),
    /// The position is set.
    Done,
    /// Somebody claimed at the same time: begin anew.
    Again,
    Failed(String),
}

enum Stage {
    Idle,
    Reading,
    Taking(Box<State>),
    Resolving(Box<State>),
    Checking(Box<State>),
    Setting,
}

/// See the module's documentation. Of one partition.
pub struct Rewind<'s> {
    settings: &'s Settings,
    request: Request,
    /// Where Kafka's log begins.
    low: i64,
    compacted: Policy,
    to: i64,
    stage: Stage,
    out: Encoder,
}

impl<'s> Rewind<'s> {
    pub fn new(settings: &'s Settings, request: Request, low: i64, compacted: Policy, to: i64) -> Self {
        Self { settings, request, low, compacted, to, stage: Stage::Idle, out: Encoder::default() }
    }

    /// The bytes of the exchange that was asked for.
    pub fn outgoing(&self) -> &[u8] {
        self.out.bytes()
    }

    /// Reads the state, so as to take it.
    pub fn begin(&mut self) -> Next {
        let key = self.key();
        self.out.clear();
        self.out.command(&[b"WATCH", key.0.as_slice()]);
        self.out.command(&[b"HGETALL", key.0.as_slice()]);
        self.stage = Stage::Reading;
        Next::Exchange { replies: 2 }
    }

    /// Takes the replies of the last exchange, all of them, in order.
    pub fn answered(&mut self, replies: &[Reply]) -> Next {
        if let Some(error) = first_error(replies) {
            return Next::Failed(format!("Redis refuses: {error}"));
        }
        let (stage, last) = (std::mem::replace(&mut self.stage, Stage::Idle), replies.last());
        match (stage, last) {
            (Stage::Reading, Some(found)) => self.take(found),
            (Stage::Taking(_) | Stage::Setting, Some(Reply::Nil)) => Next::Again,
            (Stage::Taking(state), Some(_)) => self.taken(state),
            (Stage::Checking(state), Some(found)) => self.set(&state, found),
            (Stage::Setting, Some(_)) => Next::Done,
            (Stage::Idle | Stage::Resolving(_), _) | (_, None) => Next::Failed("nothing was asked of Redis".into()),
        }
    }

    /// What was left unread is decided about; or why it can't be, which a person was told: those records are gone.
    pub fn resolved(&mut self) -> Next {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Resolving(state) => self.check(state),
            _ => Next::Failed("nothing was to be resolved".into()),
        }
    }

    fn take(&mut self, found: &Reply) -> Next {
        let mut state = match State::read(found) {
            Ok(state) => state,
            Err(why) => return Next::Failed(format!("the state can't be read: {why}")),
        };
        state.epoch += 1;
        state.owner = self.owner(REWINDING);
        let position = state.offset.unwrap_or(self.to);
        state.offset = Some(position);
        let key = self.key();
        self.out.clear();
        self.out.command(&[b"MULTI"]);
        // Up to what is unread: the rest stays as it is.
        state::write(&key, &state.fields()[..5], &mut self.out);
        self.out.command(&[b"EXEC"]);
        self.stage = Stage::Taking(Box::new(state));
        Next::Exchange { replies: 3 }
    }

    fn taken(&mut self, state: Box<State>) -> Next {
        let (opening, begin, _) = self.settings.opening(&self.request, state.owner.clone(), &state, self.low, self.compacted.clone());
        if opening.unread.is_some() {
            self.stage = Stage::Resolving(state);
            return Next::Resolve(Box::new(opening), begin);
        }
        self.check(state)
    }

    /// Reads once more what is to be replaced.
    fn check(&mut self, state: Box<State>) -> Next {
        let key = self.key();
        self.out.clear();
        self.out.command(&[b"WATCH", key.0.as_slice()]);
        self.out.command(&[b"HGET", key.0.as_slice(), b"owner"]);
        self.stage = Stage::Checking(state);
        Next::Exchange { replies: 2 }
    }

    fn set(&mut self, state: &State, owner: &Reply) -> Next {
        if !matches!(owner, Reply::Text(t) if **t == *state.owner) {
            return Next::Again;
        }
        let key = self.key();
        self.out.clear();
        self.out.command(&[b"MULTI"]);
        self.out.command(&[
            b"HSET".as_slice(),
            &key.0,
            b"owner",
            &self.owner(REWOUND),
            b"offset",
            self.to.to_string().as_bytes(),
            b"unread",
            b"",
            b"last",
            b"",
            b"rebuild",
            b"",
        ]);
        self.out.command(&[b"EXEC"]);
        self.stage = Stage::Setting;
        Next::Exchange { replies: 3 }
    }

    fn key(&self) -> StateKey {
        self.settings.key(&self.request.at)
    }

    fn owner(&self, prefix: &[u8]) -> Vec<u8> {
        [prefix, &self.settings.owner].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::claim::{Guarantee, OnStateLost};
    use crate::core::encode::parse_commands;
    use crate::core::record::TopicPartition;

    fn settings() -> Settings {
        Settings {
            prefix: "b".into(),
            group: "g".into(),
            guarantee: Guarantee::ExactlyOnce,
            on_state_lost: OnStateLost::Halt,
            routes: [].into(),
            fingerprints: Vec::new(),
            owner: b"me".to_vec(),
            store_id: String::new(),
        }
    }

    fn text(t: &str) -> Reply {
        Reply::Text(t.into())
    }

    fn found(fields: &[(&str, &str)]) -> Reply {
        Reply::Array(fields.iter().flat_map(|(n, v)| [text(n), text(v)]).collect())
    }

    fn request() -> Request {
        Request { at: TopicPartition::new("t", 0), generation: 1, memory: None }
    }

    fn executed() -> [Reply; 3] {
        [text("OK"), text("QUEUED"), Reply::Array(vec![Reply::Int(0)])]
    }

    fn sent(rewind: &Rewind<'_>) -> Vec<Vec<String>> {
        let words = |c: Vec<Vec<u8>>| c.iter().map(|a| String::from_utf8_lossy(a).into_owned()).collect();
        parse_commands(rewind.outgoing()).unwrap().into_iter().map(words).collect()
    }

    #[test]
    fn a_rewind_fences_the_owner_then_sets_the_offset_and_forgets_the_last_record() {
        let settings = settings();
        let mut rewind = Rewind::new(&settings, request(), 0, Ok(false), 3);
        rewind.begin();
        rewind.answered(&[text("OK"), found(&[("offset", "9"), ("epoch", "4"), ("owner", "you"), ("unread", ""), ("last", "8 - 0000000000000001")])]);
        assert_eq!(sent(&rewind)[1][4..], ["epoch", "5", "owner", "rewinding-me", "offset", "9", "unread", ""]);
        rewind.answered(&executed());
        assert!(matches!(rewind.answered(&[text("OK"), text("rewinding-me")]), Next::Exchange { replies: 3 }));
        assert_eq!(sent(&rewind)[1][2..], ["owner", "rewound-me", "offset", "3", "unread", "", "last", "", "rebuild", ""]);
        assert!(matches!(rewind.answered(&executed()), Next::Done));
    }

    #[test]
    fn what_was_left_unread_is_decided_first() {
        let settings = settings();
        let mut rewind = Rewind::new(&settings, request(), 0, Ok(false), 3);
        rewind.begin();
        rewind.answered(&[text("OK"), found(&[("offset", "9"), ("unread", "7"), ("last", "8 - 0000000000000001")])]);
        let Next::Resolve(opening, 7) = rewind.answered(&executed()) else { panic!("resolves") };
        assert_eq!((opening.position, opening.unread), (9, Some(7)));
        assert!(matches!(rewind.resolved(), Next::Exchange { replies: 2 }));
    }

    #[test]
    fn who_claims_meanwhile_is_not_overruled() {
        let settings = settings();
        let mut rewind = Rewind::new(&settings, request(), 0, Ok(false), 3);
        rewind.begin();
        rewind.answered(&[text("OK"), found(&[("offset", "9")])]);
        assert!(matches!(rewind.answered(&[text("OK"), text("QUEUED"), Reply::Nil]), Next::Again));
        rewind.begin();
        rewind.answered(&[text("OK"), found(&[("offset", "9")])]);
        rewind.answered(&executed());
        assert!(matches!(rewind.answered(&[text("OK"), text("you")]), Next::Again));
    }
}
