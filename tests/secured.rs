//! Both ends secured: Redis by TLS, ACL user, unix socket; Kafka by SSL and SASL.
use crate::support::certificates::Certificates;
use crate::support::daemon::{Setup, binary};
use crate::support::http::{Events, ask, get};
use crate::support::kafka::{self, Produce, Producer};
use crate::support::kafka_server::KafkaServer;
use crate::support::process::Process;
use crate::support::redis_server::{Kind, RedisServer};
use crate::support::{eventually, signal};
use rdkafka::ClientConfig;

/// The least that an ACL user needs for the reference routes.
const ACL: &str = "ACL SETUSER bridge on >s3cret resetkeys resetchannels ~bridge:* ~volatility:* ~latest:* &updates:* -@all \
                   +multi +exec +watch +unwatch +hset +hmget +hgetall +hsetnx +set +get +type +xadd +publish \
                   +info +command|info +acl|whoami +acl|dryrun +ping";

fn length(redis: &RedisServer, key: &str) -> i64 {
    redis::cmd("XLEN").arg(key).query(&mut redis.connect()).unwrap_or(0)
}

/// A Redis that asks for a certificate, and its port for that.
fn tls_redis(Certificates { ca, cert, key }: &Certificates) -> (RedisServer, u16) {
    let tls = crate::support::free_port();
    let [ca, cert, key] = [ca, cert, key].map(|file| file.to_str().unwrap());
    let arguments = ["--tls-port", &tls.to_string(), "--tls-ca-cert-file", ca, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "yes"];
    (RedisServer::with(Kind::System, &arguments), tls)
}

/// The settings of `[redis]` by which a bridge trusts it, and shows its own certificate.
fn tls_files(Certificates { ca, cert, key }: &Certificates) -> String {
    format!("ca_file = \"{}\"\ncert_file = \"{}\"\nkey_file = \"{}\"\n", ca.display(), cert.display(), key.display())
}

