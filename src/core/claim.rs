//! Where a claimed partition begins: what the state, Kafka's commit and our own memory say, weighed against each other.
use super::rebuild::Rebuild;
use super::state::{Last, State};
use std::fmt;

/// Commits of ours carry this in their metadata, so that they can be told from somebody else's.
const MARK: &str = "kafka-redis-bridge/1";
/// How the owner's token begins while a rewind is under way, and how afterwards.
pub const REWINDING: &[u8] = b"rewinding-";
pub const REWOUND: &[u8] = b"rewound-";

/// How a record's effect is guarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    ExactlyOnce,
    AtLeastOnce,
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ExactlyOnce => "exactly-once",
            Self::AtLeastOnce => "at-least-once",
        })
    }
}

/// What a claim does where the state is gone and a commit of ours says that there was one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStateLost {
    Halt,
    /// Begin at the commit.
    Resume,
    /// Begin at the start, and apply anew what the state's loss may have taken with it.
    Rebuild,
}

/// Where a group begins that has no position yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Earliest,
    Latest,
    /// The first record at or after this time, in milliseconds since the epoch.
    Time(i64),
}

impl Start {
    /// From a time in milliseconds since the epoch. No record has a time before it, and Kafka can't be asked for one.
    pub fn at(ms: i64) -> Self {
        if ms <= 0 { Self::Earliest } else { Self::Time(ms) }
    }
}

/// What a process knows of a partition that it owned before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What it settled itself.
    pub position: i64,
    /// Where the records begin that a former owner left unread, if they are not decided about yet, and the last of them.
    pub unread: Option<i64>,
    pub last: Option<Last>,
    /// The rebuild that it is in the middle of.
    pub rebuild: Option<Rebuild>,
}

/// A commit found in Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    pub offset: i64,
    /// Whose it is; `None` where it does not carry our mark.
    pub ours: Option<Marked>,
}

/// What our mark on a commit says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marked {
    pub guarantee: Guarantee,
    pub store_id: String,
}

impl Marked {
    pub fn encode(&self) -> String {
        format!("{MARK} {} {}", self.guarantee, self.store_id)
    }

    pub fn decode(metadata: &str) -> Option<Self> {
        let mut words = metadata.strip_prefix(MARK)?.split_ascii_whitespace();
        let guarantee = match words.next()? {
            "exactly-once" => Guarantee::ExactlyOnce,
            "at-least-once" => Guarantee::AtLeastOnce,
            _ => return None,
        };
        Some(Self { guarantee, store_id: words.next().unwrap_or_default().to_owned() })
    }
}

/// All that is known when a partition is claimed.
#[derive(Clone, Debug)]
pub struct Facts {
    pub state: State,
    /// What this process knows, if it owned the partition before.
    pub memory: Option<Memory>,
    pub commit: Option<Commit>,
    /// This Redis' id, where it has one.
    pub store_id: Option<String>,
    /// Whether the partition had a state since this Redis was last emptied.
    pub known: bool,
    /// What Kafka holds: `[low, high)`.
    pub low: i64,
    pub high: i64,
    /// Where the group begins if nothing else says so.
    pub start: i64,
    pub on_state_lost: OnStateLost,
}

/// Something about a claim that a person should know, by a stable code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub code: &'static str,
    pub text: String,
}

impl Notice {
    pub fn new(code: &'static str, text: String) -> Self {
        Self { code, text }
    }
}

/// Where to begin, or why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Begin {
        position: i64,
        /// By which record this log is known to be the one we knew, and what of it is to be looked at again.
        last: Option<Last>,
        unread: Option<i64>,
        rebuild: Option<Rebuild>,
        /// What a person should know about it.
        notice: Option<Notice>,
    },
    /// The log seems to end before the position. It may be a broker that has not caught up: ask again for a while.
    Beyond {
        position: i64,
    },
    Halt {
        code: &'static str,
        reason: String,
    },
}

