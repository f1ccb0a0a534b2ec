//! Both ends secured: Redis by TLS, ACL user, unix socket; Kafka by SSL and SASL.
use crate::support::certificates::Certificates;
use crate::support::daemon::Setup;
use crate::support::eventually;
use crate::support::kafka::{self, Produce, Producer};
use crate::support::kafka_server::KafkaServer;
use crate::support::redis_server::{Kind, RedisServer};
use rdkafka::ClientConfig;

/// The least that an ACL user needs for the reference routes.
const ACL: &str = "ACL SETUSER bridge on >s3cret resetkeys resetchannels ~bridge:* ~volatility:* ~latest:* &updates:* -@all \
                   +multi +exec +watch +unwatch +hset +hmget +hgetall +hsetnx +set +get +type +xadd +publish \
                   +info +command|info +acl|whoami +acl|dryrun +ping";

fn length(redis: &RedisServer, key: &str) -> i64 {
    redis::cmd("XLEN").arg(key).query(&mut redis.connect()).unwrap_or(0)
}

#[test]
fn redis_by_tls_with_a_ca_and_the_least_acl_user_whose_password_is_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(folder.path());
    let tls = crate::support::free_port();
    let path = |p: &std::path::Path| p.to_str().unwrap().to_owned();
    let (ca, cert, key) = (path(&certificates.ca), path(&certificates.cert), path(&certificates.key));
    let redis = RedisServer::with(
        Kind::System,
        &["--tls-port", &tls.to_string(), "--tls-ca-cert-file", &ca, "--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-auth-clients", "yes"],
    );
    redis.command(&ACL.split_whitespace().collect::<Vec<_>>().join(" "));
    let password = folder.path().join("password");
    std::fs::write(&password, "s3cret\n").unwrap();
    let topic = kafka::topic("ticks", 2);
    kafka::produce(&topic, (0..100).map(|_| Produce::new("K", r#"{"a":1}"#)));
    kafka::produce(&topic, [Produce::new("K", "poison")]);
    let files = format!("user = \"bridge\"\npassword_file = \"{}\"\nca_file = \"{ca}\"\ncert_file = \"{cert}\"\nkey_file = \"{key}\"\n", path(&password));
    let setup = Setup::new(&topic, &format!("rediss://127.0.0.1:{tls}/0"));
    let mut daemon = setup.clone().redis_extra(&files).start();
    daemon.wait_settled(101);
    assert_eq!((length(&redis, "volatility:K"), length(&redis, "bridge:dead")), (100, 1));
    assert_eq!(daemon.stop(), 0);
    assert!(!daemon.log().contains("s3cret"));
    // Without the CA the server is not trusted: said, and waited for, with nothing sent.
    let daemon = setup.redis_extra(&files.replace(&format!("ca_file = \"{ca}\"\n"), "")).start();
    daemon.wait_holds("redis-unreachable");
    assert!(daemon.message("redis-unreachable").to_lowercase().contains("certificate"), "{}", daemon.message("redis-unreachable"));
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
    let setup = Setup::new("secured", &redis.url()).brokers(&brokers).extra("[dead_letter]\ntopic = \"dead\"\n");
    let setup = properties.iter().fold(setup, |s, (n, v)| s.property(n, v));
    let mut daemon = setup.start();
    daemon.wait_settled(101);
    assert_eq!(length(&redis, "volatility:K"), 100);
    eventually("the letter is acknowledged", 20, || daemon.status().unwrap().routes[0].dead == 1);
    assert_eq!(daemon.stop(), 0);
    let daemon = setup.property("sasl.password", "wrong").start();
    daemon.wait_holds("kafka-refused");
    assert!(!daemon.status().unwrap().ready);
}
