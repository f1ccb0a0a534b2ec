//! Connections to Redis: a mistake that never passes by itself ends the start and needs a person later; what passes is waited for.
use crate::support::certificates::Certificates;
use crate::support::command::check;
use crate::support::daemon::{Daemon, Setup};
use crate::support::process::Process;
use crate::support::redis_server::{Kind, RedisServer};
use crate::support::sequence::Ticks;
use crate::support::{eventually, free_port, kafka, signal};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// A Redis that speaks TLS as well, with a certificate as given; its port for that.
fn tls_redis(c: &Certificates, clients: &str) -> (RedisServer, u16) {
    let (port, file) = (free_port(), |f: &std::path::Path| f.to_str().unwrap().to_owned());
    let (ca, cert, key) = (file(&c.ca), file(&c.cert), file(&c.key));
    let args = ["--tls-port", &port.to_string(), "--tls-ca-cert-file", &ca, "--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-auth-clients", clients];
    (RedisServer::with(Kind::System, &args), port)
}

/// Whether a start ends, and what it and `check --connect` say.
fn refused(setup: &Setup, expected: &[&str]) {
    let (code, said) = check(&setup.toml(9650), &["--connect"], &[]);
    assert_eq!(code, Some(1), "{said}");
    let mut daemon = setup.start();
    assert_eq!(daemon.exit_code(30), 1, "{}", daemon.log());
    for text in expected {
        assert!(said.contains(text), "check: missing {text:?} in:\n{said}");
        assert!(daemon.log().contains(text), "run: missing {text:?} in:\n{}", daemon.log());
    }
}

#[test]
fn a_mistake_that_never_passes_ends_the_start_with_address_and_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let folders = ["good", "old", "other"].map(|name| folder.path().join(name));
    folders.iter().for_each(|f| std::fs::create_dir(f).unwrap());
    let good = Certificates::make(&folders[0]);
    let old = Certificates::make_for(&folders[1], &["127.0.0.1"], (2020, 2021));
    let other = Certificates::make_for(&folders[2], &["redis.example"], (2020, 2100));
    let topic = kafka::topic("connecting", 1);
    let ca = |c: &Certificates| format!("ca_file = \"{}\"\n", c.ca.display());
    let setup = |url: &str, redis: &str| Setup::new(&topic, url).redis_extra(redis);
    let (redis, tls) = tls_redis(&good, "no");
    let (port, address) = (redis.port, format!("127.0.0.1:{}: ", redis.port));
    refused(&setup(&format!("redis://127.0.0.1:{port}/16"), ""), &[&address, "DB index is out of range", "correct the database number"]);
    refused(&setup(&format!("rediss://127.0.0.1:{port}/0"), &ca(&good)), &[&address, "does not speak TLS", "write redis://"]);
    refused(&setup(&format!("redis://127.0.0.1:{tls}/0"), ""), &["this port speaks TLS", "write rediss://"]);
    refused(&setup(&format!("rediss://127.0.0.1:{tls}/0"), &ca(&other)), &["invalid peer certificate", "set redis.ca_file"]);
    let (_old, tls) = tls_redis(&old, "no");
    refused(&setup(&format!("rediss://127.0.0.1:{tls}/0"), &ca(&old)), &["expired", "set redis.ca_file"]);
    let (_other, tls) = tls_redis(&other, "no");
    refused(&setup(&format!("rediss://127.0.0.1:{tls}/0"), &ca(&other)), &["not valid for", "to a name that stands in it"]);
    let (_strict, tls) = tls_redis(&good, "yes");
    refused(&setup(&format!("rediss://127.0.0.1:{tls}/0"), &ca(&good)), &["TLS: received fatal alert", "redis.cert_file and redis.key_file"]);
    redis.command("ACL SETUSER np on nopass ~* &* +@all -select");
    refused(&setup(&format!("redis://np@127.0.0.1:{port}/1"), ""), &["no permissions to run the 'select' command", "the ACL"]);
    refused(&setup(&format!("redis://nobody@127.0.0.1:{port}/0"), ""), &["WRONGPASS", "check redis.user"]);
    redis.command("CONFIG SET requirepass pw");
    refused(&setup(&format!("redis://127.0.0.1:{port}/0"), ""), &["NOAUTH", "check redis.user"]);
}

#[test]
fn what_answers_in_another_protocol_is_no_redis_and_ends_the_start() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 512]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        }
    });
    let topic = kafka::topic("connecting", 1);
    refused(&Setup::new(&topic, &format!("redis://{address}/0")), &["what answers there is none"]);
    let sentinel = Sentinel::start();
    refused(&Setup::new(&topic, &format!("redis://127.0.0.1:{}/1", sentinel.port)), &["unknown command", "point redis.url at a Redis"]);
}

/// A Sentinel that watches nothing.
struct Sentinel {
    port: u16,
    _process: Process,
    _dir: tempfile::TempDir,
}

