//! What must hold of the tree itself.
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
        if entry.is_dir() {
            found.extend(sources(&entry));
        } else if entry.extension().is_some_and(|e| e == "rs") {
            found.push(entry);
        }
    }
    found
}

#[test]
fn the_core_imports_no_io_no_clock_no_chance_and_nothing_of_the_shells() {
    const FOREIGN: [&str; 21] = [
        "tokio",
        "rdkafka",
        "redis::",
        "axum",
        "crossbeam",
        "tracing",
        "rand::",
        "Timestamp::now",
        "Zoned::now",
        "std::fs",
        "std::net",
        "std::env",
        "std::thread",
        "std::process",
        "std::io::std",
        "time::Instant",
        "SystemTime",
        "crate::kafka",
        "crate::sink",
        "crate::ops",
        "crate::config",
    ];
    let files = sources(&root().join("src/core"));
    assert!(files.len() > 15, "the core was found");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for (n, line) in text.lines().enumerate().filter(|(_, l)| !l.trim_start().starts_with("//")) {
            for word in FOREIGN {
                assert!(!line.contains(word), "{}:{}: the core must not use {word}: {line}", file.display(), n + 1);
            }
        }
    }
}

#[test]
fn dependencies_between_the_shells_point_one_way() {
    for (folder, forbidden) in [
        ("config", ["crate::kafka", "crate::sink", "crate::app"]),
        ("sink", ["crate::kafka", "crate::cli", "rdkafka::"]),
        ("ops", ["crate::kafka", "crate::sink", "crate::app"]),
    ] {
        for file in sources(&root().join("src").join(folder)) {
            let text = std::fs::read_to_string(&file).unwrap();
            for word in forbidden {
                assert!(!text.contains(word), "{} must not use {word}", file.display());
            }
        }
    }
}

#[test]
fn the_images_build_gets_every_target_of_the_manifest_and_every_file_that_the_code_includes() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    assert!(read("Dockerfile").contains("\nCOPY . .\n"), "the build takes what .dockerignore lets through");
    let ignored = read(".dockerignore");
    let (all, admitted): (Vec<&str>, Vec<&str>) = ignored.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).partition(|l| !l.starts_with('!'));
    assert_eq!(all, ["*"], "nothing is taken out again of what is let through");
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let (mut needed, mut targets) = (vec!["Cargo.toml".to_owned(), "Cargo.lock".into(), "src/main.rs".into(), "src/lib.rs".into()], 0);
    for (kind, folder) in [("test", "tests"), ("bench", "benches"), ("bin", "src/bin"), ("example", "examples")] {
        for target in manifest.get(kind).and_then(toml::Value::as_array).into_iter().flatten() {
            let path = target.get("path").and_then(toml::Value::as_str).map(str::to_owned);
            needed.push(path.unwrap_or_else(|| format!("{folder}/{}.rs", target["name"].as_str().unwrap())));
            targets += 1;
        }
    }
    needed.extend(manifest["package"].get("build").and_then(toml::Value::as_str).map(str::to_owned));
    assert!(targets >= 2, "the targets were found");
    for file in sources(&root().join("src")) {
        let text = std::fs::read_to_string(&file).unwrap();
        for included in text.split("include_str!(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            let path = file.parent().unwrap().join(included).canonicalize().unwrap();
            needed.push(path.strip_prefix(root().canonicalize().unwrap()).unwrap().to_str().unwrap().to_owned());
        }
    }
    for path in needed {
        assert!(root().join(&path).exists(), "{path} is missing");
        assert!(admitted.contains(&format!("!{}", path.split('/').next().unwrap()).as_str()), ".dockerignore keeps {path} out of the image's build");
    }
}

#[test]
fn the_unit_starts_no_process_whose_failure_would_be_tried_again_for_ever() {
    let unit = std::fs::read_to_string(root().join("systemd/kafka-redis-bridge.service")).unwrap();
    // RestartPreventExitStatus looks at the main process alone.
    assert!(unit.contains("\nRestartPreventExitStatus=78"));
    assert!(!unit.lines().any(|l| l.starts_with("ExecStartPre=")));
}

#[test]
fn the_generated_pages_are_fresh() {
    use kafka_redis_bridge::config::reference;
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    assert!(read("docs/configuration.md") == reference::page(), "stale: make reference");
    assert!(read("docs/openapi.json") == format!("{}\n", kafka_redis_bridge::serve::document()), "stale: make reference");
    assert!(read("config/schema.json") == format!("{:#}\n", reference::schema()), "stale: make reference");
}

