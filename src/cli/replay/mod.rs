//! `replay`: a bounded range applied again, as a job. Says first what it will do, and asks.
mod dry;
mod resume;
mod show;

use self::resume::Resume;
use self::show::{Shown, Totals};
use super::{Args as Global, Exit, Output, configuration, print, refused};
use crate::config::load::Loaded;
use crate::config::validate::Valid;
use crate::core::claim::Start;
use crate::core::replay::bounds::{Bound, Moment, Offsets, Target};
use crate::core::replay::claim::How;
use crate::core::replay::job::Keys;
use crate::core::replay::partitions::Partitions;
use crate::core::replay::plan;
use crate::core::replay::policy::{Ids, Options, check_ids, check_prefix};
use crate::kafka::log::KafkaLog;
use crate::ops::signals::{self, Asked as Signal};
use crate::replay::prepare::{self, Asked};
use crate::replay::store::{Frozen, Store, Stored};
use crate::replay::work::{End, Progress, Work};
use clap::ValueEnum;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The records of a range, `[from, to)`.
#[derive(Clone, Debug, clap::Args)]
pub struct Range {
    /// Only these routes; else all. May be repeated
    #[arg(long, value_name = "NAME")]
    pub route: Vec<String>,
    /// Only these topics of the routes. May be repeated
    #[arg(long)]
    pub topic: Vec<String>,
    /// Only these partitions, as 0,3-5
    #[arg(long, value_name = "LIST")]
    pub partition: Option<Partitions>,
    /// Where to begin: an offset, earliest, latest, -N for N before the end, or one for each partition as 0:120000,3:450000
    #[arg(long, value_name = "OFFSET", allow_hyphen_values = true)]
    pub from_offset: Option<Offsets>,
    /// Or the first record at or after this time: RFC 3339, milliseconds since the epoch, or a span back as -2h
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, conflicts_with = "from_offset")]
    pub from_time: Option<Moment>,
    /// Where to end, as --from-offset; latest, as of now, where neither this nor --to-time is given
    #[arg(long, value_name = "OFFSET", allow_hyphen_values = true)]
    pub to_offset: Option<Offsets>,
    /// Or before the first record at or after this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, conflicts_with = "to_offset")]
    pub to_time: Option<Moment>,
    /// Only records of this key. May be repeated
    #[arg(long, allow_hyphen_values = true)]
    pub key: Vec<String>,
    /// Take what there is of a range that Kafka does not hold as a whole
    #[arg(long)]
    pub clamp: bool,
}

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub range: Range,
    /// Records a second at most, as 20000/s
    #[arg(long, value_parser = rate)]
    pub rate: Option<u32>,
    /// Only these writes of the routes, as volatility/2. May be repeated
    #[arg(long, value_name = "ROUTE/N")]
    pub write: Vec<String>,
    /// Write all keys with this before them
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub target_prefix: String,
    /// Add to streams that are there: what was added before is repeated
    #[arg(long)]
    pub append: bool,
    /// Where stream entries get their ids from
    #[arg(long, value_enum, default_value_t = IdsFrom::Write, conflicts_with = "append")]
    pub ids: IdsFrom,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Print the commands of real records, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Only of so many records
    #[arg(long, value_name = "N", requires = "dry_run", value_parser = sample)]
    pub sample: Option<NonZeroUsize>,
    /// Carry on a job that was stopped; its plan is what it was
    #[arg(long, value_name = "JOB", conflicts_with_all = ["route", "topic", "partition", "from_offset", "from_time", "to_offset", "to_time", "key", "write", "target_prefix", "append", "ids", "dry_run"])]
    pub resume: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IdsFrom {
    /// As the write says
    Write,
    /// The record's time
    Timestamp,
}

impl From<IdsFrom> for Ids {
    fn from(from: IdsFrom) -> Self {
        match from {
            IdsFrom::Write => Self::Write,
            IdsFrom::Timestamp => Self::Timestamp,
        }
    }
}

fn rate(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    number.parse().ok().filter(|n| *n > 0).ok_or_else(|| "records a second, such as 20000/s".into())
}

