//! What each write does in a replay.
use crate::core::record::TopicPartition;
use crate::core::route::Route;
use crate::core::template::Template;
use crate::core::words;
use crate::core::write::{Effect, Kind, Trim, TrimBy, Write, Xadd};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the configuration says of a write, or what is safe where it says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    Apply,
    Skip,
    /// Values where nothing stands; entries into streams that the job itself begins.
    IfMissing,
    IfNewer(Template),
}

/// Where the entries of a replay get their ids from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ids {
    /// As the write says.
    Write,
    /// The record's time.
    Timestamp,
}

/// What a person asked of the writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Every key is written with this before it.
    pub target_prefix: String,
    /// Entries are added to streams that are there, whoever wrote them: what was added before is repeated.
    pub append: bool,
    pub ids: Ids,
    /// Only these writes, as route/number; empty: all.
    #[serde(default)]
    pub writes: Vec<String>,
}

/// A write in the plan, as a person reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    pub route: String,
    /// From 1.
    pub write: usize,
    pub command: String,
    /// `apply`, `skip`, `if-missing`, `if-newer`.
    pub does: String,
    pub meaning: String,
}

/// What a write that `--write` does not name is told to mean.
pub const BY_WRITE: &str = "left out by --write";

/// Where a partition's range ends, and where the live bridge is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    pub at: TopicPartition,
    pub to: i64,
    /// `None`: no live bridge has a position there.
    pub position: Option<i64>,
}

/// The routes as the replay applies them, and what that means.
pub fn apply(routes: &[Route], policies: &[Vec<Policy>], options: &Options) -> (Vec<Route>, Vec<Planned>) {
    let (mut routes, mut planned) = (routes.to_vec(), Vec::new());
    for (route, policies) in routes.iter_mut().zip(policies) {
        for (n, (write, policy)) in route.writes.iter_mut().zip(policies).enumerate() {
            let wanted = options.writes.is_empty() || options.writes.contains(&format!("{}/{}", route.name, n + 1));
            let (effect, meaning) = if wanted { effect(&write.kind, policy, options) } else { (Effect::Skip, BY_WRITE) };
            write.effect = effect;
            if write.effect != Effect::Skip {
                aim(&mut write.kind, options);
            }
            let (name, command) = (route.name.clone(), write.kind.name());
            let meaning = [meaning.to_owned()].into_iter().chain(trims(write, options)).collect::<Vec<_>>().join("; ");
            planned.push(Planned { route: name, write: n + 1, command, does: word(&write.effect).into(), meaning });
        }
    }
    (routes, planned)
}

fn effect(kind: &Kind, policy: &Policy, options: &Options) -> (Effect, &'static str) {
    let adds = matches!(kind, Kind::Xadd(_));
    match policy {
        Policy::Apply => (Effect::Apply, if adds { "adds to whatever stream is there: what was added before is repeated" } else { "as in the live path" }),
        Policy::Skip => match kind {
            Kind::Publish { .. } => (Effect::Skip, "what was published once is not published again; replay = \"apply\" does"),
            _ => (Effect::Skip, "left out; replay = \"apply\" on the write applies it"),
        },
        Policy::IfMissing if adds && options.append => (Effect::Apply, "adds to whatever stream is there (--append): what was added before is repeated"),
        Policy::IfMissing if adds => (Effect::IfMissing, "only into streams that this job itself begins"),
        Policy::IfMissing => (Effect::IfMissing, "only where nothing stands, or what this job itself wrote"),
        Policy::IfNewer(by) => (Effect::IfNewer(by.clone()), "only over what is older by newer_by; where that can't be told, only where nothing stands"),
    }
}

/// What a trim means where others add to the same streams: an older record's entry pushes out a newer one's.
fn trims(write: &Write, options: &Options) -> Option<String> {
    let Kind::Xadd(Xadd { trim: Some(Trim { by: TrimBy::MaxLen(length), exact, .. }), .. }) = &write.kind else { return None };
    let about = if *exact { "" } else { "about " };
    match write.effect {
        Effect::Skip => None,
        Effect::Apply => Some(format!("trimmed to {about}{length}: what stands there, and what the bridge adds meanwhile, counts, too")),
        // Where a prefix keeps out of the bridge's way, the job is alone.
        _ => options.target_prefix.is_empty().then(|| format!("trimmed to {about}{length}: what the bridge adds meanwhile counts, too")),
    }
}