/// Weighs the facts. See the recovery table in `docs/delivery.md`.
pub fn decide(f: &Facts) -> Decision {
    let ours = f.commit.as_ref().and_then(|c| c.ours.as_ref().map(|m| (c.offset, m)));
    if let (Some((_, marked)), Some(id)) = (ours, &f.store_id)
        && marked.guarantee == Guarantee::ExactlyOnce
        && marked.store_id != *id
    {
        let reason = format!(
            "the group's commits belong to the store {}, and this Redis is {id}: another Redis or state_prefix serves this group. Use another group, or point redis.url at the former one",
            marked.store_id
        );
        return Decision::Halt { code: "wrong-store", reason };
    }
    let begin = |position, notice| within_log(f, &Memory { position, unread: None, last: None, rebuild: None }, notice);
    match (f.state.offset, ours) {
        (Some(offset), Some((commit, marked))) if marked.guarantee == Guarantee::AtLeastOnce && commit > offset => {
            let text = format!("the group was at-least-once meanwhile: its commit {commit} is taken instead of the state's {offset}");
            begin(commit, Some(Notice::new("mode-changed", text)))
        }
        (Some(offset), _) => {
            let above = f.commit.as_ref().filter(|c| c.offset > offset);
            let notice = above.map(|c| above_the_state(f, c.offset, offset));
            let State { last, unread, rebuild, .. } = f.state;
            within_log(f, &Memory { position: offset, last, unread, rebuild }, notice)
        }
        (None, _) if f.memory.is_some() => {
            let Some(memory) = &f.memory else { unreachable!("just looked at") };
            let text = format!("the state is gone from Redis; going on at {} from memory", memory.position);
            within_log(f, memory, Some(Notice::new("state-lost", text)))
        }
        (None, Some((commit, marked))) if marked.guarantee == Guarantee::AtLeastOnce => begin(commit, None),
        (None, Some((commit, _))) => match f.on_state_lost {
            OnStateLost::Halt => Decision::Halt {
                code: "state-lost",
                reason: format!(
                    "the state is gone from Redis (FLUSHALL, eviction, DEL), and the group had come to {commit}. What Redis lost with it is not known: set redis.on_state_lost = \"resume\" to go on from there, or \"rebuild\" to apply everything since kafka.start anew"
                ),
            },
            OnStateLost::Resume => begin(commit, Some(Notice::new("state-lost", format!("the state is gone from Redis; going on at the commit {commit}")))),
            OnStateLost::Rebuild => rebuild(f, commit),
        },
        (None, None) => match &f.commit {
            Some(foreign) => begin(foreign.offset, Some(Notice::new("migrated", format!("taking over at {} from a commit that is not ours", foreign.offset)))),
            None => begin(f.start, None),
        },
    }
}

/// Begins at the start, up to the commit as a rebuild.
fn rebuild(f: &Facts, commit: i64) -> Decision {
    let position = f.start.min(commit);
    let rebuild = (position < commit).then(|| Rebuild { until: commit, alone: f.known.then_some(f.state.epoch + 1) });
    let text = match rebuild {
        Some(_) => format!("the state is gone from Redis; rebuilding {position}..{commit}; PUBLISH is left out until then"),
        None => format!("the state is gone from Redis; there is nothing to rebuild; going on at the commit {commit}"),
    };
    within_log(f, &Memory { position, unread: None, last: None, rebuild }, Some(Notice::new("state-lost", text)))
}

/// Why a commit of ours may be above the state: somebody rewound, or Redis lost its tail.
fn above_the_state(f: &Facts, commit: i64, offset: i64) -> Notice {
    if f.state.owner.starts_with(REWOUND) {
        return Notice::new("rewound", format!("the position was set to {offset} by a rewind; Kafka's commit {commit} follows"));
    }
    Notice::new("redis-went-back", format!("Kafka's commit {commit} is above the state's position {offset}, which counts: Redis has gone back"))
}

