//! The demo: what a person sees of it, and what is left of it.
use crate::support::daemon::binary;
use crate::support::http::{Events, get};
use crate::support::process::{self, Lines, Process};
use crate::support::redis_server::RedisServer;
use crate::support::{eventually, signal};
use std::process::{Command, Stdio};

#[test]
fn the_demo_opens_with_the_address_of_a_page_whose_data_are_there() {
    let redis = RedisServer::start();
    let mut demo = Process::start(Command::new(binary()).args(["demo", "--rate", "200", "--redis", &redis.url()]).stdout(Stdio::piped()).stderr(Stdio::null()));
    let mut lines = Lines::of(demo.stdout.take().unwrap());
    let port: u16 = std::iter::from_fn(|| lines.next("the page's address"))
        .find_map(|l| l.strip_prefix("watch it at http://127.0.0.1:")?.strip_suffix('/')?.parse().ok())
        .expect("the page's address");
    let page = get(port, "/");
    assert!(page.status == 200 && page.text().contains("page.js"), "{}", page.text());
    let mut live = Events::open(port, "/api/v1/streaming/live", None);
    assert!(live.update().unwrap().data.contains("realized_vol"));
    let routes = get(port, "/api/v1/routes").json();
    let fixed = &routes["routes"][0]["fixed"][0];
    assert_eq!((fixed["key"].as_str(), &fixed["offers"]), (Some("alerts"), &serde_json::json!(["history", "live"])), "{routes}");
    let partitions = || get(port, "/status").json()["partitions"].as_array().unwrap().iter().filter(|p| p["position"].as_i64() > Some(0)).count();
    eventually("every partition gets ticks", 20, || partitions() == 4);
    let again = format!("watch it at http://127.0.0.1:{port}/");
    let found = std::iter::from_fn(|| lines.next("the page's address, once more")).find(|l| *l == again);
    assert!(found.is_some(), "it has scrolled away");
    signal(demo.id(), "TERM");
    assert!(lines.rest("what the demo came to").last().unwrap().contains("ticks are in Redis, each once"));
    assert_eq!(demo.ended().code(), Some(0));
}

#[test]
fn the_demo_runs_drains_and_leaves_nothing_behind() {
    let redis = RedisServer::start();
    let run = |extra: &[&str]| process::output(Command::new(binary()).args(["demo", "--seconds", "6", "--rate", "500"]).args(extra));
    let output = run(&["--redis", &redis.url()]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}\n{said}");
    assert!(!said.contains("librdkafka"), "that its broker ends with it is no error: {said}");
    for expected in ["watch it at http://127.0.0.1:", "XREVRANGE volatility:BTC/USD", "records/s", "lag", "ticks are in Redis, each once", "0 dead letters"] {
        assert!(text.contains(expected), "missing: {expected}\nin:\n{text}");
    }
    // At the other end of a pipe there is no colour; and nothing that has to be copied is broken by an 80 columns wide terminal.
    assert!(!text.contains('\u{1b}'), "{text}");
    let wide: Vec<&str> = text.lines().filter(|l| l.chars().count() > 80).collect();
    assert!(wide.is_empty(), "{wide:#?}");
    assert!(text.lines().filter(|l| l.contains("curl ")).all(|l| l.ends_with('\'')), "a shell may make something of a `?`: {text}");
    let left: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut redis.connect()).unwrap();
    assert_eq!(left, Vec::<String>::new());
    redis.command("SET latest:BTC/USD mine");
    let output = run(&["--redis", &redis.url()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("already holds latest:BTC/USD"));
    let kept: String = redis::cmd("GET").arg("latest:BTC/USD").query(&mut redis.connect()).unwrap();
    assert_eq!(kept, "mine");
}

#[test]
fn the_demo_names_the_program_as_it_can_be_called_from_the_same_folder() {
    let redis = RedisServer::start();
    let mut demo = Process::start(Command::new(binary()).args(["demo", "--redis", &redis.url()]).stdout(Stdio::piped()).stderr(Stdio::null()));
    let mut lines = Lines::of(demo.stdout.take().unwrap());
    let line = std::iter::from_fn(|| lines.next("how to ask for the status")).find(|l| l.contains(" status --address ")).expect("the line");
    assert!(line.starts_with("  target/"), "it is below this folder: {line}");
    let answer = process::output(Command::new("sh").args(["-c", &line]));
    assert!(answer.status.success() && String::from_utf8_lossy(&answer.stdout).contains("exactly-once"), "{line}: {answer:?}");
}

#[test]
fn the_demo_has_colours_on_a_terminal_unless_no_color_is_set() {
    let redis = RedisServer::start();
    let line = format!("{} demo --seconds 2 --redis {}", binary().display(), redis.url());
    for (no_color, coloured) in [("", true), ("1", false)] {
        let output = process::output(Command::new("script").args(["-qec", &line, "/dev/null"]).env("NO_COLOR", no_color));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains("watch it at"), "{text}");
        assert_eq!(text.contains("\u{1b}["), coloured, "{text}");
    }
}
