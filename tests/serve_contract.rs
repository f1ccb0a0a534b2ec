//! The API keeps what its OpenAPI document says, whatever schemathesis makes of that.
use crate::support::daemon::Setup;
use crate::support::http::get;
use crate::support::kafka::{self, Produce};
use crate::support::redis_server::RedisServer;
use std::process::Command;

const SERVE: &str = "[dead_letter]\nstream = \"bridge:dead\"\n[serve]\nenabled = true\npublish = \"loopback\"\n";

#[test]
fn the_api_answers_by_its_document_whatever_is_asked() {
    let redis = RedisServer::start();
    let topic = kafka::topic("contract", 1);
    kafka::produce(&topic, (0..20).map(|n| ["BTC/USD", "0"][n % 2]).map(|pair| Produce::new(pair, r#"{"price":42000.0}"#)));
    let daemon = Setup::new(&topic, &redis.url()).extra(SERVE).start();
    daemon.wait_settled(20);
    let folder = tempfile::tempdir().unwrap();
    let root = env!("CARGO_MANIFEST_DIR");
    let schemathesis = format!("{root}/target/testbed/python/bin/schemathesis");
    let mut command = Command::new(&schemathesis);
    command.current_dir(folder.path()).args(["--config-file", &format!("{root}/tests/python/schemathesis.toml"), "run"]);
    command.arg(format!("http://127.0.0.1:{}/api/v1/openapi.json", daemon.http));
    command.env("PYTHONPATH", format!("{root}/tests/python")).env("PYTHONDONTWRITEBYTECODE", "1");
    let output = command.output().unwrap_or_else(|e| panic!("{e}: {schemathesis}: scripts/install test"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("13 selected / 13 total"), "each path was tried: {said}");
    assert_eq!(get(daemon.http, "/api/v1/routes").status, 200);
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
}