fn word(effect: &Effect) -> &'static str {
    match effect {
        Effect::Apply => "apply",
        Effect::Skip => "skip",
        Effect::IfMissing => "if-missing",
        Effect::IfNewer(_) => "if-newer",
    }
}

/// A prefix must move every key that a job writes; of a command by template only some are known to have one key.
///
/// # Errors
/// What is to be done about it.
pub fn check_prefix(routes: &[Route], options: &Options) -> Result<(), String> {
    for route in routes.iter().filter(|_| !options.target_prefix.is_empty()) {
        for (n, write) in route.writes.iter().enumerate().filter(|(_, w)| w.effect != Effect::Skip) {
            if !write.kind.writes_one_key() {
                let shown = words::write(&route.name, n + 1, &write.kind.name());
                return Err(format!(
                    "{shown} may write other keys than its first argument, which --target-prefix would not move: leave it out (replay = \"skip\", or --write), or replay without a prefix"
                ));
            }
        }
    }
    Ok(())
}

/// Points a write to the keys, and gives it the ids, that were asked for.
fn aim(kind: &mut Kind, options: &Options) {
    let prefix = options.target_prefix.as_str();
    let key = match kind {
        Kind::Xadd(Xadd { key, id, .. }) => {
            if options.ids == Ids::Timestamp
                && let Ok(time) = Template::parse("{timestamp}-*")
            {
                *id = time;
            }
            Some(key)
        }
        Kind::Set { key, .. } | Kind::Del { key } => Some(key),
        Kind::Command(args) => args.get_mut(1),
        Kind::Publish { .. } => None,
    };
    if let Some(key) = key.filter(|_| !prefix.is_empty()) {
        *key = key.behind(prefix);
    }
}

/// Why entries can't be added: those streams are the live bridge's, and it has yet to add some of these records itself.
///
/// # Errors
/// What is to be done about it.
pub fn check_streams(planned: &[Planned], live: &[Live], options: &Options) -> Result<(), String> {
    let Some(adds) = planned.iter().find(|w| w.command == "xadd" && w.does == "if-missing").filter(|_| options.target_prefix.is_empty()) else {
        return Ok(());
    };
    let above: Vec<String> =
        live.iter().filter_map(|l| l.position.filter(|p| l.to > *p).map(|p| format!("{} ends at {} and the live position is {p}", l.at, l.to))).collect();
    if above.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{} would add entries that the live bridge is yet to add: {}. End the range at or below the live position (--clamp does), send the entries to streams of their own (--target-prefix), add them in any case (--append), or leave them out (replay = \"skip\" on the write)",
        words::write(&adds.route, adds.write, &adds.command),
        above.join("; ")
    ))
}

