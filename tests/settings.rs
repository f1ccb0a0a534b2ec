//! No setting is ignored without a word: every key of the configuration and every flag is read by the code, or is refused.
use crate::support::command::{REFERENCE, err, run};
use clap::CommandFactory as _;
use kafka_redis_bridge::cli;
use kafka_redis_bridge::config::reference;
use serde_json::Value;
use std::path::Path;

/// The code below a folder, but for the files that only declare.
fn code(folder: &str, but: &[&str]) -> String {
    fn read(folder: &Path, but: &[&str], all: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            if entry.is_dir() {
                read(&entry, but, all);
            } else if !but.iter().any(|file| entry.ends_with(file)) {
                *all += &std::fs::read_to_string(&entry).unwrap();
            }
        }
    }
    let mut all = String::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), but, &mut all);
    all
}

/// Whether a field is read, as `.name`, or taken by a pattern.
fn is_read(code: &str, name: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    [format!(".{name}"), format!("{{ {name}"), format!(", {name}")]
        .iter()
        .any(|text| code.match_indices(text.as_str()).any(|(at, _)| ends(&code[at + text.len()..])))
}

/// Adds the keys below a node of the schema that hold a value.
fn leaves(schema: &Value, node: &Value, path: &str, found: &mut Vec<String>) {
    let node = match node["$ref"].as_str() {
        Some(name) => &schema["$defs"][name.rsplit('/').next().unwrap()],
        None => node,
    };
    if let Some(all) = node["properties"].as_object() {
        all.iter().for_each(|(name, below)| leaves(schema, below, &format!("{path}.{name}"), found));
    } else if node["type"] == "array" && !node["items"]["$ref"].is_null() {
        leaves(schema, &node["items"], path, found);
    } else {
        found.push(path.to_owned());
    }
}

#[test]
fn every_key_of_the_configuration_is_read_by_the_code() {
    let (schema, code, mut keys) = (reference::schema(), code("src", &["config/mod.rs"]), Vec::new());
    leaves(schema, schema, "", &mut keys);
    assert!(keys.len() > 70, "the schema was read: {keys:?}");
    for key in keys {
        assert!(is_read(&code, key.rsplit('.').next().unwrap()), "nothing reads {key}");
    }
    assert!(!is_read(&code, "gruop"));
}

#[test]
fn every_flag_is_read_by_its_command_or_refused() {
    let code = code("src/cli", &[]);
    let command = cli::Args::command();
    let mut asked = 0;
    for one in command.get_subcommands().chain([&command]) {
        // Those that only say what to use are refused when they are parsed.
        for arg in one.get_arguments().filter(|a| !a.is_hide_set()) {
            asked += 1;
            assert!(is_read(&code, arg.get_id().as_str()), "{} --{}: nothing reads it", one.get_name(), arg.get_id());
        }
    }
    assert!(asked > 40, "{asked} flags");
}

#[test]
fn a_flag_that_could_do_nothing_is_refused_by_name() {
    for (args, expected) in [
        (&["schema", "--set", "redis.lanes=4"][..], "schema reads no configuration"),
        (&["--config", REFERENCE, "schema"], "schema reads no configuration"),
        (&["serve", "--openapi", "--set", "redis.lanes=4"], "serve --openapi reads no configuration"),
        (&["status", "--address", "127.0.0.1:1", "--config", REFERENCE], "status --address reads no configuration"),
        (&["demo", "--set", "redis.lanes=4"], "--set"),
        (&["check", "--connect", "--record", "-"], "cannot be used with"),
        (&["check", "--key", "k"], "--record"),
        (&["run", "--from-offset", "5"], "the bridge begins at its own position"),
        (&["schema", "--markdown", "--output", "json"], "--markdown is no JSON"),
    ] {
        let output = run(args, &[], "");
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", err(&output));
        assert!(err(&output).contains(expected), "{args:?}: missing {expected:?} in:\n{}", err(&output));
    }
}
