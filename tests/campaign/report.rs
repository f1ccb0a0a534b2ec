//! What a campaign showed: for people (text, Markdown) and machines (JSON).
use crate::table::{Case, Kind};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;

/// One fault of the storm. Times in seconds.
#[derive(Debug, Serialize)]
pub(crate) struct Fault {
    pub(crate) name: String,
    /// From its beginning until a condition showed it; none where none need show.
    pub(crate) detected: Option<f64>,
    /// From its end until both bridges were well: no condition, all partitions open, all settled that was produced by then.
    pub(crate) recovered: Option<f64>,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Storm {
    pub(crate) seconds: f64,
    pub(crate) faults: Vec<Fault>,
    pub(crate) records: u64,
    /// Of those records, the ones that had to become dead letters.
    pub(crate) letters: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) disordered: u64,
    pub(crate) failed: Vec<String>,
}

/// How a case that stands alone ended.
#[derive(Debug, Serialize)]
pub(crate) struct Alone {
    pub(crate) name: String,
    pub(crate) seconds: f64,
    /// Why it could not be shown here.
    pub(crate) skipped: Option<String>,
    pub(crate) failed: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: String,
    pub(crate) versions: String,
    pub(crate) command: String,
    pub(crate) seed: u64,
    pub(crate) storm: Option<Storm>,
    pub(crate) alone: Vec<Alone>,
}

fn first_line(command: &str, args: &[&str]) -> String {
    let output = Command::new(command).args(args).output().map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
    output.unwrap_or_default().lines().next().unwrap_or("unknown").to_owned()
}

pub(crate) fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| text.lines().find_map(|l| l.strip_prefix(name)?.split_once(':').map(|(_, v)| v.trim().to_owned()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let processor = field(&read("/proc/cpuinfo"), "model name").unwrap_or_default();
    let kib: u64 = field(&read("/proc/meminfo"), "MemTotal").and_then(|m| m.split(' ').next()?.parse().ok()).unwrap_or(0);
    format!("{cores} cores ({processor}), {} GiB, Linux {}", kib >> 20, first_line("uname", &["-r"]))
}

pub(crate) fn versions() -> String {
    let jars = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/target/testbed/kafka")).into_iter().flatten().flatten();
    let kafka = jars.filter_map(|j| j.file_name().to_str()?.strip_prefix("kafka-clients-")?.strip_suffix(".jar").map(str::to_owned));
    let redis = first_line("redis-server", &["--version"]);
    format!(
        "kafka-redis-bridge {}, librdkafka {}, Apache Kafka {}, Redis {}",
        env!("CARGO_PKG_VERSION"),
        rdkafka::util::get_rdkafka_version().1,
        kafka.last().unwrap_or_default(),
        redis.split(' ').find_map(|w| w.strip_prefix("v=")).unwrap_or("unknown")
    )
}

/// The middle one and the largest.
fn spread(mut times: Vec<f64>) -> String {
    times.sort_by(f64::total_cmp);
    match times.last() {
        Some(max) => format!("{:.2} / {max:.2}", times[times.len() / 2]),
        None => "-".into(),
    }
}

impl Report {
    pub(crate) fn failures(&self) -> Vec<String> {
        let alone = self.alone.iter().filter_map(|a| a.failed.as_ref().map(|f| format!("{}: {f}", a.name)));
        self.storm.iter().flat_map(|s| s.failed.iter().cloned()).chain(alone).collect()
    }

    pub(crate) fn markdown(&self, cases: &[Case]) -> String {
        let mut out = format!("`{}`\n\n{}. {}. Seed {}.\n", self.command, self.machine, self.versions, self.seed);
        if let Some(storm) = &self.storm {
            storm.write(&mut out);
        }
        if !self.alone.is_empty() {
            out += "\n| alone | what must follow | took (s) | ended |\n|---|---|---|---|\n";
        }
        for a in &self.alone {
            let follows = cases.iter().find(|c| c.name == a.name).map_or("", |c| c.follows);
            let ended = match (&a.failed, &a.skipped) {
                (Some(_), _) => "FAILED".into(),
                (_, Some(why)) => format!("not shown: {why}"),
                _ => "as it must".to_owned(),
            };
            let _ = writeln!(out, "| {} | {follows} | {:.1} | {ended} |", a.name, a.seconds);
        }
        out
    }
}

impl Storm {
    fn write(&self, out: &mut String) {
        let mut kinds: BTreeMap<&str, Vec<&Fault>> = BTreeMap::new();
        self.faults.iter().for_each(|f| kinds.entry(&f.name).or_default().push(f));
        *out += "\n| fault | times | detected (s), median / max | recovered (s), median / max |\n|---|---|---|---|\n";
        for (name, faults) in &kinds {
            let detected = spread(faults.iter().filter_map(|f| f.detected).collect());
            let recovered = spread(faults.iter().filter_map(|f| f.recovered).collect());
            let _ = writeln!(out, "| {name} | {} | {detected} | {recovered} |", faults.len());
        }
        let recoveries = self.faults.iter().filter(|f| f.recovered.is_some()).count();
        let _ = writeln!(
            out,
            "\n{} faults of {} kinds in {:.0} minutes, {recoveries} recoveries. {} records, {} of them dead letters: \
             **{} lost, {} doubled, {} out of order**.",
            self.faults.len(),
            kinds.len(),
            self.seconds / 60.0,
            self.records,
            self.letters,
            self.lost,
            self.doubled,
            self.disordered
        );
    }
}

/// The table of cases, for a person who wants to know what there is.
pub(crate) fn list(cases: &[Case]) -> String {
    let kind = |c: &Case| match c.kind {
        Kind::Storm { .. } => "storm",
        Kind::Alone { .. } => "alone",
        Kind::Promise(_) => "promise",
    };
    cases.iter().map(|c| format!("{:<26} {:<8} {}: {}\n", c.name, kind(c), c.does, c.follows)).collect()
}
