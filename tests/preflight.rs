//! A Redis that can't keep what is promised, or lacks what the routes need, is told before the first record.
use crate::support::command::check;
use crate::support::daemon::Setup;
use crate::support::kafka;
use crate::support::redis_server::RedisServer;

#[test]
fn check_connect_tells_what_both_ends_are_and_what_is_missing() {
    let redis = RedisServer::start();
    let topic = kafka::topic("checked", 3);
    let toml = Setup::new(&topic, &redis.url()).toml(9650);
    let (code, said) = check(&toml, &["--connect"], &[]);
    assert_eq!(code, Some(0), "{said}");
    for expected in
        [&format!("topic {topic} with 3 partitions"), "Kafka: 1 broker", "maxmemory-policy noeviction", "(master)", "route volatility: exactly-once"]
    {
        assert!(said.contains(expected), "missing: {expected}\nin:\n{said}");
    }
    redis.command("CONFIG SET maxmemory-policy allkeys-lru");
    let (code, said) = check(&toml.replace(&topic, "no-such-topic"), &["--connect"], &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("no topic no-such-topic exists yet") && said.contains("maxmemory-policy is allkeys-lru"), "{said}");
    redis.command("CONFIG SET maxmemory-policy noeviction");
    redis.command("ACL SETUSER small on >pw ~* &* +@all -xadd -hsetnx");
    let (code, said) = check(&toml, &["--connect"], &[("BRIDGE__REDIS__USER", "small"), ("BRIDGE__REDIS__PASSWORD", "pw")]);
    assert_eq!(code, Some(1));
    assert!(said.contains("ACL SETUSER small +xadd") && said.contains("ACL SETUSER small +hsetnx"), "{said}");
    assert!(!said.contains("+publish") && !said.contains("+hmget"), "{said}");
    redis.command("ACL SETUSER blind on >pw ~volatility:* ~latest:* &* +@all");
    let (code, said) = check(&toml, &["--connect"], &[("BRIDGE__REDIS__USER", "blind"), ("BRIDGE__REDIS__PASSWORD", "pw")]);
    assert_eq!(code, Some(1));
    assert_eq!(said.matches("ACL SETUSER blind ~bridge*").count(), 1, "{said}");
}

#[test]
fn a_commands_flags_on_the_real_server_are_looked_at_too() {
    let redis = RedisServer::start();
    let topic = kafka::topic("checked", 1);
    let routes = "[[route]]\nname = \"r\"\ntopics = [\"TOPIC\"]\n[[route.write]]\ncommand = [\"NOSUCHCOMMAND\", \"k\"]\n";
    let (code, said) = check(&Setup::new(&topic, &redis.url()).routes(routes).toml(9650), &["--connect"], &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("this server does not know NOSUCHCOMMAND"), "{said}");
}
