//! What a person, or a script, sees of a replay.
use super::super::{Output, print};
use super::resume::Resume;
use crate::config::{Log, LogFormat, LogLevel};
use crate::core::replay::plan::{Plan, Span};
use crate::core::replay::run::Place;
use crate::core::words::{self, counted};
use crate::ops::telemetry;
use crate::replay::work::{End, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use std::io::{IsTerminal as _, Write};
use std::time::{Duration, Instant};

/// How often a line says how far a job is where nobody looks at a bar.
const LINE_EVERY: Duration = Duration::from_secs(5);
const JSON_EVERY: Duration = Duration::from_secs(1);

/// How results are shown.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) output: Output,
    /// Where a person looks on; hidden until there is something to show.
    bar: Option<ProgressBar>,
}

/// Writes above a bar, which stays whole below.
struct Above(ProgressBar);

impl Write for Above {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.suspend(|| std::io::stderr().write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// What a report says beside the last process' progress.
pub(super) struct Totals {
    /// Records that former processes have settled.
    pub(super) before: i64,
    /// Offsets that Kafka deleted before any process read them.
    pub(super) gone: i64,
    /// What carries the job on, where something is left of it.
    pub(super) resume: Option<Resume>,
    /// Where its dead letters are.
    pub(super) letters: Option<String>,
    /// The writes that its plan leaves out.
    pub(super) left_out: Option<String>,
}

/// Shows how far a job is.
pub(super) enum Meter {
    Bar(ProgressBar),
    Lines { name: String, output: Output, next: Instant },
}

impl Shown {
    pub(super) fn new(output: Output) -> Self {
        let looked_at = output == Output::Text && std::io::stderr().is_terminal();
        Self { output, bar: looked_at.then(ProgressBar::hidden) }
    }

    /// Begins logging. Where there is a bar, it says what would be told at the level of information.
    pub(super) fn log(&self, log: &Log) {
        let Some(bar) = self.bar.clone() else {
            telemetry::init(log);
            return;
        };
        let level = if log.level == LogLevel::Info { LogLevel::Warn } else { log.level };
        telemetry::init_by(&Log { format: LogFormat::Text, level }, move || Above(bar.clone()));
    }

    /// `settled`: how many of its offsets are behind it already.
    pub(super) fn plan(&self, plan: &Plan, settled: i64) {
        if self.output == Output::Json {
            return print::line(json!({"event": "plan", "plan": plan, "settled": settled, "left_out": plan.left_out()}));
        }
        plan.left_out().iter().for_each(print::line);
        print::line(format_args!("job {}", plan.name));
        print::line(format_args!("{:<24} {:>12} {:>12} {:>12}  {:<20} {:<20} {:>12}", "partition", "from", "to", "records", "first", "last", "live bridge"));
        for span in &plan.spans {
            print::line(row(span));
        }
        for write in &plan.writes {
            let what = words::write(&write.route, write.write, &write.command);
            print::line(format_args!("{what:<36} {:<10} {}", write.does, write.meaning));
        }
        let left = plan.len() - settled;
        let time = plan.rate.map(|rate| format!(", for about {}", span_of(left / i64::from(rate)))).unwrap_or_default();
        let behind = if settled > 0 { format!(": {settled} of {} offsets are settled", plan.len()) } else { String::new() };
        print::line(format_args!("{} at most{time}{behind}", counted(left, "record")));
        plan.terms().iter().for_each(print::line);
        plan.notes.iter().for_each(|note| print::line(format_args!("note: {note}")));
    }

    pub(super) fn nothing(&self) {
        match self.output {
            Output::Json => print::line(json!({"event": "refused", "note": "nothing was written"})),
            Output::Text => print::line("nothing was written"),
        }
    }

    pub(super) fn already(&self, name: &str) {
        match self.output {
            Output::Json => print::line(json!({"event": "report", "job": name, "end": "complete", "note": "it was complete already"})),
            Output::Text => print::line(format_args!("job {name} was complete already")),
        }
    }

    pub(super) fn meter(&self, name: &str) -> Meter {
        let Some(bar) = self.bar.clone() else {
            return Meter::Lines { name: name.into(), output: self.output, next: Instant::now() };
        };
        // What is told below is cut where a terminal is narrow.
        let template = "{prefix} {bar:30} {percent:>3}% {pos}/{len}\n{wide_msg}";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        bar.set_prefix(name.to_owned());
        bar.set_draw_target(ProgressDrawTarget::stderr());
        Meter::Bar(bar)
    }

    pub(super) fn report(&self, name: &str, end: &End, progress: &Progress, totals: &Totals) {
        let (word, why) = match end {
            End::Complete if progress.counts.dead > 0 => ("complete, with dead letters", None),
            End::Complete => ("complete", None),
            End::Stopped => ("stopped", None),
            End::Halted => ("halted", None),
            End::Fenced => (
                "fenced",
                Some(format!(
                    "another process has taken the job over, or Redis went back to before this one took it: if no other one is at work, `replay --resume {name}` goes on"
                )),
            ),
            End::Failed(why) => ("failed", Some(why.clone())),
        };
        let halted: Vec<&Place> = progress.places.iter().filter(|p| p.reason.is_some()).collect();
        let Totals { before, gone, resume, letters, left_out } = totals;
        let c = &progress.counts;
        let own = (c.records - before).max(0);
        let rate = average(own, progress.elapsed_seconds);
        if self.output == Output::Json {
            let process = json!({"seconds": progress.elapsed_seconds, "records": own, "rate": rate});
            return print::line(json!({
                "event": "report", "job": name, "end": word, "why": why, "resume": resume.as_ref().map(|r| &r.line),
                "hidden": resume.as_ref().map(|r| &r.hidden), "process": process, "gone": gone,
                "letters": letters, "left_out": left_out,
                "progress": progress, "partitions": progress.places
            }));
        }
        print::line(format_args!("job {name}: {word} after {}", span_of(progress.elapsed_seconds as i64)));
        let records =
            if *before > 0 { format!("{} in all, {own} of them since it was carried on", counted(c.records, "record")) } else { counted(own, "record") };
        print::line(format_args!("{} of {} offsets, {records}, {rate:.0} records/s", progress.done, progress.total));
        print::line(format_args!(
            "writes: {} applied, {} skipped as older, {} skipped as present, {} expired; records: {} dropped, {} dead",
            c.applied, c.older, c.present, c.expired, c.dropped, c.dead
        ));
        if c.applied == 0 && c.present + c.older > 0 {
            print::line(
                "nothing was applied: values and streams that stand at the keys are left as they are. Delete what is wrong, set replay = \"apply\" on the write, or name another place with --target-prefix",
            );
        }
        left_out.iter().for_each(print::line);
        if let Some(letters) = letters.as_ref().filter(|_| c.dead > 0) {
            print::line(format_args!("the dead letters of this job are in {letters}"));
        }
        if c.condition_errors > 0 {
            print::line(format_args!("{} could not be evaluated, and counted as false", counted(c.condition_errors, "condition")));
        }
        if *gone > 0 {
            let were = if *gone == 1 { "was" } else { "were" };
            print::line(format_args!("{} {were} deleted by Kafka before being read", counted(*gone, "offset")));
        }
        for place in halted {
            let reason = place.reason.as_deref().unwrap_or_default();
            print::line(format_args!("{}[{}] halted at {}: {}: {reason}", place.topic, place.partition, place.position, place.phase));
        }
        if let Some(why) = why {
            print::line(format_args!("{why}"));
        }
        if let Some(Resume { line, hidden }) = resume {
            print::line(format_args!("carry it on: {line}"));
            if !hidden.is_empty() {
                print::line(format_args!("where ... stands in it, put what was set: {}", hidden.join(", ")));
            }
        }
    }
}

impl Meter {
    pub(super) fn show(&mut self, progress: &Progress) {
        match self {
            Self::Bar(bar) => {
                bar.set_length(u64::try_from(progress.total).unwrap_or(0));
                bar.set_position(u64::try_from(progress.done).unwrap_or(0));
                bar.set_message(words(progress));
            }
            Self::Lines { name, output, next } if Instant::now() >= *next => {
                *next = Instant::now() + if *output == Output::Json { JSON_EVERY } else { LINE_EVERY };
                match output {
                    Output::Json => print::line(json!({"event": "progress", "job": name, "progress": progress})),
                    Output::Text => tracing::info!(job = name, done = progress.done, total = progress.total, "{}", words(progress)),
                }
            }
            Self::Lines { .. } => {}
        }
    }

    pub(super) fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// The rate, what is left, the partition that has most left.
fn words(progress: &Progress) -> String {
    let eta = progress.eta_seconds.map(|s| format!(", {} left", span_of(s as i64))).unwrap_or_default();
    let slowest = progress.slowest.as_ref().map(|p| format!(", {}[{}] {} to go", p.topic, p.partition, p.to - p.position)).unwrap_or_default();
    format!("{:.0} records/s{eta}{slowest}", progress.rate)
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
fn average(records: i64, seconds: f64) -> f64 {
    if seconds > 0.0 { records as f64 / seconds } else { 0.0 }
}

fn span_of(seconds: i64) -> String {
    humantime::format_duration(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))).to_string()
}

fn row(span: &Span) -> String {
    let time = |ms: Option<i64>| ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).map_or_else(|| "-".into(), |t| t.strftime("%FT%TZ").to_string());
    let live = span.live.map_or_else(|| "-".into(), |l| l.to_string());
    let at = span.at().to_string();
    format!("{at:<24} {:>12} {:>12} {:>12}  {:<20} {:<20} {live:>12}", span.from, span.to, span.len(), time(span.first_ms), time(span.last_ms))
}
