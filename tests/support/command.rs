//! The binary as a command that ends by itself.
use super::daemon::binary;
use super::process::Process;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

pub(crate) const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/bridge.toml");

/// Runs the binary to its end.
pub(crate) fn run(args: &[&str], env: &[(&str, &str)], input: &str) -> Output {
    let mut command = Command::new(binary());
    command.args(args).envs(env.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Process::start(&mut command);
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.into_output()
}

pub(crate) fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Checks a text as a file; the exit code and what was said, without the places in the file.
pub(crate) fn check(toml: &str, args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String) {
    let (code, said) = check_placed(toml, args, env);
    (code, regex::Regex::new(r"FILE:\d+:\d+: ").unwrap().replace_all(&said, "FILE: ").into_owned())
}

/// The same with the places.
pub(crate) fn check_placed(toml: &str, args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bridge.toml");
    std::fs::write(&file, toml).unwrap();
    let mut all = vec!["--config", file.to_str().unwrap(), "check"];
    all.extend(args);
    let output = run(&all, env, "");
    (output.status.code(), (err(&output) + &out(&output)).replace(file.to_str().unwrap(), "FILE"))
}

/// A route that stands for all.
pub(crate) const ROUTE: &str = "[[route]]\nname = \"r\"\ntopics = [\"t\"]\n[[route.write]]\nset = { key = \"k\", value = \"v\" }\n";
