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
    const FOREIGN: [&str; 20] = [
        "tokio",
        "rdkafka",
        "redis::",
        "axum",
        "crossbeam",
        "tracing",
        "rand::",
        "jiff",
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
fn the_generated_pages_are_fresh() {
    use kafka_redis_bridge::config::reference;
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    assert!(read("docs/configuration.md") == reference::page(), "stale: make reference");
    assert!(read("config/schema.json") == format!("{:#}\n", reference::schema()), "stale: make reference");
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
