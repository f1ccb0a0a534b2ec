//! What flows into Redis can be read over HTTP, by the routes that wrote it.
use crate::support::bed::Bed;
use crate::support::daemon::{Daemon, Setup, binary};
use crate::support::http::{ask, get, raw};
use crate::support::kafka::{self, Produce};
use crate::support::process::Process;
use crate::support::redis_server::RedisServer;
use crate::support::sequence::Ticks;
use crate::support::{eventually, free_port, signal};
use serde_json::{Value, json};

const SERVE: &str = "[dead_letter]\nstream = \"bridge:dead\"\n[serve]\nenabled = true\nstreaming = \"volatility\"\n";
const TOKEN: &str = "0123456789abcdef";

fn tick(n: usize) -> String {
    format!(r#"{{"timestamp":"2025-12-06T14:00:00","price":42{n:03}.0,"realized_vol":0.35,"venue":"1"}}"#)
}

/// A bridge that serves, after ticks of some pairs were applied.
fn serving(extra: &str, ticks: &[(&str, usize)]) -> (RedisServer, Daemon, String) {
    let redis = RedisServer::start();
    let topic = kafka::topic("serve", 1);
    let payloads: Vec<(&str, String)> = ticks.iter().map(|(pair, n)| (*pair, tick(*n))).collect();
    kafka::produce(&topic, payloads.iter().map(|(pair, tick)| Produce::new(pair, tick)));
    let mut setup = Setup::new(&topic, &redis.url()).extra(&format!("{SERVE}{extra}"));
    setup.routes = setup.routes.replacen("[[route.write]]", "strings = [\"venue\"]\n[[route.write]]", 1);
    let daemon = setup.start();
    daemon.wait_settled(i64::try_from(ticks.len()).unwrap());
    (redis, daemon, topic)
}

#[test]
fn the_latest_the_history_and_the_pairs_are_what_the_routes_wrote() {
    let ticks: Vec<(&str, usize)> = (0..10).map(|n| ("BTC/USD", n)).chain([("ETH/USD", 77)]).collect();
    let (_redis, daemon, _) = serving("", &ticks);
    for path in ["/api/v1/streaming/BTC%2FUSD/latest", "/api/v1/streaming/BTC/USD/latest", "/api/v1/routes/volatility/BTC/USD/latest"] {
        let latest = get(daemon.http, path);
        assert_eq!((latest.status, latest.text().as_str(), latest.header("content-type")), (200, tick(9).as_str(), Some("application/json")), "{path}");
    }
    let history = get(daemon.http, "/api/v1/streaming/BTC/USD/history?count=3");
    let entries = history.json();
    let prices: Vec<String> = entries.as_array().unwrap().iter().map(|e| e["price"].to_string()).collect();
    assert_eq!(prices, ["42007.0", "42008.0", "42009.0"], "the last ones, oldest first, numbers as they stood");
    assert_eq!(entries[0]["venue"], "1", "the route names it a string");
    assert!(entries[0]["id"].as_str().unwrap().contains('-'));
    assert_eq!(get(daemon.http, "/api/v1/streaming/pairs").json(), json!({"pairs": ["BTC/USD", "ETH/USD"]}));
    assert_eq!(get(daemon.http, "/api/v1/routes/volatility/keys").json(), json!({"keys": ["BTC/USD", "ETH/USD"]}));
    let routes = get(daemon.http, "/api/v1/routes").json();
    assert_eq!(routes["routes"][0]["offers"], json!(["latest", "history", "live", "publish", "keys"]));
    for (path, code) in
        [("/api/v1/streaming/NEO/USD/latest", "no-data"), ("/api/v1/streaming/NEO/USD/history", "no-data"), ("/api/v1/routes/none/x/latest", "no-route")]
    {
        let absent = get(daemon.http, path);
        assert_eq!((absent.status, absent.header("content-type")), (404, Some("application/problem+json")), "{path}");
        assert_eq!(absent.json()["code"], code, "{path}");
    }
    // Beside it, the bridge's own paths.
    assert!(daemon.status().unwrap().ready);
}

/// All pages of a history, by their links.
fn pages(port: u16, first: &str) -> Vec<Vec<String>> {
    let (mut path, mut all) = (Some(first.to_owned()), Vec::new());
    while let Some(page) = path.map(|p| get(port, &p)) {
        all.push(page.json().as_array().unwrap().iter().map(|e| e["price"].to_string()).collect());
        path = page.next();
    }
    all
}

#[test]
fn a_history_is_paged_in_either_order_and_between_bounds() {
    let ticks: Vec<(&str, usize)> = (0..7).map(|n| ("K", n)).collect();
    let (redis, daemon, _) = serving("", &ticks);
    let all: Vec<String> = (0..7).map(|n| format!("42{n:03}.0")).collect();
    let asc: Vec<String> = pages(daemon.http, "/api/v1/streaming/K/history?count=3&order=asc").concat();
    assert_eq!(asc, all);
    let mut desc = pages(daemon.http, "/api/v1/streaming/K/history?count=3&order=desc").concat();
    desc.reverse();
    assert_eq!(desc, all);
    let back = pages(daemon.http, "/api/v1/streaming/K/history?count=3");
    assert_eq!(back[..3], [all[4..7].to_vec(), all[1..4].to_vec(), all[..1].to_vec()]);
    let ids: Vec<String> = redis.entries::<String>("volatility:K").into_iter().map(|(id, _)| id).collect();
    let between = get(daemon.http, &format!("/api/v1/streaming/K/history?from={}&to={}", ids[2], ids[4])).json();
    assert_eq!(between.as_array().unwrap().len(), 3);
    assert_eq!(get(daemon.http, "/api/v1/streaming/K/history?from=2199-01-01T00:00:00Z").json(), json!([]));
    let keys = get(daemon.http, "/api/v1/streaming/pairs?count=1");
    assert!(get(daemon.http, &keys.next().unwrap()).json()["pairs"].as_array().unwrap().is_empty());
}

#[test]
fn who_has_an_answer_is_told_that_nothing_changed_and_large_ones_are_compressed() {
    let ticks: Vec<(&str, usize)> = (0..100).map(|n| ("K", n)).collect();
    let (_redis, daemon, topic) = serving("", &ticks);
    let path = "/api/v1/streaming/K/latest";
    let tag = get(daemon.http, path).header("etag").unwrap().to_owned();
    let again = ask(daemon.http, "GET", path, &[("If-None-Match", &tag)], "");
    assert_eq!((again.status, again.body.len()), (304, 0));
    kafka::produce(&topic, [Produce::new("K", &tick(500))]);
    daemon.wait_settled(101);
    assert_eq!(ask(daemon.http, "GET", path, &[("If-None-Match", &tag)], "").status, 200);
    let packed = ask(daemon.http, "GET", "/api/v1/streaming/K/history", &[("Accept-Encoding", "gzip")], "");
    assert_eq!((packed.status, packed.header("content-encoding")), (200, Some("gzip")));
}

#[test]
fn the_list_of_keys_has_what_has_data_through_expiry_and_flushall() {
    let (redis, daemon, topic) = serving("", &[("A", 1), ("B", 2)]);
    let listed = || get(daemon.http, "/api/v1/streaming/pairs").json()["pairs"].clone();
    assert_eq!(listed(), json!(["A", "B"]));
    redis.command("DEL latest:A");
    assert_eq!(listed(), json!(["A", "B"]), "its stream is there");
    redis.command("DEL volatility:A");
    assert_eq!(listed(), json!(["B"]));
    let index = || {
        let keys: Vec<String> = redis::cmd("KEYS").arg("bridge:keys:*").query(&mut redis.connect()).unwrap();
        let members: Vec<String> = redis::cmd("ZRANGE").arg(&keys[0]).arg(0).arg(-1).query(&mut redis.connect()).unwrap();
        members
    };
    assert_eq!(index(), ["B"], "what has no data is taken out");
    kafka::produce(&topic, [Produce::new("A", &tick(3))]);
    daemon.wait_settled(3);
    assert_eq!(listed(), json!(["A", "B"]), "and comes again with its data");
    // Nobody lists them, and all the same they go with their data.
    redis.command("DEL latest:A volatility:A");
    eventually("A is taken out", 30, || index() == ["B"]);
}

#[test]
fn bad_input_of_any_kind_gets_a_4xx_that_names_the_field() {
    let (_redis, daemon, _) = serving("", &[("K", 1)]);
    let history = "/api/v1/streaming/K/history";
    for (query, field) in [
        ("count=0", "count"),
        ("count=1001", "count"),
        ("count=x", "count"),
        ("count=99999999999999999999", "count"),
        ("from=yesterday", "from"),
        ("to=-1", "to"),
        ("order=up", "order"),
        ("cursor=%00", "cursor"),
        ("conut=1", "query"),
        ("count=1&count=2", "count"),
    ] {
        let wrong = get(daemon.http, &format!("{history}?{query}"));
        assert_eq!((wrong.status, wrong.json()["field"].as_str()), (400, Some(field)), "{query}");
    }
    // The ends of all there is are no mistakes.
    for (query, count) in [("cursor=0-0", 0), ("order=asc&cursor=18446744073709551615-18446744073709551615", 0), ("from=0&to=18446744073709551615", 1)] {
        let page = get(daemon.http, &format!("{history}?{query}"));
        assert_eq!((page.status, page.json().as_array().unwrap().len()), (200, count), "{query}");
    }
    assert_eq!(get(daemon.http, "/api/v1/streaming/pairs?cursor=zz").json()["field"], "cursor");
    assert_eq!(get(daemon.http, "/api/v1/nothing").status, 404);
    assert_eq!(ask(daemon.http, "DELETE", "/api/v1/routes", &[], "").status, 405);
    // Keys are bytes, whatever they look like.
    for hostile in
        ["..%2F..%2Fetc%2Fpasswd", "../../../status", "%0D%0ASET%20x%20y", "*1%0D%0A%248%0D%0AFLUSHALL%0D%0A", "%00", "%FF%FE", "%", "%zz", "a%2Flatest", "''"]
    {
        let answer = get(daemon.http, &format!("/api/v1/streaming/{hostile}/latest"));
        assert_eq!((answer.status, answer.json()["code"].as_str()), (404, Some("no-data")), "{hostile}: {}", answer.text());
    }
    let large = "x".repeat(1 << 20);
    let wrong: Vec<(String, &[u16])> = vec![
        (format!("GET /api/v1/streaming/{large}/latest HTTP/1.1\r\nHost: x\r\n\r\n"), &[414, 431]),
        (format!("GET /api/v1/routes HTTP/1.1\r\nHost: x\r\nX: {large}\r\n\r\n"), &[431]),
        (format!("GET /api/v1/routes HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(200)), &[431]),
        ("GET /api/v1/routes HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n".into(), &[400]),
        ("nonsense\r\n\r\n".into(), &[400]),
        ("GET /a b HTTP/1.1\r\n\r\n".into(), &[400]),
    ];
    for (request, allowed) in wrong {
        let answer = raw(daemon.http, request.as_bytes()).map(|a| a.status);
        assert!(answer.is_some_and(|s| allowed.contains(&s)), "{:?} to {:.60}", answer, request);
    }
    assert_eq!(get(daemon.http, "/api/v1/streaming/K/latest").status, 200);
}

#[test]
fn while_redis_is_away_the_api_says_so_and_heals_by_itself() {
    let (mut redis, daemon, topic) = serving("", &[("K", 1)]);
    let path = "/api/v1/streaming/K/latest";
    assert_eq!(get(daemon.http, path).status, 200);
    redis.kill();
    let away = get(daemon.http, path);
    assert_eq!((away.status, away.header("retry-after").is_some(), away.json()["code"].as_str()), (503, true, Some("redis-away")));
    assert_eq!(get(daemon.http, "/api/v1/streaming/pairs").status, 503);
    redis.run();
    eventually("Redis is read again", 20, || get(daemon.http, path).status == 404);
    drop(topic);
    // Stopped, not gone: nobody waits longer than the API's patience.
    signal(redis.pid(), "STOP");
    assert_eq!(get(daemon.http, path).status, 503);
    signal(redis.pid(), "CONT");
    eventually("Redis is read again", 20, || get(daemon.http, path).status == 404);
}

#[test]
fn the_last_known_answer_is_given_with_its_age_where_that_is_allowed() {
    let (mut redis, daemon, _) = serving("stale = \"allow\"\n", &[("K", 1)]);
    let paths = ["/api/v1/streaming/K/latest", "/api/v1/streaming/K/history?count=5", "/api/v1/streaming/pairs", "/api/v1/routes/volatility/keys"];
    let fresh = paths.map(|path| get(daemon.http, path));
    fresh.iter().for_each(|f| assert_eq!((f.status, f.header("age"), f.header("warning")), (200, None, None)));
    redis.kill();
    for (path, fresh) in paths.iter().zip(&fresh) {
        let stale = get(daemon.http, path);
        assert_eq!((stale.status, stale.text()), (200, fresh.text()), "{path}");
        assert!(stale.header("age").is_some_and(|a| a.parse::<u64>().is_ok()) && stale.header("warning").is_some(), "{path}");
    }
    for other in ["/api/v1/streaming/OTHER/latest", "/api/v1/streaming/K/history?count=6", "/api/v1/streaming/pairs?count=1"] {
        assert_eq!(get(daemon.http, other).status, 503, "of what was never read nothing is known: {other}");
    }
    redis.run();
    eventually("Redis is read again", 20, || get(daemon.http, paths[2]).header("warning").is_none());
    assert_eq!(get(daemon.http, paths[2]).json(), json!({"pairs": []}), "it came back empty");
}

#[test]
fn tokens_scopes_rates_and_origins_are_kept() {
    let extra = format!(
        "read = \"token\"\nrequests_per_second = 1\nburst = 5\ncors_origins = [\"https://dash.example\"]\n\
         [[serve.token]]\nname = \"reader\"\nscopes = [\"read\"]\ntoken = \"{TOKEN}-read\"\n[[serve.token]]\nname = \"other\"\nscopes = [\"read\"]\ntoken = \"{TOKEN}-other\"\n"
    );
    let (_redis, daemon, _) = serving(&extra, &[("K", 1)]);
    let path = "/api/v1/streaming/K/latest";
    let bearer = format!("Bearer {TOKEN}-read");
    let unknown = get(daemon.http, path);
    assert_eq!((unknown.status, unknown.header("www-authenticate"), unknown.json()["field"].as_str()), (401, Some("Bearer"), Some("Authorization")));
    let read = ask(daemon.http, "GET", path, &[("Authorization", &bearer), ("Origin", "https://dash.example")], "");
    assert_eq!((read.status, read.header("access-control-allow-origin")), (200, Some("https://dash.example")));
    let foreign = ask(daemon.http, "GET", path, &[("Authorization", &bearer), ("Origin", "https://evil.example")], "");
    assert_eq!(foreign.header("access-control-allow-origin"), None);
    assert_eq!(ask(daemon.http, "POST", "/api/v1/streaming/K", &[("Authorization", &bearer)], "{}").status, 403);
    let statuses: Vec<u16> = (0..8).map(|_| ask(daemon.http, "GET", path, &[("Authorization", &bearer)], "").status).collect();
    assert!(statuses.contains(&429), "{statuses:?}");
    let other = ask(daemon.http, "GET", path, &[("Authorization", &format!("Bearer {TOKEN}-other"))], "");
    assert_eq!(other.status, 200, "another client has its own rate");
    assert!(daemon.log().contains("who may read: the tokens reader, other") && daemon.log().contains("who may publish: no token is set"));
    assert!(!daemon.log().contains(TOKEN));
    // The bridge's own paths are for who runs it.
    assert_eq!(get(daemon.http, "/status").status, 200);
}

#[test]
fn who_tries_tokens_or_methods_is_limited_and_the_holder_of_a_token_is_not() {
    let extra = format!("read = \"token\"\nrequests_per_second = 1\nburst = 5\n[[serve.token]]\nname = \"reader\"\nscopes = [\"read\"]\ntoken = \"{TOKEN}\"\n");
    let (_redis, daemon, _) = serving(&extra, &[("K", 1)]);
    let path = "/api/v1/streaming/K/latest";
    let asked = |method: &str, token: &str| ask(daemon.http, method, path, &[("Authorization", &format!("Bearer {token}"))], "").status;
    let tried: Vec<u16> = (0..10).map(|n| asked("GET", &format!("{TOKEN}{n}"))).collect();
    assert_eq!(tried[..5], [401; 5]);
    assert!(tried[5..].contains(&429), "{tried:?}");
    let others: Vec<u16> = (0..10).map(|n| asked(["DELETE", "PUT", "OPTIONS"][n % 3], "")).collect();
    assert!(others.contains(&429) && others.iter().all(|s| [405, 429].contains(s)), "{others:?}");
    assert_eq!(asked("GET", TOKEN), 200, "it has its own rate");
}

#[test]
fn a_page_of_an_origin_that_is_named_may_ask_and_sees_what_the_headers_say() {
    let (_redis, daemon, _) = serving("cors_origins = [\"https://dash.example\"]\n", &[("K", 1)]);
    let listed = |answer: &crate::support::http::Answer, name: &str| -> Vec<String> {
        answer.header(name).unwrap_or_default().split(',').map(|h| h.trim().to_lowercase()).filter(|h| !h.is_empty()).collect()
    };
    let preflight = |origin: &str| {
        let headers = [("Origin", origin), ("Access-Control-Request-Method", "POST"), ("Access-Control-Request-Headers", "authorization,idempotency-key")];
        ask(daemon.http, "OPTIONS", "/api/v1/streaming/K", &headers, "")
    };
    let allowed = preflight("https://dash.example");
    assert_eq!((allowed.status, allowed.header("access-control-allow-origin")), (200, Some("https://dash.example")));
    assert_eq!(listed(&allowed, "access-control-allow-methods"), ["get", "post"]);
    for name in ["authorization", "content-type", "idempotency-key", "if-none-match", "last-event-id"] {
        assert!(listed(&allowed, "access-control-allow-headers").iter().any(|h| h == name), "{name}");
    }
    assert_eq!(preflight("https://evil.example").header("access-control-allow-origin"), None);
    // What is refused is seen, too.
    for (path, status) in [("/api/v1/streaming/K/latest", 200), ("/api/v1/streaming/NONE/latest", 404)] {
        let answer = ask(daemon.http, "GET", path, &[("Origin", "https://dash.example")], "");
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (status, Some("https://dash.example")));
        for name in ["age", "etag", "idempotency-replayed", "link", "retry-after", "warning", "www-authenticate"] {
            assert!(listed(&answer, "access-control-expose-headers").iter().any(|h| h == name), "{name}");
        }
    }
}

#[test]
fn the_api_runs_as_a_process_of_its_own_and_answers_by_its_document() {
    let redis = RedisServer::start();
    let topic = kafka::topic("serve", 1);
    kafka::produce(&topic, [Produce::new("BTC/USD", &tick(1))]);
    let port = free_port();
    let setup = Setup::new(&topic, &redis.url()).extra(&format!("[serve]\nindex = true\nlisten = \"127.0.0.1:{port}\"\n"));
    let daemon = setup.start();
    daemon.wait_settled(1);
    assert_eq!(get(daemon.http, "/api/v1/streaming/pairs").status, 404, "the bridge itself does not serve");
    let mut server = Process::start(std::process::Command::new(binary()).arg("--config").arg(daemon.config()).arg("serve").stderr(std::process::Stdio::null()));
    eventually("the API listens", 20, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    assert_eq!(get(port, "/api/v1/streaming/pairs").json(), json!({"pairs": ["BTC/USD"]}));
    // The page is here too, and hears that the state is elsewhere.
    assert_eq!((get(port, "/").status, get(port, "/status").status), (200, 404));
    let document: Value = get(port, "/api/v1/openapi.json").json();
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 13);
    for path in paths.keys().filter(|p| paths[*p].get("get").is_some() && !p.ends_with("live")) {
        let filled = path.replace("{pair}", "BTC%2FUSD").replace("{route}", "volatility").replace("{key}", "BTC%2FUSD");
        assert_eq!(get(port, &filled).status, 200, "{filled}");
    }
    signal(server.id(), "TERM");
    assert!(server.ended().success());
}

#[test]
fn the_page_is_served_with_a_strict_policy_and_names_no_other_host() {
    let (_redis, daemon, _) = serving("read = \"nobody\"\n", &[("K", 1)]);
    let page = get(daemon.http, "/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let text = page.text();
    let named: Vec<&str> = ["src=\"", "href=\""].iter().flat_map(|a| text.split(a).skip(1)).filter_map(|rest| rest.split('"').next()).collect();
    let files = ["/page.css", "/page.js", "/page.svg"];
    for file in files {
        assert!(named.contains(&&file[1..]), "{file} among {named:?}");
    }
    for inline in ["<style", "style=", "<script>", "onclick", "onload"] {
        assert!(!text.contains(inline), "the policy lets nothing inline through: {inline}");
    }
    for path in files.into_iter().chain(["/"]) {
        let part = get(daemon.http, path);
        let policy = part.header("content-security-policy").unwrap();
        for rule in ["default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"] {
            assert!(policy.contains(rule), "{path}: {rule} in {policy}");
        }
        assert!(!policy.contains("unsafe") && part.header("x-content-type-options") == Some("nosniff"), "{path}");
        let text = part.text().replace("http://www.w3.org/2000/svg", "");
        assert!(part.status == 200 && !text.contains("://") && !text.contains("url("), "{path} names another host");
        for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"] {
            assert!(!text.contains(way), "{path}: {way}");
        }
    }
    // It holds no data: those are under the API's rules.
    assert_eq!(get(daemon.http, "/api/v1/routes").status, 403);
    assert_eq!(ask(daemon.http, "POST", "/", &[], "").status, 405);
    assert!(daemon.status().unwrap().ready, "and /status is still the bridge's");
}

#[test]
fn a_job_adds_the_keys_that_it_fills_to_the_index_and_none_that_it_writes_elsewhere() {
    let mut bed = Bed::new(1);
    bed.setup = bed.setup.clone().extra("[serve]\nindex = true\nstreaming = \"volatility\"\n");
    Ticks::default().produce(&bed.topic, 30, 3);
    let indexed = || redis::cmd("ZCARD").arg(format!("bridge:keys:{}:volatility", bed.setup.group)).query::<i64>(&mut bed.redis.connect()).unwrap();
    bed.replay(&["--from-offset", "earliest", "--target-prefix", "x:"]);
    assert_eq!((bed.redis.entries::<String>("x:volatility:P0/USD").len(), indexed()), (10, 0));
    bed.replay(&["--from-offset", "earliest"]);
    assert_eq!(indexed(), 3);
}
