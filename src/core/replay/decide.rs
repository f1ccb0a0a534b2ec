//! Whether a write may go, by what stands at its key.
//!
//! | stands there | set, if-missing | set, if-newer | del of a tombstone | entry of a stream |
//! |---|---|---|---|---|
//! | nothing | goes | goes | goes | goes, and begins the stream |
//! | what this job wrote, and nobody since | goes | goes unless its version is lower | goes | goes |
//! | anything else | is left out | goes if its version is higher | is left out | is left out |
//!
//! An entry with NOMKSTREAM begins no stream: where there is none, it goes for nothing, and the stream stays nobody's.
use super::version::Version;
use crate::core::encode::Encoded;
use crate::core::reply::Reply;
use crate::core::route::Origin;
use crate::core::write::Effect;
use std::cmp::Ordering;

/// What a command does to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Set,
    Delete,
    Add,
    /// Adds where there is a stream, and begins none.
    Append,
}

impl What {
    pub fn of(command: Encoded<'_>) -> Option<Self> {
        match command.arg(0)? {
            b"SET" => Some(Self::Set),
            b"DEL" => Some(Self::Delete),
            b"XADD" if command.arg(2) == Some(b"NOMKSTREAM") => Some(Self::Append),
            b"XADD" => Some(Self::Add),
            _ => None,
        }
    }

    /// Whether its key is a stream's.
    pub fn streams(self) -> bool {
        matches!(self, Self::Add | Self::Append)
    }
}

/// A command that is compared first.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Its place among the batch's commands.
    pub command: usize,
    /// The place of its key among those asked about.
    pub slot: usize,
    pub what: What,
    pub origin: Origin,
}

/// The mark of a stream that the job began, and of a key that it deleted.
pub const BEGUN: &[u8] = b"begun";
const DELETED: &[u8] = b"deleted";

/// What stands at a key.
#[derive(Clone, Debug)]
pub enum Standing<'a> {
    Nothing,
    /// What this job wrote.
    Ours(&'a [u8]),
    Theirs(&'a [u8]),
}

impl<'a> Standing<'a> {
    /// From the answers to GET, or TYPE of a stream, and HMGET of the job's marks.
    pub fn read(stream: bool, found: &'a Reply, mark: &Reply) -> Self {
        match (stream, found, mark) {
            (false, Reply::Nil, _) => Self::Nothing,
            (false, Reply::Text(value), Reply::Text(mark)) if *mark == mark_of(value) => Self::Ours(value),
            (false, Reply::Text(value), _) => Self::Theirs(value),
            (true, Reply::Text(found), _) if found == b"none" => Self::Nothing,
            (true, Reply::Text(found), Reply::Text(mark)) if found == b"stream" && *mark == BEGUN => Self::Ours(b""),
            // Of another type.
            _ => Self::Theirs(b""),
        }
    }
}

/// What is kept of a value that the job writes.
fn mark_of(value: &[u8]) -> Vec<u8> {
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(value)).into_bytes()
}

/// Decides about one command after the other, as if those before had run.
pub struct Decider<'a> {
    standing: Vec<Standing<'a>>,
    /// What went last to each key.
    went: Vec<Option<What>>,
}

impl<'a> Decider<'a> {
    pub fn new(standing: Vec<Standing<'a>>) -> Self {
        Self { went: vec![None; standing.len()], standing }
    }

    /// Whether it goes.
    ///
    /// # Errors
    /// It is left out: because what stands there is newer, or just because something stands there.
    pub fn decide(&mut self, candidate: &Candidate, effect: &Effect, value: &'a [u8]) -> Result<(), bool> {
        let standing = &mut self.standing[candidate.slot];
        let order = |stands: &[u8]| match effect {
            Effect::IfNewer(by) if candidate.what == What::Set => Version::of(value, by)?.partial_cmp(&Version::of(stands, by)?),
            _ => None,
        };
        match standing {
            Standing::Nothing => {}
            Standing::Ours(stands) => {
                if order(stands) == Some(Ordering::Less) {
                    return Err(true);
                }
            }
            Standing::Theirs(stands) => match order(stands) {
                Some(Ordering::Greater) => {}
                Some(_) => return Err(true),
                None => return Err(false),
            },
        }
        // A stream that was begun is marked already.
        let marked = candidate.what == What::Add && matches!(standing, Standing::Ours(_));
        *standing = match candidate.what {
            What::Set => Standing::Ours(value),
            What::Delete => Standing::Nothing,
            What::Add => Standing::Ours(b""),
            // It is whose it was, and nobody's where there was none.
            What::Append => return Ok(()),
        };
        if !marked {
            self.went[candidate.slot] = Some(candidate.what);
        }
        Ok(())
    }

