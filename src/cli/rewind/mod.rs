//! `rewind`: sets where the bridge goes on in a topic. Says first what that means, and asks.
mod apply;
mod partitions;

use self::apply::Apply;
use self::partitions::Partitions;
use super::{Args as Global, Exit, Output, configuration, print};
use crate::config::validate::Valid;
use serde::Serialize;
use serde_json::json;
use std::io::{BufRead as _, IsTerminal as _};
use std::str::FromStr;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The topic
    #[arg(long)]
    pub topic: String,
    /// Where to go on: an offset, earliest, latest, or -N for N records before the end
    #[arg(long, value_name = "OFFSET", allow_hyphen_values = true)]
    pub to_offset: Target,
    /// Only these partitions, as 0,3-5; else all
    #[arg(long, value_name = "LIST")]
    pub partition: Option<Partitions>,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// Where to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Earliest,
    Latest,
    Offset(i64),
    /// So many before the end.
    Before(i64),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no offset: a number, earliest, latest, or -N for N records before the end");
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            _ => match text.strip_prefix('-') {
                Some(before) => before.parse().map(Self::Before).map_err(|_| wrong()),
                None => text.parse().map(Self::Offset).map_err(|_| wrong()),
            },
        }
    }
}

impl Target {
    /// The offset in a log that holds `[low, high)`.
    ///
    /// # Errors
    /// It lies outside.
    fn within(self, low: i64, high: i64) -> Result<i64, String> {
        let to = match self {
            Self::Earliest => low,
            Self::Latest => high,
            Self::Offset(offset) => offset,
            Self::Before(n) => high.saturating_sub(n),
        };
        if (low..=high).contains(&to) { Ok(to) } else { Err(format!("{to} lies outside of what Kafka holds, [{low}, {high})")) }
    }
}

/// What a rewind means for one partition.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    pub partition: i32,
    /// Where it stands; `null` where it has not begun.
    pub position: Option<i64>,
    pub to: i64,
}

impl Plan {
    /// In words: what is applied again, what is left out.
    fn meaning(&self) -> String {
        match self.position {
            None => "begins there".into(),
            Some(p) if p > self.to => format!("up to {} records are applied again: what adds (XADD, PUBLISH) is repeated", p - self.to),
            Some(p) if p < self.to => format!("up to {} records are LEFT OUT", self.to - p),
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
    let partitions = match &args.partition {
        Some(list) => list.0.clone(),
        None => (0..apply.partitions()?).collect(),
    };
    let plans = partitions.into_iter().map(|p| apply.plan(p, args.to_offset)).collect::<Result<Vec<_>, _>>()?;
    if global.output == Output::Text {
        print::line(format_args!("{:<24} {:>12} {:>12}  what that means", "partition", "position", "goes on at"));
        for plan in &plans {
            let position = plan.position.map_or_else(|| "-".into(), |p| p.to_string());
            let at = format!("{}[{}]", args.topic, plan.partition);
            print::line(format_args!("{at:<24} {position:>12} {:>12}  {}", plan.to, plan.meaning()));
        }
    }
    if !args.yes && !confirmed()? {
        match global.output {
            Output::Json => print::line(format_args!("{:#}", json!({"topic": args.topic, "rewound": [], "notes": ["nothing was changed"]}))),
            Output::Text => print::line("nothing was changed"),
        }
        return Ok(Exit::Done);
    }
    let mut notes = Vec::new();
    for plan in &plans {
        notes.extend(apply.set(plan)?);
    }
    notes.push(apply.commit(&plans)?);
    match global.output {
        Output::Json => print::line(format_args!("{:#}", json!({"topic": args.topic, "rewound": plans, "notes": notes}))),
        Output::Text => notes.iter().for_each(print::line),
    }
    Ok(Exit::Done)
}

/// Asks a person.
fn confirmed() -> Result<bool, String> {
    if !std::io::stdin().is_terminal() {
        return Err("this changes what is applied: confirm it with --yes where no person can be asked".into());
    }
    print::question("Go on? [y/N]");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(|e| e.to_string())?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_an_offset_within_the_log_or_a_mistake_that_says_so() {
        for (text, to) in [("earliest", 3), ("latest", 9), ("5", 5), ("-2", 7), ("9", 9)] {
            assert_eq!(Target::from_str(text).unwrap().within(3, 9), Ok(to), "{text}");
        }
        for text in ["2", "10", "-7"] {
            assert!(Target::from_str(text).unwrap().within(3, 9).unwrap_err().contains("[3, 9)"), "{text}");
        }
        assert!(Target::from_str("soon").unwrap_err().contains("earliest"));
    }
}
