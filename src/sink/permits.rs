//! Whether the ACL user may do what the bridge and the routes will do (ACL DRYRUN, since 7.0): each command is tried
//! with its keys and channels, and nothing is done.
//!
//! The bridge and a job are asked about what each will do.
//!
//! What a template renders is not known yet, so a key is tried with something in the place of its holes. That it is
//! refused proves nothing (the ACL may allow just the keys that will come): it is told, and no reason to refuse.
use super::connection::Connection;
use super::failure::Failure;
use super::preflight::{Findings, For};
use crate::config::serve::index;
use crate::config::{Config, Guarantee, OnStateLost};
use crate::core::encode::Encoder;
use crate::core::record::TopicPartition;
use crate::core::replay::job::Keys;
use crate::core::reply::Reply;
use crate::core::route::{Route, Tombstone, Topics};
use crate::core::state::StateKey;
use crate::core::template::Template;
use crate::core::write::{Effect, Kind, Refusable};

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

/// Every command that will be sent but for those of the connection itself.
pub(super) struct Trials(Vec<Trial>);

impl Trials {
    pub(super) fn of(asked: &Asked<'_>) -> Self {
        let mut trials = letters(asked);
        match asked.by {
            For::Bridge => trials.extend(state(asked)),
            For::Job => trials.extend(job(asked)),
        }
        trials.extend(written(asked.config, asked.routes));
        Self(trials)
    }

    /// The commands' names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|trial| trial.first()).map(|word| word.pattern.as_str())
    }
}

/// Adds what the user may not do.
pub(super) fn check(connection: &mut Connection, user: &str, Trials(trials): &Trials, found: &mut Findings) -> Result<(), Failure> {
    let mut out = Encoder::default();
    for trial in trials {
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
            // A server below 7.0.
            _ => return queue(connection, user, trials, found),
        }
    }
    Ok(())
}

/// Where there is no DRYRUN: each command is queued in a transaction that can't be executed any more, which shows what is refused.
fn queue(connection: &mut Connection, user: &str, trials: &[Trial], found: &mut Findings) -> Result<(), Failure> {
    let mut out = Encoder::default();
    out.command(&["MULTI"]);
    // A command that can't be queued: from here on EXEC discards everything.
    out.command(&["GET"]);
    match connection.exchange(out.bytes(), 2)?.as_slice() {
        [Reply::Text(_), Reply::Error(_)] => {}
        // What the probe of transactions tells.
        _ => return Ok(()),
    }
    out.clear();
    // What would end the transaction is asked at its end, or by the probe.
    let queued: Vec<&Trial> = trials.iter().filter(|t| !ENDS.contains(&t[0].bytes.as_slice())).collect();
    queued.iter().for_each(|trial| out.command(&trial.iter().map(|w| w.bytes.as_slice()).collect::<Vec<_>>()));
    out.command(&["EXEC"]);
    let replies = connection.exchange(out.bytes(), out.commands())?;
    for (trial, reply) in queued.into_iter().zip(replies) {
        let Reply::Error(error) = reply else { continue };
        if error.contains("no permissions to run the") {
            denied(user, trial, &error, found);
        } else if error.starts_with("NOPERM") {
            let (what, sign) = if error.contains("channel") { ("channels", '&') } else { ("keys", '~') };
            let (name, pattern) = (trial[0].pattern.to_uppercase(), trial.get(1).map_or("", |w| w.pattern.as_str()));
            let text = format!("user {user} may not use the {what} of {name}: ACL SETUSER {user} {sign}{pattern}");
            if trial.iter().all(|w| w.certain) { found.problem(text) } else { found.note(text) }
        }
    }
    Ok(())
}

/// Commands that begin or end a transaction.
const ENDS: [&[u8]; 3] = [b"multi", b"exec", b"discard"];

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

/// What is asked about.
pub(super) struct Asked<'a> {
    pub(super) by: For,
    pub(super) config: &'a Config,
    pub(super) routes: &'a [Route],
    /// What all of the bridge's own keys begin with.
    pub(super) space: &'a str,
}

impl Asked<'_> {
    /// A command with own keys.
    fn trial(&self, name: &str, keys: &[&StateKey], rest: &[&str]) -> Trial {
        let keys = keys.iter().map(|k| Word::own(k, self.space));
        [Word::sure(name.as_bytes())].into_iter().chain(keys).chain(rest.iter().map(|r| Word::sure(r.as_bytes()))).collect()
    }

    fn exactly(&self) -> bool {
        self.config.redis.guarantee == Guarantee::ExactlyOnce
    }

    /// The live bridge's states; which topics a pattern will find is not known.
    fn states(&self) -> impl Iterator<Item = StateKey> + '_ {
        let names = self.routes.iter().flat_map(|r| &r.topics).filter_map(|t| if let Topics::Name(name) = t { Some(name) } else { None });
        names.map(|topic| StateKey::partition(&self.config.redis.state_prefix, &self.config.kafka.group, &TopicPartition::new(topic.as_str(), 0)))
    }
}