    /// What is to be kept of the keys that are written, by their slots.
    pub fn marks(&self) -> impl Iterator<Item = (usize, Vec<u8>)> {
        let mark = |(went, standing): (&Option<What>, &Standing<'_>)| match (went, standing) {
            (Some(What::Add), _) => Some(BEGUN.to_vec()),
            (Some(What::Set), Standing::Ours(value)) => Some(mark_of(value)),
            (Some(_), _) => Some(DELETED.to_vec()),
            (None, _) => None,
        };
        self.went.iter().zip(&self.standing).enumerate().filter_map(move |(slot, pair)| Some((slot, mark(pair)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::template::Template;

    fn candidate(what: What) -> Candidate {
        Candidate { command: 0, slot: 0, what, origin: Origin { route: 0, write: 0 } }
    }

    fn newer() -> Effect {
        Effect::IfNewer(Template::parse("{value.v}").unwrap())
    }

    fn value(v: i64) -> Vec<u8> {
        format!(r#"{{"v":{v}}}"#).into_bytes()
    }

    #[test]
    fn a_value_goes_over_what_is_older_and_over_what_cant_be_compared_only_where_it_is_ours() {
        let (five, none) = (value(5), b"text".to_vec());
        let decide = |standing: Standing<'_>, effect: &Effect, v: i64| {
            let value = value(v);
            Decider::new(vec![standing]).decide(&candidate(What::Set), effect, &value)
        };
        for (standing, effect, v, expected) in [
            (Standing::Nothing, newer(), 1, Ok(())),
            (Standing::Theirs(&five), newer(), 6, Ok(())),
            (Standing::Theirs(&five), newer(), 5, Err(true)),
            (Standing::Theirs(&five), newer(), 4, Err(true)),
            (Standing::Theirs(&none), newer(), 6, Err(false)),
            (Standing::Ours(&five), newer(), 5, Ok(())),
            (Standing::Ours(&five), newer(), 4, Err(true)),
            (Standing::Ours(&none), newer(), 4, Ok(())),
            (Standing::Nothing, Effect::IfMissing, 1, Ok(())),
            (Standing::Theirs(&five), Effect::IfMissing, 6, Err(false)),
            (Standing::Ours(&five), Effect::IfMissing, 1, Ok(())),
        ] {
            assert_eq!(decide(standing.clone(), &effect, v), expected, "{standing:?} {effect:?} {v}");
        }
    }

    #[test]
    fn what_goes_counts_for_what_comes_after_it_in_the_same_batch() {
        let (one, two) = (value(1), value(2));
        let mut decider = Decider::new(vec![Standing::Nothing]);
        assert!(decider.decide(&candidate(What::Set), &newer(), &two).is_ok());
        assert_eq!(decider.decide(&candidate(What::Set), &newer(), &one), Err(true));
        assert!(decider.decide(&candidate(What::Delete), &newer(), b"").is_ok());
        assert!(decider.decide(&candidate(What::Set), &newer(), &one).is_ok());
    }

    #[test]
    fn a_stream_is_added_to_where_there_is_none_or_the_job_began_it() {
        let text = |t: &str| Reply::Text(t.into());
        for (found, mark, goes) in [
            (text("none"), Reply::Nil, true),
            (text("none"), text("begun"), true),
            (text("stream"), text("begun"), true),
            (text("stream"), Reply::Nil, false),
            (text("string"), text("begun"), false),
        ] {
            let mut decider = Decider::new(vec![Standing::read(true, &found, &mark)]);
            assert_eq!(decider.decide(&candidate(What::Add), &Effect::IfMissing, b"*").is_ok(), goes, "{found:?} {mark:?}");
        }
    }

    #[test]
    fn what_adds_to_a_stream_and_begins_none_does_not_make_it_the_jobs() {
        let text = |t: &str| Reply::Text(t.into());
        let decide = |decider: &mut Decider<'_>, what| decider.decide(&candidate(what), &Effect::IfMissing, b"").is_ok();
        let (none, stream) = (text("none"), text("stream"));
        let mut decider = Decider::new(vec![Standing::read(true, &none, &Reply::Nil)]);
        assert!(decide(&mut decider, What::Append));
        assert_eq!(decider.marks().count(), 0, "whoever begins it later is not the job");
        assert!(decide(&mut decider, What::Add) && decide(&mut decider, What::Append));
        assert_eq!(decider.marks().collect::<Vec<_>>(), [(0, BEGUN.to_vec())]);
        assert!(!decide(&mut Decider::new(vec![Standing::read(true, &stream, &Reply::Nil)]), What::Append));
    }

    #[test]
    fn what_somebody_else_wrote_since_is_not_ours_any_more() {
        let (ours, theirs) = (Reply::Text("a".into()), Reply::Text("b".into()));
        let mark = Reply::Text(mark_of(b"a").into());
        assert!(matches!(Standing::read(false, &ours, &mark), Standing::Ours(b"a")));
        assert!(matches!(Standing::read(false, &theirs, &mark), Standing::Theirs(b"b")));
        let wrong = Reply::Error("WRONGTYPE".into());
        assert!(matches!(Standing::read(false, &wrong, &mark), Standing::Theirs(_)));
    }
}
