//! `jobs`: the replays that Redis knows of.
use super::{Args as Global, Exit, Output, configuration, print};
use crate::core::replay::plan::settled;
use crate::core::words;
use crate::replay::store::{Store, Stored};
use clap::Subcommand;
use serde_json::json;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub what: What,
}

#[derive(Debug, Subcommand)]
pub enum What {
    /// All jobs, and how far they are
    List,
    /// One job: its plan, its partitions, its counts
    Show { name: String },
    /// Remove what is kept of a job; nothing of what it wrote
    Forget { name: String },
}

pub fn run(global: &Global, args: &Args) -> Exit {
    let valid = match configuration(global, &[]) {
        Ok((_, valid)) => valid,
        Err(exit) => return exit,
    };
    let mut store = Store::new(&valid.config.redis);
    let done = match &args.what {
        What::List => list(global.output, &mut store),
        What::Show { name } => show(global.output, &mut store, name),
        What::Forget { name } => forget(global.output, &mut store, name),
    };
    match done {
        Ok(()) => Exit::Done,
        Err(why) => {
            print::failure(global.output, format_args!("jobs: {why}"));
            Exit::Fatal
        }
    }
}

fn find(store: &mut Store, name: &str) -> Result<Stored, String> {
    store.find(name).map_err(|e| format!("Redis: {e}"))?.ok_or_else(|| format!("Redis has no job {name:?}"))
}

/// Offsets settled, of how many.
fn done(job: &Stored) -> (i64, i64) {
    let Some(plan) = &job.plan else { return (0, 0) };
    (settled(&plan.spans, &job.positions), plan.len())
}

fn list(output: Output, store: &mut Store) -> Result<(), String> {
    let jobs = store.all().map_err(|e| format!("Redis: {e}"))?;
    if output == Output::Json {
        let short = |job: &Stored| {
            let (done, total) = done(job);
            json!({"name": job.name, "status": job.status, "done": done, "total": total, "counts": job.counts})
        };
        print::line(format_args!("{:#}", json!({"jobs": jobs.iter().map(short).collect::<Vec<_>>()})));
        return Ok(());
    }
    print::line(format_args!("{:<36} {:<10} {:>14} {:>14} {:>8}", "job", "status", "settled", "of", "dead"));
    for job in &jobs {
        let (done, total) = done(job);
        print::line(format_args!("{:<36} {:<10} {done:>14} {total:>14} {:>8}", job.name, job.status, job.counts.dead));
    }
    Ok(())
}

fn show(output: Output, store: &mut Store, name: &str) -> Result<(), String> {
    let job = find(store, name)?;
    if output == Output::Json {
        print::line(format_args!("{:#}", json!(job)));
        return Ok(());
    }
    let (settled, total) = done(&job);
    print::line(format_args!("job {name}: {}, {settled} of {total} offsets settled", job.status));
    let time = |ms: i64| jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |t| t.strftime("%FT%TZ").to_string());
    if let Some(plan) = &job.plan {
        let ended = job.ended_ms.map(|ms| format!(", complete {}", time(ms))).unwrap_or_default();
        print::line(format_args!("begun {}{ended}", time(plan.created_ms)));
        plan.terms().iter().for_each(print::line);
    }
    for (span, position) in job.plan.iter().flat_map(|p| &p.spans).zip(&job.positions) {
        let position = position.map_or_else(|| "gone".into(), |p| p.to_string());
        print::line(format_args!("{:<24} from {} to {}, position {position}", span.at().to_string(), span.from, span.to));
    }
    for write in job.plan.iter().flat_map(|p| &p.writes) {
        print::line(format_args!("{}: {}: {}", words::write(&write.route, write.write, &write.command), write.does, write.meaning));
    }
    job.counts.each().iter().chain(&[("gone", job.gone)]).for_each(|(name, n)| print::line(format_args!("{name:<16} {n:>14}")));
    if job.status == "stopped" {
        print::line(format_args!("carry it on: kafka-redis-bridge replay --resume {name}"));
    }
    Ok(())
}

fn forget(output: Output, store: &mut Store, name: &str) -> Result<(), String> {
    let job = find(store, name)?;
    if job.status == "running" {
        return Err(format!("the job {name:?} is running: stop it first, or wait a quarter of a minute if it was killed"));
    }
    store.forget(&job).map_err(|e| format!("Redis: {e}"))?;
    match output {
        Output::Json => print::line(json!({"forgotten": name})),
        Output::Text => print::line(format_args!("job {name} is forgotten; what it wrote stays")),
    }
    Ok(())
}