/// What transactions, dead letters and the indexes of keys need.
fn letters(asked: &Asked<'_>) -> Vec<Trial> {
    let mut trials: Vec<Trial> = vec![asked.trial("multi", &[], &[]), asked.trial("exec", &[], &[])];
    let stream = &asked.config.dead_letter.stream;
    if !stream.is_empty() {
        let all: &[(&str, &[&str])] =
            if asked.exactly() { &[("xadd", &["*", "f", "v"]), ("type", &[]), ("watch", &[])] } else { &[("xadd", &["*", "f", "v"])] };
        let trial = |(name, rest): &(&str, &[&str])| {
            let mut trial = asked.trial(name, &[], &[&[stream.as_str()], *rest].concat());
            // A job's stream ends with its name: the next job has another.
            if let (For::Job, Some((all, _))) = (asked.by, stream.rsplit_once(':')) {
                trial[1].pattern = format!("{all}:*");
            }
            trial
        };
        trials.extend(all.iter().map(trial));
    }
    trials.extend(index(asked.config, asked.routes).iter().flat_map(|i| i.iter()).flatten().map(|key| asked.trial("zadd", &[key], &["0", "m"])));
    trials
}

/// What the bridge's guard and state need.
fn state(asked: &Asked<'_>) -> Vec<Trial> {
    if !asked.exactly() {
        return Vec::new();
    }
    let (prefix, group) = (&asked.config.redis.state_prefix, &asked.config.kafka.group);
    let (store, topics, begun) = (StateKey::store_id(prefix), StateKey::group(prefix, group, "topics"), StateKey::group(prefix, group, "begun"));
    let mut trials = vec![
        asked.trial("unwatch", &[], &[]),
        asked.trial("get", &[&store], &[]),
        asked.trial("set", &[&store], &["v", "NX"]),
        asked.trial("hsetnx", &[&topics], &["f", "v"]),
        asked.trial("hmget", &[&topics], &["f"]),
    ];
    for state in asked.states() {
        trials.extend([
            asked.trial("watch", &[&state, &store, &topics], &[]),
            asked.trial("hgetall", &[&state], &[]),
            asked.trial("hmget", &[&state], &["f"]),
            asked.trial("hset", &[&state], &["f", "v"]),
        ]);
    }
    if asked.config.redis.on_state_lost == OnStateLost::Rebuild {
        trials.extend([asked.trial("sismember", &[&begun], &["m"]), asked.trial("sadd", &[&begun], &["m"]), asked.trial("expire", &[&begun], &["1"])]);
    }
    trials
}

/// What a job keeps needs, and looking at where the live bridge is.
fn job(asked: &Asked<'_>) -> Vec<Trial> {
    let prefix = &asked.config.redis.state_prefix;
    let (names, keys) = (Keys::names(prefix), Keys::new(prefix, "job"));
    let (job, counts, marks, alive) = (keys.job(), keys.counts(), keys.marks(), keys.alive());
    let state = keys.state(&TopicPartition::new("topic", 0));
    let mut trials = vec![
        asked.trial("unwatch", &[], &[]),
        asked.trial("smembers", &[&names], &[]),
        asked.trial("sadd", &[&names], &["m"]),
        asked.trial("watch", &[&job, &state], &[]),
        asked.trial("hget", &[&job], &["f"]),
        asked.trial("hmget", &[&job], &["f"]),
        asked.trial("hset", &[&job], &["f", "v"]),
        asked.trial("hgetall", &[&state], &[]),
        asked.trial("hincrby", &[&counts], &["f", "1"]),
        asked.trial("hmget", &[&marks], &["f"]),
        asked.trial("unlink", &[&marks], &[]),
        asked.trial("set", &[&alive], &["1", "PX", "1"]),
        asked.trial("exists", &[&alive], &[]),
        asked.trial("del", &[&alive], &[]),
    ];
    trials.extend(asked.states().map(|live| asked.trial("hget", &[&live], &["f"])));
    trials
}

/// What the routes' writes need, and the looks at their keys.
fn written(config: &Config, routes: &[Route]) -> Vec<Trial> {
    let words = |words: &[&[u8]]| words.iter().map(|w| Word::sure(w)).collect::<Trial>();
    let keyed = |name: &str, key: &Template, rest: &[&[u8]]| [vec![Word::sure(name.as_bytes()), Word::of(key)], words(rest)].into_iter().flatten().collect();
    let exactly = config.redis.guarantee == Guarantee::ExactlyOnce;
    let rebuilds = exactly && config.redis.on_state_lost == OnStateLost::Rebuild;
    let mut trials: Vec<Trial> = Vec::new();
    for (route, write) in routes.iter().flat_map(|r| r.writes.iter().map(move |w| (r, w))).filter(|(_, w)| w.effect != Effect::Skip) {
        let kind = &write.kind;
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
        let compared = write.effect != Effect::Apply;
        let looked_at = (rebuilds || compared) && kind.grows();
        if looked_at || compared {
            trials.push(keyed("watch", key, &[]));
        }
        if compared && !kind.grows() {
            trials.push(keyed("get", key, &[]));
        }
        // Whether an entry of the last batch went is told by whether it stands there.
        if compared && matches!((kind, kind.refusable()), (Kind::Xadd(_), Refusable::Unknown)) {
            trials.push(keyed("xrevrange", key, &[b"1", b"1", b"COUNT", b"1"]));
        }
        if looked_at || (exactly && matches!(kind.refusable(), Refusable::ByType(_))) {
            trials.push(keyed("type", key, &[]));
        }
    }
    trials
}