fn sample(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "how many records, 1 or more".into())
}

impl Range {
    /// All that is asked for.
    pub fn asked(&self, rate: Option<u32>, options: Options) -> Result<Asked, String> {
        let (from, to) = self.bounds()?;
        Ok(Asked {
            routes: self.route.clone(),
            topics: self.topic.clone(),
            partitions: self.partition.as_ref().map(|p| p.0.clone()),
            from,
            to,
            keys: self.key.clone(),
            clamp: self.clamp,
            rate,
            options,
        })
    }

    /// Both ends.
    fn bounds(&self) -> Result<(Bound, Bound), String> {
        let now = jiff::Timestamp::now().as_millisecond();
        let bound = |offsets: &Option<Offsets>, time: &Option<Moment>| offsets.clone().map(Bound::Offsets).or_else(|| time.map(|t| Bound::Time(t.at(now))));
        let from = bound(&self.from_offset, &self.from_time).ok_or("--from-offset or --from-time says where to begin")?;
        let to = bound(&self.to_offset, &self.to_time).unwrap_or(Bound::Offsets(Offsets::All(Target::Latest)));
        if let (Bound::Time(a), Bound::Time(b)) = (&from, &to)
            && a > b
        {
            return Err("the range begins after its end".into());
        }
        Ok((from, to))
    }
}

impl Args {
    fn asked(&self) -> Result<Asked, String> {
        let options = Options { target_prefix: self.target_prefix.clone(), append: self.append, ids: self.ids.into(), writes: self.write.clone() };
        self.range.asked(self.rate, options)
    }
}

pub fn run(global: &Global, args: &Args) -> Exit {
    let log: &[&str] = if global.output == Output::Json { &["log.format=json"] } else { &[] };
    let (loaded, valid) = match configuration(global, log) {
        Ok(both) => both,
        Err(exit) => return exit,
    };
    let shown = Shown::new(global.output);
    shown.log(&valid.config.log);
    let done = match &args.resume {
        Some(name) => resume(global, args, loaded, name, &shown),
        None => begin(global, args, loaded, &shown),
    };
    done.unwrap_or_else(|failure| match failure {
        Failure::Exit(exit) => exit,
        Failure::Why(why) => {
            print::failure(global.output, format_args!("replay: {why}"));
            Exit::Fatal
        }
    })
}

/// Why it did not come to a job.
enum Failure {
    Exit(Exit),
    Why(String),
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self::Why(why)
    }
}

fn begin(global: &Global, args: &Args, loaded: Loaded, shown: &Shown) -> Result<Exit, Failure> {
    let asked = args.asked().map_err(|why| {
        print::failure(global.output, format_args!("replay: {why}"));
        Failure::Exit(Exit::Usage)
    })?;
    let routes = prepare::select(&loaded, &asked.routes)?;
    let compiled = prepare::compile(loaded, routes, &asked.options, asked.rate);
    let (mut valid, planned) = compiled.map_err(|mistakes| Failure::Exit(refused(global.output, &mistakes)))?;
    prepare::check_writes(&asked.options.writes, &planned)?;
    check_prefix(&valid.lane.routes, &asked.options)?;
    let log = KafkaLog::new(&valid.config.kafka, Start::Earliest).map_err(|e| format!("Kafka: {e}"))?;
    let (mut spans, mut notes) = prepare::spans(&valid, &asked, &log)?;
    if args.dry_run {
        check_ids(&valid.lane.routes, &prepare::lives(&spans), &asked.options)?;
        notes.push("a dry run asks nothing of Redis: where the live bridge is, and what stands there, is not looked at".into());
        let frozen = prepare::plan(&valid, &asked, spans, planned, prepare::name(&valid, &[]), notes);
        return Ok(dry::run(&valid, &frozen.plan, args.sample, shown)?);
    }
    let mut store = Store::new(&valid.config.redis);
    notes.extend(prepare::ask_redis(&valid, &asked, &mut spans, &planned, &mut store, &log)?);
    let name = prepare::name_job(&valid, &asked.options, &mut store)?;
    prepare::own_letters(&mut valid, &asked.options, &name);
    let frozen = prepare::plan(&valid, &asked, spans, planned, name, notes);
    shown.plan(&frozen.plan, 0);
    if !args.yes && !print::confirmed("this writes to Redis")? {
        shown.nothing();
        return Ok(Exit::Done);
    }
    let plan = serde_json::to_string(&frozen).map_err(|e| e.to_string())?;
    let fields = vec![("plan", plan), ("status", "begun".to_owned()), ("begun", frozen.plan.created_ms.to_string())];
    let how = How::Begin { names: Keys::names(&valid.config.redis.state_prefix).0, name: frozen.plan.name.clone(), fields };
    Ok(work(global, args, valid, frozen, how, None, shown)?)
}

