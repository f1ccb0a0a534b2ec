//! Whether the ACL user may do what the bridge and the routes will do (ACL DRYRUN, since 7.0): each command is tried
//! with its keys and channels, and nothing is done.
//!
//! What a template renders is not known yet, so a key is tried with something in the place of its holes. That it is
//! refused proves nothing (the ACL may allow just the keys that will come): it is told, and no reason to refuse.
use super::connection::{Connection, Failure};
use super::preflight::Findings;
use crate::config::serve::index;
use crate::config::{Config, Guarantee, OnStateLost};
use crate::core::encode::Encoder;
use crate::core::record::TopicPartition;
use crate::core::reply::Reply;
use crate::core::route::{Route, Tombstone, Topics};
use crate::core::state::StateKey;
use crate::core::template::Template;
use crate::core::write::{Kind, Refusable};

/// What stands in the place of a hole: a text and a number both.
const HOLE: &[u8] = b"1";

/// A word of a command that is tried.
struct Word {
    bytes: Vec<u8>,
    /// What to allow where it is refused, as ACL patterns go.
    pattern: String,
    /// It will be used just so.
    certain: bool,
}

impl Word {
    fn sure(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), pattern: String::from_utf8_lossy(bytes).into_owned(), certain: true }
    }

    /// One of the bridge's own keys.
    fn own(key: &StateKey, space: &str) -> Self {
        Self { pattern: format!("{space}*"), ..Self::sure(&key.0) }
    }

    fn of(template: &Template) -> Self {
        match template.constant() {
            Some(bytes) => Self::sure(bytes),
            None => Self { bytes: template.sample(HOLE), pattern: format!("{}*", String::from_utf8_lossy(template.prefix())), certain: false },
        }
    }
}

/// A command that is tried.
type Trial = Vec<Word>;

/// Adds what the user may not do.
pub(super) fn check(connection: &mut Connection, user: &str, config: &Config, routes: &[Route], space: &str, found: &mut Findings) -> Result<(), Failure> {
    let mut trials = own(config, routes, space);
    trials.extend(written(config, routes));
    let mut out = Encoder::default();
    for trial in &trials {
        let words = [b"ACL".as_slice(), b"DRYRUN", user.as_bytes()].into_iter().chain(trial.iter().map(|w| w.bytes.as_slice()));
        out.command(&words.collect::<Vec<_>>());
    }
    let replies = connection.exchange(out.bytes(), trials.len())?;
    for (trial, reply) in trials.iter().zip(replies) {
        match reply {
            Reply::Text(answer) if answer == b"OK" => {}
            Reply::Text(answer) => denied(user, trial, &String::from_utf8_lossy(&answer), found),
            // Told by COMMAND INFO.
            Reply::Error(error) if error.contains("not found") || (error.contains("wrong number of arguments for '") && !error.contains("DRYRUN")) => {}
            Reply::Error(error) if error.starts_with("NOPERM") => {
                found.note(format!("user {user} may not ask what it may do: permissions are not checked before they are needed; allow it with +acl|dryrun"));
            }
            // The default user of a server below 7.0 is rarely restricted.
            _ if user == "default" => {}
            _ => found.note(format!("this server has no ACL DRYRUN: the permissions of user {user} are not checked before they are needed")),
        }
    }
    Ok(())
}

fn denied(user: &str, trial: &Trial, answer: &str, found: &mut Findings) {
    let quoted = answer.split('\'').nth(1).unwrap_or_default();
    if answer.contains("no permissions to run the") {
        return found.problem(format!("user {user} lacks {}: ACL SETUSER {user} +{quoted}", quoted.to_uppercase()));
    }
    let (what, sign) = if answer.contains("channel") { ("channel", '&') } else { ("key", '~') };
    let words = || trial.iter().skip(1).filter(|w| String::from_utf8_lossy(&w.bytes) == quoted);
    let Some(word) = words().find(|w| w.certain).or_else(|| words().next()) else {
        return found.note(format!("user {user}: {answer}"));
    };
    let remedy = format!("ACL SETUSER {user} {sign}{}", word.pattern);
    if word.certain {
        found.problem(format!("user {user} may not use the {what} {quoted:?}: {remedy}"));
    } else {
        found.note(format!("user {user} may not use a {what} such as {quoted:?}: allow those that the routes write, as by {remedy}"));
    }
}

