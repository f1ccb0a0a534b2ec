//! What a part showed: tables for people (text, Markdown), the same for machines (JSON).
use crate::bed::Bed;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

/// A table, and what its reader must know.
pub(crate) struct Table {
    title: String,
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

pub(crate) struct Part {
    pub(crate) tables: Vec<Table>,
    pub(crate) notes: Vec<String>,
    /// All that was measured.
    pub(crate) figures: Value,
}

/// A line that tells how far it is.
pub(crate) fn progress(line: &str) {
    eprintln!("  {line}");
}

fn first_line(command: &str, args: &[&str]) -> String {
    let output = Command::new(command).args(args).output().map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
    output.unwrap_or_default().lines().next().unwrap_or("unknown").to_owned()
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| text.lines().find_map(|l| l.strip_prefix(name)?.split_once(':').map(|(_, v)| v.trim().to_owned()));
    let processors = read("/proc/cpuinfo");
    // All of them, whichever the benchmark may run on.
    let cores = processors.lines().filter(|l| l.starts_with("processor")).count();
    let kib: u64 = field(&read("/proc/meminfo"), "MemTotal").and_then(|m| m.split(' ').next()?.parse().ok()).unwrap_or(0);
    let processor = field(&processors, "model name").unwrap_or_default();
    format!("{cores} cores ({processor}), {} GiB, Linux {}", kib >> 20, first_line("uname", &["-r"]))
}

fn versions(bed: &Bed) -> String {
    format!(
        "kafka-redis-bridge {} ({}), librdkafka {}, {}",
        env!("CARGO_PKG_VERSION"),
        first_line("git", &["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"]),
        rdkafka::util::get_rdkafka_version().1,
        bed.versions()
    )
}

impl Table {
    pub(crate) fn new(title: impl Into<String>, head: &[&'static str]) -> Self {
        Self { title: title.into(), head: head.to_vec(), rows: Vec::new() }
    }

    /// One cell for each column, of which the first is the name.
    pub(crate) fn row<C: ToString>(&mut self, name: impl ToString, cells: impl IntoIterator<Item = C>) {
        let row: Vec<String> = [name.to_string()].into_iter().chain(cells.into_iter().map(|c| c.to_string())).collect();
        assert_eq!(row.len(), self.head.len(), "{row:?}");
        self.rows.push(row);
    }

    /// Its columns as wide as they must be, so that it is readable as text, too.
    fn markdown(&self, out: &mut String) {
        let width = |i: usize| self.rows.iter().map(|r| r[i].len()).chain([self.head[i].len()]).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let _ = writeln!(out, "\n**{}**\n", self.title);
        let mut line = |cells: Vec<&str>| {
            let cells: Vec<String> = cells.iter().zip(&widths).map(|(c, w)| format!("{c:<w$}")).collect();
            let _ = writeln!(out, "| {} |", cells.join(" | "));
        };
        line(self.head.clone());
        line(vec!["---"; self.head.len()]);
        self.rows.iter().for_each(|r| line(r.iter().map(String::as_str).collect()));
    }

    fn json(&self) -> Value {
        let row = |r: &Vec<String>| Value::Object(self.head.iter().zip(r).map(|(h, c)| ((*h).to_owned(), json!(c))).collect());
        json!({ "title": self.title, "rows": self.rows.iter().map(row).collect::<Vec<_>>() })
    }
}

/// Shows a part and keeps it in `target/bench/`.
pub(crate) fn write(name: &str, part: &Part, bed: &Bed) {
    let date = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string();
    let (machine, versions, command) = (machine(), versions(bed), bed.scale.command());
    let mut text = format!("## {name}\n\n`{command}`, {date}. {machine}. {versions}.\n");
    part.tables.iter().for_each(|t| t.markdown(&mut text));
    part.notes.iter().for_each(|n| _ = writeln!(text, "\n{n}"));
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(name).with_extension("md"), &text).unwrap();
    let tables: Vec<Value> = part.tables.iter().map(Table::json).collect();
    let all = json!({
        "part": name, "command": command, "date": date, "machine": machine, "versions": versions,
        "tables": tables, "notes": part.notes, "figures": part.figures,
    });
    std::fs::write(folder.join(name).with_extension("json"), format!("{all:#}\n")).unwrap();
    println!("{text}");
}