impl Sentinel {
    fn start() -> Self {
        let (port, dir) = (free_port(), tempfile::tempdir().unwrap());
        let file = dir.path().join("sentinel.conf");
        std::fs::write(&file, format!("port {port}\nbind 127.0.0.1\nprotected-mode no\n")).unwrap();
        let process = Process::start(std::process::Command::new("redis-server").arg(&file).arg("--sentinel").stdout(std::process::Stdio::null()));
        let sentinel = Self { port, _process: process, _dir: dir };
        eventually("the Sentinel listens", 10, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        sentinel
    }
}

/// The conditions about Redis that hold.
fn about_redis(daemon: &Daemon) -> Vec<kafka_redis_bridge::ops::conditions::Condition> {
    daemon.status().into_iter().flat_map(|s| s.conditions).filter(|c| c.code.starts_with("redis-")).collect()
}

#[test]
fn what_may_pass_by_itself_is_waited_for_and_names_what_is_missing() {
    let topic = kafka::topic("connecting", 1);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("redis.sock");
    let closed = free_port();
    for (url, expected) in [
        ("redis://no-such-host.invalid:6379/0".to_owned(), "the name no-such-host.invalid is not resolved".to_owned()),
        (format!("redis://127.0.0.1:{closed}/0"), format!("127.0.0.1:{closed}: Connection refused")),
        (format!("redis+unix://{}", socket.display()), format!("{}: No such file", socket.display())),
    ] {
        let daemon = Setup::new(&topic, &url).start();
        daemon.wait_holds("redis-unreachable");
        let held = about_redis(&daemon);
        assert!(held.len() == 1 && !held[0].needs_person && held[0].message.contains(&expected), "{url}: {held:?}");
    }
}

#[test]
fn a_user_without_a_password_authenticates_with_an_empty_one_and_is_named() {
    let redis = RedisServer::start();
    redis.command("ACL SETUSER np on nopass ~* &* +@all -acl|whoami");
    redis.command("ACL SETUSER mute on nopass ~* &*");
    let setup = Setup::new(&kafka::topic("connecting", 1), &redis.url());
    let as_user = |user: &str| check(&setup.clone().redis_extra(&format!("user = \"{user}\"\n")).toml(9650), &["--connect"], &[]);
    let (code, said) = as_user("np");
    assert!(code == Some(0) && said.contains("user np\n"), "{said}");
    let (code, said) = as_user("mute");
    assert!(code == Some(1) && said.contains("NOPERM"), "{said}");
    let url = redis.url().replace("redis://", "redis://np@");
    let daemon = Setup::new(&setup.topic, &url).start();
    daemon.wait_ready();
    let clients: String = redis::cmd("CLIENT").arg("LIST").query(&mut redis.connect()).unwrap();
    assert!(clients.lines().any(|l| l.contains("user=np ")), "{clients}");
    assert_eq!(clients.lines().filter(|l| l.contains("user=default ")).count(), 1, "only the one that asks:\n{clients}");
}

#[test]
fn a_password_that_fits_no_more_needs_a_person_and_is_one_condition() {
    let redis = RedisServer::start();
    redis.command("ACL SETUSER bridge on >pw ~* &* +@all");
    let topic = kafka::topic("connecting", 2);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 100, 10);
    let daemon = Setup::new(&topic, &redis.url()).redis_extra("user = \"bridge\"\npassword = \"pw\"\n").start();
    daemon.wait_settled(100);
    redis.command("ACL SETUSER bridge resetpass >other");
    redis.command("CLIENT KILL TYPE normal SKIPME yes");
    ticks.produce(&topic, 100, 10);
    daemon.wait_holds("redis-refused");
    eventually("the lanes have met it, too", 20, || about_redis(&daemon).iter().all(|c| c.code == "redis-refused"));
    let held = about_redis(&daemon);
    assert!(held.len() == 1 && held[0].needs_person && held[0].message.contains(&format!("127.0.0.1:{}: WRONGPASS", redis.port)), "{held:?}");
    redis.command("ACL SETUSER bridge >pw");
    ticks.expect_in(&redis, 30);
    eventually("the condition is over", 20, || about_redis(&daemon).is_empty());
}

#[test]
fn a_redis_that_stops_answering_is_named_within_five_seconds_by_default() {
    let redis = RedisServer::start();
    let topic = kafka::topic("connecting", 2);
    let mut ticks = Ticks::default();
    ticks.produce(&topic, 100, 10);
    let daemon = Setup::new(&topic, &redis.url()).start();
    for busy in [true, false] {
        daemon.wait_settled(i64::try_from(ticks.total).unwrap());
        daemon.wait_ready();
        signal(redis.pid(), "STOP");
        let since = Instant::now();
        if busy {
            ticks.produce(&topic, 1_000, 10);
        }
        daemon.wait_holds("redis-unreachable");
        let took = since.elapsed();
        println!("busy {busy}: named after {took:?}");
        // Five seconds, and what a loaded machine may add; the answer itself is given up after five more.
        assert!(took < Duration::from_secs(7), "busy {busy}: {took:?}");
        let log_lines = || daemon.log().matches("code=\"redis-unreachable\"").count();
        let begun = log_lines();
        eventually("the lanes and the claimer have lost their connections", 30, || since.elapsed() > Duration::from_secs(12));
        let held = about_redis(&daemon);
        assert!(held.len() == 1 && held[0].subject == "redis" && held[0].message.contains(&redis.port.to_string()), "{held:?}");
        assert!(held[0].remedy.contains("redis.url"), "{held:?}");
        assert_eq!(log_lines(), begun, "told once:\n{}", daemon.log());
        signal(redis.pid(), "CONT");
        ticks.expect_in(&redis, 60);
        eventually("the condition is over", 20, || about_redis(&daemon).is_empty());
    }
}
