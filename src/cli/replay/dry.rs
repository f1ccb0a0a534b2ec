//! `replay --dry-run`: the commands of real records. Nothing is asked of Redis, and nothing written.
use super::super::{Exit, Output, print};
use super::show::Shown;
use crate::config::validate::Valid;
use crate::core::encode::{Encoder, parse_commands};
use crate::core::record::Record;
use crate::core::replay::job::Counts;
use crate::core::replay::plan::{Plan, wanted};
use crate::core::replay::sample::{Sample, Then};
use crate::core::route;
use crate::core::words::counted;
use crate::kafka::ranges::{Walk, walk};
use serde_json::json;
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Duration;

/// How long Kafka may say nothing.
const SILENCE_MAX: Duration = Duration::from_secs(20);

pub(super) fn run(valid: &Valid, plan: &Plan, sample: Option<NonZeroUsize>, shown: &Shown) -> Result<Exit, String> {
    shown.plan(plan, 0);
    let mut rendered = Rendered { valid, output: shown.output, counts: Counts::default(), context: route::Context::default() };
    rendered.context.now_ms = jiff::Timestamp::now().as_millisecond();
    let mut sample = Sample::new(sample, &plan.spans);
    let mut over = false;
    while !over {
        let round = sample.round();
        let topics: BTreeSet<&str> = round.iter().map(|s| s.topic.as_str()).collect();
        over = topics.is_empty();
        for topic in topics {
            if over {
                break;
            }
            let of = round.iter().filter(|s| s.topic == topic);
            let ranges: Vec<(i32, i64, i64)> = of.map(|s| (s.partition, s.from, s.to)).collect();
            let through = route::through(&valid.lane.routes, topic);
            walk(&valid.config.kafka, topic, &ranges, SILENCE_MAX, |record| {
                if !wanted(&plan.keys, record.key()) {
                    return Walk::On;
                }
                let read = rendered.one(&record, &through);
                match sample.shown(topic, record.at().partition, record.offset) {
                    Then::On if read => Walk::On,
                    Then::Enough if read => Walk::Enough,
                    _ => {
                        over = true;
                        Walk::Stop
                    }
                }
            })?;
        }
        sample.rounded();
    }
    let c = rendered.counts;
    match shown.output {
        Output::Json => print::line(json!({"event": "report", "end": "dry run", "counts": c})),
        Output::Text => print::line(format_args!(
            "# {} would become {}; {} expired, {} dropped, {} dead",
            counted(c.records, "record"),
            counted(c.applied, "command"),
            c.expired,
            c.dropped,
            c.dead
        )),
    }
    Ok(if c.dead > 0 { Exit::Letters } else { Exit::Done })
}

/// Renders and prints.
struct Rendered<'v> {
    valid: &'v Valid,
    output: Output,
    counts: Counts,
    context: route::Context,
}

impl Rendered<'_> {
    /// One record. `false`: nobody reads any more.
    fn one(&mut self, record: &Record, through: &[usize]) -> bool {
        let routes = &self.valid.lane.routes;
        let (mut out, mut outcomes) = (Encoder::default(), Vec::new());
        let dead = route::render(routes, through, record, &mut out, |_| {}, &mut outcomes, &mut self.context).err();
        let commands: Vec<String> = parse_commands(out.bytes()).unwrap_or_default().iter().map(|c| print::command(c)).collect();
        self.counts.records += 1;
        self.counts.dead += i64::from(dead.is_some());
        self.counts.applied += i64::try_from(commands.len()).unwrap_or(0);
        for (_, outcome) in &outcomes {
            self.counts.expired += i64::from(outcome.expired);
            self.counts.dropped += i64::from(outcome.dropped());
            self.counts.condition_errors += i64::from(outcome.condition_errors);
        }
        let dead = dead.map(|p| p.reason);
        match self.output {
            Output::Json => print::line_read(
                json!({"event": "record", "topic": *record.at().topic, "partition": record.at().partition, "offset": record.offset, "commands": commands, "dead": dead}),
            ),
            Output::Text => {
                let lines = commands.into_iter().chain(dead.map(|why| format!("# dead: {why}")));
                [format!("# {} at {}", record.at(), record.offset)].into_iter().chain(lines).all(print::line_read)
            }
        }
    }
}
