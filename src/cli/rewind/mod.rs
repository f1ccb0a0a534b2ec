//! `rewind`: sets where the bridge goes on in a topic. Says first what that means, and asks.
mod apply;

use self::apply::Apply;
use super::{Args as Global, Exit, Output, configuration, print};
use crate::config::validate::Valid;
use crate::core::record::TopicPartition;
use crate::core::replay::bounds::{Bound, Moment, Offsets, partitions};
use crate::core::replay::partitions::Partitions;
use crate::core::replay::unfinished;
use crate::core::words::{are, counted};
use crate::replay::store::Store;
use serde::Serialize;
use serde_json::json;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("goal").required(true).args(["to_offset", "to_time"]))]
pub struct Args {
    /// The topic
    #[arg(long)]
    pub topic: String,
    /// Where to go on: an offset (of one partition), earliest, latest, -N for N records before the end, or one for each partition as 0:120,3:450
    #[arg(long, value_name = "OFFSET", allow_hyphen_values = true)]
    pub to_offset: Option<Offsets>,
    /// Or the first record at or after this time: RFC 3339, milliseconds since the epoch, or a span back as -1h
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub to_time: Option<Moment>,
    /// Only these partitions, as 0,3-5; else all
    #[arg(long, value_name = "LIST")]
    pub partition: Option<Partitions>,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// What a rewind means for one partition.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    pub partition: i32,
    /// Where it stands; `null` where it has not begun.
    pub position: Option<i64>,
    pub to: i64,
    /// What a person should know of it.
    pub note: Option<String>,
}

impl Plan {
    /// In words: what is applied again, what is left out.
    fn meaning(&self) -> String {
        match self.position {
            None => "begins there".into(),
            Some(p) if p > self.to => {
                format!("up to {} {} applied again: what adds (XADD, PUBLISH) is repeated", counted(p - self.to, "record"), are(p - self.to))
            }
            Some(p) if p < self.to => format!("up to {} {} LEFT OUT", counted(self.to - p, "record"), are(self.to - p)),
            Some(_) => "stays".into(),
        }
    }
}

pub fn run(global: &Global, args: &Args) -> Exit {
    let valid = match configuration(global, &[]) {
        Ok((_, valid)) => valid,
        Err(exit) => return exit,
    };
    match rewind(global, args, &valid) {
        Ok(exit) => exit,
        Err(why) => {
            print::failure(global.output, format_args!("rewind: {why}"));
            Exit::Fatal
        }
    }
}

fn rewind(global: &Global, args: &Args, valid: &Valid) -> Result<Exit, String> {
    if !valid.lane.routes.iter().any(|r| r.matches(&args.topic)) {
        return Err(format!("no route reads topic {:?}", args.topic));
    }
    let mut apply = Apply::new(valid, &args.topic)?;
    let goal = match (&args.to_offset, args.to_time) {
        (Some(offsets), _) => Bound::Offsets(offsets.clone()),
        (None, Some(moment)) => Bound::Time(moment.at(jiff::Timestamp::now().as_millisecond())),
        (None, None) => return Err("--to-offset or --to-time says where to".into()),
    };
    let there = apply.partitions()?;
    let partitions = partitions(&args.topic, there, args.partition.as_ref().map(|list| list.0.as_slice()), &[&goal])?;
    let mut plans = partitions.into_iter().map(|p| apply.plan(p, &goal)).collect::<Result<Vec<_>, _>>()?;
    let mut notes: Vec<String> = beside_jobs(valid, &args.topic, &mut plans).err().into_iter().collect();
    if global.output == Output::Text {
        print::line(format_args!("{:<24} {:>12} {:>12}  what that means", "partition", "position", "goes on at"));
        for plan in &plans {
            let position = plan.position.map_or_else(|| "-".into(), |p| p.to_string());
            let at = format!("{}[{}]", args.topic, plan.partition);
            print::line(format_args!("{at:<24} {position:>12} {:>12}  {}", plan.to, plan.meaning()));
        }
        plans.iter().filter_map(|p| Some((p.partition, p.note.as_ref()?))).for_each(|(p, note)| print::line(format_args!("note: {}[{p}]: {note}", args.topic)));
    }
    if !args.yes && !print::confirmed("this changes what is applied")? {
        match global.output {
            Output::Json => print::line(format_args!("{:#}", json!({"topic": args.topic, "rewound": [], "notes": ["nothing was changed"]}))),
            Output::Text => print::line("nothing was changed"),
        }
        return Ok(Exit::Done);
    }
    let failed = plans.iter().enumerate().find_map(|(n, plan)| match apply.set(plan) {
        Ok(more) => {
            notes.extend(more);
            None
        }
        Err(why) => Some((n, why)),
    });
    let (set, left) = plans.split_at(failed.as_ref().map_or(plans.len(), |(n, _)| *n));
    let committed = if set.is_empty() { Ok(None) } else { apply.commit(set).map(Some) };
    match (failed, committed) {
        (None, Err(why)) => return Err(why),
        (Some((_, why)), committed) => {
            let at = |plan: &Plan| format!("{}[{}]", args.topic, plan.partition);
            let of = |plans: &[Plan], one: &dyn Fn(&Plan) -> String| plans.iter().map(one).collect::<Vec<_>>().join(", ");
            let before = if set.is_empty() { "none".into() } else { of(set, &|plan| format!("{} to {}", at(plan), plan.to)) };
            let told = committed.map_or_else(|why| format!(" (but: {why})"), |note| note.map(|note| format!(" ({note})")).unwrap_or_default());
            let again = of(left, &|plan| format!("{}:{}", plan.partition, plan.to));
            return Err(format!(
                "{why}. Set before it: {before}{told}. Not set: {}. When that is mended, set those alone: --to-offset {}",
                of(left, &at),
                again.replace(' ', "")
            ));
        }
        (None, Ok(note)) => notes.extend(note),
    }
    match global.output {
        Output::Json => print::line(format_args!("{:#}", json!({"topic": args.topic, "rewound": plans, "notes": notes}))),
        Output::Text => notes.iter().for_each(print::line),
    }
    Ok(Exit::Done)
}

/// Adds what a person should know of jobs that are not complete. A user that may not ask for jobs may rewind all the same.
fn beside_jobs(valid: &Valid, topic: &str, plans: &mut [Plan]) -> Result<(), String> {
    let jobs = Store::new(&valid.config.redis).all().map_err(|e| format!("whether a replay is yet to add entries there is not known: {e}"))?;
    for (job, positions) in jobs.iter().filter(|job| job.status != "complete").filter_map(|job| Some((job.plan.as_ref()?, &job.positions))) {
        let left = unfinished::left(job, positions);
        for plan in plans.iter_mut() {
            let told = unfinished::note(job, &left, &TopicPartition::new(topic, plan.partition), plan.to);
            plan.note = plan.note.take().into_iter().chain(told).reduce(|a, b| format!("{a}; {b}"));
        }
    }
    Ok(())
}