#[test]
fn redis_by_tls_with_a_ca_and_the_least_acl_user_whose_password_is_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(folder.path());
    let (redis, tls) = tls_redis(&certificates);
    redis.command(&ACL.split_whitespace().collect::<Vec<_>>().join(" "));
    let password = folder.path().join("password");
    std::fs::write(&password, "s3cret\n").unwrap();
    let topic = kafka::topic("ticks", 2);
    kafka::produce(&topic, (0..100).map(|_| Produce::new("K", r#"{"a":1}"#)));
    kafka::produce(&topic, [Produce::new("K", "poison")]);
    let files = format!("user = \"bridge\"\npassword_file = \"{}\"\n{}", password.display(), tls_files(&certificates));
    let setup = Setup::new(&topic, &format!("rediss://127.0.0.1:{tls}/0"));
    let mut daemon = setup.redis_extra(&files).start();
    daemon.wait_settled(101);
    assert_eq!((length(&redis, "volatility:K"), length(&redis, "bridge:dead")), (100, 1));
    assert_eq!(daemon.stop(), 0);
    assert!(!daemon.log().contains("s3cret"));
}

#[test]
fn a_password_that_was_changed_is_told_and_is_over_when_it_fits_again() {
    let redis = RedisServer::start();
    redis.command("ACL SETUSER someone on >s3cret ~* &* +@all");
    let topic = kafka::topic("ticks", 1);
    let setup = Setup::new(&topic, &format!("redis://someone:s3cret@127.0.0.1:{}/0", redis.port));
    let daemon = setup.start();
    daemon.wait_ready();
    redis.command("ACL SETUSER someone resetpass >another");
    redis.command("CLIENT KILL TYPE normal SKIPME yes");
    daemon.wait_holds("redis-refused");
    kafka::produce(&topic, [Produce::new("K", r#"{"a":1}"#)]);
    redis.command("ACL SETUSER someone resetpass >s3cret");
    daemon.wait_settled(1);
    eventually("the condition is over", 30, || !daemon.holds("redis-refused"));
}

#[test]
fn the_api_over_tls_with_the_least_acl_user_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(folder.path());
    let (redis, tls) = tls_redis(&certificates);
    // As docs/api.md has them.
    redis.command(&format!("{} +zadd", ACL.split_whitespace().collect::<Vec<_>>().join(" ")));
    redis.command(
        "ACL SETUSER server on >s3rver resetkeys resetchannels ~bridge:* ~volatility:* ~latest:* &updates:* -@all \
         +get +xrange +xrevrange +exists +zrangebylex +eval +zrem +time +psubscribe +set +del +hello",
    );
    let topic = kafka::topic("ticks", 1);
    kafka::produce(&topic, ["A", "B"].map(|key| Produce::new(key, r#"{"a":1}"#)));
    let port = crate::support::free_port();
    let extra = format!("[serve]\nindex = true\nlisten = \"127.0.0.1:{port}\"\npublish = \"loopback\"\n");
    let files = |user: &str, password: &str| format!("user = \"{user}\"\npassword = \"{password}\"\n{}", tls_files(&certificates));
    let setup = Setup::new(&topic, &format!("rediss://127.0.0.1:{tls}/0")).extra(&extra).redis_extra(&files("bridge", "s3cret"));
    let daemon = setup.start();
    daemon.wait_settled(2);
    let file = folder.path().join("server.toml");
    std::fs::write(&file, setup.redis_extra(&files("server", "s3rver")).toml(0)).unwrap();
    let mut server = Process::start(std::process::Command::new(binary()).arg("--config").arg(&file).arg("serve").stderr(std::process::Stdio::null()));
    eventually("the API listens", 20, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    assert_eq!(get(port, "/api/v1/streaming/A/latest").text(), r#"{"a":1}"#);
    let mut live = Events::open(port, "/api/v1/streaming/live", None);
    assert_eq!(live.next().unwrap().name, "open");
    let posted = ask(port, "POST", "/api/v1/streaming/A", &[("Idempotency-Key", "k")], r#"{"a":2}"#);
    assert_eq!(posted.status, 201, "{}", posted.text());
    assert!(live.update().unwrap().data.contains(r#""a":2"#));
    assert_eq!(get(port, "/api/v1/streaming/A/history?order=asc").json().as_array().unwrap().len(), 2);
    redis.command("DEL volatility:B");
    redis.command("DEL latest:B");
    assert_eq!(get(port, "/api/v1/streaming/pairs").json(), serde_json::json!({"pairs": ["A"]}));
    let left: Vec<String> =
        redis::cmd("ZRANGE").arg(format!("bridge:keys:{}:volatility", daemon_group(&file))).arg(0).arg(-1).query(&mut redis.connect()).unwrap();
    assert_eq!(left, ["A"], "what has no data is taken out");
    signal(server.id(), "TERM");
    assert!(server.ended().success());
}

/// The group of a configuration.
fn daemon_group(file: &std::path::Path) -> String {
    let text: toml::Table = std::fs::read_to_string(file).unwrap().parse().unwrap();
    text["kafka"]["group"].as_str().unwrap().to_owned()
}

#[test]
fn redis_by_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("redis.sock");
    let redis = RedisServer::with(Kind::System, &["--unixsocket", socket.to_str().unwrap(), "--unixsocketperm", "700"]);
    let topic = kafka::topic("ticks", 1);
    kafka::produce(&topic, (0..10).map(|_| Produce::new("K", r#"{"a":1}"#)));
    let daemon = Setup::new(&topic, &format!("redis+unix://{}?db=3", socket.display())).start();
    daemon.wait_settled(10);
    let mut c = redis.connect();
    redis::cmd("SELECT").arg(3).query::<()>(&mut c).unwrap();
    assert_eq!(redis::cmd("XLEN").arg("volatility:K").query::<i64>(&mut c).unwrap(), 10);
}

#[test]
fn kafka_by_ssl_and_sasl_through_its_properties() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(folder.path());
    let server = KafkaServer::secured(&certificates, "bridge", "s3cret");
    let brokers = format!("127.0.0.1:{}", server.port);
    let properties = certificates.sasl_ssl("bridge", "s3cret");
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &brokers);
    properties.iter().for_each(|(n, v)| _ = client.set(*n, *v));
    kafka::create_on(&client, "secured", 2, &[]);
    kafka::create_on(&client, "dead", 1, &[]);
    let producer = Producer::on(client);
    (0..100).for_each(|_| producer.send("secured", Produce::new("K", r#"{"a":1}"#)));
    producer.send("secured", Produce::new("K", "poison"));
    producer.flush();
    let redis = RedisServer::start();
    let extra = "[dead_letter]\ntopic = \"dead\"\n[serve]\nenabled = true\npublish = \"loopback\"\n";
    let setup = Setup::new("secured", &redis.url()).brokers(&brokers).extra(extra);
    let setup = properties.iter().fold(setup, |s, (n, v)| s.property(n, v));
    let mut daemon = setup.start();
    daemon.wait_settled(101);
    assert_eq!(length(&redis, "volatility:K"), 100);
    eventually("the letter is acknowledged", 20, || daemon.status().unwrap().routes[0].dead == 1);
    assert_eq!(ask(daemon.http, "POST", "/api/v1/streaming/K", &[], r#"{"a":2}"#).status, 201);
    daemon.wait_settled(102);
    assert_eq!(daemon.stop(), 0);
    let daemon = setup.property("sasl.password", "wrong").start();
    daemon.wait_holds("kafka-refused");
    assert!(!daemon.status().unwrap().ready);
}
