//! `check --record`: what a record would become, route by route.
use super::{Exit, Output, check, print};
use crate::config::validate::Valid;
use crate::core::encode::{Encoder, parse_commands};
use crate::core::lane::Letters;
use crate::core::record::{Record, TopicPartition};
use crate::core::route::{self, Finding, OnConditionError, Route, Tombstone, Topics};
use crate::core::write::Kind;
use serde_json::{Value, json};
use std::io::Read as _;

/// What a record becomes through one route.
struct Through {
    route: String,
    /// The write's number from 1, and its command.
    commands: Vec<(usize, Vec<Vec<u8>>)>,
    /// The writes whose time to live has run out.
    expired: Vec<String>,
    letter: Option<&'static str>,
    tombstone: Option<&'static str>,
    conditions: Vec<Judged>,
    dead: Option<String>,
}

/// What a condition says of the record.
struct Judged {
    /// Whose it is: a write's number from 1, or the route's.
    write: Option<usize>,
    when: String,
    /// `None`: it can't be applied.
    holds: Option<bool>,
    /// In words, with what comes of it.
    said: String,
}

pub(super) fn show(output: Output, args: &check::Args, file: &str, valid: &Valid) -> Exit {
    let mut payload = Vec::new();
    let read = if file == "-" { std::io::stdin().read_to_end(&mut payload).map(drop) } else { std::fs::read(file).map(|b| payload = b) };
    if let Err(e) = read {
        print::failure(output, format_args!("--record {file}: {e}"));
        return Exit::Usage;
    }
    if payload.ends_with(b"\n") {
        payload.pop();
    }
    let routes = &valid.lane.routes;
    let named = routes.iter().flat_map(|r| &r.topics).find_map(|t| if let Topics::Name(n) = t { Some(n.clone()) } else { None });
    let Some(topic) = args.topic.clone().or(named) else {
        print::failure(output, "--topic is needed: the routes have only patterns");
        return Exit::Usage;
    };
    let headers: Vec<(&str, Option<&[u8]>)> = args.header.iter().map(|(name, value)| (name.as_str(), Some(value.as_bytes()))).collect();
    let value = (!args.tombstone).then_some(payload.as_slice());
    let record = Record::copy(TopicPartition::new(topic.as_str(), 0), 0, args.timestamp, args.key.as_deref().map(str::as_bytes), value, headers);
    let through: Vec<Through> = route::through(routes, &topic).into_iter().map(|r| through(routes, r, &record)).collect();
    let dead = through.iter().find_map(|t| t.dead.as_ref().map(|why| format!("route {}: {why}", t.route)));
    let dead = dead.map(|why| format!("the record is dead, and nothing of it is applied; {}: {why}", fate(valid)));
    match output {
        Output::Json => {
            let routes: Vec<Value> = through.iter().map(Through::json).collect();
            print::line(format_args!("{:#}", json!({"topic": topic, "routes": routes, "dead": dead})));
        }
        Output::Text => {
            through.iter().for_each(Through::print);
            if through.is_empty() {
                print::line(format_args!("no route reads topic {topic}"));
            }
            dead.iter().for_each(print::line);
        }
    }
    if dead.is_some() { Exit::Letters } else { Exit::Done }
}

/// Where a dead record goes.
fn fate(valid: &Valid) -> String {
    match &valid.lane.letters {
        Letters::Halt => "no [dead_letter] is set, so its partition halts".into(),
        Letters::Stream { name, .. } => format!("it goes to the stream {name}"),
        Letters::Topic => format!("it goes to the topic {}", valid.config.dead_letter.topic),
    }
}

