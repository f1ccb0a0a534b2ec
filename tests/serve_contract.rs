//! The API keeps what its OpenAPI document says, whatever schemathesis makes of that.
use crate::support::daemon::Setup;
use crate::support::http::ask;
use crate::support::kafka::{self, Produce};
use crate::support::process;
use crate::support::redis_server::RedisServer;
use std::process::Command;

const READ: &str = "read-0123456789abcdef";
const PUBLISH: &str = "publish-0123456789abcdef";

fn serve() -> String {
    let token = |name: &str, token: &str| format!("[[serve.token]]\nname = \"{name}\"\nscopes = [\"{name}\"]\ntoken = \"{token}\"\n");
    let tokens = token("read", READ) + &token("publish", PUBLISH);
    format!("[dead_letter]\nstream = \"bridge:dead\"\n[serve]\nenabled = true\nread = \"token\"\npublish = \"token\"\n{tokens}")
}

#[test]
fn the_api_answers_by_its_document_whatever_is_asked() {
    let redis = RedisServer::start();
    let topic = kafka::topic("contract", 1);
    kafka::produce(&topic, (0..20).map(|n| ["BTC/USD", "0"][n % 2]).map(|pair| Produce::new(pair, r#"{"price":42000.0}"#)));
    let daemon = Setup::new(&topic, &redis.url()).extra(&serve()).start();
    daemon.wait_settled(20);
    let folder = tempfile::tempdir().unwrap();
    let root = env!("CARGO_MANIFEST_DIR");
    let schemathesis = format!("{root}/target/testbed/python/bin/schemathesis");
    let mut command = Command::new(&schemathesis);
    command.current_dir(folder.path()).args(["--config-file", &format!("{root}/tests/python/schemathesis.toml"), "run"]);
    let get = |path: &str, token: &str| ask(daemon.http, "GET", path, &[("Authorization", &format!("Bearer {token}"))], "");
    let document = folder.path().join("openapi.json");
    std::fs::write(&document, get("/api/v1/openapi.json", READ).body).unwrap();
    command.arg(document).args(["--url", &format!("http://127.0.0.1:{}", daemon.http)]);
    command.env("READ_TOKEN", READ).env("PUBLISH_TOKEN", PUBLISH);
    command.env("PYTHONPATH", format!("{root}/tests/python")).env("PYTHONDONTWRITEBYTECODE", "1");
    let output = process::output(&mut command);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("13 selected / 13 total"), "each path was tried: {said}");
    // Each had to come with its own token.
    assert_eq!([READ, PUBLISH, ""].map(|token| get("/api/v1/routes", token).status), [200, 403, 401]);
    assert!(daemon.settled() > 20, "something was published");
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
}