/// What a reader of the pages could not follow.
#[test]
fn the_generated_pages_have_no_links_of_rustdoc() {
    let link = regex::Regex::new(r"\[`[^`\]]*`\](?:[^(]|$)|\[[^\]]*::[^\]]*\]|(?:super|crate|self)::").unwrap();
    for path in ["docs/configuration.md", "docs/openapi.json", "config/schema.json"] {
        let text = std::fs::read_to_string(root().join(path)).unwrap();
        let found: Vec<&str> = link.find_iter(&text).map(|m| m.as_str()).collect();
        assert!(found.is_empty(), "{path}: {found:?}");
    }
}

#[test]
fn every_default_of_the_reference_configuration_is_the_default_of_the_code() {
    use kafka_redis_bridge::config::{Config, load, validate};
    let loaded = load::load_text(&std::fs::read_to_string(root().join("config/bridge.toml")).unwrap(), "config/bridge.toml", &[]).unwrap();
    let config = validate::validate(&loaded).unwrap().config;
    let mut expected = Config::default();
    expected.route.clone_from(&config.route);
    expected.dead_letter.stream = "bridge:dead".into();
    expected.kafka.properties.clone_from(&config.kafka.properties);
    assert_eq!(serde_json::to_value(&config).unwrap(), serde_json::to_value(&expected).unwrap());
}

#[test]
fn every_mutant_of_the_core_can_still_be_made() {
    let folder = root().join("tests/simulation/mutants");
    let mut edits = 0;
    for file in std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()) {
        let text = std::fs::read_to_string(&file).unwrap();
        for edit in text.split("\nfile ").skip(1) {
            let (path, rest) = edit.split_once("\n<<<<<<<\n").unwrap();
            let (replaced, _) = rest.split_once("\n=======\n").unwrap();
            let source = std::fs::read_to_string(root().join(path)).unwrap();
            assert_eq!(source.matches(replaced).count(), 1, "{}: what it replaces in {path} is to stand there once:\n{replaced}", file.display());
            edits += 1;
        }
    }
    assert!(edits > 30, "the mutants were found");
}

#[test]
fn every_code_that_a_person_is_told_stands_in_the_readme() {
    let coded = regex::Regex::new(r#"(?:code: (?:Some\()?|raise\(|alert\(|code = |Notice::new\(|halt\([a-z_]+, )"([a-z]+(?:-[a-z]+)*)""#).unwrap();
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let mut codes = std::collections::BTreeSet::new();
    for file in sources(&root().join("src")) {
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        codes.extend(coded.captures_iter(text).map(|c| c[1].to_owned()));
    }
    // Of a letter, not told by the log.
    codes.remove("outcome-unknown");
    assert!(codes.len() > 20, "the codes were found");
    for code in codes {
        assert!(readme.contains(&format!("`{code}`")), "README.md does not tell what `{code}` means");
    }
}

#[test]
fn every_event_of_a_job_stands_in_its_page() {
    let event = regex::Regex::new(r#""event": "([a-z]+)""#).unwrap();
    let page = std::fs::read_to_string(root().join("docs/replay.md")).unwrap();
    let code: String = sources(&root().join("src/cli/replay")).iter().map(|f| std::fs::read_to_string(f).unwrap()).collect();
    let events: std::collections::BTreeSet<&str> = event.captures_iter(&code).map(|c| c.get(1).unwrap().as_str()).collect();
    assert!(events.len() > 3, "the events were found: {events:?}");
    for event in events {
        assert!(page.contains(&format!("| `{event}` |")), "docs/replay.md does not tell what the event {event:?} is");
    }
}

/// The fuzz targets include the core and the configuration by their files: what those use must be there, as here.
#[test]
fn the_fuzz_targets_have_every_crate_that_the_core_and_the_configuration_use() {
    let dependencies = |manifest: &str| {
        let text = std::fs::read_to_string(root().join(manifest)).unwrap();
        toml::from_str::<toml::Table>(&text).unwrap()["dependencies"].as_table().unwrap().clone()
    };
    let version = |spec: &toml::Value| spec.get("version").unwrap_or(spec).clone();
    let (ours, theirs) = (dependencies("Cargo.toml"), dependencies("fuzz/Cargo.toml"));
    let code: String = ["src/core", "src/config"].iter().flat_map(|f| sources(&root().join(f))).map(|f| std::fs::read_to_string(f).unwrap()).collect();
    let uses = |name: &str| code.contains(&format!("{}::", name.replace('-', "_")));
    let used: Vec<_> = ours.iter().filter(|(name, _)| uses(name)).collect();
    assert!(used.len() > 10, "the crates were found: {used:?}");
    for (name, spec) in used {
        assert_eq!(theirs.get(name).map(version), Some(version(spec)), "{name} in fuzz/Cargo.toml");
    }
}
