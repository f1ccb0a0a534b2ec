//! What a route writes under one name for all records, such as a stream of alerts, is read by that name.
use crate::support::daemon::{Daemon, Setup};
use crate::support::http::{Events, ask, get};
use crate::support::kafka::{self, Produce};
use crate::support::redis_server::RedisServer;
use serde_json::json;

/// Alerts as the documentation has them: writes with a condition.
const ALERTS: &str = r#"
[[route.write]]
when = "value.vol > 0.50"
xadd = { key = "alerts", fields = { pair = "{key}", vol = "{value.vol}" }, maxlen = 100 }
[[route.write]]
when = "value.vol > 0.50"
publish = { channel = "alerts:{key}", message = "{payload}" }
[[route.write]]
set = { key = "last", value = "{payload}" }
"#;

fn serving() -> (RedisServer, Daemon, String) {
    let redis = RedisServer::start();
    let topic = kafka::topic("fixed", 1);
    let serve = "[dead_letter]\nstream = \"bridge:dead\"\n[serve]\nenabled = true\npublish = \"loopback\"\n";
    let mut setup = Setup::new(&topic, &redis.url()).extra(serve);
    setup.routes += ALERTS;
    let daemon = setup.start();
    daemon.wait_ready();
    (redis, daemon, topic)
}

fn tick(vol: &str) -> String {
    format!(r#"{{"vol":{vol}}}"#)
}

#[test]
fn alerts_are_read_and_followed_as_they_fire_and_a_reconnect_misses_none() {
    let (_redis, daemon, topic) = serving();
    let path = "/api/v1/routes/volatility/alerts";
    let mut events = Events::open(daemon.http, &format!("{path}/live"), None);
    assert_eq!(events.next().unwrap().name, "open");
    let produce = |ticks: &[(&str, &str)]| {
        kafka::produce(&topic, ticks.iter().map(|(pair, vol)| (pair, tick(vol))).collect::<Vec<_>>().iter().map(|(pair, tick)| Produce::new(pair, tick)))
    };
    produce(&[("BTC/USD", "0.51"), ("BTC/USD", "0.50"), ("ETH/USD", "0.60")]);
    let told = |data: &str| serde_json::from_str::<serde_json::Value>(data).unwrap();
    let first = events.update().unwrap();
    assert_eq!((told(&first.data)["key"].as_str(), &told(&first.data)["entry"]["pair"]), (Some("alerts"), &json!("BTC/USD")));
    assert_eq!(told(&events.update().unwrap().data)["entry"]["vol"], json!(0.60));
    drop(events);
    produce(&[("NEO/USD", "0.70"), ("NEO/USD", "0.10")]);
    daemon.wait_settled(5);
    let mut events = Events::open(daemon.http, &format!("{path}/live"), Some(&first.id));
    let missed: Vec<_> = (0..2).map(|_| told(&events.update().unwrap().data)["entry"]["pair"].clone()).collect();
    assert_eq!(missed, [json!("ETH/USD"), json!("NEO/USD")]);
    let history = get(daemon.http, &format!("{path}/history?count=2")).json();
    assert_eq!(history.as_array().unwrap().iter().map(|e| e["vol"].clone()).collect::<Vec<_>>(), [json!(0.60), json!(0.70)]);
    assert_eq!(get(daemon.http, "/api/v1/routes/volatility/last/latest").text(), tick("0.10"));
    let routes = get(daemon.http, "/api/v1/routes").json();
    let fixed = &routes["routes"][0]["fixed"];
    assert_eq!((fixed[0]["key"].as_str(), &fixed[0]["offers"]), (Some("alerts"), &json!(["history", "live"])));
    assert_eq!((fixed[1]["key"].as_str(), &fixed[1]["offers"]), (Some("last"), &json!(["latest"])));
    let lacking = get(daemon.http, &format!("{path}/latest"));
    assert_eq!((lacking.status, lacking.json()["code"].as_str()), (404, Some("not-offered")), "{}", lacking.text());
}

#[test]
fn a_record_whose_key_is_such_a_name_is_published_and_read_all_the_same() {
    let (_redis, daemon, _) = serving();
    assert_eq!(ask(daemon.http, "POST", "/api/v1/routes/volatility/alerts", &[], &tick("0.10")).status, 201);
    daemon.wait_settled(1);
    assert_eq!(get(daemon.http, "/api/v1/streaming/alerts/latest").text(), tick("0.10"));
    assert_eq!(get(daemon.http, "/api/v1/routes/volatility/keys").json(), json!({"keys": ["alerts"]}));
    let alerts = get(daemon.http, "/api/v1/routes/volatility/alerts/history");
    assert_eq!((alerts.status, alerts.json()), (200, json!([])), "the route's own name comes first, and there was no alert");
}