fn through(routes: &[Route], r: usize, record: &Record) -> Through {
    let route = &routes[r];
    let name = |w: usize| format!("write {} ({})", w + 1, route.writes[w].kind.name());
    let (mut out, mut origins, mut outcomes) = (Encoder::default(), Vec::new(), Vec::new());
    let mut context = route::Context { now_ms: jiff::Timestamp::now().as_millisecond(), ..route::Context::default() };
    let rendered = route::render(routes, &[r], record, &mut out, |o| origins.push(o.write), &mut outcomes, &mut context);
    let commands: Vec<_> = origins.iter().map(|w| w + 1).zip(parse_commands(out.bytes()).unwrap_or_default()).collect();
    let outcome = outcomes.first().map(|(_, o)| *o).unwrap_or_default();
    let tombstone = match route.tombstone {
        _ if outcome.tombstones == 0 => None,
        Tombstone::Del if !route.writes.iter().any(|w| matches!(w.kind, Kind::Set { .. })) => {
            Some("a tombstone: on_tombstone = \"del\" deletes nothing, since no write is a set or setex")
        }
        Tombstone::Del => Some("a tombstone: on_tombstone = \"del\" deletes the keys of the set and setex writes"),
        Tombstone::Skip | Tombstone::Write => Some("a tombstone: on_tombstone = \"skip\" writes nothing"),
    };
    let judged = route::judge(route, record);
    let left_out = |w: usize| judged.iter().any(|j| j.write == Some(w) && j.finding != Finding::Holds);
    let missing = (0..route.writes.len()).filter(|w| outcome.expired > 0 && !origins.contains(w) && !left_out(*w));
    let expired = missing.map(|w| format!("{}: its ttl is zero or less, so it has expired and is not written", name(w))).collect();
    let conditions = judged.iter().map(|j| Judged::new(j, record)).collect();
    let letter = outcome.letter.then_some("its headers mark it as a dead letter: a route that matches its topic only by a pattern drops it");
    let dead = rendered.err().map(|p| p.write.map_or_else(|| p.reason.clone(), |w| format!("{}: {}", name(w), p.reason)));
    Through { route: route.name.clone(), commands: if dead.is_some() { Vec::new() } else { commands }, expired, letter, tombstone, conditions, dead }
}

impl Judged {
    fn new(judged: &route::Judged<'_>, record: &Record) -> Self {
        let without = if judged.write.is_some() { "this write is left out" } else { "the record is dropped" };
        let (holds, said) = match (&judged.finding, judged.on_error) {
            (Finding::Holds, _) => (Some(true), "holds".into()),
            (Finding::HoldsNot, _) => (Some(false), format!("does not hold: {without}")),
            (Finding::Unknown, _) if record.payload().is_none() => (None, "can't be told of a tombstone, which deletes all the same".into()),
            (Finding::Unknown, _) => (None, "can't be told, since the payload can't be decoded".into()),
            (Finding::Fault(why), OnConditionError::Skip) => (None, format!("can't be applied, and on_condition_error = \"skip\": {without} ({why})")),
            (Finding::Fault(why), OnConditionError::Dead) => (None, format!("can't be applied ({why})")),
        };
        Self { write: judged.write.map(|w| w + 1), when: judged.condition.text().into(), holds, said }
    }

    fn json(&self) -> Value {
        json!({"write": self.write, "when": self.when, "holds": self.holds, "said": self.said})
    }

    fn text(&self) -> String {
        let whose = self.write.map(|w| format!("write {w}, ")).unwrap_or_default();
        format!("{whose}when {}: {}", self.when, self.said)
    }
}

impl Through {
    fn json(&self) -> Value {
        let text = |args: &[Vec<u8>]| args.iter().map(|a| String::from_utf8_lossy(a).into_owned()).collect::<Vec<_>>();
        let commands: Vec<Value> = self.commands.iter().map(|(w, c)| json!({"write": w, "command": text(c)})).collect();
        let conditions: Vec<Value> = self.conditions.iter().map(Judged::json).collect();
        json!({"route": self.route, "commands": commands, "expired": self.expired, "letter": self.letter, "tombstone": self.tombstone, "conditions": conditions, "dead": self.dead})
    }

    fn print(&self) {
        print::line(format_args!("route {}:", self.route));
        for (_, command) in &self.commands {
            print::line(format_args!("  {}", print::command(command)));
        }
        let dead = self.dead.as_ref().map(|why| format!("dead: {why}"));
        let conditions: Vec<String> = self.conditions.iter().map(Judged::text).collect();
        for note in self.letter.or(self.tombstone).map(str::to_owned).iter().chain(&conditions).chain(&self.expired).chain(&dead) {
            print::line(format_args!("  # {note}"));
        }
    }
}