fn resume(global: &Global, args: &Args, loaded: Loaded, name: &str, shown: &Shown) -> Result<Exit, Failure> {
    let mut store = Store::new(&loaded.config().redis);
    let stored = store.find(name).map_err(|e| format!("Redis: {e}"))?.ok_or_else(|| format!("Redis has no job {name:?}: jobs list shows those there are"))?;
    if stored.status == "complete" {
        shown.already(name);
        return Ok(if stored.counts.dead > 0 { Exit::Letters } else { Exit::Done });
    }
    let mut frozen = stored.frozen.clone().ok_or_else(|| format!("the plan of job {name:?} can't be read: another version wrote it"))?;
    frozen.plan.rate = args.rate.or(frozen.plan.rate);
    frozen.plan.clamp |= args.range.clamp;
    let compiled = prepare::compile(loaded, frozen.routes.clone(), &frozen.plan.options, frozen.plan.rate);
    let (mut valid, _) = compiled.map_err(|mistakes| Failure::Exit(refused(global.output, &mistakes)))?;
    prepare::carries_on(&valid, &frozen.plan, &stored, &mut store)?;
    prepare::own_letters(&mut valid, &frozen.plan.options, name);
    shown.plan(&frozen.plan, plan::settled(&frozen.plan.spans, &stored.positions));
    Ok(work(global, args, valid, frozen, How::Take, Some(&stored), shown)?)
}

/// `stored`: the job as Redis has it, where it is carried on.
fn work(global: &Global, args: &Args, valid: Valid, frozen: Frozen, how: How, stored: Option<&Stored>, shown: &Shown) -> Result<Exit, String> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = stop.clone();
    signals::listen(move |signal| {
        if signal == Signal::Stop {
            asked.store(true, Ordering::Relaxed);
        }
    })
    .map_err(|e| format!("signals: {e}"))?;
    let name = frozen.plan.name.clone();
    let (mut store, keys, mut told) = (Store::new(&valid.config.redis), Keys::new(&valid.config.redis.state_prefix, &name), 0);
    let mut keep = |progress: &Progress| {
        let gone = progress.gone();
        if gone > told && store.passed_over(&keys, &progress.places).is_ok() {
            told = gone;
        }
    };
    let (letters, left_out) = (prepare::place_of_letters(&valid), frozen.plan.left_out());
    let mut work = Work::new(valid, frozen.plan, stop)?;
    stored.iter().for_each(|stored| work.stands(stored));
    let before = stored.map_or(0, |stored| stored.counts.records);
    let mut meter = shown.meter(&name);
    let end = work.run(how, |progress| {
        keep(progress);
        meter.show(progress);
    });
    let progress = work.progress();
    if !matches!(end, End::Fenced | End::Failed(_)) {
        keep(&progress);
    }
    meter.finish();
    let gone = store.find(&name).or_else(|_| store.find(&name)).ok().flatten().map_or(0, |job| job.gone).max(progress.gone());
    let resume = work.resumable(&end).then(|| Resume::of(&name, global, args));
    shown.report(&name, &end, &progress, &Totals { before, gone, resume, letters, left_out });
    Ok(match end {
        End::Complete if progress.counts.dead > 0 => Exit::Letters,
        End::Complete => Exit::Done,
        End::Stopped => Exit::Left,
        End::Halted | End::Fenced | End::Failed(_) => Exit::Fatal,
    })
}