/// Why entries can't get their ids from their records' time: a stream takes none that is older than its newest, and others add
/// newer ones to it meanwhile.
///
/// # Errors
/// What is to be done about it.
pub fn check_ids(routes: &[Route], live: &[Live], options: &Options) -> Result<(), String> {
    for route in routes.iter().filter(|_| options.ids == Ids::Timestamp) {
        let of: Vec<&Live> = live.iter().filter(|l| route.matches(&l.at.topic)).collect();
        let adds = route.writes.iter().enumerate().filter(|(_, w)| w.effect != Effect::Skip);
        for (n, key) in adds.filter_map(|(n, w)| if let Kind::Xadd(x) = &w.kind { Some((n + 1, &x.key)) } else { None }) {
            let refused = |why: String, remedy: &str| {
                let who = words::write(&route.name, n, "xadd");
                Err(format!(
                    "{who} with --ids timestamp: {why}, and each entry that is older than the newest there would be a dead letter. {remedy}, or let the write say where ids come from (without --ids)"
                ))
            };
            if let Some(there) = of.iter().find(|l| l.position.is_some() && options.target_prefix.is_empty()) {
                let why = format!("the live bridge, which has a position in {}, adds to the same streams", there.at);
                return refused(why, "Send the entries to streams of their own (--target-prefix)");
            }
            let mut seen = BTreeMap::new();
            let shared = of.iter().filter(|_| !key.has_key()).find_map(|l| Some((seen.insert(key.pieces(&l.at), &l.at)?, &l.at)));
            if let Some((one, other)) = shared {
                let why = format!("{one} and {other} add to one stream");
                return refused(why, "Replay one of them alone (--partition, each with a --target-prefix of its own), name {partition} in the write's key");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::write::Fields;

    fn options() -> Options {
        Options { target_prefix: String::new(), append: false, ids: Ids::Write, writes: Vec::new() }
    }

    fn template(text: &str) -> Template {
        Template::parse(text).unwrap()
    }

    fn routes() -> (Vec<Route>, Vec<Vec<Policy>>) {
        let xadd = Xadd { key: template("s:{key}"), fields: Fields::All, id: template("*"), trim: None, nomkstream: false, ahead_max_ms: 1 };
        let kinds = [
            Kind::Xadd(xadd),
            Kind::Set { key: template("{key}"), value: template("{payload}"), ttl: None, collapse: false },
            Kind::Publish { channel: template("c"), message: template("m") },
        ];
        (vec![Route::new("r", "t", kinds.map(Write::new).into())], vec![vec![Policy::IfMissing, Policy::IfMissing, Policy::Skip]])
    }

    #[test]
    fn keys_are_prefixed_and_ids_come_from_the_records_time_where_that_was_asked() {
        let (routes, policies) = routes();
        let (aimed, planned) = apply(&routes, &policies, &Options { target_prefix: "replay:".into(), ids: Ids::Timestamp, ..options() });
        let Kind::Xadd(xadd) = &aimed[0].writes[0].kind else { panic!("xadd") };
        assert_eq!((xadd.key.sample(b"k"), xadd.id.sample(b"5")), (b"replay:s:k".to_vec(), b"5-*".to_vec()));
        let Kind::Set { key, .. } = &aimed[0].writes[1].kind else { panic!("set") };
        assert_eq!(key.sample(b"k"), b"replay:k");
        assert_eq!(planned.iter().map(|p| p.does.as_str()).collect::<Vec<_>>(), ["if-missing", "if-missing", "skip"]);
    }

    #[test]
    fn only_the_writes_that_are_named_are_applied_where_some_are() {
        let (routes, policies) = routes();
        let (aimed, _) = apply(&routes, &policies, &Options { writes: vec!["r/2".into()], ..options() });
        assert_eq!(aimed[0].writes.iter().map(|w| w.effect.clone()).collect::<Vec<_>>(), [Effect::Skip, Effect::IfMissing, Effect::Skip]);
    }

    #[test]
    fn of_a_trim_that_others_entries_count_for_the_plan_says_so() {
        let (mut routes, policies) = routes();
        let meaning = |routes: &[Route], options: &Options| apply(routes, &policies, options).1[0].meaning.clone();
        assert!(!meaning(&routes, &options()).contains("trimmed"));
        let Kind::Xadd(xadd) = &mut routes[0].writes[0].kind else { panic!("xadd") };
        xadd.trim = Some(Trim { by: TrimBy::MaxLen(1000), exact: false, limit: None });
        assert!(meaning(&routes, &options()).ends_with("begins; trimmed to about 1000: what the bridge adds meanwhile counts, too"));
        let elsewhere = Options { target_prefix: "x:".into(), ..options() };
        assert!(!meaning(&routes, &elsewhere).contains("trimmed"), "the bridge adds nothing there");
        assert!(meaning(&routes, &Options { append: true, ..elsewhere }).contains("1000: what stands there"));
        assert!(!meaning(&routes, &Options { writes: vec!["r/2".into()], ..options() }).contains("trimmed"));
    }

    #[test]
    fn entries_that_the_live_bridge_is_yet_to_add_are_refused_unless_they_go_elsewhere_or_repeats_are_wanted() {
        let (routes, policies) = routes();
        let live = |position| [Live { at: TopicPartition::new("t", 0), to: 9, position }];
        let check = |options: &Options, position| check_streams(&apply(&routes, &policies, options).1, &live(position), options);
        assert_eq!(check(&options(), Some(9)), Ok(()));
        assert_eq!(check(&options(), None), Ok(()));
        let refused = check(&options(), Some(8)).unwrap_err();
        assert!(refused.contains("t[0] ends at 9 and the live position is 8") && refused.contains("--append"), "{refused}");
        assert_eq!(check(&Options { append: true, ..options() }, Some(8)), Ok(()));
        assert_eq!(check(&Options { target_prefix: "x:".into(), ..options() }, Some(8)), Ok(()));
    }

    #[test]
    fn ids_from_the_records_time_are_refused_where_others_add_to_the_same_streams() {
        let check = |key: &str, partitions: &[i32], position, options: &Options| {
            let xadd = Xadd { key: template(key), fields: Fields::All, id: template("*"), trim: None, nomkstream: false, ahead_max_ms: 1 };
            let live: Vec<Live> = partitions.iter().map(|p| Live { at: TopicPartition::new("t", *p), to: 9, position }).collect();
            let (applied, _) = apply(&[Route::new("r", "t", vec![Write::new(Kind::Xadd(xadd))])], &[vec![Policy::IfMissing]], options);
            check_ids(&applied, &live, options)
        };
        let by_time = Options { ids: Ids::Timestamp, ..options() };
        let elsewhere = Options { target_prefix: "x:".into(), ..by_time.clone() };
        for (key, partitions, position, options, refused) in [
            ("s:{key}", &[0, 1][..], None, &by_time, None),
            ("s:{key}", &[0], Some(9), &by_time, Some("--target-prefix")),
            ("s:{key}", &[0, 1], Some(9), &elsewhere, None),
            ("all", &[0, 1], None, &by_time, Some("t[0] and t[1] add to one stream")),
            ("all", &[0, 1], Some(9), &elsewhere, Some("--partition")),
            ("all", &[1], None, &by_time, None),
            ("of:{partition}", &[0, 1], None, &by_time, None),
            ("all", &[0, 1], Some(9), &options(), None),
        ] {
            let told = check(key, partitions, position, options);
            assert!(refused.map_or(told.is_ok(), |text| told.as_ref().is_err_and(|e| e.contains(text))), "{key} {partitions:?}: {told:?}");
        }
        let left_out = Options { writes: vec!["other/1".into()], ..by_time };
        assert_eq!(check("all", &[0, 1], Some(9), &left_out), Ok(()));
    }

    #[test]
    fn a_prefix_is_refused_beside_a_command_that_may_write_other_keys_too() {
        let command = |words: &[&str]| Write::new(Kind::Command(words.iter().map(|w| template(w)).collect()));
        let check = |words: &[&str], prefix: &str| {
            let options = Options { target_prefix: prefix.into(), ..options() };
            check_prefix(&[Route::new("r", "t", vec![command(words)])], &options)
        };
        assert_eq!(check(&["HSET", "pair:{key}", "price", "1"], "replay:"), Ok(()));
        assert_eq!(check(&["MSET", "a:{key}", "1", "b:{key}", "2"], ""), Ok(()));
        for words in [&["MSET", "a:{key}", "1", "b:{key}", "2"][..], &["COPY", "a", "b"], &["EVAL", "script", "1", "k"], &["DEL", "a", "b"]] {
            assert!(check(words, "replay:").is_err_and(|e| e.contains("route r, write 1 (")), "{words:?}");
        }
        let left_out = Write { effect: Effect::Skip, ..command(&["COPY", "a", "b"]) };
        assert_eq!(check_prefix(&[Route::new("r", "t", vec![left_out])], &Options { target_prefix: "p:".into(), ..options() }), Ok(()));
    }
}
