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
fn no_test_waits_without_an_end() {
    let unbounded = regex::Regex::new(r"\.(spawn|output|wait|wait_with_output|join|recv)\(\)|\bsleep\(").unwrap();
    // The simulation waits for nothing; the campaign is no test, and runs tests that have this bound.
    let others = ["tests/simulation", "tests/campaign"].map(|folder| root().join(folder));
    for file in sources(&root().join("tests")).into_iter().filter(|f| !f.ends_with("support/process.rs") && !others.iter().any(|other| f.starts_with(other))) {
        let text = std::fs::read_to_string(&file).unwrap();
        for (n, line) in text.lines().enumerate() {
            let (place, line) = (format!("{}:{}", file.display(), n + 1), line.trim());
            assert!(!unbounded.is_match(line), "{place}: tests/support/process.rs has this wait with a bound: {line}");
        }
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

/// How a condition ends.
enum Ends {
    /// By itself, when what it comes from is over: as this test shows.
    By(&'static str),
    /// The partition halts, or is fetched no further: when it is let go, or at a restart.
    Restart(&'static str),
}
use Ends::{By, Restart};

const HALT: Ends = Restart("src/core/poller/tests.rs::a_halt_lasts_until_the_partition_is_let_go");
const CLAIMED: Ends = By("src/core/poller/tests.rs::what_a_partition_is_in_doubt_of_is_over_when_it_is_claimed_again");

/// Each condition, the test that shows that it begins, and how it ends. A test is a file and a function in it.
const CONDITIONS: [(&str, &str, Ends); 31] = [
    (
        "bug",
        "src/core/poller/tests.rs::a_range_that_does_not_continue_the_ledger_is_a_bug",
        Restart("src/core/poller/tests.rs::a_range_that_does_not_continue_the_ledger_is_a_bug"),
    ),
    ("dead-letter-refused", "tests/dead_letters.rs::a_letter_that_can_not_be_written_halts_and_is_not_lost", HALT),
    (
        "dead-letter-waits",
        "tests/dead_letters.rs::a_dead_letter_topic_that_is_not_there_holds_up_only_the_partitions_that_owe_letters",
        By("tests/refused.rs::producers_that_kafka_refused_go_on_when_they_are_allowed_to_write"),
    ),
    ("fenced", "src/core/poller/tests.rs::what_a_partition_is_in_doubt_of_is_over_when_it_is_claimed_again", CLAIMED),
    (
        "group-refused",
        "tests/group_errors.rs::what_kafka_refuses_is_named_within_ten_seconds_and_over_when_it_does_so_no_more",
        By("tests/group_errors.rs::what_kafka_refuses_is_named_within_ten_seconds_and_over_when_it_does_so_no_more"),
    ),
    (
        "group-waits",
        "tests/group.rs::while_a_dead_member_is_waited_for_that_is_said_with_how_long_it_can_take",
        By("src/core/membership.rs::a_wait_for_other_members_is_told_after_three_seconds_with_its_bound_and_is_over_when_joined"),
    ),
    ("history-gone", "tests/failures.rs::records_that_kafka_deleted_unread_halt_their_partition_by_name", HALT),
    ("kafka-corrupt", "tests/campaign/alone/kafka.rs::corrupt_batch", Restart("tests/campaign/alone/kafka.rs::corrupt_batch")),
    (
        "kafka-errors",
        "src/core/membership.rs::errors_that_pass_are_told_where_they_last_and_over_when_no_more_come",
        By("src/core/membership.rs::errors_that_pass_are_told_where_they_last_and_over_when_no_more_come"),
    ),
    (
        "kafka-refused",
        "tests/secured.rs::kafka_by_ssl_and_sasl_through_its_properties",
        By("tests/refused.rs::what_kafka_refuses_ends_by_itself_when_the_right_is_given_back"),
    ),
    (
        "kafka-unanswered",
        "src/core/poller/tests.rs::what_a_claim_or_a_lane_meets_is_over_when_it_gets_through",
        By("src/core/poller/tests.rs::what_a_claim_or_a_lane_meets_is_over_when_it_gets_through"),
    ),
    (
        "kafka-unsupported",
        "tests/group_errors.rs::what_kafka_refuses_is_named_within_ten_seconds_and_over_when_it_does_so_no_more",
        By("tests/group_errors.rs::what_kafka_refuses_is_named_within_ten_seconds_and_over_when_it_does_so_no_more"),
    ),
    (
        "no-partitions",
        "tests/group.rs::a_bridge_that_stands_by_says_so_is_ready_and_takes_over",
        By("tests/group.rs::a_bridge_that_stands_by_says_so_is_ready_and_takes_over"),
    ),
    (
        "partitions-opening",
        "src/core/progress.rs::how_many_partitions_are_open_is_told_while_that_takes_long_and_then_that_it_is_over",
        By("src/core/progress.rs::how_many_partitions_are_open_is_told_while_that_takes_long_and_then_that_it_is_over"),
    ),
    (
        "kafka-unreachable",
        "tests/bad_input.rs::a_broker_that_is_not_there_at_start_is_waited_for",
        By("tests/bad_input.rs::a_broker_that_is_not_there_at_start_is_waited_for"),
    ),
    ("log-changed", "tests/failures.rs::a_recreated_topic_halts_instead_of_skipping_its_records", HALT),
    ("moved", "src/core/poller/tests.rs::what_a_partition_is_in_doubt_of_is_over_when_it_is_claimed_again", CLAIMED),
    ("poison", "tests/dead_letters.rs::without_a_place_for_letters_poison_halts_its_partition_and_no_other", HALT),
    ("rebuild-survivor", "tests/rebuild.rs::a_stream_that_survived_is_not_written_to_twice", HALT),
    (
        "redis-drops-us",
        "tests/oversized.rs::where_redis_tells_no_limit_the_record_that_it_hangs_up_on_halts_its_partition",
        By("tests/oversized.rs::where_redis_tells_no_limit_the_record_that_it_hangs_up_on_halts_its_partition"),
    ),
    (
        "redis-evicts",
        "tests/life_cycle.rs::an_eviction_policy_that_is_changed_while_running_is_told",
        By("tests/life_cycle.rs::an_eviction_policy_that_is_changed_while_running_is_told"),
    ),
    ("redis-hangs-up", "tests/oversized.rs::where_redis_tells_no_limit_the_record_that_it_hangs_up_on_halts_its_partition", HALT),
    (
        "redis-oom",
        "tests/failures.rs::a_redis_that_is_full_at_the_first_claim_is_told_and_no_readiness",
        By("tests/failures.rs::a_redis_that_is_full_at_the_first_claim_is_told_and_no_readiness"),
    ),
    (
        "redis-refused",
        "tests/secured.rs::a_password_that_was_changed_is_told_and_is_over_when_it_fits_again",
        By("tests/secured.rs::a_password_that_was_changed_is_told_and_is_over_when_it_fits_again"),
    ),
    (
        "redis-refuses",
        "tests/failures.rs::a_redis_that_refuses_whoever_connects_is_not_called_unreachable",
        By("tests/failures.rs::a_redis_that_refuses_whoever_connects_is_not_called_unreachable"),
    ),
    (
        "redis-unreachable",
        "tests/bad_input.rs::a_redis_that_is_not_there_at_start_is_waited_for",
        By("tests/bad_input.rs::a_redis_that_is_not_there_at_start_is_waited_for"),
    ),
    ("refused", "tests/campaign/alone/redis.rs::noperm", HALT),
    ("state-lost", "tests/failures.rs::a_lost_state_halts_the_next_claim_and_resumes_where_it_is_told_to", HALT),
    ("state-unreadable", "src/core/poller/tests.rs::a_halt_lasts_until_the_partition_is_let_go", HALT),
    (
        "topic-missing",
        "tests/bad_input.rs::a_topic_that_does_not_exist_yet_is_waited_for",
        By("tests/bad_input.rs::a_topic_that_does_not_exist_yet_is_waited_for"),
    ),
    ("wrong-store", "src/core/poller/tests.rs::a_halt_lasts_until_the_partition_is_let_go", HALT),
];

/// The codes of README's table of conditions.
fn conditions_of_the_readme() -> std::collections::BTreeSet<String> {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let table = readme.split("| code | means | passes by itself |").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap();
    let code = regex::Regex::new("`([a-z]+(?:-[a-z]+)*)`").unwrap();
    let first = |line: &str| line.split('|').nth(1).map(str::to_owned).unwrap_or_default();
    table.lines().map(first).flat_map(|cell| code.captures_iter(&cell).map(|c| c[1].to_owned()).collect::<Vec<_>>()).collect()
}

#[test]
fn every_condition_has_a_test_that_it_begins_and_one_that_it_ends() {
    let mut told = conditions_of_the_readme();
    // Told once, at the start.
    assert!(told.remove("redis-unchecked") && told.len() > 20, "the table was found: {told:?}");
    // A condition as well, which stands with what ends the process.
    told.insert("bug".into());
    assert_eq!(CONDITIONS.iter().map(|(code, ..)| (*code).to_owned()).collect::<std::collections::BTreeSet<_>>(), told, "README's table, and this one");
    for (code, begins, ends) in CONDITIONS {
        let (By(ends) | Restart(ends)) = ends;
        for test in [begins, ends] {
            let (file, name) = test.split_once("::").unwrap();
            let text = std::fs::read_to_string(root().join(file)).unwrap_or_default();
            let body = text.split_once(&format!("fn {name}(")).unwrap_or_else(|| panic!("{code}: there is no {test}")).1;
            let body = body.split("\n}\n").next().unwrap_or_default();
            let spelled = [format!("\"{code}\""), format!("\"+{code}\""), format!("\"-{code}\""), format!("Doubt::{}", code[..1].to_uppercase() + &code[1..])];
            assert!(spelled.iter().any(|s| body.contains(s)), "{code}: {test} does not speak of it");
        }
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
