//! Hostile keys, bodies, bytes, and clients that are slow or many: nobody else feels them, and nothing of theirs is obeyed.
use crate::support::daemon::{Daemon, Setup};
use crate::support::http::{Answer, Events, ask, get, raw};
use crate::support::redis_server::RedisServer;
use crate::support::{eventually, kafka, memory_kib};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn serving(extra: &str) -> (RedisServer, Daemon, String) {
    let redis = RedisServer::start();
    let topic = kafka::topic("hostile", 1);
    let serve = format!("[dead_letter]\nstream = \"bridge:dead\"\n[serve]\nenabled = true\npublish = \"loopback\"\n{extra}");
    let daemon = Setup::new(&topic, &redis.url()).extra(&serve).start();
    daemon.wait_ready();
    (redis, daemon, topic)
}

fn path(key: &[u8], view: &str) -> String {
    format!("/api/v1/streaming/{}{view}", percent_encode(key, NON_ALPHANUMERIC))
}

#[test]
fn a_key_of_any_bytes_is_published_listed_read_and_followed_as_it_is() {
    let (redis, daemon, _) = serving("");
    let long = vec![b'k'; 8 << 10];
    let keys: [&[u8]; 12] = [
        b"../../../etc/passwd",
        b"..",
        b"K\r\nSET x y\r\n",
        b"*1\r\n$8\r\nFLUSHALL\r\n",
        b"K\n\nevent: gap\ndata: {}\n\n",
        b"{key}{payload}",
        b"K\0",
        b"\xff\xfe/latest",
        b"%41?x=1#y",
        "<script>\u{202e}\u{2028}".as_bytes(),
        b"K/live",
        &long,
    ];
    for (n, key) in keys.iter().enumerate() {
        let posted = ask(daemon.http, "POST", &path(key, ""), &[], &format!(r#"{{"n":{n}}}"#));
        assert_eq!(posted.status, 201, "{n}: {}", posted.text());
    }
    daemon.wait_settled(12);
    for (n, key) in keys.iter().enumerate() {
        assert_eq!(get(daemon.http, &path(key, "/latest")).text(), format!(r#"{{"n":{n}}}"#), "{n}");
        assert_eq!(get(daemon.http, &path(key, "/history")).json()[0]["n"], n, "{n}");
    }
    let listed = get(daemon.http, "/api/v1/streaming/pairs").json();
    let texts: Vec<&str> = listed["pairs"].as_array().unwrap().iter().map(|k| k.as_str().unwrap()).collect();
    assert_eq!((texts.len(), listed["encoded"].as_array().unwrap().len()), (11, 1));
    assert!(keys.iter().filter_map(|k| std::str::from_utf8(k).ok()).all(|k| texts.contains(&k)), "{texts:?}");
    // All of them again, from the streams: each is one event, and none speaks out of its place.
    let mut events = Events::open(daemon.http, "/api/v1/streaming/live", Some("1-0"));
    let mut found = BTreeMap::new();
    for _ in keys {
        let event = events.next().unwrap();
        let data: serde_json::Value = serde_json::from_str(&event.data).unwrap();
        let segment = event.id.split_once('/').unwrap().1;
        let key: Vec<u8> = percent_encoding::percent_decode_str(segment).collect();
        assert_eq!(event.name, "update");
        found.insert(data["entry"]["n"].as_u64().unwrap() as usize, key);
    }
    assert!(keys.iter().enumerate().all(|(n, key)| found[&n] == *key), "{found:?}");
    let there: bool = redis::cmd("EXISTS").arg("x").query(&mut redis.connect()).unwrap();
    assert!(!there, "a key was obeyed");
}

#[test]
fn bodies_and_bytes_that_are_no_request_are_refused_and_leave_the_server_well() {
    let (_redis, daemon, topic) = serving("body_max = \"64KiB\"\n");
    let post = |body: &str| ask(daemon.http, "POST", &path(b"K", ""), &[], body);
    // As deep as a body can be.
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let depth = (60 << 10) / (open.len() + close.len());
        let deep = format!(r#"{{"deep":{}1{}}}"#, open.repeat(depth), close.repeat(depth));
        let posted = post(&deep);
        assert!([201, 422].contains(&posted.status), "{}: {}", posted.status, posted.text());
    }
    let head = "POST /api/v1/streaming/K HTTP/1.1\r\nHost: 127.0.0.1\r\n";
    let chunks = format!("{:x}\r\n{}\r\n0\r\n\r\n", 80 << 10, "x".repeat(80 << 10));
    let refused: Vec<(String, &[u16])> = vec![
        (format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}"), &[413]),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nx"), &[400]),
        (format!("{head}Content-Length: 5\r\nContent-Length: 6\r\n\r\n{{\"a\":1}}"), &[400]),
        (format!("{head}Content-Length: -1\r\n\r\n"), &[400]),
        (format!("{head}Content-Length: 99999999999999999999999\r\n\r\n"), &[400]),
        (format!("{head}Content-Length: 1073741824\r\n\r\n"), &[413]),
        ("GET /api/v1/routes HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n".into(), &[400]),
        ("GET /api/v1/routes HTTP/9.9\r\n\r\n".into(), &[400]),
    ];
    for (request, allowed) in refused {
        let answer = raw(daemon.http, request.as_bytes()).unwrap_or_else(|| panic!("no answer to {request:.120}"));
        assert!(allowed.contains(&answer.status), "{} to {request:.120}", answer.status);
        check_problem(&answer);
    }
    // What is no HTTP/1 at all: answered as wrong, or hung up on.
    for bytes in [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"*1\r\n$4\r\nPING\r\n", b"\0\0\0\0\r\n\r\n"] {
        let Some(answer) = raw(daemon.http, bytes) else { continue };
        assert_eq!((answer.status, answer.json()["code"].as_str()), (400, Some("no-request")), "{bytes:?}");
        check_problem(&answer);
    }
    let before = kafka::ends(&topic, 1)[0];
    assert_eq!(post(r#"{"a":1}"#).status, 201);
    assert_eq!(kafka::ends(&topic, 1), [before + 1], "nothing of what was refused was published");
    assert!(daemon.status().unwrap().ready && !daemon.log().contains("panicked"), "{}", daemon.log());
}

/// Errors have a body of one kind, whoever finds them.
fn check_problem(answer: &Answer) {
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{}: {}", answer.status, answer.text());
    let told = answer.json();
    assert_eq!(told["status"], answer.status, "{told}");
    assert!(["title", "code", "detail"].iter().all(|member| told[member].as_str().is_some_and(|text| text.len() > 3)), "{told}");
}

#[test]
fn a_head_of_more_than_32_kib_or_64_headers_is_refused_with_a_reason() {
    let (_redis, daemon, _) = serving("");
    let ask = |target: &str, headers: &str| raw(daemon.http, format!("GET {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes()).unwrap();
    let of = |bytes: usize| format!("X: {}\r\n", "x".repeat(bytes));
    for bytes in [0, 8 << 10, 31 << 10] {
        assert_eq!(ask("/livez", &of(bytes)).status, 200, "{bytes}");
    }
    for (what, target, headers) in [
        ("just above", "/livez".to_owned(), of(32 << 10)),
        ("40 kB", "/livez".into(), of(40_000)),
        ("what hyper itself refuses", "/livez".into(), of(200_000)),
        ("many headers", "/livez".into(), of(1).repeat(70)),
        ("a long target", format!("/{}", "x".repeat(40_000)), String::new()),
        ("a target that is longer than any", format!("/{}", "x".repeat(70_000)), String::new()),
    ] {
        let answer = ask(&target, &headers);
        assert!([414, 431].contains(&answer.status), "{what}: {}", answer.status);
        assert_eq!((answer.json()["code"].as_str(), answer.header("connection")), (Some("head-too-large"), Some("close")), "{what}");
        check_problem(&answer);
    }
}

#[test]
fn what_can_be_published_under_a_key_can_be_read_under_it_whatever_the_key() {
    let (_redis, daemon, _) = serving("");
    let plain: [&str; 12] = ["", "/", "//", "a/", "/a", "a//b", "pairs", "live", "keys", "latest", "..", "%2F"];
    let encoded: [&[u8]; 9] = [b"", b"a/latest", b"pairs/live", b"\xff\x00", b"%", b" ", b"\r\n", "\u{e9}".as_bytes(), &[b'k'; 9000]];
    let keys = plain.iter().map(|k| (*k).to_owned()).chain(encoded.iter().map(|k| percent_encode(k, NON_ALPHANUMERIC).to_string()));
    for (n, key) in keys.enumerate() {
        for base in ["/api/v1/streaming/", "/api/v1/routes/volatility/"] {
            let body = format!(r#"{{"n":"{n} {base}"}}"#);
            let posted = ask(daemon.http, "POST", &format!("{base}{key}"), &[], &body);
            assert_eq!(posted.status, 201, "POST {base}{key:.50}: {}", posted.text());
            let read = || get(daemon.http, &format!("{base}{key}/latest")).text();
            eventually(&format!("GET {base}{key:.50}/latest"), 20, || read() == body);
        }
    }
}

#[test]
fn a_field_is_shown_whatever_its_name() {
    let (_redis, daemon, _) = serving("");
    let mut live = Events::open(daemon.http, "/api/v1/streaming/K/live", None);
    assert_eq!(live.next().unwrap().name, "open");
    let posted = ask(daemon.http, "POST", &path(b"K", ""), &[], r#"{"id":"x","field.id":"y","field.n":1}"#);
    assert_eq!(posted.status, 201, "{}", posted.text());
    let told: serde_json::Value = serde_json::from_str(&live.update().unwrap().data).unwrap();
    let history = get(daemon.http, &path(b"K", "/history")).json();
    for entry in [&told["entry"], &history[0]] {
        assert_eq!([&entry["field.id"], &entry["field.field.id"], &entry["field.n"]], [&json!("x"), &json!("y"), &json!(1)], "{entry}");
        assert!(entry["id"].as_str().unwrap().ends_with("-0"), "{entry}");
    }
}

#[test]
fn those_who_never_end_their_request_hold_up_nobody_and_are_hung_up_on() {
    let (_redis, daemon, _) = serving("");
    let begun = Instant::now();
    let mut slow: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(("127.0.0.1", daemon.http)).unwrap()).collect();
    for (n, stream) in slow.iter_mut().enumerate() {
        let part = ["G", "GET /api/v1/routes HTTP/1.1\r\n", "GET /api/v1/routes HTTP/1.1\r\nHost: x\r\nX-", ""][n % 4];
        stream.write_all(part.as_bytes()).unwrap();
    }
    // One byte a second: that is no end either.
    let mut drip = TcpStream::connect(("127.0.0.1", daemon.http)).unwrap();
    drip.write_all(b"GET /api/v1/routes HTTP/1.1\r\nX-Slow: ").unwrap();
    drip.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    for _ in 0..100 {
        assert_eq!(get(daemon.http, "/api/v1/routes").status, 200);
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "others wait");
    while drip.write_all(b"x").is_ok() {
        match drip.read(&mut [0; 1024]) {
            Err(e) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&e.kind()) => assert!(begun.elapsed() < Duration::from_secs(90), "it is not ended"),
            _ => break,
        }
    }
    for stream in &mut slow {
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut rest = Vec::new();
        // What it is told first does not matter; that it ends, does.
        let end = stream.read_to_end(&mut rest).map_err(|e| e.kind());
        assert!(end.is_ok() || end == Err(ErrorKind::ConnectionReset), "{end:?}");
    }
}

#[test]
fn those_who_do_not_read_their_answers_cost_a_bounded_memory_and_nobody_else_waits() {
    let (_redis, daemon, _) = serving("");
    let filler = "x".repeat(900 << 10);
    assert_eq!(ask(daemon.http, "POST", &path(b"K", ""), &[], &format!(r#"{{"filler":"{filler}"}}"#)).status, 201);
    daemon.wait_settled(1);
    let before = memory_kib(daemon.pid(), "VmRSS");
    let request = format!("GET {} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", path(b"K", "/latest"));
    // Each asks for 45 MiB, and reads none of it.
    let deaf: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", daemon.http)).unwrap();
            socket2::SockRef::from(&stream).set_recv_buffer_size(4096).unwrap();
            stream.write_all(request.repeat(50).as_bytes()).unwrap();
            stream
        })
        .collect();
    for _ in 0..50 {
        let asked = Instant::now();
        assert_eq!(get(daemon.http, "/api/v1/routes").status, 200);
        // Below what a client may owe the acknowledgement of what was sent to it.
        assert!(asked.elapsed() < Duration::from_secs(20), "others wait");
    }
    let grown = memory_kib(daemon.pid(), "VmRSS").saturating_sub(before);
    assert!(grown < 200 << 10, "{grown} KiB for 40 clients that are owed 1.8 GiB");
    drop(deaf);
}

#[test]
fn more_clients_than_there_is_room_for_wait_and_come_to_their_turn() {
    let (_redis, daemon, _) = serving("connections_max = 20\n");
    // `patience`: for how long it waits for its answer.
    let connect = |patience| {
        let mut stream = TcpStream::connect(("127.0.0.1", daemon.http)).unwrap();
        stream.write_all(b"GET /api/v1/routes HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
        stream.set_read_timeout(Some(patience)).unwrap();
        stream
    };
    let (short, long) = (Duration::from_millis(500), Duration::from_secs(20));
    let answered = |stream: &mut TcpStream| stream.read(&mut [0; 4096]).is_ok_and(|n| n > 0);
    let mut all: Vec<TcpStream> = (0..60).map(|_| connect(Duration::from_secs(2))).collect();
    let mut served = 0;
    while let Some(at) = all.iter_mut().position(answered) {
        // It has its answer and leaves; who waits comes next.
        all.remove(at);
        served += 1;
        if all.is_empty() {
            break;
        }
    }
    assert_eq!(served, 60);
    let held: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = connect(long);
            assert!(answered(&mut stream));
            stream
        })
        .collect();
    let mut late = connect(short);
    assert!(!answered(&mut late), "there is no room");
    drop(held);
    late.set_read_timeout(Some(long)).unwrap();
    assert!(answered(&mut late), "there is room again");
}

#[test]
fn a_client_with_too_many_connections_is_hung_up_on_and_has_room_again_when_some_end() {
    let (_redis, daemon, _) = serving("connections_per_client = 5\n");
    // Another client, for all but this.
    let connect = |from: &str| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&format!("{from}:0").parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
        socket.connect(&std::net::SocketAddr::from(([127, 0, 0, 1], daemon.http)).into()).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let _ = stream.write_all(b"GET /api/v1/routes HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        stream
    };
    let answered = |stream: &mut TcpStream| stream.read(&mut [0; 4096]).is_ok_and(|n| n > 0);
    let mut held: Vec<TcpStream> = (0..5).map(|_| connect("127.0.0.2")).collect();
    assert!(held.iter_mut().all(answered));
    assert!(!answered(&mut connect("127.0.0.2")), "there are five of it");
    assert!(answered(&mut connect("127.0.0.3")), "nobody else feels it");
    assert!(daemon.log().contains("client-refused"), "{}", daemon.log());
    held.truncate(4);
    eventually("there is room again", 20, || answered(&mut connect("127.0.0.2")));
}
