//! The line that carries a job on: as a shell takes it, and without a secret.
use super::super::Args as Global;
use super::Args;

/// See the module's documentation.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Resume {
    pub(super) line: String,
    /// The settings whose values the line does not show: `...` stands in their place.
    pub(super) hidden: Vec<String>,
}

impl Resume {
    /// Of a job, by a process with these arguments.
    pub(super) fn of(name: &str, global: &Global, args: &Args) -> Self {
        let (mut words, mut hidden) = (vec!["kafka-redis-bridge".to_owned()], Vec::new());
        if let Some(config) = &global.config {
            words.extend(["--config".into(), config.to_string_lossy().into_owned()]);
        }
        for set in &global.set {
            let key = set.split('=').next().unwrap_or_default();
            let shown = if is_secret(key, set) { format!("{key}=...") } else { set.clone() };
            hidden.extend((shown != *set).then(|| key.to_owned()));
            words.extend(["--set".into(), shown]);
        }
        words.extend(["replay".into(), "--resume".into(), name.into()]);
        // What the plan does not have: it is of the process that was told so.
        if args.resume.is_some() {
            words.extend(args.rate.iter().flat_map(|rate| ["--rate".to_owned(), format!("{rate}/s")]));
            words.extend(args.range.clamp.then(|| "--clamp".to_owned()));
        }
        // No argument has a NUL in it, and nothing else can't be quoted.
        Self { line: words.iter().map(|word| shlex::try_quote(word).unwrap_or_default()).collect::<Vec<_>>().join(" "), hidden }
    }
}

/// Whether a setting may hold a secret, also as a part of a table.
fn is_secret(key: &str, set: &str) -> bool {
    !key.ends_with("_file") && ["password", "url", "properties", "token"].iter().any(|word| set.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Command;
    use clap::Parser as _;

    /// The line that a process with these arguments prints.
    fn resume(arguments: &[&str]) -> Resume {
        let global = Global::parse_from([&["kafka-redis-bridge"], arguments].concat());
        let Some(Command::Replay(args)) = &global.command else { panic!("a replay") };
        Resume::of("r-1", &global, args)
    }

    /// The words that a shell makes of a line.
    fn words(line: &str) -> Vec<String> {
        let printed = std::process::Command::new("sh").args(["-c", &format!("printf '%s\\n' {line}")]).output().unwrap();
        String::from_utf8(printed.stdout).unwrap().lines().map(Into::into).collect()
    }

    #[test]
    fn a_shell_takes_the_line_as_it_was_meant() {
        let simple = resume(&["--config", "/etc/bridge.toml", "--set", "redis.lanes=4", "replay", "--from-offset", "earliest"]);
        assert_eq!(simple.line, "kafka-redis-bridge --config /etc/bridge.toml --set 'redis.lanes=4' replay --resume r-1");
        let given = ["--config", "/my files/$HOME/it's.toml", "--set", "kafka.group=a'b \"c\"; exit", "replay"];
        let odd = resume(&[given.as_slice(), &["--from-offset", "0"]].concat());
        assert_eq!(words(&odd.line), [&["kafka-redis-bridge"], given.as_slice(), &["--resume", "r-1"]].concat());
    }

    #[test]
    fn no_secret_stands_in_the_line_and_what_is_left_out_is_named() {
        for set in ["redis.password=s3cret", "redis.url=redis://:s3cret@h", "kafka.properties={\"sasl.password\"=\"s3cret\"}", "redis={password=\"s3cret\"}"] {
            let Resume { line, hidden } = resume(&["--set", set, "replay", "--from-offset", "0"]);
            let key = set.split('=').next().unwrap();
            assert!(!line.contains("s3cret") && line.contains(&format!("--set '{key}=...'")), "{line}");
            assert_eq!(hidden, [key]);
        }
        assert_eq!(resume(&["--set", "redis.password_file=/run/pw", "replay", "--from-offset", "0"]).hidden, [""; 0]);
    }

    #[test]
    fn what_was_said_when_it_was_carried_on_is_said_again_and_what_the_plan_has_is_not() {
        let again = resume(&["replay", "--resume", "r-1", "--rate", "500", "--clamp"]);
        assert_eq!(again.line, "kafka-redis-bridge replay --resume r-1 --rate 500/s --clamp");
        let first = resume(&["replay", "--from-offset", "0", "--rate", "500", "--clamp"]);
        assert_eq!(first.line, "kafka-redis-bridge replay --resume r-1");
    }
}