fn within_log(f: &Facts, from: &Memory, notice: Option<Notice>) -> Decision {
    let Memory { position, last, unread, rebuild } = *from;
    if position < f.low {
        let reason = format!(
            "Kafka has deleted the offsets from {position} to {} before they were read: the position is {position}, and the log begins at {}",
            f.low - 1,
            f.low
        );
        return Decision::Halt { code: "history-gone", reason };
    }
    if position > f.high {
        return Decision::Beyond { position };
    }
    Decision::Begin { position, last, unread, rebuild: rebuild.filter(|r| r.until > position), notice }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            state: State::default(),
            memory: None,
            commit: None,
            store_id: Some("A".into()),
            known: false,
            low: 0,
            high: 100,
            start: 3,
            on_state_lost: OnStateLost::Halt,
        }
    }
    fn ours(offset: i64, store: &str, guarantee: Guarantee) -> Option<Commit> {
        Some(Commit { offset, ours: Some(Marked { guarantee, store_id: store.into() }) })
    }
    fn position(f: &Facts) -> Result<i64, &'static str> {
        match decide(f) {
            Decision::Begin { position, .. } => Ok(position),
            Decision::Beyond { .. } => Err("beyond"),
            Decision::Halt { code, .. } => Err(code),
        }
    }
    fn at(offset: i64) -> State {
        State { offset: Some(offset), ..State::default() }
    }

    #[test]
    fn the_recovery_table_line_by_line() {
        use Guarantee::{AtLeastOnce, ExactlyOnce};
        assert_eq!(position(&facts()), Ok(3), "a new group begins at its start");
        assert_eq!(position(&Facts { state: at(7), ..facts() }), Ok(7));
        assert_eq!(position(&Facts { state: at(7), commit: ours(9, "A", ExactlyOnce), ..facts() }), Ok(7), "the state wins over the commit");
        assert_eq!(
            position(&Facts { state: at(7), memory: Some(Memory { position: 9, unread: None, last: None, rebuild: None }), ..facts() }),
            Ok(7),
            "and over memory: Redis went back"
        );
        assert_eq!(position(&Facts { state: at(7), commit: ours(9, "A", AtLeastOnce), ..facts() }), Ok(9), "the mode was changed meanwhile");
        assert_eq!(
            position(&Facts { memory: Some(Memory { position: 9, unread: None, last: None, rebuild: None }), commit: ours(8, "A", ExactlyOnce), ..facts() }),
            Ok(9),
            "a live owner goes on from memory"
        );
        assert_eq!(position(&Facts { commit: ours(8, "A", ExactlyOnce), ..facts() }), Err("state-lost"));
        assert_eq!(position(&Facts { commit: ours(8, "A", ExactlyOnce), store_id: None, on_state_lost: OnStateLost::Resume, ..facts() }), Ok(8));
        assert_eq!(position(&Facts { commit: ours(8, "B", ExactlyOnce), ..facts() }), Err("wrong-store"));
        assert_eq!(position(&Facts { commit: Some(Commit { offset: 5, ours: None }), ..facts() }), Ok(5), "a migration");
        assert_eq!(position(&Facts { state: at(7), low: 8, ..facts() }), Err("history-gone"));
        assert_eq!(position(&Facts { state: at(101), ..facts() }), Err("beyond"));
    }

    #[test]
    fn a_rebuild_begins_at_the_start_and_survives_a_restart() {
        let begun = |f: &Facts| if let Decision::Begin { position, rebuild, .. } = decide(f) { Some((position, rebuild)) } else { None };
        let lost = Facts { commit: ours(8, "A", Guarantee::ExactlyOnce), on_state_lost: OnStateLost::Rebuild, ..facts() };
        assert_eq!(begun(&lost), Some((3, Some(Rebuild { until: 8, alone: None }))));
        let again = Facts { known: true, state: State { epoch: 4, ..State::default() }, ..lost.clone() };
        assert_eq!(begun(&again), Some((3, Some(Rebuild { until: 8, alone: Some(5) }))), "it had a state since: it stands alone");
        assert_eq!(begun(&Facts { start: 60, ..lost.clone() }), Some((8, None)), "nothing lies between");
        let restarted = |offset| Facts { state: State { rebuild: Some(Rebuild { until: 8, alone: None }), ..at(offset) }, ..lost.clone() };
        assert_eq!(begun(&restarted(5)), Some((5, Some(Rebuild { until: 8, alone: None }))));
        assert_eq!(begun(&restarted(8)), Some((8, None)), "it is over");
    }

    #[test]
    fn a_group_that_begins_at_a_time_before_the_epoch_begins_at_the_earliest() {
        assert_eq!([i64::MIN, -1, 0].map(Start::at), [Start::Earliest; 3]);
        assert_eq!(Start::at(1), Start::Time(1));
    }

    #[test]
    fn a_mark_survives_its_encoding_and_others_are_not_mistaken_for_it() {
        let marked = Marked { guarantee: Guarantee::AtLeastOnce, store_id: "x".into() };
        assert_eq!(Marked::decode(&marked.encode()), Some(marked));
        assert_eq!(Marked::decode("somebody"), None);
        assert_eq!(Marked::decode(""), None);
    }
}
