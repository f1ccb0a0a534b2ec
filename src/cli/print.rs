//! Printing. Whoever reads may be gone (`| head`): that is the end of the output, and no failure.
use super::Output;
use serde_json::json;
use std::fmt::Display;
use std::io::{BufRead as _, IsTerminal as _, Write as _};

/// A line on standard output.
pub(super) fn line(text: impl Display) {
    let _ = line_read(text);
}

/// A line on standard output; whether somebody still reads. It goes as one, also where standard error goes to the same place.
pub(super) fn line_read(text: impl Display) -> bool {
    let (line, mut out) = (format!("{text}\n"), std::io::stdout().lock());
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_ok()
}

/// What a person is asked, on standard error: the output may go elsewhere.
pub(super) fn question(text: impl Display) {
    let mut out = std::io::stderr().lock();
    let _ = write!(out, "{text} ").and_then(|()| out.flush());
}

/// Asks a person whether to go on; where there is none, says what was to be confirmed.
pub(super) fn confirmed(what: &str) -> Result<bool, String> {
    if !std::io::stdin().is_terminal() {
        return Err(format!("{what}: confirm it with --yes where no person can be asked"));
    }
    question("Go on? [y/N]");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(|e| e.to_string())?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// A line on standard error, for people.
pub(super) fn warn(text: impl Display) {
    let _ = std::io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}

/// Why a command can't go on, on standard error, as `--output` asks.
pub(super) fn failure(output: Output, why: impl Display) {
    match output {
        Output::Text => warn(why),
        Output::Json => warn(json!({"error": why.to_string()})),
    }
}

/// A command as redis-cli takes it.
pub(super) fn command<A: AsRef<[u8]>>(args: &[A]) -> String {
    args.iter().map(|a| quoted(a.as_ref())).collect::<Vec<_>>().join(" ")
}

/// An argument as redis-cli takes it.
fn quoted(arg: &[u8]) -> String {
    let plain = !arg.is_empty() && arg.iter().all(|b| b.is_ascii_graphic() && !b"\"'\\".contains(b));
    if plain {
        return String::from_utf8_lossy(arg).into_owned();
    }
    let escaped: String = arg
        .iter()
        .map(|b| match b {
            b'"' => "\\\"".into(),
            b'\\' => "\\\\".into(),
            b'\n' => "\\n".into(),
            b'\r' => "\\r".into(),
            b'\t' => "\\t".into(),
            0x20..=0x7e => char::from(*b).to_string(),
            _ => format!("\\x{b:02x}"),
        })
        .collect();
    format!("\"{escaped}\"")
}