/// What the guard, the state and the dead letters need.
fn own(config: &Config, routes: &[Route], space: &str) -> Vec<Trial> {
    let trial = |name: &str, keys: &[&StateKey], rest: &[&str]| {
        let keys = keys.iter().map(|k| Word::own(k, space));
        [Word::sure(name.as_bytes())].into_iter().chain(keys).chain(rest.iter().map(|r| Word::sure(r.as_bytes()))).collect()
    };
    let mut trials: Vec<Trial> = vec![trial("multi", &[], &[]), trial("exec", &[], &[])];
    let exactly = config.redis.guarantee == Guarantee::ExactlyOnce;
    let stream = &config.dead_letter.stream;
    if !stream.is_empty() {
        let letters: &[(&str, &[&str])] = if exactly { &[("xadd", &["*", "f", "v"]), ("type", &[]), ("watch", &[])] } else { &[("xadd", &["*", "f", "v"])] };
        trials.extend(letters.iter().map(|(name, rest)| trial(name, &[], &[&[stream.as_str()], *rest].concat())));
    }
    trials.extend(index(config, routes).iter().flat_map(|i| i.iter()).flatten().map(|key| trial("zadd", &[key], &["0", "m"])));
    if !exactly {
        return trials;
    }
    let (prefix, group) = (&config.redis.state_prefix, &config.kafka.group);
    let (store, topics, begun) = (StateKey::store_id(prefix), StateKey::group(prefix, group, "topics"), StateKey::group(prefix, group, "begun"));
    trials.extend([
        trial("unwatch", &[], &[]),
        trial("get", &[&store], &[]),
        trial("set", &[&store], &["v", "NX"]),
        trial("hsetnx", &[&topics], &["f", "v"]),
        trial("hmget", &[&topics], &["f"]),
    ]);
    // Which topics a pattern will find is not known.
    for topic in routes.iter().flat_map(|r| &r.topics).filter_map(|t| if let Topics::Name(name) = t { Some(name) } else { None }) {
        let state = StateKey::partition(prefix, group, &TopicPartition::new(topic.as_str(), 0));
        trials.extend([
            trial("watch", &[&state, &store, &topics], &[]),
            trial("hgetall", &[&state], &[]),
            trial("hmget", &[&state], &["f"]),
            trial("hset", &[&state], &["f", "v"]),
        ]);
    }
    if config.redis.on_state_lost == OnStateLost::Rebuild {
        trials.extend([trial("sismember", &[&begun], &["m"]), trial("sadd", &[&begun], &["m"]), trial("expire", &[&begun], &["1"])]);
    }
    trials
}

/// What the routes' writes need, and the looks at their keys.
fn written(config: &Config, routes: &[Route]) -> Vec<Trial> {
    let words = |words: &[&[u8]]| words.iter().map(|w| Word::sure(w)).collect::<Trial>();
    let keyed = |name: &str, key: &Template, rest: &[&[u8]]| [vec![Word::sure(name.as_bytes()), Word::of(key)], words(rest)].into_iter().flatten().collect();
    let exactly = config.redis.guarantee == Guarantee::ExactlyOnce;
    let rebuilds = exactly && config.redis.on_state_lost == OnStateLost::Rebuild;
    let mut trials: Vec<Trial> = Vec::new();
    for (route, kind) in routes.iter().flat_map(|r| r.writes.iter().map(move |w| (r, &w.kind))) {
        let (trial, key) = match kind {
            Kind::Xadd(x) => (keyed("xadd", &x.key, &[b"*", b"f", b"v"]), Some(&x.key)),
            Kind::Set { key, .. } => {
                if route.tombstone == Tombstone::Del {
                    trials.push(keyed("del", key, &[]));
                }
                (keyed("set", key, &[b"v"]), Some(key))
            }
            Kind::Publish { channel, .. } => (keyed("publish", channel, &[b"m"]), None),
            Kind::Del { key } => (keyed("del", key, &[]), Some(key)),
            Kind::Command(args) => (args.iter().map(Word::of).collect(), args.get(1)),
        };
        trials.push(trial);
        let Some(key) = key else { continue };
        let looked_at = rebuilds && kind.grows();
        if looked_at {
            trials.push(keyed("watch", key, &[]));
        }
        if looked_at || (exactly && matches!(kind.refusable(), Refusable::ByType(_))) {
            trials.push(keyed("type", key, &[]));
        }
    }
    trials
}
